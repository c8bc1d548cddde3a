//! The agents' queries: the contract of a property, and the record of a command.

use aws_lambda_events::apigw::{ApiGatewayProxyRequest, ApiGatewayProxyResponse};
use lambda_kit::CallError;
use lambda_kit::api::{json, or_failure, outcome, property_in_path, refusal, route};
use lambda_kit::ledger::Records;

use crate::domain::Contract;
use crate::ports::Contracts;

pub async fn handle(
    request: &ApiGatewayProxyRequest,
    store: &(impl Contracts + Records),
) -> ApiGatewayProxyResponse {
    or_failure(match route(request) {
        "/contracts/{country}/{city}/{street}/{number}" => contract(store, request).await,
        "/contracts/commands/{command_id}" => outcome(store, request).await,
        _ => Ok(refusal(404, "There is no such route.")),
    })
}

async fn contract(
    contracts: &impl Contracts,
    request: &ApiGatewayProxyRequest,
) -> Result<ApiGatewayProxyResponse, CallError> {
    let contract = match property_in_path(request) {
        Some(property) => contracts.find(&property).await?,
        None => None,
    };
    Ok(match contract {
        // `last_requested_at` is internal to the consumer.
        Some(contract) => json(200, &Contract { last_requested_at: None, ..contract }),
        None => refusal(404, "The property has no contract."),
    })
}

#[cfg(test)]
mod tests {
    use aws_lambda_events::encodings::Body;
    use lambda_kit::fixture::{Call, Fault};
    use lambda_kit::ledger::{CommandStatus, Record};
    use serde_json::{Value, json};

    use super::*;
    use crate::tests::world::World;

    fn stored() -> Value {
        json!({
            "property_id": "usa/anytown/main-street/111", "contract_id": "one", "contract_status": "APPROVED",
            "seller_name": "Ada",
            "address": {"country": "USA", "city": "Anytown", "street": "Main Street", "number": 111},
            "contract_created": "2026-11-23T18:22:06.123Z",
            "contract_last_modified_on": "2026-11-23T18:23:06.123Z", "contract_version": 2,
        })
    }

    /// A world with one contract and the record of one command.
    fn world() -> World {
        let world = World::default();
        let mut row = stored();
        row["last_requested_at"] = json!("2026-11-23T18:23:06.123Z");
        let contract: Contract = serde_json::from_value(row).unwrap();
        world.contracts.borrow_mut().insert(contract.property_id.clone(), contract);
        world.ledger.put(Record {
            command_id: "c-1".parse().unwrap(),
            status: CommandStatus::Pending,
            reason: Some("contract_not_found".into()),
            message: Some("The property has no contract.".into()),
        });
        world
    }

    async fn get(world: &World, resource: &str, path: &[(&str, &str)]) -> (i64, Value) {
        let mut request = ApiGatewayProxyRequest::default();
        request.resource = Some(resource.into());
        request.path_parameters =
            path.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let response = handle(&request, world).await;
        let Some(Body::Text(body)) = response.body else { panic!("no text") };
        (response.status_code, serde_json::from_str(&body).unwrap())
    }

    const CONTRACT: &str = "/contracts/{country}/{city}/{street}/{number}";
    const COMMAND: &str = "/contracts/commands/{command_id}";

    fn address(number: &str) -> [(&str, &str); 4] {
        [("country", "USA"), ("city", "Anytown"), ("street", "Main%20Street"), ("number", number)]
    }

    #[tokio::test]
    async fn a_contract_is_found_by_its_address_however_it_is_written() {
        let world = world();
        assert_eq!(get(&world, CONTRACT, &address("111")).await, (200, stored()));
        for number in ["112", "one/two"] {
            let (status, body) = get(&world, CONTRACT, &address(number)).await;
            assert_eq!((status, body), (404, json!({"message": "The property has no contract."})));
        }
    }

    #[tokio::test]
    async fn an_agent_learns_what_became_of_a_command() {
        let world = world();
        let (status, body) = get(&world, COMMAND, &[("command_id", "c-1")]).await;
        assert_eq!((status, &body["status"]), (200, &json!("PENDING")));
        assert_eq!(body["reason"], "contract_not_found");
        for id in ["c-2", "not%20an%20id"] {
            assert_eq!(get(&world, COMMAND, &[("command_id", id)]).await.0, 404, "{id}");
        }
    }

    #[tokio::test]
    async fn tables_that_do_not_answer_are_told_as_503_without_their_names() {
        let world = world();
        for (resource, path) in [(CONTRACT, &address("111")[..]), (COMMAND, &[("command_id", "c-1")][..])] {
            world.calls.fail(Call::Nth(0), Fault::Before);
            let (status, body) = get(&world, resource, path).await;
            assert_eq!(status, 503);
            assert_eq!(body, json!({"message": "This is not available now; please try again."}));
        }
    }
}
