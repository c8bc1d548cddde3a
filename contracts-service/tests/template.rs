//! The template and the API say what the types and the handlers say.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;

use contracts_service::domain::Contract;
use events::{ContractStatusChanged as Event, EventDetail};
use serde_json::{Value, json};
use vocabulary::ContractStatus;

fn template() -> serde_norway::Value {
    serde_norway::from_str(include_str!("../template.yaml")).unwrap()
}

fn api() -> serde_norway::Value {
    serde_norway::from_str(include_str!("../api.yaml")).unwrap()
}

fn names(list: &serde_norway::Value) -> BTreeSet<String> {
    list.as_sequence().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

fn members(model: &str) -> BTreeSet<String> {
    let api = api();
    let members = api["components"]["schemas"][model]["properties"].as_mapping().unwrap();
    members.keys().map(|name| name.as_str().unwrap().to_owned()).collect()
}

fn keys(value: &Value) -> BTreeSet<String> {
    value.as_object().unwrap().keys().cloned().collect()
}

fn contract() -> Value {
    json!({
        "property_id": "usa/anytown/main-street/111", "contract_id": "one", "contract_status": "DRAFT",
        "seller_name": "Ada",
        "address": {"country": "USA", "city": "Anytown", "street": "Main Street", "number": 111},
        "contract_created": "2026-11-23T18:22:06.123Z",
        "contract_last_modified_on": "2026-11-23T18:22:06.123Z", "contract_version": 1,
    })
}

#[test]
fn the_registered_schema_is_that_of_the_event_contract() {
    let schema = &template()["Resources"]["ContractStatusChangedSchema"]["Properties"];
    assert_eq!(schema["SchemaName"].as_str().unwrap(), format!("{}@{}", Event::SOURCE, Event::DETAIL_TYPE));
    let registered: Value = serde_json::from_str(schema["Content"].as_str().unwrap()).unwrap();
    assert_eq!(registered, serde_json::from_str::<Value>(Event::OPENAPI).unwrap());
}

/// Known fault 27: schema, API model and handler disagreed about field names.
#[test]
fn the_models_of_the_api_name_what_the_handlers_read_and_answer() {
    let parsed: Contract = serde_json::from_value(contract()).unwrap();
    let answered = serde_json::to_value(parsed).unwrap();
    assert_eq!(members("Contract"), keys(&answered));
    assert_eq!(members("Address"), keys(&answered["address"]));
    let schemas = &api()["components"]["schemas"];
    assert_eq!(members("CreateContract"), names(&schemas["CreateContract"]["required"]));
    let statuses = ContractStatus::ALL.map(|status| status.to_string());
    assert_eq!(names(&schemas["Status"]["enum"]), statuses.into());
}

/// Known faults 10 and 15: another date than the one written, and every modification, were published.
#[test]
fn the_pipe_publishes_each_change_of_status_with_what_the_table_holds() {
    let pipe = &template()["Resources"]["StatusPipe"]["Properties"];
    let patterns: Vec<Value> = pipe["SourceParameters"]["FilterCriteria"]["Filters"]
        .as_sequence()
        .unwrap()
        .iter()
        .map(|filter| serde_json::from_str(filter["Pattern"].as_str().unwrap()).unwrap())
        .collect();
    let becomes = |status: ContractStatus| {
        json!({"dynamodb": {
            "NewImage": {"contract_status": {"S": [status]}},
            "OldImage": {"contract_status": {"S": [{"exists": false}, {"anything-but": [status]}]}},
        }})
    };
    assert_eq!(patterns, ContractStatus::ALL.map(becomes));

    let target = &pipe["TargetParameters"];
    let bus = &target["EventBridgeEventBusParameters"];
    assert_eq!(
        (bus["Source"].as_str(), bus["DetailType"].as_str()),
        (Some(Event::SOURCE), Some(Event::DETAIL_TYPE))
    );
    // Each member from the attribute of its own name; a number becomes text on the way.
    let mut filled = target["InputTemplate"].as_str().unwrap().to_owned();
    let stored = contract();
    for (name, value) in stored.as_object().unwrap() {
        for kind in ["S", "N"] {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            filled = filled.replace(&format!("<$.dynamodb.NewImage.{name}.{kind}>"), &text);
        }
    }
    let detail: Value = serde_json::from_str(&filled).unwrap();
    for (name, value) in detail.as_object().unwrap() {
        let text = stored[name].as_str().map_or_else(|| stored[name].to_string(), str::to_owned);
        assert_eq!(value.as_str(), Some(text.as_str()), "{name}");
    }
    let event: Event = serde_json::from_value(detail.clone()).unwrap();
    assert_eq!(keys(&serde_json::to_value(event).unwrap()), keys(&detail), "no seller, and nothing unknown");
}
