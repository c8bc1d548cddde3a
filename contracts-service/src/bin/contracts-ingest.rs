//! Trigger: the ingest queue. Applies the agents' commands.

use aws_lambda_events::sqs::SqsEvent;
use contracts_service::dynamo::DynamoContracts;
use contracts_service::handlers::ingest::handle;
use lambda_kit::batch::{Deadline, Queue};
use lambda_kit::{clients, config, telemetry};
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use vocabulary::Timestamp;

config! {
    contracts_table: String = "CONTRACTS_TABLE",
    commands_table: String = "COMMANDS_TABLE",
    queue_url: String = "INGEST_QUEUE_URL",
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    telemetry::init();
    let config = Config::from_env()?;
    let sdk = clients::from_env()?;
    let queue = &Queue::new(aws_sdk_sqs::Client::new(&sdk), config.queue_url);
    let dynamodb = aws_sdk_dynamodb::Client::new(&sdk);
    let contracts = &DynamoContracts::connect(dynamodb, config.contracts_table, config.commands_table).await;
    run(service_fn(async |batch: LambdaEvent<SqsEvent>| {
        let deadline = Deadline::of(&batch.context);
        handle(batch.payload, Timestamp::now(), deadline, contracts, queue).await
    }))
    .await
}
