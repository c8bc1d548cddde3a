//! Functions and the settings of their asynchronous invocations, as templates describe them.

use std::collections::BTreeMap;

use cloud_core::Cloud;
use cloud_core::resource::{Refusal, Resource};
use serde::Deserialize;
use serde_json::Value;

/// Names that Lambda sets itself and that a template must not set (configuration-envvars,
/// "Reserved environment variables").
#[rustfmt::skip]
const RESERVED: [&str; 17] = [
    "_HANDLER", "_X_AMZN_TRACE_ID", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE", "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_LAMBDA_RUNTIME_API",
    "LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR",
];

/// Concurrent executions of all functions of an account (gettingstarted-limits).
pub(super) const ACCOUNT_CONCURRENCY: usize = 1_000;

/// 100 of an account's concurrent executions are never reserved (configuration-concurrency).
const MAX_RESERVED: u64 = ACCOUNT_CONCURRENCY as u64 - 100;

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
    // The binary that `Metadata.Binary` names runs in place of a package.
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

/// Reads a function's properties; the limits are those of gettingstarted-limits and of the CloudFormation
/// reference.
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
    let dead_letter_target = given.dead_letter_config.and_then(|config| config.target_arn);
    if let Some(target) = dead_letter_target.as_deref().filter(|arn| !arn.contains(":sqs:")) {
        let reason = format!("{target} is not a queue; only queues are emulated");
        return Err(refuse("DeadLetterConfig.TargetArn", reason));
    }
    let number = |property: &str, value: Option<&Value>, default: u64, least: u64, most: u64| {
        bounded(value, default, least, most).map_err(|reason| refuse(property, reason))
    };
    let reserved = given.reserved_concurrent_executions.as_ref();
    let reserved =
        reserved.map(|value| number("ReservedConcurrentExecutions", Some(value), 0, 0, MAX_RESERVED));
    let architecture = given.architectures.and_then(|list| list.into_iter().next());
    let tracing = given.tracing_config.and_then(|config| config.mode);
    Ok(Config {
        arn: cloud.arn("lambda", &format!("function:{name}")),
        binary: binary.to_owned(),
        description: given.description.unwrap_or_default(),
        handler: given.handler.unwrap_or_default(),
        runtime,
        architecture: architecture.unwrap_or_else(|| "x86_64".into()),
        role: given.role.unwrap_or_default(),
        timeout_s: number("Timeout", given.timeout.as_ref(), 3, 1, 900)?,
        memory_mb: number("MemorySize", given.memory_size.as_ref(), 128, 128, 10_240)?,
        variables: variables(given.environment).map_err(|reason| refuse("Environment.Variables", reason))?,
        reserved_concurrency: reserved.transpose()?.map(|most| most as usize),
        dead_letter_target,
        tracing: tracing.unwrap_or_else(|| "PassThrough".into()),
        logging: logging(&name, given.logging_config.unwrap_or_default())
            .map_err(|reason| refuse("LoggingConfig.LogFormat", reason))?,
        tags: given.tags.into_iter().flatten().map(|tag| (tag.key, text(&tag.value))).collect(),
        deployed_ms: cloud.clock.now_ms(),
        name,
    })
}

fn logging(function: &str, given: LoggingProperties) -> Result<Logging, String> {
    let json = match given.log_format.as_deref() {
        None | Some("Text") => false,
        Some("JSON") => true,
        Some(other) => return Err(format!("{other} is neither Text nor JSON")),
    };
    Ok(Logging {
        group: given.log_group.unwrap_or_else(|| format!("/aws/lambda/{function}")),
        json,
        application_level: given.application_log_level.unwrap_or_else(|| "INFO".into()),
        system_level: given.system_log_level.unwrap_or_else(|| "INFO".into()),
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

/// The settings of a function's asynchronous invocations (API_PutFunctionEventInvokeConfig).
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

#[derive(Deserialize, Default)]
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

/// The name of the function, and its settings.
pub(super) fn event_invoke(resource: &Resource) -> Result<(String, EventInvoke), Refusal> {
    let given: EventInvokeProperties = resource.read()?;
    let refuse = |property: &str, reason: String| resource.refuse(&format!("Properties.{property}"), reason);
    if given.qualifier != "$LATEST" {
        return Err(refuse("Qualifier", "versions and aliases are not emulated; $LATEST is".into()));
    }
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
    let max_age_s =
        bounded(given.maximum_event_age_in_seconds.as_ref(), defaults.max_age_s as u64, 60, 21_600);
    let retries = bounded(given.maximum_retry_attempts.as_ref(), defaults.retries.into(), 0, 2);
    let destinations = given.destination_config.unwrap_or_default();
    let config = EventInvoke {
        max_age_s: max_age_s.map_err(|reason| refuse("MaximumEventAgeInSeconds", reason))? as i64,
        retries: retries.map_err(|reason| refuse("MaximumRetryAttempts", reason))? as u32,
        on_success: destination(destinations.on_success, "OnSuccess")?,
        on_failure: destination(destinations.on_failure, "OnFailure")?,
    };
    Ok((name_of(&given.function_name), config))
}

/// The name in a name or an ARN.
pub(crate) fn name_of(function: &str) -> String {
    let mut parts = function.split(':');
    let first = parts.next().unwrap_or_default();
    match parts.find(|part| *part == "function") {
        Some(_) => parts.next().unwrap_or_default().to_owned(),
        None => first.to_owned(),
    }
}
