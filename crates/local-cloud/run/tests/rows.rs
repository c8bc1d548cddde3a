//! The rows of the services agree with each other and with the tables of the README.

// clippy.toml allows these in tests, but not in helpers of integration tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};

use cloud_core::clock::Clock;
use cloud_core::random::Random;
use cloud_core::resource::Resource;
use cloud_core::service::{Call, Chore, Level, Service, Type};
use cloud_core::{Cloud, Settings};
use cloud_languages::states::integration::SDKS;
use local_cloud::services::SERVICES;
use serde_json::{Value, json};

const README: &str = include_str!("../../README.md");

fn types() -> Vec<&'static Type> {
    let mut types: Vec<&Type> = SERVICES.iter().flat_map(|service| service.types).collect();
    types.sort_by_key(|row| row.name);
    types
}

/// The actions that `Cloud::call` answers, by service.
fn actions() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let mut actions: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for service in SERVICES {
        for action in service.actions.iter().filter(|action| !matches!(action.call, Call::Refused)) {
            actions.entry(service.name).or_default().insert(action.name);
        }
    }
    actions
}

#[test]
fn the_readme_says_of_every_type_what_its_row_says() {
    let expected: String = types()
        .iter()
        .map(|row| {
            let level = match row.level {
                Level::Emulated => "emulated",
                Level::Approximated => "approximated",
                Level::Inert => "no effect",
            };
            format!("| `{}` | {level} | {} |\n", row.name, row.note)
        })
        .collect();
    let rows: String =
        README.lines().filter(|line| line.starts_with("| `AWS::")).map(|line| format!("{line}\n")).collect();
    assert_eq!(rows, expected, "put this into README.md:\n{expected}");
}

#[test]
fn the_readme_lists_the_actions_of_every_service() {
    let join = |names: &BTreeSet<&str>| names.iter().copied().collect::<Vec<_>>().join(", ");
    let expected: String =
        actions().iter().map(|(service, names)| format!("| `{service}` | {} |\n", join(names))).collect();
    let (_, table) = README.split_once("| service | operations |\n|---|---|\n").unwrap();
    let (table, _) = table.split_once("\n\n").unwrap();
    assert_eq!(format!("{table}\n"), expected, "put this into README.md:\n{expected}");
}

#[test]
fn names_are_unique_and_every_type_has_a_note() {
    let types = types();
    assert!(types.windows(2).all(|pair| pair[0].name < pair[1].name));
    assert!(types.iter().all(|row| row.note.len() > 5));
    let all: Vec<_> =
        SERVICES.iter().flat_map(|row| row.actions.iter().map(|a| (row.name, a.name))).collect();
    assert_eq!(all.len(), all.iter().collect::<BTreeSet<_>>().len(), "an action has two rows");
    let routes: Vec<_> = SERVICES.iter().flat_map(|row| row.actions).filter_map(|row| row.route).collect();
    assert!(routes.len() > 15, "{}", routes.len());
    let served: BTreeSet<_> = SERVICES
        .iter()
        .flat_map(|row| row.actions.iter().map(|action| (row.name, action.route)))
        .filter_map(|(name, route)| route.map(|(method, path, _)| (name, method, path)))
        .collect();
    assert_eq!(served.len(), routes.len(), "two actions have one method and path");
}

#[test]
fn every_action_that_a_workflow_may_call_has_a_row() {
    let actions = actions();
    for sdk in SDKS {
        for action in sdk.actions {
            assert!(actions[sdk.endpoint].contains(action), "{} {action}", sdk.endpoint);
        }
    }
}

#[test]
fn a_chore_deletes_unless_it_ends_processes() {
    let chores = |service: &&Service| service.chores.iter().copied();
    let kept: Vec<&str> = SERVICES
        .iter()
        .flat_map(chores)
        .filter(|chore: &Chore| !chore.deletes)
        .map(|chore| chore.of)
        .collect();
    assert_eq!(kept, ["idle function processes"]);
}

fn cloud() -> std::sync::Arc<Cloud> {
    Cloud::open(Settings::for_tests(), Clock::system(), Random::seeded(1), SERVICES).unwrap()
}

#[tokio::test]
async fn every_action_is_answered_and_no_other_is() {
    let cloud = cloud();
    for (service, names) in actions() {
        for name in names {
            // Most calls fail because their input is missing; that counts as an answer.
            let answer = cloud.call(service, name, json!({})).await;
            let missing = answer.is_err_and(|error| error.code == "NotImplemented");
            assert!(!missing, "{service} {name} is not emulated");
        }
        let other = cloud.call(service, "DescribeUnicorn", json!({})).await.unwrap_err();
        assert!(other.message.contains("DescribeUnicorn"), "{service}: {other:?}");
    }
}

#[tokio::test]
async fn no_type_ignores_an_unknown_property() {
    let cloud = cloud();
    for row in types().iter().filter(|row| row.name != "AWS::CloudFormation::Stack") {
        let resource = Resource {
            stack: "s".into(),
            logical_id: "X".into(),
            kind: row.name.to_owned(),
            physical_id: String::new(),
            arn: String::new(),
            properties: json!({ "NoSuchProperty": 1 }),
            metadata: Value::Null,
            file: "t.yaml".into(),
        };
        assert!(cloud.deploy(&resource).await.is_err(), "{} ignores an unknown property", row.name);
    }
}
