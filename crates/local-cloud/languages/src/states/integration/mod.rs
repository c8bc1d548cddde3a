//! The service integrations: the `Resource` ARNs that are emulated, the request that a task makes of its
//! arguments, and the result or error that it makes of the service's reply. It calls nothing.

mod services;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cloud_core::AwsError;
use cloud_core::clock::rfc3339;
use serde_json::{Map, Value, json};
pub use services::SDKS;
use services::{DYNAMODB_ERRORS, LAMBDA_ERRORS, Sdk};

use super::tree::Failure;

/// A parsed `Resource` of a task.
#[derive(Debug, Clone, PartialEq)]
pub struct Resource {
    /// As written.
    pub arn: String,
    /// `.waitForTaskToken`: the task ends when its token comes back.
    pub waits_for_token: bool,
    target: Target,
}

#[derive(Debug, Clone, PartialEq)]
enum Target {
    /// A function by its ARN: payload in, payload out.
    Function,
    /// `lambda:invoke`.
    Invoke,
    /// `events:putEvents`.
    PutEvents,
    /// `sqs:sendMessage`.
    SendMessage,
    /// `dynamodb:getItem` and its siblings.
    Dynamo(&'static str),
    /// `aws-sdk:service:action`.
    Sdk(&'static Sdk, &'static str),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    Invoke {
        /// Name or ARN.
        function: String,
        payload: Value,
        /// `InvocationType: Event`.
        asynchronous: bool,
    },
    Call {
        /// The service's name at the endpoint.
        service: &'static str,
        action: &'static str,
        input: Value,
    },
}

#[derive(Debug, Clone)]
pub enum Reply {
    /// A function ran.
    Invoked {
        /// Its answer or its error document.
        payload: Value,
        function_error: Option<String>,
        request_id: String,
    },
    /// A function was queued.
    Queued,
    /// A service answered.
    Answer(Value),
}

impl Resource {
    /// # Errors
    /// One sentence that names the ARN, if it is not emulated.
    pub fn parse(arn: &str) -> Result<Self, String> {
        let (target, waits_for_token) = if arn.starts_with("arn:aws:lambda:") && arn.contains(":function:") {
            (Some(Target::Function), false)
        } else {
            let name = arn.strip_prefix("arn:aws:states:::").unwrap_or_default();
            match name.strip_suffix(".waitForTaskToken") {
                Some(name) => (Target::parse(name, true), true),
                None => (Target::parse(name, false), false),
            }
        };
        let target = target.ok_or_else(|| format!("{arn} is not emulated"))?;
        Ok(Self { arn: arn.into(), waits_for_token, target })
    }

    /// `resourceType` and `resource` in history events: `lambda` and `invoke.waitForTaskToken`.
    pub fn history_names(&self) -> (&str, &str) {
        let name = self.arn.strip_prefix("arn:aws:states:::").unwrap_or(&self.arn);
        name.rsplit_once(':').unwrap_or(("lambda", name))
    }

    /// The name of the task in `States.DataLimitExceeded`: the function's ARN, or the service.
    pub fn limited_as(&self) -> &str {
        if self.is_function_arn() { &self.arn } else { self.history_names().0 }
    }

    /// Whether this is a function by its ARN, which has history events of its own.
    pub fn is_function_arn(&self) -> bool {
        self.target == Target::Function
    }

    /// Checks the arguments, if they are an object and not an expression.
    ///
    /// # Errors
    /// One sentence that names the argument.
    pub fn check(&self, arguments: &Value) -> Result<(), String> {
        let (required, allowed): (&[&str], &[&str]) = match self.target {
            Target::Invoke => (&["FunctionName"], &["FunctionName", "Payload", "InvocationType"]),
            Target::SendMessage => (
                &["QueueUrl", "MessageBody"],
                &["QueueUrl", "MessageBody", "DelaySeconds", "MessageAttributes", "MessageSystemAttributes"],
            ),
            Target::PutEvents => (&["Entries"], &["Entries", "EndpointId"]),
            _ => return Ok(()),
        };
        let Some(arguments) = arguments.as_object() else { return Ok(()) };
        if let Some(missing) = required.iter().find(|name| !arguments.contains_key(**name)) {
            return Err(format!("{missing} is required for {}", self.arn));
        }
        match arguments.keys().find(|name| !allowed.contains(&name.as_str())) {
            Some(other) => Err(format!("the argument {other} of {} is not emulated", self.arn)),
            None => Ok(()),
        }
    }

    /// The request of a task with these arguments.
    ///
    /// # Errors
    /// `States.Runtime` if the arguments do not fit the integration.
    pub fn request(
        &self,
        arguments: Value,
        execution_arn: &str,
        state_machine_arn: &str,
    ) -> Result<Request, Failure> {
        let call = |service, action, input| Ok(Request::Call { service, action, input });
        match &self.target {
            Target::Function => {
                Ok(Request::Invoke { function: self.arn.clone(), payload: arguments, asynchronous: false })
            }
            Target::Invoke => self.invocation(arguments, Value::clone),
            // An SDK blob may be given as text or as JSON.
            Target::Sdk(Sdk { name: "lambda", .. }, _) => self.invocation(arguments, |payload| {
                payload
                    .as_str()
                    .and_then(|text| serde_json::from_str(text).ok())
                    .unwrap_or_else(|| payload.clone())
            }),
            Target::PutEvents => {
                call("events", "PutEvents", put_events(arguments, execution_arn, state_machine_arn))
            }
            Target::SendMessage => {
                let mut input = self.object(arguments)?;
                stringify(&mut input, "MessageBody");
                call("sqs", "SendMessage", Value::Object(input))
            }
            Target::Dynamo(action) => call("dynamodb", action, arguments),
            Target::Sdk(sdk @ Sdk { name: "sfn", .. }, action) => {
                let mut input = self.object(rename(&arguments, lower_first))?;
                stringify(&mut input, "input");
                stringify(&mut input, "output");
                call(sdk.endpoint, action, Value::Object(input))
            }
            Target::Sdk(sdk, action) => call(sdk.endpoint, action, arguments),
        }
    }

    fn object(&self, arguments: Value) -> Result<Map<String, Value>, Failure> {
        self.check(&arguments).map_err(|reason| Failure::runtime(&reason))?;
        match arguments {
            Value::Object(arguments) => Ok(arguments),
            other => Err(Failure::runtime(&format!("{} takes an object, not {other}", self.arn))),
        }
    }

    fn invocation(&self, arguments: Value, payload: impl Fn(&Value) -> Value) -> Result<Request, Failure> {
        let arguments = self.object(arguments)?;
        let Some(function) = arguments.get("FunctionName").and_then(Value::as_str) else {
            return Err(Failure::runtime("FunctionName must be a string"));
        };
        let asynchronous = match arguments.get("InvocationType").and_then(Value::as_str) {
            None | Some("RequestResponse") => false,
            Some("Event") => true,
            Some(other) => return Err(Failure::runtime(&format!("InvocationType {other} is not emulated"))),
        };
        let payload = arguments.get("Payload").map_or_else(|| json!({}), payload);
        Ok(Request::Invoke { function: function.into(), payload, asynchronous })
    }

    /// The task's result. `request_id` is for replies without an id of their own.
    ///
    /// # Errors
    /// The error that the task fails with, under its name in Step Functions.
    pub fn settle(&self, reply: Result<Reply, AwsError>, request_id: &str) -> Result<Value, Failure> {
        match (&self.target, reply) {
            (_, Err(error)) => Err(self.failure(&error, request_id)),
            (Target::Sdk(..), Ok(Reply::Invoked { payload, function_error, .. })) => {
                let mut result =
                    json!({"ExecutedVersion": "$LATEST", "Payload": payload.to_string(), "StatusCode": 200});
                if let Some(error) = function_error {
                    result["FunctionError"] = error.into();
                }
                Ok(result)
            }
            (_, Ok(Reply::Invoked { payload, function_error: Some(_), .. })) => {
                Err(function_failure(&payload))
            }
            (Target::Function, Ok(Reply::Invoked { payload, .. })) => Ok(payload),
            (_, Ok(Reply::Invoked { payload, request_id, .. })) => Ok(with_metadata(
                json!({"ExecutedVersion": "$LATEST", "Payload": payload, "StatusCode": 200}),
                200,
                &request_id,
            )),
            (_, Ok(Reply::Queued)) => {
                Ok(with_metadata(json!({"Payload": "", "StatusCode": 202}), 202, request_id))
            }
            // https://docs.aws.amazon.com/step-functions/latest/dg/connect-eventbridge.html
            (Target::PutEvents, Ok(Reply::Answer(answer))) => {
                if answer.get("FailedEntryCount").and_then(Value::as_i64).unwrap_or(0) > 0 {
                    return Err(Failure::new("EventBridge.FailedEntry", &answer.to_string()));
                }
                Ok(with_metadata(answer, 200, request_id))
            }
            (Target::Sdk(sdk, action), Ok(Reply::Answer(answer))) => Ok(match (sdk.name, *action) {
                ("sfn", _) => rename(&with_dates(answer), upper_first),
                ("s3", "GetObject") => text_body(answer),
                _ => answer,
            }),
            (_, Ok(Reply::Answer(answer))) => Ok(with_metadata(answer, 200, request_id)),
        }
    }

    fn failure(&self, error: &AwsError, request_id: &str) -> Failure {
        // The service in the cause, the prefix of error names, the name of other errors, modelled errors.
        let (service, prefix, other, modelled): (&str, &str, &str, &[&str]) = match &self.target {
            Target::Function | Target::Invoke => ("AWSLambda", "Lambda", "AWSLambdaException", LAMBDA_ERRORS),
            Target::PutEvents => {
                ("AmazonEventBridge", "EventBridge", "AmazonEventBridgeException", &["InternalException"])
            }
            Target::SendMessage => ("AmazonSQS", "SQS", "AmazonSQSException", &[]),
            Target::Dynamo(_) => ("AmazonDynamoDBv2", "DynamoDB", "AmazonDynamoDBException", DYNAMODB_ERRORS),
            Target::Sdk(sdk, _) => (sdk.prefix, sdk.prefix, "", sdk.modelled),
        };
        let code = match (&self.target, error.code.as_str()) {
            // HEAD has no body, so S3 sends 404 alone; the SDK reads it as NoSuchKey.
            (Target::Sdk(_, "HeadObject"), "NotFound" | "404") => "NoSuchKey",
            // A fault of the Lambda service itself.
            // https://docs.aws.amazon.com/step-functions/latest/dg/sfn-best-practices.html
            (Target::Function | Target::Invoke, "InternalFailure") => "ServiceException",
            (_, code) => code,
        };
        let name = match (modelled.contains(&code), other) {
            (true, _) if code.ends_with("Exception") => format!("{prefix}.{code}"),
            // AWS adds the suffix to a code without one.
            (true, _) => format!("{prefix}.{code}Exception"),
            (false, "") => format!("{prefix}.{prefix}Exception"),
            (false, other) => format!("{prefix}.{other}"),
        };
        // The SDKs behind the two kinds of integration write their exceptions differently.
        let (message, status, code) = (&error.message, error.status, &error.code);
        let cause = if let Target::Sdk(..) = self.target {
            format!("{message} (Service: {service}, Status Code: {status}, Request ID: {request_id})")
        } else {
            format!(
                "{message} (Service: {service}; Status Code: {status}; Error Code: {code}; Request ID: {request_id}; Proxy: null)"
            )
        };
        Failure::new(&name, &cause)
    }
}

impl Target {
    fn parse(name: &str, waits_for_token: bool) -> Option<Self> {
        match name {
            "lambda:invoke" => return Some(Self::Invoke),
            "sqs:sendMessage" => return Some(Self::SendMessage),
            _ if waits_for_token => return None,
            "events:putEvents" => return Some(Self::PutEvents),
            _ => {}
        }
        // The ARN says `getItem` where the API says `GetItem`.
        if let Some(action) = name.strip_prefix("dynamodb:") {
            let known = ["GetItem", "PutItem", "UpdateItem", "DeleteItem"];
            return known.into_iter().find(|known| lower_first(known) == action).map(Self::Dynamo);
        }
        let (service, action) = name.strip_prefix("aws-sdk:")?.split_once(':')?;
        let sdk = SDKS.iter().find(|sdk| sdk.name == service)?;
        let action = sdk.actions.iter().find(|known| lower_first(known) == action)?;
        Some(Self::Sdk(sdk, action))
    }
}

/// A function's own error: its name is `errorType`, its cause the whole document.
/// <https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html>
fn function_failure(payload: &Value) -> Failure {
    match payload.get("errorType").and_then(Value::as_str) {
        Some(name) => Failure::new(name, &payload.to_string()),
        None => Failure::new(
            "Lambda.Unknown",
            &format!(
                "The cause could not be determined because Lambda did not return an error type. Returned payload: {payload}"
            ),
        ),
    }
}

/// `Detail` becomes text, and both ARNs are appended to `Resources`.
/// <https://docs.aws.amazon.com/step-functions/latest/dg/connect-eventbridge.html>
fn put_events(mut arguments: Value, execution_arn: &str, state_machine_arn: &str) -> Value {
    let entries = arguments.get_mut("Entries").and_then(Value::as_array_mut);
    for entry in entries.into_iter().flatten().filter_map(Value::as_object_mut) {
        stringify(entry, "Detail");
        let resources = entry.entry("Resources").or_insert_with(|| json!([]));
        if let Some(resources) = resources.as_array_mut() {
            resources.extend([execution_arn.into(), state_machine_arn.into()]);
        }
    }
    arguments
}

fn stringify(members: &mut Map<String, Value>, name: &str) {
    if let Some(member) = members.get_mut(name)
        && !member.is_string()
    {
        *member = Value::String(member.to_string());
    }
}

/// Optimised integrations add the SDK's metadata of the call.
fn with_metadata(mut result: Value, status: u16, request_id: &str) -> Value {
    if let Some(members) = result.as_object_mut() {
        members.insert("SdkHttpMetadata".into(), json!({"HttpStatusCode": status}));
        members.insert("SdkResponseMetadata".into(), json!({"RequestId": request_id}));
    }
    result
}

/// The SDK integration gives an object's body as text.
fn text_body(mut answer: Value) -> Value {
    let body = answer.get("Body").and_then(Value::as_str);
    if let Some(bytes) = body.and_then(|body| STANDARD.decode(body).ok()) {
        answer["Body"] = String::from_utf8_lossy(&bytes).into_owned().into();
    }
    answer
}

/// The API's timestamps are numbers; in a result they are text.
fn with_dates(mut answer: Value) -> Value {
    for name in ["startDate", "stopDate"] {
        if let Some(seconds) = answer.get(name).and_then(Value::as_f64) {
            answer[name] = rfc3339((seconds * 1000.0).round() as i64).into();
        }
    }
    answer
}

/// Renames the members at every depth: parameters are in PascalCase, even if the service's API is in camelCase.
/// <https://docs.aws.amazon.com/step-functions/latest/dg/supported-services-awssdk.html>
pub fn rename(value: &Value, how: fn(&str) -> String) -> Value {
    match value {
        Value::Object(members) => {
            Value::Object(members.iter().map(|(name, member)| (how(name), rename(member, how))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(|item| rename(item, how)).collect()),
        other => other.clone(),
    }
}

fn lower_first(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

pub fn upper_first(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests;
