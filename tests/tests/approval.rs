//! The real approval workflow with its real functions, deployed alone as its team does. The tests put the
//! events of the other services on its bus.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use end_to_end_tests::flow::is_waiting;
use end_to_end_tests::templates::{FILES, PROPERTIES};
use end_to_end_tests::{PATIENCE, project, put_event, runtime};
use local_cloud::up::{Options, up};
use serde_json::{Value, json};
use unicorn::client::{Client, until};

const PROPERTY: &str = "usa/anytown/main-street/111";

/// The service with the only other resource that it needs: a bucket.
const ROOT: &str = r#"
AWSTemplateFormatVersion: "2010-09-09"
Transform: AWS::Serverless-2016-10-31
Parameters:
  Stage: { Type: String }
  Owner: { Type: String }
Resources:
  ImagesBucket:
    Type: AWS::S3::Bucket
    Properties: { BucketName: images }
  PropertiesService:
    Type: AWS::Serverless::Application
    Properties:
      Location: properties-service/template.yaml
      Parameters: { Stage: !Ref Stage, Owner: !Ref Owner, ImagesBucketName: !Ref ImagesBucket }
Outputs:
  ContractStatusTableName: { Value: !GetAtt PropertiesService.Outputs.ContractStatusTableName }
  ApprovalStateMachineArn: { Value: !GetAtt PropertiesService.Outputs.ApprovalStateMachineArn }
  PropertiesEventBusName: { Value: !GetAtt PropertiesService.Outputs.PropertiesEventBusName }
  PropertiesCatchAllLogGroupArn: { Value: !GetAtt PropertiesService.Outputs.PropertiesCatchAllLogGroupArn }
"#;

/// Runs `test` against the approval service alone.
fn alone(test: impl AsyncFnOnce(&Approval) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let project = project()?;
    let (copy, state) = (tempfile::tempdir()?, tempfile::tempdir()?);
    std::fs::write(copy.path().join("template.yaml"), ROOT)?;
    let folder = Path::new(PROPERTIES).parent().unwrap();
    std::fs::create_dir(copy.path().join(folder))?;
    for file in FILES.iter().filter(|file| Path::new(file).starts_with(folder)) {
        std::fs::copy(project.join(file), copy.path().join(file))?;
    }
    let names = local_cloud::up::binaries(copy.path(), "template.yaml", "local")?;
    runtime()?.block_on(async {
        let binaries = unicorn::build::named(&project, &names, unicorn::build::Show::Progress).await?;
        let running = up(&Options::on_free_ports(copy.path(), state.path(), &binaries)).await?;
        let ended = test(&Approval(Client::new(running.addresses.clone()))).await;
        running.stop().await;
        ended
    })
}

/// The running service.
struct Approval(Client);

impl Approval {
    async fn put(&self, source: &str, detail_type: &str, detail: Value) -> anyhow::Result<String> {
        put_event(&self.0, self.0.output("PropertiesEventBusName")?, source, detail_type, &detail).await
    }

    /// Sends an event about the contract, with its version as the second, and waits until it is stored.
    async fn contract_is(&self, status: &str, version: u8) -> anyhow::Result<()> {
        let detail = json!({
            "property_id": PROPERTY, "contract_id": "c-1", "contract_status": status,
            "contract_last_modified_on": time_of(version), "contract_version": version,
        });
        self.put("unicorn-contracts", "ContractStatusChanged", detail).await?;
        until("the status of the contract", PATIENCE, async || {
            let key = json!({"property_id": {"S": PROPERTY}});
            let input = json!({"TableName": self.0.output("ContractStatusTableName")?, "Key": key});
            let row = self.0.aws("DynamoDB_20120810.GetItem", &input).await?;
            let kept = row["Item"]["contract_version"]["N"].as_str().and_then(|kept| kept.parse().ok());
            Ok((kept == Some(version)).then_some(()))
        })
        .await
    }

    async fn request(&self, property: &str) -> anyhow::Result<()> {
        self.put("unicorn-web", "PublicationApprovalRequested", request(property)).await.map(drop)
    }

    /// The only execution.
    async fn execution(&self) -> anyhow::Result<String> {
        let list = json!({"stateMachineArn": self.0.output("ApprovalStateMachineArn")?});
        until("an execution", PATIENCE, async || {
            let listed = self.0.aws("AWSStepFunctions.ListExecutions", &list).await?;
            Ok(listed["executions"][0]["executionArn"].as_str().map(str::to_owned))
        })
        .await
    }

    async fn waits(&self, execution: &str) -> anyhow::Result<()> {
        until("an execution that waits for its contract", PATIENCE, async || {
            Ok(is_waiting(&self.0, execution).await?.then_some(()))
        })
        .await
    }

    /// The detail of the first answer.
    async fn answer(&self) -> anyhow::Result<Value> {
        let group = self.0.log_group("PropertiesCatchAllLogGroupArn")?;
        until("an answer", PATIENCE, async || {
            let logged = self.0.logged(&group).await?;
            let answer =
                logged.into_iter().find(|event| event["detail-type"] == "PublicationEvaluationCompleted");
            Ok(answer.map(|mut event| event["detail"].take()))
        })
        .await
    }

    /// How often a state of the execution was entered, or its task begun.
    async fn count(&self, execution: &str, is: impl Fn(&Value) -> bool) -> anyhow::Result<usize> {
        let input = json!({"executionArn": execution, "maxResults": 1000});
        let history = self.0.aws("AWSStepFunctions.GetExecutionHistory", &input).await?;
        Ok(history["events"].as_array().unwrap().iter().filter(|event| is(event)).count())
    }
}

fn time_of(version: u8) -> String {
    format!("2026-11-23T18:22:{version:02}.000Z")
}

/// A listing that an evaluation approves.
fn request(property: &str) -> Value {
    json!({
        "property_id": property, "approval_request_id": "r-1", "status": "PENDING",
        "address": {"country": "USA", "city": "Anytown", "street": "Main Street", "number": 111},
        "description": "A lovely home with a wonderful garden.", "images": [],
        "contract": "sale", "listprice": 200_000, "currency": "USD",
    })
}

fn answered(result: &str, reasons: &[&str], version: Option<u8>) -> Value {
    let mut answer = json!({
        "property_id": PROPERTY, "approval_request_id": "r-1", "evaluation_result": result,
        "evaluation_reasons": reasons,
    });
    if let Some(version) = version {
        answer["contract_version"] = version.into();
        answer["contract_last_modified_on"] = time_of(version).into();
    }
    answer
}

#[test]
fn a_request_in_upper_case_is_answered_for_the_same_property() -> anyhow::Result<()> {
    alone(async |approval| {
        approval.contract_is("APPROVED", 2).await?;
        approval.request(&PROPERTY.to_uppercase()).await?;
        assert_eq!(approval.answer().await?, answered("APPROVED", &[], Some(2)));
        Ok(())
    })
}

#[test]
fn an_ended_contract_is_looked_up_again_since_its_successor_may_be_on_the_way() -> anyhow::Result<()> {
    alone(async |approval| {
        approval.contract_is("CANCELLED", 2).await?;
        approval.request(PROPERTY).await?;
        let execution = approval.execution().await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        approval.contract_is("DRAFT", 3).await?;
        approval.waits(&execution).await?;
        approval.contract_is("APPROVED", 4).await?;
        assert_eq!(approval.answer().await?, answered("APPROVED", &[], Some(4)));
        Ok(())
    })
}

#[test]
fn an_ended_contract_that_has_no_successor_after_three_look_ups_declines() -> anyhow::Result<()> {
    alone(async |approval| {
        approval.contract_is("CLOSED", 2).await?;
        approval.request(PROPERTY).await?;
        assert_eq!(approval.answer().await?, answered("DECLINED", &["contract_ended"], Some(2)));
        let execution = approval.execution().await?;
        let is_look_up = |event: &Value| event["stateEnteredEventDetails"]["name"] == "FindContract";
        assert_eq!(approval.count(&execution, is_look_up).await?, 3);
        Ok(())
    })
}

/// Step Functions leaves the input out of the event of such an execution.
#[test]
fn an_execution_whose_input_is_too_long_for_its_event_is_answered_when_it_dies() -> anyhow::Result<()> {
    alone(async |approval| {
        approval.contract_is("DRAFT", 1).await?;
        let mut detail = request(PROPERTY);
        detail["note"] = "x".repeat(254_500).into();
        let input = json!({
            "id": "e-1", "source": "unicorn-web", "detail-type": "PublicationApprovalRequested",
            "time": "2026-11-23T18:22:06Z", "resources": [PROPERTY], "detail": detail,
        });
        let start = json!({
            "stateMachineArn": approval.0.output("ApprovalStateMachineArn")?, "input": input.to_string(),
        });
        let started = approval.0.aws("AWSStepFunctions.StartExecution", &start).await?;
        let execution = started["executionArn"].as_str().unwrap();
        approval.waits(execution).await?;
        approval.0.aws("AWSStepFunctions.StopExecution", &json!({"executionArn": execution})).await?;
        assert_eq!(approval.answer().await?, answered("DECLINED", &["evaluation_failed"], None));
        Ok(())
    })
}

/// A stored contract that cannot be read stays unreadable, so the answer comes at once, without retries.
#[test]
fn a_contract_that_cannot_be_read_is_a_failed_evaluation_at_once() -> anyhow::Result<()> {
    alone(async |approval| {
        let row = json!({
            "property_id": {"S": PROPERTY}, "contract_id": {"N": "1"}, "contract_status": {"S": "DRAFT"},
            "contract_last_modified_on": {"S": time_of(1)}, "contract_version": {"N": "1"},
        });
        let put = json!({"TableName": approval.0.output("ContractStatusTableName")?, "Item": row});
        approval.0.aws("DynamoDB_20120810.PutItem", &put).await?;
        approval.request(PROPERTY).await?;
        assert_eq!(approval.answer().await?, answered("DECLINED", &["evaluation_failed"], None));
        let execution = approval.execution().await?;
        let failures =
            approval.count(&execution, |event| event["taskFailedEventDetails"]["error"] == "Corrupt");
        let failures = failures.await?;
        ensure!(failures == 1, "the wait was begun {failures} times");
        Ok(())
    })
}
