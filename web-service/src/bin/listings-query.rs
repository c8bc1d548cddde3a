//! Trigger: the agents' API. Returns a listing in any status, or the record of a command.

use aws_lambda_events::apigw::{ApiGatewayProxyRequest, ApiGatewayProxyResponse};
use lambda_kit::{clients, config, telemetry};
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use web_service::dynamo::DynamoListings;
use web_service::handlers::listings_query::handle;

config! {
    listings_table: String = "LISTINGS_TABLE",
    commands_table: String = "COMMANDS_TABLE",
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    telemetry::init();
    let config = Config::from_env()?;
    let dynamodb = aws_sdk_dynamodb::Client::new(&clients::from_env()?);
    let listings = &DynamoListings::connect(dynamodb, &config.listings_table, &config.commands_table).await;
    run(service_fn(async |request: LambdaEvent<ApiGatewayProxyRequest>| {
        Ok::<ApiGatewayProxyResponse, Error>(handle(&request.payload, listings).await)
    }))
    .await
}
