//! Every role allows exactly what its owner does. In one run, every function, the workflow, the pipe, the
//! rules and the APIs make every kind of call that they can make; the test compares these calls with the
//! policies of the templates.

// clippy.toml allows them in tests, but does not recognise the helpers of an integration test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use anyhow::ensure;
use cloud_core::calls::Call;
use cloud_languages::template::Application;
use end_to_end_tests::flow::{Flow, House};
use end_to_end_tests::permissions::{allowed, findings};
use end_to_end_tests::templates::load;
use end_to_end_tests::{PATIENCE, ROOT, apply, outcome, project, receive, runtime, watched};
use reqwest::Method;
use serde_json::{Value, json};
use unicorn::client::{Client, until};

#[test]
fn every_role_allows_what_its_owner_calls_and_nothing_else() -> anyhow::Result<()> {
    let project = project()?;
    let calls = runtime()?.block_on(watched(&project, async |client, cloud| {
        unicorn::seed::images(&project, client).await?;
        Flow::new(client).run().await?;
        a_published_listing_is_shown_and_withdrawn(client, House(21)).await?;
        an_image_is_missing(client, House(22)).await?;
        commands_wait(client, House(23)).await?;
        poison_is_given_up(client).await?;
        a_dead_execution_has_a_long_input(client, House(24)).await?;
        Ok(cloud.calls.made().into_keys().collect::<Vec<_>>())
    }))?;
    let application = load(&project, ROOT, &[])?;
    let findings = findings(&application, &calls)?;
    every_change_of_a_policy_is_noticed(&application, &calls, &findings)?;
    assert!(findings.is_empty(), "{}", findings.join("\n"));
    Ok(())
}

/// Changes every statement of every role: an action more, each action less, a foreign resource, every resource,
/// a condition more or less. The same calls must show each change.
fn every_change_of_a_policy_is_noticed(
    application: &Application,
    calls: &[Call],
    before: &[String],
) -> anyhow::Result<()> {
    let mut changes = 0;
    for (stack, in_stack) in application.stacks.iter().enumerate() {
        for (at, role) in in_stack.resources.iter().enumerate() {
            if role.kind != "AWS::IAM::Role" {
                continue;
            }
            for (place, changed) in changed_statements(&role.properties) {
                let mut other = application.clone();
                let copy = &mut other.stacks[stack].resources[at];
                let statement = copy.properties.pointer_mut(&place).unwrap();
                let same_condition = statement["Condition"] == changed["Condition"];
                *statement = changed.clone();
                let copy = &other.stacks[stack].resources[at];
                // The change has no effect if another statement allows the same.
                if same_condition && allowed(&other, copy)? == allowed(application, role)? {
                    continue;
                }
                let found = findings(&other, calls)?;
                assert!(
                    found != before,
                    "the change of {place} of {} to {changed} is not noticed",
                    role.logical_id
                );
                changes += 1;
            }
        }
    }
    assert!(changes > 100, "only {changes} changes were tried");
    let mut without = application.clone();
    without.stacks.iter_mut().for_each(|it| it.resources.retain(|role| role.logical_id != "RedriveRole"));
    assert_ne!(findings(&without, calls)?, before, "the missing redrive role is not noticed");
    Ok(())
}

/// Every inline statement of a role in each changed form, by its place.
fn changed_statements(role: &Value) -> Vec<(String, Value)> {
    let mut changed = Vec::new();
    for (policy, document) in role["Policies"].as_array().into_iter().flatten().enumerate() {
        let statements = document["PolicyDocument"]["Statement"].as_array().unwrap();
        for (at, statement) in statements.iter().enumerate() {
            let place = format!("/Policies/{policy}/PolicyDocument/Statement/{at}");
            let with = |name: &str, value: Value| {
                let mut copy = statement.clone();
                copy[name] = value;
                (place.clone(), copy)
            };
            let listed = |name: &str| match &statement[name] {
                Value::Array(values) => values.clone(),
                one => vec![one.clone()],
            };
            let actions = listed("Action");
            let more = |name: &str, another: &str| [listed(name), vec![another.into()]].concat().into();
            let condition = match &statement["Condition"] {
                Value::Null => json!({"Bool": {"aws:SecureTransport": "true"}}),
                _ => Value::Null,
            };
            changed.extend([
                with("Action", more("Action", "dynamodb:DeleteTable")),
                with("Resource", more("Resource", "arn:aws:dynamodb:us-east-1:123456789012:table/foreign")),
                with("Resource", "*".into()),
                with("Condition", condition),
            ]);
            for less in &actions {
                let rest = actions.iter().filter(|action| *action != less).cloned().collect();
                changed.push(with("Action", rest));
            }
        }
    }
    changed
}

/// The contract is already approved, so that no execution waits for it.
async fn a_published_listing_is_shown_and_withdrawn(client: &Client, house: House) -> anyhow::Result<()> {
    apply(client, Method::POST, "/contracts", &house.contract()).await?;
    let approve = json!({"property_id": house.id(), "status": "APPROVED"});
    apply(client, Method::PUT, "/contracts", &approve).await?;
    evaluated(client, house, &house.listing(), "APPROVED").await?;
    let shown = client.get(&format!("/properties/{}", house.id())).await?;
    ensure!(shown.status.is_success(), "a published listing is not shown: {}", shown.body);
    let withdrawal = client.write(Method::DELETE, &format!("/listings/{}", house.id()), None).await?;
    let record = outcome(client, "/listings", &withdrawal, PATIENCE).await?;
    ensure!(record["status"] == "APPLIED", "a listing was not withdrawn: {record}");
    Ok(())
}

/// The workflow asks the bucket whether the image exists.
async fn an_image_is_missing(client: &Client, house: House) -> anyhow::Result<()> {
    apply(client, Method::POST, "/contracts", &house.contract()).await?;
    let mut listing = house.listing();
    listing["images"] = json!(["no-such-image.png"]);
    evaluated(client, house, &listing, "DECLINED").await
}

async fn evaluated(client: &Client, house: House, listing: &Value, status: &str) -> anyhow::Result<()> {
    apply(client, Method::POST, "/listings", listing).await?;
    apply(client, Method::POST, "/request_approval", &json!({"property_id": house.id()})).await?;
    until(&format!("a listing that is {status}"), PATIENCE, async || {
        let view = client.get(&format!("/listings/{}", house.id())).await?.body;
        Ok((view["status"] == status).then_some(()))
    })
    .await
}

/// A change that the contract's status does not allow, and a request for a withdrawn listing: each waits for
/// an earlier command that may still arrive, and is then rejected.
async fn commands_wait(client: &Client, house: House) -> anyhow::Result<()> {
    let property = json!({"property_id": house.id()});
    let close = json!({"property_id": house.id(), "status": "CLOSED"});
    apply(client, Method::POST, "/contracts", &house.contract()).await?;
    apply(client, Method::POST, "/listings", &house.listing()).await?;
    let path = format!("/listings/{}", house.id());
    let withdrawal = client.write(Method::DELETE, &path, None).await?;
    outcome(client, "/listings", &withdrawal, PATIENCE).await?;
    let rejected = async |method, path, service, body, reason: &str| {
        let command = client.write(method, path, Some(body)).await?;
        let record = outcome(client, service, &command, PATIENCE).await?;
        ensure!(record["reason"] == reason, "{path} was not rejected as it must be: {record}");
        Ok(())
    };
    tokio::try_join!(
        rejected(Method::PUT, "/contracts", "/contracts", &close, "invalid_transition"),
        rejected(Method::POST, "/request_approval", "/listings", &property, "withdrawn"),
    )?;
    Ok(())
}

/// A message without a command id did not come from the gateway.
async fn poison_is_given_up(client: &Client) -> anyhow::Result<()> {
    for dead in ["ContractsIngestDLQUrl", "WebIngestDLQUrl"] {
        let dead = client.output(dead)?;
        let message = json!({"QueueUrl": dead.trim_end_matches("-dlq"), "MessageBody": "poison"});
        client.aws("AmazonSQS.SendMessage", &message).await?;
        receive(client, dead).await?;
    }
    Ok(())
}

/// The event of its end has no input, so on-approval-ended reads it from Step Functions.
async fn a_dead_execution_has_a_long_input(client: &Client, house: House) -> anyhow::Result<()> {
    let note = "x".repeat(254_500);
    let input = json!({
        "id": "e-1", "source": "unicorn-web", "detail-type": "PublicationApprovalRequested",
        "time": "2026-11-23T18:22:06Z", "resources": [house.id()],
        "detail": {"property_id": house.id(), "approval_request_id": "long", "note": note},
    });
    let machine = client.output("ApprovalStateMachineArn")?;
    let start = json!({"stateMachineArn": machine, "input": input.to_string()});
    let started = client.aws("AWSStepFunctions.StartExecution", &start).await?;
    let stop = json!({"executionArn": started["executionArn"]});
    client.aws("AWSStepFunctions.StopExecution", &stop).await?;
    let group = client.log_group("PropertiesCatchAllLogGroupArn")?;
    until("the answer for an execution with a long input", PATIENCE, async || {
        let logged = client.logged(&group).await?;
        Ok(logged.iter().any(|event| event["detail"]["approval_request_id"] == "long").then_some(()))
    })
    .await
}
