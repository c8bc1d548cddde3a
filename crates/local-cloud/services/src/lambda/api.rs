//! The API actions on functions; those on event source mappings are in `event_source`.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use cloud_core::calls::Permission;
use cloud_core::service::{Action, Request};
use cloud_core::{AwsError, Cloud};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::config::Config;
use super::function::{self, Function};
use super::{asynchronous, lock};

/// The actions, with the members of AWS's API reference.
pub(super) const ACTIONS: &[Action] =
    &[
        Action::later("Invoke", |cloud, input| Box::pin(async move { invoke(cloud, read(input)?).await }))
            .route("POST", "/2015-03-31/functions/{FunctionName}/invocations", 200)
            .needs(invoke_permission),
        Action::new("GetFunction", |cloud, input| get_function(cloud, &read(input)?)).route(
            "GET",
            "/2015-03-31/functions/{FunctionName}",
            200,
        ),
        Action::new("GetFunctionConfiguration", |cloud, input| {
            Ok(configuration(&named(cloud, &read(input)?)?.config))
        })
        .route("GET", "/2015-03-31/functions/{FunctionName}/configuration", 200),
        Action::new("ListFunctions", |cloud, input| list_functions(cloud, read(input)?)).route(
            "GET",
            "/2015-03-31/functions",
            200,
        ),
        Action::new("GetFunctionConcurrency", |cloud, input| {
            let reserved = named(cloud, &read(input)?)?.config.reserved_concurrency;
            Ok(reserved.map_or(json!({}), |most| json!({ "ReservedConcurrentExecutions": most })))
        })
        .route("GET", "/2019-09-30/functions/{FunctionName}/concurrency", 200),
        Action::new("GetFunctionEventInvokeConfig", |cloud, input| get_event_invoke(cloud, &read(input)?))
            .route("GET", EVENT_INVOKE, 200),
        Action::new("GetPolicy", |cloud, input| get_policy(cloud, &read(input)?)).route(
            "GET",
            "/2015-03-31/functions/{FunctionName}/policy",
            200,
        ),
    ];

const EVENT_INVOKE: &str = "/2019-09-25/functions/{FunctionName}/event-invoke-config";

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
    let mut parts = first.split('-');
    first.len() == 10 && parts.by_ref().all(digits) && first.matches('-').count() == 2
}

/// Reads the input; a member that the action does not name is refused.
pub(crate) fn read<T: DeserializeOwned>(input: Value) -> Result<T, AwsError> {
    serde_json::from_value(input)
        .map_err(|error| AwsError::client("InvalidParameterValueException", error.to_string()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Named {
    function_name: String,
    /// Only `$LATEST` exists here.
    qualifier: Option<String>,
}

fn named(cloud: &Cloud, input: &Named) -> Result<Arc<Function>, AwsError> {
    resolve(cloud, &input.function_name, input.qualifier.as_deref())
}

/// A function by its name and, apart or behind it, its version; there is only `$LATEST`.
fn resolve(cloud: &Cloud, name: &str, qualifier: Option<&str>) -> Result<Arc<Function>, AwsError> {
    let Some(qualifier) = qualifier else { return cloud.state::<crate::lambda::State>().function(name) };
    let (name, behind) = split_qualifier(name);
    if behind.is_some_and(|behind| behind != qualifier) {
        return Err(invalid(
            "The derived qualifier from the function name does not match the specified qualifier.",
        ));
    }
    cloud.state::<crate::lambda::State>().function(&format!("{name}:{qualifier}"))
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

async fn invoke(cloud: &Arc<Cloud>, input: Invoke) -> Result<Value, AwsError> {
    let kind = input.invocation_type.as_deref().unwrap_or("RequestResponse");
    constrain("invocationType", Some(kind), &["Event", "RequestResponse", "DryRun"])?;
    constrain("logType", input.log_type.as_deref(), &["None", "Tail"])?;
    let tail = input.log_type.as_deref() == Some("Tail");
    let function = resolve(cloud, &input.function_name, input.qualifier.as_deref())?;
    let context = input.client_context.as_deref().map(client_context).transpose()?;
    let payload = Bytes::from(input.payload);
    match kind {
        "RequestResponse" => {
            let request_id = cloud.random.uuid();
            let done = function::invoke(cloud, &function, payload, request_id, context).await?;
            let mut answer = json!({
                "StatusCode": 200,
                "ExecutedVersion": "$LATEST",
                "Payload": String::from_utf8_lossy(&done.payload),
                "RequestId": done.request_id,
            });
            if let Some(error) = done.function_error {
                answer["FunctionError"] = error.into();
            }
            if tail {
                answer["LogResult"] = STANDARD.encode(done.log_tail).into();
            }
            Ok(answer)
        }
        "Event" => {
            let request_id = asynchronous::accept(cloud, &function.config.name, payload)?;
            Ok(json!({ "StatusCode": 202, "Payload": "", "RequestId": request_id }))
        }
        // DryRun: the checks are done.
        _ => {
            function::check(payload, function::LARGEST_REQUEST)?;
            Ok(json!({ "StatusCode": 204, "Payload": "" }))
        }
    }
}

/// Base64 of a JSON object, up to 3,583 bytes (API_Invoke); as JSON on one line.
fn client_context(given: &str) -> Result<String, AwsError> {
    let wrong = || {
        AwsError::client(
            "InvalidRequestContentException",
            "Client context must be a valid Base64-encoded JSON object.",
        )
    };
    if given.len() > 3_583 {
        return Err(wrong());
    }
    let bytes = STANDARD.decode(given).map_err(|_| wrong())?;
    let context: Map<String, Value> = serde_json::from_slice(&bytes).map_err(|_| wrong())?;
    Ok(Value::Object(context).to_string())
}

fn invalid(message: &str) -> AwsError {
    AwsError::client("InvalidParameterValueException", message)
}

/// One of a set, as the API's own validation tells it.
fn constrain(member: &str, value: Option<&str>, known: &[&str]) -> Result<(), AwsError> {
    match value.filter(|value| !known.contains(value)) {
        None => Ok(()),
        Some(value) => Err(validation(
            member,
            value,
            &format!("Member must satisfy enum value set: [{}]", known.join(", ")),
        )),
    }
}

fn validation(member: &str, value: &str, constraint: &str) -> AwsError {
    AwsError::client(
        "ValidationException",
        format!(
            "1 validation error detected: Value '{value}' at '{member}' failed to satisfy constraint: {constraint}"
        ),
    )
}

fn get_function(cloud: &Cloud, input: &Named) -> Result<Value, AwsError> {
    let function = named(cloud, input)?;
    let config = &function.config;
    let mut answer = json!({ "Configuration": configuration(config) });
    if let Some(folder) = cloud.state::<crate::lambda::State>().binaries.get() {
        answer["Code"] = json!({ "RepositoryType": "local", "Location": folder.join(&config.binary).display().to_string() });
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
    let modified = jiff::Timestamp::from_millisecond(config.deployed_ms).unwrap_or_default();
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
        "LastModified": modified.strftime("%Y-%m-%dT%H:%M:%S%.3f+0000").to_string(),
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

fn list_functions(cloud: &Cloud, input: List) -> Result<Value, AwsError> {
    let functions = lock(&cloud.state::<crate::lambda::State>().functions);
    let all = functions.iter().map(|(name, function)| (name.clone(), configuration(&function.config)));
    page(all.collect(), "Functions", input.marker, input.max_items)
}

/// Up to 50 items in order of their keys, and a marker where there are more (API_ListFunctions).
pub(crate) fn page(
    items: Vec<(String, Value)>,
    member: &str,
    marker: Option<String>,
    most: Option<usize>,
) -> Result<Value, AwsError> {
    let most = match most {
        None => 50,
        Some(most @ 1..=10_000) => most.min(50),
        Some(most) => {
            let bound = if most == 0 { "greater than or equal to 1" } else { "less than or equal to 10000" };
            return Err(validation(
                "maxItems",
                &most.to_string(),
                &format!("Member must have value {bound}"),
            ));
        }
    };
    let after = match marker {
        None => None,
        Some(marker) => Some(
            STANDARD
                .decode(&marker)
                .ok()
                .and_then(|bytes| String::from_utf8(bytes).ok())
                .ok_or_else(|| invalid("Invalid pagination marker."))?,
        ),
    };
    let rest: Vec<_> =
        items.into_iter().filter(|(key, _)| after.as_ref().is_none_or(|after| key > after)).collect();
    let mut answer = Map::new();
    if rest.len() > most {
        answer.insert("NextMarker".into(), STANDARD.encode(&rest[most - 1].0).into());
    }
    answer.insert(member.into(), rest.into_iter().take(most).map(|(_, item)| item).collect());
    Ok(Value::Object(answer))
}

fn get_event_invoke(cloud: &Cloud, input: &Named) -> Result<Value, AwsError> {
    let function = named(cloud, input)?;
    let configs = lock(&cloud.state::<crate::lambda::State>().event_invokes);
    let arn = format!("{}:$LATEST", function.config.arn);
    let Some(config) = configs.get(&function.config.name) else {
        let message = format!("The function {arn} doesn't have an EventInvokeConfig");
        return Err(AwsError::new(404, "ResourceNotFoundException", message));
    };
    let destination =
        |arn: &Option<String>| arn.as_ref().map_or(json!({}), |arn| json!({ "Destination": arn }));
    Ok(json!({
        "FunctionArn": arn,
        "LastModified": function.config.deployed_ms as f64 / 1_000.0,
        "MaximumRetryAttempts": config.retries,
        "MaximumEventAgeInSeconds": config.max_age_s,
        "DestinationConfig": { "OnSuccess": destination(&config.on_success), "OnFailure": destination(&config.on_failure) },
    }))
}

fn get_policy(cloud: &Cloud, input: &Named) -> Result<Value, AwsError> {
    let function = named(cloud, input)?;
    let permissions = lock(&cloud.state::<crate::lambda::State>().permissions);
    let statements: Vec<Value> = permissions
        .iter()
        .filter(|permission| permission.function == function.config.name)
        .map(|permission| {
            let principal = if permission.principal.contains(".amazonaws.com") { "Service" } else { "AWS" };
            let mut statement = json!({
                "Sid": permission.sid,
                "Effect": "Allow",
                "Principal": { principal: permission.principal },
                "Action": permission.action,
                "Resource": function.config.arn,
            });
            if let Some(arn) = &permission.source_arn {
                statement["Condition"]["ArnLike"] = json!({ "AWS:SourceArn": arn });
            }
            if let Some(account) = &permission.source_account {
                statement["Condition"]["StringEquals"] = json!({ "AWS:SourceAccount": account });
            }
            statement
        })
        .collect();
    if statements.is_empty() {
        return Err(AwsError::new(
            404,
            "ResourceNotFoundException",
            "The resource you requested does not exist.",
        ));
    }
    let policy = json!({ "Version": "2012-10-17", "Id": "default", "Statement": statements });
    let revision = cloud_core::random::stable_uuid(&policy.to_string());
    Ok(json!({ "Policy": policy.to_string(), "RevisionId": revision }))
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
