//! Trigger: the public API. Searches published listings, and returns one.

use aws_lambda_events::apigw::{ApiGatewayProxyRequest, ApiGatewayProxyResponse};
use lambda_kit::{clients, config, telemetry};
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use web_service::dynamo::DynamoCatalogue;
use web_service::handlers::search::handle;

config! {
    listings_table: String = "LISTINGS_TABLE",
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    telemetry::init();
    let config = Config::from_env()?;
    let dynamodb = aws_sdk_dynamodb::Client::new(&clients::from_env()?);
    let catalogue = &DynamoCatalogue::connect(dynamodb, &config.listings_table).await;
    run(service_fn(async |request: LambdaEvent<ApiGatewayProxyRequest>| {
        Ok::<ApiGatewayProxyResponse, Error>(handle(&request.payload, catalogue).await)
    }))
    .await
}
