//! The limits of a rule's name, pattern, state and targets, for templates and API calls.

use cloud_core::api::check_enum;
use cloud_languages::event_pattern::Pattern;
use serde_json::Value;

use super::names;
use super::target::Target;

/// <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-quota.html>
const MAX_PATTERN_LENGTH: usize = 2048;
/// The same page.
pub const MAX_TARGETS: usize = 5;

const STATES: [&str; 3] = ["ENABLED", "DISABLED", "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS"];

/// <https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutRule.html>
pub fn check_name(name: &str) -> Result<(), String> {
    names::check("name", name, 64)
}

/// Only the first two states are emulated.
pub fn check_state(state: &str) -> Result<(), String> {
    check_enum("state", Some(state), &STATES)?;
    if state == STATES[2] { Err(format!("the state {state} is not emulated")) } else { Ok(()) }
}

/// Reads a pattern's text. The error is the reason for an `InvalidEventPatternException`.
pub fn parse_pattern(text: &str) -> Result<Pattern, String> {
    if text.len() > MAX_PATTERN_LENGTH {
        return Err(format!("the event pattern is longer than {MAX_PATTERN_LENGTH} characters"));
    }
    let pattern: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    Pattern::parse(&pattern)
}

/// Checks that there are 1 to 5 valid targets with different ids.
pub fn check_targets(targets: &[Target]) -> Result<(), String> {
    if !(1..=MAX_TARGETS).contains(&targets.len()) {
        return Err(format!("a rule takes 1 to {MAX_TARGETS} targets"));
    }
    for (index, target) in targets.iter().enumerate() {
        let member = format!("targets.{}.member", index + 1);
        names::check(&format!("{member}.id"), &target.id, 64)?;
        if targets[..index].iter().any(|other| other.id == target.id) {
            return Err(format!("The target id {} is there twice.", target.id));
        }
        target.check(&member)?;
    }
    Ok(())
}
