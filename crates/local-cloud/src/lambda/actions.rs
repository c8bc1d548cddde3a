//! The API actions on functions; those on event source mappings are in `event_source`.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::config::Config;
use super::{asynchronous, lock};
use crate::cloud::Cloud;
use crate::error::AwsError;
use crate::event_source;

pub(super) async fn call(cloud: &Arc<Cloud>, action: &str, input: Value) -> Result<Value, AwsError> {
    match action {
        "Invoke" => invoke(cloud, read(input)?).await,
        "GetFunction" => get_function(cloud, &read(input)?),
        "GetFunctionConfiguration" => {
            let Named { function_name, .. } = read(input)?;
            Ok(configuration(&cloud.lambda.function(&function_name)?.config))
        }
        "ListFunctions" => list_functions(cloud, read(input)?),
        "GetFunctionConcurrency" => {
            let Named { function_name, .. } = read(input)?;
            let reserved = cloud.lambda.function(&function_name)?.config.reserved_concurrency;
            Ok(reserved.map_or(json!({}), |most| json!({ "ReservedConcurrentExecutions": most })))
        }
        "GetFunctionEventInvokeConfig" => get_event_invoke(cloud, &read(input)?),
        "GetPolicy" => get_policy(cloud, &read(input)?),
        "ListEventSourceMappings" | "GetEventSourceMapping" | "UpdateEventSourceMapping" => {
            event_source::call(cloud, action, input)
        }
        _ => Err(AwsError::not_emulated("lambda", action)),
    }
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

fn check_qualifier(qualifier: Option<&str>) -> Result<(), AwsError> {
    match qualifier {
        None | Some("$LATEST") => Ok(()),
        Some(other) => Err(AwsError::new(
            404,
            "ResourceNotFoundException",
            format!("There is no version or alias {other} here."),
        )),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Invoke {
    function_name: String,
    qualifier: Option<String>,
    invocation_type: Option<String>,
    log_type: Option<String>,
    #[serde(default)]
    payload: String,
}

async fn invoke(cloud: &Arc<Cloud>, input: Invoke) -> Result<Value, AwsError> {
    check_qualifier(input.qualifier.as_deref())?;
    let tail = match input.log_type.as_deref() {
        None | Some("None") => false,
        Some("Tail") => true,
        Some(other) => return Err(invalid(&format!("LogType {other} is neither None nor Tail."))),
    };
    let payload = Bytes::from(input.payload);
    match input.invocation_type.as_deref().unwrap_or("RequestResponse") {
        "RequestResponse" => {
            let done = super::invoke(cloud, &input.function_name, payload).await?;
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
            let request_id = asynchronous::accept(cloud, &input.function_name, payload)?;
            Ok(json!({ "StatusCode": 202, "Payload": "", "RequestId": request_id }))
        }
        "DryRun" => {
            cloud.lambda.function(&input.function_name)?;
            Ok(json!({ "StatusCode": 204, "Payload": "" }))
        }
        other => Err(invalid(&format!("InvocationType {other} is none of RequestResponse, Event, DryRun."))),
    }
}

fn invalid(message: &str) -> AwsError {
    AwsError::client("InvalidParameterValueException", message)
}

fn get_function(cloud: &Cloud, input: &Named) -> Result<Value, AwsError> {
    check_qualifier(input.qualifier.as_deref())?;
    let function = cloud.lambda.function(&input.function_name)?;
    let config = &function.config;
    let mut answer = json!({ "Configuration": configuration(config) });
    if let Some(folder) = cloud.lambda.binaries.get() {
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
    let functions = lock(&cloud.lambda.functions);
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
        Some(_) => return Err(invalid("MaxItems must be from 1 to 10000.")),
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
    check_qualifier(input.qualifier.as_deref())?;
    let function = cloud.lambda.function(&input.function_name)?;
    let configs = lock(&cloud.lambda.event_invokes);
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
    check_qualifier(input.qualifier.as_deref())?;
    let function = cloud.lambda.function(&input.function_name)?;
    let permissions = lock(&cloud.lambda.permissions);
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
    let revision = crate::random::stable_uuid(&policy.to_string());
    Ok(json!({ "Policy": policy.to_string(), "RevisionId": revision }))
}
