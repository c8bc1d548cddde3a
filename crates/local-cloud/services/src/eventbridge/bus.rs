//! Buses, and the way of an event over one: which archives keep it, which targets get it.
//! An event, its archive copies and its deliveries are stored in one transaction.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use cloud_core::faults::Faults;
use cloud_core::store::StoreError;
use cloud_core::{AwsError, Cloud};
use cloud_languages::event_pattern::Pattern;
use rusqlite::Transaction;
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::{Tags, invalid, page, read_input, tag_object};
use super::model::{Target, parse_pattern};
use super::{delivery, policy, store};

/// The bus that exists without being created.
pub const DEFAULT: &str = "default";

/// What routing needs of a bus, parsed once.
#[derive(Debug)]
struct Routes {
    rules: Vec<Route>,
    archives: Vec<(String, Option<Pattern>)>,
}

#[derive(Debug)]
struct Route {
    rule_arn: String,
    pattern: Pattern,
    targets: Vec<Target>,
}

/// Parsed rules per bus, until a rule changes.
#[derive(Debug, Default)]
pub struct Cache(Mutex<HashMap<String, Arc<Routes>>>);

impl Cache {
    /// Forgets what was parsed.
    pub fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn routes(&self, cloud: &Cloud, bus: &str) -> Result<Arc<Routes>, StoreError> {
        // The lock is held while rules are read, so that a change cannot slip in between.
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(routes) = cache.get(bus) {
            return Ok(routes.clone());
        }
        let routes = Arc::new(read_routes(cloud, bus)?);
        cache.insert(bus.to_owned(), routes.clone());
        Ok(routes)
    }
}

fn read_routes(cloud: &Cloud, bus: &str) -> Result<Routes, StoreError> {
    let (rules, archives) = cloud.store.read(|db| {
        let mut rules = Vec::new();
        for rule in store::rules(db, bus)? {
            let targets = store::targets(db, bus, &rule.name)?;
            rules.push((rule, targets));
        }
        Ok((rules, store::archives(db)?))
    })?;
    // Patterns were parsed before they were stored; one that no longer parses matches nothing.
    let rules = rules.into_iter().filter(|(rule, _)| rule.state != "DISABLED");
    let rules = rules.filter_map(|(rule, targets)| {
        let pattern = parse_pattern(&rule.pattern).ok()?;
        Some(Route { rule_arn: rule_arn(cloud, bus, &rule.name), pattern, targets })
    });
    let archives = archives.into_iter().filter(|archive| archive.bus == bus);
    let archives = archives.filter_map(|archive| match archive.pattern {
        None => Some((archive.name, None)),
        Some(text) => Some((archive.name, Some(parse_pattern(&text).ok()?))),
    });
    Ok(Routes { rules: rules.collect(), archives: archives.collect() })
}

/// Where an event on a bus came from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Origin<'a> {
    /// PutEvents, or an AWS service.
    Put,
    /// Another bus.
    Bus,
    /// An archive, for these rules only (all, where there are none).
    Replay(&'a [String]),
}

/// Puts events onto buses, with a change of the caller's own in the same transaction.
///
/// # Errors
/// When the store refuses; then nothing is changed, and none of the events is on its bus.
pub fn publish_with(
    cloud: &Arc<Cloud>,
    batches: &[(&str, &[Value])],
    origin: Origin<'_>,
    also: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>,
) -> Result<(), StoreError> {
    let mut prepared = Vec::new();
    for (bus, events) in batches {
        let routes = cloud.state::<crate::eventbridge::State>().routes.routes(cloud, bus)?;
        prepared.extend(events.iter().map(|event| (*bus, routes.clone(), event)));
    }
    let now_ms = cloud.clock.now_ms();
    let mut woken = BTreeSet::new();
    cloud.store.write(|tx| {
        for (bus, routes, event) in &prepared {
            route(tx, &cloud.faults, bus, routes, event, origin, now_ms, &mut woken)?;
        }
        also(tx)
    })?;
    if matches!(origin, Origin::Put) {
        prepared.iter().for_each(|_| cloud.counters.event());
    }
    for target_arn in woken {
        delivery::wake(cloud, &target_arn);
    }
    Ok(())
}

#[allow(clippy::too_many_arguments, reason = "one step of publish_with, in its transaction")]
fn route(
    tx: &Transaction<'_>,
    faults: &Faults,
    bus: &str,
    routes: &Routes,
    event: &Value,
    origin: Origin<'_>,
    now_ms: i64,
    woken: &mut BTreeSet<String>,
) -> rusqlite::Result<()> {
    let text = event.to_string();
    let detail_type = event["detail-type"].as_str().unwrap_or_default();
    let id = event["id"].as_str().unwrap_or_default();
    if !matches!(origin, Origin::Replay(_)) {
        // Replayed events are not archived again.
        // https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-archive.html
        for (archive, pattern) in &routes.archives {
            if pattern.as_ref().is_none_or(|pattern| pattern.matches(event)) {
                store::archive_event(tx, archive, time_ms(event).unwrap_or(now_ms), &text)?;
            }
        }
    }
    for rule in routes.rules.iter().filter(|rule| rule.pattern.matches(event)) {
        if let Origin::Replay(only) = origin
            && !only.is_empty()
            && !only.contains(&rule.rule_arn)
        {
            continue;
        }
        tracing::info!(target: "hop", service = "events", resource = %bus, rule = %rule.rule_arn, event = %id, "{detail_type} matched");
        for target in &rule.targets {
            // "EventBridge can't route events received from a sender event bus to a third event bus."
            // https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-bus-to-bus.html
            if origin == Origin::Bus && target.arn.contains(":event-bus/") {
                tracing::warn!(target: "hop", service = "events", resource = %bus, event = %id, "{detail_type} is not sent on to a third bus");
                continue;
            }
            for due_ms in faults.deliveries(now_ms) {
                store::add_delivery(tx, target, &rule.rule_arn, &text, now_ms, due_ms)?;
            }
            woken.insert(target.arn.clone());
        }
    }
    Ok(())
}

/// An event's own time in milliseconds since the epoch.
pub fn time_ms(event: &Value) -> Option<i64> {
    let time: jiff::Timestamp = event["time"].as_str()?.parse().ok()?;
    Some(time.as_millisecond())
}

/// The envelope of an event; `time_ms` is cut to seconds, as EventBridge does.
pub fn envelope(
    cloud: &Cloud,
    source: &str,
    detail_type: &str,
    time_ms: i64,
    resources: Value,
    detail: Value,
) -> Value {
    json!({
        "version": "0",
        "id": cloud.random.uuid(),
        "detail-type": detail_type,
        "source": source,
        "account": cloud.settings.account,
        "time": seconds(time_ms),
        "region": cloud.settings.region,
        "resources": resources,
        "detail": detail,
    })
}

/// `2026-11-23T18:22:06Z`.
pub fn seconds(time_ms: i64) -> String {
    let time = jiff::Timestamp::from_second(time_ms.div_euclid(1000)).unwrap_or_default();
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The ARN of a bus.
pub fn bus_arn(cloud: &Cloud, bus: &str) -> String {
    cloud.arn("events", &format!("event-bus/{bus}"))
}

/// The ARN of a rule; the default bus is not named in it.
pub fn rule_arn(cloud: &Cloud, bus: &str, rule: &str) -> String {
    let path = if bus == DEFAULT { rule.to_owned() } else { format!("{bus}/{rule}") };
    cloud.arn("events", &format!("rule/{path}"))
}

/// The name in a bus's name or ARN; the default bus where none is given.
pub fn bus_name(name_or_arn: Option<&str>) -> String {
    let name = name_or_arn.unwrap_or(DEFAULT);
    name.split_once(":event-bus/").map_or(name, |(_, name)| name).to_owned()
}

/// The bus of that name.
pub fn find(cloud: &Cloud, name_or_arn: Option<&str>) -> Result<store::Bus, AwsError> {
    let name = bus_name(name_or_arn);
    cloud.store.read(|db| store::bus(db, &name))?.ok_or_else(|| {
        AwsError::client("ResourceNotFoundException", format!("Event bus {name} does not exist."))
    })
}

/// The default bus is made when the store is opened, which knows no time.
pub fn date_default(cloud: &Cloud) -> Result<(), StoreError> {
    let now_ms = cloud.clock.now_ms();
    cloud.store.write(|tx| {
        tx.execute("UPDATE events_buses SET created_ms = ?1 WHERE created_ms = 0", [now_ms]).map(|_| ())
    })
}

/// <https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_CreateEventBus.html>
pub fn check_name(name: &str) -> Result<(), String> {
    if name.contains('/') {
        // Only the buses of partners have one.
        return Err("Event bus name must not contain '/'.".into());
    }
    super::api::check_name(name, "name", 256)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Create {
    name: String,
    description: Option<String>,
    #[serde(default)]
    tags: Tags,
}

pub fn create(cloud: &Cloud, input: Value) -> Result<Value, AwsError> {
    let input: Create = read_input(input)?;
    let name = input.name;
    check_name(&name).map_err(invalid)?;
    if find(cloud, Some(&name)).is_ok() {
        let message = format!("Event bus {name} already exists.");
        return Err(AwsError::client("ResourceAlreadyExistsException", message));
    }
    let arn = bus_arn(cloud, &name);
    let description = input.description;
    let bus =
        store::Bus { name, description, tags: tag_object(input.tags), created_ms: cloud.clock.now_ms() };
    cloud.store.write(|tx| store::put_bus(tx, &bus))?;
    let mut answer = json!({ "EventBusArn": arn });
    if let Some(description) = bus.description {
        answer["Description"] = description.into();
    }
    Ok(answer)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Named {
    name: Option<String>,
}

pub fn delete(cloud: &Cloud, input: Value) -> Result<Value, AwsError> {
    let input: Named = read_input(input)?;
    let name = bus_name(input.name.as_deref());
    if name == DEFAULT {
        return Err(invalid("Cannot delete event bus default."));
    }
    let rules = cloud.store.read(|db| store::rules(db, &name))?;
    if !rules.is_empty() {
        return Err(invalid("Event bus can't be deleted since it has rules."));
    }
    // Deleting a bus that is not there succeeds on AWS too.
    cloud.store.write(|tx| tx.execute("DELETE FROM events_buses WHERE name = ?1", [&name]))?;
    cloud.state::<crate::eventbridge::State>().routes.clear();
    Ok(json!({}))
}

pub fn describe(cloud: &Cloud, input: Value) -> Result<Value, AwsError> {
    let input: Named = read_input(input)?;
    view(cloud, &find(cloud, input.name.as_deref())?)
}

fn view(cloud: &Cloud, bus: &store::Bus) -> Result<Value, AwsError> {
    let created = bus.created_ms as f64 / 1000.0;
    let mut view = json!({
        "Name": bus.name,
        "Arn": bus_arn(cloud, &bus.name),
        "CreationTime": created,
        "LastModifiedTime": created,
    });
    if let Some(description) = &bus.description {
        view["Description"] = description.clone().into();
    }
    if let Some(policy) = policy::document(cloud, &bus.name)? {
        view["Policy"] = policy.into();
    }
    Ok(view)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct List {
    name_prefix: Option<String>,
    next_token: Option<String>,
    limit: Option<usize>,
}

pub fn list(cloud: &Cloud, input: Value) -> Result<Value, AwsError> {
    let input: List = read_input(input)?;
    let prefix = input.name_prefix.unwrap_or_default();
    let buses = cloud.store.read(store::buses)?;
    let buses = buses.into_iter().filter(|bus| bus.name.starts_with(&prefix));
    let buses: Result<_, AwsError> = buses.map(|bus| Ok((bus.name.clone(), view(cloud, &bus)?))).collect();
    page("EventBuses", buses?, input.next_token, input.limit)
}
