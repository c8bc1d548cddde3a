//! Actions on rules and their targets.

use cloud_core::{AwsError, Cloud};
use cloud_languages::event_pattern::Pattern;
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::{Tags, invalid, page, read_input, tag_list, tag_object, violated};
use super::bus::{self, rule_arn};
use super::model::{Target, parse_pattern};
use super::store;

/// <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-quota.html>
const MAX_TARGETS: usize = 5;

/// The rule of that name on that bus.
fn find(cloud: &Cloud, bus: Option<&str>, name: &str) -> Result<store::Rule, AwsError> {
    let bus = bus::find(cloud, bus)?.name;
    let rules = cloud.store.read(|db| store::rules(db, &bus))?;
    rules.into_iter().find(|rule| rule.name == name).ok_or_else(|| {
        let message = format!("Rule {name} does not exist on EventBus {bus}.");
        AwsError::client("ResourceNotFoundException", message)
    })
}

pub fn invalid_pattern(reason: &str) -> AwsError {
    AwsError::client("InvalidEventPatternException", format!("Event pattern is not valid. Reason: {reason}"))
}

/// <https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutRule.html>
pub fn check_name(name: &str) -> Result<(), String> {
    super::api::check_name(name, "name", 64)
}

const STATES: [&str; 3] = ["ENABLED", "DISABLED", "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS"];

/// Only the first two states are emulated.
pub fn check_state(state: &str) -> Result<(), String> {
    match STATES.iter().position(|known| *known == state) {
        Some(0 | 1) => Ok(()),
        Some(_) => Err(format!("the state {state} is not emulated")),
        None => {
            let constraint = format!("Member must satisfy enum value set: [{}]", STATES.join(", "));
            Err(super::api::violation(state, "state", &constraint))
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct PutRule {
    name: String,
    event_bus_name: Option<String>,
    event_pattern: Option<String>,
    schedule_expression: Option<String>,
    state: Option<String>,
    description: Option<String>,
    role_arn: Option<String>,
    #[serde(default)]
    tags: Tags,
}

pub fn put_rule(cloud: &Cloud, input: Value) -> Result<Value, AwsError> {
    let input: PutRule = read_input(input)?;
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
    let bus = bus::find(cloud, input.event_bus_name.as_deref())?.name;
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
    cloud.state::<crate::eventbridge::State>().routes.clear();
    Ok(json!({ "RuleArn": rule_arn(cloud, &rule.bus, &rule.name) }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Named {
    name: String,
    event_bus_name: Option<String>,
    /// No effect here: there are no managed rules.
    #[serde(rename = "Force")]
    _force: Option<bool>,
}

pub fn delete_rule(cloud: &Cloud, input: Value) -> Result<Value, AwsError> {
    let input: Named = read_input(input)?;
    let bus = bus::find(cloud, input.event_bus_name.as_deref())?.name;
    // "Before you can delete the rule, you must remove all targets."
    if !cloud.store.read(|db| store::targets(db, &bus, &input.name))?.is_empty() {
        return Err(invalid("Rule can't be deleted since it has targets."));
    }
    cloud.store.write(|tx| {
        tx.execute("DELETE FROM events_rules WHERE bus = ?1 AND name = ?2", [&bus, &input.name])
    })?;
    cloud.state::<crate::eventbridge::State>().routes.clear();
    Ok(json!({}))
}

pub fn set_state(cloud: &Cloud, input: Value, state: &str) -> Result<Value, AwsError> {
    let input: Named = read_input(input)?;
    let rule = find(cloud, input.event_bus_name.as_deref(), &input.name)?;
    cloud.store.write(|tx| store::put_rule(tx, &store::Rule { state: state.to_owned(), ..rule }))?;
    cloud.state::<crate::eventbridge::State>().routes.clear();
    Ok(json!({}))
}

pub fn describe_rule(cloud: &Cloud, input: Value) -> Result<Value, AwsError> {
    let input: Named = read_input(input)?;
    let rule = find(cloud, input.event_bus_name.as_deref(), &input.name)?;
    let mut view = view(cloud, &rule);
    view["CreatedBy"] = cloud.settings.account.clone().into();
    Ok(view)
}

fn view(cloud: &Cloud, rule: &store::Rule) -> Value {
    let mut view = json!({
        "Name": rule.name,
        "Arn": rule_arn(cloud, &rule.bus, &rule.name),
        "EventPattern": rule.pattern,
        "State": rule.state,
        "EventBusName": rule.bus,
    });
    for (name, member) in [("Description", &rule.description), ("RoleArn", &rule.role_arn)] {
        if let Some(member) = member {
            view[name] = member.clone().into();
        }
    }
    view
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct List {
    name_prefix: Option<String>,
    event_bus_name: Option<String>,
    next_token: Option<String>,
    limit: Option<usize>,
}

pub fn list_rules(cloud: &Cloud, input: Value) -> Result<Value, AwsError> {
    let input: List = read_input(input)?;
    let bus = bus::find(cloud, input.event_bus_name.as_deref())?.name;
    let prefix = input.name_prefix.unwrap_or_default();
    let rules = cloud.store.read(|db| store::rules(db, &bus))?;
    let rules = rules.iter().filter(|rule| rule.name.starts_with(&prefix));
    let rules = rules.map(|rule| (rule.name.clone(), view(cloud, rule))).collect();
    page("Rules", rules, input.next_token, input.limit)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct ListNames {
    target_arn: String,
    event_bus_name: Option<String>,
    next_token: Option<String>,
    limit: Option<usize>,
}

pub fn list_rule_names(cloud: &Cloud, input: Value) -> Result<Value, AwsError> {
    let input: ListNames = read_input(input)?;
    let bus = bus::find(cloud, input.event_bus_name.as_deref())?.name;
    let mut names = Vec::new();
    for rule in cloud.store.read(|db| store::rules(db, &bus))? {
        let targets = cloud.store.read(|db| store::targets(db, &bus, &rule.name))?;
        if targets.iter().any(|target| target.arn == input.target_arn) {
            names.push((rule.name.clone(), rule.name.into()));
        }
    }
    page("RuleNames", names, input.next_token, input.limit)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct ListTargets {
    rule: String,
    event_bus_name: Option<String>,
    next_token: Option<String>,
    limit: Option<usize>,
}

pub fn list_targets(cloud: &Cloud, input: Value) -> Result<Value, AwsError> {
    let input: ListTargets = read_input(input)?;
    let rule = find(cloud, input.event_bus_name.as_deref(), &input.rule)?;
    let targets = cloud.store.read(|db| store::targets(db, &rule.bus, &rule.name))?;
    let targets = targets.into_iter().map(|target| (target.id.clone(), json!(target))).collect();
    page("Targets", targets, input.next_token, input.limit)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct PutTargets {
    rule: String,
    event_bus_name: Option<String>,
    targets: Vec<Target>,
}

pub fn put_targets(cloud: &Cloud, input: Value) -> Result<Value, AwsError> {
    let input: PutTargets = read_input(input)?;
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
    cloud.state::<crate::eventbridge::State>().routes.clear();
    Ok(json!({ "FailedEntryCount": 0, "FailedEntries": [] }))
}

/// Ids are unique and there are 1 to 5 targets that each can be honoured.
pub fn check_targets(targets: &[Target]) -> Result<(), String> {
    if !(1..=MAX_TARGETS).contains(&targets.len()) {
        return Err(format!("a rule takes 1 to {MAX_TARGETS} targets"));
    }
    for (index, target) in targets.iter().enumerate() {
        super::api::check_name(&target.id, &format!("targets.{}.member.id", index + 1), 64)?;
        if targets[..index].iter().any(|other| other.id == target.id) {
            return Err(format!("The target id {} is there twice.", target.id));
        }
        target.check(&format!("targets.{}.member", index + 1))?;
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct RemoveTargets {
    rule: String,
    event_bus_name: Option<String>,
    ids: Vec<String>,
    /// No effect here: there are no managed rules.
    #[serde(rename = "Force")]
    _force: Option<bool>,
}

pub fn remove_targets(cloud: &Cloud, input: Value) -> Result<Value, AwsError> {
    let input: RemoveTargets = read_input(input)?;
    let rule = find(cloud, input.event_bus_name.as_deref(), &input.rule)?;
    cloud.store.write(|tx| {
        for id in &input.ids {
            tx.execute(
                "DELETE FROM events_targets WHERE bus = ?1 AND rule = ?2 AND id = ?3",
                [&rule.bus, &rule.name, id],
            )?;
        }
        Ok(())
    })?;
    cloud.state::<crate::eventbridge::State>().routes.clear();
    Ok(json!({ "FailedEntryCount": 0, "FailedEntries": [] }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct TestPattern {
    event_pattern: String,
    event: String,
}

/// AWS's reference lists `resources` among the members that an event must have; recorded
/// answers of AWS show that it may be missing.
/// <https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_TestEventPattern.html>
pub fn test_pattern(input: Value) -> Result<Value, AwsError> {
    let input: TestPattern = read_input(input)?;
    let pattern: Pattern = parse_pattern(&input.event_pattern).map_err(|reason| invalid_pattern(&reason))?;
    let event: Value = serde_json::from_str(&input.event).unwrap_or_default();
    for member in ["id", "account", "source", "time", "region", "detail-type"] {
        if event.get(member).is_none() {
            return Err(invalid("Parameter Event is not valid."));
        }
    }
    Ok(json!({ "Result": pattern.matches(&event) }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Tagging {
    #[serde(rename = "ResourceARN")]
    arn: String,
    #[serde(default)]
    tags: Tags,
    #[serde(default)]
    tag_keys: Vec<String>,
}

pub fn list_tags(cloud: &Cloud, input: Value) -> Result<Value, AwsError> {
    let input: Tagging = read_input(input)?;
    Ok(json!({ "Tags": tag_list(&tagged(cloud, &input.arn)?.tags().clone()) }))
}

pub fn tag(cloud: &Cloud, input: Value) -> Result<Value, AwsError> {
    let input: Tagging = read_input(input)?;
    let mut resource = tagged(cloud, &input.arn)?;
    if let (Value::Object(tags), Value::Object(more)) = (resource.tags(), tag_object(input.tags)) {
        tags.extend(more);
    }
    resource.save(cloud)
}

pub fn untag(cloud: &Cloud, input: Value) -> Result<Value, AwsError> {
    let input: Tagging = read_input(input)?;
    let mut resource = tagged(cloud, &input.arn)?;
    if let Value::Object(tags) = resource.tags() {
        tags.retain(|key, _| !input.tag_keys.contains(key));
    }
    resource.save(cloud)
}

enum Tagged {
    Bus(store::Bus),
    Rule(store::Rule),
}

impl Tagged {
    fn tags(&mut self) -> &mut Value {
        match self {
            Self::Bus(bus) => &mut bus.tags,
            Self::Rule(rule) => &mut rule.tags,
        }
    }

    fn save(self, cloud: &Cloud) -> Result<Value, AwsError> {
        match self {
            Self::Bus(bus) => cloud.store.write(|tx| store::put_bus(tx, &bus).map(|_| ()))?,
            Self::Rule(rule) => cloud.store.write(|tx| store::put_rule(tx, &rule))?,
        }
        Ok(json!({}))
    }
}

fn tagged(cloud: &Cloud, arn: &str) -> Result<Tagged, AwsError> {
    if arn.contains(":event-bus/") {
        return bus::find(cloud, Some(arn)).map(Tagged::Bus);
    }
    match arn.split_once(":rule/").map(|(_, path)| path.rsplit_once('/').unwrap_or((bus::DEFAULT, path))) {
        Some((bus, rule)) => find(cloud, Some(bus), rule).map(Tagged::Rule),
        None => Err(AwsError::client("ResourceNotFoundException", format!("{arn} does not exist."))),
    }
}
