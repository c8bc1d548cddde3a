//! The public queries: searches, page by page, and the details of one listing.

use aws_lambda_events::apigw::{ApiGatewayProxyRequest, ApiGatewayProxyResponse};
use aws_lambda_events::http::header::{HOST, HeaderValue, LINK};
use lambda_kit::CallError;
use lambda_kit::api::{json, or_failure, path_parameter, property_in_path, refusal, route};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::page::{Position, Scope};
use crate::ports::{Catalogue, Page};

/// The default and the greatest number of results on a page.
const DEFAULT_LIMIT: u32 = 25;
const MAX_LIMIT: u32 = 100;

/// The characters that are encoded in the path of a URL (RFC 3986, section 3.3). `%` is not one of them: a
/// path that is encoded already stays as it is.
const NOT_IN_A_PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

pub async fn handle(request: &ApiGatewayProxyRequest, catalogue: &impl Catalogue) -> ApiGatewayProxyResponse {
    or_failure(match route(request) {
        "/search/{country}/{city}" | "/search/{country}/{city}/{street}" => search(catalogue, request).await,
        "/properties/{country}/{city}/{street}/{number}" => details(catalogue, request).await,
        _ => Ok(refusal(404, "There is no such route.")),
    })
}

/// An unknown property and an unapproved listing get the same answer: nobody can find out about a listing
/// before it is published.
async fn details(
    catalogue: &impl Catalogue,
    request: &ApiGatewayProxyRequest,
) -> Result<ApiGatewayProxyResponse, CallError> {
    let published = match property_in_path(request) {
        Some(property) => catalogue.details(&property).await?,
        None => None,
    };
    Ok(match published {
        Some(published) => json(200, &published),
        None => refusal(404, "No listing is published for this property."),
    })
}

async fn search(
    catalogue: &impl Catalogue,
    request: &ApiGatewayProxyRequest,
) -> Result<ApiGatewayProxyResponse, CallError> {
    let Ok(limit) = limit(request) else {
        return Ok(refusal(400, "limit is a whole number from 1 to 100."));
    };
    let [country, city] = ["country", "city"].map(|name| path_parameter(request, name));
    let street = request.path_parameters.contains_key("street").then(|| path_parameter(request, "street"));
    let scope = Scope::new(&country, &city, street.as_deref());
    let Ok(after) = after(request, scope.as_ref()) else {
        return Ok(refusal(400, "next is not one that this search has given."));
    };
    let Some(scope) = scope else {
        return Ok(json(200, &[(); 0]));
    };
    let Page { listings, next } = catalogue.page(&scope, after.as_ref(), limit).await?;
    let mut response = json(200, &listings);
    if let Some(next) = next {
        response.headers.insert(LINK, next_page(request, limit, &scope.token(&next))?);
    }
    Ok(response)
}

/// A query parameter is not valid.
#[derive(Debug)]
struct Malformed;

/// The value of a query parameter that may appear once.
fn single<'a>(request: &'a ApiGatewayProxyRequest, name: &str) -> Result<Option<&'a str>, Malformed> {
    // `queryStringParameters` has only the last value.
    let all = request.multi_value_query_string_parameters.all(name).unwrap_or_default();
    match all[..] {
        [] => Ok(request.query_string_parameters.first(name)),
        [one] => Ok(Some(one)),
        _ => Err(Malformed),
    }
}

fn limit(request: &ApiGatewayProxyRequest) -> Result<u32, Malformed> {
    let Some(text) = single(request, "limit")? else { return Ok(DEFAULT_LIMIT) };
    // `parse` alone accepts `+5`.
    let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|limit| is_digits && (1..=MAX_LIMIT).contains(limit)).ok_or(Malformed)
}

fn after(request: &ApiGatewayProxyRequest, scope: Option<&Scope>) -> Result<Option<Position>, Malformed> {
    let Some(token) = single(request, "next")? else { return Ok(None) };
    scope.and_then(|scope| scope.position(token)).map(Some).ok_or(Malformed)
}

/// `<absolute address>; rel="next"` (RFC 8288).
fn next_page(request: &ApiGatewayProxyRequest, limit: u32, token: &str) -> Result<HeaderValue, CallError> {
    let header = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok());
    let scheme = header("x-forwarded-proto").unwrap_or("https");
    let host = header(HOST.as_str()).or(request.request_context.domain_name.as_deref());
    // This path includes the stage; `request.path` does not.
    let path = request.request_context.path.as_deref().or(request.path.as_deref());
    let (Some(host), Some(path)) = (host, path) else {
        return Err(CallError::Corrupt(
            "the request names no host or no path, so the next page has no address".into(),
        ));
    };
    let path = utf8_percent_encode(path, NOT_IN_A_PATH);
    HeaderValue::from_str(&format!("<{scheme}://{host}{path}?limit={limit}&next={token}>; rel=\"next\""))
        .map_err(CallError::corrupt)
}

#[cfg(test)]
mod tests {
    use lambda_kit::fixture::{Call, Fault};
    use serde_json::{Value, json};
    use vocabulary::ListingStatus;

    use super::*;
    use crate::domain::Listing;
    use crate::tests::world::{World, api_request, body, listing, offer_at};

    const CITY: &str = "/search/{country}/{city}";
    const STREET: &str = "/search/{country}/{city}/{street}";
    const DETAILS: &str = "/properties/{country}/{city}/{street}/{number}";

    /// Published listings at these places of Anytown, and an unpublished one.
    fn world(places: &[(&str, u32)]) -> World {
        let world = World::default();
        for (street, number) in places {
            world.put(Listing {
                offer: offer_at("Anytown", street, *number),
                ..listing(ListingStatus::Approved)
            });
        }
        world
            .put(Listing { offer: offer_at("Anytown", "Secret Lane", 1), ..listing(ListingStatus::Pending) });
        world
    }

    fn places(body: &Value) -> Vec<(String, u64)> {
        let place =
            |one: &Value| (one["street"].as_str().unwrap().to_owned(), one["number"].as_u64().unwrap());
        body.as_array().unwrap().iter().map(place).collect()
    }

    #[tokio::test]
    async fn a_result_has_exactly_the_promised_fields_and_details_have_the_images_too() {
        let world = world(&[("Main Street", 111)]);
        let found = body(&handle(&api_request(CITY, &["usa", "anytown"], &[]), &world).await);
        let mut expected = json!({
            "country": "USA", "city": "Anytown", "street": "Main Street", "number": 111,
            "description": "A bright house & a garden, 100% sunny.", "contract": "sale",
            "listprice": 200_000, "currency": "USD", "status": "APPROVED",
        });
        assert_eq!(found, json!([expected]));
        let shown = body(
            &handle(&api_request(DETAILS, &["usa", "anytown", "main-street", "111"], &[]), &world).await,
        );
        expected["images"] = json!(["usa/anytown/main-street-111-front.png"]);
        assert_eq!(shown, expected);
    }

    #[tokio::test]
    async fn an_unapproved_listing_is_answered_as_an_unknown_one() {
        let world = world(&[]);
        let pending =
            handle(&api_request(DETAILS, &["usa", "anytown", "secret-lane", "1"], &[]), &world).await;
        let unknown = handle(&api_request(DETAILS, &["usa", "anytown", "no-lane", "1"], &[]), &world).await;
        let nowhere = handle(&api_request(DETAILS, &["usa", "änytown", "no-lane", "x"], &[]), &world).await;
        assert_eq!((pending.status_code, body(&pending)), (404, body(&unknown)));
        assert_eq!((nowhere.status_code, body(&nowhere)), (404, body(&unknown)));
    }

    #[tokio::test]
    async fn nothing_found_is_an_empty_array() {
        let world = world(&[]);
        for path in [["usa", "anytown"], ["usa", "zürich"], ["", "?"]] {
            let response = handle(&api_request(CITY, &path, &[]), &world).await;
            assert_eq!((response.status_code, body(&response)), (200, json!([])), "{path:?}");
        }
    }

    /// Known fault 25: `/search/USA/Anytown` found nothing.
    #[tokio::test]
    async fn a_place_is_found_however_it_is_written() {
        let world = world(&[("Main Street", 111)]);
        for path in [
            ["usa", "anytown", "main-street"],
            ["USA", " AnyTown", "Main  Street"],
            ["USA", "Any%54own", "Main%20Street"],
        ] {
            assert_eq!(places(&body(&handle(&api_request(STREET, &path, &[]), &world).await)).len(), 1);
        }
    }

    /// Known fault 24: search returned one page and dropped the rest.
    #[tokio::test]
    async fn the_pages_together_are_all_in_their_order() {
        let all = [("Elm", 1), ("Main", 2), ("Main", 10), ("Main", 111), ("Main Street", 1)];
        let world = world(&[all[3], all[0], all[4], all[2], all[1]]);
        for limit in ["1", "2", "3", "5", "100"] {
            let mut query = vec![("limit".to_owned(), limit.to_owned())];
            let mut seen = Vec::new();
            loop {
                let pairs: Vec<_> =
                    query.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                let response = handle(&api_request(CITY, &["usa", "anytown"], &pairs), &world).await;
                seen.extend(places(&body(&response)));
                let Some(link) = response.headers.get(LINK) else { break };
                let link = link.to_str().unwrap();
                let target = link.strip_prefix("<https://api.example.com/local").unwrap();
                let target = target.strip_suffix(">; rel=\"next\"").unwrap();
                let (path, parameters) = target.split_once('?').unwrap();
                assert_eq!(path, "/search/usa/anytown");
                query = parameters
                    .split('&')
                    .map(|pair| {
                        pair.split_once('=').map(|(name, value)| (name.into(), value.into())).unwrap()
                    })
                    .collect();
                assert_eq!(query[0], ("limit".to_owned(), limit.to_owned()));
            }
            assert_eq!(seen, all.map(|(street, number)| (street.to_owned(), u64::from(number))), "{limit}");
        }
    }

    #[tokio::test]
    async fn the_last_page_names_no_next_one_even_if_it_is_full() {
        let world = world(&[("Main", 1), ("Main", 2)]);
        let response = handle(&api_request(CITY, &["usa", "anytown"], &[("limit", "2")]), &world).await;
        assert_eq!(response.headers.get(LINK), None);
    }

    #[tokio::test]
    async fn a_page_has_25_results_where_no_limit_is_named() {
        let many: Vec<_> = (1..=26).map(|number| ("Main", number)).collect();
        let response = handle(&api_request(CITY, &["usa", "anytown"], &[]), &world(&many)).await;
        assert_eq!(places(&body(&response)).len(), 25);
        assert!(response.headers.get(LINK).unwrap().to_str().unwrap().contains("?limit=25&next="));
    }

    #[tokio::test]
    async fn any_other_limit_or_next_is_refused() {
        let world = world(&[("Main", 1), ("Main", 2)]);
        let first = handle(&api_request(CITY, &["usa", "anytown"], &[("limit", "1")]), &world).await;
        let link = first.headers.get(LINK).unwrap().to_str().unwrap().to_owned();
        let token = link.split_once("next=").unwrap().1.trim_end_matches(">; rel=\"next\"");
        for query in [
            vec![("limit", "0")],
            vec![("limit", "101")],
            vec![("limit", "+5")],
            vec![("limit", "")],
            vec![("limit", "ten")],
            vec![("limit", "99999999999999999999")],
            vec![("limit", "5"), ("limit", "6")],
            vec![("next", "")],
            vec![("next", "%")],
            vec![("next", "bm9uc2Vuc2U")],
            vec![("next", token), ("next", token)],
        ] {
            let response = handle(&api_request(CITY, &["usa", "anytown"], &query), &world).await;
            assert_eq!(response.status_code, 400, "{query:?}");
            assert!(body(&response)["message"].is_string());
        }
        for (route, path) in [(CITY, &["usa", "othertown"][..]), (STREET, &["usa", "anytown", "main"])] {
            let response = handle(&api_request(route, path, &[("next", token)]), &world).await;
            assert_eq!(response.status_code, 400, "the next of another search");
        }
    }

    #[tokio::test]
    async fn the_address_of_the_next_page_is_a_valid_one_for_any_path() {
        let world = world(&[("Main", 1), ("Main", 2)]);
        for path in ["/local/search/usa/any town", "/local/search/usa/any%20town"] {
            let mut request = api_request(CITY, &["usa", "anytown"], &[("limit", "1")]);
            request.request_context.path = Some(path.to_owned());
            let response = handle(&request, &world).await;
            let link = response.headers.get(LINK).unwrap().to_str().unwrap();
            assert!(
                link.starts_with("<https://api.example.com/local/search/usa/any%20town?limit=1&next="),
                "{link}"
            );
        }
    }

    #[tokio::test]
    async fn a_table_that_is_down_is_answered_as_such() {
        let world = world(&[]);
        world.calls.fail(Call::Next("page"), Fault::Before);
        let response = handle(&api_request(CITY, &["usa", "anytown"], &[]), &world).await;
        assert_eq!(response.status_code, 503);
        assert!(!body(&response).to_string().contains("before the call"), "the cause is for the log only");
    }

    #[tokio::test]
    async fn a_search_and_a_look_at_details_are_one_call_each() {
        let world = world(&[("Main", 1)]);
        handle(&api_request(CITY, &["usa", "anytown"], &[]), &world).await;
        handle(&api_request(DETAILS, &["usa", "anytown", "main", "1"], &[]), &world).await;
        assert_eq!(world.calls.take(), ["page", "details"]);
    }
}
