//! Trigger: the workflow's state `WaitForContractApproval`, with a task token.

use std::time::Duration;

use lambda_kit::{clients, config, telemetry};
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use properties_service::dynamo::{ApprovalsTable, ContractStatusTable};
use properties_service::handlers::await_contract_approval::handle;
use properties_service::workflow::StepFunctions;
use serde_json::Value;

config! {
    contract_status_table: String = "CONTRACT_STATUS_TABLE",
    approvals_table: String = "APPROVALS_TABLE",
    keep_token: Duration = "KEEP_TOKEN_SECONDS",
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    telemetry::init();
    let config = Config::from_env()?;
    let sdk = clients::from_env()?;
    let dynamodb = aws_sdk_dynamodb::Client::new(&sdk);
    let statuses = &ContractStatusTable::connect(dynamodb.clone(), config.contract_status_table).await;
    let room = &ApprovalsTable::new(dynamodb, config.approvals_table, config.keep_token);
    let executions = &StepFunctions::new(aws_sdk_sfn::Client::new(&sdk));
    run(service_fn(async |task: LambdaEvent<Value>| handle(task.payload, room, statuses, executions).await))
        .await
}
