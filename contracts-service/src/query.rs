//! The two reads of the API: a contract, and what became of a command.

use aws_lambda_events::apigw::{ApiGatewayProxyRequest, ApiGatewayProxyResponse};
use lambda_kit::Unavailable;
use lambda_kit::api::{json, path_parameter, property_in_path, refusal};

use crate::ports::{Contracts, Outcomes};

/// Answers `GET /contracts/{country}/{city}/{street}/{number}` and
/// `GET /contracts/commands/{command_id}`.
///
/// # Errors
/// When a table cannot be read; the gateway answers 502 then.
pub async fn query(
    contracts: &impl Contracts,
    outcomes: &impl Outcomes,
    request: &ApiGatewayProxyRequest,
) -> Result<ApiGatewayProxyResponse, Unavailable> {
    if request.path_parameters.contains_key("command_id") {
        let record = match path_parameter(request, "command_id").parse() {
            Ok(id) => outcomes.find(&id).await?,
            Err(_) => None,
        };
        return Ok(record
            .map_or_else(|| refusal(404, "No such command has been seen."), |record| json(200, &record)));
    }
    let contract = match property_in_path(request) {
        Some(property) => contracts.find(&property).await?,
        None => None,
    };
    Ok(contract
        .map_or_else(|| refusal(404, "The property has no contract."), |contract| json(200, &contract)))
}
