//! AWS JSON 1.0 and 1.1: `X-Amz-Target: Prefix.Action`, a JSON body each way.
//! <https://smithy.io/2.0/aws/protocols/aws-json-1_0-protocol.html>

use std::sync::Arc;

use axum::response::Response;
use cloud_core::faults::Call;
use cloud_core::service::{Forward, JSON_1_0, JSON_1_1, Protocol};
use cloud_core::{AwsError, Cloud, calls};
use serde_json::{Map, Value};

use super::request::Request;
use super::response::{respond, set_header};

/// A service that speaks JSON; the fields are those of its row ([`Protocol::Json`]).
struct Spoken {
    name: &'static str,
    content_type: &'static str,
    error_prefix: &'static str,
    forward: Option<Forward>,
}

pub(super) async fn handle(cloud: &Arc<Cloud>, request: &Request) -> Response {
    let target = request.header("x-amz-target").unwrap_or_default();
    let (prefix, action) = target.rsplit_once('.').unwrap_or(("", target));
    let Some(service) = service_of(cloud, request) else {
        let name = request.signed_service().unwrap_or(prefix);
        return refuse_any(cloud, request, AwsError::not_emulated(name, action));
    };
    let fault = if calls::caller().is_some() { cloud.faults.call() } else { Call::Made };
    if fault == Call::Throttled {
        return refuse(request, &service, throttled(service.name));
    }
    let answered = answer(cloud, request, &service, action).await;
    let mut response = answered.unwrap_or_else(|error| refuse(request, &service, error));
    if fault == Call::ReplyLost {
        return refuse(request, &service, AwsError::internal("the reply is lost"));
    }
    set_header(&mut response, "x-amzn-requestid", &request.id);
    response
}

async fn answer(
    cloud: &Arc<Cloud>,
    request: &Request,
    service: &Spoken,
    action: &str,
) -> Result<Response, AwsError> {
    let Some(forward) = service.forward else {
        let answer = cloud.call(service.name, action, parse(&request.body)?).await?;
        // An action without a result answers with an empty body on SQS and Logs; SDKs read `{}` alike.
        let body = if answer.is_null() { "{}".to_owned() } else { answer.to_string() };
        return Ok(respond(200, service.content_type, body));
    };
    let reply = forward(cloud, action, request.body.clone()).await?;
    // DynamoDB's clients verify it.
    let checksum = crc32fast::hash(&reply.body);
    let mut response = respond(reply.status, service.content_type, reply.body);
    set_header(&mut response, "x-amz-crc32", &checksum.to_string());
    Ok(response)
}

/// Reads a body, which must be an object; an empty body stands for an empty object.
pub(super) fn parse(body: &[u8]) -> Result<Value, AwsError> {
    if body.is_empty() {
        return Ok(Value::Object(Map::new()));
    }
    match serde_json::from_slice(body) {
        Ok(input @ Value::Object(_)) => Ok(input),
        Ok(_) => Err(AwsError::client("SerializationException", "The body is not a JSON object.")),
        Err(error) => Err(AwsError::client("SerializationException", error.to_string())),
    }
}

fn service_of(cloud: &Cloud, request: &Request) -> Option<Spoken> {
    let (prefix, _) = request.header("x-amz-target")?.rsplit_once('.')?;
    let rows = cloud.services().flat_map(|row| row.protocols.iter().map(|protocol| (row.name, protocol)));
    rows.into_iter().find_map(|(name, protocol)| match *protocol {
        Protocol::Json { content_type, targets, error_prefix, forward } if targets.contains(&prefix) => {
            Some(Spoken { name, content_type, error_prefix, forward })
        }
        _ => None,
    })
}

/// An error in the form of the request's service, or of none where it is not known.
pub(super) fn refuse_any(cloud: &Cloud, request: &Request, error: AwsError) -> Response {
    let asked_in_1_0 = request.header("content-type") == Some(JSON_1_0);
    let content_type = if asked_in_1_0 { JSON_1_0 } else { JSON_1_1 };
    let unknown = || Spoken { name: "", content_type, error_prefix: "", forward: None };
    refuse(request, &service_of(cloud, request).unwrap_or_else(unknown), error)
}

fn refuse(request: &Request, service: &Spoken, error: AwsError) -> Response {
    let mut body = error.details;
    // SQS spoke the query protocol first. Its JSON errors carry the code of that one, too.
    // https://smithy.io/2.0/aws/protocols/aws-query-protocol.html ("awsQueryCompatible")
    let query_error = body.remove("QueryErrorCode");
    body.insert("__type".into(), format!("{}{}", service.error_prefix, error.code).into());
    body.insert("message".into(), error.message.into());
    let mut response = respond(error.status, service.content_type, Value::Object(body).to_string());
    if let Some(code) = query_error.as_ref().and_then(Value::as_str) {
        let fault = if error.status < 500 { "Sender" } else { "Receiver" };
        let code = if code.contains(';') { code.to_string() } else { format!("{code};{fault}") };
        set_header(&mut response, "x-amzn-query-error", &code);
    }
    set_header(&mut response, "x-amzn-errortype", &error.code);
    set_header(&mut response, "x-amzn-requestid", &request.id);
    response
}

/// The error of a service that throttles a caller.
fn throttled(service: &str) -> AwsError {
    match service {
        // https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html
        "dynamodb" => AwsError::client(
            "ProvisionedThroughputExceededException",
            "The level of configured provisioned throughput for the table was exceeded. \
             Consider increasing your provisioning level with the UpdateTable API.",
        ),
        _ => AwsError::client("ThrottlingException", "Rate exceeded"),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;

    #[tokio::test]
    async fn an_error_of_sqs_carries_its_query_code_in_a_header_only() {
        let head = axum::http::Request::new(()).into_parts().0;
        let request = Request::new(head, "id".into());
        let mut error = AwsError::client("QueueDoesNotExist", "The specified queue does not exist.");
        error.details.insert("QueryErrorCode".into(), "AWS.SimpleQueueService.NonExistentQueue".into());
        let sqs =
            Spoken { name: "sqs", content_type: JSON_1_0, error_prefix: "com.amazonaws.sqs#", forward: None };
        let response = refuse(&request, &sqs, error);
        let header = &response.headers()["x-amzn-query-error"];
        assert_eq!(header, "AWS.SimpleQueueService.NonExistentQueue;Sender");
        let body = to_bytes(response.into_body(), 1000).await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            body,
            serde_json::json!({
                "__type": "com.amazonaws.sqs#QueueDoesNotExist",
                "message": "The specified queue does not exist.",
            })
        );
    }
}
