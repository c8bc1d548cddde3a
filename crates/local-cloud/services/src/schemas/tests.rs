use std::sync::Arc;

use cloud_core::Cloud;
use cloud_core::resource::{Refusal, Resource};
use serde_json::{Value, json};

const SCHEMA: &str =
    r#"{"openapi":"3.0.0","info":{"title":"t","version":"1"},"paths":{},"components":{"schemas":{}}}"#;

fn resource(kind: &str, properties: Value) -> Resource {
    Resource {
        stack: "s".into(),
        logical_id: "It".into(),
        kind: format!("AWS::EventSchemas::{kind}"),
        physical_id: "arn:aws:schemas:us-east-1:123456789012:it/it".into(),
        arn: String::new(),
        properties,
        metadata: Value::Null,
        file: "template.yaml".into(),
    }
}

async fn registry(cloud: &Arc<Cloud>) {
    let tags = json!([{ "Key": "Owner", "Value": "me" }]);
    let props = json!({ "RegistryName": "unicorn", "Description": "ours", "Tags": tags });
    cloud.deploy(&resource("Registry", props)).await.unwrap();
}

async fn schema(cloud: &Arc<Cloud>, name: &str, content: &str) -> Result<(), Refusal> {
    let props =
        json!({ "RegistryName": "unicorn", "SchemaName": name, "Type": "OpenApi3", "Content": content });
    cloud.deploy(&resource("Schema", props)).await
}

#[tokio::test]
async fn registries_and_schemas_are_listed_and_described() {
    let cloud = crate::testing::cloud();
    registry(&cloud).await;
    for name in ["unicorn@B", "unicorn@A", "other@C"] {
        schema(&cloud, name, SCHEMA).await.unwrap();
    }
    let registries = cloud.call("schemas", "ListRegistries", json!({ "Scope": "LOCAL" })).await.unwrap();
    assert_eq!(registries["Registries"][0]["RegistryName"], "unicorn");
    let described =
        cloud.call("schemas", "DescribeRegistry", json!({ "RegistryName": "unicorn" })).await.unwrap();
    assert_eq!(described["tags"], json!({ "Owner": "me" }));
    assert_eq!(described["Description"], "ours");
    let list = json!({ "RegistryName": "unicorn", "SchemaNamePrefix": "unicorn@", "Limit": 1 });
    let first = cloud.call("schemas", "ListSchemas", list.clone()).await.unwrap();
    assert_eq!(first["Schemas"][0]["SchemaName"], "unicorn@A");
    let mut second = list;
    second["NextToken"] = first["NextToken"].clone();
    let second = cloud.call("schemas", "ListSchemas", second).await.unwrap();
    assert_eq!(second["Schemas"][0]["SchemaName"], "unicorn@B");
    assert!(second.get("NextToken").is_none());
    let one = json!({ "RegistryName": "unicorn", "SchemaName": "unicorn@A" });
    let one = cloud.call("schemas", "DescribeSchema", one).await.unwrap();
    assert_eq!((&one["Content"], &one["SchemaVersion"]), (&json!(SCHEMA), &json!("1")));
    assert_eq!(one["SchemaArn"], "arn:aws:schemas:us-east-1:123456789012:schema/unicorn/unicorn@A");
}

#[tokio::test]
async fn a_changed_content_is_a_new_version_and_the_old_one_stays() {
    let cloud = crate::testing::cloud();
    registry(&cloud).await;
    schema(&cloud, "s", SCHEMA).await.unwrap();
    schema(&cloud, "s", SCHEMA).await.unwrap();
    let changed = SCHEMA.replace("\"t\"", "\"u\"");
    schema(&cloud, "s", &changed).await.unwrap();
    let input = json!({ "RegistryName": "unicorn", "SchemaName": "s" });
    let newest = cloud.call("schemas", "DescribeSchema", input.clone()).await.unwrap();
    assert_eq!((&newest["SchemaVersion"], &newest["Content"]), (&json!("2"), &json!(changed)));
    let listed = cloud.call("schemas", "ListSchemas", json!({ "RegistryName": "unicorn" })).await.unwrap();
    assert_eq!(listed["Schemas"][0]["VersionCount"], 2);
    assert_eq!(newest["LastModified"], newest["VersionCreatedDate"]);
    let mut old = input;
    old["SchemaVersion"] = "1".into();
    assert_eq!(cloud.call("schemas", "DescribeSchema", old).await.unwrap()["Content"], SCHEMA);
}

#[tokio::test]
async fn content_that_is_not_openapi_3_is_refused() {
    let cloud = crate::testing::cloud();
    let without_registry = schema(&cloud, "s", SCHEMA).await.unwrap_err().to_string();
    assert!(without_registry.contains("RegistryName"), "{without_registry}");
    registry(&cloud).await;
    for bad in ["{", "{}", r#"{"openapi":"2.0"}"#, r#"{"openapi":"3.0.0","info":{}}"#] {
        let refusal = schema(&cloud, "s", bad).await.unwrap_err().to_string();
        assert!(refusal.contains("It.Properties.Content"), "{refusal}");
    }
    let kind = json!({ "RegistryName": "unicorn", "SchemaName": "s", "Type": "Avro", "Content": SCHEMA });
    let refusal = cloud.deploy(&resource("Schema", kind)).await.unwrap_err().to_string();
    assert!(refusal.contains("Avro"), "{refusal}");
}

#[tokio::test]
async fn what_is_not_there_is_not_found_and_search_is_not_emulated() {
    let cloud = crate::testing::cloud();
    registry(&cloud).await;
    let missing = json!({ "RegistryName": "unicorn", "SchemaName": "none" });
    let error = cloud.call("schemas", "DescribeSchema", missing).await.unwrap_err();
    assert_eq!((error.code.as_str(), error.status), ("NotFoundException", 404));
    let error = cloud.call("schemas", "ListSchemas", json!({ "RegistryName": "none" })).await.unwrap_err();
    assert_eq!(error.code, "NotFoundException");
    let error = cloud.call("schemas", "SearchSchemas", json!({})).await.unwrap_err();
    assert_eq!(error.code, "NotImplemented");
}

#[tokio::test]
async fn names_of_registries_follow_their_rules() {
    let cloud = crate::testing::cloud();
    let longest = "a".repeat(64);
    for (name, valid) in [
        (longest.as_str(), true),
        ("unicorn_1.x-y", true),
        (&*"a".repeat(65), false),
        ("aws.events", false),
        ("a b", false),
    ] {
        let deployed = cloud.deploy(&resource("Registry", json!({ "RegistryName": name }))).await;
        assert_eq!(deployed.is_ok(), valid, "{name}");
    }
}
