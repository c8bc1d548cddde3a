//! Requests and responses of the functions behind API Gateway's proxy integration.

use std::borrow::Cow;

use aws_lambda_events::apigw::{ApiGatewayProxyRequest, ApiGatewayProxyResponse};
use aws_lambda_events::encodings::Body;
use aws_lambda_events::http::HeaderMap;
use aws_lambda_events::http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;
use serde::Serialize;
use serde_json::json;
use vocabulary::{Address, PropertyId};

use crate::CallError;
use crate::ledger::Records;

/// A JSON response. Its CORS headers are those of the gateway's own responses.
pub fn json<T: Serialize>(status: i64, body: &T) -> ApiGatewayProxyResponse {
    // Bodies are our own structs with text keys; to serialise them never fails.
    let text = serde_json::to_string(body).unwrap_or_else(|error| unreachable!("a body serialises: {error}"));
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(HeaderName::from_static("access-control-allow-origin"), HeaderValue::from_static("*"));
    headers.insert(
        HeaderName::from_static("access-control-expose-headers"),
        HeaderValue::from_static("x-command-id, Link"),
    );
    let mut response = ApiGatewayProxyResponse::default();
    response.status_code = status;
    response.headers = headers;
    response.body = Some(Body::Text(text));
    response
}

/// `{"message": ...}` with a status of 400 or more.
pub fn refusal(status: i64, message: &str) -> ApiGatewayProxyResponse {
    json(status, &json!({ "message": message }))
}

/// The response to a client, also after a failure, whose cause goes to the log. Only a failure that may
/// pass is answered with "try again".
pub fn or_failure(answer: Result<ApiGatewayProxyResponse, CallError>) -> ApiGatewayProxyResponse {
    answer.unwrap_or_else(|cause| {
        tracing::error!(%cause, kind = cause.kind(), "the request could not be answered");
        match cause {
            CallError::Unavailable(_) => refusal(503, "This is not available now; please try again."),
            CallError::Refused(_) | CallError::Corrupt(_) => {
                refusal(500, "This cannot be answered; trying again does not help.")
            }
        }
    })
}

/// The route as the API declares it, for example `/search/{country}/{city}`.
pub fn route(request: &ApiGatewayProxyRequest) -> &str {
    request.resource.as_deref().unwrap_or_default()
}

/// A path parameter, percent-decoded; empty if the route has none of this name.
///
/// The proxy integration passes path parameters as they are in the URL. To decode a parameter that is
/// decoded already does no harm: no key of ours contains `%`.
pub fn path_parameter<'a>(request: &'a ApiGatewayProxyRequest, name: &str) -> Cow<'a, str> {
    let raw = request.path_parameters.get(name).map_or("", String::as_str);
    percent_decode_str(raw).decode_utf8_lossy()
}

/// The property of `/{country}/{city}/{street}/{number}`, normalised like an address; `None` if no property
/// can have that address.
pub fn property_in_path(request: &ApiGatewayProxyRequest) -> Option<PropertyId> {
    let [country, city, street, number] =
        ["country", "city", "street", "number"].map(|name| Address::segment(&path_parameter(request, name)));
    PropertyId::from_segments(&country, &city, &street, &number).ok()
}

/// Answers `GET .../commands/{command_id}` with the record of a command.
///
/// # Errors
/// When the ledger cannot be read.
pub async fn outcome(
    records: &impl Records,
    request: &ApiGatewayProxyRequest,
) -> Result<ApiGatewayProxyResponse, CallError> {
    let record = match path_parameter(request, "command_id").parse() {
        Ok(id) => records.record(&id).await?,
        // The gateway never gives out such an id.
        Err(_) => None,
    };
    Ok(match &record {
        Some(record) => json(200, record),
        None => refusal(404, "No command of this id has been seen."),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(parameters: [(&str, &str); 4]) -> ApiGatewayProxyRequest {
        let mut request = ApiGatewayProxyRequest::default();
        request.path_parameters =
            parameters.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        request
    }

    /// Known fault 25: `/search/USA/Anytown` found nothing, `/search/usa/anytown` did.
    #[test]
    fn a_path_is_decoded_and_normalised_as_an_address_is() {
        let plain =
            request([("country", "usa"), ("city", "any-town"), ("street", "st-johns"), ("number", "7")]);
        let odd = request([
            ("country", "USA"),
            ("city", "Any%20Town"),
            ("street", "St.%20John%27s"),
            ("number", "7"),
        ]);
        assert!(property_in_path(&plain).is_some());
        assert_eq!(property_in_path(&plain), property_in_path(&odd));
    }

    #[test]
    fn a_path_that_no_property_can_have_is_none() {
        let slash = request([("country", "usa"), ("city", "a%2Fb"), ("street", "s"), ("number", "7")]);
        assert_eq!(property_in_path(&slash), None);
    }
}
