use serde_json::{Value, json};

use super::*;

fn mock() -> Value {
    json!({
        "type": "MOCK",
        "requestTemplates": {"application/json": "{\"statusCode\": 200}"},
        "responses": {"default": {"statusCode": "200"}},
    })
}

fn queue() -> Value {
    json!({
        "type": "aws", "httpMethod": "POST", "credentials": "arn:aws:iam::1:role/r",
        "uri": "arn:aws:apigateway:us-east-1:sqs:path/123456789012/q",
        "requestParameters": {
            "integration.request.header.Content-Type": "'application/x-www-form-urlencoded'",
        },
    })
}

/// A document with one method whose operation is `{responses, integration}` changed by `change`.
fn with_operation(integration: Value, change: impl Fn(&mut Value)) -> Result<RestApi, Invalid> {
    let mut operation = json!({
        "responses": {"200": {"description": "ok", "headers": {"X": {}}}},
        "x-amazon-apigateway-integration": integration,
    });
    change(&mut operation);
    read("a", &json!({"openapi": "3.0.1", "paths": {"/x/{id}": {"post": operation}}}))
}

fn refused_integration(mut integration: Value, key: &str, value: Value) -> Invalid {
    integration[key] = value;
    let refusal = with_operation(integration, |_| {}).unwrap_err();
    assert!(refusal.path.contains("paths./x/{id}.post.x-amazon-apigateway-integration"), "{refusal:?}");
    refusal
}

#[test]
fn what_only_documents_is_allowed_and_other_vendors_extensions_too() {
    let api = with_operation(mock(), |operation| {
        for key in ["summary", "description", "operationId"] {
            operation[key] = json!("text");
        }
        operation["tags"] = json!(["a"]);
        operation["x-internal"] = json!(1);
    });
    assert_eq!(api.unwrap().resources[0].path, "/x/{id}");
}

#[test]
fn what_would_have_an_effect_is_refused_by_its_path() {
    for (key, value) in [
        ("security", json!([{"sigv4": []}])),
        ("x-amazon-apigateway-auth", json!({"type": "AWS_IAM"})),
        ("callbacks", json!({})),
    ] {
        let refusal = with_operation(mock(), |operation| operation[key] = value.clone()).unwrap_err();
        assert_eq!(refusal.path, format!("paths./x/{{id}}.post.{key}"));
    }
    let root = |key: &str| {
        let document = json!({"openapi": "3.0.1", "paths": {}, key: {}});
        read("a", &document).unwrap_err().path
    };
    assert_eq!(root("x-amazon-apigateway-policy"), "x-amazon-apigateway-policy");
    assert_eq!(root("security"), "security");
    let schemes = json!({"openapi": "3.0.1", "paths": {}, "components": {"securitySchemes": {}}});
    assert_eq!(read("a", &schemes).unwrap_err().path, "components.securitySchemes");
    assert_eq!(read("a", &json!({"swagger": "2.0"})).unwrap_err().path, "swagger");
    assert_eq!(read("a", &json!({"openapi": "3.1.0"})).unwrap_err().path, "openapi");
}

#[test]
fn a_method_without_an_integration_is_refused_as_aws_does_when_it_deploys() {
    let refusal = with_operation(mock(), |operation| {
        operation.as_object_mut().unwrap().remove("x-amazon-apigateway-integration");
    });
    assert!(refusal.unwrap_err().reason.contains("no integration"));
}

#[test]
fn a_validator_that_does_not_exist_is_refused() {
    let refusal = with_operation(mock(), |operation| operation[VALIDATOR] = json!("nobody")).unwrap_err();
    assert!(refusal.reason.contains("nobody"));
}

#[test]
fn integrations_that_are_not_emulated_are_refused() {
    assert!(refused_integration(queue(), "type", json!("http_proxy")).reason.contains("http_proxy"));
    assert!(
        refused_integration(queue(), "contentHandling", json!("CONVERT_TO_BINARY"))
            .path
            .ends_with("contentHandling")
    );
    assert!(
        refused_integration(queue(), "connectionType", json!("VPC_LINK")).path.ends_with("connectionType")
    );
    assert!(refused_integration(queue(), "httpMethod", json!("GET")).reason.contains("POST"));
    assert!(refused_integration(queue(), "timeoutInMillis", json!(30_000)).path.ends_with("timeoutInMillis"));
    assert!(
        refused_integration(queue(), "cacheKeyParameters", json!([])).path.ends_with("cacheKeyParameters")
    );
    assert!(refused_integration(queue(), "passthroughBehavior", json!("always")).reason.contains("always"));
    assert!(refused_integration(queue(), "credentials", json!("")).reason.contains("credentials"));
    for uri in [
        "arn:aws:apigateway:us-east-1:sqs:action/SendMessage",
        "arn:aws:apigateway:us-east-1:dynamodb:action/GetItem",
        "https://x",
    ] {
        assert!(refused_integration(queue(), "uri", json!(uri)).path.ends_with("uri"), "{uri}");
    }
}

#[test]
fn a_queue_needs_the_content_type_of_a_form() {
    let refusal = refused_integration(queue(), "requestParameters", json!({}));
    assert!(refusal.reason.contains("application/x-www-form-urlencoded"));
}

#[test]
fn a_mapping_can_only_read_parameters_that_the_method_declares() {
    let mut integration = queue();
    integration["requestParameters"]["integration.request.querystring.Id"] = json!("method.request.path.id");
    assert!(with_operation(integration.clone(), |_| {}).is_ok());
    integration["requestParameters"]["integration.request.querystring.Id"] = json!("method.request.header.X");
    let refusal = with_operation(integration.clone(), |_| {}).unwrap_err();
    assert!(refusal.reason.contains("header parameter X"), "{refusal:?}");
    let declared = with_operation(integration, |operation| {
        operation["parameters"] = json!([{"name": "X", "in": "header"}]);
    });
    assert!(declared.is_ok());
}

#[test]
fn a_response_header_must_be_declared_by_the_method_response_as_on_aws() {
    let response = |status: u16, header: &str| {
        let mut integration = mock();
        integration["responses"]["default"] = json!({
            "statusCode": status,
            "responseParameters": {format!("method.response.header.{header}"): "'1'"},
        });
        with_operation(integration, |_| {})
    };
    assert!(response(200, "X").is_ok());
    assert!(response(200, "Y").unwrap_err().reason.contains("declares no header Y"));
    assert!(response(201, "X").unwrap_err().reason.contains("declares no response 201"));
}

#[test]
fn a_broken_template_is_refused_with_its_place() {
    let refusal =
        refused_integration(mock(), "requestTemplates", json!({"application/json": "\n$util.md5('x')"}));
    assert!(refusal.path.ends_with("requestTemplates.application/json"));
    assert!(refusal.reason.contains("line 2") && refusal.reason.contains("md5"), "{refusal:?}");
}

#[test]
fn a_request_template_cannot_override_the_response() {
    let template = "#if(true)\n#set($context.responseOverride.status = 400)#end{\"statusCode\": 200}";
    let refusal = refused_integration(mock(), "requestTemplates", json!({"application/json": template}));
    assert!(refusal.reason.contains("line 2") && refusal.reason.contains("override"), "{refusal:?}");
}

#[test]
fn only_the_content_type_of_an_integration_can_be_mapped() {
    let header = |name: &str| {
        let mut integration = mock();
        integration["responses"]["default"]["responseParameters"] =
            json!({"method.response.header.X": format!("integration.response.header.{name}")});
        with_operation(integration, |_| {})
    };
    assert!(header("Content-Type").is_ok());
    assert!(header("ETag").unwrap_err().reason.contains("ETag"));
}

#[test]
fn a_path_parameter_must_stand_in_the_path() {
    let refusal = with_operation(mock(), |operation| {
        operation["parameters"] = json!([{"name": "other", "in": "path", "required": true}]);
    });
    assert!(refusal.unwrap_err().reason.contains("{other}"));
}

#[test]
fn shared_parameters_can_be_referred_to() {
    let document = json!({
        "openapi": "3.0.1",
        "components": {"parameters": {"Id": {"name": "id", "in": "path", "required": true}}},
        "paths": {"/x/{id}": {"parameters": [{"$ref": "#/components/parameters/Id"}], "get": {
            "responses": {"200": {}}, "x-amazon-apigateway-integration": mock(),
        }}},
    });
    assert!(read("a", &document).is_ok());
    let mut broken = document;
    broken["paths"]["/x/{id}"]["parameters"] = json!([{"$ref": "#/components/parameters/None"}]);
    assert!(read("a", &broken).unwrap_err().reason.contains("None"));
}

#[test]
fn more_than_one_response_template_is_refused() {
    let mut integration = mock();
    integration["responses"]["default"]["responseTemplates"] =
        json!({"application/json": "", "text/plain": ""});
    assert!(with_operation(integration, |_| {}).unwrap_err().reason.contains("more than one"));
}
