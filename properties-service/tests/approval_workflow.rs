//! Holds `approval.asl.yaml` against what the workflow promises: every task ends, every
//! failure is caught, every way out publishes an answer; and evaluates its expressions.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests stand outside of #[test]")]

use std::collections::{BTreeMap, BTreeSet};

use jsonata_core::evaluator::{Context, Evaluator};
use jsonata_core::parser;
use jsonata_core::value::JValue;
use lambda_kit::CallError;
use lambda_kit::event::EventFailure;
use serde_json::{Value, json};

/// The definition with its placeholders filled in.
fn definition() -> Value {
    let mut text = include_str!("../approval.asl.yaml").to_owned();
    for (name, value) in [
        ("ContractLookupAttempts", "3"),
        ("ContractLookupDelaySeconds", "2"),
        ("ContractWaitSeconds", "2592000"),
        ("KeepClaimSeconds", "7776000"),
    ] {
        text = text.replace(&format!("${{{name}}}"), value);
    }
    serde_norway::from_str(&text).unwrap()
}

/// All states, of branches and iterations too, by name: names are unique in the whole machine.
fn states() -> BTreeMap<String, Value> {
    fn collect(workflow: &Value, into: &mut BTreeMap<String, Value>) {
        for (name, state) in workflow["States"].as_object().unwrap() {
            assert!(into.insert(name.clone(), state.clone()).is_none(), "{name} is there twice");
            let branches = state["Branches"].as_array().into_iter().flatten();
            branches.chain(state.get("ItemProcessor")).for_each(|inner| collect(inner, into));
        }
    }
    let mut states = BTreeMap::new();
    collect(&definition(), &mut states);
    states
}

fn state(name: &str) -> Value {
    states().remove(name).unwrap_or_else(|| panic!("there is no state {name}"))
}

fn tasks() -> impl Iterator<Item = (String, Value)> {
    states().into_iter().filter(|(_, state)| state["Type"] == "Task")
}

fn errors(rule: &Value) -> Vec<&str> {
    rule["ErrorEquals"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect()
}

/// Where a state may go.
fn next(state: &Value) -> BTreeSet<String> {
    let rules =
        ["Catch", "Choices"].into_iter().flat_map(|field| state[field].as_array().into_iter().flatten());
    let mut targets: BTreeSet<String> = rules.map(|rule| rule["Next"].as_str().unwrap().to_owned()).collect();
    targets.extend(["Next", "Default"].iter().filter_map(|field| Some(state[field].as_str()?.to_owned())));
    targets
}

/// The outermost states that an execution can get to without passing `barred`.
fn reachable_without(barred: &str) -> BTreeSet<String> {
    let definition = definition();
    let mut seen = BTreeSet::new();
    let mut ahead = vec![definition["StartAt"].as_str().unwrap().to_owned()];
    while let Some(name) = ahead.pop() {
        if name != barred && seen.insert(name.clone()) {
            ahead.extend(next(&definition["States"][&name]));
        }
    }
    seen
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn is_terminal(name: &str) -> bool {
    matches!(state(name)["Type"].as_str(), Some("Succeed" | "Fail"))
}

/// Evaluates a template as Step Functions does; `undefined` is an error there.
fn evaluate(template: &Value, bindings: &Value) -> Result<Value, String> {
    match template {
        Value::String(text) => match text.strip_prefix("{%").and_then(|text| text.strip_suffix("%}")) {
            None => Ok(template.clone()),
            Some(source) => {
                let mut context = Context::new();
                for (name, value) in bindings.as_object().unwrap() {
                    context.bind(name.clone(), JValue::from(value.clone()));
                }
                let ast = parser::parse(source.trim()).map_err(|error| error.to_string())?;
                let value = Evaluator::with_context(context)
                    .evaluate(&ast, &JValue::Undefined)
                    .map_err(|error| format!("{error:?}"))?;
                if value.is_undefined() {
                    return Err(format!("{source} gives nothing"));
                }
                serde_json::to_value(&value).map_err(|error| error.to_string())
            }
        },
        Value::Array(items) => items.iter().map(|item| evaluate(item, bindings)).collect(),
        Value::Object(members) => members
            .iter()
            .map(|(name, member)| Ok((name.clone(), evaluate(member, bindings)?)))
            .collect::<Result<_, String>>()
            .map(Value::Object),
        other => Ok(other.clone()),
    }
}

/// Numbers as numbers: the JSONata engine knows floats only, JSON does not tell them apart.
fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.as_f64() == right.as_f64(),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| same(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left.iter().all(|(name, left)| right.get(name).is_some_and(|right| same(left, right)))
        }
        _ => left == right,
    }
}

#[track_caller]
fn gives(template: &Value, bindings: &Value, expected: &Value) {
    let value = evaluate(template, bindings).unwrap();
    assert!(same(&value, expected), "{value} is not {expected}");
}

/// The state that a Choice goes to.
fn choice(name: &str, bindings: &Value) -> String {
    let state = state(name);
    let rules = state["Choices"].as_array().unwrap();
    let rule = rules.iter().find(|rule| evaluate(&rule["Condition"], bindings).unwrap() == json!(true));
    rule.map_or(&state["Default"], |rule| &rule["Next"]).as_str().unwrap().to_owned()
}

// ---------------------------------------------------------------- the structure

#[test]
fn the_wait_for_a_contract_ends_before_the_workflow_does() {
    let wait = evaluate(&state("WaitForContractApproval")["TimeoutSeconds"], &json!({})).unwrap();
    let whole = definition()["TimeoutSeconds"].as_f64().unwrap();
    assert!(wait.as_f64().is_some_and(|wait| wait >= 1.0 && wait < whole), "{wait} of {whole}");
}

#[test]
fn every_task_retries_what_may_pass_and_catches_what_remains() {
    for (name, task) in tasks() {
        let retriers = task["Retry"].as_array().unwrap_or_else(|| panic!("{name} has no Retry"));
        assert_eq!(errors(retriers.last().unwrap()), ["States.ALL"], "{name}");
        let catchers = task["Catch"].as_array().unwrap_or_else(|| panic!("{name} has no Catch"));
        assert_eq!(errors(catchers.last().unwrap()), ["States.ALL"], "{name}");
        let caught_by_name = catchers.iter().flat_map(errors).filter(|error| *error != "States.ALL");
        for error in caught_by_name.filter(|error| *error != "S3.S3Exception") {
            let retrier = retriers.iter().find(|retrier| errors(retrier).contains(&error));
            assert_eq!(
                retrier.map(|retrier| &retrier["MaxAttempts"]),
                Some(&json!(0)),
                "{name}: {error} is an answer, and not to be retried"
            );
        }
    }
}

/// Known fault 17: failures published nothing.
#[test]
fn every_way_out_publishes_an_answer() {
    let silent: Vec<_> =
        reachable_without("PublishAnswer").into_iter().filter(|name| is_terminal(name)).collect();
    // A duplicate is answered by the execution that has the claim; what could not be stored,
    // published or marked, by the function on-approval-ended.
    assert_eq!(silent, ["Duplicate", "Unanswered"]);
    let definition = definition();
    let leads_to = |target: &str| -> BTreeSet<String> {
        let states = definition["States"].as_object().unwrap();
        states
            .iter()
            .filter(|(_, state)| next(state).contains(target))
            .map(|(name, _)| name.clone())
            .collect()
    };
    assert_eq!(leads_to("Unanswered"), set(&["MarkAnswered", "PublishAnswer", "StoreAnswer"]));
    assert_eq!(leads_to("Duplicate"), set(&["ClaimRequest", "StoreAnswer"]));
    assert_eq!(leads_to("PublishAnswer"), set(&["StoreAnswer"]), "nothing is published that was not stored");
    assert_eq!(state("Unanswered")["Type"], "Fail", "only a failed execution is answered for");
}

#[test]
fn the_states_end_as_they_are_named_and_all_can_be_reached() {
    for (name, kind) in [
        ("NotFound", "Fail"),
        ("Failed", "Fail"),
        ("Declined", "Succeed"),
        ("Approved", "Succeed"),
        ("Duplicate", "Succeed"),
    ] {
        assert_eq!(state(name)["Type"], kind, "{name}");
    }
    let all: BTreeSet<String> = definition()["States"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(reachable_without(""), all);
    let wait = state("WaitForContractApproval");
    assert_eq!(wait["Resource"], "arn:aws:states:::lambda:invoke.waitForTaskToken");
}

#[test]
fn only_a_failed_look_up_that_stays_failed_is_a_failed_evaluation_and_never_a_missing_contract() {
    assert_eq!(
        next(&state("FindContract")),
        BTreeSet::from(["EvaluationFailed".to_owned(), "IsThereAContract".to_owned()])
    );
}

#[test]
fn every_expression_compiles_and_no_field_is_of_the_other_query_language() {
    fn check(value: &Value, path: &str, count: &mut usize) {
        match value {
            Value::String(text) if text.starts_with("{%") => {
                let source = text.strip_prefix("{%").and_then(|text| text.strip_suffix("%}")).unwrap();
                parser::parse(source.trim()).unwrap_or_else(|error| panic!("{path}: {error}"));
                *count += 1;
            }
            Value::String(text) => assert!(!text.contains("{%"), "{path}: {text}"),
            Value::Array(items) => items.iter().for_each(|item| check(item, path, count)),
            Value::Object(members) => {
                for (name, member) in members {
                    assert!(!name.ends_with(".$"), "{path}.{name}");
                    assert!(
                        !["Parameters", "ResultPath", "InputPath", "OutputPath", "ResultSelector"]
                            .contains(&name.as_str()),
                        "{path}.{name}"
                    );
                    check(member, &format!("{path}.{name}"), count);
                }
            }
            _ => {}
        }
    }
    let mut count = 0;
    check(&definition(), "", &mut count);
    assert!(count > 40, "{count}");
}

#[test]
fn the_template_fills_in_every_placeholder_and_no_other() {
    let text = include_str!("../approval.asl.yaml");
    let used: BTreeSet<&str> = text.split("${").skip(1).map(|rest| rest.split('}').next().unwrap()).collect();
    let template = template();
    let machine = &template["Resources"]["ApprovalStateMachine"]["Properties"];
    let given = machine["DefinitionSubstitutions"].as_mapping().unwrap();
    let given: BTreeSet<&str> = given.keys().map(|key| key.as_str().unwrap()).collect();
    assert_eq!(used, given);
}

fn template() -> serde_norway::Value {
    serde_norway::from_str(include_str!("../template.yaml")).unwrap()
}

/// Known fault 30: the payload of the waiting state holds a task token.
#[test]
fn the_workflow_logs_no_execution_data_on_any_stage() {
    let template = template();
    let logging = &template["Resources"]["ApprovalStateMachine"]["Properties"]["Logging"];
    assert_eq!(logging["IncludeExecutionData"].as_bool(), Some(false));
}

#[test]
fn the_registered_schema_is_that_of_the_event_contract() {
    use events::{EventDetail, PublicationEvaluationCompleted as Event};
    let template = template();
    let schema = &template["Resources"]["PublicationEvaluationCompletedSchema"]["Properties"];
    assert_eq!(schema["SchemaName"].as_str().unwrap(), format!("{}@{}", Event::SOURCE, Event::DETAIL_TYPE));
    let registered: Value = serde_json::from_str(schema["Content"].as_str().unwrap()).unwrap();
    assert_eq!(registered, serde_json::from_str::<Value>(Event::OPENAPI).unwrap());
}

#[test]
fn a_change_that_wakes_somebody_passes_the_filter_of_the_stream() {
    let template = template();
    let source = &template["Resources"]["ContractStatusStreamMapping"]["Properties"];
    assert_eq!(source["FunctionResponseTypes"][0].as_str(), Some("ReportBatchItemFailures"));
    let pattern = source["FilterCriteria"]["Filters"][0]["Pattern"].as_str().unwrap();
    let pattern: Value = serde_json::from_str(pattern).unwrap();
    let passing: BTreeSet<&str> = pattern["dynamodb"]["NewImage"]["contract_status"]["S"]
        .as_array()
        .unwrap()
        .iter()
        .map(|status| status.as_str().unwrap())
        .collect();
    let waking: BTreeSet<&str> = vocabulary::ContractStatus::ALL
        .into_iter()
        .filter(|status| *status == vocabulary::ContractStatus::Approved || status.is_ended())
        .map(vocabulary::ContractStatus::as_str)
        .collect();
    assert_eq!(passing, waking);
}

// ---------------------------------------------------------------- the expressions

#[test]
fn the_events_id_stands_in_for_a_request_without_one() {
    let read = &state("ReadRequest")["Assign"];
    let bindings = json!({ "states": { "input": { "id": "e-1", "detail": { "property_id": "a/b/c/1" } } } });
    gives(&read["request_id"], &bindings, &json!("e-1"));
    let bindings =
        json!({ "states": { "input": { "id": "e-1", "detail": { "approval_request_id": "r-1" } } } });
    gives(&read["request_id"], &bindings, &json!("r-1"));
}

#[test]
fn null_in_place_of_a_request_id_is_none() {
    let read = &state("ReadRequest")["Assign"];
    let detail = json!({ "approval_request_id": null });
    gives(
        &read["request_id"],
        &json!({ "states": { "input": { "id": "e-1", "detail": detail } } }),
        &json!("e-1"),
    );
}

#[test]
fn a_property_id_in_upper_case_is_the_same_key() {
    let read = &state("ReadRequest")["Assign"];
    let detail = json!({ "property_id": "USA/Anytown/Main-Street/111" });
    let bindings = json!({ "states": { "input": { "id": "e-1", "detail": detail } } });
    gives(&read["property_id"], &bindings, &json!("usa/anytown/main-street/111"));
    // The request's own text is used nowhere else.
    let text = include_str!("../approval.asl.yaml");
    assert_eq!(text.matches("detail.property_id").count(), 1);
    assert!(!text.contains("$listing.property_id"));
}

/// What no repetition can cure is answered at once, and not after minutes of retries.
#[test]
fn a_wait_that_cannot_be_begun_is_not_begun_again() {
    let task = state("WaitForContractApproval");
    let incurable: BTreeSet<&str> = task["Retry"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|retrier| retrier["MaxAttempts"] == 0)
        .flat_map(errors)
        .collect();
    let malformed = events::Malformed::new(&json!({}), "wrong").into();
    let corrupt = CallError::Corrupt(String::new()).into();
    let refused = CallError::Refused(String::new()).into();
    for failure in [malformed, corrupt, refused] {
        let kind = kind(failure);
        assert!(incurable.contains(kind.as_str()), "{kind} is repeated");
    }
    let kind = kind(CallError::Unavailable(String::new()).into());
    assert!(!incurable.contains(kind.as_str()), "{kind} may pass");
}

fn kind(failure: EventFailure) -> String {
    lambda_runtime::Diagnostic::from(failure).error_type
}

#[test]
fn a_claim_expires_a_whole_number_of_seconds_after_the_start() {
    let expiry = &state("ClaimRequest")["Arguments"]["ExpressionAttributeValues"][":expiry"]["N"];
    let bindings =
        json!({ "states": { "context": { "Execution": { "StartTime": "2026-11-23T18:22:06.123Z" } } } });
    gives(expiry, &bindings, &json!((1_795_458_126 + 7_776_000).to_string()));
}

#[test]
fn a_contract_is_read_with_and_without_a_version_and_where_there_is_none() {
    let contract = &state("FindContract")["Assign"]["contract"];
    let of = |result: Value| json!({ "states": { "result": result } });
    gives(contract, &of(json!({})), &json!({}));
    let mut item = json!({ "contract_status": { "S": "DRAFT" }, "contract_last_modified_on": { "S": "t" } });
    gives(contract, &of(json!({ "Item": item })), &json!({ "status": "DRAFT", "modified_on": "t" }));
    item["contract_version"] = json!({ "N": "3" });
    gives(
        contract,
        &of(json!({ "Item": item })),
        &json!({ "status": "DRAFT", "modified_on": "t", "version": 3 }),
    );
}

#[test]
fn a_contract_decides_where_its_request_goes() {
    let goes = |contract: Value, lookups: u8| {
        choice("IsThereAContract", &json!({ "contract": contract, "lookups": lookups }))
    };
    for status in ["DRAFT", "APPROVED"] {
        assert_eq!(goes(json!({ "status": status }), 1), "EvaluateContent");
    }
    for status in ["CANCELLED", "CLOSED", "EXPIRED"] {
        for lookups in [1, 2] {
            let waits = goes(json!({ "status": status }), lookups);
            assert_eq!(waits, "WaitForContractEvent", "its successor may be on the way");
        }
        assert_eq!(goes(json!({ "status": status }), 3), "ContractEnded");
    }
    assert_eq!(goes(json!({}), 1), "WaitForContractEvent");
    assert_eq!(goes(json!({}), 2), "WaitForContractEvent");
    assert_eq!(goes(json!({}), 3), "ContractNotFound", "three look-ups, then it counts as missing");
}

/// Known fault 18: neutral text was declined.
#[test]
fn positive_and_neutral_texts_pass_and_all_others_decline() {
    let output = &state("JudgeDescription")["Output"];
    for (sentiment, judgement) in [
        ("POSITIVE", "safe"),
        ("NEUTRAL", "safe"),
        ("NEGATIVE", "negative_description"),
        ("MIXED", "negative_description"),
    ] {
        gives(output, &json!({ "states": { "result": { "Sentiment": sentiment } } }), &json!(judgement));
    }
}

#[test]
fn an_image_is_safe_only_with_an_empty_list_of_labels() {
    let output = &state("JudgeImage")["Output"];
    let of = |result: Value| json!({ "states": { "result": result } });
    gives(output, &of(json!({ "ModerationLabels": [] })), &json!("safe"));
    gives(output, &of(json!({ "ModerationLabels": [{ "Name": "Violence" }] })), &json!("unsafe_image"));
    gives(output, &of(json!({})), &json!("unsafe_image"));
}

#[test]
fn each_reason_is_told_once_and_an_empty_list_passes() {
    let reasons = &state("EvaluateContent")["Assign"]["reasons"];
    let of = |description: &str, images: Value| json!({ "states": { "result": [description, images] } });
    gives(reasons, &of("safe", json!(["safe"])), &json!([]));
    gives(reasons, &of("safe", json!(["image_not_found"])), &json!(["image_not_found"]));
    gives(
        reasons,
        &of("negative_description", json!(["safe", "unsafe_image", "image_unreadable", "unsafe_image"])),
        &json!(["negative_description", "unsafe_image", "image_unreadable"]),
    );
    assert_eq!(choice("IsContentSafe", &json!({ "reasons": [] })), "WaitForContractApproval");
    assert_eq!(choice("IsContentSafe", &json!({ "reasons": ["unsafe_image"] })), "ContentUnsafe");
}

#[test]
fn a_missing_image_is_told_from_one_that_is_forbidden() {
    let of = |cause: &str| json!({ "states": { "input": { "Error": "S3.S3Exception", "Cause": cause } } });
    assert_eq!(
        choice("IsItMissing", &of("null (Service: S3, Status Code: 404, Request ID: x)")),
        "ImageNotFound"
    );
    assert_eq!(choice("IsItMissing", &of("Forbidden (Service: S3, Status Code: 403)")), "ImageNotJudged");
}

#[test]
fn what_ended_the_wait_decides_the_answer() {
    let goes = |contract: Value| choice("IsContractApproved", &json!({ "contract": contract }));
    assert_eq!(goes(json!({ "status": "APPROVED" })), "Approve");
    assert_eq!(goes(json!({ "status": "CANCELLED" })), "ContractEnded");
    assert_eq!(goes(json!({})), "EvaluationFailed");
}

/// The wait hands back the state of the contract that ended it; a version and a time may be absent.
#[test]
fn the_state_that_ended_the_wait_is_the_one_relied_on() {
    let contract = &state("WaitForContractApproval")["Assign"]["contract"];
    let of = |result: Value| json!({ "states": { "result": result } });
    let wake = properties_service::domain::Wake {
        contract_status: vocabulary::ContractStatus::Approved,
        contract_version: Some(vocabulary::ContractVersion(4)),
        contract_last_modified_on: Some("2026-11-23T18:22:06.123Z".parse().unwrap()),
    };
    gives(
        contract,
        &of(serde_json::to_value(&wake).unwrap()),
        &json!({ "status": "APPROVED", "version": 4, "modified_on": "2026-11-23T18:22:06.123Z" }),
    );
    gives(contract, &of(json!({ "contract_status": "APPROVED" })), &json!({ "status": "APPROVED" }));
}

#[test]
fn the_waiting_function_understands_the_payload() {
    let payload = &state("WaitForContractApproval")["Arguments"]["Payload"];
    let mut bindings = json!({
        "property_id": "usa/anytown/main-street/111",
        "contract": { "status": "DRAFT", "modified_on": "2026-11-23T18:22:06.123Z", "version": 3 },
        "states": { "context": { "Task": { "Token": "t" }, "Execution": { "Id": "arn:execution" } } },
    });
    let payload_now = evaluate(payload, &bindings).unwrap();
    let waiting: properties_service::domain::Waiting = serde_json::from_value(payload_now).unwrap();
    assert_eq!(waiting.task_token.reveal(), "t");
    assert_eq!(waiting.seen.contract_version.map(|version| version.0), Some(3));
    bindings["contract"].as_object_mut().unwrap().remove("version");
    let payload_now = evaluate(payload, &bindings).unwrap();
    let waiting: properties_service::domain::Waiting = serde_json::from_value(payload_now).unwrap();
    assert_eq!(waiting.seen.contract_version, None);
}

/// From each decision to the published event: what is stored is what is published, and it is
/// an event of the contract.
#[test]
fn each_answer_is_stored_and_published_as_it_was_decided() {
    let declined = |reason: &str| json!({ "evaluation_result": "DECLINED", "evaluation_reasons": [reason] });
    let with_version = |mut answer: Value| {
        answer["contract_version"] = json!(3);
        answer["contract_last_modified_on"] = json!("2026-11-23T18:22:06.123Z");
        answer
    };
    let unsafe_both = json!({
        "evaluation_result": "DECLINED", "evaluation_reasons": ["negative_description", "unsafe_image"]
    });
    for (decision, end, expected) in [
        (
            "Approve",
            "Approved",
            with_version(json!({ "evaluation_result": "APPROVED", "evaluation_reasons": [] })),
        ),
        ("ContractNotFound", "NotFound", declined("contract_not_found")),
        ("ContractEnded", "Declined", with_version(declined("contract_ended"))),
        ("ContentUnsafe", "Declined", unsafe_both),
        ("ContractNotApprovedInTime", "Declined", declined("contract_not_approved_in_time")),
        ("EvaluationFailed", "Failed", declined("evaluation_failed")),
    ] {
        let mut bindings = json!({
            "property_id": "usa/anytown/main-street/111",
            "request_id": "r-1",
            "reasons": ["negative_description", "unsafe_image"],
            "contract": { "status": "APPROVED", "version": 3, "modified_on": "2026-11-23T18:22:06.123Z" },
        });
        let decided = state(decision);
        assert_eq!(decided["Next"], "StoreAnswer", "{decision}");
        bindings["answer"] = evaluate(&decided["Assign"]["answer"], &bindings).unwrap();
        let row =
            evaluate(&state("StoreAnswer")["Arguments"]["ExpressionAttributeValues"][":answer"], &bindings)
                .unwrap();
        bindings["states"] = json!({ "result": { "Attributes": { "answer": row } } });
        bindings["stored"] = evaluate(&state("StoreAnswer")["Assign"]["stored"], &bindings).unwrap();
        let detail =
            evaluate(&state("PublishAnswer")["Arguments"]["Entries"][0]["Detail"], &bindings).unwrap();
        let mut whole = expected;
        whole["property_id"] = json!("usa/anytown/main-street/111");
        whole["approval_request_id"] = json!("r-1");
        assert!(same(&detail, &whole), "{decision}: {detail}");
        serde_json::from_value::<events::PublicationEvaluationCompleted>(detail).unwrap();
        assert_eq!(choice("HowDidItEnd", &bindings), end, "{decision}");
    }
}
