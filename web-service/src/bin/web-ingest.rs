//! Trigger: the ingest queue. Applies what agents asked for.

use aws_lambda_events::sqs::SqsEvent;
use lambda_kit::batch::{Deadline, Queue};
use lambda_kit::config::{ConfigError, Env};
use lambda_kit::publish::Bus;
use lambda_kit::{clients, telemetry};
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use vocabulary::Timestamp;
use web_service::dynamo::DynamoListings;
use web_service::handlers::ingest::handle;

struct Config {
    listings_table: String,
    commands_table: String,
    event_bus: String,
    queue_url: String,
}

impl Config {
    fn from_env() -> Result<Self, ConfigError> {
        let mut env = Env::process();
        let config = Self {
            listings_table: env.text("LISTINGS_TABLE"),
            commands_table: env.text("COMMANDS_TABLE"),
            event_bus: env.text("EVENT_BUS"),
            queue_url: env.text("INGEST_QUEUE_URL"),
        };
        env.finish(config)
    }
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
