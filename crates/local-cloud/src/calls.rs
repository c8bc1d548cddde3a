//! Who called which action on what, as IAM would have judged it: the principal, the action
//! and the ARN of the resource, with how often, and what tables were charged for. Functions are
//! known by the access key that they sign with; state machines, pipes, queues' pollers, rules
//! and APIs say who they are. Calls of anybody else are not recorded. Nothing is
//! authorised here, and nothing is kept when the process ends.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::cloud::Cloud;

tokio::task_local! {
    /// Whose call is being answered; whatever a service does for it, it does in their name, as
    /// Rekognition reads an image with its caller's permission.
    static CALLER: Arc<str>;
}

/// One kind of call.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    /// The ARN of the function, state machine, pipe, rule or API that called.
    pub principal: String,
    /// The action as a policy names it: `dynamodb:PutItem`.
    pub action: String,
    /// The ARN that a policy has to name; `*` for an action that knows no resources.
    pub resource: String,
}

/// What a table charges for.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Units {
    /// Read units; half of one for an eventually consistent read of up to 4 KB.
    pub read: f64,
    /// Write units; two for a write of up to 1 KB in a transaction.
    pub write: f64,
}

/// The calls since the start.
#[derive(Debug, Default)]
pub struct Calls {
    keys: Mutex<HashMap<String, Arc<str>>>,
    made: Mutex<BTreeMap<Call, u64>>,
    receives: AtomicU64,
    units: Mutex<BTreeMap<(String, String), Units>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Calls {
    /// The access key of a principal, the same at every start: `ASIA`, as temporary credentials
    /// begin, and 16 characters of base 32.
    /// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html#identifiers-unique-ids>
    pub fn key_of(&self, principal: &str) -> String {
        const BASE_32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
        let number = Uuid::new_v5(&Uuid::NAMESPACE_URL, principal.as_bytes()).as_u128();
        let letters = (0..16).map(|at| char::from(BASE_32[(number >> (5 * at)) as usize % 32]));
        let key: String = "ASIA".chars().chain(letters).collect();
        lock(&self.keys).entry(key.clone()).or_insert_with(|| principal.into());
        key
    }

    /// Who signs with this key.
    pub fn holder(&self, key: &str) -> Option<Arc<str>> {
        lock(&self.keys).get(key).cloned()
    }

    /// All calls, and how often each was made.
    pub fn made(&self) -> BTreeMap<Call, u64> {
        lock(&self.made).clone()
    }

    /// How many of the calls of mappings to receive messages were answered with some.
    pub fn receives(&self) -> u64 {
        self.receives.load(Ordering::Relaxed)
    }

    /// Records that a mapping received messages.
    pub(crate) fn received(&self) {
        self.receives.fetch_add(1, Ordering::Relaxed);
    }

    /// What each principal consumed of each table, by the ARNs of both. A write whose condition
    /// fails is charged on AWS, too, but DynamoDB does not say how much: it is not in here.
    pub fn units(&self) -> BTreeMap<(String, String), Units> {
        lock(&self.units).clone()
    }

    /// Records a call of `principal`.
    pub(crate) fn add(&self, principal: &str, action: &str, resource: &str) {
        let call = Call { principal: principal.into(), action: action.into(), resource: resource.into() };
        *lock(&self.made).entry(call).or_default() += 1;
    }
}

/// Runs `work` in the name of a principal.
pub(crate) async fn by<T>(principal: impl Into<Arc<str>>, work: impl Future<Output = T>) -> T {
    CALLER.scope(principal.into(), work).await
}

/// In whose name this runs.
pub(crate) fn caller() -> Option<Arc<str>> {
    CALLER.try_with(Arc::clone).ok()
}

/// Records a request to a service, if somebody is known to make it.
pub(crate) fn record(cloud: &Cloud, service: &str, action: &str, input: &Value) {
    let Some(caller) = caller() else { return };
    for (action, resource) in needed(cloud, service, action, input) {
        cloud.calls.add(&caller, &action, &resource);
    }
}

/// The permissions that a request needs.
/// <https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html>
fn needed(cloud: &Cloud, service: &str, action: &str, input: &Value) -> Vec<(String, String)> {
    let text = |name: &str| input[name].as_str();
    let table = |name: &str| arn(cloud, "dynamodb", "table/", name);
    let own = |resource: String| vec![(format!("{service}:{action}"), resource)];
    match (service, action) {
        // "Permissions for Put, Update, Delete, and Get actions are governed by the permissions used
        // for the underlying PutItem, UpdateItem, DeleteItem, and GetItem operations. For the
        // ConditionCheck action, you can use the dynamodb:ConditionCheckItem permission".
        // https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis-iam.html
        ("dynamodb", "TransactWriteItems" | "TransactGetItems") => {
            let parts = input["TransactItems"].as_array().into_iter().flatten().filter_map(Value::as_object);
            parts
                .flatten()
                .map(|(kind, part)| {
                    (format!("dynamodb:{kind}Item"), table(part["TableName"].as_str().unwrap_or("*")))
                })
                .collect()
        }
        ("dynamodb", "BatchGetItem" | "BatchWriteItem") => {
            let tables = input["RequestItems"].as_object().into_iter().flatten();
            tables.map(|(name, _)| (format!("dynamodb:{action}"), table(name))).collect()
        }
        ("dynamodb", _) => match (text("TableName"), text("IndexName"), text("StreamArn")) {
            (Some(name), Some(index), _) => own(format!("{}/index/{index}", table(name))),
            (Some(name), None, _) => own(table(name)),
            (None, _, Some(stream)) => own(stream.into()),
            _ => own("*".into()),
        },
        // A batch needs the permission of the single form.
        // https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-api-permissions-reference.html
        ("sqs", _) => {
            let name = text("QueueUrl").and_then(|url| url.rsplit('/').next()).or(text("QueueName"));
            let queue = name.map_or("*".into(), |name| cloud.arn("sqs", name));
            vec![(format!("sqs:{}", action.trim_end_matches("Batch")), queue)]
        }
        ("events", "PutEvents") => {
            let entries = input["Entries"].as_array().into_iter().flatten();
            let bus = |entry: &Value| {
                arn(cloud, "events", "event-bus/", entry["EventBusName"].as_str().unwrap_or("default"))
            };
            entries.map(|entry| ("events:PutEvents".to_owned(), bus(entry))).collect()
        }
        // The reference names no resource here, but AWS denies "states:SendTaskFailure on resource:
        // arn:aws:states:...:stateMachine:...", and allows it on that ARN.
        // https://github.com/NOAA-OWP/hydrovis/issues/837, https://github.com/aws/aws-cdk/pull/8486
        ("states", "SendTaskSuccess" | "SendTaskFailure" | "SendTaskHeartbeat") => {
            let machine = text("taskToken").and_then(|token| crate::stepfunctions::machine_of(cloud, token));
            own(machine.unwrap_or_else(|| "*".into()))
        }
        ("states", _) => own(text("stateMachineArn").or(text("executionArn")).unwrap_or("*").into()),
        ("lambda", "Invoke") => {
            let function = arn(cloud, "lambda", "function:", text("FunctionName").unwrap_or("*"));
            vec![("lambda:InvokeFunction".into(), function)]
        }
        // HeadObject needs the permission of GetObject, and ListObjectsV2 that of ListBucket.
        // https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html#API_HeadObject_RequestSyntax
        ("s3", "HeadObject") => needed(cloud, service, "GetObject", input),
        ("s3", "ListObjects" | "ListObjectsV2" | "HeadBucket") => needed(cloud, service, "ListBucket", input),
        ("s3", _) => match (text("Bucket"), text("Key")) {
            (Some(bucket), Some(key)) => own(format!("arn:aws:s3:::{bucket}/{key}")),
            (Some(bucket), None) => own(format!("arn:aws:s3:::{bucket}")),
            _ => own("*".into()),
        },
        _ => own("*".into()),
    }
}

/// The ARN of what is named by itself, or by its ARN already.
fn arn(cloud: &Cloud, service: &str, before: &str, name: &str) -> String {
    if name.starts_with("arn:") { name.into() } else { cloud.arn(service, &format!("{before}{name}")) }
}

/// A request to DynamoDB of somebody who is known: asks for the consumed capacity as well.
pub(crate) struct Charged {
    caller: Arc<str>,
    reads: bool,
    /// The caller has not asked for it, and does not get to see it.
    hidden: bool,
}

const MODE: &str = "ReturnConsumedCapacity";

/// Actions on items, which are charged for; whether each one reads.
const CHARGED: [(&str, bool); 10] = [
    ("BatchGetItem", true),
    ("BatchWriteItem", false),
    ("DeleteItem", false),
    ("GetItem", true),
    ("PutItem", false),
    ("Query", true),
    ("Scan", true),
    ("TransactGetItems", true),
    ("TransactWriteItems", false),
    ("UpdateItem", false),
];

/// Records a request to DynamoDB. Where it is one that is charged for, `body` is made to ask for
/// what it costs, for [`Charged::settle`]. A body that says nothing is left to be refused.
pub(crate) fn charge(cloud: &Cloud, action: &str, body: &mut Bytes) -> Option<Charged> {
    let caller = caller()?;
    let input: Value = serde_json::from_slice(body).ok()?;
    input.as_object().filter(|members| !members.is_empty())?;
    record(cloud, "dynamodb", action, &input);
    let (_, reads) = *CHARGED.iter().find(|(name, _)| *name == action)?;
    let hidden = input.get(MODE).is_none();
    if hidden {
        // Everything else stays as it was sent.
        let members = body.iter().position(|byte| *byte == b'{')? + 1;
        let asks = format!(r#""{MODE}":"TOTAL","#);
        *body = [&body[..members], asks.as_bytes(), &body[members..]].concat().into();
    }
    Some(Charged { caller, reads, hidden })
}

impl Charged {
    /// Adds up what a successful answer says that it cost.
    pub(crate) fn settle(self, cloud: &Cloud, answer: &mut Bytes) {
        let Ok(mut read) = serde_json::from_slice::<Map<String, Value>>(answer) else { return };
        let Some(consumed) = read.remove("ConsumedCapacity") else { return };
        // One table, or a list of them.
        for table in consumed.as_array().map_or(std::slice::from_ref(&consumed), Vec::as_slice) {
            let name = arn(cloud, "dynamodb", "table/", table["TableName"].as_str().unwrap_or("*"));
            let units = table["CapacityUnits"].as_f64().unwrap_or_default();
            let mut all = lock(&cloud.calls.units);
            let sum = all.entry((self.caller.to_string(), name)).or_default();
            *(if self.reads { &mut sum.read } else { &mut sum.write }) += units;
        }
        if self.hidden {
            *answer = Value::Object(read).to_string().into();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cloud() -> Arc<Cloud> {
        Cloud::for_tests().unwrap()
    }

    fn of(service: &str, action: &str, input: Value) -> Vec<(String, String)> {
        needed(&cloud(), service, action, &input)
    }

    fn one(action: &str, resource: &str) -> Vec<(String, String)> {
        vec![(action.into(), resource.into())]
    }

    #[test]
    fn an_access_key_has_the_form_of_aws_and_is_known_by_its_holder() {
        let calls = Calls::default();
        let key = calls.key_of("arn:aws:lambda:us-east-1:123456789012:function:search");
        let (prefix, rest) = key.split_at(4);
        assert_eq!((prefix, rest.len()), ("ASIA", 16));
        assert!(rest.chars().all(|c| c.is_ascii_uppercase() || ('2'..='7').contains(&c)), "{key}");
        assert_eq!(key, Calls::default().key_of("arn:aws:lambda:us-east-1:123456789012:function:search"));
        assert_ne!(key, calls.key_of("arn:aws:lambda:us-east-1:123456789012:function:other"));
        assert_eq!(
            calls.holder(&key).as_deref(),
            Some("arn:aws:lambda:us-east-1:123456789012:function:search")
        );
        assert_eq!(calls.holder("local"), None);
    }

    #[test]
    fn the_parts_of_a_transaction_need_the_permissions_of_the_single_actions() {
        let parts = json!({"TransactItems": [
            {"Put": {"TableName": "a"}}, {"Update": {"TableName": "b"}},
            {"Delete": {"TableName": "arn:aws:dynamodb:us-east-1:123456789012:table/c"}},
            {"ConditionCheck": {"TableName": "d"}},
        ]});
        let table = |name: &str| format!("arn:aws:dynamodb:us-east-1:123456789012:table/{name}");
        let expected = ["PutItem", "UpdateItem", "DeleteItem", "ConditionCheckItem"]
            .iter()
            .zip(["a", "b", "c", "d"])
            .map(|(action, name)| (format!("dynamodb:{action}"), table(name)));
        assert_eq!(of("dynamodb", "TransactWriteItems", parts), expected.collect::<Vec<_>>());
        let gets = json!({"TransactItems": [{"Get": {"TableName": "a"}}]});
        assert_eq!(of("dynamodb", "TransactGetItems", gets), one("dynamodb:GetItem", &table("a")));
        let batch = json!({"RequestItems": {"a": []}});
        assert_eq!(of("dynamodb", "BatchWriteItem", batch), one("dynamodb:BatchWriteItem", &table("a")));
        let query = json!({"TableName": "a", "IndexName": "i"});
        assert_eq!(of("dynamodb", "Query", query), one("dynamodb:Query", &(table("a") + "/index/i")));
    }

    #[test]
    fn a_request_needs_the_permission_that_a_policy_can_name() {
        let queue = json!({"QueueUrl": "http://127.0.0.1:4566/123456789012/q"});
        let q = "arn:aws:sqs:us-east-1:123456789012:q";
        assert_eq!(of("sqs", "ChangeMessageVisibilityBatch", queue), one("sqs:ChangeMessageVisibility", q));
        let entries = json!({"Entries": [{"EventBusName": "b"}]});
        let bus = "arn:aws:events:us-east-1:123456789012:event-bus/b";
        assert_eq!(of("events", "PutEvents", entries), one("events:PutEvents", bus));
        let function = json!({"FunctionName": "f"});
        let f = "arn:aws:lambda:us-east-1:123456789012:function:f";
        assert_eq!(of("lambda", "Invoke", function), one("lambda:InvokeFunction", f));
        let object = json!({"Bucket": "images", "Key": "a/b.png"});
        assert_eq!(of("s3", "HeadObject", object), one("s3:GetObject", "arn:aws:s3:::images/a/b.png"));
        let bucket = json!({"Bucket": "images"});
        assert_eq!(of("s3", "ListObjectsV2", bucket), one("s3:ListBucket", "arn:aws:s3:::images"));
        assert_eq!(of("comprehend", "DetectSentiment", json!({})), one("comprehend:DetectSentiment", "*"));
    }

    #[tokio::test]
    async fn only_calls_in_somebodys_name_are_recorded_and_counted() {
        let cloud = cloud();
        let list = || crate::endpoint::call(&cloud, "s3", "ListObjectsV2", json!({"Bucket": "images"}));
        let _ = list().await;
        assert!(cloud.calls.made().is_empty());
        by("me", async { (list().await, list().await) }).await.0.unwrap_err();
        let call = Call {
            principal: "me".into(),
            action: "s3:ListBucket".into(),
            resource: "arn:aws:s3:::images".into(),
        };
        assert_eq!(cloud.calls.made(), BTreeMap::from([(call, 2)]));
    }

    #[tokio::test]
    async fn what_a_table_charges_is_added_up_and_not_shown_to_who_has_not_asked() {
        let cloud = cloud();
        let call = |action, input| crate::endpoint::call(&cloud, "dynamodb", action, input);
        let table = json!({
            "TableName": "items", "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
            "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
        });
        call("CreateTable", table).await.unwrap();
        let item = json!({"pk": {"S": "1"}, "text": {"S": "x".repeat(1_500)}});
        let put = json!({"TransactItems": [{"Put": {"TableName": "items", "Item": item}}]});
        let get = json!({"TableName": "items", "Key": {"pk": {"S": "1"}}});
        let asked =
            json!({"TableName": "items", "Key": {"pk": {"S": "1"}}, "ConsistentRead": true, MODE: "TOTAL"});
        by("me", async {
            call("TransactWriteItems", put).await.unwrap();
            assert_eq!(call("GetItem", get).await.unwrap(), json!({"Item": item}));
            assert_eq!(call("GetItem", asked).await.unwrap()["ConsumedCapacity"]["CapacityUnits"], 1.0);
        })
        .await;
        let table = "arn:aws:dynamodb:us-east-1:123456789012:table/items".to_owned();
        // 1,500 bytes are two units, and twice as many in a transaction.
        let expected = BTreeMap::from([(("me".to_owned(), table), Units { read: 1.5, write: 4.0 })]);
        assert_eq!(cloud.calls.units(), expected);
    }
}
