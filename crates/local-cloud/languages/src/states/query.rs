//! JSONata as Step Functions runs it: `{% %}` strings anywhere in a template, `$states` and variables bound,
//! its own functions added, `$eval` removed. It owns no state; the caller gives the time and a seed, so that
//! the same step gives the same values.

use std::rc::Rc;

use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD, STANDARD};
use cloud_core::random::Random;
use jsonata_core::evaluator::{Context, Evaluator, EvaluatorError, EvaluatorOptions};
use jsonata_core::parser;
use jsonata_core::value::JValue;
use md5::{Digest as _, Md5};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};
use sha2::{Sha256, Sha384, Sha512};

/// Ends an endless recursion; AWS documents no figure.
const TIMEOUT_MS: u64 = 5_000;

/// Why an expression gave no value: `States.QueryEvaluationError`.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryError {
    /// The field, for example `Arguments/Payload/token`.
    pub location: String,
    /// A sentence.
    pub message: String,
}

/// Whether the value is a JSONata string: nothing stands outside of the delimiters.
/// <https://docs.aws.amazon.com/step-functions/latest/dg/transforming-data.html>
pub fn is_expression(value: &Value) -> bool {
    value.as_str().is_some_and(|text| expression(text).is_some())
}

/// The JSONata between the delimiters.
pub fn expression(text: &str) -> Option<&str> {
    text.strip_prefix("{%")?.strip_suffix("%}").map(str::trim)
}

/// Compiles every expression of a template.
///
/// # Errors
/// The code of a diagnostic, the path and the reason of the first fault.
pub fn check(template: &Value, path: &str) -> Result<(), (&'static str, String, String)> {
    match template {
        Value::String(text) => check_text(text).map_err(|(code, reason)| (code, path.to_owned(), reason)),
        Value::Array(items) => {
            items.iter().enumerate().try_for_each(|(index, item)| check(item, &format!("{path}[{index}]")))
        }
        Value::Object(members) => {
            members.iter().try_for_each(|(name, member)| check(member, &format!("{path}.{name}")))
        }
        _ => Ok(()),
    }
}

fn check_text(text: &str) -> Result<(), (&'static str, String)> {
    const INVALID: &str = "INVALID_JSONATA_EXPRESSION";
    let Some(source) = expression(text) else {
        if text.starts_with("{%") || text.ends_with("%}") {
            return Err((INVALID, "a JSONata expression begins with {% and ends with %}".into()));
        }
        return Ok(());
    };
    let ast =
        parser::parse(source).map_err(|error| (INVALID, format!("the JSONata does not compile: {error}")))?;
    match foreign(&serde_json::to_value(&ast).unwrap_or_default()) {
        Some(reason) => Err(("UNSUPPORTED_JSONATA_EXPRESSION", reason.into())),
        None => Ok(()),
    }
}

/// Finds a construct that our JSONata has and that of Step Functions has not: AWS has version 2.0.6, without
/// the operators of 2.1 and without `$eval`. `node` is a syntax tree as JSON.
/// <https://docs.aws.amazon.com/step-functions/latest/dg/transforming-data.html>
fn foreign(node: &Value) -> Option<&'static str> {
    match node {
        Value::Array(parts) => parts.iter().find_map(foreign),
        Value::Object(members) => match (members.get("Binary"), members.get("Function")) {
            (Some(binary), _) if binary["op"] == "Coalesce" => Some("JSONata 2.0.6 has no operator ??"),
            (Some(binary), _) if binary["op"] == "Default" => Some("JSONata 2.0.6 has no operator ?:"),
            (_, Some(function)) if function["name"] == "eval" && function["is_builtin"] == true => {
                Some("$eval does not exist in Step Functions; use $parse")
            }
            _ => members.values().find_map(foreign),
        },
        _ => None,
    }
}

/// The values that the expressions of one state see.
pub struct Query {
    bindings: Vec<(String, JValue)>,
    now_ms: i64,
    random: Rc<Random>,
}

impl Query {
    /// `seed` is for `$uuid` and `$random`.
    pub fn new(states: Value, variables: &Map<String, Value>, now_ms: i64, seed: u64) -> Self {
        let mut bindings: Vec<(String, JValue)> =
            variables.iter().map(|(name, value)| (name.clone(), JValue::from(value.clone()))).collect();
        bindings.push(("states".into(), JValue::from(states)));
        Self { bindings, now_ms, random: Rc::new(Random::seeded(seed)) }
    }

    /// Replaces every expression in the template by its value. `field` names the template in errors.
    ///
    /// # Errors
    /// The first expression that fails or gives nothing.
    pub fn render(&self, template: &Value, field: &str) -> Result<Value, QueryError> {
        match template {
            Value::String(text) => match expression(text) {
                Some(source) => self.evaluate(source, field),
                None => Ok(template.clone()),
            },
            Value::Array(items) => items
                .iter()
                .enumerate()
                .map(|(index, item)| self.render(item, &format!("{field}[{index}]")))
                .collect(),
            Value::Object(members) => Ok(Value::Object(self.render_map(members, field)?)),
            _ => Ok(template.clone()),
        }
    }

    /// [`Query::render`] for each member.
    pub fn render_map(
        &self,
        members: &Map<String, Value>,
        field: &str,
    ) -> Result<Map<String, Value>, QueryError> {
        members
            .iter()
            .map(|(name, member)| Ok((name.clone(), self.render(member, &format!("{field}/{name}"))?)))
            .collect()
    }

    fn evaluate(&self, source: &str, field: &str) -> Result<Value, QueryError> {
        let wrong = |problem: String| QueryError {
            location: field.into(),
            message: format!("The JSONata expression '{source}' specified for the field '{field}' {problem}"),
        };
        let threw = |error: &str| wrong(format!("threw an error during evaluation. {error}"));
        let ast = parser::parse(source).map_err(|error| threw(&error.to_string()))?;
        let mut context = Context::new();
        for (name, value) in &self.bindings {
            context.bind(name.clone(), value.clone());
        }
        let options = EvaluatorOptions { timeout_ms: Some(TIMEOUT_MS), ..EvaluatorOptions::default() };
        let mut evaluator = Evaluator::with_options(context, options);
        self.register(&mut evaluator).map_err(|error| threw(error.message()))?;
        // Step Functions has no context item: `$` and bare names give nothing.
        let value = evaluator.evaluate(&ast, &JValue::Undefined).map_err(|error| threw(error.message()))?;
        if value.is_undefined() {
            return Err(wrong("returned nothing (undefined).".into()));
        }
        json(&value).ok_or_else(|| wrong("returned a value that is not JSON.".into()))
    }

    /// The functions that Step Functions adds to JSONata, and `$eval`, which it removes.
    /// <https://docs.aws.amazon.com/step-functions/latest/dg/transforming-data.html#jsonata-functions-provided-by-sfn>
    fn register(&self, evaluator: &mut Evaluator) -> Result<(), EvaluatorError> {
        evaluator.register_fn("partition", partition)?;
        evaluator.register_fn("range", range)?;
        evaluator.register_fn("hash", hash)?;
        evaluator.register_fn("parse", parse)?;
        let random = self.random.clone();
        evaluator.register_fn("uuid", move |_: &[JValue]| Ok(JValue::from(random.uuid())))?;
        let random = self.random.clone();
        evaluator.register_fn_override("random", move |arguments: &[JValue]| {
            Ok(JValue::from(match arguments.first().and_then(JValue::as_f64) {
                Some(seed) => Random::seeded(seed.to_bits()).fraction(),
                None => random.fraction(),
            }))
        })?;
        let now_ms = self.now_ms;
        evaluator.register_fn_override("millis", move |_: &[JValue]| Ok(JValue::from(now_ms)))?;
        evaluator.register_fn_override("now", move |arguments: &[JValue]| now(now_ms, arguments))?;
        // The library's own differ from the reference (scripts/referees).
        evaluator.register_fn_override("encodeUrl", |arguments: &[JValue]| encode(arguments, URL))?;
        evaluator.register_fn_override("encodeUrlComponent", |arguments: &[JValue]| {
            encode(arguments, COMPONENT)
        })?;
        evaluator.register_fn_override("base64encode", base64_encode)?;
        evaluator.register_fn_override("base64decode", base64_decode)?;
        evaluator.register_fn_override("eval", |_: &[JValue]| {
            Err(error("$eval does not exist in Step Functions; use $parse"))
        })
    }
}

fn error(message: impl Into<String>) -> EvaluatorError {
    EvaluatorError::EvaluationError(message.into())
}

/// `$now` with a picture and a zone is `$fromMillis` of the moment.
fn now(now_ms: i64, arguments: &[JValue]) -> Result<JValue, EvaluatorError> {
    let mut context = Context::new();
    context.bind("moment".into(), JValue::from(now_ms));
    let names = ["picture", "zone"];
    for (name, argument) in names.iter().zip(arguments) {
        context.bind((*name).into(), argument.clone());
    }
    let source = match arguments.len() {
        0 => "$fromMillis($moment)",
        1 => "$fromMillis($moment, $picture)",
        _ => "$fromMillis($moment, $picture, $zone)",
    };
    let ast = parser::parse(source).map_err(|problem| error(problem.to_string()))?;
    Evaluator::with_context(context).evaluate(&ast, &JValue::Undefined)
}

fn partition(arguments: &[JValue]) -> Result<JValue, EvaluatorError> {
    let items =
        arguments.first().and_then(JValue::as_array).ok_or_else(|| error("$partition needs an array"))?;
    let size = arguments
        .get(1)
        .and_then(JValue::as_i64)
        .filter(|size| *size > 0)
        .ok_or_else(|| error("$partition needs a chunk size of 1 or more"))?;
    Ok(JValue::array(items.chunks(size as usize).map(|chunk| JValue::array(chunk.to_vec())).collect()))
}

fn range(arguments: &[JValue]) -> Result<JValue, EvaluatorError> {
    let number = |index: usize| {
        arguments.get(index).and_then(JValue::as_f64).ok_or_else(|| error("$range needs three numbers"))
    };
    let (first, last, step) = (number(0)?, number(1)?, number(2)?);
    if step == 0.0 {
        return Err(error("$range needs a step other than 0"));
    }
    let count = ((last - first) / step).floor();
    if count >= 1_000_000.0 {
        return Err(error("$range gives at most 1,000,000 numbers"));
    }
    let count = if count < 0.0 { 0 } else { count as u64 + 1 };
    Ok(JValue::array((0..count).map(|index| JValue::from(first + step * index as f64)).collect()))
}

fn hash(arguments: &[JValue]) -> Result<JValue, EvaluatorError> {
    let text = arguments.first().and_then(JValue::as_str).ok_or_else(|| error("$hash needs a string"))?;
    let digest = match arguments.get(1).map_or(Some("SHA-1"), JValue::as_str) {
        Some("MD5") => hex::encode(Md5::digest(text)),
        Some("SHA-1") => sha1_smol::Sha1::from(text).digest().to_string(),
        Some("SHA-256") => hex::encode(Sha256::digest(text)),
        Some("SHA-384") => hex::encode(Sha384::digest(text)),
        Some("SHA-512") => hex::encode(Sha512::digest(text)),
        _ => return Err(error("$hash knows MD5, SHA-1, SHA-256, SHA-384 and SHA-512")),
    };
    Ok(JValue::from(digest))
}

/// The characters that JavaScript's `encodeURIComponent` keeps, beside letters and digits.
/// <https://docs.jsonata.org/2.0.0/string-functions#encodeurlcomponent>
#[rustfmt::skip]
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-').remove(b'_').remove(b'.').remove(b'!').remove(b'~')
    .remove(b'*').remove(b'\'').remove(b'(').remove(b')');

/// The characters that `encodeURI` keeps.
#[rustfmt::skip]
const URL: &AsciiSet = &COMPONENT
    .remove(b';').remove(b'/').remove(b'?').remove(b':').remove(b'@').remove(b'&')
    .remove(b'=').remove(b'+').remove(b'$').remove(b',').remove(b'#');

/// The argument of a string function; `None` if it is undefined, which makes the result undefined.
fn text(arguments: &[JValue]) -> Result<Option<&str>, EvaluatorError> {
    match arguments.first() {
        None | Some(JValue::Undefined) => Ok(None),
        Some(argument) => argument.as_str().map(Some).ok_or_else(|| error("this function needs a string")),
    }
}

fn encode(arguments: &[JValue], kept: &'static AsciiSet) -> Result<JValue, EvaluatorError> {
    let encoded = text(arguments)?.map(|text| JValue::from(utf8_percent_encode(text, kept).to_string()));
    Ok(encoded.unwrap_or(JValue::Undefined))
}

/// "Each character in the string is treated as a byte of binary data."
/// <https://docs.jsonata.org/2.0.0/string-functions#base64encode>
fn base64_encode(arguments: &[JValue]) -> Result<JValue, EvaluatorError> {
    let bytes = |text: &str| text.encode_utf16().map(|unit| unit as u8).collect::<Vec<u8>>();
    Ok(text(arguments)?.map_or(JValue::Undefined, |text| JValue::from(STANDARD.encode(bytes(text)))))
}

const LENIENT: GeneralPurpose =
    GeneralPurpose::new(&base64::alphabet::STANDARD, NO_PAD.with_decode_allow_trailing_bits(true));

fn base64_decode(arguments: &[JValue]) -> Result<JValue, EvaluatorError> {
    let Some(text) = text(arguments)? else { return Ok(JValue::Undefined) };
    // As node does: it ignores other characters, takes both alphabets, and needs no padding.
    let digits: String = text
        .chars()
        .take_while(|letter| *letter != '=')
        .filter_map(|letter| match letter {
            '-' => Some('+'),
            '_' => Some('/'),
            '+' | '/' => Some(letter),
            _ => letter.is_ascii_alphanumeric().then_some(letter),
        })
        .collect();
    // One digit alone is less than a byte.
    let whole = if digits.len() % 4 == 1 { digits.len() - 1 } else { digits.len() };
    let bytes =
        LENIENT.decode(&digits[..whole]).map_err(|problem| error(format!("$base64decode: {problem}")))?;
    Ok(JValue::from(bytes.into_iter().map(char::from).collect::<String>()))
}

fn parse(arguments: &[JValue]) -> Result<JValue, EvaluatorError> {
    let text = arguments.first().and_then(JValue::as_str).ok_or_else(|| error("$parse needs a string"))?;
    JValue::from_json_str(text).map_err(|problem| error(format!("$parse: {problem}")))
}

/// JSON with whole numbers as integers; `None` if the value holds a function.
fn json(value: &JValue) -> Option<Value> {
    /// Above this, a double cannot tell neighbouring integers apart.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    Some(match value {
        JValue::Null => Value::Null,
        JValue::Bool(truth) => Value::Bool(*truth),
        JValue::Number(number) if number.fract() == 0.0 && number.abs() <= EXACT => {
            Value::from(*number as i64)
        }
        JValue::Number(number) => serde_json::Number::from_f64(*number).map(Value::Number)?,
        JValue::String(text) => Value::String(text.to_string()),
        JValue::Array(items) => Value::Array(
            items.iter().filter(|item| !item.is_undefined()).map(json).collect::<Option<Vec<Value>>>()?,
        ),
        JValue::Object(members) => Value::Object(
            members
                .iter()
                .filter(|(_, member)| !member.is_undefined())
                .map(|(name, member)| Some((name.clone(), json(member)?)))
                .collect::<Option<Map<String, Value>>>()?,
        ),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn eval(source: &str) -> Result<Value, QueryError> {
        let variables = json!({"limit": 3, "name": "x"});
        let states = json!({"input": {"items": [{"n": 1}, {"n": 2}, {"n": 5}], "text": "{\"a\":1}"}});
        Query::new(states, variables.as_object().unwrap(), 1_700_000_000_123, 1)
            .render(&json!(format!("{{% {source} %}}")), "Output")
    }

    #[test]
    fn expressions_see_states_and_variables_and_whole_numbers_stay_integers() {
        assert_eq!(eval("$states.input.items[n < $limit].n").unwrap(), json!([1, 2]));
        assert_eq!(eval("$sum($states.input.items.n) / 16").unwrap(), json!(0.5));
        assert_eq!(eval("{'a': $name, 'b': $missing}").unwrap(), json!({"a": "x"}));
    }

    #[test]
    fn a_template_is_rendered_at_every_depth_and_keeps_plain_strings() {
        let query = Query::new(json!({"input": 7}), &Map::new(), 0, 1);
        let template = json!({"a": ["{% $states.input %}", "plain"], "b": {"c": "{%$states.input + 1%}"}});
        assert_eq!(query.render(&template, "Arguments").unwrap(), json!({"a": [7, "plain"], "b": {"c": 8}}));
    }

    #[test]
    fn an_undefined_result_is_an_error_that_names_the_field() {
        let query = Query::new(json!({"input": {}}), &Map::new(), 0, 1);
        let error = query.render(&json!({"a": "{% $states.input.none %}"}), "Arguments").unwrap_err();
        assert_eq!(error.location, "Arguments/a");
        assert!(error.message.ends_with("returned nothing (undefined)."), "{}", error.message);
        assert!(eval("unqualified").is_err());
        assert!(eval("function($x) { $x }").is_err());
    }

    #[test]
    fn the_functions_that_step_functions_adds_work_and_eval_does_not() {
        assert_eq!(eval("$partition([1,2,3,4,5], 2)").unwrap(), json!([[1, 2], [3, 4], [5]]));
        assert_eq!(eval("$range(0, 10, 5)").unwrap(), json!([0, 5, 10]));
        assert_eq!(eval("$range(3, 1, -1)").unwrap(), json!([3, 2, 1]));
        assert_eq!(eval("$hash('a', 'MD5')").unwrap(), json!("0cc175b9c0f1b6a831c399e269772661"));
        assert_eq!(eval("$hash('a')").unwrap(), json!("86f7e437faa5a7fce15d1ddcb9eaeaea377667b8"));
        assert_eq!(
            eval("$hash('a', 'SHA-256')").unwrap(),
            json!("ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb")
        );
        assert_eq!(eval("$parse($states.input.text)").unwrap(), json!({"a": 1}));
        assert_eq!(eval("$length($uuid())").unwrap(), json!(36));
        assert_eq!(eval("$random(42) = $random(42)").unwrap(), json!(true));
        assert_eq!(eval("$uuid() = $uuid()").unwrap(), json!(false));
        assert!(eval("$eval('1')").is_err());
    }

    #[test]
    fn texts_are_encoded_as_the_reference_implementation_does() {
        assert_eq!(
            eval("$encodeUrlComponent(\"a-b_c.d!~*'() &/é\")").unwrap(),
            json!("a-b_c.d!~*'()%20%26%2F%C3%A9")
        );
        assert_eq!(eval("$encodeUrl('http://a/b c?d=e-f&g#h')").unwrap(), json!("http://a/b%20c?d=e-f&g#h"));
        assert_eq!(eval("$base64encode('é')").unwrap(), json!("6Q=="));
        assert_eq!(eval("$base64decode('6Q')").unwrap(), json!("é"));
        assert_eq!(eval("$base64decode('a')").unwrap(), json!(""));
        assert!(eval("$encodeUrl($missing)").unwrap_err().message.ends_with("returned nothing (undefined)."));
        assert!(eval("$base64encode(1)").is_err());
    }

    #[test]
    fn now_is_the_clock_of_the_cloud() {
        assert_eq!(eval("$now()").unwrap(), json!("2023-11-14T22:13:20.123Z"));
        assert_eq!(eval("$millis()").unwrap(), json!(1_700_000_000_123_i64));
        assert_eq!(eval("$now('[Y0001]-[M01]-[D01]')").unwrap(), json!("2023-11-14"));
    }

    #[test]
    fn an_expression_that_does_not_compile_is_found_before_it_runs() {
        let (code, path, reason) = check(&json!({"a": ["{% $x[ %}"]}), "States.X.Output").unwrap_err();
        assert_eq!(code, "INVALID_JSONATA_EXPRESSION");
        assert_eq!(path, "States.X.Output.a[0]");
        assert!(reason.contains("does not compile"), "{reason}");
        assert!(check(&json!("{% 1"), "p").unwrap_err().2.contains("ends with"));
    }

    #[test]
    fn what_the_jsonata_of_step_functions_lacks_is_refused_wherever_it_stands() {
        for (source, names) in [
            ("$eval('1')", "$eval"),
            ("[1, {'a': function($x) { $eval($x) }('1')}]", "$eval"),
            ("$states.input.a ?? 1", "??"),
            ("$sum($states.input.items[(n ?: 1) > 0].n)", "?:"),
        ] {
            let (code, _, reason) = check(&json!(format!("{{% {source} %}}")), "p").unwrap_err();
            assert_eq!(code, "UNSUPPORTED_JSONATA_EXPRESSION", "{source}");
            assert!(reason.contains(names), "{source}: {reason}");
        }
        for source in ["$states.input.a ? 1 : 2", "'a ?? b ?: $eval(c)'", "$contains('x', /(?:x)/)"] {
            check(&json!(format!("{{% {source} %}}")), "p").unwrap();
        }
    }
}
