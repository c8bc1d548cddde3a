//! Events match the published schemas: the events of a whole run, the samples, and the documents in the
//! schema registries.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use end_to_end_tests::flow::{Flow, SELLER};
use end_to_end_tests::{on_a_local_cloud, project};
use events::{
    ContractStatusChanged, EventDetail, PublicationApprovalRequested, PublicationEvaluationCompleted,
};
use jsonschema::Validator;
use reqwest::Method;
use serde_json::{Value, json};

/// One event contract: who publishes what, and the document that describes it.
struct Contract {
    source: &'static str,
    detail_type: &'static str,
    document: &'static str,
    registry: &'static str,
}

fn contract<T: EventDetail>(registry: &'static str) -> Contract {
    Contract { source: T::SOURCE, detail_type: T::DETAIL_TYPE, document: T::OPENAPI, registry }
}

fn contracts() -> [Contract; 3] {
    [
        contract::<ContractStatusChanged>("unicorn-contracts-local"),
        contract::<PublicationApprovalRequested>("unicorn-web-local"),
        contract::<PublicationEvaluationCompleted>("unicorn-properties-local"),
    ]
}

impl Contract {
    /// For the whole event with its envelope. OpenAPI 3.0 uses draft 4 with extensions.
    fn schema(&self) -> Validator {
        let mut document: Value = serde_json::from_str(self.document).unwrap();
        document["$ref"] = json!("#/components/schemas/AWSEvent");
        jsonschema::draft4::new(&document).unwrap()
    }

    fn describes(&self, event: &Value) -> bool {
        event["source"] == self.source && event["detail-type"] == self.detail_type
    }
}

/// The errors in the events of this application, and the contracts that were seen.
fn check<'a>(events: impl IntoIterator<Item = (String, &'a Value)>) -> (Vec<String>, BTreeSet<&'static str>) {
    let contracts = contracts();
    let (mut wrong, mut seen) = (Vec::new(), BTreeSet::new());
    for (place, event) in events {
        if let Some(contract) = contracts.iter().find(|contract| contract.describes(event)) {
            seen.insert(contract.detail_type);
            wrong.extend(
                contract.schema().iter_errors(event).map(|error| format!("{place}: {error}: {event}")),
            );
        }
    }
    (wrong, seen)
}

#[test]
fn every_event_of_a_whole_run_is_what_its_schema_says() -> anyhow::Result<()> {
    on_a_local_cloud(async |client| {
        unicorn::seed::images(&project()?, client).await?;
        Flow::new(client).run().await?;
        let mut logged = Vec::new();
        for output in
            ["ContractsCatchAllLogGroupArn", "WebCatchAllLogGroupArn", "PropertiesCatchAllLogGroupArn"]
        {
            let group = client.log_group(output)?;
            logged.extend(client.logged(&group).await?.into_iter().map(|event| (group.clone(), event)));
        }
        let (wrong, seen) = check(logged.iter().map(|(group, event)| (group.clone(), event)));
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert_eq!(seen.len(), 3, "the run has events of every kind: {seen:?}");
        for (group, event) in &logged {
            let known = contracts().iter().any(|contract| contract.describes(event));
            assert!(
                known || event["source"] == "unicorn-tests",
                "{group} has an event without a schema: {event}"
            );
            let text = event.to_string();
            assert!(!text.contains(SELLER), "an event holds a seller's name: {event}");
            assert!(!text.contains("task_token"), "an event holds a task token: {event}");
        }
        Ok(())
    })
}

/// Whether the function must answer a sample with an error.
fn is_meant_to_be_wrong(path: &Path) -> bool {
    let answer: Value = read(&path.with_extension("answer.json"));
    answer["errorType"].is_string() || answer["errorMessage"].is_string()
}

#[test]
fn every_event_among_the_samples_is_what_its_schema_says() {
    let samples: Vec<(PathBuf, Value)> =
        samples().into_iter().map(|path| (path.clone(), read(&path))).collect();
    let (good, bad): (Vec<_>, Vec<_>) = samples.iter().partition(|(path, _)| !is_meant_to_be_wrong(path));
    let (wrong, seen) = check(good.iter().map(|(path, event)| (path.display().to_string(), event)));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(
        seen.contains("ContractStatusChanged") && seen.contains("PublicationEvaluationCompleted"),
        "{seen:?}"
    );
    for (path, event) in bad {
        let Some(contract) = contracts().into_iter().find(|contract| contract.describes(event)) else {
            continue;
        };
        assert!(
            !contract.schema().is_valid(event),
            "{} is refused, and its schema allows it",
            path.display()
        );
    }
}

/// All `events/{binary}/{case}.json`.
fn samples() -> Vec<PathBuf> {
    let folders = std::fs::read_dir(project().unwrap().join("events")).unwrap();
    let files = folders.flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap());
    let paths = files.map(|file| file.unwrap().path());
    paths.filter(|path| !path.to_string_lossy().ends_with(".answer.json")).collect()
}

fn read(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

#[test]
fn the_registries_publish_the_schemas_of_the_event_contracts() -> anyhow::Result<()> {
    on_a_local_cloud(async |client| {
        for contract in contracts() {
            let name = format!("{}@{}", contract.source, contract.detail_type);
            let path = format!("/v1/registries/name/{}/schemas/name/{name}", contract.registry);
            let schema = client.rest(Method::GET, &path, None).await?;
            assert_eq!(schema["Type"], "OpenApi3");
            let published: Value = serde_json::from_str(schema["Content"].as_str().unwrap())?;
            let ours: Value = serde_json::from_str(contract.document)?;
            assert_eq!(published, ours, "{name} in its template and in crates/events/schemas differ");
        }
        Ok(())
    })
}
