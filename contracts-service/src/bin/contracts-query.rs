//! Trigger: the agents' API. Returns a contract, or the record of a command.

use aws_lambda_events::apigw::{ApiGatewayProxyRequest, ApiGatewayProxyResponse};
use contracts_service::dynamo::DynamoContracts;
use contracts_service::handlers::contracts_query::handle;
use lambda_kit::{clients, config, telemetry};
use lambda_runtime::{Error, LambdaEvent, run, service_fn};

config! {
    contracts_table: String = "CONTRACTS_TABLE",
    commands_table: String = "COMMANDS_TABLE",
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
