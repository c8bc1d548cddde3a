//! The API actions on functions; those on event source mappings are in `event_source`.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use cloud_core::api::{self, check_enum, check_number, key_of, with_token};
use cloud_core::calls::Permission;
use cloud_core::clock::rfc3339;
use cloud_core::service::{Action, Answer, Request};
use cloud_core::{AwsError, Cloud, lock};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::config::Config;
use super::function::Function;
use super::{State, asynchronous, invocation};

#[rustfmt::skip]
pub(super) const ACTIONS: &[Action] = &[
    Action::later("Invoke", |cloud, input| Box::pin(async move { invoke(cloud, read(input)?).await }))
        .route("POST", "/2015-03-31/functions/{FunctionName}/invocations", 200).needs(invoke_permission),
    Action::new("GetFunction", |cloud, input| get_function(cloud, &read(input)?))
        .route("GET", "/2015-03-31/functions/{FunctionName}", 200),
    Action::new("GetFunctionConfiguration", |cloud, input| Ok(configuration(&named(cloud, &read(input)?)?.config)))
        .route("GET", "/2015-03-31/functions/{FunctionName}/configuration", 200),
    Action::new("ListFunctions", |cloud, input| list_functions(cloud, read(input)?))
        .route("GET", "/2015-03-31/functions", 200),
    Action::refused("GetFunctionConcurrency").route("GET", "/2019-09-30/functions/{FunctionName}/concurrency", 200),
    Action::refused("GetFunctionEventInvokeConfig")
        .route("GET", "/2019-09-25/functions/{FunctionName}/event-invoke-config", 200),
    Action::refused("GetPolicy").route("GET", "/2015-03-31/functions/{FunctionName}/policy", 200),
];

fn invoke_permission(cloud: &Cloud, request: Request<'_>) -> Vec<Permission> {
    let function = match request.text("FunctionName") {
        Some(arn) if arn.starts_with("arn:") => arn.to_owned(),
        name => cloud.arn("lambda", &format!("function:{}", name.unwrap_or("*"))),
    };
    vec![("lambda:InvokeFunction".into(), function)]
}

/// Every path of Lambda's API begins with the date of the API's version.
pub(super) fn is_path(path: &str) -> bool {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    first.len() == 10 && first.split('-').count() == 3 && first.split('-').all(digits)
}

const INVALID: &str = "InvalidParameterValueException";

pub(crate) fn read<T: DeserializeOwned>(input: Value) -> Result<T, AwsError> {
    api::read(input, INVALID)
}

fn violation(sentence: String) -> AwsError {
    AwsError::client("ValidationException", sentence)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Named {
    function_name: String,
    qualifier: Option<String>,
}

fn named(cloud: &Cloud, input: &Named) -> Result<Arc<Function>, AwsError> {
    resolve(cloud, &input.function_name, input.qualifier.as_deref())
}

/// Finds a function by its name and its version, apart or behind the name; there is only `$LATEST`.
fn resolve(cloud: &Cloud, name: &str, qualifier: Option<&str>) -> Result<Arc<Function>, AwsError> {
    let Some(qualifier) = qualifier else { return super::function(cloud, name) };
    let (name, behind) = split_qualifier(name);
    if behind.is_some_and(|behind| behind != qualifier) {
        let message = "The derived qualifier from the function name does not match the specified qualifier.";
        return Err(AwsError::client(INVALID, message));
    }
    super::function(cloud, &format!("{name}:{qualifier}"))
}

/// `name:qualifier`, where the name may be an ARN.
fn split_qualifier(name: &str) -> (&str, Option<&str>) {
    let start = name.find("function:").map_or(0, |at| at + "function:".len());
    match name[start..].find(':') {
        Some(at) => (&name[..start + at], Some(&name[start + at + 1..])),
        None => (name, None),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Invoke {
    function_name: String,
    qualifier: Option<String>,
    invocation_type: Option<String>,
    log_type: Option<String>,
    client_context: Option<String>,
    #[serde(default)]
    payload: String,
}

async fn invoke(cloud: &Arc<Cloud>, input: Invoke) -> Answer {
    let kind = input.invocation_type.as_deref().unwrap_or("RequestResponse");
    check_enum("invocationType", Some(kind), &["Event", "RequestResponse", "DryRun"]).map_err(violation)?;
    check_enum("logType", input.log_type.as_deref(), &["None", "Tail"]).map_err(violation)?;
    let function = resolve(cloud, &input.function_name, input.qualifier.as_deref())?;
    let context = input.client_context.as_deref().map(client_context).transpose()?;
    let payload = Bytes::from(input.payload);
    match kind {
        "RequestResponse" => {
            let request_id = cloud.random.uuid();
            let done = invocation::invoke(cloud, &function, payload, request_id, context).await?;
            let mut answer = json!({
                "StatusCode": 200,
                "ExecutedVersion": "$LATEST",
                "Payload": String::from_utf8_lossy(&done.payload),
                "RequestId": done.request_id,
            });
            if let Some(error) = done.function_error {
                answer["FunctionError"] = error.into();
            }
            if input.log_type.as_deref() == Some("Tail") {
                answer["LogResult"] = STANDARD.encode(done.log_tail).into();
            }
            Ok(answer)
        }
        "Event" => {
            let request_id = asynchronous::accept(cloud, &function.config.name, payload)?;
            Ok(json!({ "StatusCode": 202, "Payload": "", "RequestId": request_id }))
        }
        // A dry run ends here: all else is checked.
        _ => {
            invocation::check(payload, invocation::MAX_REQUEST_BYTES)?;
            Ok(json!({ "StatusCode": 204, "Payload": "" }))
        }
    }
}

/// Reads the base64 of a JSON object, up to 3,583 bytes (API_Invoke), as JSON on one line.
fn client_context(given: &str) -> Result<String, AwsError> {
    let bytes = STANDARD.decode(given).ok().filter(|_| given.len() <= 3_583);
    let context = bytes.and_then(|bytes| serde_json::from_slice::<Map<String, Value>>(&bytes).ok());
    context.map(|context| Value::Object(context).to_string()).ok_or_else(|| {
        let message = "Client context must be a valid Base64-encoded JSON object.";
        AwsError::client("InvalidRequestContentException", message)
    })
}

fn get_function(cloud: &Cloud, input: &Named) -> Answer {
    let function = named(cloud, input)?;
    let config = &function.config;
    let mut answer = json!({ "Configuration": configuration(config) });
    if let Some(folder) = cloud.state::<State>().binaries.get() {
        let location = folder.join(&config.binary).display().to_string();
        answer["Code"] = json!({ "RepositoryType": "local", "Location": location });
    }
    if !config.tags.is_empty() {
        answer["Tags"] = json!(config.tags);
    }
    if let Some(reserved) = config.reserved_concurrency {
        answer["Concurrency"] = json!({ "ReservedConcurrentExecutions": reserved });
    }
    Ok(answer)
}

/// A FunctionConfiguration.
fn configuration(config: &Config) -> Value {
    let mut logging = json!({ "LogGroup": config.logging.group, "LogFormat": "Text" });
    if config.logging.json {
        logging["LogFormat"] = "JSON".into();
        logging["ApplicationLogLevel"] = config.logging.application_level.clone().into();
        logging["SystemLogLevel"] = config.logging.system_level.clone().into();
    }
    let mut answer = json!({
        "FunctionName": config.name,
        "FunctionArn": config.arn,
        "Description": config.description,
        "Runtime": config.runtime,
        "Handler": config.handler,
        "Role": config.role,
        "Timeout": config.timeout_s,
        "MemorySize": config.memory_mb,
        "Architectures": [config.architecture],
        "PackageType": "Zip",
        "Version": "$LATEST",
        "State": "Active",
        "LastUpdateStatus": "Successful",
        "LastModified": rfc3339(config.deployed_ms).replace('Z', "+0000"),
        "TracingConfig": { "Mode": config.tracing },
        "LoggingConfig": logging,
        "EphemeralStorage": { "Size": 512 },
    });
    if !config.variables.is_empty() {
        answer["Environment"] = json!({ "Variables": config.variables });
    }
    if let Some(target) = &config.dead_letter_target {
        answer["DeadLetterConfig"] = json!({ "TargetArn": target });
    }
    answer
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct List {
    marker: Option<String>,
    max_items: Option<usize>,
    /// There are no versions but `$LATEST`.
    #[serde(rename = "FunctionVersion")]
    _function_version: Option<String>,
}

fn list_functions(cloud: &Cloud, input: List) -> Answer {
    let functions = lock(&cloud.state::<State>().functions);
    let all = functions.iter().map(|(name, function)| (name.clone(), configuration(&function.config)));
    page(all.collect(), "Functions", input.marker, input.max_items)
}

/// Up to 50 items in the order of their keys, and a marker where there are more (API_ListFunctions).
pub(crate) fn page(
    items: Vec<(String, Value)>,
    member: &str,
    marker: Option<String>,
    most: Option<usize>,
) -> Answer {
    let most = most.unwrap_or(50);
    check_number("maxItems", most as i64, 1..=10_000).map_err(violation)?;
    let invalid = || AwsError::client(INVALID, "Invalid pagination marker.");
    let after = marker.map(|marker| key_of(&marker).ok_or_else(invalid)).transpose()?;
    let (page, next) = api::page(items, after.as_deref(), most.min(50));
    Ok(with_token(json!({ member: page }), "NextMarker", next))
}

#[cfg(test)]
mod tests {
    use super::is_path;

    #[test]
    fn a_path_of_lambda_is_known_without_a_signature() {
        assert!(is_path("/2015-03-31/functions/f/invocations"));
        assert!(!is_path("/2015-03-images/x"));
        assert!(!is_path("/bucket/2015-03-31"));
    }
}
