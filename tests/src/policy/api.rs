//! REST APIs: what a client can send, how often, what is logged, and that no failure is told as a
//! success. Who may call them is a later rule: there is no authoriser yet.

use local_cloud::resource::Resource;
use serde_json::Value;

use super::deployment::{API, LOG_GROUP, number};
use super::{Deployment, Fault, Faults, Mutation, Rule, unless};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "api-validator",
        holds: "API: validator; a write has a body, and a schema for it",
        check: validator,
        notices: &[
            Mutation::drop(CONTRACTS, "", "x-amazon-apigateway-request-validator:").naming("Api"),
            Mutation::swap(CONTRACTS, "", "validateRequestBody: true", "validateRequestBody: false")
                .naming("Api"),
            Mutation::drop(WEB, "/request_approval", "requestBody:").naming("WebApi"),
        ],
    },
    Rule {
        name: "api-throttling",
        holds: "API: throttling",
        check: throttling,
        notices: &[
            Mutation::drop("contracts-service/template.yaml", "Api", "ThrottlingRateLimit")
                .naming("ApiStage"),
            Mutation::drop("web-service/template.yaml", "WebApi", "MethodSettings").naming("WebApiStage"),
        ],
    },
    Rule {
        name: "api-access-logs",
        holds: "API: access logs",
        check: access_logs,
        notices: &[
            Mutation::drop("web-service/template.yaml", "WebApi", "AccessLogSetting").naming("WebApiStage")
        ],
    },
    Rule {
        name: "api-failures",
        holds: "API: explicit mapping of every failure; only a 2xx of the backend is answered with 2xx",
        check: failures,
        notices: &[
            Mutation::drop(CONTRACTS, "/contracts", "default:").naming("Api"),
            Mutation::swap(WEB, "/listings", "\"2\\\\d{2}\":", "\".*\":").naming("WebApi"),
            Mutation::drop(WEB, "", "DEFAULT_5XX:").naming("WebApi"),
            Mutation::drop(CONTRACTS, "", "INTEGRATION_TIMEOUT:").naming("Api"),
            Mutation::swap(
                CONTRACTS,
                "/contracts",
                "        responses:\n          # Only what",
                "        unread:\n          # Only what",
            )
            .naming("Api"),
            // API Gateway reads types in any case.
            Mutation::swap(
                CONTRACTS,
                "/contracts",
                "x-amazon-apigateway-integration:",
                "x-amazon-apigateway-integration: { type: AWS, timeoutInMillis: 10000, passthroughBehavior: \
                 when_no_match, credentials: { Fn::GetAtt: [ApiRole, Arn] } }
      x-unread:",
            )
            .naming("Api"),
            Mutation::swap(WEB, "/listings/commands/{command_id}", "type: aws_proxy", "type: http")
                .naming("WebApi"),
        ],
    },
    Rule {
        name: "api-timeout",
        holds: "every integration has a time-out",
        check: timeout,
        notices: &[
            Mutation::drop(CONTRACTS, "/contracts", "timeoutInMillis").naming("Api"),
            Mutation::drop(WEB, "/listings/commands/{command_id}", "timeoutInMillis").naming("WebApi"),
        ],
    },
];

const CONTRACTS: &str = "contracts-service/api.yaml";
const WEB: &str = "web-service/api.yaml";
const STAGE: &str = "AWS::ApiGateway::Stage";

/// The operations of an API: `METHOD /path`, and what the document says of each.
pub(super) fn operations(api: &Resource) -> impl Iterator<Item = (String, &Value)> {
    let paths = api.properties["Body"]["paths"].as_object();
    paths.into_iter().flatten().flat_map(|(path, methods)| {
        let operations = methods
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(method, _)| METHODS.contains(&method.as_str()));
        operations.map(move |(method, operation)| (format!("{} {path}", method.to_uppercase()), operation))
    })
}

/// The keys of a path that are operations.
const METHODS: [&str; 8] =
    ["get", "put", "post", "delete", "options", "head", "patch", "x-amazon-apigateway-any-method"];

/// Where an operation leads.
pub(super) fn integration(operation: &Value) -> &Value {
    &operation["x-amazon-apigateway-integration"]
}

/// API Gateway reads the type in any case.
fn is_of_type(integration: &Value, kind: &str) -> bool {
    integration["type"].as_str().is_some_and(|given| given.eq_ignore_ascii_case(kind))
}

/// A fault for each operation that `complaint` says something about.
fn each_operation(
    deployment: &Deployment<'_>,
    complaint: impl Fn(&Resource, &str, &Value) -> Option<&'static str>,
) -> Faults {
    let mut faults = Faults::new();
    for api in deployment.all(API) {
        let wrong =
            operations(api).filter_map(|(name, operation)| Some((complaint(api, &name, operation)?, name)));
        faults.extend(wrong.map(|(wrong, name)| Fault::of(api, format!("has {name}, which {wrong}"))));
    }
    faults
}

/// <https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-method-request-validation.html>
fn validator(deployment: &Deployment<'_>) -> Faults {
    const KEY: &str = "x-amazon-apigateway-request-validator";
    let validates = |api: &Resource, name: &Value| {
        let known = &api.properties["Body"]["x-amazon-apigateway-request-validators"];
        let validator = &known[name.as_str().unwrap_or_default()];
        validator["validateRequestBody"] == true && validator["validateRequestParameters"] == true
    };
    let mut faults = deployment.each(API, |api| {
        unless(validates(api, &api.properties["Body"][KEY]), "has no validator of bodies and parameters")
    });
    faults.extend(each_operation(deployment, |api, name, operation| {
        if operation.get(KEY).is_some_and(|own| !validates(api, own)) {
            return Some("is not validated");
        }
        let writes = ["POST ", "PUT ", "PATCH "].iter().any(|method| name.starts_with(method));
        let request = &operation["requestBody"];
        let has_schema =
            request["content"]["application/json"]["schema"].is_object() && request["required"] == true;
        (writes && !has_schema).then_some("takes any body, or none")
    }));
    faults
}

fn throttling(deployment: &Deployment<'_>) -> Faults {
    deployment.each(STAGE, |stage| {
        let all = |setting: &&Value| setting["HttpMethod"] == "*" && setting["ResourcePath"] == "/*";
        let settings = stage.properties["MethodSettings"].as_array();
        let limit =
            |key: &str| settings.into_iter().flatten().find(all).and_then(|setting| number(&setting[key]));
        unless(
            limit("ThrottlingRateLimit").is_some() && limit("ThrottlingBurstLimit").is_some(),
            "is not throttled",
        )
    })
}

fn access_logs(deployment: &Deployment<'_>) -> Faults {
    deployment.each(STAGE, |stage| {
        let log = &stage.properties["AccessLogSetting"];
        let written =
            deployment.named(LOG_GROUP, &log["DestinationArn"]).is_some() && log["Format"].is_string();
        unless(written, "logs no access")
    })
}

/// What the gateway itself answers when something fails.
/// <https://docs.aws.amazon.com/apigateway/latest/developerguide/supported-gateway-response-types.html>
const ANSWERS: [&str; 4] = ["DEFAULT_4XX", "DEFAULT_5XX", "INTEGRATION_FAILURE", "INTEGRATION_TIMEOUT"];

fn failures(deployment: &Deployment<'_>) -> Faults {
    let mut faults = deployment.each(API, |api| {
        let answers = &api.properties["Body"]["x-amazon-apigateway-gateway-responses"];
        let missing = ANSWERS.iter().find(|answer| !answers[**answer]["responseTemplates"].is_object());
        missing.map(|answer| format!("does not say what {answer} answers"))
    });
    faults.extend(each_operation(deployment, |_, _, operation| {
        let integration = integration(operation);
        // A function's proxy answers itself, and a mock cannot fail.
        if is_of_type(integration, "aws_proxy") || is_of_type(integration, "mock") {
            return None;
        }
        if integration["passthroughBehavior"] != "never" {
            return Some("passes on what it has no template for");
        }
        let Some(responses) = integration["responses"].as_object() else {
            return Some("has no answer for what its backend says");
        };
        let is_success =
            |response: &Value| response["statusCode"].as_str().is_some_and(|status| status.starts_with('2'));
        let mut wrong =
            responses.iter().filter(|(pattern, response)| is_success(response) && *pattern != r"2\d{2}");
        if let Some((_, response)) = responses.get_key_value("default")
            && is_success(response)
        {
            return Some("answers a failure as a success");
        }
        if wrong.next().is_some() {
            return Some("answers more than a 2xx as a success");
        }
        if !responses.contains_key("default") {
            return Some("has no answer for a failure that nobody thought of");
        }
        let declared = |response: &Value| {
            response["statusCode"].as_str().is_some_and(|status| operation["responses"][status].is_object())
        };
        (!responses.values().all(declared)).then_some("answers with a status that it does not declare")
    }));
    faults
}

fn timeout(deployment: &Deployment<'_>) -> Faults {
    each_operation(deployment, |_, _, operation| {
        let integration = integration(operation);
        let ends = is_of_type(integration, "mock") || number(&integration["timeoutInMillis"]).is_some();
        (!ends).then_some("waits for its backend as long as the gateway likes")
    })
}
