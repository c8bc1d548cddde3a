//! REST APIs: what a client can send and how often, what the gateway logs, that no failure is answered
//! as a success, and that copies are alike. There is no authoriser yet, so no rule says who may call.

use std::collections::BTreeSet;

use cloud_core::resource::Resource;
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
        name: "api-access-log-fields",
        holds: "API: the access log has the same fields everywhere, and only what the gateway makes",
        check: access_log_fields,
        notices: &[
            Mutation::swap(
                "contracts-service/template.yaml",
                "Api",
                "$context.extendedRequestId\"",
                "$context.requestId\"",
            )
            .naming("ApiStage"),
            Mutation::swap("web-service/template.yaml", "WebApi", "\"latencyMs\"", "\"latency_ms\"")
                .naming("WebApiStage"),
            Mutation::swap(
                "web-service/template.yaml",
                "WebApi",
                "$context.error.responseType",
                "$context.integration.error",
            )
            .naming("WebApiStage"),
        ],
    },
    Rule {
        name: "api-limits",
        holds: "API: every text and every number that a client sends has its limits, and no pattern takes \
                more than linear time",
        check: limits,
        notices: &[
            Mutation::drop(CONTRACTS, "AddressText", "maxLength:").naming("Api"),
            Mutation::swap(CONTRACTS, "CreateContract", "maxLength: 200, ", "").naming("Api"),
            Mutation::swap(WEB, "Listing", "minLength: 1, maxLength: 512", "minLength: 1").naming("WebApi"),
            Mutation::swap(WEB, "Listing", ", maximum: 9007199254740991", "").naming("WebApi"),
            Mutation::swap(WEB, "limit", ", maximum: 100", "").naming("WebApi"),
            // An earlier pattern: 40,000 letters and a sign took 8 s in Python's engine.
            Mutation::swap(WEB, "AddressText", "\"^[ ", "\"^[A-Za-z0-9_ -").naming("WebApi"),
            Mutation::swap(CONTRACTS, "CreateContract", "\"\\\\S\"", "\"\\\\s*\\\\S\"").naming("Api"),
        ],
    },
    Rule {
        name: "api-unknown-keys",
        holds: "API: a body that has optional keys refuses unknown ones",
        check: unknown_keys,
        notices: &[
            Mutation::drop(CONTRACTS, "UpdateContract", "additionalProperties:").naming("Api"),
            Mutation::swap(WEB, "Listing", "currency, images]", "currency]").naming("WebApi"),
        ],
    },
    Rule {
        name: "api-answers",
        holds: "API: every operation names the statuses that the gateway answers in its place",
        check: answers,
        notices: &[
            Mutation::drop(CONTRACTS, "/contracts", "\"403\":").naming("Api").also(COPIES),
            Mutation::drop(CONTRACTS, "/contracts", "\"415\":").naming("Api").also(COPIES),
            Mutation::drop(WEB, "/listings", "\"429\":").naming("WebApi").also(COPIES),
            Mutation::drop(WEB, "/search/{country}/{city}", "\"502\":").naming("WebApi"),
        ],
    },
    Rule {
        name: "api-reasons",
        holds: "API: the reasons of a command's record are a list, with those that every service has",
        check: reasons,
        notices: &[
            Mutation::swap(
                CONTRACTS,
                "CommandRecord",
                "enum:\n            - invalid_body",
                "x-enum:\n            - invalid_body",
            )
            .naming("Api"),
            Mutation::swap(WEB, "CommandRecord", "            - superseded\n", "").naming("WebApi"),
        ],
    },
    Rule {
        name: "api-failures",
        holds: "API: explicit mapping of every failure; only a 2xx of the backend is answered with 2xx",
        check: failures,
        notices: &[
            Mutation::drop(CONTRACTS, "/contracts", "default:").naming("Api").also(COPIES),
            Mutation::swap(WEB, "/listings", "\"2\\\\d{2}\":", "\".*\":").naming("WebApi").also(COPIES),
            Mutation::drop(WEB, "", "DEFAULT_5XX:").naming("WebApi"),
            Mutation::drop(CONTRACTS, "", "INTEGRATION_TIMEOUT:").naming("Api"),
            Mutation::swap(
                CONTRACTS,
                "/contracts",
                "        responses:\n          \"2",
                "        unread:\n          \"2",
            )
            .naming("Api")
            .also(COPIES),
            // API Gateway reads types in any case.
            Mutation::swap(
                CONTRACTS,
                "/contracts",
                "x-amazon-apigateway-integration:",
                "x-amazon-apigateway-integration: { type: AWS, timeoutInMillis: 10000, passthroughBehavior: \
                 when_no_match, credentials: { Fn::GetAtt: [ApiRole, Arn] } } # edited
      x-unread:",
            )
            .naming("Api")
            .also(COPIES),
            Mutation::swap(WEB, "/listings/commands/{command_id}", "type: aws_proxy", "type: http")
                .naming("WebApi"),
        ],
    },
    Rule {
        name: "api-number-texts",
        holds: "API: a template gives no number to a function of $util, each of which takes a string",
        check: numbers,
        notices: &[
            Mutation::swap(
                CONTRACTS,
                "/contracts",
                "=$context.requestTimeEpoch",
                "=$util.urlEncode($context.requestTimeEpoch)",
            )
            .naming("Api")
            .also(COPIES),
            Mutation::swap(
                WEB,
                "/request_approval",
                "=$context.requestTimeEpoch",
                "=$util.base64Encode( $context.requestTimeEpoch)",
            )
            .naming("WebApi")
            .also(COPIES),
        ],
    },
    Rule {
        name: "api-timeout",
        holds: "every integration has a time-out",
        check: timeout,
        notices: &[
            Mutation::drop(CONTRACTS, "/contracts", "timeoutInMillis").naming("Api").also(COPIES),
            Mutation::drop(WEB, "/listings/commands/{command_id}", "timeoutInMillis").naming("WebApi"),
        ],
    },
    Rule {
        name: COPIES,
        holds: "API: every write command is a copy of the first one, apart from what is its own",
        check: copies,
        notices: &[
            Mutation::swap(CONTRACTS, "put", "timeoutInMillis: 10000", "timeoutInMillis: 20000")
                .naming("Api"),
            Mutation::drop(CONTRACTS, "put", "parameters:").naming("Api"),
            Mutation::swap(WEB, "/request_approval", "\"message\":\"OK\"", "\"message\":\"Done\"")
                .naming("WebApi"),
            Mutation::swap(WEB, "delete", ".4.Name=RequestTimeEpoch", ".4.Name=Epoch").naming("WebApi"),
            Mutation::swap(WEB, "delete", "description: The queue refuses the size.", "description: Large.")
                .naming("WebApi"),
        ],
    },
    Rule {
        name: "api-preflights",
        holds: "API: every path has the same CORS preflight, which lists the methods of the path",
        check: preflights,
        notices: &[
            Mutation::swap(CONTRACTS, "/contracts", "'POST,PUT,OPTIONS'", "'POST,OPTIONS'").naming("Api"),
            Mutation::swap(WEB, "/request_approval", "'86400'", "'600'").naming("WebApi"),
            Mutation::drop(WEB, "/listings/commands/{command_id}", "options:").naming("WebApi"),
        ],
    },
];

/// The rule that compares write commands: a change of one of them breaks it too.
const COPIES: &str = "api-copies";

const CONTRACTS: &str = "contracts-service/api.yaml";
const WEB: &str = "web-service/api.yaml";
const STAGE: &str = "AWS::ApiGateway::Stage";

/// The operations of an API: `METHOD /path`, and the part of the document.
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

/// The integration of an operation.
pub(super) fn integration(operation: &Value) -> &Value {
    &operation["x-amazon-apigateway-integration"]
}

/// API Gateway reads the type in any case.
fn is_of_type(integration: &Value, kind: &str) -> bool {
    integration["type"].as_str().is_some_and(|given| given.eq_ignore_ascii_case(kind))
}

/// A fault for each operation for which `complaint` returns a text.
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

/// The fields of every access log. The gateway, or AWS behind it (`integrationRequestId`), creates all
/// values, so that no client can put a quote into a line.
/// <https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-logging.html>
const LOGGED: [(&str, &str); 11] = [
    ("requestId", "$context.extendedRequestId"),
    ("time", "$context.requestTimeEpoch"),
    ("ip", "$context.identity.sourceIp"),
    ("method", "$context.httpMethod"),
    ("resource", "$context.resourcePath"),
    ("status", "$context.status"),
    ("error", "$context.error.responseType"),
    ("integrationStatus", "$context.integrationStatus"),
    ("integrationRequestId", "$context.integration.requestId"),
    ("integrationLatencyMs", "$context.integrationLatency"),
    ("latencyMs", "$context.responseLatency"),
];

fn access_log_fields(deployment: &Deployment<'_>) -> Faults {
    let expected: Value =
        LOGGED.into_iter().map(|(name, value)| (name.to_owned(), Value::from(value))).collect();
    deployment.each(STAGE, |stage| {
        // Another rule reports a stage without a log.
        let format = stage.properties["AccessLogSetting"]["Format"].as_str()?;
        let logged: Value = serde_json::from_str(format).unwrap_or_default();
        unless(logged == expected, "logs other fields than every API does")
    })
}

/// The schema of an operation's body, or null.
fn body_schema(operation: &Value) -> &Value {
    &operation["requestBody"]["content"]["application/json"]["schema"]
}

/// The member of `components` that a `$ref` names, or the value itself.
fn resolved<'v>(api: &'v Resource, value: &'v Value) -> &'v Value {
    let path = value["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
    path.map_or(value, |path| api.properties["Body"].pointer(path).unwrap_or(&Value::Null))
}

/// The first complaint about a schema or one that it is made of.
fn within(
    api: &Resource,
    schema: &Value,
    complaint: &dyn Fn(&Value) -> Option<&'static str>,
) -> Option<&'static str> {
    let schema = resolved(api, schema);
    let listed = ["allOf", "anyOf", "oneOf"].iter().filter_map(|key| schema[*key].as_array()).flatten();
    let members = schema["properties"].as_object().into_iter().flat_map(|members| members.values());
    let items = Some(&schema["items"]).filter(|items| items.is_object());
    complaint(schema)
        .or_else(|| listed.chain(members).chain(items).find_map(|part| within(api, part, complaint)))
}

fn limits(deployment: &Deployment<'_>) -> Faults {
    let mut faults = each_operation(deployment, |api, _, operation| {
        let schema = Some(body_schema(operation)).filter(|schema| schema.is_object())?;
        within(api, schema, &unlimited)
    });
    faults.extend(deployment.each(API, |api| {
        let parameters = api.properties["Body"]["components"]["parameters"].as_object();
        // API Gateway ignores these limits; they are documentation. A text in a path needs none.
        let is_unlimited = |parameter: &&Value| {
            parameter["schema"]["type"] != "string" && unlimited(&parameter["schema"]).is_some()
        };
        let mut unlimited = parameters.into_iter().flat_map(|all| all.values()).filter(is_unlimited);
        unlimited.next().map(|parameter| format!("does not limit the parameter {}", parameter["name"]))
    }));
    faults
}

fn unlimited(schema: &Value) -> Option<&'static str> {
    let has = |keyword: &str| schema.get(keyword).is_some();
    if schema["pattern"].as_str().is_some_and(|pattern| !is_linear(pattern)) {
        return Some("takes a text by a pattern that may need quadratic time");
    }
    match schema["type"].as_str() {
        Some("string") if !has("enum") && !has("maxLength") => Some("takes a text of any length"),
        Some("integer" | "number") if !(has("minimum") && has("maximum")) => {
            Some("takes a number of any size")
        }
        None if !(has("enum") || has("allOf") || has("anyOf") || has("oneOf")) => {
            Some("takes anything somewhere")
        }
        _ => None,
    }
}

/// Whether a backtracking engine needs only linear time to find that a pattern does not match. It reads
/// sequences of characters and classes, repeated or not, and returns false for any other pattern.
/// Two endless repetitions must not be able to take the same text: between them there must be something
/// that one of them cannot take. Without `^` the engine begins at every character, so that no endless
/// repetition is allowed.
fn is_linear(pattern: &str) -> bool {
    use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, Hir, HirKind, Look};

    /// One step of a sequence: the characters that it takes, whether it is required, whether it is endless.
    struct Step {
        takes: ClassUnicode,
        required: bool,
        endless: bool,
    }

    fn share(one: &Step, other: &Step) -> bool {
        let mut shared = one.takes.clone();
        shared.intersect(&other.takes);
        !shared.ranges().is_empty()
    }

    fn class(hir: &Hir) -> Option<ClassUnicode> {
        match hir.kind() {
            HirKind::Class(Class::Unicode(class)) => Some(class.clone()),
            HirKind::Literal(literal) => {
                let mut letters = std::str::from_utf8(&literal.0).ok()?.chars();
                let (letter, None) = (letters.next()?, letters.next()) else { return None };
                Some(ClassUnicode::new([ClassUnicodeRange::new(letter, letter)]))
            }
            _ => None,
        }
    }

    let Ok(hir) = regex_syntax::parse(pattern) else { return false };
    let parts = match hir.kind() {
        HirKind::Concat(parts) => parts.as_slice(),
        _ => std::slice::from_ref(&hir),
    };
    let anchored = matches!(parts.first().map(Hir::kind), Some(HirKind::Look(Look::Start)));
    let mut steps: Vec<Step> = Vec::new();
    for part in parts {
        let (one, required, endless) = match part.kind() {
            HirKind::Look(Look::Start | Look::End) => continue,
            HirKind::Repetition(repeated) => (&*repeated.sub, repeated.min > 0, repeated.max.is_none()),
            _ => (part, true, false),
        };
        let Some(takes) = class(one) else { return false };
        steps.push(Step { takes, required, endless });
    }
    if !anchored && steps.iter().any(|step| step.endless) {
        return false;
    }
    steps.iter().enumerate().filter(|(_, later)| later.endless).all(|(end, later)| {
        steps[..end].iter().enumerate().filter(|(_, first)| first.endless).all(|(start, first)| {
            let parts = |step: &Step| step.required && !(share(step, first) && share(step, later));
            !share(first, later) || steps[start + 1..end].iter().any(parts)
        })
    })
}

fn unknown_keys(deployment: &Deployment<'_>) -> Faults {
    each_operation(deployment, |api, _, operation| {
        within(api, body_schema(operation), &|schema| {
            let required: Vec<&Value> = schema["required"].as_array().into_iter().flatten().collect();
            let mut keys = schema["properties"].as_object().into_iter().flat_map(|keys| keys.keys());
            let has_optional = keys.any(|key| !required.iter().any(|required| *required == key));
            (has_optional && schema["additionalProperties"] != false)
                .then_some("takes an optional key, and any misspelling of it")
        })
    })
}

fn answers(deployment: &Deployment<'_>) -> Faults {
    each_operation(deployment, |_, _, operation| {
        let integration = integration(operation);
        let answered = [
            ("403", true, "does not name 403"),
            ("415", integration["passthroughBehavior"] == "never", "does not name 415"),
            ("429", true, "does not name 429"),
            ("500", is_of_type(integration, "aws_proxy"), "does not name 500"),
            ("502", is_of_type(integration, "aws_proxy"), "does not name 502"),
        ];
        let named = |status: &str| {
            operation["responses"][status]["content"]["application/json"]["schema"].is_object()
        };
        answered.into_iter().find_map(|(status, applies, wrong)| (applies && !named(status)).then_some(wrong))
    })
}

/// The reasons that every service has.
const REASONS: [&str; 4] =
    ["invalid_body", "idempotency_key_reused", "invalid_idempotency_key", "superseded"];

fn reasons(deployment: &Deployment<'_>) -> Faults {
    deployment.each(API, |api| {
        let reason =
            &api.properties["Body"]["components"]["schemas"]["CommandRecord"]["properties"]["reason"];
        let listed =
            |code: &&str| reason["enum"].as_array().is_some_and(|codes| codes.iter().any(|it| it == code));
        let missing = REASONS.iter().find(|code| !listed(code));
        missing.map(|code| format!("does not list the reason {code}"))
    })
}

/// The answers of the gateway itself when a request fails.
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
        // A proxied function makes its own answer, and a mock cannot fail.
        if is_of_type(integration, "aws_proxy") || is_of_type(integration, "mock") {
            return None;
        }
        if integration["passthroughBehavior"] != "never" {
            return Some("passes on bodies of types for which it has no template");
        }
        let Some(responses) = integration["responses"].as_object() else {
            return Some("has no mapping of its backend's answers");
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
            return Some("has no mapping for an unexpected failure");
        }
        let declared = |response: &Value| {
            response["statusCode"].as_str().is_some_and(|status| operation["responses"][status].is_object())
        };
        (!responses.values().all(declared)).then_some("answers with a status that it does not declare")
    }));
    faults
}

/// The variables that are numbers:
/// <https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-variables-for-access-logging.html>.
const NUMBERS: [&str; 3] = ["$context.requestTimeEpoch", "$context.status", "$context.responseLatency"];

fn numbers(deployment: &Deployment<'_>) -> Faults {
    let misused = |template: &str| {
        template.split("$util.").skip(1).any(|call| {
            let argument = call.split_once('(').map_or("", |(_, rest)| rest.trim_start());
            NUMBERS.iter().any(|number| argument.starts_with(number))
        })
    };
    each_operation(deployment, |_, _, operation| {
        let integration = integration(operation);
        let answers = integration["responses"].as_object().into_iter().flat_map(|map| map.values());
        let given =
            answers.map(|answer| &answer["responseTemplates"]).chain([&integration["requestTemplates"]]);
        let mut templates = given.filter_map(Value::as_object).flat_map(|map| map.values());
        templates
            .any(|template| template.as_str().is_some_and(misused))
            .then_some("gives a number to a function that takes a string")
    })
}

fn timeout(deployment: &Deployment<'_>) -> Faults {
    each_operation(deployment, |_, _, operation| {
        let integration = integration(operation);
        let ends = is_of_type(integration, "mock") || number(&integration["timeoutInMillis"]).is_some();
        (!ends).then_some("has no time-out of its own")
    })
}

/// In a mapping template of a write command, the text before this may differ.
const ATTRIBUTES: &str = "&MessageAttribute.1.Name=";

/// A write command without the parts that may differ: its name, its body, the descriptions that depend on
/// them, and the queue and the role of its API.
fn shape(operation: &Value) -> Value {
    let mut shape = operation.clone();
    for own in ["summary", "operationId", "requestBody"] {
        shape[own].take();
    }
    for status in ["200", "400"] {
        shape["responses"][status]["description"].take();
    }
    let integration = &mut shape["x-amazon-apigateway-integration"];
    for own in ["uri", "credentials"] {
        integration[own].take();
    }
    let template = &mut integration["requestTemplates"]["application/json"];
    let sent = template.as_str().filter(|text| text.starts_with("Action=SendMessage&MessageBody="));
    *template = sent.and_then(|text| text.find(ATTRIBUTES).map(|at| &text[at..])).unwrap_or_default().into();
    shape
}

/// The first place in which two values differ, as a JSON pointer.
fn difference(one: &Value, other: &Value) -> Option<String> {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => one.keys().chain(other.keys()).find_map(|key| {
            let of = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or_default();
            difference(&of(one), &of(other)).map(|below| format!("/{key}{below}"))
        }),
        _ => (one != other).then(String::new),
    }
}

/// AWS lets operations share only parameters and schemas: the top of api.yaml says why.
fn copies(deployment: &Deployment<'_>) -> Faults {
    let is_write = |(_, operation): &(String, &Value)| is_of_type(integration(operation), "aws");
    // In one API all write commands go to the same queue, with the same role.
    let way = |operation: &Value| ["uri", "credentials"].map(|key| integration(operation)[key].clone());
    let mut first: Option<(String, Value)> = None;
    let different = deployment.all(API).filter_map(|api| {
        let writes: Vec<(String, &Value)> = operations(api).filter(is_write).collect();
        writes.iter().find_map(|(name, operation)| {
            let (known, expected) = first.get_or_insert_with(|| (name.clone(), shape(operation)));
            let goes_elsewhere = way(operation) != way(writes[0].1);
            let place = difference(expected, &shape(operation))
                .or_else(|| goes_elsewhere.then(|| "its queue or its role".to_owned()))?;
            Some(Fault::of(api, format!("has {name}, which differs from {known} in {place}")))
        })
    });
    different.collect()
}

/// Browsers ask for the preflight of a path before they send a request with our headers.
fn preflights(deployment: &Deployment<'_>) -> Faults {
    const ALLOWED: &str = "method.response.header.Access-Control-Allow-Methods";
    let mut faults = Faults::new();
    let mut first: Option<Value> = None;
    for api in deployment.all(API) {
        for (path, methods) in api.properties["Body"]["paths"].as_object().into_iter().flatten() {
            let mut preflight = methods["options"].clone();
            let answer = &mut preflight["x-amazon-apigateway-integration"]["responses"]["default"];
            let allowed = answer["responseParameters"][ALLOWED].take();
            let allowed = allowed.as_str().unwrap_or_default().trim_matches('\'').to_lowercase();
            let allowed: BTreeSet<&str> = allowed.split(',').collect();
            let own = methods.as_object().into_iter().flat_map(|all| all.keys());
            let own: BTreeSet<&str> = own.map(String::as_str).filter(|key| METHODS.contains(key)).collect();
            if allowed != own || !methods["options"].is_object() {
                faults.push(Fault::of(api, format!("has no preflight of {path} that lists its methods")));
            } else if let Some(place) = difference(first.get_or_insert_with(|| preflight.clone()), &preflight)
            {
                faults.push(Fault::of(
                    api,
                    format!("has a preflight of {path} that differs from the first one in {place}"),
                ));
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_linear_unless_two_endless_repetitions_can_share_a_text() {
        for linear in [r"\S", "^[a-z]+$", "^a*b*$", "^[a-z]+/[a-z]+$", "^ *[a-z][a-z ]*$", "^[A-Z]{3}$"] {
            assert!(is_linear(linear), "{linear}");
        }
        for quadratic in
            ["^a*a*$", "^[ab]*a[ac]*$", "^a+b?a+$", "^[a-z]+-?[a-z]+$", "a*b", r"\s*\S", "^(a*)*$", "^("]
        {
            assert!(!is_linear(quadratic), "{quadratic}");
        }
    }
}
