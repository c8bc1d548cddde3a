//! Trigger: the ingest queue. Applies the agents' commands.

use aws_lambda_events::sqs::SqsEvent;
use lambda_kit::batch::{Deadline, Queue};
use lambda_kit::publish::Bus;
use lambda_kit::{clients, config, telemetry};
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use vocabulary::Timestamp;
use web_service::dynamo::DynamoListings;
use web_service::handlers::ingest::handle;

config! {
    listings_table: String = "LISTINGS_TABLE",
    commands_table: String = "COMMANDS_TABLE",
    event_bus: String = "EVENT_BUS",
    queue_url: String = "INGEST_QUEUE_URL",
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    telemetry::init();
    let config = Config::from_env()?;
    let aws = clients::from_env()?;
    let dynamodb = aws_sdk_dynamodb::Client::new(&aws);
    let listings = &DynamoListings::connect(dynamodb, &config.listings_table, &config.commands_table).await;
    let bus = &Bus::new(aws_sdk_eventbridge::Client::new(&aws), &config.event_bus);
    let queue = &Queue::new(aws_sdk_sqs::Client::new(&aws), &config.queue_url);
    run(service_fn(async |batch: LambdaEvent<SqsEvent>| {
        let deadline = Deadline::of(&batch.context);
        handle(batch.payload, Timestamp::now(), deadline, listings, bus, queue).await
    }))
    .await
}
