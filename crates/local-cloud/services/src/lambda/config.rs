//! What templates say about functions: properties, asynchronous invocation, permissions.

use std::collections::BTreeMap;

use cloud_core::Cloud;
use cloud_core::resource::{Refusal, Resource};
use serde::Deserialize;
use serde_json::Value;

/// Names that Lambda sets itself and refuses to have set (configuration-envvars,
/// "Reserved environment variables").
const RESERVED: [&str; 17] = [
    "_HANDLER",
    "_X_AMZN_TRACE_ID",
    "AWS_DEFAULT_REGION",
    "AWS_REGION",
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_LAMBDA_RUNTIME_API",
    "LAMBDA_TASK_ROOT",
    "LAMBDA_RUNTIME_DIR",
];

/// 100 of an account's 1,000 are never reserved (configuration-concurrency).
const MOST_RESERVED: u64 = super::ACCOUNT_CONCURRENCY as u64 - 100;

/// A function as its template describes it.
#[derive(Debug, Clone)]
pub(super) struct Config {
    pub name: String,
    pub arn: String,
    pub binary: String,
    pub description: String,
    pub handler: String,
    pub runtime: String,
    pub architecture: String,
    pub role: String,
    pub timeout_s: u64,
    pub memory_mb: u64,
    pub variables: BTreeMap<String, String>,
    pub reserved_concurrency: Option<usize>,
    pub dead_letter_target: Option<String>,
    pub tracing: String,
    pub logging: Logging,
    pub tags: BTreeMap<String, String>,
    pub deployed_ms: i64,
}

/// Where a function logs, and in which form.
#[derive(Debug, Clone)]
pub(super) struct Logging {
    pub group: String,
    pub json: bool,
    pub application_level: String,
    pub system_level: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Properties {
    function_name: Option<String>,
    // The binary that `Metadata.Binary` names is run in place of a package.
    #[serde(rename = "Code")]
    _code: Option<Value>,
    handler: Option<String>,
    runtime: Option<String>,
    architectures: Option<Vec<String>>,
    role: Option<String>,
    description: Option<String>,
    timeout: Option<Value>,
    memory_size: Option<Value>,
    environment: Option<Environment>,
    reserved_concurrent_executions: Option<Value>,
    dead_letter_config: Option<DeadLetter>,
    tracing_config: Option<Tracing>,
    logging_config: Option<LoggingProperties>,
    package_type: Option<String>,
    tags: Option<Vec<Tag>>,
    // Encryption at rest: no effect here.
    #[serde(rename = "KmsKeyArn")]
    _kms_key_arn: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Environment {
    #[serde(default)]
    variables: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct DeadLetter {
    target_arn: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Tracing {
    mode: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct LoggingProperties {
    log_group: Option<String>,
    log_format: Option<String>,
    application_log_level: Option<String>,
    system_log_level: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Tag {
    key: String,
    value: Value,
}

/// Reads a function's properties; the limits are those of gettingstarted-limits and of the
/// CloudFormation reference.
pub(super) fn function(cloud: &Cloud, resource: &Resource) -> Result<Config, Refusal> {
    let given: Properties = resource.read()?;
    let refuse = |property: &str, reason: String| resource.refuse(&format!("Properties.{property}"), reason);
    if given.package_type.as_deref().is_some_and(|kind| kind != "Zip") {
        return Err(refuse("PackageType", "only Zip is emulated".into()));
    }
    let runtime = given.runtime.unwrap_or_default();
    if !runtime.starts_with("provided.") {
        return Err(refuse("Runtime", format!("{runtime} is not emulated; provided.al2023 is")));
    }
    let Some(binary) = resource.metadata["Binary"].as_str() else {
        return Err(resource.refuse("Metadata.Binary", "must name the cargo binary of the function"));
    };
    let name = given.function_name.unwrap_or_else(|| resource.physical_id.clone());
    let timeout_s = bounded(given.timeout.as_ref(), 3, 1, 900).map_err(|reason| refuse("Timeout", reason))?;
    let memory_mb = bounded(given.memory_size.as_ref(), 128, 128, 10_240)
        .map_err(|reason| refuse("MemorySize", reason))?;
    let reserved_concurrency = given
        .reserved_concurrent_executions
        .map(|value| bounded(Some(&value), 0, 0, MOST_RESERVED))
        .transpose()
        .map_err(|reason| refuse("ReservedConcurrentExecutions", reason))?
        .map(|value| value as usize);
    let variables = variables(given.environment).map_err(|reason| refuse("Environment.Variables", reason))?;
    let logging = given.logging_config.unwrap_or_default();
    let json = match logging.log_format.as_deref() {
        None | Some("Text") => false,
        Some("JSON") => true,
        Some(other) => {
            return Err(refuse("LoggingConfig.LogFormat", format!("{other} is neither Text nor JSON")));
        }
    };
    let dead_letter_target = given.dead_letter_config.and_then(|config| config.target_arn);
    if let Some(target) = dead_letter_target.as_deref().filter(|arn| !arn.contains(":sqs:")) {
        return Err(refuse(
            "DeadLetterConfig.TargetArn",
            format!("{target} is not a queue; only queues are emulated"),
        ));
    }
    Ok(Config {
        arn: cloud.arn("lambda", &format!("function:{name}")),
        binary: binary.to_owned(),
        description: given.description.unwrap_or_default(),
        handler: given.handler.unwrap_or_default(),
        runtime,
        architecture: given
            .architectures
            .and_then(|list| list.into_iter().next())
            .unwrap_or_else(|| "x86_64".into()),
        role: given.role.unwrap_or_default(),
        timeout_s,
        memory_mb,
        variables,
        reserved_concurrency,
        dead_letter_target,
        tracing: given.tracing_config.and_then(|config| config.mode).unwrap_or_else(|| "PassThrough".into()),
        logging: Logging {
            group: logging.log_group.unwrap_or_else(|| format!("/aws/lambda/{name}")),
            json,
            application_level: logging.application_log_level.unwrap_or_else(|| "INFO".into()),
            system_level: logging.system_log_level.unwrap_or_else(|| "INFO".into()),
        },
        tags: given.tags.into_iter().flatten().map(|tag| (tag.key, text(&tag.value))).collect(),
        deployed_ms: cloud.clock.now_ms(),
        name,
    })
}

fn variables(environment: Option<Environment>) -> Result<BTreeMap<String, String>, String> {
    let variables: BTreeMap<String, String> =
        environment.into_iter().flat_map(|e| e.variables).map(|(name, value)| (name, text(&value))).collect();
    if let Some(name) = variables.keys().find(|name| RESERVED.contains(&name.as_str())) {
        return Err(format!("{name} is reserved by Lambda"));
    }
    // All variables together: 4 KB.
    let bytes: usize = variables.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > 4_096 {
        return Err(format!("{bytes} bytes are more than Lambda's 4 KB"));
    }
    Ok(variables)
}

/// A whole number within bounds; CloudFormation takes numbers as text too.
pub(crate) fn bounded(value: Option<&Value>, default: u64, least: u64, most: u64) -> Result<u64, String> {
    let Some(value) = value else { return Ok(default) };
    match text(value).parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(format!("{} is not a whole number from {least} to {most}", text(value))),
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// What happens to asynchronous invocations of a function (API_PutFunctionEventInvokeConfig).
#[derive(Debug, Clone)]
pub(super) struct EventInvoke {
    pub max_age_s: i64,
    pub retries: u32,
    pub on_success: Option<String>,
    pub on_failure: Option<String>,
}

impl Default for EventInvoke {
    /// Two retries within six hours (invocation-async-error-handling).
    fn default() -> Self {
        Self { max_age_s: 21_600, retries: 2, on_success: None, on_failure: None }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct EventInvokeProperties {
    function_name: String,
    qualifier: String,
    maximum_event_age_in_seconds: Option<Value>,
    maximum_retry_attempts: Option<Value>,
    destination_config: Option<Destinations>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Destinations {
    on_success: Option<Destination>,
    on_failure: Option<Destination>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Destination {
    destination: Option<String>,
}

/// The name of the function and its configuration.
pub(super) fn event_invoke(resource: &Resource) -> Result<(String, EventInvoke), Refusal> {
    let given: EventInvokeProperties = resource.read()?;
    let refuse = |property: &str, reason: String| resource.refuse(&format!("Properties.{property}"), reason);
    if given.qualifier != "$LATEST" {
        return Err(refuse("Qualifier", "versions and aliases are not emulated; $LATEST is".into()));
    }
    let destinations =
        given.destination_config.unwrap_or(Destinations { on_success: None, on_failure: None });
    let destination = |given: Option<Destination>, property: &str| {
        let arn = given.and_then(|destination| destination.destination);
        match arn.as_deref().map(|arn| arn.split(':').nth(2).unwrap_or_default()) {
            None | Some("sqs" | "lambda" | "events") => Ok(arn),
            Some(other) => Err(refuse(
                &format!("DestinationConfig.{property}"),
                format!("{other} as a destination is not emulated"),
            )),
        }
    };
    let defaults = EventInvoke::default();
    let config = EventInvoke {
        max_age_s: bounded(given.maximum_event_age_in_seconds.as_ref(), defaults.max_age_s as u64, 60, 21_600)
            .map_err(|reason| refuse("MaximumEventAgeInSeconds", reason))? as i64,
        retries: bounded(given.maximum_retry_attempts.as_ref(), defaults.retries.into(), 0, 2)
            .map_err(|reason| refuse("MaximumRetryAttempts", reason))? as u32,
        on_success: destination(destinations.on_success, "OnSuccess")?,
        on_failure: destination(destinations.on_failure, "OnFailure")?,
    };
    Ok((name_of(&given.function_name), config))
}

/// The name in a name or an ARN.
pub(crate) fn name_of(function: &str) -> String {
    let parts: Vec<&str> = function.split(':').collect();
    match parts.iter().position(|part| *part == "function") {
        Some(at) => parts.get(at + 1).copied().unwrap_or_default().to_owned(),
        None => parts[0].to_owned(),
    }
}

/// One statement of a function's policy; calls are not authorised here, GetPolicy shows it.
#[derive(Debug, Clone)]
pub(super) struct Permission {
    pub sid: String,
    pub function: String,
    pub action: String,
    pub principal: String,
    pub source_arn: Option<String>,
    pub source_account: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct PermissionProperties {
    function_name: String,
    action: String,
    principal: String,
    source_arn: Option<String>,
    source_account: Option<String>,
}

pub(super) fn permission(resource: &Resource) -> Result<Permission, Refusal> {
    let given: PermissionProperties = resource.read()?;
    Ok(Permission {
        sid: format!("{}-{}", resource.stack, resource.logical_id),
        function: name_of(&given.function_name),
        action: given.action,
        principal: given.principal,
        source_arn: given.source_arn,
        source_account: given.source_account,
    })
}
