//! The published schemas and the Rust types say the same.
#![allow(clippy::unwrap_used, reason = "a test")]

use events::{
    ContractStatusChanged, EventDetail, PublicationApprovalRequested, PublicationEvaluationCompleted,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The schema of the detail, with the components that it refers to.
fn detail_schema<T: EventDetail>() -> Value {
    let mut document: Value = serde_json::from_str(T::OPENAPI).unwrap();
    document["$ref"] = json!(format!("#/components/schemas/{}", T::DETAIL_TYPE));
    document
}

fn accepts<T: EventDetail>(detail: &Value) -> bool {
    jsonschema::draft4::new(&detail_schema::<T>()).unwrap().is_valid(detail)
}

/// What both must accept, and every member that both must refuse to miss.
fn agree<T: EventDetail + Serialize + DeserializeOwned>(full: Value, optional: &[&str]) {
    let parsed: T = serde_json::from_value(full.clone()).unwrap();
    assert_eq!(serde_json::to_value(&parsed).unwrap(), full);
    assert!(accepts::<T>(&full), "{full}");
    for name in full.as_object().unwrap().keys() {
        let mut partial = full.clone();
        partial.as_object_mut().unwrap().remove(name);
        let is_optional = optional.contains(&name.as_str());
        assert_eq!(accepts::<T>(&partial), is_optional, "the schema without {name}");
        assert_eq!(serde_json::from_value::<T>(partial).is_ok(), is_optional, "the type without {name}");
    }
    let mut grown = full;
    grown["a_field_of_next_year"] = json!({"any": ["thing"]});
    assert!(accepts::<T>(&grown) && serde_json::from_value::<T>(grown).is_ok(), "unknown fields are ignored");
}

#[test]
fn contract_status_changed_is_what_its_schema_says() {
    let full = json!({
        "property_id": "usa/anytown/main-street/111",
        "contract_id": "f2bedc80-3dc8-4544-9140-9b606d71a6ee",
        "contract_status": "DRAFT",
        "contract_last_modified_on": "2026-11-23T18:22:06.123Z",
        "contract_version": 1,
    });
    agree::<ContractStatusChanged>(full.clone(), &["contract_version"]);
    for (member, wrong) in [
        ("property_id", json!("usa/anytown")),
        ("contract_status", json!("SOLD")),
        ("contract_last_modified_on", json!("yesterday")),
        ("contract_version", json!("three")),
    ] {
        let mut bad = full.clone();
        bad[member] = wrong;
        assert!(!accepts::<ContractStatusChanged>(&bad), "{bad}");
        assert!(serde_json::from_value::<ContractStatusChanged>(bad.clone()).is_err(), "{bad}");
    }
}

#[test]
fn publication_approval_requested_is_what_its_schema_says() {
    agree::<PublicationApprovalRequested>(
        json!({
            "property_id": "usa/anytown/main-street/111",
            "approval_request_id": "0b7a5a5e-7a43-5b5a-8f5e-6a6d1d0c2b11",
            "address": {"country": "usa", "city": "anytown", "street": "main-street", "number": 111},
            "status": "PENDING",
            "description": "A bright house with a garden.",
            "images": ["usa/anytown/main-street-111-front.png"],
            "contract": "sale",
            "listprice": 200_000,
            "currency": "USD",
        }),
        &["approval_request_id"],
    );
}

#[test]
fn publication_evaluation_completed_is_what_its_schema_says() {
    agree::<PublicationEvaluationCompleted>(
        json!({
            "property_id": "usa/anytown/main-street/111",
            "approval_request_id": "0b7a5a5e-7a43-5b5a-8f5e-6a6d1d0c2b11",
            "evaluation_result": "DECLINED",
            "evaluation_reasons": ["unsafe_image", "a_reason_of_next_year"],
            "contract_version": 2,
            "contract_last_modified_on": "2026-11-23T18:22:06.123Z",
        }),
        &["approval_request_id", "evaluation_reasons", "contract_version", "contract_last_modified_on"],
    );
}

/// Producers of other teams write null for what they do not have.
#[test]
fn null_in_an_optional_field_means_none() {
    let evaluation: PublicationEvaluationCompleted = serde_json::from_value(json!({
        "property_id": "usa/anytown/main-street/111", "evaluation_result": "APPROVED",
        "approval_request_id": null, "evaluation_reasons": null, "contract_version": null,
        "contract_last_modified_on": null,
    }))
    .unwrap();
    assert_eq!(evaluation.evaluation_reasons, []);
    assert_eq!((evaluation.approval_request_id, evaluation.contract_version), (None, None));
    assert_eq!(evaluation.contract_last_modified_on, None);
    let change: ContractStatusChanged = serde_json::from_value(json!({
        "property_id": "usa/anytown/main-street/111", "contract_id": "c-1", "contract_status": "DRAFT",
        "contract_last_modified_on": "2026-11-23T18:22:06.123Z", "contract_version": null,
    }))
    .unwrap();
    assert_eq!(change.contract_version, None);
}

/// What EventBridge requires of a document in the registry.
/// <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-schema-registry.html>
#[test]
fn every_document_describes_the_envelope_with_its_names() {
    fn check<T: EventDetail>() {
        let document: Value = serde_json::from_str(T::OPENAPI).unwrap();
        let envelope = &document["components"]["schemas"]["AWSEvent"];
        assert_eq!(envelope["x-amazon-events-source"], T::SOURCE);
        assert_eq!(envelope["x-amazon-events-detail-type"], T::DETAIL_TYPE);
    }
    check::<ContractStatusChanged>();
    check::<PublicationApprovalRequested>();
    check::<PublicationEvaluationCompleted>();
}
