//! The `Rules` of a template: assertions on its parameters and on the account and region, before any resource
//! is made. `Fn::Contains` is emulated; other functions, and conditions of rules, are refused by name.
//! <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/rules-section-structure.html>

use cloud_core::resource::Refusal;
use serde_json::Value;

use crate::template::document::object;
use crate::template::evaluate::{Evaluator, Scope};
use crate::template::place::Place;

/// Refuses a stack with the words of the first assertion that does not hold.
pub(crate) fn check(scope: &Scope<'_>) -> Result<(), Refusal> {
    for (name, rule) in &scope.template.rules {
        let at = scope.place.key("Rules").key(name);
        let rule = object(rule.clone(), &at)?;
        at.check_keys(&rule, &["Assertions"], "is not emulated in a rule")?;
        let at = at.key("Assertions");
        let Some(Value::Array(assertions)) = rule.get("Assertions") else {
            return Err(at.refuse("must be a list"));
        };
        for (index, assertion) in assertions.iter().enumerate() {
            let at = at.item(index);
            if !holds(scope, &assertion["Assert"], &at.key("Assert"))? {
                let why = assertion["AssertDescription"].as_str().unwrap_or("does not hold");
                return Err(at.refuse(why));
            }
        }
    }
    Ok(())
}

fn holds(scope: &Scope<'_>, expression: &Value, at: &Place) -> Result<bool, Refusal> {
    let arguments =
        expression.as_object().filter(|map| map.len() == 1).and_then(|map| map.get("Fn::Contains"));
    let Some([Value::Array(texts), text]) = arguments.and_then(Value::as_array).map(Vec::as_slice) else {
        let reason = "must be Fn::Contains: [a list of texts, a text]; others are not emulated";
        return Err(at.refuse(reason));
    };
    let evaluator = Evaluator::without_resources(scope);
    let text = evaluator.text(text, at)?;
    let texts = texts.iter().map(|item| evaluator.text(item, at)).collect::<Result<Vec<_>, _>>()?;
    Ok(texts.contains(&text))
}
