//! Deployments and stages: throttling, access logs, refused properties.

use super::*;

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
    cloud.state::<State>().disable_throttling();
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
        let refusal = cloud.deploy(&resource("Stage", "x", properties)).await.unwrap_err().to_string();
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
        cloud.deploy(&resource("Stage", "x", properties)).await
    };
    let format = "{\"id\":\"$context.requestId\",\"s\":$context.status,\"who\":\"$context.identity.caller\"}";
    assert!(stage(format).await.is_ok());
    let deployed = cloud.state::<State>().stage("api1", "x").unwrap();
    let line = deployed.log_line(&json!({"requestId": "r", "status": 202}));
    let expected = "{\"id\":\"r\",\"s\":202,\"who\":\"-\"}".to_owned();
    assert_eq!(line, Some(("/aws/api/contracts", expected)));
    assert!(stage("$context.status").await.unwrap_err().reason.contains("requestId"));
    assert!(
        stage("$context.requestId $context.nothing").await.unwrap_err().reason.contains("$context.nothing")
    );
}

#[tokio::test]
async fn the_access_log_tells_what_the_function_and_what_lambda_answered() {
    let arn = "arn:aws:logs:us-east-1:123456789012:log-group:/aws/api/contracts";
    let format = concat!(
        "$context.extendedRequestId $context.requestId $context.resourcePath $context.status $context.responseLength ",
        "$context.integration.status $context.integrationStatus $context.integration.requestId ",
        "$context.integrationLatency $context.error.message $context.integrationErrorMessage"
    );
    let stage = json!({"AccessLogSetting": {"DestinationArn": arn, "Format": format}});
    let (double, _) = recording(200, json!({"statusCode": 404, "body": "{}"}), false);
    let cloud = deployed_with(stage, double).await;
    let seen = call(&cloud, "GET", "/search/usa/anytown", &[], "").await;
    let ids = format!("{} {}", seen.header("x-amz-apigw-id"), seen.header("x-amzn-requestid"));
    let expected = format!("{ids} /search/{{country}}/{{city}} 404 2 404 200 i-1 0 - -");
    assert_eq!(cloud.state::<State>().logged.lock().unwrap().as_slice(), [expected]);

    // Unrouted requests of the shared origin belong to no stage, those of an invoke address do.
    call(&cloud, "GET", "/search", &[], "").await;
    assert_eq!(cloud.state::<State>().logged.lock().unwrap().len(), 1);
    let seen = call(&cloud, "GET", "/_aws/execute-api/api1/local/search", &[], "").await;
    let ids = format!("{} {}", seen.header("x-amz-apigw-id"), seen.header("x-amzn-requestid"));
    let expected = format!("{ids} - 403 42 - - - - Missing Authentication Token -");
    assert_eq!(cloud.state::<State>().logged.lock().unwrap().last(), Some(&expected));
}

#[tokio::test]
async fn an_unknown_property_of_an_api_is_refused_by_name() {
    let cloud = crate::testing::cloud();
    let policy = json!({"Body": document(), "Policy": {}});
    let refusal = cloud.deploy(&resource("RestApi", "a", policy)).await.unwrap_err().to_string();
    assert!(refusal.contains("Policy") && refusal.contains("contracts-service/template.yaml"), "{refusal}");
    let private = json!({"Body": document(), "EndpointConfiguration": {"Types": ["PRIVATE"]}});
    let refusal = cloud.deploy(&resource("RestApi", "a", private)).await.unwrap_err().to_string();
    assert!(refusal.contains("EndpointConfiguration.Types: PRIVATE"), "{refusal}");
    let orphan = json!({"RestApiId": "nobody", "StageName": "local"});
    assert!(cloud.deploy(&resource("Stage", "s", orphan)).await.unwrap_err().reason.contains("nobody"));
}
