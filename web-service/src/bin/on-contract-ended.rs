//! Trigger: the end of a contract, on the service's own bus. Takes the listing down.

use lambda_kit::{clients, config, telemetry};
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde_json::Value;
use vocabulary::Timestamp;
use web_service::dynamo::DynamoPublications;
use web_service::handlers::on_contract_ended::handle;

config! {
    listings_table: String = "LISTINGS_TABLE",
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    telemetry::init();
    let config = Config::from_env()?;
    let dynamodb = aws_sdk_dynamodb::Client::new(&clients::from_env()?);
    let publications = &DynamoPublications::connect(dynamodb, &config.listings_table).await;
    run(service_fn(async |event: LambdaEvent<Value>| {
        handle(event.payload, Timestamp::now(), publications).await
    }))
    .await
}
