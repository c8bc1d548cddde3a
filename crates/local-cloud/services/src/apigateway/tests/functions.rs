//! Lambda proxy integration.

use super::*;

#[tokio::test]
async fn a_function_gets_the_proxy_event_with_a_decoded_query_and_the_path_as_written() {
    let (cloud, calls) = function_answering(json!({"statusCode": 200, "body": "[]"}), false).await;
    let uri = "/search/USA/Any%20Town?limit=5&limit=7&next=a%2Bb";
    let seen = call(
        &cloud,
        "GET",
        uri,
        &[
            ("X-Forwarded-Proto", "https"),
            ("x-mine", "1"),
            ("content-md5", "x"),
            ("connection", "keep-alive"),
        ],
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
    for name in ["connection", "content-md5"] {
        assert!(event["headers"].get(name).is_none(), "{name}");
    }
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
async fn an_answer_of_a_function_needs_no_member_at_all() {
    for (answer, body) in [
        (json!({}), ""),
        (json!({"body": "x"}), "x"),
        (json!({"headers": null}), ""),
        (json!({"body": "eA==", "isBase64Encoded": true}), "eA=="),
    ] {
        let (cloud, _) = function_answering(answer, false).await;
        let seen = call(&cloud, "GET", "/search/usa/anytown", &[], "").await;
        assert_eq!((seen.status, seen.body.as_str()), (200, body));
    }
}

/// Sends text over a connection of its own and reads until `end`.
async fn over_the_wire(address: std::net::SocketAddr, requests: &[&str], end: &str) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    for request in requests {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(end.as_bytes()) {
            assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "the connection was closed");
        }
    }
}

#[tokio::test]
async fn header_names_arrive_as_the_client_wrote_them_on_every_request_of_a_connection() {
    let (cloud, calls) = function_answering(json!({"statusCode": 200, "body": "[]"}), false).await;
    let port = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = port.local_addr().unwrap();
    let server = tokio::spawn(serve(cloud, port));
    let first = "GET /search/usa/a HTTP/1.1\r\nhost: localhost\r\ntEsT-HEADeR: 1\r\naUThorization: me\r\nx-low: 1\r\nContent-Length: 6\r\n\r\nX-A: b";
    let second = "GET /search/usa/b HTTP/1.1\r\nHost: localhost\r\nTest-Header: 2\r\n\r\n";
    over_the_wire(address, &[first, second], "[]").await;
    server.abort();
    let calls = calls.lock().unwrap();
    let headers: Vec<Value> = calls
        .iter()
        .map(|call| match call {
            Call::Function { payload, .. } => {
                serde_json::from_slice::<Value>(payload).unwrap()["headers"].take()
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(headers[0]["tEsT-HEADeR"], "1");
    assert_eq!(headers[0]["Authorization"], "me");
    assert_eq!(headers[0]["x-low"], "1");
    assert_eq!(headers[0]["Host"], "localhost");
    assert_eq!(headers[1]["Test-Header"], "2");
}

#[tokio::test]
async fn a_malformed_answer_and_a_failed_function_are_bad_gateways() {
    for (answer, failed) in [
        (json!({"statusCode": 200}), true),
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
async fn a_body_that_is_not_utf_8_is_read_as_text_with_replacements() {
    let (cloud, calls) = function_answering(json!({}), false).await;
    let latin = [("content-type", "text/plain; charset=iso-8859-1")];
    call(&cloud, "GET", "/search/usa/anytown", &latin, b"caf\xe9").await;
    let event = event_of(&calls);
    assert_eq!((&event["body"], &event["isBase64Encoded"]), (&json!("caf\u{FFFD}"), &json!(false)));
}

#[tokio::test]
async fn an_event_over_six_megabytes_is_too_long_for_a_function() {
    let (cloud, calls) = function_answering(json!({"statusCode": 200}), false).await;
    let seen = call(&cloud, "GET", "/search/usa/anytown", &[], &"x".repeat(6 * 1024 * 1024)).await;
    assert_eq!((seen.status, seen.body.as_str()), (413, r#"{"message": "Request Too Long"}"#));
    assert!(calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn without_a_double_a_service_that_refuses_is_an_internal_error_for_the_client() {
    let cloud = crate::testing::cloud();
    cloud.deploy(&resource("RestApi", "api1", json!({"Body": document()}))).await.unwrap();
    cloud
        .deploy(&resource("Deployment", "d", json!({"RestApiId": "api1", "StageName": "Stage"})))
        .await
        .unwrap();
    let missing = crate::lambda::invoke(&cloud, FUNCTION, bytes::Bytes::new()).await;
    assert!(matches!(missing, Err(AwsError { .. })));
    let seen = call(&cloud, "GET", "/_aws/execute-api/api1/Stage/search/usa/anytown", &[], "").await;
    assert_eq!((seen.status, seen.body.as_str()), (500, r#"{"message": "Internal server error"}"#));
}
