//! What an earlier run's template had and this run's has not any more. Nothing that was accepted
//! may vanish with it: a resource that still holds something stops the start, by name; an
//! empty one is removed, as a deployment on AWS would. Logs are kept in any case. Resources that
//! were made through the API belong to their makers, and stay.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::cloud::Cloud;
use crate::endpoint::call;
use crate::error::AwsError;
use crate::resource::Resource;
use crate::store::{Store, StoreError};
use crate::template::Application;
use crate::{event_source, eventbridge, lambda, pipes, s3};

const TABLES: &str = "CREATE TABLE IF NOT EXISTS deployed_resources (
    kind TEXT NOT NULL, id TEXT NOT NULL, logical_id TEXT NOT NULL, file TEXT NOT NULL,
    PRIMARY KEY (kind, id)) WITHOUT ROWID;";

/// Creates the table.
///
/// # Errors
/// When the store refuses.
pub fn open(store: &Store) -> Result<(), StoreError> {
    store.migrate(TABLES)
}

/// A resource that the template has no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    kind: String,
    /// The ARN, or the physical id where there is none.
    id: String,
    logical_id: String,
    file: String,
}

/// Why the template cannot go on with this state.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Something would be lost.
    #[error(
        "{file} has no {logical_id} any more, but the state still holds {what} of {name}; put it back until that is done, start once with --fresh, or choose another --state-dir"
    )]
    Holds {
        /// The template of the earlier run.
        file: String,
        /// The resource's name in it.
        logical_id: String,
        /// Its own name.
        name: String,
        /// For example `3 messages`.
        what: String,
    },
    /// The state cannot be read.
    #[error("the state cannot be read: {0}")]
    State(#[from] AwsError),
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::State(error.into())
    }
}

/// What names a resource in every run: addresses (`Ref` of a queue) differ with the port.
fn id(resource: &Resource) -> &str {
    if resource.arn.is_empty() { &resource.physical_id } else { &resource.arn }
}

/// Compares the template with that of earlier runs before anything is deployed, and notes what
/// is about to be.
///
/// # Errors
/// Names the resource that is gone from the template, and what the state holds of it.
pub async fn compare(cloud: &Arc<Cloud>, application: &Application) -> Result<Vec<Gone>, Refusal> {
    let resources = || application.stacks.iter().flat_map(|stack| &stack.resources);
    let there: HashSet<(&str, &str)> =
        resources().map(|resource| (resource.kind.as_str(), id(resource))).collect();
    let before = cloud.store.read(|db| {
        db.prepare("SELECT kind, id, logical_id, file FROM deployed_resources ORDER BY kind, id")?
            .query_map([], |row| {
                Ok(Gone { kind: row.get(0)?, id: row.get(1)?, logical_id: row.get(2)?, file: row.get(3)? })
            })?
            .collect::<rusqlite::Result<Vec<_>>>()
    })?;
    let gone: Vec<Gone> =
        before.into_iter().filter(|old| !there.contains(&(old.kind.as_str(), old.id.as_str()))).collect();
    for resource in &gone {
        if let Some(what) = resource.holds(cloud).await? {
            return Err(Refusal::Holds {
                file: resource.file.clone(),
                logical_id: resource.logical_id.clone(),
                name: resource.name().to_owned(),
                what,
            });
        }
    }
    cloud.store.write(|tx| {
        let mut insert = tx.prepare("INSERT OR REPLACE INTO deployed_resources VALUES (?1, ?2, ?3, ?4)")?;
        for resource in resources() {
            insert.execute([&resource.kind, id(resource), &resource.logical_id, resource.file.template()])?;
        }
        Ok(())
    })?;
    Ok(gone)
}

/// Removes what [`compare`] found to be gone, and empty; called after the deployment, and before
/// anybody can put something into it.
///
/// # Errors
/// When the store refuses. A resource that cannot be removed is told in the log, and stays.
pub async fn forget(cloud: &Arc<Cloud>, gone: &[Gone]) -> Result<(), StoreError> {
    // A bus can go only once its rules are gone.
    eventbridge::forget_undeclared(cloud)?;
    let (buses, others): (Vec<&Gone>, Vec<&Gone>) =
        gone.iter().partition(|resource| resource.kind == "AWS::Events::EventBus");
    for resource in others.into_iter().chain(buses) {
        match resource.remove(cloud).await {
            Ok(false) => {}
            Ok(true) => {
                tracing::info!(target: "hop", service = "cloudformation", resource = %resource.id, "{} is gone from the template: removed", resource.logical_id);
            }
            Err(error) => {
                tracing::warn!(target: "hop", service = "cloudformation", resource = %resource.id, "{} is gone from the template, but stays: {error}", resource.logical_id);
            }
        }
        cloud.store.write(|tx| {
            tx.execute(
                "DELETE FROM deployed_resources WHERE kind = ?1 AND id = ?2",
                [&resource.kind, &resource.id],
            )
        })?;
    }
    Ok(())
}

impl Gone {
    /// The name that people know it by.
    fn name(&self) -> &str {
        self.id.rsplit([':', '/']).next().unwrap_or(&self.id)
    }

    /// What would be lost with it, in words; `None` where that is nothing.
    async fn holds(&self, cloud: &Arc<Cloud>) -> Result<Option<String>, Refusal> {
        let name = self.name();
        let own = match self.kind.as_str() {
            "AWS::SQS::Queue" => match messages(cloud, name).await? {
                0 => None,
                count => Some(counted(count, "message")),
            },
            "AWS::DynamoDB::Table" => {
                let input = json!({"TableName": name, "Limit": 1});
                let found = unless_missing(call(cloud, "dynamodb", "Scan", input).await)?;
                (found["Count"].as_u64().unwrap_or_default() > 0).then(|| "items".to_owned())
            }
            "AWS::StepFunctions::StateMachine" => {
                let input = json!({"stateMachineArn": self.id, "statusFilter": "RUNNING"});
                let found = unless_missing(call(cloud, "states", "ListExecutions", input).await)?;
                match found["executions"].as_array().map_or(0, Vec::len) {
                    0 => None,
                    count => Some(counted(count as u64, "running execution")),
                }
            }
            "AWS::Lambda::Function" => match lambda::pending(cloud, name)? {
                0 => None,
                count => Some(counted(count, "accepted invocation")),
            },
            "AWS::S3::Bucket" => {
                let input = json!({"Bucket": name, "MaxKeys": 1});
                let found = unless_missing(call(cloud, "s3", "ListObjectsV2", input).await)?;
                found["Contents"]
                    .as_array()
                    .is_some_and(|objects| !objects.is_empty())
                    .then(|| "objects".into())
            }
            "AWS::Events::Archive" => {
                let input = json!({"ArchiveName": name});
                let found = unless_missing(call(cloud, "events", "DescribeArchive", input).await)?;
                match found["EventCount"].as_u64().unwrap_or_default() {
                    0 => None,
                    count => Some(counted(count, "archived event")),
                }
            }
            _ => None,
        };
        if own.is_some() {
            return Ok(own);
        }
        Ok(match eventbridge::pending(cloud, &self.id)? {
            0 => None,
            count => Some(counted(count, "undelivered event")),
        })
    }

    /// Removes it; false where there is nothing to remove, or where it is kept.
    async fn remove(&self, cloud: &Arc<Cloud>) -> Result<bool, AwsError> {
        let name = self.name();
        match self.kind.as_str() {
            "AWS::SQS::Queue" => {
                let url = call(cloud, "sqs", "GetQueueUrl", json!({"QueueName": name})).await?;
                call(cloud, "sqs", "DeleteQueue", json!({"QueueUrl": url["QueueUrl"]})).await?;
            }
            "AWS::DynamoDB::Table" => {
                let unprotected = json!({"TableName": name, "DeletionProtectionEnabled": false});
                call(cloud, "dynamodb", "UpdateTable", unprotected).await?;
                call(cloud, "dynamodb", "DeleteTable", json!({"TableName": name})).await?;
            }
            "AWS::StepFunctions::StateMachine" => {
                call(cloud, "states", "DeleteStateMachine", json!({"stateMachineArn": self.id})).await?;
            }
            "AWS::Events::EventBus" => {
                call(cloud, "events", "DeleteEventBus", json!({"Name": name})).await?;
            }
            "AWS::S3::Bucket" => s3::delete_bucket(cloud, name)?,
            "AWS::SSM::Parameter" => {
                let name = self.id.split_once(":parameter").map_or(self.id.as_str(), |(_, name)| name);
                call(cloud, "ssm", "DeleteParameter", json!({"Name": name})).await?;
            }
            "AWS::Lambda::EventSourceMapping" => event_source::forget(cloud, name)?,
            "AWS::Pipes::Pipe" => pipes::forget(cloud, &self.id)?,
            // Everything else lives in the template alone, goes with its bus, or is a log.
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn counted(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// Messages of a queue, seen or not; none where there is no such queue.
async fn messages(cloud: &Arc<Cloud>, queue: &str) -> Result<u64, AwsError> {
    let url = unless_missing(call(cloud, "sqs", "GetQueueUrl", json!({"QueueName": queue})).await)?;
    if url.is_null() {
        return Ok(0);
    }
    let input = json!({"QueueUrl": url["QueueUrl"], "AttributeNames": ["All"]});
    let found = call(cloud, "sqs", "GetQueueAttributes", input).await?;
    let count = |name: &str| found["Attributes"][name].as_str().and_then(|text| text.parse::<u64>().ok());
    let counts = ["", "NotVisible", "Delayed"]
        .map(|suffix| count(&format!("ApproximateNumberOfMessages{suffix}")).unwrap_or_default());
    Ok(counts.iter().sum())
}

/// What is not there holds nothing: its user may have deleted it. Any other error says nothing
/// about what it holds.
fn unless_missing(answer: Result<Value, AwsError>) -> Result<Value, AwsError> {
    let missing = ["NotFound", "NonExistent", "DoesNotExist", "NoSuchBucket"];
    match answer {
        Err(error) if missing.iter().any(|part| error.code.contains(part)) => Ok(Value::Null),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{deploy, template};

    /// A template of these resources; `-` makes none of it.
    fn application(cloud: &Cloud, resources: &str) -> Application {
        let folder = tempfile::tempdir().unwrap();
        let text =
            format!("AWSTemplateFormatVersion: \"2010-09-09\"\nResources:\n  Kept: {KEPT}\n{resources}");
        std::fs::write(folder.path().join("t.yaml"), text).unwrap();
        let (project, url) = (folder.path(), "http://127.0.0.1:1");
        template::load(project, "t.yaml", "s", &BTreeMap::new(), &cloud.settings, url, url).unwrap()
    }

    const KEPT: &str = "{ Type: AWS::SQS::Queue, Properties: { QueueName: kept } }";
    const QUEUE: &str = "  Orders: { Type: AWS::SQS::Queue, Properties: { QueueName: orders } }\n";
    const TABLE: &str = "  Things:
    Type: AWS::DynamoDB::Table
    Properties:
      TableName: things
      BillingMode: PAY_PER_REQUEST
      DeletionProtectionEnabled: true
      AttributeDefinitions: [{ AttributeName: id, AttributeType: S }]
      KeySchema: [{ AttributeName: id, KeyType: HASH }]
";
    const MACHINE: &str = "  Waits:
    Type: AWS::StepFunctions::StateMachine
    Properties:
      StateMachineName: waits
      RoleArn: arn:aws:iam::123456789012:role/r
      Definition:
        QueryLanguage: JSONata
        StartAt: Wait
        States: { Wait: { Type: Wait, Seconds: 600, End: true } }
";
    const FUNCTION: &str = "  Works:
    Type: AWS::Lambda::Function
    Metadata: { Binary: works }
    Properties: { FunctionName: works, Runtime: provided.al2023, Handler: bootstrap, Code: { ZipFile: x }, Role: r }
";
    const BUS: &str = "  Bus: { Type: AWS::Events::EventBus, Properties: { Name: old } }
  Rule:
    Type: AWS::Events::Rule
    Properties:
      Name: all
      EventBusName: !Ref Bus
      EventPattern: { source: [s] }
      Targets: [{ Id: t, Arn: !GetAtt Kept.Arn }]
";
    const ARCHIVE: &str = "  Archive:
    Type: AWS::Events::Archive
    Properties: { ArchiveName: old, SourceArn: !Sub 'arn:aws:events:${AWS::Region}:${AWS::AccountId}:event-bus/default' }
";
    const BUCKET: &str = "  Images: { Type: AWS::S3::Bucket, Properties: { BucketName: images } }\n";
    const PARAMETER: &str =
        "  Setting: { Type: AWS::SSM::Parameter, Properties: { Name: /a/b, Type: String, Value: v } }\n";

    async fn run(cloud: &Arc<Cloud>, resources: &str) -> Result<(), String> {
        let application = application(cloud, resources);
        let gone = compare(cloud, &application).await.map_err(|refusal| refusal.to_string())?;
        deploy::deploy(cloud, &application).await.unwrap();
        forget(cloud, &gone).await.unwrap();
        eventbridge::declare_anew_for_tests(cloud);
        Ok(())
    }

    /// Deploys, does something, and deploys without: what is said to that.
    async fn refused(resources: &str, service: &str, action: &str, input: Value) -> String {
        let cloud = Cloud::for_tests().unwrap();
        run(&cloud, resources).await.unwrap();
        call(&cloud, service, action, input).await.unwrap();
        let said = run(&cloud, "").await.unwrap_err();
        assert!(said.contains("t.yaml has no ") && said.contains("--fresh"), "{said}");
        // What it asks for helps.
        run(&cloud, resources).await.unwrap();
        said
    }

    fn put_event() -> Value {
        json!({"Entries": [{"Source": "s", "DetailType": "d", "Detail": "{}", "EventBusName": "old"}]})
    }

    #[tokio::test]
    async fn a_queue_that_holds_messages_cannot_go() {
        let input = json!({"QueueUrl": "/123456789012/orders", "MessageBody": "m"});
        let said = refused(QUEUE, "sqs", "SendMessage", input).await;
        assert!(said.contains("no Orders any more, but the state still holds 1 message of orders"), "{said}");
    }

    #[tokio::test]
    async fn a_table_that_holds_items_cannot_go() {
        let input = json!({"TableName": "things", "Item": {"id": {"S": "1"}}});
        let said = refused(TABLE, "dynamodb", "PutItem", input).await;
        assert!(said.contains("no Things any more, but the state still holds items of things"), "{said}");
    }

    #[tokio::test]
    async fn a_state_machine_whose_executions_run_cannot_go() {
        let input = json!({"stateMachineArn": "arn:aws:states:us-east-1:123456789012:stateMachine:waits"});
        let said = refused(MACHINE, "states", "StartExecution", input).await;
        assert!(said.contains("no Waits any more, but the state still holds 1 running execution"), "{said}");
    }

    #[tokio::test]
    async fn a_function_that_has_invocations_to_do_cannot_go() {
        let input = json!({"FunctionName": "works", "InvocationType": "Event", "Payload": "{}"});
        let said = refused(FUNCTION, "lambda", "Invoke", input).await;
        assert!(
            said.contains("no Works any more, but the state still holds 1 accepted invocation"),
            "{said}"
        );
    }

    #[tokio::test]
    async fn a_bus_whose_events_are_not_delivered_cannot_go() {
        let said = refused(BUS, "events", "PutEvents", put_event()).await;
        assert!(
            said.contains("no Bus any more, but the state still holds 1 undelivered event of old"),
            "{said}"
        );
    }

    #[tokio::test]
    async fn an_archive_that_holds_events_cannot_go() {
        let input = json!({"Entries": [{"Source": "s", "DetailType": "d", "Detail": "{}"}]});
        let said = refused(ARCHIVE, "events", "PutEvents", input).await;
        assert!(said.contains("no Archive any more, but the state still holds 1 archived event"), "{said}");
    }

    #[tokio::test]
    async fn a_bucket_that_holds_objects_cannot_go() {
        let cloud = Cloud::for_tests().unwrap();
        run(&cloud, BUCKET).await.unwrap();
        s3::put(&cloud, "images", "a.png", &s3::Upload::default()).unwrap();
        let said = run(&cloud, "").await.unwrap_err();
        assert!(said.contains("no Images any more, but the state still holds objects of images"), "{said}");
    }

    #[tokio::test]
    async fn what_holds_nothing_goes_with_the_template_and_comes_back_with_it() {
        let cloud = Cloud::for_tests().unwrap();
        let all = [QUEUE, TABLE, MACHINE, FUNCTION, BUS, ARCHIVE, BUCKET, PARAMETER].concat();
        run(&cloud, &all).await.unwrap();
        run(&cloud, "").await.unwrap();
        for (service, action, input) in [
            ("sqs", "GetQueueUrl", json!({"QueueName": "orders"})),
            ("dynamodb", "DescribeTable", json!({"TableName": "things"})),
            (
                "states",
                "DescribeStateMachine",
                json!({"stateMachineArn": "arn:aws:states:us-east-1:123456789012:stateMachine:waits"}),
            ),
            ("events", "DescribeEventBus", json!({"Name": "old"})),
            ("events", "DescribeArchive", json!({"ArchiveName": "old"})),
            ("s3", "HeadBucket", json!({"Bucket": "images"})),
            ("ssm", "GetParameter", json!({"Name": "/a/b"})),
        ] {
            assert!(call(&cloud, service, action, input).await.is_err(), "{service} {action} still finds it");
        }
        call(&cloud, "sqs", "GetQueueUrl", json!({"QueueName": "kept"})).await.unwrap();
        run(&cloud, &all).await.unwrap();
        call(&cloud, "sqs", "GetQueueUrl", json!({"QueueName": "orders"})).await.unwrap();
    }

    #[test]
    fn only_what_is_not_there_holds_nothing() {
        let answer = |code: &str| unless_missing(Err(AwsError::client(code, "")));
        for code in
            ["ResourceNotFoundException", "QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue"]
                .into_iter()
                .chain(["StateMachineDoesNotExist", "NoSuchBucket"])
        {
            assert_eq!(answer(code), Ok(Value::Null), "{code}");
        }
        for code in ["ValidationException", "InternalFailure", "NoSuchUpload"] {
            assert!(answer(code).is_err(), "{code}");
        }
    }

    const STREAM: &str = "  Things:
    Type: AWS::DynamoDB::Table
    Properties:
      TableName: things
      BillingMode: PAY_PER_REQUEST
      AttributeDefinitions: [{ AttributeName: id, AttributeType: S }]
      KeySchema: [{ AttributeName: id, KeyType: HASH }]
      StreamSpecification: { StreamViewType: NEW_IMAGE }
";
    const MAPPING: &str = "  Mapping:
    Type: AWS::Lambda::EventSourceMapping
    Properties: { FunctionName: !Ref Works, EventSourceArn: !GetAtt Things.StreamArn, StartingPosition: LATEST }
";
    const PIPE: &str = "  Pipe:
    Type: AWS::Pipes::Pipe
    Properties:
      Name: moves
      RoleArn: arn:aws:iam::123456789012:role/r
      Source: !GetAtt Things.StreamArn
      Target: !Sub 'arn:aws:events:${AWS::Region}:${AWS::AccountId}:event-bus/default'
      SourceParameters: { DynamoDBStreamParameters: { StartingPosition: LATEST } }
      TargetParameters: { EventBridgeEventBusParameters: { Source: s, DetailType: d } }
";

    /// Rows of the readers of streams: checkpoints, then mappings, then pipes.
    fn rows(cloud: &Cloud) -> [i64; 3] {
        ["stream_checkpoints", "event_source_mappings", "pipes"].map(|table| {
            let count = format!("SELECT count(*) FROM {table}");
            cloud.store.read(|db| db.query_row(&count, [], |row| row.get(0))).unwrap()
        })
    }

    #[tokio::test]
    async fn a_reader_of_a_stream_that_is_gone_begins_anew_when_it_comes_back() {
        let cloud = Cloud::for_tests().unwrap();
        let rest = [STREAM, FUNCTION].concat();
        run(&cloud, &[&rest, MAPPING, PIPE].concat()).await.unwrap();
        assert_eq!(rows(&cloud), [2, 1, 1]);
        // Another name of the same mapping goes on where it was.
        let renamed = MAPPING.replace("  Mapping:", "  Renamed:");
        run(&cloud, &[&rest, renamed.as_str()].concat()).await.unwrap();
        assert_eq!(rows(&cloud), [1, 1, 0]);
        run(&cloud, &rest).await.unwrap();
        assert_eq!(rows(&cloud), [0, 0, 0]);
    }

    #[tokio::test]
    async fn what_was_made_through_the_api_stays() {
        let cloud = Cloud::for_tests().unwrap();
        run(&cloud, QUEUE).await.unwrap();
        call(&cloud, "sqs", "CreateQueue", json!({"QueueName": "mine"})).await.unwrap();
        run(&cloud, "").await.unwrap();
        call(&cloud, "sqs", "GetQueueUrl", json!({"QueueName": "mine"})).await.unwrap();
    }

    #[tokio::test]
    async fn an_execution_that_another_version_wrote_is_refused_and_not_forgotten() {
        let cloud = Cloud::for_tests().unwrap();
        run(&cloud, MACHINE).await.unwrap();
        let input = json!({"stateMachineArn": "arn:aws:states:us-east-1:123456789012:stateMachine:waits"});
        call(&cloud, "states", "StartExecution", input).await.unwrap();
        crate::stepfunctions::check(&cloud).unwrap();
        cloud.store.write(|tx| tx.execute("UPDATE sfn_executions SET tree = '{}'", [])).unwrap();
        let said = crate::stepfunctions::check(&cloud).unwrap_err().to_string();
        assert!(said.contains("another version") && said.contains("--fresh"), "{said}");
    }

    #[tokio::test]
    async fn what_only_changes_its_settings_goes_on_with_what_it_holds() {
        let cloud = Cloud::for_tests().unwrap();
        run(&cloud, QUEUE).await.unwrap();
        let input = json!({"QueueUrl": "/123456789012/orders", "MessageBody": "m"});
        call(&cloud, "sqs", "SendMessage", input).await.unwrap();
        let slower = QUEUE.replace("QueueName: orders", "QueueName: orders, VisibilityTimeout: 90");
        run(&cloud, &slower).await.unwrap();
        assert_eq!(messages(&cloud, "orders").await.unwrap(), 1);
        let url = json!({"QueueUrl": "/123456789012/orders", "AttributeNames": ["All"]});
        let shown = call(&cloud, "sqs", "GetQueueAttributes", url).await.unwrap();
        assert_eq!(shown["Attributes"]["VisibilityTimeout"], "90");
    }
}
