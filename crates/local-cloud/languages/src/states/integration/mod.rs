//! The service integrations: which `Resource` ARNs exist here, what request a task makes of
//! its arguments, and what result or error name it makes of the service's reply. Nothing in
//! here calls anything.

mod services;

use cloud_core::AwsError;
use serde_json::{Map, Value, json};
use services::{DYNAMODB_ERRORS, LAMBDA_ERRORS, SDKS, Sdk};

use super::tree::Failure;

/// A task's `Resource`, understood.
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

/// What a task asks of the rest of the cloud.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// A function; `asynchronous` waits for nothing.
    Invoke {
        /// Name or ARN.
        function: String,
        /// The event.
        payload: Value,
        /// `InvocationType: Event`.
        asynchronous: bool,
    },
    /// An action of a service.
    Call {
        /// The service's name at the endpoint.
        service: &'static str,
        /// The action.
        action: &'static str,
        /// Its input.
        input: Value,
    },
}

/// What came back.
#[derive(Debug, Clone)]
pub enum Reply {
    /// A function ran.
    Invoked {
        /// Its answer or its error document.
        payload: Value,
        /// Whether it failed.
        function_error: Option<String>,
        /// The id of the invocation.
        request_id: String,
    },
    /// A function was queued.
    Queued,
    /// A service answered.
    Answer(Value),
}

impl Resource {
    /// Understands an ARN.
    ///
    /// # Errors
    /// One sentence on what is not emulated.
    pub fn parse(arn: &str) -> Result<Self, String> {
        let not_emulated = || format!("{arn} is not emulated");
        let resource = |target, waits_for_token| Ok(Self { arn: arn.into(), waits_for_token, target });
        if arn.starts_with("arn:aws:lambda:") && arn.contains(":function:") {
            return resource(Target::Function, false);
        }
        let name = arn.strip_prefix("arn:aws:states:::").ok_or_else(not_emulated)?;
        let (name, waits) = match name.strip_suffix(".waitForTaskToken") {
            Some(name) => (name, true),
            None => (name, false),
        };
        match (name, waits) {
            ("lambda:invoke", waits) => return resource(Target::Invoke, waits),
            ("sqs:sendMessage", waits) => return resource(Target::SendMessage, waits),
            ("events:putEvents", false) => return resource(Target::PutEvents, false),
            ("dynamodb:getItem", false) => return resource(Target::Dynamo("GetItem"), false),
            ("dynamodb:putItem", false) => return resource(Target::Dynamo("PutItem"), false),
            ("dynamodb:updateItem", false) => return resource(Target::Dynamo("UpdateItem"), false),
            ("dynamodb:deleteItem", false) => return resource(Target::Dynamo("DeleteItem"), false),
            _ => {}
        }
        let found = name.strip_prefix("aws-sdk:").and_then(|name| name.split_once(':')).and_then(
            |(service, action)| {
                let sdk = SDKS.iter().find(|sdk| sdk.name == service)?;
                // The ARN says `getItem` where the API says `GetItem`.
                let action = sdk.actions.iter().find(|known| lower_first(known) == action)?;
                Some(Target::Sdk(sdk, action))
            },
        );
        match found {
            Some(target) if !waits => resource(target, false),
            _ => Err(not_emulated()),
        }
    }

    /// `resourceType` and `resource` in history events: `lambda` and `invoke.waitForTaskToken`.
    pub fn history_names(&self) -> (&str, &str) {
        let name = self.arn.strip_prefix("arn:aws:states:::").unwrap_or(&self.arn);
        name.rsplit_once(':').unwrap_or(("lambda", name))
    }

    /// Whose result it is that was too large: the function's ARN, or the service.
    pub fn limited_as(&self) -> &str {
        if self.is_function_arn() { &self.arn } else { self.history_names().0 }
    }

    /// Whether this is a function by its ARN, which has history events of its own.
    pub fn is_function_arn(&self) -> bool {
        self.target == Target::Function
    }

    /// Holds arguments that are an object against what the integration takes.
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

    /// The request that a task with these arguments makes.
    ///
    /// # Errors
    /// `States.Runtime` where the arguments do not fit the integration.
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

    /// The task's result, or the error that it fails with. `request_id` is that of the request,
    /// where the reply has none of its own.
    ///
    /// # Errors
    /// The error under the name that Step Functions gives it.
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
            (Target::PutEvents, Ok(Reply::Answer(answer))) => {
                // https://docs.aws.amazon.com/step-functions/latest/dg/connect-eventbridge.html
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
        let (service, prefix, base, modelled): (&str, &str, &str, &[&str]) = match &self.target {
            Target::Function | Target::Invoke => {
                ("AWSLambda", "Lambda", "Lambda.AWSLambdaException", LAMBDA_ERRORS)
            }
            Target::PutEvents => (
                "AmazonEventBridge",
                "EventBridge",
                "EventBridge.AmazonEventBridgeException",
                &["InternalException"],
            ),
            Target::SendMessage => ("AmazonSQS", "SQS", "SQS.AmazonSQSException", &[]),
            Target::Dynamo(_) => {
                ("AmazonDynamoDBv2", "DynamoDB", "DynamoDB.AmazonDynamoDBException", DYNAMODB_ERRORS)
            }
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
        let name = if modelled.contains(&code) {
            // AWS adds the suffix where the service's own name has none.
            let suffix = if code.ends_with("Exception") { "" } else { "Exception" };
            format!("{prefix}.{code}{suffix}")
        } else if base.is_empty() {
            format!("{prefix}.{prefix}Exception")
        } else {
            base.to_owned()
        };
        // The SDKs behind the two kinds of integration write their exceptions differently.
        let (message, status) = (&error.message, error.status);
        let cause = if let Target::Sdk(..) = self.target {
            format!("{message} (Service: {service}, Status Code: {status}, Request ID: {request_id})")
        } else {
            let code = &error.code;
            format!(
                "{message} (Service: {service}; Status Code: {status}; Error Code: {code}; Request ID: {request_id}; Proxy: null)"
            )
        };
        Failure::new(&name, &cause)
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

/// Optimised integrations add what the SDK knows about the call.
fn with_metadata(mut result: Value, status: u16, request_id: &str) -> Value {
    if let Some(members) = result.as_object_mut() {
        members.insert("SdkHttpMetadata".into(), json!({"HttpStatusCode": status}));
        members.insert("SdkResponseMetadata".into(), json!({"RequestId": request_id}));
    }
    result
}

/// The SDK integration gives an object's body as text.
fn text_body(mut answer: Value) -> Value {
    use base64::Engine as _;
    let bytes = answer
        .get("Body")
        .and_then(Value::as_str)
        .and_then(|body| base64::engine::general_purpose::STANDARD.decode(body).ok());
    if let Some(bytes) = bytes {
        answer["Body"] = String::from_utf8_lossy(&bytes).into_owned().into();
    }
    answer
}

/// The API's timestamps are numbers; in a result they are text.
fn with_dates(mut answer: Value) -> Value {
    for name in ["startDate", "stopDate"] {
        if let Some(seconds) = answer.get(name).and_then(Value::as_f64) {
            answer[name] = super::machine::rfc3339((seconds * 1000.0).round() as i64).into();
        }
    }
    answer
}

/// Parameters are in PascalCase even where the service's API is in camelCase.
/// <https://docs.aws.amazon.com/step-functions/latest/dg/supported-services-awssdk.html>
fn rename(value: &Value, how: fn(&str) -> String) -> Value {
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

fn upper_first(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests;
