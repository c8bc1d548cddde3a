//! No stack and no update deletes data: tables, queues and buckets are retained, and CloudFormation cannot
//! replace them, because their names do not change.
//! <https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-properties-name.html>

use std::collections::BTreeSet;

use cloud_core::resource::Resource;
use serde_json::Value;

use super::deployment::{QUEUE, TABLE, is_true};
use super::{Deployment, Fault, Faults, Mutation, Rule, unless};
use crate::templates::{CONTRACTS, WEB};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "table-recovery",
        holds: "DynamoDB: point-in-time recovery in prod",
        check: recovery,
        notices: &[
            Mutation::drop(WEB, "ListingsTable", "PointInTimeRecoverySpecification").on_prod(),
            Mutation::swap(
                CONTRACTS,
                "CommandsTable",
                "PointInTimeRecoveryEnabled: !If [IsProd, true, false]",
                "PointInTimeRecoveryEnabled: false",
            )
            .on_prod(),
        ],
    },
    Rule {
        name: "table-protection",
        holds: "DynamoDB: deletion protection in prod",
        check: protection,
        notices: &[
            Mutation::drop(WEB, "WebCommandsTable", "DeletionProtectionEnabled").on_prod(),
            Mutation::swap(
                CONTRACTS,
                "ContractsTable",
                "DeletionProtectionEnabled: !If [IsProd, true, false]",
                "DeletionProtectionEnabled: false",
            )
            .on_prod(),
        ],
    },
    Rule {
        name: "kept",
        holds: "tables, queues and buckets are retained when the stack is deleted or updated",
        check: retained,
        notices: &[
            Mutation::drop(WEB, "ListingsTable", "DeletionPolicy"),
            Mutation::swap(
                CONTRACTS,
                "IngestQueue",
                "UpdateReplacePolicy: Retain",
                "UpdateReplacePolicy: Delete",
            ),
            Mutation::drop("template.yaml", "ImagesBucket", "DeletionPolicy"),
        ],
    },
    Rule {
        name: "stable-name",
        holds: "tables, queues and buckets have a name that is built from the stage alone, so that no update replaces them",
        check: stable_name,
        notices: &[
            Mutation::drop(WEB, "ListingsTable", "TableName"),
            Mutation::swap(
                CONTRACTS,
                "IngestQueue",
                "uni-prop-${Stage}-contracts",
                "uni-prop-${Stage}-${Architecture}",
            ),
        ],
    },
    Rule {
        name: "stable-keys",
        holds: "no parameter changes the keys of a table",
        check: stable_keys,
        notices: &[Mutation::swap(
            CONTRACTS,
            "ContractsTable",
            "AttributeName: property_id, KeyType: HASH",
            "AttributeName: !If [IsProd, property_id, property_id], KeyType: HASH",
        )],
    },
];

/// The types that hold data, and the property with their name.
const HOLDS_DATA: [(&str, &str); 3] =
    [(TABLE, "TableName"), (QUEUE, "QueueName"), ("AWS::S3::Bucket", "BucketName")];

fn recovery(deployment: &Deployment<'_>) -> Faults {
    deployment.each(TABLE, |table| {
        let recovery = &table.properties["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"];
        unless(!deployment.is_prod() || is_true(recovery), "cannot be restored to a point in time")
    })
}

fn protection(deployment: &Deployment<'_>) -> Faults {
    deployment.each(TABLE, |table| {
        let protected = is_true(&table.properties["DeletionProtectionEnabled"]);
        unless(!deployment.is_prod() || protected, "is not protected from being deleted")
    })
}

fn each_holder(deployment: &Deployment<'_>, complaint: impl Fn(&Resource, &str) -> Option<String>) -> Faults {
    let of_kind =
        |(kind, name): (&str, &'static str)| deployment.each(kind, |holder| complaint(holder, name));
    HOLDS_DATA.into_iter().flat_map(of_kind).collect()
}

fn retained(deployment: &Deployment<'_>) -> Faults {
    each_holder(deployment, |holder, _| {
        let written = deployment.written(holder);
        // A resource of a failed first deployment is empty, and its name must be free for the next one.
        let kept =
            written["DeletionPolicy"] == "RetainExceptOnCreate" && written["UpdateReplacePolicy"] == "Retain";
        unless(kept, "lacks DeletionPolicy RetainExceptOnCreate or UpdateReplacePolicy Retain")
    })
}

fn stable_name(deployment: &Deployment<'_>) -> Faults {
    each_holder(deployment, |holder, name| {
        let given = &deployment.written(holder)["Properties"][name];
        let Some(text) = given["Fn::Sub"].as_str() else { return Some("has no name of its own".to_owned()) };
        let used: BTreeSet<&str> =
            text.split("${").skip(1).filter_map(|rest| Some(rest.split_once('}')?.0)).collect();
        // Account and region never change for a stack.
        let stable = used.iter().all(|used| ["Stage", "AWS::AccountId", "AWS::Region"].contains(used));
        unless(used.contains("Stage") && stable, "has a name that is not built from the stage alone")
    })
}

fn stable_keys(deployment: &Deployment<'_>) -> Faults {
    let mut faults = Faults::new();
    for table in deployment.all(TABLE) {
        let given = &deployment.written(table)["Properties"];
        if ["KeySchema", "AttributeDefinitions"]
            .iter()
            .any(|part| given[part].is_null() || is_computed(&given[part]))
        {
            faults.push(Fault::of(table, "has keys that a parameter may change"));
        }
    }
    faults
}

/// Whether there is a function anywhere in a value.
fn is_computed(value: &Value) -> bool {
    match value {
        Value::Object(map) => {
            map.iter().any(|(key, value)| key == "Ref" || key.starts_with("Fn::") || is_computed(value))
        }
        Value::Array(items) => items.iter().any(is_computed),
        _ => false,
    }
}
