//! What calls cost: a caller who is known is charged for what each request consumes of a table.

use std::sync::Arc;

use bytes::Bytes;
use cloud_core::{Cloud, calls};
use serde_json::{Map, Value};

use super::api::table_arn;

/// A request to DynamoDB of somebody who is known: asks for the consumed capacity as well.
pub(super) struct Charged {
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
pub(super) fn charge(cloud: &Cloud, action: &str, body: &mut Bytes) -> Option<Charged> {
    let caller = calls::caller()?;
    let input: Value = serde_json::from_slice(body).ok()?;
    input.as_object().filter(|members| !members.is_empty())?;
    cloud.record("dynamodb", action, &input);
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
    pub(super) fn settle(self, cloud: &Cloud, answer: &mut Bytes) {
        let Ok(mut read) = serde_json::from_slice::<Map<String, Value>>(answer) else { return };
        let Some(consumed) = read.remove("ConsumedCapacity") else { return };
        // One table, or a list of them.
        for table in consumed.as_array().map_or(std::slice::from_ref(&consumed), Vec::as_slice) {
            let name = table_arn(cloud, table["TableName"].as_str());
            let units = table["CapacityUnits"].as_f64().unwrap_or_default();
            let (read, write) = if self.reads { (units, 0.0) } else { (0.0, units) };
            cloud.calls.charge(&self.caller, name, read, write);
        }
        if self.hidden {
            *answer = Value::Object(read).to_string().into();
        }
    }
}
