//! Trigger: the agents' API. Shows a contract, and what became of a command.

use aws_lambda_events::apigw::{ApiGatewayProxyRequest, ApiGatewayProxyResponse};
use contracts_service::dynamo::DynamoContracts;
use contracts_service::handlers::contracts_query::handle;
use lambda_kit::config::{ConfigError, Env};
use lambda_kit::{clients, telemetry};
use lambda_runtime::{Error, LambdaEvent, run, service_fn};

struct Config {
    contracts_table: String,
    commands_table: String,
}

impl Config {
    fn from_env() -> Result<Self, ConfigError> {
        let mut env = Env::process();
        let config =
            Self { contracts_table: env.text("CONTRACTS_TABLE"), commands_table: env.text("COMMANDS_TABLE") };
        env.finish(config)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    telemetry::init();
    let config = Config::from_env()?;
    let dynamodb = aws_sdk_dynamodb::Client::new(&clients::from_env()?);
    let contracts = &DynamoContracts::connect(dynamodb, config.contracts_table, config.commands_table).await;
    run(service_fn(async |request: LambdaEvent<ApiGatewayProxyRequest>| {
        Ok::<ApiGatewayProxyResponse, Error>(handle(&request.payload, contracts).await)
    }))
    .await
}
