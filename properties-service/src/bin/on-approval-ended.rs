//! Trigger: `Step Functions Execution Status Change` of the approval workflow, on the default bus, for
//! executions that failed, timed out or were aborted.

use std::time::Duration;

use lambda_kit::publish::Bus;
use lambda_kit::{clients, config, telemetry};
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use properties_service::dynamo::ApprovalsTable;
use properties_service::handlers::on_approval_ended::handle;
use properties_service::workflow::StepFunctions;
use serde_json::Value;

config! {
    approvals_table: String = "APPROVALS_TABLE",
    keep_claim: Duration = "KEEP_CLAIM_SECONDS",
    event_bus: String = "EVENT_BUS",
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    telemetry::init();
    let config = Config::from_env()?;
    let sdk = clients::from_env()?;
    let claims =
        &ApprovalsTable::new(aws_sdk_dynamodb::Client::new(&sdk), config.approvals_table, config.keep_claim);
    let executions = &StepFunctions::new(aws_sdk_sfn::Client::new(&sdk));
    let bus = &Bus::new(aws_sdk_eventbridge::Client::new(&sdk), config.event_bus);
    // No warm-up call: executions seldom fail, and nobody waits for this function.
    run(service_fn(async |event: LambdaEvent<Value>| {
        handle(event.payload, executions, claims, bus).await.map(|_| ())
    }))
    .await
}
