//! The agents' queries: a listing in any status, and the record of a command.

use aws_lambda_events::apigw::{ApiGatewayProxyRequest, ApiGatewayProxyResponse};
use lambda_kit::CallError;
use lambda_kit::api::{json, or_failure, outcome, property_in_path, refusal, route};
use lambda_kit::ledger::Records;
use serde::Serialize;
use vocabulary::{ApprovalRequestId, EvaluationReason, ListingStatus, PropertyId, Timestamp};

use crate::domain::{Listing, Offer};
use crate::ports::Listings;

#[derive(Serialize)]
struct AgentsView<'a> {
    property_id: PropertyId,
    #[serde(flatten)]
    offer: &'a Offer,
    status: ListingStatus,
    approval_request_id: Option<&'a ApprovalRequestId>,
    evaluation_reasons: &'a [EvaluationReason],
    evaluated_at: Option<Timestamp>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl<'a> From<&'a Listing> for AgentsView<'a> {
    fn from(listing: &'a Listing) -> Self {
        Self {
            property_id: listing.property_id(),
            offer: &listing.offer,
            status: listing.status,
            approval_request_id: listing.approval_request_id.as_ref(),
            evaluation_reasons: &listing.evaluation_reasons,
            evaluated_at: listing.evaluated_at,
            created_at: listing.created_at,
            updated_at: listing.updated_at,
        }
    }
}

pub async fn handle(
    request: &ApiGatewayProxyRequest,
    store: &(impl Listings + Records),
) -> ApiGatewayProxyResponse {
    or_failure(match route(request) {
        "/listings/{country}/{city}/{street}/{number}" => listing(store, request).await,
        "/listings/commands/{command_id}" => outcome(store, request).await,
        _ => Ok(refusal(404, "There is no such route.")),
    })
}

async fn listing(
    listings: &impl Listings,
    request: &ApiGatewayProxyRequest,
) -> Result<ApiGatewayProxyResponse, CallError> {
    let listing = match property_in_path(request) {
        Some(property) => listings.find(&property).await?,
        None => None,
    };
    Ok(match &listing {
        Some(listing) => json(200, &AgentsView::from(listing)),
        None => refusal(404, "This property has no listing."),
    })
}

#[cfg(test)]
mod tests {
    use lambda_kit::ledger::{CommandStatus, Record};
    use serde_json::json;

    use super::*;
    use crate::tests::world::{World, api_request, at, body, listing};

    const LISTING: &str = "/listings/{country}/{city}/{street}/{number}";
    const COMMAND: &str = "/listings/commands/{command_id}";

    #[tokio::test]
    async fn an_agent_sees_a_listing_in_any_status_with_all_that_became_of_it() {
        let world = World::with(listing(ListingStatus::Declined));
        let response =
            handle(&api_request(LISTING, &["USA", "Anytown", "Main Street", "111"], &[]), &world).await;
        assert_eq!(response.status_code, 200);
        assert_eq!(
            body(&response),
            json!({
                "property_id": "usa/anytown/main-street/111",
                "country": "USA", "city": "Anytown", "street": "Main Street", "number": 111,
                "description": "A bright house & a garden, 100% sunny.", "contract": "sale",
                "listprice": 200_000, "currency": "USD", "images": ["usa/anytown/main-street-111-front.png"],
                "status": "DECLINED", "approval_request_id": "r-1", "evaluation_reasons": ["unsafe_image"],
                "evaluated_at": at(2), "created_at": at(1), "updated_at": at(2),
            })
        );
    }

    #[tokio::test]
    async fn a_property_without_a_listing_is_not_found() {
        for path in [["usa", "anytown", "main-street", "112"], ["usa", "änytown", "", "x"]] {
            let response = handle(&api_request(LISTING, &path, &[]), &World::default()).await;
            assert_eq!(response.status_code, 404);
            assert!(body(&response)["message"].is_string());
        }
    }

    #[tokio::test]
    async fn an_agent_learns_what_became_of_a_command() {
        let world = World::default();
        let record = Record {
            command_id: "c-1".parse().unwrap(),
            status: CommandStatus::Rejected,
            reason: Some("withdrawn".into()),
            message: Some("It was.".into()),
        };
        world.ledger.put(record);
        let response = handle(&api_request(COMMAND, &["c-1"], &[]), &world).await;
        assert_eq!(
            body(&response),
            json!({"command_id": "c-1", "status": "REJECTED", "reason": "withdrawn", "message": "It was."})
        );
        for id in ["c-2", "not an id"] {
            assert_eq!(handle(&api_request(COMMAND, &[id], &[]), &world).await.status_code, 404, "{id}");
        }
    }
}
