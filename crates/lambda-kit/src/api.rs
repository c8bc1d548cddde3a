//! Answers of the functions behind API Gateway's proxy integration.

use aws_lambda_events::apigw::{ApiGatewayProxyRequest, ApiGatewayProxyResponse};
use aws_lambda_events::encodings::Body;
use aws_lambda_events::http::HeaderMap;
use aws_lambda_events::http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use serde::Serialize;
use serde_json::json;
use vocabulary::{Address, PropertyId};

/// A JSON answer. The CORS headers are those of the gateway's own answers.
pub fn json<T: Serialize>(status: i64, body: &T) -> ApiGatewayProxyResponse {
    // Bodies are our own structs with text keys, which always serialise.
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

/// A path parameter as API Gateway passes it, percent-decoded; empty where the route has none.
pub fn path_parameter<'a>(request: &'a ApiGatewayProxyRequest, name: &str) -> &'a str {
    request.path_parameters.get(name).map_or("", String::as_str)
}

/// The property of `/{country}/{city}/{street}/{number}`, normalised as an address is;
/// `None` where no property can have that address.
pub fn property_in_path(request: &ApiGatewayProxyRequest) -> Option<PropertyId> {
    let [country, city, street, number] =
        ["country", "city", "street", "number"].map(|name| Address::segment(path_parameter(request, name)));
    PropertyId::from_segments(&country, &city, &street, &number).ok()
}
