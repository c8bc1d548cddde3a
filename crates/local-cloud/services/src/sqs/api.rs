//! The API actions of the JSON protocol: input members, limits, and the shape of answers.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cloud_core::calls::Permission;
use cloud_core::service::{Action, Request};
use cloud_core::{AwsError, Cloud};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::digest::{self, Attributes};
use super::message::{self, Outgoing, Received, Sent};
use super::queue::{self, Queue};
use super::{fault, move_task};

/// The actions, with the members of AWS's API reference.
pub(super) const ACTIONS: &[Action] = &[
    Action::new("SendMessage", |cloud, input| send_message(cloud, input)).needs(queue_permission),
    Action::new("SendMessageBatch", |cloud, input| send_message_batch(cloud, input)).needs(queue_permission),
    Action::later("ReceiveMessage", |cloud, input| {
        Box::pin(async move { receive_message(cloud, read(input)?).await })
    })
    .needs(queue_permission),
    Action::new("DeleteMessage", |cloud, input| delete_message(cloud, &read(input)?)).needs(queue_permission),
    Action::new("DeleteMessageBatch", |cloud, input| delete_message_batch(cloud, read(input)?))
        .needs(queue_permission),
    Action::new("ChangeMessageVisibility", |cloud, input| change_visibility(cloud, &read(input)?))
        .needs(queue_permission),
    Action::new("ChangeMessageVisibilityBatch", |cloud, input| change_visibility_batch(cloud, read(input)?))
        .needs(queue_permission),
    Action::new("CreateQueue", |cloud, input| create_queue(cloud, read(input)?)).needs(queue_permission),
    Action::new("DeleteQueue", |cloud, input| delete_queue(cloud, &read(input)?)).needs(queue_permission),
    Action::new("PurgeQueue", |cloud, input| purge_queue(cloud, &read(input)?)).needs(queue_permission),
    Action::new("GetQueueUrl", |cloud, input| get_queue_url(cloud, &read(input)?)).needs(queue_permission),
    Action::new("GetQueueAttributes", |cloud, input| get_queue_attributes(cloud, &read(input)?))
        .needs(queue_permission),
    Action::new("SetQueueAttributes", |cloud, input| set_queue_attributes(cloud, read(input)?))
        .needs(queue_permission),
    Action::new("ListQueues", |cloud, input| list_queues(cloud, read(input)?)).needs(queue_permission),
    Action::new("ListDeadLetterSourceQueues", |cloud, input| list_sources(cloud, read(input)?))
        .needs(queue_permission),
    Action::new("ListQueueTags", |cloud, input| {
        let OnQueue { queue_url } = read(input)?;
        Ok(json!({ "Tags": queue::find(cloud, &queue_url)?.tags }))
    })
    .needs(queue_permission),
    Action::new("TagQueue", |cloud, input| tag_queue(cloud, read(input)?)).needs(queue_permission),
    Action::new("UntagQueue", |cloud, input| untag_queue(cloud, &read(input)?)).needs(queue_permission),
    Action::new("StartMessageMoveTask", |cloud, input| move_task::start(cloud, read(input)?))
        .needs(queue_permission),
    Action::new("ListMessageMoveTasks", |cloud, input| move_task::list(cloud, &read(input)?))
        .needs(queue_permission),
    Action::new("CancelMessageMoveTask", |cloud, input| move_task::cancel(cloud, &read(input)?))
        .needs(queue_permission),
];

/// A batch needs the permission of the single form.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-api-permissions-reference.html>
fn queue_permission(cloud: &Cloud, request: Request<'_>) -> Vec<Permission> {
    let name = request.text("QueueUrl").and_then(|url| url.rsplit('/').next()).or(request.text("QueueName"));
    let queue = name.map_or("*".into(), |name| cloud.arn("sqs", name));
    vec![(format!("sqs:{}", request.action.trim_end_matches("Batch")), queue)]
}

/// Reads the input; a member that the action does not name is refused.
fn read<T: DeserializeOwned>(input: Value) -> Result<T, AwsError> {
    serde_json::from_value(input).map_err(|error| {
        let message = error.to_string();
        match message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next()) {
            Some(member) => fault::missing(member),
            None => AwsError::client("SerializationException", message),
        }
    })
}

/// Takes the queue's URL out of an input whose other members are read elsewhere.
fn take_queue(cloud: &Cloud, input: &mut Value) -> Result<Queue, AwsError> {
    let url = input.as_object_mut().and_then(|members| members.remove("QueueUrl"));
    let url = url.as_ref().and_then(Value::as_str).ok_or_else(|| fault::missing("QueueUrl"))?;
    queue::find(cloud, url)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct OnQueue {
    queue_url: String,
}

fn send_message(cloud: &Cloud, mut input: Value) -> Result<Value, AwsError> {
    let queue = take_queue(cloud, &mut input)?;
    let message: Outgoing = read(input)?;
    Ok(Value::Object(sent(message::send(cloud, &queue, message)?)))
}

fn sent(sent: Sent) -> Map<String, Value> {
    let members = [
        ("MessageId", Some(sent.message_id)),
        ("MD5OfMessageBody", Some(sent.body_md5)),
        ("MD5OfMessageAttributes", sent.attributes_md5),
        ("MD5OfMessageSystemAttributes", sent.system_attributes_md5),
    ];
    members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), Value::from(value?)))).collect()
}

/// One to ten entries with distinct ids (API_SendMessageBatch and its like).
fn check_batch<'a>(entry: &str, ids: impl ExactSizeIterator<Item = &'a str>) -> Result<(), AwsError> {
    match ids.len() {
        0 => return Err(fault::empty_batch(entry)),
        1..=10 => {}
        count => return Err(fault::too_many_entries(count)),
    }
    let mut seen = HashSet::new();
    for id in ids {
        let sound = (1..=80).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        if !sound {
            return Err(fault::entry_id());
        }
        if !seen.insert(id) {
            return Err(fault::ids_not_distinct(id));
        }
    }
    Ok(())
}

/// What became of one entry: its id, and the members of its result.
type EntryResult = (String, Result<Map<String, Value>, AwsError>);

/// The answer of a batch: each entry under `Successful` or `Failed`.
fn batch_answer(results: Vec<EntryResult>) -> Value {
    let (mut successful, mut failed) = (Vec::new(), Vec::new());
    for (id, result) in results {
        match result {
            Ok(mut members) => {
                members.insert("Id".into(), id.into());
                successful.push(Value::Object(members));
            }
            Err(error) => failed.push(json!({
                "Id": id,
                "Code": fault::query_code(&error),
                "Message": error.message,
                "SenderFault": !error.is_server_fault(),
            })),
        }
    }
    json!({ "Successful": successful, "Failed": failed })
}

fn send_message_batch(cloud: &Cloud, mut input: Value) -> Result<Value, AwsError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "PascalCase")]
    struct Input {
        #[serde(default)]
        entries: Vec<Outgoing>,
    }
    let queue = take_queue(cloud, &mut input)?;
    let Input { entries } = read(input)?;
    check_batch(
        "SendMessageBatchRequestEntry",
        entries.iter().map(|entry| entry.id.as_deref().unwrap_or_default()),
    )?;
    let bytes = entries.iter().map(Outgoing::size).sum();
    if bytes > queue::LARGEST_MESSAGE {
        return Err(fault::batch_too_long(bytes));
    }
    let ids: Vec<String> = entries.iter().map(|entry| entry.id.clone().unwrap_or_default()).collect();
    let results = message::send_all(cloud, &queue, entries)?;
    Ok(batch_answer(ids.into_iter().zip(results.into_iter().map(|result| result.map(sent))).collect()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Receive {
    queue_url: String,
    #[serde(default)]
    attribute_names: Vec<String>,
    #[serde(default)]
    message_system_attribute_names: Vec<String>,
    #[serde(default)]
    message_attribute_names: Vec<String>,
    max_number_of_messages: Option<i64>,
    visibility_timeout: Option<i64>,
    wait_time_seconds: Option<i64>,
    /// FIFO queues only; no effect on others.
    #[serde(rename = "ReceiveRequestAttemptId")]
    _attempt: Option<String>,
}

/// The system attributes that a receiver may name (API_ReceiveMessage).
const SYSTEM_ATTRIBUTES: [&str; 10] = [
    "All",
    "SenderId",
    "SentTimestamp",
    "ApproximateReceiveCount",
    "ApproximateFirstReceiveTimestamp",
    "SequenceNumber",
    "MessageDeduplicationId",
    "MessageGroupId",
    "AWSTraceHeader",
    "DeadLetterQueueSourceArn",
];

async fn receive_message(cloud: &Arc<Cloud>, input: Receive) -> Result<Value, AwsError> {
    let queue = queue::find(cloud, &input.queue_url)?;
    let bounded =
        |value: Option<i64>, default: i64, name: &str, (least, most): (i64, i64), reason: &str| match value
            .unwrap_or(default)
        {
            value if (least..=most).contains(&value) => Ok(value),
            value => Err(fault::invalid_value(&value.to_string(), name, reason)),
        };
    let reason = "Must be between 1 and 10, if provided.";
    let most = bounded(input.max_number_of_messages, 1, "MaxNumberOfMessages", (1, 10), reason)?;
    let visibility = queue.number("VisibilityTimeout") as i64;
    let reason = "Must be >= 0 and <= 43200, if provided.";
    let visibility = bounded(input.visibility_timeout, visibility, "VisibilityTimeout", (0, 43_200), reason)?;
    let wait = queue.number("ReceiveMessageWaitTimeSeconds") as i64;
    let reason = "Must be >= 0 and <= 20, if provided.";
    let wait = bounded(input.wait_time_seconds, wait, "WaitTimeSeconds", (0, 20), reason)?;
    let wanted = [input.attribute_names, input.message_system_attribute_names].concat();
    if let Some(unknown) = wanted.iter().find(|name| !SYSTEM_ATTRIBUTES.contains(&name.as_str())) {
        return Err(fault::attribute_name(unknown));
    }
    let received = message::receive(cloud, &queue, most as usize, visibility, wait * 1_000).await?;
    if received.is_empty() {
        return Ok(json!({}));
    }
    let messages: Vec<Value> =
        received.into_iter().map(|message| shown(message, &wanted, &input.message_attribute_names)).collect();
    Ok(json!({ "Messages": messages }))
}

fn shown(message: Received, system: &[String], attributes: &[String]) -> Value {
    let mut shown = json!({
        "MessageId": message.message_id,
        "ReceiptHandle": message.handle,
        "MD5OfBody": digest::of_body(&message.body),
        "Body": message.body,
    });
    let all = system.iter().any(|name| name == "All");
    let system: BTreeMap<_, _> = message
        .system
        .into_iter()
        .filter(|(name, _)| all || system.iter().any(|wanted| wanted == name))
        .collect();
    if !system.is_empty() {
        shown["Attributes"] = json!(system);
    }
    let chosen: Attributes = message
        .attributes
        .into_iter()
        .filter(|(name, _)| attributes.iter().any(|wanted| names(wanted, name)))
        .collect();
    // The digest covers the attributes that are returned.
    if let Some(md5) = digest::of_attributes(&chosen) {
        shown["MessageAttributes"] = json!(chosen);
        shown["MD5OfMessageAttributes"] = md5.into();
    }
    shown
}

/// `All`, `.*`, `prefix.*` or the name itself (API_ReceiveMessage).
fn names(wanted: &str, name: &str) -> bool {
    wanted == "All"
        || wanted == name
        || wanted.strip_suffix(".*").is_some_and(|prefix| name.starts_with(prefix))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Delete {
    queue_url: String,
    receipt_handle: String,
}

fn delete_message(cloud: &Cloud, input: &Delete) -> Result<Value, AwsError> {
    let queue = queue::find(cloud, &input.queue_url)?;
    message::delete(cloud, &queue, &input.receipt_handle)?;
    Ok(json!({}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Batch<T> {
    queue_url: String,
    #[serde(default = "Vec::new")]
    entries: Vec<T>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct DeleteEntry {
    id: String,
    receipt_handle: String,
}

fn delete_message_batch(cloud: &Cloud, input: Batch<DeleteEntry>) -> Result<Value, AwsError> {
    let queue = queue::find(cloud, &input.queue_url)?;
    check_batch("DeleteMessageBatchRequestEntry", input.entries.iter().map(|entry| entry.id.as_str()))?;
    let delete = |entry: DeleteEntry| {
        (entry.id, message::delete(cloud, &queue, &entry.receipt_handle).map(|()| Map::new()))
    };
    Ok(batch_answer(input.entries.into_iter().map(delete).collect()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct ChangeVisibility {
    queue_url: String,
    receipt_handle: String,
    visibility_timeout: i64,
}

fn change_visibility(cloud: &Cloud, input: &ChangeVisibility) -> Result<Value, AwsError> {
    let queue = queue::find(cloud, &input.queue_url)?;
    message::change_visibility(cloud, &queue, &input.receipt_handle, input.visibility_timeout)?;
    Ok(json!({}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct ChangeEntry {
    id: String,
    receipt_handle: String,
    visibility_timeout: Option<i64>,
}

fn change_visibility_batch(cloud: &Cloud, input: Batch<ChangeEntry>) -> Result<Value, AwsError> {
    let queue = queue::find(cloud, &input.queue_url)?;
    check_batch(
        "ChangeMessageVisibilityBatchRequestEntry",
        input.entries.iter().map(|entry| entry.id.as_str()),
    )?;
    let change = |entry: ChangeEntry| {
        let result = match entry.visibility_timeout {
            Some(timeout) => message::change_visibility(cloud, &queue, &entry.receipt_handle, timeout),
            None => Err(fault::missing("VisibilityTimeout")),
        };
        (entry.id, result.map(|()| Map::new()))
    };
    Ok(batch_answer(input.entries.into_iter().map(change).collect()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Create {
    queue_name: String,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
    #[serde(default, rename = "tags")]
    tags: BTreeMap<String, String>,
}

fn create_queue(cloud: &Cloud, input: Create) -> Result<Value, AwsError> {
    queue::validate_name(&input.queue_name)?;
    queue::validate(cloud, &input.queue_name, &input.attributes)?;
    let now = cloud.clock.now_ms();
    let url = queue::url(cloud, &input.queue_name);
    let name = input.queue_name.clone();
    let created = cloud.store.write(|tx| {
        // The same name with the same values of the attributes given is the same queue.
        if let Some(known) = queue::read(tx, &name)? {
            let shown = queue::shown(cloud, &known);
            let differs = |(name, value): &(&String, &String)| shown.get(*name) != Some(*value);
            return Ok(match input.attributes.iter().find(differs) {
                Some((attribute, _)) => Err(fault::name_exists(attribute)),
                None => Ok(()),
            });
        }
        let barred: bool = tx.query_row(
            "SELECT count(*) > 0 FROM sqs_deleted_queues WHERE name = ?1 AND deleted_ms > ?2",
            rusqlite::params![name, now - queue::COOL_DOWN_MS],
            |row| row.get(0),
        )?;
        if barred {
            return Ok(Err(fault::deleted_recently()));
        }
        let Create { queue_name: name, attributes, tags } = input;
        let queue = Queue { name, attributes, tags, created_ms: now, modified_ms: now, purged_ms: None };
        queue.save(tx).map(Ok)
    })?;
    created.map(|()| json!({ "QueueUrl": url }))
}

fn delete_queue(cloud: &Cloud, input: &OnQueue) -> Result<Value, AwsError> {
    let queue = queue::find(cloud, &input.queue_url)?;
    cloud.store.write(|tx| {
        tx.execute("DELETE FROM sqs_messages WHERE queue = ?1", [&queue.name])?;
        tx.execute("DELETE FROM sqs_queues WHERE name = ?1", [&queue.name])?;
        tx.execute(
            "INSERT OR REPLACE INTO sqs_deleted_queues (name, deleted_ms) VALUES (?1, ?2)",
            rusqlite::params![queue.name, cloud.clock.now_ms()],
        )
    })?;
    Ok(json!({}))
}

fn purge_queue(cloud: &Cloud, input: &OnQueue) -> Result<Value, AwsError> {
    let queue = queue::find(cloud, &input.queue_url)?;
    let now = cloud.clock.now_ms();
    let purged = cloud.store.write(|tx| {
        let purged = tx.execute(
            "UPDATE sqs_queues SET purged_ms = ?2 WHERE name = ?1 AND ifnull(purged_ms, 0) <= ?3",
            rusqlite::params![queue.name, now, now - queue::COOL_DOWN_MS],
        )?;
        if purged > 0 {
            tx.execute("DELETE FROM sqs_messages WHERE queue = ?1", [&queue.name])?;
        }
        Ok(purged)
    })?;
    if purged == 0 {
        return Err(fault::purge_in_progress(&queue.name));
    }
    Ok(json!({}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct GetUrl {
    queue_name: String,
    #[serde(rename = "QueueOwnerAWSAccountId")]
    owner: Option<String>,
}

fn get_queue_url(cloud: &Cloud, input: &GetUrl) -> Result<Value, AwsError> {
    // There is one account here.
    if input.owner.as_ref().is_some_and(|owner| *owner != cloud.settings.account) {
        return Err(fault::no_queue());
    }
    let queue = queue::named(cloud, &input.queue_name)?.ok_or_else(fault::no_queue)?;
    Ok(json!({ "QueueUrl": queue::url(cloud, &queue.name) }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct GetAttributes {
    queue_url: String,
    #[serde(default)]
    attribute_names: Vec<String>,
}

/// Queue attributes that may be asked for (API_GetQueueAttributes).
const QUEUE_ATTRIBUTES: [&str; 22] = [
    "All",
    "Policy",
    "VisibilityTimeout",
    "MaximumMessageSize",
    "MessageRetentionPeriod",
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "CreatedTimestamp",
    "LastModifiedTimestamp",
    "QueueArn",
    "ApproximateNumberOfMessagesDelayed",
    "DelaySeconds",
    "ReceiveMessageWaitTimeSeconds",
    "RedrivePolicy",
    "FifoQueue",
    "ContentBasedDeduplication",
    "KmsMasterKeyId",
    "KmsDataKeyReusePeriodSeconds",
    "DeduplicationScope",
    "FifoThroughputLimit",
    "RedriveAllowPolicy",
    "SqsManagedSseEnabled",
];

fn get_queue_attributes(cloud: &Cloud, input: &GetAttributes) -> Result<Value, AwsError> {
    let queue = queue::find(cloud, &input.queue_url)?;
    let names = &input.attribute_names;
    if let Some(unknown) = names.iter().find(|name| !QUEUE_ATTRIBUTES.contains(&name.as_str())) {
        return Err(fault::attribute_name(unknown));
    }
    let mut shown = queue::shown(cloud, &queue);
    let [visible, in_flight, delayed] = message::counts(cloud, &queue)?;
    shown.insert("ApproximateNumberOfMessages".into(), visible.to_string());
    shown.insert("ApproximateNumberOfMessagesNotVisible".into(), in_flight.to_string());
    shown.insert("ApproximateNumberOfMessagesDelayed".into(), delayed.to_string());
    if !names.iter().any(|name| name == "All") {
        shown.retain(|name, _| names.contains(name));
    }
    Ok(if names.is_empty() { json!({}) } else { json!({ "Attributes": shown }) })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct SetAttributes {
    queue_url: String,
    attributes: BTreeMap<String, String>,
}

fn set_queue_attributes(cloud: &Cloud, input: SetAttributes) -> Result<Value, AwsError> {
    let queue = queue::find(cloud, &input.queue_url)?;
    // A standard queue does not have it.
    if input.attributes.contains_key("FifoQueue") {
        return Err(fault::attribute_name("FifoQueue"));
    }
    queue::validate(cloud, &queue.name, &input.attributes)?;
    let now = cloud.clock.now_ms();
    queue::change(cloud, &input.queue_url, |queue| {
        queue.attributes.extend(input.attributes);
        // An empty policy takes the policy away.
        queue.attributes.retain(|_, value| !value.is_empty());
        queue.modified_ms = now;
    })?;
    Ok(json!({}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct List {
    #[serde(default)]
    queue_name_prefix: String,
    next_token: Option<String>,
    max_results: Option<usize>,
}

fn list_queues(cloud: &Cloud, input: List) -> Result<Value, AwsError> {
    let names = queue::all(cloud)?.into_iter().map(|queue| queue.name);
    let names = names.filter(|name| name.starts_with(&input.queue_name_prefix)).collect();
    page(cloud, names, "QueueUrls", input.next_token, input.max_results)
}

/// One page of queue URLs; a token stands only where MaxResults was given (API_ListQueues).
fn page(
    cloud: &Cloud,
    names: Vec<String>,
    member: &str,
    token: Option<String>,
    most: Option<usize>,
) -> Result<Value, AwsError> {
    if let Some(most) = most.filter(|most| !(1..=1_000).contains(most)) {
        let reason = "MaxResults must be an integer between 1 and 1000.";
        return Err(fault::invalid_value(&most.to_string(), "MaxResults", reason));
    }
    let after = match &token {
        None => String::new(),
        Some(token) => URL_SAFE_NO_PAD
            .decode(token)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .ok_or_else(|| fault::invalid_value(token, "NextToken", "Invalid or expired next token."))?,
    };
    let rest: Vec<String> = names.into_iter().filter(|name| *name > after).collect();
    let urls: Vec<String> =
        rest.iter().take(most.unwrap_or(1_000)).map(|name| queue::url(cloud, name)).collect();
    let mut answer = Map::new();
    if most.is_some() && rest.len() > urls.len() {
        answer.insert("NextToken".into(), URL_SAFE_NO_PAD.encode(&rest[urls.len() - 1]).into());
    }
    if !urls.is_empty() || member == "queueUrls" {
        answer.insert(member.into(), json!(urls));
    }
    Ok(Value::Object(answer))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct ListSources {
    queue_url: String,
    next_token: Option<String>,
    max_results: Option<usize>,
}

fn list_sources(cloud: &Cloud, input: ListSources) -> Result<Value, AwsError> {
    let target = queue::find(cloud, &input.queue_url)?;
    let sources = move_task::sources_of(cloud, &target.name)?.into_iter().map(|queue| queue.name).collect();
    page(cloud, sources, "queueUrls", input.next_token, input.max_results)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct TagQueue {
    queue_url: String,
    tags: BTreeMap<String, String>,
}

fn tag_queue(cloud: &Cloud, input: TagQueue) -> Result<Value, AwsError> {
    queue::change(cloud, &input.queue_url, |queue| queue.tags.extend(input.tags))?;
    Ok(json!({}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct UntagQueue {
    queue_url: String,
    tag_keys: Vec<String>,
}

fn untag_queue(cloud: &Cloud, input: &UntagQueue) -> Result<Value, AwsError> {
    queue::change(cloud, &input.queue_url, |queue| {
        queue.tags.retain(|key, _| !input.tag_keys.contains(key))
    })?;
    Ok(json!({}))
}
