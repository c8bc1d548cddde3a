//! The services share only event contracts: none depends on another's code, and each template can be
//! deployed alone with parameters.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use std::collections::BTreeSet;
use std::process::Command;

use end_to_end_tests::{project, templates};
use serde_json::Value;

const SERVICES: [&str; 3] = ["contracts-service", "properties-service", "web-service"];

/// The crates of this workspace that a service may use.
const SHARED: [&str; 3] = ["events", "lambda-kit", "vocabulary"];

#[test]
fn a_service_depends_on_the_shared_crates_alone() {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["metadata", "--no-deps", "--format-version=1", "--offline"])
        .current_dir(project().unwrap())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let workspace: BTreeSet<&str> =
        packages.iter().map(|package| package["name"].as_str().unwrap()).collect();
    for name in SERVICES.iter().chain(&SHARED) {
        let package = packages.iter().find(|package| package["name"] == *name).unwrap();
        let used = package["dependencies"].as_array().unwrap();
        let ours =
            used.iter().map(|used| used["name"].as_str().unwrap()).filter(|used| workspace.contains(used));
        for used in ours {
            assert!(SHARED.contains(&used), "{name} depends on {used}");
        }
    }
}

#[test]
fn each_service_is_deployed_alone() {
    for service in SERVICES {
        let parameters: &[(&str, &str)] =
            if service == "properties-service" { &[("ImagesBucketName", "some-bucket")] } else { &[] };
        let application =
            templates::load(&project().unwrap(), &format!("{service}/template.yaml"), parameters).unwrap();
        assert_eq!(application.stacks.len(), 1, "{service} nests nothing");
        let elsewhere = templates::of_kind(&application, "AWS::Events::Rule").into_iter().find(|rule| {
            let bus = rule.properties["EventBusName"].as_str().unwrap_or("default");
            bus != "default"
                && !templates::of_kind(&application, "AWS::Events::EventBus")
                    .iter()
                    .any(|own| own.physical_id == bus)
        });
        assert!(
            elsewhere.is_none(),
            "a rule on another service's bus belongs into subscriptions.yaml: {elsewhere:?}"
        );
    }
}

#[test]
fn the_subscriptions_of_a_service_are_deployed_alone_after_the_buses() {
    for service in ["properties-service", "web-service"] {
        let file = format!("{service}/subscriptions.yaml");
        let application = templates::load(&project().unwrap(), &file, &[]).unwrap();
        assert!(
            !templates::of_kind(&application, "AWS::Events::Rule").is_empty(),
            "{file} subscribes to something"
        );
    }
}

#[test]
fn a_stack_without_an_owner_is_refused() {
    for service in SERVICES {
        let file = format!("{service}/template.yaml");
        let parameters = [("Owner", ""), ("ImagesBucketName", "some-bucket")];
        let parameters = if service == "properties-service" { &parameters[..] } else { &parameters[..1] };
        let refused = templates::load(&project().unwrap(), &file, parameters).unwrap_err().to_string();
        assert!(refused.contains("Owner"), "{refused}");
    }
}
