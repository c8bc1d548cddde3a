//! Trigger: the public's API. Searches published listings and shows one.

use aws_lambda_events::apigw::{ApiGatewayProxyRequest, ApiGatewayProxyResponse};
use lambda_kit::config::{ConfigError, Env};
use lambda_kit::{clients, telemetry};
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use web_service::dynamo::DynamoCatalogue;
use web_service::handlers::search::handle;

struct Config {
    listings_table: String,
}

impl Config {
    fn from_env() -> Result<Self, ConfigError> {
        let mut env = Env::process();
        let config = Self { listings_table: env.text("LISTINGS_TABLE") };
        env.finish(config)
    }
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
