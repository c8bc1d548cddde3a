//! Trigger: `ContractStatusChanged` on the service's own bus.

use lambda_kit::{clients, config, telemetry};
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use properties_service::dynamo::ContractStatusTable;
use properties_service::handlers::on_contract_status_changed::handle;
use serde_json::Value;
use vocabulary::Timestamp;

config! {
    contract_status_table: String = "CONTRACT_STATUS_TABLE",
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    telemetry::init();
    let config = Config::from_env()?;
    let dynamodb = aws_sdk_dynamodb::Client::new(&clients::from_env()?);
    let statuses = &ContractStatusTable::connect(dynamodb, config.contract_status_table).await;
    run(service_fn(async |event: LambdaEvent<Value>| {
        handle(event.payload, Timestamp::now(), statuses).await.map(|_| ())
    }))
    .await
}
