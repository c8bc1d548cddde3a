//! Executions in a store, with a stub for the rest of the cloud.

mod durability;
mod executions;
mod integrations;
mod machines;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use cloud_core::clock::Clock;
use cloud_core::random::Random;
use cloud_core::resource::Resource as TemplateResource;
use cloud_core::{AwsError, Cloud};
use cloud_languages::states::integration::{Reply, Request};
use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::runner::{Runner, resume};
use super::{shown, store};

const NOW: i64 = 1_700_000_000_000;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

/// Stands in for the rest of the cloud: gives scripted replies, or none, and keeps what was
/// asked and published.
#[derive(Debug, Default)]
pub struct Stub {
    replies: Mutex<VecDeque<Result<Reply, AwsError>>>,
    asked: Mutex<Vec<Request>>,
    published: Mutex<Vec<Value>>,
    changed: Notify,
}

impl Stub {
    pub fn answer(&self, request: Request) -> BoxFuture<'_, Result<Reply, AwsError>> {
        locked(&self.asked).push(request);
        self.changed.notify_waiters();
        let reply = locked(&self.replies).pop_front();
        Box::pin(async move {
            match reply {
                Some(reply) => reply,
                None => std::future::pending().await,
            }
        })
    }

    pub fn published(&self, detail: &Value) {
        locked(&self.published).push(detail.clone());
        self.changed.notify_waiters();
    }

    async fn until(&self, done: impl Fn(&Self) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if done(self) {
                return;
            }
            changed.await;
        }
    }
}

struct Test {
    cloud: Arc<Cloud>,
    arn: String,
}

impl Test {
    async fn open(
        folder: Option<&std::path::Path>,
        clock: Clock,
        states: Value,
        replies: Vec<Reply>,
    ) -> Self {
        let test = Self::prepare(folder, clock, states).await;
        locked(&test.stub().replies).extend(replies.into_iter().map(Ok));
        resume(&test.cloud);
        test
    }

    /// Without its background tasks.
    async fn prepare(folder: Option<&std::path::Path>, clock: Clock, states: Value) -> Self {
        let settings =
            cloud_core::Settings { state: folder.map(Into::into), ..cloud_core::Settings::for_tests() };
        let cloud = crate::testing::open(settings, clock, Random::from_entropy()).unwrap();
        cloud.state::<Runner>().stub.set(Stub::default()).unwrap();
        let arn = cloud.arn("states", "stateMachine:M");
        let resource = resource(&arn, states);
        cloud.deploy(&resource).await.unwrap();
        Self { cloud, arn }
    }

    fn stub(&self) -> &Stub {
        self.cloud.state::<Runner>().stub.get().unwrap()
    }

    async fn call(&self, action: &str, input: Value) -> Result<Value, AwsError> {
        self.cloud.call("states", action, input).await
    }

    async fn start(&self, name: &str) -> String {
        let input = json!({"stateMachineArn": self.arn, "name": name, "input": "{}"});
        self.call("StartExecution", input).await.unwrap()["executionArn"].as_str().unwrap().to_owned()
    }

    async fn status(&self, execution: &str) -> String {
        let described = self.call("DescribeExecution", json!({"executionArn": execution})).await.unwrap();
        described["status"].as_str().unwrap().to_owned()
    }

    /// Waits until `count` status changes are published; gives the last one's status.
    async fn published(&self, count: usize) -> String {
        self.stub().until(|stub| locked(&stub.published).len() >= count).await;
        locked(&self.stub().published).last().unwrap()["status"].as_str().unwrap().to_owned()
    }

    /// Waits until the history has that many events of a type.
    async fn until_history_has(&self, execution: &str, kind: &str, count: usize) {
        loop {
            let history = self.call("GetExecutionHistory", json!({"executionArn": execution})).await.unwrap();
            let events = history["events"].as_array().unwrap();
            if events.iter().filter(|event| event["type"] == kind).count() >= count {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    fn token(&self) -> String {
        let asked = locked(&self.stub().asked);
        let Some(Request::Invoke { payload, .. }) = asked.last() else { panic!("nothing was asked") };
        payload["token"].as_str().unwrap().to_owned()
    }

    async fn asked(&self, count: usize) {
        self.stub().until(|stub| locked(&stub.asked).len() >= count).await;
    }
}

fn resource(arn: &str, states: Value) -> TemplateResource {
    TemplateResource {
        stack: "s".into(),
        logical_id: "Machine".into(),
        kind: "AWS::StepFunctions::StateMachine".into(),
        physical_id: arn.into(),
        arn: arn.into(),
        properties: json!({
            "StateMachineName": "M",
            "StateMachineType": "STANDARD",
            "Definition": {"QueryLanguage": "JSONata", "StartAt": "A", "States": states},
            "DefinitionSubstitutions": {"Function": "f"},
            "RoleArn": "arn:aws:iam::123456789012:role/r",
            "Tags": [{"Key": "Owner", "Value": "local"}],
        }),
        metadata: Value::Null,
        file: "template.yaml".into(),
    }
}

fn waiting() -> Value {
    json!({"A": {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke.waitForTaskToken", "End": true,
        "Arguments": {"FunctionName": "${Function}", "Payload": {"token": "{% $states.context.Task.Token %}"}},
        "TimeoutSeconds": 60}})
}

fn passing() -> Value {
    json!({"A": {"Type": "Pass", "End": true}})
}

fn invoked() -> Reply {
    Reply::Invoked { payload: json!({}), function_error: None, request_id: "r".into() }
}
