//! Texts with `$context.x` and `$stageVariables.x`, but without directives: the bodies of gateway responses
//! ("The templates are not processed by the VTL engine", guide,
//! "x-amazon-apigateway-gateway-responses.gatewayResponse object") and the formats of access logs.

use cloud_languages::vtl::known_context;
use serde_json::Value;

#[derive(Debug, Clone)]
pub(super) struct Substitution(Vec<Piece>);

#[derive(Debug, Clone)]
enum Piece {
    Text(String),
    Context(String),
    StageVariable(String),
}

/// Members of `$context` about the error of a gateway response.
const ERROR: [&str; 4] =
    ["error.message", "error.messageString", "error.responseType", "error.validationErrorString"];

/// Members of `$context` for access logs only. The log has `-` for those that this API never has.
#[rustfmt::skip]
const LOG: [&str; 12] = [
    "status", "responseLength", "responseLatency", "integrationLatency", "integrationStatus",
    "integrationErrorMessage", "integration.latency", "integration.status", "integration.integrationStatus",
    "integration.error", "integration.requestId", "xrayTraceId",
];

/// Where the text is used, which decides what it may read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Place {
    GatewayResponse,
    AccessLog,
}

impl Substitution {
    pub fn parse(text: &str, place: Place) -> Result<Self, String> {
        if let Some(directive) = ["#set", "#if", "#foreach"].into_iter().find(|word| text.contains(word)) {
            return Err(format!(
                "{directive} would have no effect: the VTL engine does not process this text"
            ));
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            pieces.push(Piece::Text(rest[..at].to_owned()));
            let name = &rest[at + 1..];
            let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '.' && c != '_');
            // A full stop at the end of a sentence is not part of the name.
            let name = name[..end.unwrap_or(name.len())].trim_end_matches('.');
            let known = |path: &&str| {
                known_context(path)
                    || ERROR.contains(path)
                    || (place == Place::AccessLog && LOG.contains(path))
            };
            pieces.push(if name.is_empty() {
                Piece::Text("$".into())
            } else if let Some(path) = name.strip_prefix("context.").filter(known) {
                Piece::Context(path.to_owned())
            } else if let Some(variable) = name.strip_prefix("stageVariables.") {
                Piece::StageVariable(variable.to_owned())
            } else {
                return Err(format!("${name} is not emulated"));
            });
            rest = &rest[at + 1 + name.len()..];
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Ok(Self(pieces))
    }

    /// Writes the text; `missing` stands for what has no value.
    pub fn write(&self, context: &Value, stage_variables: &Value, missing: &str) -> String {
        self.0
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => text.clone(),
                Piece::Context(path) => value_text(context_value(context, path), missing),
                Piece::StageVariable(name) => value_text(stage_variables.get(name), missing),
            })
            .collect()
    }

    pub fn reads(&self, path: &str) -> bool {
        self.0.iter().any(|piece| matches!(piece, Piece::Context(other) if other == path))
    }
}

/// The member of `$context` at a dotted path.
pub(super) fn context_value<'c>(context: &'c Value, path: &str) -> Option<&'c Value> {
    path.split('.').try_fold(context, |value, name| value.get(name))
}

/// A text as it is, any other value as JSON; `missing` for null and an empty text.
pub(super) fn value_text(value: Option<&Value>, missing: &str) -> String {
    match value {
        None | Some(Value::Null) => missing.to_owned(),
        Some(Value::String(text)) if text.is_empty() => missing.to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn context_and_stage_variables_are_written_and_the_rest_stays() {
        let text = "{\"m\":$context.error.messageString,\"v\":\"$stageVariables.v\"} 5$.";
        let text = Substitution::parse(text, Place::GatewayResponse).unwrap();
        let context = json!({"error": {"messageString": "\"no\""}});
        assert_eq!(text.write(&context, &json!({"v": "1"}), ""), "{\"m\":\"no\",\"v\":\"1\"} 5$.");
    }

    #[test]
    fn an_access_log_writes_a_dash_for_what_is_not_there() {
        let text = Substitution::parse("$context.identity.caller $context.status", Place::AccessLog).unwrap();
        assert_eq!(text.write(&json!({"status": 200}), &json!({}), "-"), "- 200");
    }

    #[test]
    fn an_unknown_name_and_a_directive_are_refused() {
        let refuse = |text| Substitution::parse(text, Place::GatewayResponse).unwrap_err();
        assert!(refuse("$context.nothing").contains("$context.nothing"));
        assert!(refuse("$input.body").contains("$input.body"));
        assert!(refuse("#if(true)x#end").contains("#if"));
        assert!(refuse("$context.status").contains("$context.status"));
    }
}
