//! Requests through a whole API, against a back end that the test controls.

use axum::body::{Body, to_bytes};
use serde_json::{Value, json};

use super::integration::double::Double;
use super::integration::{Call, Reply};
use super::*;
use crate::clock::Clock;
use crate::random::Random;
use crate::{AwsError, Settings};

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
    let clock = Clock::manual(1_700_000_000_000);
    let cloud = Cloud::open(Settings::for_tests(), clock, Random::seeded(1)).unwrap();
    deploy(&cloud, &resource("RestApi", "api1", json!({"Name": "contracts", "Body": document()})))
        .await
        .unwrap();
    deploy(&cloud, &resource("Deployment", "d1", json!({"RestApiId": "api1"}))).await.unwrap();
    let mut properties = json!({"RestApiId": "api1", "DeploymentId": "d1", "StageName": "local"});
    properties.as_object_mut().unwrap().extend(stage.as_object().unwrap().clone());
    deploy(&cloud, &resource("Stage", "local", properties)).await.unwrap();
    cloud.apigateway.double.set(double).unwrap();
    cloud
}

/// A back end that answers always the same, and the calls that it got.
fn recording(status: u16, body: Value, function_error: bool) -> (Double, Arc<std::sync::Mutex<Vec<Call>>>) {
    let calls = Arc::new(std::sync::Mutex::new(Vec::new()));
    let double = Double::new({
        let calls = calls.clone();
        move |call| {
            calls.lock().unwrap().push(call);
            Reply { status, body: body.to_string().into(), function_error }
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

async fn call(cloud: &Arc<Cloud>, method: &str, uri: &str, headers: &[(&str, &str)], body: &str) -> Seen {
    let mut request = axum::http::Request::builder().method(method).uri(uri).header("host", "127.0.0.1:3000");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::from(body.to_owned())).unwrap();
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

#[tokio::test]
async fn an_accepted_command_is_ok_and_carries_its_command_id() {
    let (cloud, calls) = queue_answering(200, json!({"SendMessageResponse": {}})).await;
    let body = "{\"name\": \"Smith & Sons + 100% #1 \u{1F600}\\n\"}";
    let seen = call(&cloud, "POST", "/contracts", &[JSON, ("Idempotency-Key", "k&1")], body).await;
    assert_eq!((seen.status, seen.body.as_str()), (200, r#"{"message":"OK"}"#));
    assert_eq!(seen.header("content-type"), "application/json");
    assert_eq!(seen.header("x-command-id"), seen.header("x-amz-apigw-id"));
    assert_eq!(seen.header("x-amzn-requestid").len(), 36);
    let form = form_of(&calls);
    let encoded = form.strip_prefix("Action=SendMessage&MessageBody=").unwrap();
    let (encoded, rest) = encoded.split_once('&').unwrap();
    assert_eq!(vtl::form_decode(encoded), body, "the body arrives byte for byte");
    assert!(rest.ends_with("&Key=k%261"), "{rest}");
    let path = match calls.lock().unwrap().first() {
        Some(Call::Queue { path, .. }) => path.clone(),
        _ => String::new(),
    };
    assert_eq!(path, "/123456789012/contracts");
}

#[tokio::test]
async fn a_queue_that_refuses_is_never_answered_with_ok() {
    let (cloud, _) = queue_answering(400, json!({"Error": {"Code": "InvalidParameterValue"}})).await;
    let seen = call(&cloud, "POST", "/contracts", &[JSON], r#"{"name":"x"}"#).await;
    assert_eq!((seen.status, seen.body.as_str()), (413, r#"{"message":"too large"}"#));

    let (cloud, _) = queue_answering(403, json!({"Error": {"Code": "AccessDenied"}})).await;
    let seen = call(&cloud, "POST", "/contracts", &[JSON], r#"{"name":"x"}"#).await;
    assert_eq!((seen.status, seen.body.as_str()), (503, r#"{"message":"unavailable"}"#));
    assert_eq!(seen.header("x-command-id"), "");
}

#[tokio::test]
async fn an_invalid_body_is_refused_and_nothing_is_queued() {
    let (cloud, calls) = queue_answering(200, json!({})).await;
    for body in ["{}", "", "no json", r#"{"name": 1}"#, "[]"] {
        let seen = call(&cloud, "POST", "/contracts", &[JSON], body).await;
        assert_eq!(
            (seen.status, seen.body.as_str()),
            (400, r#"{"message": "Invalid request body"}"#),
            "{body}"
        );
        assert_eq!(seen.header("x-amzn-errortype"), "BadRequestException");
        assert_eq!(seen.header("access-control-allow-origin"), "*");
    }
    assert!(calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_body_of_another_content_type_is_not_validated_and_then_refused_where_passthrough_is_never() {
    let (cloud, calls) = queue_answering(200, json!({})).await;
    let seen = call(&cloud, "POST", "/contracts", &[("content-type", "text/plain")], "{}").await;
    assert_eq!((seen.status, seen.body.as_str()), (415, r#"{"message": "Unsupported Media Type"}"#));
    assert!(calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_absent_content_type_counts_as_json_and_its_parameters_do_not_count() {
    let (cloud, _) = queue_answering(200, json!({})).await;
    assert_eq!(call(&cloud, "POST", "/contracts", &[], r#"{"name":"x"}"#).await.status, 200);
    let charset = [("content-type", "Application/JSON; charset=utf-8")];
    assert_eq!(call(&cloud, "POST", "/contracts", &charset, r#"{"name":"x"}"#).await.status, 200);
    assert_eq!(call(&cloud, "POST", "/contracts", &charset, "{}").await.status, 400);
}

#[tokio::test]
async fn an_unknown_route_or_method_is_a_missing_authentication_token() {
    let (cloud, _) = queue_answering(200, json!({})).await;
    for (method, uri) in [
        ("GET", "/nothing"),
        ("DELETE", "/contracts"),
        ("HEAD", "/search/usa/anytown"),
        ("OPTIONS", "/search/usa/anytown"),
        ("GET", "/_aws/execute-api/api1/other/search/usa/anytown"),
        ("GET", "/_aws/execute-api/nobody/local/search/usa/anytown"),
    ] {
        let seen = call(&cloud, method, uri, &[], "").await;
        assert_eq!(seen.status, 403, "{method} {uri}");
        assert_eq!(seen.body, r#"{"message":"Missing Authentication Token"}"#);
        assert_eq!(seen.header("x-amzn-errortype"), "MissingAuthenticationTokenException");
        assert_eq!(seen.header("x-amz-apigw-id").len(), 16);
    }
}

#[tokio::test]
async fn a_mock_integration_answers_preflight_requests() {
    let (cloud, calls) = queue_answering(200, json!({})).await;
    let seen = call(&cloud, "OPTIONS", "/contracts", &[("origin", "http://x")], "").await;
    assert_eq!((seen.status, seen.body.as_str()), (200, ""));
    assert_eq!(seen.header("access-control-allow-origin"), "*");
    assert!(calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn missing_and_blank_parameters_are_named_together() {
    let (cloud, _) = function_answering(json!({"statusCode": 200}), false).await;
    let seen = call(&cloud, "GET", "/needs?a=", &[], "").await;
    assert_eq!(seen.status, 400);
    assert_eq!(seen.body, r#"{"message": "Missing required request parameters: [a, X-B]"}"#);
    assert_eq!(call(&cloud, "GET", "/needs?a=1", &[("x-b", "2")], "").await.status, 200);
}

#[tokio::test]
async fn a_function_gets_the_proxy_event_with_a_decoded_query_and_the_path_as_written() {
    let (cloud, calls) = function_answering(json!({"statusCode": 200, "body": "[]"}), false).await;
    let uri = "/search/USA/Any%20Town?limit=5&limit=7&next=a%2Bb";
    let seen = call(
        &cloud,
        "GET",
        uri,
        &[("X-Forwarded-Proto", "https"), ("x-mine", "1"), ("aCCept", "*/*"), ("connection", "keep-alive")],
        "",
    )
    .await;
    assert_eq!((seen.status, seen.body.as_str()), (200, "[]"));
    assert_eq!(seen.header("content-type"), "application/json");
    let event = event_of(&calls);
    assert_eq!(event["resource"], "/search/{country}/{city}");
    assert_eq!(event["path"], "/search/USA/Any%20Town");
    assert_eq!(event["httpMethod"], "GET");
    assert_eq!(event["pathParameters"], json!({"country": "USA", "city": "Any%20Town"}));
    assert_eq!(event["queryStringParameters"], json!({"limit": "7", "next": "a+b"}));
    assert_eq!(event["multiValueQueryStringParameters"]["limit"], json!(["5", "7"]));
    assert_eq!(event["headers"]["Host"], "127.0.0.1:3000");
    assert_eq!(event["headers"]["X-Forwarded-Proto"], "http", "a client cannot forge it");
    assert_eq!(event["headers"]["X-Forwarded-Port"], "3000");
    assert_eq!(event["headers"]["X-Forwarded-For"], "127.0.0.1");
    assert_eq!(event["headers"]["x-mine"], "1");
    assert_eq!(event["multiValueHeaders"]["x-mine"], json!(["1"]));
    assert_eq!(event["headers"]["Accept"], "*/*");
    assert!(event["headers"].get("connection").is_none());
    assert_eq!(event["body"], Value::Null);
    assert_eq!(event["isBase64Encoded"], false);
    assert_eq!(event["stageVariables"], Value::Null);
    let context = &event["requestContext"];
    assert_eq!(context["path"], "/search/USA/Any%20Town");
    assert_eq!(context["stage"], "local");
    assert_eq!(context["apiId"], "api1");
    assert_eq!(context["deploymentId"], "d1");
    assert_eq!(context["resourcePath"], "/search/{country}/{city}");
    assert_eq!(context["requestTimeEpoch"], 1_700_000_000_000_i64);
    assert_eq!(context["requestTime"], "14/Nov/2023:22:13:20 +0000");
    assert_eq!(context["protocol"], "HTTP/1.1");
    assert_eq!(context["extendedRequestId"], seen.header("x-amz-apigw-id"));
    assert_eq!(context["requestId"], seen.header("x-amzn-requestid"));
}

#[tokio::test]
async fn a_client_can_choose_the_request_id_but_not_the_extended_one() {
    let (cloud, calls) = queue_answering(200, json!({})).await;
    let headers = [JSON, ("x-amzn-RequestId", "mine"), ("x-amz-apigw-id", "mine")];
    let seen = call(&cloud, "POST", "/contracts", &headers, r#"{"name":"x"}"#).await;
    assert_eq!(seen.header("x-amzn-requestid"), "mine");
    assert_ne!(seen.header("x-command-id"), "mine");
    assert!(form_of(&calls).contains(&vtl::url_encode(seen.header("x-command-id"))));
}

#[tokio::test]
async fn at_the_invoke_address_the_context_path_is_the_one_that_the_client_sees() {
    let (cloud, calls) = function_answering(json!({"statusCode": 204}), false).await;
    let uri = "/_aws/execute-api/api1/local/search/usa/anytown";
    assert_eq!(call(&cloud, "GET", uri, &[], "").await.status, 204);
    let event = event_of(&calls);
    assert_eq!(event["path"], "/search/usa/anytown");
    assert_eq!(event["requestContext"]["path"], uri);
}

#[tokio::test]
async fn a_function_decides_status_and_headers() {
    let answer = json!({
        "statusCode": "404", "body": "{}", "isBase64Encoded": false,
        "headers": {"Content-Type": "application/problem+json", "X-A": 1, "Server": "mine", "Content-Length": "9"},
        "multiValueHeaders": {"X-A": ["2", "3"]},
    });
    let (cloud, _) = function_answering(answer, false).await;
    let seen = call(&cloud, "GET", "/search/usa/anytown", &[], "").await;
    assert_eq!(seen.status, 404);
    assert_eq!(seen.header("content-type"), "application/problem+json");
    let all: Vec<_> = seen.headers.get_all("x-a").iter().map(|value| value.to_str().unwrap()).collect();
    assert_eq!(all, ["2", "3"]);
    assert_eq!(seen.header("x-amzn-remapped-server"), "mine");
    assert_eq!(seen.header("content-length"), "");
}

#[tokio::test]
async fn a_malformed_answer_and_a_failed_function_are_bad_gateways() {
    for (answer, failed) in [
        (json!({"statusCode": 200}), true),
        (json!({"body": "x"}), false),
        (json!({"statusCode": 200, "body": {"not": "text"}}), false),
        (json!({"statusCode": "many"}), false),
        (json!({"statusCode": 200, "extra": 1}), false),
        (json!("text"), false),
        (Value::Null, false),
    ] {
        let (cloud, _) = function_answering(answer.clone(), failed).await;
        let seen = call(&cloud, "GET", "/search/usa/anytown", &[], "").await;
        assert_eq!(
            (seen.status, seen.body.as_str()),
            (502, r#"{"message": "Internal server error"}"#),
            "{answer}"
        );
        assert_eq!(seen.header("x-amzn-errortype"), "InternalServerErrorException");
    }
}

#[tokio::test]
async fn a_back_end_that_is_silent_for_29_seconds_is_a_gateway_timeout() {
    let cloud = deployed_with(json!({}), Double::silent()).await;
    let waiting = tokio::spawn({
        let cloud = cloud.clone();
        async move { call(&cloud, "GET", "/search/usa/anytown", &[], "").await }
    });
    tokio::task::yield_now().await;
    cloud.clock.advance(std::time::Duration::from_millis(28_999));
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    cloud.clock.advance(std::time::Duration::from_millis(1));
    let seen = waiting.await.unwrap();
    assert_eq!((seen.status, seen.body.as_str()), (504, r#"{"message": "Endpoint request timed out"}"#));
}

#[tokio::test]
async fn a_body_over_ten_megabytes_is_refused_before_anything_else() {
    let (cloud, calls) = queue_answering(200, json!({})).await;
    let body = "x".repeat(10 * 1024 * 1024 + 1);
    let seen = call(&cloud, "POST", "/contracts", &[JSON], &body).await;
    assert_eq!((seen.status, seen.body.as_str()), (413, "HTTP content length exceeded 10485760 bytes."));
    let announced = [JSON, ("content-length", "10485761")];
    assert_eq!(call(&cloud, "POST", "/contracts", &announced, "").await.status, 413);
    assert!(calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_event_over_six_megabytes_is_too_long_for_a_function() {
    let (cloud, calls) = function_answering(json!({"statusCode": 200}), false).await;
    let seen = call(&cloud, "GET", "/search/usa/anytown", &[], &"x".repeat(6 * 1024 * 1024)).await;
    assert_eq!((seen.status, seen.body.as_str()), (413, r#"{"message": "Request Too Long"}"#));
    assert!(calls.lock().unwrap().is_empty());
}

fn throttled() -> Value {
    json!({"MethodSettings": [
        {"HttpMethod": "*", "ResourcePath": "/*", "ThrottlingRateLimit": "1", "ThrottlingBurstLimit": 2},
        {"HttpMethod": "POST", "ResourcePath": "/~1contracts", "ThrottlingRateLimit": 1, "ThrottlingBurstLimit": 1},
    ]})
}

#[tokio::test]
async fn each_method_has_its_own_bucket_and_its_own_setting_wins() {
    let (double, _) = recording(200, json!({"statusCode": 200}), false);
    let cloud = deployed_with(throttled(), double).await;
    let post = async || call(&cloud, "POST", "/contracts", &[JSON], r#"{"name":"x"}"#).await;
    let get = async || call(&cloud, "GET", "/search/usa/anytown", &[], "").await.status;
    assert_eq!(post().await.status, 200);
    let seen = post().await;
    assert_eq!((seen.status, seen.body.as_str()), (429, r#"{"message":"Too Many Requests"}"#));
    assert_eq!(seen.header("x-amzn-errortype"), "TooManyRequestsException");
    assert_eq!([get().await, get().await, get().await], [200, 200, 429]);
    cloud.clock.advance(std::time::Duration::from_secs(1));
    assert_eq!(post().await.status, 200);
    cloud.apigateway.disable_throttling();
    assert_eq!(post().await.status, 200);
}

#[tokio::test]
async fn a_setting_for_a_method_that_the_api_does_not_have_is_refused() {
    let (double, _) = recording(200, json!({}), false);
    let cloud = deployed_with(json!({}), double).await;
    for (setting, named) in [
        (json!({"HttpMethod": "GET", "ResourcePath": "/contracts"}), "GET /contracts"),
        (json!({"HttpMethod": "*", "ResourcePath": "/*", "CachingEnabled": true}), "CachingEnabled"),
        (json!({"HttpMethod": "*", "ResourcePath": "/*", "CacheTtlInSeconds": 1}), "CacheTtlInSeconds"),
    ] {
        let properties = json!({"RestApiId": "api1", "StageName": "x", "MethodSettings": [setting]});
        let refusal = deploy(&cloud, &resource("Stage", "x", properties)).await.unwrap_err().to_string();
        assert!(refusal.contains(named), "{refusal}");
    }
}

#[tokio::test]
async fn an_access_log_needs_a_request_id_and_names_that_are_known() {
    let (double, _) = recording(200, json!({}), false);
    let cloud = deployed_with(json!({}), double).await;
    let stage = async |format: &str| {
        let arn = "arn:aws:logs:us-east-1:123456789012:log-group:/aws/api/contracts:*";
        let properties = json!({
            "RestApiId": "api1", "StageName": "x",
            "AccessLogSetting": {"DestinationArn": arn, "Format": format},
        });
        deploy(&cloud, &resource("Stage", "x", properties)).await
    };
    let format = "{\"id\":\"$context.requestId\",\"s\":$context.status,\"who\":\"$context.identity.caller\"}";
    assert!(stage(format).await.is_ok());
    let deployed = cloud.apigateway.stage("api1", "x").unwrap();
    let line = deployed.log_line(&json!({"requestId": "r", "status": 202}));
    let expected = "{\"id\":\"r\",\"s\":202,\"who\":\"-\"}".to_owned();
    assert_eq!(line, Some(("/aws/api/contracts", expected)));
    assert!(stage("$context.status").await.unwrap_err().reason.contains("requestId"));
    assert!(
        stage("$context.requestId $context.nothing").await.unwrap_err().reason.contains("$context.nothing")
    );
}

#[tokio::test]
async fn an_unknown_property_of_an_api_is_refused_by_name() {
    let cloud = Cloud::for_tests().unwrap();
    let policy = json!({"Body": document(), "Policy": {}});
    let refusal = deploy(&cloud, &resource("RestApi", "a", policy)).await.unwrap_err().to_string();
    assert!(refusal.contains("Policy") && refusal.contains("contracts-service/template.yaml"), "{refusal}");
    let orphan = json!({"RestApiId": "nobody", "StageName": "local"});
    assert!(deploy(&cloud, &resource("Stage", "s", orphan)).await.unwrap_err().reason.contains("nobody"));
}

#[tokio::test]
async fn without_a_double_a_service_that_refuses_is_an_internal_error_for_the_client() {
    let cloud = Cloud::for_tests().unwrap();
    deploy(&cloud, &resource("RestApi", "api1", json!({"Body": document()}))).await.unwrap();
    deploy(&cloud, &resource("Deployment", "d", json!({"RestApiId": "api1", "StageName": "Stage"})))
        .await
        .unwrap();
    let missing = crate::lambda::invoke(&cloud, FUNCTION, bytes::Bytes::new()).await;
    assert!(matches!(missing, Err(AwsError { .. })));
    let seen = call(&cloud, "GET", "/_aws/execute-api/api1/Stage/search/usa/anytown", &[], "").await;
    assert_eq!((seen.status, seen.body.as_str()), (500, r#"{"message": "Internal server error"}"#));
}

/// Deploys an API with the one method `POST /x/{id}`, which has this integration.
async fn with_integration(integration: Value, double: Double) -> Arc<Cloud> {
    let cloud = Cloud::for_tests().unwrap();
    let body = json!({"openapi": "3.0.1", "paths": {"/x/{id}": {"post": {
        "responses": {
            "200": {"headers": {"X-Found": {}}},
            "404": {},
        },
        "x-amazon-apigateway-integration": integration,
    }}}});
    deploy(&cloud, &resource("RestApi", "api1", json!({"Body": body}))).await.unwrap();
    deploy(&cloud, &resource("Stage", "s", json!({"RestApiId": "api1", "StageName": "s"}))).await.unwrap();
    cloud.apigateway.double.set(double).unwrap();
    cloud
}

fn custom_function(changes: Value) -> Value {
    let mut integration = json!({
        "type": "aws", "httpMethod": "POST",
        "uri": format!("arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/{FUNCTION}/invocations"),
        "responses": {
            "default": {
                "statusCode": 200,
                "responseParameters": {"method.response.header.X-Found": "integration.response.body.found"},
            },
            ".*not there.*": {"statusCode": 404, "responseTemplates": {
                "text/plain": "$input.path('$.errorMessage') ($input.params('id'))",
            }},
        },
    });
    integration.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    integration
}

#[tokio::test]
async fn a_custom_function_integration_chooses_by_the_error_message() {
    let (double, _) = recording(200, json!({"errorMessage": "it is not there"}), true);
    let cloud = with_integration(custom_function(json!({})), double).await;
    let seen = call(&cloud, "POST", "/x/a%20b", &[], "{}").await;
    assert_eq!((seen.status, seen.body.as_str()), (404, "it is not there (a b)"));
    assert_eq!(seen.header("content-type"), "text/plain");

    let (double, _) = recording(200, json!({"found": "not there"}), false);
    let cloud = with_integration(custom_function(json!({})), double).await;
    let seen = call(&cloud, "POST", "/x/1", &[], "{}").await;
    assert_eq!((seen.status, seen.header("x-found")), (200, "not there"));
    assert_eq!(seen.body, r#"{"found":"not there"}"#, "without a template the body passes");
}

#[tokio::test]
async fn an_answer_that_no_integration_response_matches_is_an_internal_error() {
    let mut integration = custom_function(json!({}));
    integration["responses"].as_object_mut().unwrap().remove("default");
    let (double, _) = recording(200, json!({}), false);
    let cloud = with_integration(integration, double).await;
    let seen = call(&cloud, "POST", "/x/1", &[], "{}").await;
    assert_eq!((seen.status, seen.body.as_str()), (500, r#"{"message": "Internal server error"}"#));
}

#[tokio::test]
async fn the_passthrough_behaviour_decides_about_bodies_without_a_template() {
    let json = json!({"application/json": "template"});
    // Behaviour, templates, content type, what the function gets (`None`: 415).
    let table = [
        ("when_no_match", json!({}), "text/plain", Some("body")),
        ("when_no_match", json.clone(), "text/plain", Some("body")),
        ("when_no_match", json.clone(), "application/json", Some("template")),
        ("when_no_templates", json!({}), "text/plain", Some("body")),
        ("when_no_templates", json.clone(), "text/plain", None),
        ("when_no_templates", json.clone(), "application/json", Some("template")),
        ("never", json!({}), "application/json", None),
        ("never", json.clone(), "text/plain", None),
        ("never", json.clone(), "application/json", Some("template")),
    ];
    for (behaviour, templates, content_type, expected) in table {
        let (double, calls) = recording(200, json!({}), false);
        let changes = json!({"passthroughBehavior": behaviour, "requestTemplates": templates});
        let cloud = with_integration(custom_function(changes), double).await;
        let seen = call(&cloud, "POST", "/x/1", &[("content-type", content_type)], "body").await;
        let got = match calls.lock().unwrap().first() {
            Some(Call::Function { payload, .. }) => Some(String::from_utf8(payload.to_vec()).unwrap()),
            _ => None,
        };
        assert_eq!(got.as_deref(), expected, "{behaviour} {content_type}");
        assert_eq!(seen.status, if expected.is_some() { 200 } else { 415 });
    }
}

#[tokio::test]
async fn a_template_that_asks_for_json_refuses_another_body() {
    let (double, calls) = recording(200, json!({}), false);
    let changes = json!({"requestTemplates": {"application/json": "$input.json('$')"}});
    let cloud = with_integration(custom_function(changes), double).await;
    let seen = call(&cloud, "POST", "/x/1", &[], "no json").await;
    assert_eq!(seen.status, 400);
    assert!(seen.body.contains("Could not parse request body into json"), "{}", seen.body);
    assert!(calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn mapped_query_parameters_go_into_the_queues_form() {
    let (double, calls) = recording(200, json!({}), false);
    let integration = json!({
        "type": "aws", "httpMethod": "POST", "credentials": "arn:aws:iam::1:role/r",
        "uri": "arn:aws:apigateway:us-east-1:sqs:path/123456789012/q",
        "requestParameters": {
            "integration.request.header.Content-Type": "'application/x-www-form-urlencoded'",
            "integration.request.querystring.MessageBody": "method.request.path.id",
        },
        "requestTemplates": {"application/json": "Action=SendMessage"},
        "responses": {"default": {"statusCode": 200}},
    });
    let cloud = with_integration(integration, double).await;
    assert_eq!(call(&cloud, "POST", "/x/a%26b%20c", &[], "").await.status, 200);
    assert_eq!(form_of(&calls), "MessageBody=a%26b+c&Action=SendMessage");
}

#[tokio::test]
async fn a_connection_is_kept_for_the_next_request() {
    let (cloud, _) = function_answering(json!({"statusCode": 200, "body": "[]"}), false).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move { axum::serve(listener, router(cloud)).await });
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    for _ in 0..2 {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        stream.write_all(b"GET /search/usa/anytown HTTP/1.1\r\nHost: here\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"[]") {
            assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "the connection was closed");
        }
        assert!(answer.starts_with(b"HTTP/1.1 200 OK"));
    }
    server.abort();
}
