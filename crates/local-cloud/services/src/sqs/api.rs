//! The API actions of the JSON protocol: input members, limits, and the shape of answers.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use cloud_core::api::{self, Unread, is_name, key_of, with_token};
use cloud_core::calls::Permission;
use cloud_core::service::{Action, Answer, Request};
use cloud_core::{AwsError, Cloud};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::digest::{self, Attributes};
use super::message::{self, Received, Sent};
use super::outgoing::Outgoing;
use super::queue::{self, MAX_MESSAGE_BYTES, Queue};
use super::{attributes, fault, move_task, store};

const fn row(name: &'static str, call: fn(&Arc<Cloud>, Value) -> Answer) -> Action {
    Action::new(name, call).needs(queue_permission)
}

#[rustfmt::skip]
pub(super) const ACTIONS: &[Action] = &[
    row("SendMessage", |cloud, input| on_queue(cloud, input, send_message)),
    row("SendMessageBatch", |cloud, input| on_queue(cloud, input, send_message_batch)),
    Action::later("ReceiveMessage", |cloud, input| Box::pin(receive_message(cloud, input))).needs(queue_permission),
    row("DeleteMessage", |cloud, input| on_queue(cloud, input, delete_message)),
    row("DeleteMessageBatch", |cloud, input| on_queue(cloud, input, delete_message_batch)),
    row("ChangeMessageVisibility", |cloud, input| on_queue(cloud, input, change_visibility)),
    row("ChangeMessageVisibilityBatch", |cloud, input| on_queue(cloud, input, change_visibility_batch)),
    row("CreateQueue", |cloud, input| create_queue(cloud, read(input)?)),
    row("DeleteQueue", |cloud, input| on_queue(cloud, input, delete_queue)),
    row("PurgeQueue", |cloud, input| on_queue(cloud, input, purge_queue)),
    row("GetQueueUrl", |cloud, input| get_queue_url(cloud, &read(input)?)),
    row("GetQueueAttributes", |cloud, input| on_queue(cloud, input, get_queue_attributes)),
    row("SetQueueAttributes", |cloud, input| on_queue(cloud, input, set_queue_attributes)),
    row("ListQueues", |cloud, input| list_queues(cloud, read(input)?)),
    row("ListDeadLetterSourceQueues", |cloud, input| on_queue(cloud, input, list_sources)),
    row("ListQueueTags", |cloud, input| on_queue(cloud, input, |_, queue, Nothing {}| Ok(json!({ "Tags": queue.tags })))),
    row("TagQueue", |cloud, input| on_queue(cloud, input, tag_queue)),
    row("UntagQueue", |cloud, input| on_queue(cloud, input, untag_queue)),
    row("StartMessageMoveTask", |cloud, input| move_task::start(cloud, read(input)?)),
    row("ListMessageMoveTasks", |cloud, input| move_task::list(cloud, &read(input)?)),
    row("CancelMessageMoveTask", |cloud, input| move_task::cancel(cloud, &read(input)?)),
];

/// A batch needs the permission of the single form.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-api-permissions-reference.html>
fn queue_permission(cloud: &Cloud, request: Request<'_>) -> Vec<Permission> {
    let name = request.text("QueueUrl").and_then(|url| url.rsplit('/').next()).or(request.text("QueueName"));
    let queue = name.map_or("*".into(), |name| cloud.arn("sqs", name));
    vec![(format!("sqs:{}", request.action.trim_end_matches("Batch")), queue)]
}

fn read<T: DeserializeOwned>(input: Value) -> Result<T, AwsError> {
    api::read_or(input, |unread| match unread {
        Unread::Missing(member) => fault::missing(&member),
        other => other.refused("SerializationException"),
    })
}

/// Finds the queue of `QueueUrl`, and reads the other members for `act`.
fn on_queue<T: DeserializeOwned>(
    cloud: &Cloud,
    mut input: Value,
    act: fn(&Cloud, &Queue, T) -> Answer,
) -> Answer {
    let queue = take_queue(cloud, &mut input)?;
    act(cloud, &queue, read(input)?)
}

fn take_queue(cloud: &Cloud, input: &mut Value) -> Result<Queue, AwsError> {
    let url = input.as_object_mut().and_then(|members| members.remove("QueueUrl"));
    let url = url.as_ref().and_then(Value::as_str).ok_or_else(|| fault::missing("QueueUrl"))?;
    store::by_url(cloud, url)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

fn send_message(cloud: &Cloud, queue: &Queue, message: Outgoing) -> Answer {
    Ok(Value::Object(sent(message::send(cloud, queue, message)?)))
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Batch<T> {
    #[serde(default = "Vec::new")]
    entries: Vec<T>,
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
        if id.len() > 80 || !is_name(id, "-_") {
            return Err(fault::entry_id());
        }
        if !seen.insert(id) {
            return Err(fault::ids_not_distinct(id));
        }
    }
    Ok(())
}

/// The result of one entry: its id, and its members.
type EntryResult = (String, Result<Map<String, Value>, AwsError>);

/// The answer of a batch: each entry under `Successful` or `Failed`.
fn batch_answer(results: impl Iterator<Item = EntryResult>) -> Value {
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

fn send_message_batch(cloud: &Cloud, queue: &Queue, batch: Batch<Outgoing>) -> Answer {
    let entries = batch.entries;
    let ids: Vec<String> = entries.iter().map(|entry| entry.id.clone().unwrap_or_default()).collect();
    check_batch("SendMessageBatchRequestEntry", ids.iter().map(String::as_str))?;
    let bytes = entries.iter().map(Outgoing::size).sum();
    if bytes > MAX_MESSAGE_BYTES {
        return Err(fault::batch_too_long(bytes, MAX_MESSAGE_BYTES));
    }
    let results = message::send_all(cloud, queue, entries)?;
    Ok(batch_answer(ids.into_iter().zip(results.into_iter().map(|result| result.map(sent)))))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Receive {
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
#[rustfmt::skip]
const SYSTEM_ATTRIBUTES: [&str; 10] = [
    "All", "SenderId", "SentTimestamp", "ApproximateReceiveCount", "ApproximateFirstReceiveTimestamp", "SequenceNumber",
    "MessageDeduplicationId", "MessageGroupId", "AWSTraceHeader", "DeadLetterQueueSourceArn",
];

async fn receive_message(cloud: &Arc<Cloud>, mut input: Value) -> Answer {
    let queue = take_queue(cloud, &mut input)?;
    let input: Receive = read(input)?;
    let within = |value: i64, least: i64, most: i64, name: &str, reason: &str| match value {
        value if (least..=most).contains(&value) => Ok(value),
        value => Err(fault::invalid_value(value, name, reason)),
    };
    let most = input.max_number_of_messages.unwrap_or(1);
    let most = within(most, 1, 10, "MaxNumberOfMessages", "Must be between 1 and 10, if provided.")?;
    let hidden = input.visibility_timeout.unwrap_or(queue.number("VisibilityTimeout"));
    let hidden = within(hidden, 0, 43_200, "VisibilityTimeout", "Must be >= 0 and <= 43200, if provided.")?;
    let wait = input.wait_time_seconds.unwrap_or(queue.number("ReceiveMessageWaitTimeSeconds"));
    let wait = within(wait, 0, 20, "WaitTimeSeconds", "Must be >= 0 and <= 20, if provided.")?;
    let wanted = [input.attribute_names, input.message_system_attribute_names].concat();
    if let Some(unknown) = wanted.iter().find(|name| !SYSTEM_ATTRIBUTES.contains(&name.as_str())) {
        return Err(fault::attribute_name(unknown));
    }
    let received = message::receive(cloud, &queue, most as usize, hidden, wait * 1_000).await?;
    if received.is_empty() {
        return Ok(json!({}));
    }
    let shown = |message| shown(message, &wanted, &input.message_attribute_names);
    Ok(json!({ "Messages": received.into_iter().map(shown).collect::<Vec<_>>() }))
}

fn shown(message: Received, system: &[String], attributes: &[String]) -> Value {
    let mut shown = json!({
        "MessageId": message.message_id,
        "ReceiptHandle": message.handle,
        "MD5OfBody": digest::of_body(&message.body),
        "Body": message.body,
    });
    let is_wanted = |name: &str| system.iter().any(|wanted| wanted == "All" || wanted == name);
    let system: BTreeMap<_, _> = message.system.into_iter().filter(|(name, _)| is_wanted(name)).collect();
    if !system.is_empty() {
        shown["Attributes"] = json!(system);
    }
    let is_wanted = |name: &str| attributes.iter().any(|wanted| names(wanted, name));
    let chosen: Attributes = message.attributes.into_iter().filter(|(name, _)| is_wanted(name)).collect();
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
    receipt_handle: String,
}

fn delete_message(cloud: &Cloud, queue: &Queue, input: Delete) -> Answer {
    message::delete(cloud, queue, &input.receipt_handle).map(|()| json!({}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct DeleteEntry {
    id: String,
    receipt_handle: String,
}

fn delete_message_batch(cloud: &Cloud, queue: &Queue, batch: Batch<DeleteEntry>) -> Answer {
    check_batch("DeleteMessageBatchRequestEntry", batch.entries.iter().map(|entry| entry.id.as_str()))?;
    Ok(batch_answer(
        batch.entries.into_iter().map(|entry| {
            (entry.id, message::delete(cloud, queue, &entry.receipt_handle).map(|()| Map::new()))
        }),
    ))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct ChangeVisibility {
    receipt_handle: String,
    visibility_timeout: i64,
}

fn change_visibility(cloud: &Cloud, queue: &Queue, input: ChangeVisibility) -> Answer {
    message::change_visibility(cloud, queue, &input.receipt_handle, input.visibility_timeout)?;
    Ok(json!({}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct ChangeEntry {
    id: String,
    receipt_handle: String,
    visibility_timeout: Option<i64>,
}

fn change_visibility_batch(cloud: &Cloud, queue: &Queue, batch: Batch<ChangeEntry>) -> Answer {
    let ids = batch.entries.iter().map(|entry| entry.id.as_str());
    check_batch("ChangeMessageVisibilityBatchRequestEntry", ids)?;
    Ok(batch_answer(batch.entries.into_iter().map(|entry| {
        let timeout = entry.visibility_timeout.ok_or_else(|| fault::missing("VisibilityTimeout"));
        let changed = timeout
            .and_then(|timeout| message::change_visibility(cloud, queue, &entry.receipt_handle, timeout));
        (entry.id, changed.map(|()| Map::new()))
    })))
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

fn create_queue(cloud: &Cloud, input: Create) -> Answer {
    let Create { queue_name: name, attributes, tags } = input;
    attributes::check_name(&name)?;
    attributes::check(cloud, &name, &attributes)?;
    let url = queue::url(cloud, &name);
    let now = cloud.clock.now_ms();
    let created = cloud.store.write(|tx| {
        // The same name with the same values of the attributes given is the same queue.
        if let Some(known) = store::read(tx, &name)? {
            let shown = known.shown(cloud);
            let other = attributes.iter().find(|(name, value)| shown.get(*name) != Some(*value));
            return Ok(other.map_or(Ok(()), |(attribute, _)| Err(fault::name_exists(attribute))));
        }
        if store::is_barred(tx, &name, now)? {
            return Ok(Err(fault::deleted_recently()));
        }
        let queue = Queue { name, attributes, tags, created_ms: now, modified_ms: now, purged_ms: None };
        store::save(tx, &queue).map(Ok)
    })?;
    created.map(|()| json!({ "QueueUrl": url }))
}

fn delete_queue(cloud: &Cloud, queue: &Queue, Nothing {}: Nothing) -> Answer {
    store::delete(cloud, &queue.name)?;
    Ok(json!({}))
}

fn purge_queue(cloud: &Cloud, queue: &Queue, Nothing {}: Nothing) -> Answer {
    match store::purge(cloud, &queue.name)? {
        true => Ok(json!({})),
        false => Err(fault::purge_in_progress(&queue.name)),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct GetUrl {
    queue_name: String,
    #[serde(rename = "QueueOwnerAWSAccountId")]
    owner: Option<String>,
}

fn get_queue_url(cloud: &Cloud, input: &GetUrl) -> Answer {
    // There is one account here.
    let ours = input.owner.as_ref().is_none_or(|owner| *owner == cloud.settings.account);
    let queue = store::by_name(cloud, &input.queue_name)?.filter(|_| ours).ok_or_else(fault::no_queue)?;
    Ok(json!({ "QueueUrl": queue::url(cloud, &queue.name) }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct GetAttributes {
    #[serde(default)]
    attribute_names: Vec<String>,
}

/// The attributes of a queue (API_GetQueueAttributes).
#[rustfmt::skip]
const QUEUE_ATTRIBUTES: [&str; 22] = [
    "All", "Policy", "VisibilityTimeout", "MaximumMessageSize", "MessageRetentionPeriod", "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible", "CreatedTimestamp", "LastModifiedTimestamp", "QueueArn",
    "ApproximateNumberOfMessagesDelayed", "DelaySeconds", "ReceiveMessageWaitTimeSeconds", "RedrivePolicy", "FifoQueue",
    "ContentBasedDeduplication", "KmsMasterKeyId", "KmsDataKeyReusePeriodSeconds", "DeduplicationScope",
    "FifoThroughputLimit", "RedriveAllowPolicy", "SqsManagedSseEnabled",
];

fn get_queue_attributes(cloud: &Cloud, queue: &Queue, input: GetAttributes) -> Answer {
    let names = &input.attribute_names;
    if let Some(unknown) = names.iter().find(|name| !QUEUE_ATTRIBUTES.contains(&name.as_str())) {
        return Err(fault::attribute_name(unknown));
    }
    let mut shown = queue.shown(cloud);
    let [visible, in_flight, delayed] = message::counts(cloud, queue)?;
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
    attributes: BTreeMap<String, String>,
}

fn set_queue_attributes(cloud: &Cloud, queue: &Queue, input: SetAttributes) -> Answer {
    // A standard queue does not have it.
    if input.attributes.contains_key("FifoQueue") {
        return Err(fault::attribute_name("FifoQueue"));
    }
    attributes::check(cloud, &queue.name, &input.attributes)?;
    let now = cloud.clock.now_ms();
    store::change(cloud, &queue.name, |queue| {
        queue.attributes.extend(input.attributes);
        // An empty policy removes the policy.
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

fn list_queues(cloud: &Cloud, input: List) -> Answer {
    let mut queues = store::all(cloud)?;
    queues.retain(|queue| queue.name.starts_with(&input.queue_name_prefix));
    let (urls, next) = page(cloud, queues, input.next_token, input.max_results)?;
    let answer = if urls.is_empty() { json!({}) } else { json!({ "QueueUrls": urls }) };
    Ok(with_token(answer, "NextToken", next))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct ListSources {
    next_token: Option<String>,
    max_results: Option<usize>,
}

fn list_sources(cloud: &Cloud, queue: &Queue, input: ListSources) -> Answer {
    let sources = store::sources_of(cloud, &queue.name)?;
    let (urls, next) = page(cloud, sources, input.next_token, input.max_results)?;
    Ok(with_token(json!({ "queueUrls": urls }), "NextToken", next))
}

/// One page of queue URLs; it has a token only where MaxResults was given (API_ListQueues).
fn page(
    cloud: &Cloud,
    queues: Vec<Queue>,
    token: Option<String>,
    most: Option<usize>,
) -> Result<(Vec<String>, Option<String>), AwsError> {
    if let Some(most) = most.filter(|most| !(1..=1_000).contains(most)) {
        let reason = "MaxResults must be an integer between 1 and 1000.";
        return Err(fault::invalid_value(most, "MaxResults", reason));
    }
    let key = |token: String| {
        let invalid = || fault::invalid_value(&token, "NextToken", "Invalid or expired next token.");
        key_of(&token).ok_or_else(invalid)
    };
    let after = token.map(key).transpose()?;
    let urls = queues.into_iter().map(|queue| (queue.name.clone(), queue::url(cloud, &queue.name)));
    let (urls, next) = api::page(urls.collect(), after.as_deref(), most.unwrap_or(1_000));
    Ok((urls, next.filter(|_| most.is_some())))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct TagQueue {
    tags: BTreeMap<String, String>,
}

fn tag_queue(cloud: &Cloud, queue: &Queue, input: TagQueue) -> Answer {
    store::change(cloud, &queue.name, |queue| queue.tags.extend(input.tags))?;
    Ok(json!({}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct UntagQueue {
    tag_keys: Vec<String>,
}

fn untag_queue(cloud: &Cloud, queue: &Queue, input: UntagQueue) -> Answer {
    store::change(cloud, &queue.name, |queue| queue.tags.retain(|key, _| !input.tag_keys.contains(key)))?;
    Ok(json!({}))
}
