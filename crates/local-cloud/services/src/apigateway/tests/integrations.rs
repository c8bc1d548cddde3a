//! Custom integrations: passthrough, mappings, choice of the response.

use super::*;

/// Deploys an API with the one method `POST /x/{id}`, which has this integration.
async fn with_integration(integration: Value, double: Double) -> Arc<Cloud> {
    let cloud = crate::testing::cloud();
    let body = json!({"openapi": "3.0.1", "paths": {"/x/{id}": {"post": {
        "responses": {
            "200": {"headers": {"X-Found": {}}},
            "404": {},
        },
        "x-amazon-apigateway-integration": integration,
    }}}});
    cloud.deploy(&resource("RestApi", "api1", json!({"Body": body}))).await.unwrap();
    cloud.deploy(&resource("Stage", "s", json!({"RestApiId": "api1", "StageName": "s"}))).await.unwrap();
    cloud.state::<State>().double.set(double).unwrap();
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
async fn a_selection_pattern_must_match_the_whole_text() {
    for (pattern, status) in
        [("not there", 200), ("it is not", 200), ("it is not there", 404), (".*there", 404)]
    {
        let mut integration = custom_function(json!({}));
        let responses = integration["responses"].as_object_mut().unwrap();
        let of_error = responses.remove(".*not there.*").unwrap();
        responses.insert(pattern.into(), of_error);
        let (double, _) = recording(200, json!({"errorMessage": "it is not there"}), true);
        let cloud = with_integration(integration, double).await;
        assert_eq!(call(&cloud, "POST", "/x/1", &[], "{}").await.status, status, "{pattern}");
    }
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

/// The template that the console offers as "Method Request passthrough".
const PASSTHROUGH: &str = r##"##  This template passes everything on
#set($allParams = $input.params())
{
"body-json" : $input.json('$'),
"params" : {
#foreach($type in $allParams.keySet())
    #set($params = $allParams.get($type))
"$type" : {
    #foreach($paramName in $params.keySet())
    "$paramName" : "$util.escapeJavaScript($params.get($paramName))"
        #if($foreach.hasNext),#end
    #end
}
    #if($foreach.hasNext),#end
#end
},
"stage-variables" : {
#foreach($key in $stageVariables.keySet())
"$key" : "$util.escapeJavaScript($stageVariables.get($key))"
    #if($foreach.hasNext),#end
#end
},
"context" : {
    "account-id" : "$context.identity.accountId",
    "api-id" : "$context.apiId",
    "api-key" : "$context.identity.apiKey",
    "authorizer-principal-id" : "$context.authorizer.principalId",
    "caller" : "$context.identity.caller",
    "cognito-authentication-provider" : "$context.identity.cognitoAuthenticationProvider",
    "cognito-authentication-type" : "$context.identity.cognitoAuthenticationType",
    "cognito-identity-id" : "$context.identity.cognitoIdentityId",
    "cognito-identity-pool-id" : "$context.identity.cognitoIdentityPoolId",
    "http-method" : "$context.httpMethod",
    "stage" : "$context.stage",
    "source-ip" : "$context.identity.sourceIp",
    "user" : "$context.identity.user",
    "user-agent" : "$context.identity.userAgent",
    "user-arn" : "$context.identity.userArn",
    "request-id" : "$context.requestId",
    "resource-id" : "$context.resourceId",
    "resource-path" : "$context.resourcePath"
    }
}
"##;

#[tokio::test]
async fn the_passthrough_template_of_the_console_makes_json_of_a_request() {
    let (double, calls) = recording(200, json!({}), false);
    let integration = custom_function(json!({"requestTemplates": {"application/json": PASSTHROUGH}}));
    let cloud = with_integration(integration, double).await;
    let headers = [("user-agent", "us/1"), ("x-mine", "a \"b\"")];
    call(&cloud, "POST", "/x/7?q=1&r=a%2Fb", &headers, r#"{"a": [1, "x"]}"#).await;
    let event = event_of(&calls);
    assert_eq!(event["body-json"], json!({"a": [1, "x"]}));
    assert_eq!(event["params"]["path"], json!({"id": "7"}));
    assert_eq!(event["params"]["querystring"], json!({"q": "1", "r": "a/b"}));
    assert_eq!(event["params"]["header"]["x-mine"], "a \"b\"");
    assert_eq!(event["stage-variables"], json!({}));
    assert_eq!(event["context"]["user-agent"], "us/1");
    assert_eq!(event["context"]["caller"], "");
    assert_eq!(event["context"]["resource-path"], "/x/{id}");
}
