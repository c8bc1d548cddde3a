//! Actions on rules and their targets.

use cloud_core::api::{Tag, tag_list, tag_object, violated};
use cloud_core::{AwsError, Cloud};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{invalid, invalid_pattern, page, with_texts};
use crate::eventbridge::names::{find_bus, rule_arn};
use crate::eventbridge::rule::{MAX_TARGETS, check_name, check_state, check_targets, parse_pattern};
use crate::eventbridge::store::DEFAULT_BUS;
use crate::eventbridge::target::Target;
use crate::eventbridge::{routing, store};

fn find(cloud: &Cloud, bus: Option<&str>, name: &str) -> Result<store::Rule, AwsError> {
    let bus = find_bus(cloud, bus)?.name;
    cloud.store.read(|db| store::rule(db, &bus, name))?.ok_or_else(|| {
        let message = format!("Rule {name} does not exist on EventBus {bus}.");
        AwsError::client("ResourceNotFoundException", message)
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct PutRule {
    name: String,
    event_bus_name: Option<String>,
    event_pattern: Option<String>,
    schedule_expression: Option<String>,
    state: Option<String>,
    description: Option<String>,
    role_arn: Option<String>,
    #[serde(default)]
    tags: Vec<Tag>,
}

pub fn put(cloud: &Cloud, input: PutRule) -> Result<Value, AwsError> {
    check_name(&input.name).map_err(invalid)?;
    if input.schedule_expression.is_some() {
        return Err(invalid("ScheduleExpression is not emulated by the local cloud."));
    }
    let pattern = input
        .event_pattern
        .ok_or_else(|| invalid("Parameter(s) EventPattern or ScheduleExpression must be specified."))?;
    parse_pattern(&pattern).map_err(|reason| invalid_pattern(&reason))?;
    let state = input.state.unwrap_or_else(|| "ENABLED".into());
    check_state(&state).map_err(invalid)?;
    let bus = find_bus(cloud, input.event_bus_name.as_deref())?.name;
    let before = find(cloud, Some(&bus), &input.name).ok();
    let rule = store::Rule {
        bus,
        name: input.name,
        description: input.description,
        pattern,
        state,
        role_arn: input.role_arn,
        // "If you are updating an existing rule, the tags [...] are ignored."
        tags: before.as_ref().map_or_else(|| tag_object(input.tags), |before| before.tags.clone()),
        from_template: before.as_ref().is_some_and(|before| before.from_template),
        declared_state: before.and_then(|before| before.declared_state),
    };
    cloud.store.write(|tx| store::put_rule(tx, &rule))?;
    routing::forget(cloud);
    Ok(json!({ "RuleArn": rule_arn(cloud, &rule.bus, &rule.name) }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct OneRule {
    name: String,
    event_bus_name: Option<String>,
    /// No effect here: there are no managed rules.
    #[serde(rename = "Force")]
    _force: Option<bool>,
}

pub fn delete(cloud: &Cloud, input: OneRule) -> Result<Value, AwsError> {
    let bus = find_bus(cloud, input.event_bus_name.as_deref())?.name;
    // "Before you can delete the rule, you must remove all targets."
    if !cloud.store.read(|db| store::targets(db, &bus, &input.name))?.is_empty() {
        return Err(invalid("Rule can't be deleted since it has targets."));
    }
    cloud.store.write(|tx| {
        tx.execute("DELETE FROM events_rules WHERE bus = ?1 AND name = ?2", [&bus, &input.name])
    })?;
    routing::forget(cloud);
    Ok(json!({}))
}

pub fn set_state(cloud: &Cloud, input: OneRule, state: &str) -> Result<Value, AwsError> {
    let rule = find(cloud, input.event_bus_name.as_deref(), &input.name)?;
    cloud.store.write(|tx| store::put_rule(tx, &store::Rule { state: state.to_owned(), ..rule }))?;
    routing::forget(cloud);
    Ok(json!({}))
}

pub fn describe(cloud: &Cloud, input: OneRule) -> Result<Value, AwsError> {
    let rule = find(cloud, input.event_bus_name.as_deref(), &input.name)?;
    let mut view = view(cloud, rule);
    view["CreatedBy"] = cloud.settings.account.clone().into();
    Ok(view)
}

fn view(cloud: &Cloud, rule: store::Rule) -> Value {
    let view = json!({
        "Arn": rule_arn(cloud, &rule.bus, &rule.name),
        "Name": rule.name,
        "EventPattern": rule.pattern,
        "State": rule.state,
        "EventBusName": rule.bus,
    });
    with_texts(view, [("Description", rule.description), ("RoleArn", rule.role_arn)])
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct List {
    #[serde(default)]
    name_prefix: String,
    event_bus_name: Option<String>,
    next_token: Option<String>,
    limit: Option<i64>,
}

pub fn list(cloud: &Cloud, input: List) -> Result<Value, AwsError> {
    let bus = find_bus(cloud, input.event_bus_name.as_deref())?.name;
    let rules = cloud.store.read(|db| store::rules(db, &bus))?;
    let rules = rules.into_iter().filter(|rule| rule.name.starts_with(&input.name_prefix));
    let rules = rules.map(|rule| (rule.name.clone(), view(cloud, rule))).collect();
    page("Rules", rules, input.next_token, input.limit)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct ListTargets {
    rule: String,
    event_bus_name: Option<String>,
    next_token: Option<String>,
    limit: Option<i64>,
}

pub fn list_targets(cloud: &Cloud, input: ListTargets) -> Result<Value, AwsError> {
    let rule = find(cloud, input.event_bus_name.as_deref(), &input.rule)?;
    let targets = cloud.store.read(|db| store::targets(db, &rule.bus, &rule.name))?;
    let targets = targets.into_iter().map(|target| (target.id.clone(), json!(target))).collect();
    page("Targets", targets, input.next_token, input.limit)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct PutTargets {
    rule: String,
    event_bus_name: Option<String>,
    targets: Vec<Target>,
}

pub fn put_targets(cloud: &Cloud, input: PutTargets) -> Result<Value, AwsError> {
    let rule = find(cloud, input.event_bus_name.as_deref(), &input.rule)?;
    if input.targets.is_empty() {
        return Err(violated("[]", "targets", "Member must have length greater than or equal to 1"));
    }
    let before = cloud.store.read(|db| store::targets(db, &rule.bus, &rule.name))?;
    let kept = before.iter().filter(|old| !input.targets.iter().any(|new| new.id == old.id)).count();
    if kept + input.targets.len() > MAX_TARGETS {
        let message = "The requested resource exceeds the maximum number allowed.";
        return Err(AwsError::client("LimitExceededException", message));
    }
    check_targets(&input.targets).map_err(invalid)?;
    cloud.store.write(|tx| {
        input.targets.iter().try_for_each(|target| store::put_target(tx, &rule.bus, &rule.name, target))
    })?;
    routing::forget(cloud);
    Ok(json!({ "FailedEntryCount": 0, "FailedEntries": [] }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct RemoveTargets {
    rule: String,
    event_bus_name: Option<String>,
    ids: Vec<String>,
    /// No effect here: there are no managed rules.
    #[serde(rename = "Force")]
    _force: Option<bool>,
}

pub fn remove_targets(cloud: &Cloud, input: RemoveTargets) -> Result<Value, AwsError> {
    let rule = find(cloud, input.event_bus_name.as_deref(), &input.rule)?;
    cloud.store.write(|tx| {
        let sql = "DELETE FROM events_targets WHERE bus = ?1 AND rule = ?2 AND id = ?3";
        input.ids.iter().try_for_each(|id| tx.execute(sql, [&rule.bus, &rule.name, id]).map(drop))
    })?;
    routing::forget(cloud);
    Ok(json!({ "FailedEntryCount": 0, "FailedEntries": [] }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct TestPattern {
    event_pattern: String,
    event: String,
}

/// AWS's reference lists `resources` among the members that an event must have; recorded answers of AWS
/// show that it may be missing.
/// <https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_TestEventPattern.html>
pub fn test_pattern(input: &TestPattern) -> Result<Value, AwsError> {
    let pattern = parse_pattern(&input.event_pattern).map_err(|reason| invalid_pattern(&reason))?;
    let event: Value = serde_json::from_str(&input.event).unwrap_or_default();
    let required = ["id", "account", "source", "time", "region", "detail-type"];
    if required.iter().any(|member| event.get(member).is_none()) {
        return Err(invalid("Parameter Event is not valid."));
    }
    Ok(json!({ "Result": pattern.matches(&event) }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListTags {
    #[serde(rename = "ResourceARN")]
    arn: String,
}

/// The tags of a bus or a rule.
pub fn list_tags(cloud: &Cloud, ListTags { arn }: ListTags) -> Result<Value, AwsError> {
    let tags = match arn.split_once(":rule/") {
        Some((_, path)) => {
            let (bus, rule) = path.rsplit_once('/').unwrap_or((DEFAULT_BUS, path));
            find(cloud, Some(bus), rule)?.tags
        }
        None if arn.contains(":event-bus/") => find_bus(cloud, Some(&arn))?.tags,
        None => return Err(AwsError::client("ResourceNotFoundException", format!("{arn} does not exist."))),
    };
    Ok(json!({ "Tags": tag_list(&tags) }))
}
