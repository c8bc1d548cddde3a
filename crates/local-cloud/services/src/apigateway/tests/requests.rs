//! What a client sees: routes, validation, limits, ids.

use super::*;

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
    assert_eq!(cloud_languages::vtl::form_decode(encoded), body, "the body arrives byte for byte");
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
async fn a_client_can_choose_the_request_id_but_not_the_extended_one() {
    let (cloud, calls) = queue_answering(200, json!({})).await;
    let headers = [JSON, ("x-amzn-RequestId", "mine"), ("x-amz-apigw-id", "mine")];
    let seen = call(&cloud, "POST", "/contracts", &headers, r#"{"name":"x"}"#).await;
    assert_eq!(seen.header("x-amzn-requestid"), "mine");
    assert_ne!(seen.header("x-command-id"), "mine");
    assert!(form_of(&calls).contains(&cloud_languages::vtl::url_encode(seen.header("x-command-id"))));
}

#[tokio::test]
async fn a_body_over_ten_megabytes_is_refused_before_anything_else() {
    let (cloud, calls) = queue_answering(200, json!({})).await;
    let body = "x".repeat(10 * 1024 * 1024 + 1);
    let seen = call(&cloud, "POST", "/contracts", &[JSON], &body).await;
    assert_eq!((seen.status, seen.body.as_str()), (413, "HTTP content length exceeded 10485760 bytes."));
    assert_eq!((seen.header("x-amzn-requestid"), seen.header("x-amz-apigw-id")), ("", ""));
    let announced = [JSON, ("content-length", "10485761")];
    assert_eq!(call(&cloud, "POST", "/contracts", &announced, "").await.status, 413);
    assert!(calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_connection_is_kept_for_the_next_request() {
    let (cloud, _) = function_answering(json!({"statusCode": 200, "body": "[]"}), false).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move { serve(cloud, listener).await });
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    for _ in 0..2 {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        stream.write_all(b"GET /search/usa/anytown HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"[]") {
            assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "the connection was closed");
        }
        assert!(answer.starts_with(b"HTTP/1.1 200 OK"));
    }
    server.abort();
}

#[tokio::test]
async fn one_origin_answers_for_every_api_and_the_one_that_has_the_method_wins() {
    let (cloud, _) = queue_answering(200, json!({})).await;
    let teapot = json!({
        "type": "mock",
        "requestTemplates": {"application/json": "{\"statusCode\": 200}"},
        "responses": {"default": {"statusCode": 418}},
    });
    let method = json!({"responses": {"418": {}}, "x-amazon-apigateway-integration": teapot});
    let body = json!({"openapi": "3.0.1", "paths": {
        "/listings": {"get": method},
        "/contracts": {"delete": method},
    }});
    cloud.deploy(&resource("RestApi", "api2", json!({"Body": body}))).await.unwrap();
    let stage = json!({"RestApiId": "api2", "StageName": "local"});
    cloud.deploy(&resource("Stage", "local", stage)).await.unwrap();
    for (method, uri, status) in [
        ("GET", "/listings", 418),
        ("GET", "/listings/", 418),
        ("DELETE", "/contracts", 418),
        ("OPTIONS", "/contracts", 200),
        ("PATCH", "/contracts", 403),
        ("GET", "/_aws/execute-api/api2/local/listings", 418),
        ("GET", "/_aws/execute-api/api1/local/listings", 403),
    ] {
        assert_eq!(call(&cloud, method, uri, &[], "").await.status, status, "{method} {uri}");
    }
}

#[tokio::test]
async fn deploying_again_replaces_the_api_and_its_stage() {
    let (cloud, _) = queue_answering(200, json!({})).await;
    let empty = json!({"Body": {"openapi": "3.0.1", "paths": {}}});
    cloud.deploy(&resource("RestApi", "api1", empty)).await.unwrap();
    let stage = json!({"RestApiId": "api1", "StageName": "local"});
    cloud.deploy(&resource("Stage", "local", stage)).await.unwrap();
    assert_eq!(call(&cloud, "OPTIONS", "/contracts", &[], "").await.status, 403);
}

#[tokio::test]
async fn any_page_is_answered_but_only_by_a_name_of_this_machine() {
    let (cloud, calls) = queue_answering(200, json!({})).await;
    let page = [JSON, ("origin", "https://elsewhere.example"), ("sec-fetch-site", "cross-site")];
    for (host, status) in [
        ("localhost:3000", 200),
        ("api.localhost", 200),
        ("[::1]:3000", 200),
        ("evil.example:3000", 403),
        ("127.0.0.1.evil.example", 403),
        ("", 403),
    ] {
        let before = calls.lock().unwrap().len();
        let mut request = axum::http::Request::post("/contracts").header("host", host);
        for (name, value) in page {
            request = request.header(name, value);
        }
        let response =
            handler::handle(cloud.clone(), request.body(Body::from(r#"{"name":"a"}"#)).unwrap()).await;
        assert_eq!(response.status(), status, "{host}");
        assert_eq!(calls.lock().unwrap().len() - before, usize::from(status == 200), "{host}");
    }
    let twice = call(&cloud, "POST", "/contracts", &[JSON, ("host", "evil.example")], "{}").await;
    assert_eq!(twice.status, 400);
    let absolute = call(&cloud, "POST", "http://evil.example/contracts", &[JSON], r#"{"name":"a"}"#).await;
    assert_eq!(absolute.status, 403);
}

#[tokio::test]
async fn a_body_that_is_cut_short_or_does_not_go_on_is_no_body_that_is_too_long() {
    let (double, calls) = recording(200, json!({}), false);
    let cloud = deployed_in(Settings { patience: SHORT, ..Settings::for_tests() }, json!({}), double).await;
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = port.local_addr().unwrap();
    let server = tokio::spawn(serve(cloud, port));
    let head = "POST /contracts HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    let silent = send(address, format!("{head}content-length: 9\r\n\r\n{{").as_bytes()).await;
    assert!(silent.starts_with("HTTP/1.1 408"), "{silent}");
    let cut = send_and_end(address, format!("{head}content-length: 9\r\n\r\n{{").as_bytes()).await;
    assert!(cut.is_empty() || cut.starts_with("HTTP/1.1 400"), "{cut}");
    let broken = send(address, format!("{head}transfer-encoding: chunked\r\n\r\nzz\r\n").as_bytes()).await;
    assert!(broken.starts_with("HTTP/1.1 400"), "{broken}");
    assert_eq!(send(address, &head.as_bytes()[..40]).await, "", "half a head");
    server.abort();
    assert!(calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_path_that_no_api_knows_has_the_headers_of_the_gateway_responses() {
    let (cloud, _) = queue_answering(200, json!({})).await;
    for uri in ["/nothing", "/", "/_aws/execute-api/api1/local/nothing"] {
        let seen = call(&cloud, "GET", uri, &[("origin", "https://elsewhere.example")], "").await;
        assert_eq!((seen.status, seen.header("access-control-allow-origin")), (403, "*"), "{uri}");
    }
    let no_api = call(&cloud, "GET", "/_aws/execute-api/nobody/local/nothing", &[], "").await;
    assert_eq!((no_api.status, no_api.header("access-control-allow-origin")), (403, ""));
}
