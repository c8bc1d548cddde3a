//! Routes an event on a bus: which archives keep it, which targets get it. The event's archive copies and
//! its deliveries are stored in one transaction.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use cloud_core::Cloud;
use cloud_core::store::StoreError;
use cloud_languages::event_pattern::Pattern;
use rusqlite::Transaction;
use serde_json::Value;

use super::names::rule_arn;
use super::rule::parse_pattern;
use super::target::Target;
use super::wake::Bell;
use super::{event, store};

/// The parsed rules and archives of a bus.
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

/// The routes of each bus, until a rule or an archive changes.
#[derive(Debug, Default)]
pub struct Cache(Mutex<HashMap<String, Arc<Routes>>>);

impl Cache {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Routes>>> {
        cloud_core::lock(&self.0)
    }

    fn routes(&self, cloud: &Cloud, bus: &str) -> Result<Arc<Routes>, StoreError> {
        // The lock is held while rules are read, so that a change cannot slip in between.
        let mut cache = self.lock();
        if let Some(routes) = cache.get(bus) {
            return Ok(routes.clone());
        }
        let routes = Arc::new(Routes::read(cloud, bus)?);
        cache.insert(bus.to_owned(), routes.clone());
        Ok(routes)
    }
}

/// Reads the rules anew for the next event, since they have changed.
pub fn forget(cloud: &Cloud) {
    cloud.state::<Cache>().lock().clear();
}

/// Where an event on a bus came from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Origin<'a> {
    /// PutEvents, or an AWS service.
    Put,
    /// Another bus.
    Bus,
    /// An archive, for the rules with these ARNs only; for all if there are none.
    Replay(&'a [String]),
}

/// Puts events onto buses. `also` is the caller's own change, in the same transaction.
pub fn publish(
    cloud: &Arc<Cloud>,
    batches: &[(&str, &[Value])],
    origin: Origin<'_>,
    also: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>,
) -> Result<(), StoreError> {
    let mut prepared = Vec::new();
    for (bus, events) in batches {
        let routes = cloud.state::<Cache>().routes(cloud, bus)?;
        prepared.extend(events.iter().map(|event| (*bus, routes.clone(), event)));
    }
    let now_ms = cloud.clock.now_ms();
    let mut woken = BTreeSet::new();
    cloud.store.write(|tx| {
        for (bus, routes, event) in &prepared {
            let text = event.to_string();
            // Replayed events are not archived again.
            // https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-archive.html
            if !matches!(origin, Origin::Replay(_)) {
                routes.archive(tx, event, &text, now_ms)?;
            }
            for (rule_arn, target) in routes.targets(bus, event, origin) {
                for due_ms in cloud.faults.deliveries(now_ms) {
                    store::add_delivery(tx, target, rule_arn, &text, now_ms, due_ms)?;
                }
                woken.insert(target.arn.clone());
            }
        }
        also(tx)
    })?;
    if matches!(origin, Origin::Put) {
        prepared.iter().for_each(|_| cloud.counters.event());
    }
    woken.into_iter().for_each(|target_arn| cloud.state::<Bell>().ring(target_arn));
    Ok(())
}

impl Routes {
    fn read(cloud: &Cloud, bus: &str) -> Result<Self, StoreError> {
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
        Ok(Self { rules: rules.collect(), archives: archives.collect() })
    }

    fn archive(&self, tx: &Transaction<'_>, event: &Value, text: &str, now_ms: i64) -> rusqlite::Result<()> {
        let time_ms = event::time_ms(&event["time"]).unwrap_or(now_ms);
        let wanted =
            |pattern: &Option<Pattern>| pattern.as_ref().is_none_or(|pattern| pattern.matches(event));
        let mut archives = self.archives.iter().filter(|(_, pattern)| wanted(pattern));
        archives.try_for_each(|(archive, _)| store::archive_event(tx, archive, time_ms, text))
    }

    /// The targets that get an event, each with the ARN of its rule.
    fn targets(&self, bus: &str, event: &Value, origin: Origin<'_>) -> Vec<(&str, &Target)> {
        let detail_type = event["detail-type"].as_str().unwrap_or_default();
        let id = event["id"].as_str().unwrap_or_default();
        let chosen = |rule: &Route| match origin {
            Origin::Replay(only) => only.is_empty() || only.contains(&rule.rule_arn),
            Origin::Put | Origin::Bus => true,
        };
        let mut targets = Vec::new();
        for rule in self.rules.iter().filter(|rule| rule.pattern.matches(event) && chosen(rule)) {
            tracing::info!(target: "hop", service = "events", resource = %bus, rule = %rule.rule_arn, event = %id, "{detail_type} matched");
            for target in &rule.targets {
                // "EventBridge can't route events received from a sender event bus to a third event bus."
                // https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-bus-to-bus.html
                if origin == Origin::Bus && target.arn.contains(":event-bus/") {
                    tracing::warn!(target: "hop", service = "events", resource = %bus, event = %id, "{detail_type} is not sent on to a third bus");
                } else {
                    targets.push((rule.rule_arn.as_str(), target));
                }
            }
        }
        targets
    }
}
