//! The cost of calls: a known caller is charged for the capacity that each request consumes of a table.

use std::sync::Arc;

use bytes::Bytes;
use cloud_core::{Cloud, calls};
use serde_json::{Map, Value};

use super::arns::table_arn;

/// A request that asks for its consumed capacity.
pub(super) struct Charged {
    caller: Arc<str>,
    reads: bool,
    /// The caller has not asked for the capacity, and does not see it.
    hidden: bool,
}

const MODE: &str = "ReturnConsumedCapacity";

/// The actions that are charged, and whether each one reads.
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

/// Records the request of a known caller. Where it is charged, makes `body` ask for its consumed capacity,
/// for [`Charged::settle`].
pub(super) fn charge(cloud: &Cloud, action: &str, body: &mut Bytes) -> Option<Charged> {
    let caller = calls::caller()?;
    let input: Value = serde_json::from_slice(body).ok()?;
    // DynamoDB refuses an empty body itself.
    input.as_object().filter(|members| !members.is_empty())?;
    cloud.record("dynamodb", action, &input);
    let (_, reads) = *CHARGED.iter().find(|(name, _)| *name == action)?;
    let hidden = input.get(MODE).is_none();
    if hidden {
        // All other bytes stay as they were sent.
        let members = body.iter().position(|byte| *byte == b'{')? + 1;
        let asks = format!(r#""{MODE}":"TOTAL","#);
        *body = [&body[..members], asks.as_bytes(), &body[members..]].concat().into();
    }
    Some(Charged { caller, reads, hidden })
}

impl Charged {
    /// Charges the capacity that a successful answer names.
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
