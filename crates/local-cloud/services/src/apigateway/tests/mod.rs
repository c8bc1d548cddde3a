//! Requests through a whole API, against a back end that the test controls.

use axum::body::{Body, to_bytes};
use cloud_core::clock::Clock;
use cloud_core::port::testing::{SHORT, send, send_and_end};
use cloud_core::random::Random;
use cloud_core::resource::Resource;
use cloud_core::{AwsError, Settings};
use serde_json::{Value, json};

use super::backend::{Call, Reply};
use super::*;

mod double;
mod functions;
mod integrations;
mod requests;
mod stages;

pub(super) use double::Double;

const FUNCTION: &str = "arn:aws:lambda:us-east-1:123456789012:function:search";

fn document() -> Value {
    let queue = json!({
        "type": "aws",
        "httpMethod": "POST",
        "uri": "arn:aws:apigateway:us-east-1:sqs:path/123456789012/contracts",
        "credentials": "arn:aws:iam::123456789012:role/gateway",
        "passthroughBehavior": "never",
        "requestParameters": {
            "integration.request.header.Content-Type": "'application/x-www-form-urlencoded'",
        },
        "requestTemplates": {"application/json": concat!(
            "#set($key = $input.params('Idempotency-Key'))\n",
            "Action=SendMessage&MessageBody=$util.urlEncode($input.body)",
            "&Id=$util.urlEncode($context.extendedRequestId)#if($key != '')&Key=$util.urlEncode($key)#end"
        )},
        "responses": {
            "2\\d\\d": {
                "statusCode": 200,
                "responseParameters": {"method.response.header.x-command-id": "context.extendedRequestId"},
                "responseTemplates": {"application/json": "{\"message\":\"OK\"}"},
            },
            "default": {
                "statusCode": "503",
                "responseTemplates": {"application/json": concat!(
                    "#set($code = $input.path('$.Error.Code'))\n",
                    "#if($code == 'InvalidParameterValue')\n#set($context.responseOverride.status = 413)\n",
                    "{\"message\":\"too large\"}#else\n{\"message\":\"unavailable\"}#end"
                )},
            },
        },
    });
    let cors = json!({
        "type": "mock",
        "requestTemplates": {"application/json": "{\"statusCode\": 200}"},
        "responses": {"default": {
            "statusCode": 200,
            "responseParameters": {"method.response.header.Access-Control-Allow-Origin": "'*'"},
            "responseTemplates": {"application/json": ""},
        }},
    });
    let proxy = json!({
        "type": "aws_proxy",
        "httpMethod": "POST",
        "uri": format!("arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/{FUNCTION}/invocations"),
    });
    let declared = json!({
        "200": {"description": "ok", "headers": {"x-command-id": {"schema": {"type": "string"}}}},
        "503": {"description": "busy"},
    });
    json!({
        "openapi": "3.0.3",
        "info": {"title": "contracts", "version": "1"},
        "x-amazon-apigateway-request-validators": {
            "all": {"validateRequestBody": true, "validateRequestParameters": true},
        },
        "x-amazon-apigateway-request-validator": "all",
        "x-amazon-apigateway-gateway-responses": {
            "DEFAULT_4XX": {"responseParameters": {"gatewayresponse.header.Access-Control-Allow-Origin": "'*'"}},
        },
        "components": {"schemas": {"Contract": {
            "type": "object", "required": ["name"], "properties": {"name": {"type": "string", "minLength": 1}},
        }}},
        "paths": {
            "/contracts": {
                "post": {
                    "requestBody": {"required": true, "content": {"application/json": {
                        "schema": {"$ref": "#/components/schemas/Contract"},
                    }}},
                    "responses": declared,
                    "x-amazon-apigateway-integration": queue,
                },
                "options": {
                    "responses": {"200": {"description": "ok", "headers": {"Access-Control-Allow-Origin": {}}}},
                    "x-amazon-apigateway-integration": cors,
                },
            },
            "/search/{country}/{city}": {"get": {
                "parameters": [
                    {"name": "country", "in": "path", "required": true, "schema": {"type": "string"}},
                    {"name": "limit", "in": "query", "required": false},
                ],
                "x-amazon-apigateway-integration": proxy,
            }},
            "/needs": {"get": {
                "parameters": [
                    {"name": "a", "in": "query", "required": true},
                    {"name": "X-B", "in": "header", "required": true},
                ],
                "x-amazon-apigateway-integration": proxy,
            }},
        },
    })
}

fn resource(kind: &str, physical_id: &str, properties: Value) -> Resource {
    Resource {
        stack: "uni-prop-local".into(),
        logical_id: "Thing".into(),
        kind: format!("AWS::ApiGateway::{kind}"),
        physical_id: physical_id.into(),
        arn: String::new(),
        properties,
        metadata: Value::Null,
        file: "contracts-service/template.yaml".into(),
    }
}

async fn deployed_with(stage: Value, double: Double) -> Arc<Cloud> {
    deployed_in(Settings::for_tests(), stage, double).await
}

async fn deployed_in(settings: Settings, stage: Value, double: Double) -> Arc<Cloud> {
    let clock = Clock::manual(1_700_000_000_000);
    let cloud = crate::testing::open(settings, clock, Random::seeded(1)).unwrap();
    cloud
        .deploy(&resource("RestApi", "api1", json!({"Name": "contracts", "Body": document()})))
        .await
        .unwrap();
    cloud.deploy(&resource("Deployment", "d1", json!({"RestApiId": "api1"}))).await.unwrap();
    let mut properties = json!({"RestApiId": "api1", "DeploymentId": "d1", "StageName": "local"});
    properties.as_object_mut().unwrap().extend(stage.as_object().unwrap().clone());
    cloud.deploy(&resource("Stage", "local", properties)).await.unwrap();
    cloud.state::<State>().double.set(double).unwrap();
    cloud
}

/// A back end that answers always the same, and the calls that it got.
fn recording(status: u16, body: Value, function_error: bool) -> (Double, Arc<std::sync::Mutex<Vec<Call>>>) {
    let calls = Arc::new(std::sync::Mutex::new(Vec::new()));
    let double = Double::new({
        let calls = calls.clone();
        move |call| {
            calls.lock().unwrap().push(call);
            Reply { status, body: body.to_string().into(), function_error, request_id: Some("i-1".into()) }
        }
    });
    (double, calls)
}

struct Seen {
    status: u16,
    headers: axum::http::HeaderMap,
    body: String,
}

impl Seen {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

async fn call(
    cloud: &Arc<Cloud>,
    method: &str,
    uri: &str,
    headers: &[(&str, &str)],
    body: impl AsRef<[u8]>,
) -> Seen {
    let mut request = axum::http::Request::builder().method(method).uri(uri).header("host", "127.0.0.1:3000");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::from(body.as_ref().to_vec())).unwrap();
    let response = handler::handle(cloud.clone(), request).await;
    let (head, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    Seen {
        status: head.status.as_u16(),
        headers: head.headers,
        body: String::from_utf8(body.to_vec()).unwrap(),
    }
}

async fn queue_answering(status: u16, body: Value) -> (Arc<Cloud>, Arc<std::sync::Mutex<Vec<Call>>>) {
    let (double, calls) = recording(status, body, false);
    (deployed_with(json!({}), double).await, calls)
}

async fn function_answering(body: Value, failed: bool) -> (Arc<Cloud>, Arc<std::sync::Mutex<Vec<Call>>>) {
    let (double, calls) = recording(200, body, failed);
    (deployed_with(json!({}), double).await, calls)
}

fn form_of(calls: &std::sync::Mutex<Vec<Call>>) -> String {
    match calls.lock().unwrap().first() {
        Some(Call::Queue { form, .. }) => String::from_utf8(form.clone()).unwrap(),
        other => panic!("no call to a queue: {other:?}"),
    }
}

fn event_of(calls: &std::sync::Mutex<Vec<Call>>) -> Value {
    match calls.lock().unwrap().first() {
        Some(Call::Function { payload, .. }) => serde_json::from_slice(payload).unwrap(),
        other => panic!("no call to a function: {other:?}"),
    }
}

const JSON: (&str, &str) = ("content-type", "application/json");
