//! Trigger: the stream of the contract-status table.

use std::time::Duration;

use lambda_kit::{clients, config, telemetry};
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use properties_service::dynamo::ApprovalsTable;
use properties_service::handlers::on_contract_status_stream::handle;
use properties_service::workflow::StepFunctions;
use serde_json::Value;

config! {
    approvals_table: String = "APPROVALS_TABLE",
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    telemetry::init();
    let config = Config::from_env()?;
    let sdk = clients::from_env()?;
    // This function adds no rows, so their time to live does not matter.
    let dynamodb = aws_sdk_dynamodb::Client::new(&sdk);
    let room = &ApprovalsTable::connect(dynamodb, config.approvals_table, Duration::ZERO).await;
    let executions = &StepFunctions::new(aws_sdk_sfn::Client::new(&sdk));
    run(service_fn(async |batch: LambdaEvent<Value>| handle(batch.payload, room, executions).await)).await
}
