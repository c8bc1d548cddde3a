//! Resources of an earlier run's template that this run's template no longer has. Nothing that was accepted
//! may be lost with them: a resource that still holds something stops the start, by name; an empty one is
//! removed, as a deployment on AWS would. Logs always stay. Resources that were created through the API
//! belong to their creators, and stay.

use std::collections::HashSet;
use std::sync::Arc;

use anyhow::bail;
use cloud_core::Cloud;
use cloud_core::service::counted;
use cloud_core::store::StoreError;
use cloud_languages::template::Application;
use cloud_services::cloudformation::deployed::{self, Deployed};

/// Compares the template with those of earlier runs, before anything is deployed, and records the resources
/// of this one. Returns the removed resources; refuses if one of them holds something.
pub async fn compare(cloud: &Arc<Cloud>, application: &Application) -> anyhow::Result<Vec<Deployed>> {
    let resources = || application.stacks.iter().flat_map(|stack| &stack.resources);
    let there: HashSet<(&str, &str)> =
        resources().map(|resource| (resource.kind.as_str(), deployed::id(resource))).collect();
    let mut removed = deployed::all(cloud)?;
    removed.retain(|old| !there.contains(&(old.kind.as_str(), old.named.id.as_str())));
    for resource in &removed {
        if let Some(what) = holds(cloud, resource).await? {
            bail!(
                "{} has no {} any more, but the state still holds {what} of {}; put the resource back until it is empty, start once with --fresh, or choose another --state-dir",
                resource.file,
                resource.logical_id,
                resource.named.name()
            );
        }
    }
    deployed::add(cloud, resources())?;
    Ok(removed)
}

/// Removes the resources that [`compare`] returned; called after the deployment, and before anybody can put
/// something into them. A resource that cannot be removed is logged, and stays.
pub async fn remove(cloud: &Arc<Cloud>, removed: &[Deployed]) -> Result<(), StoreError> {
    for resource in removed {
        let done = match cloud.resource_type(&resource.kind) {
            Some(row) => (row.remove)(cloud, &resource.named).await,
            None => Ok(false),
        };
        match done {
            Ok(false) => {}
            Ok(true) => {
                tracing::info!(target: "hop", service = "cloudformation", resource = %resource.named.id, "{} is gone from the template: removed", resource.logical_id);
            }
            Err(error) => {
                tracing::warn!(target: "hop", service = "cloudformation", resource = %resource.named.id, "{} is gone from the template, but stays: {error}", resource.logical_id);
            }
        }
        deployed::forget(cloud, resource)?;
    }
    Ok(())
}

/// What would be lost with a resource, in words: what it holds, or the events still to be delivered to it.
async fn holds(cloud: &Arc<Cloud>, resource: &Deployed) -> anyhow::Result<Option<String>> {
    if let Some(row) = cloud.resource_type(&resource.kind)
        && let Some(what) = (row.holds)(cloud, &resource.named).await?
    {
        return Ok(Some(what));
    }
    let mut pending = 0;
    for service in cloud.services() {
        pending += (service.undelivered)(cloud, &resource.named.id)?;
    }
    Ok(counted(pending, "undelivered event"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use cloud_core::Settings;
    use cloud_core::clock::Clock;
    use cloud_core::random::Random;
    use cloud_core::service::Named;
    use cloud_services::s3;
    use serde_json::{Value, json};

    use super::*;
    use crate::services::SERVICES;
    use crate::{deploy, project};

    fn cloud() -> Arc<Cloud> {
        Cloud::open(Settings::for_tests(), Clock::system(), Random::seeded(1), SERVICES).unwrap()
    }

    /// A template of these resources.
    fn application(cloud: &Cloud, resources: &str) -> Application {
        let folder = tempfile::tempdir().unwrap();
        let text =
            format!("AWSTemplateFormatVersion: \"2010-09-09\"\nResources:\n  Kept: {KEPT}\n{resources}");
        std::fs::write(folder.path().join("t.yaml"), text).unwrap();
        let (project, url) = (folder.path(), "http://127.0.0.1:1");
        project::load(project, "t.yaml", "s", &BTreeMap::new(), &cloud.settings, url, url).unwrap()
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
    /// `stage` and `/stage` have one ARN.
    const PARAMETER: &str =
        "  Setting: { Type: AWS::SSM::Parameter, Properties: { Name: /a/b, Type: String, Value: v } }
  Plain: { Type: AWS::SSM::Parameter, Properties: { Name: stage, Type: String, Value: v } }
";

    async fn run(cloud: &Arc<Cloud>, resources: &str) -> Result<(), String> {
        let application = application(cloud, resources);
        let removed = compare(cloud, &application).await.map_err(|refusal| refusal.to_string())?;
        deploy::deploy(cloud, &application).await.unwrap();
        remove(cloud, &removed).await.unwrap();
        cloud_services::eventbridge::declare_anew_for_tests(cloud);
        Ok(())
    }

    /// Deploys the resources, calls an action, and returns the refusal of a template without them.
    async fn refused(resources: &str, service: &str, action: &str, input: Value) -> String {
        let cloud = cloud();
        run(&cloud, resources).await.unwrap();
        cloud.call(service, action, input).await.unwrap();
        let said = run(&cloud, "").await.unwrap_err();
        assert!(said.contains("t.yaml has no ") && said.contains("--fresh"), "{said}");
        // With the resources put back, the state can be used again.
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
        let cloud = cloud();
        run(&cloud, BUCKET).await.unwrap();
        s3::put(&cloud, "images", "a.png", &s3::Upload::default()).unwrap();
        let said = run(&cloud, "").await.unwrap_err();
        assert!(said.contains("no Images any more, but the state still holds objects of images"), "{said}");
    }

    #[tokio::test]
    async fn what_holds_nothing_goes_with_the_template_and_comes_back_with_it() {
        let cloud = cloud();
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
            ("s3", "ListObjectsV2", json!({"Bucket": "images"})),
            ("ssm", "GetParameter", json!({"Name": "/a/b"})),
            ("ssm", "GetParameter", json!({"Name": "stage"})),
        ] {
            let gone = cloud.call(service, action, input).await.expect_err("it is removed");
            assert_ne!(gone.code, "NotImplemented", "{service} {action}");
        }
        cloud.call("sqs", "GetQueueUrl", json!({"QueueName": "kept"})).await.unwrap();
        run(&cloud, &all).await.unwrap();
        cloud.call("sqs", "GetQueueUrl", json!({"QueueName": "orders"})).await.unwrap();
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

    /// The numbers of checkpoints, mappings and pipes.
    fn rows(cloud: &Cloud) -> [i64; 3] {
        ["stream_checkpoints", "event_source_mappings", "pipes"].map(|table| {
            let count = format!("SELECT count(*) FROM {table}");
            cloud.store.read(|db| db.query_row(&count, [], |row| row.get(0))).unwrap()
        })
    }

    #[tokio::test]
    async fn a_reader_of_a_stream_that_is_gone_begins_anew_when_it_comes_back() {
        let cloud = cloud();
        let rest = [STREAM, FUNCTION].concat();
        run(&cloud, &[&rest, MAPPING, PIPE].concat()).await.unwrap();
        assert_eq!(rows(&cloud), [2, 1, 1]);
        // The same mapping under another name keeps its position.
        let renamed = MAPPING.replace("  Mapping:", "  Renamed:");
        run(&cloud, &[&rest, renamed.as_str()].concat()).await.unwrap();
        assert_eq!(rows(&cloud), [1, 1, 0]);
        run(&cloud, &rest).await.unwrap();
        assert_eq!(rows(&cloud), [0, 0, 0]);
    }

    #[tokio::test]
    async fn an_archive_that_the_template_no_longer_has_is_gone_before_the_ports_answer() {
        let cloud = cloud();
        run(&cloud, ARCHIVE).await.unwrap();
        run(&cloud, "").await.unwrap();
        let gone = cloud.call("events", "DescribeArchive", json!({"ArchiveName": "old"})).await.unwrap_err();
        assert_eq!(gone.code, "ResourceNotFoundException");
    }

    #[tokio::test]
    async fn what_was_made_through_the_api_stays() {
        let cloud = cloud();
        run(&cloud, QUEUE).await.unwrap();
        cloud.call("sqs", "CreateQueue", json!({"QueueName": "mine"})).await.unwrap();
        run(&cloud, "").await.unwrap();
        cloud.call("sqs", "GetQueueUrl", json!({"QueueName": "mine"})).await.unwrap();
    }

    fn check(cloud: &Cloud) -> Result<(), StoreError> {
        cloud.services().try_for_each(|service| (service.check)(cloud))
    }

    #[tokio::test]
    async fn an_execution_that_another_version_wrote_is_refused_and_not_forgotten() {
        let cloud = cloud();
        run(&cloud, MACHINE).await.unwrap();
        let input = json!({"stateMachineArn": "arn:aws:states:us-east-1:123456789012:stateMachine:waits"});
        cloud.call("states", "StartExecution", input).await.unwrap();
        check(&cloud).unwrap();
        cloud.store.write(|tx| tx.execute("UPDATE sfn_executions SET tree = '{}'", [])).unwrap();
        let said = check(&cloud).unwrap_err().to_string();
        assert!(said.contains("another version") && said.contains("--fresh"), "{said}");
    }

    #[tokio::test]
    async fn what_only_changes_its_settings_goes_on_with_what_it_holds() {
        let cloud = cloud();
        run(&cloud, QUEUE).await.unwrap();
        let input = json!({"QueueUrl": "/123456789012/orders", "MessageBody": "m"});
        cloud.call("sqs", "SendMessage", input).await.unwrap();
        let slower = QUEUE.replace("QueueName: orders", "QueueName: orders, VisibilityTimeout: 90");
        run(&cloud, &slower).await.unwrap();
        let queue = Deployed {
            kind: "AWS::SQS::Queue".into(),
            named: Named { id: "arn:aws:sqs:us-east-1:123456789012:orders".into() },
            logical_id: "Orders".into(),
            file: "t.yaml".into(),
        };
        assert_eq!(holds(&cloud, &queue).await.unwrap().as_deref(), Some("1 message"));
        let url = json!({"QueueUrl": "/123456789012/orders", "AttributeNames": ["All"]});
        let shown = cloud.call("sqs", "GetQueueAttributes", url).await.unwrap();
        assert_eq!(shown["Attributes"]["VisibilityTimeout"], "90");
    }
}
