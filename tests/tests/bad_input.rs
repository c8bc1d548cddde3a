//! Bad input gets the answers that the APIs describe, and has no other effect.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use end_to_end_tests::flow::{CORPUS, House};
use end_to_end_tests::{
    PATIENCE, ROOT, apply, binaries, on_a_local_cloud, outcome, project, put_event, receive, runtime,
    templates,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use unicorn::client::{Client, until};

/// Sends a request without changes and returns status and body.
async fn send(
    client: &Client,
    method: Method,
    path: &str,
    content_type: &str,
    body: &str,
) -> anyhow::Result<(StatusCode, Value)> {
    let url = format!("{}{path}", client.addresses.api_url);
    let request = reqwest::Client::new().request(method, url).header("Content-Type", content_type);
    let response = request.body(body.to_owned()).send().await?;
    let status = response.status();
    Ok((status, serde_json::from_slice(&response.bytes().await?).unwrap_or(Value::Null)))
}

/// Waits until a command is rejected, for a reason that the API lists.
async fn rejection(client: &Client, service: &str, command: &str) -> anyhow::Result<Value> {
    let record = outcome(client, service, command, PATIENCE).await?;
    assert_eq!(record["status"], "REJECTED", "{record}");
    let folder = if service == "/contracts" { "contracts-service" } else { "web-service" };
    let api: Value =
        serde_norway::from_str(&std::fs::read_to_string(project()?.join(folder).join("api.yaml"))?)?;
    let listed = &api["components"]["schemas"]["CommandRecord"]["properties"]["reason"]["enum"];
    assert!(listed.as_array().unwrap().contains(&record["reason"]), "{record} is for none of {listed}");
    Ok(record)
}

/// How many messages a queue holds, in flight or not.
async fn messages_in(client: &Client, queue_output: &str) -> anyhow::Result<u64> {
    let input = json!({"QueueUrl": client.output(queue_output)?, "AttributeNames": ["All"]});
    let attributes = client.aws("AmazonSQS.GetQueueAttributes", &input).await?;
    let count = |name: &str| attributes["Attributes"][name].as_str().unwrap().parse::<u64>().unwrap();
    Ok(count("ApproximateNumberOfMessages") + count("ApproximateNumberOfMessagesNotVisible"))
}

/// Sends exactly these bytes, which a client library would change, and returns the status.
fn send_raw(client: &Client, request: &str, headers: &[(&str, &str)], body: &[u8]) -> anyhow::Result<u16> {
    let host = client.addresses.api_url.trim_start_matches("http://");
    let mut head = format!("{request} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    let mut stream = TcpStream::connect(host)?;
    stream.write_all(format!("{head}Content-Length: {}\r\n\r\n", body.len()).as_bytes())?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).split(' ').nth(1).unwrap_or_default().parse()?)
}

/// Runs `test` against a local cloud whose queues no function reads, so that the test sees the messages of the
/// gateway.
fn on_a_gateway(test: impl AsyncFnOnce(&Client) -> anyhow::Result<()>) -> anyhow::Result<()> {
    on_a_local_cloud(async |client| {
        for function in ["uni-prop-local-contracts-ingest", "uni-prop-local-web-ingest"] {
            client.poll(function, false, PATIENCE).await?;
        }
        test(client).await
    })
}

/// The writes, each with a body that the gateway accepts, and the queue that it leads to.
fn writes() -> [(&'static str, &'static str, Value, &'static str); 5] {
    let property = json!({"property_id": House(11).id()});
    [
        ("POST", "/contracts", House(11).contract(), "ContractsIngestQueueUrl"),
        ("PUT", "/contracts", property.clone(), "ContractsIngestQueueUrl"),
        ("POST", "/listings", House(11).listing(), "WebIngestQueueUrl"),
        ("POST", "/request_approval", property, "WebIngestQueueUrl"),
        ("DELETE", "/listings/usa/anytown/main-street/11", Value::Null, "WebIngestQueueUrl"),
    ]
}

const JSON: (&str, &str) = ("Content-Type", "application/json");

/// A body with one member changed; `null` removes it.
fn changed(mut body: Value, pointer: &str, value: Value) -> Value {
    let (parent, member) = pointer.rsplit_once('/').unwrap();
    let parent = body.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    match value {
        Value::Null => parent.remove(member),
        value => parent.insert(member.to_owned(), value),
    };
    body
}

#[test]
fn an_invalid_body_is_refused_and_nothing_is_queued() -> anyhow::Result<()> {
    on_a_local_cloud(async |client| {
        let contract = || House(11).contract();
        let listing = || House(11).listing();
        let bad = [
            (Method::POST, "/contracts", String::new()),
            (Method::POST, "/contracts", "{\"property_id\": ".to_owned()),
            (Method::POST, "/contracts", "[]".to_owned()),
            (Method::POST, "/contracts", changed(contract(), "/seller_name", Value::Null).to_string()),
            (
                Method::POST,
                "/contracts",
                changed(contract(), "/property_id", json!("usa/anytown")).to_string(),
            ),
            (Method::POST, "/contracts", changed(contract(), "/address/number", json!("eleven")).to_string()),
            (Method::POST, "/contracts", changed(contract(), "/address/number", json!(0)).to_string()),
            (Method::POST, "/contracts", changed(contract(), "/address/city", json!("Zürich")).to_string()),
            (Method::POST, "/contracts", changed(contract(), "/seller_name", json!("")).to_string()),
            (Method::POST, "/contracts", changed(contract(), "/seller_name", json!(" \n")).to_string()),
            (
                Method::POST,
                "/contracts",
                changed(contract(), "/seller_name", json!("é".repeat(201))).to_string(),
            ),
            (
                Method::POST,
                "/contracts",
                changed(contract(), "/address/city", json!("x".repeat(101))).to_string(),
            ),
            (Method::POST, "/contracts", changed(contract(), "/address/city", json!(" .,' ")).to_string()),
            (Method::PUT, "/contracts", json!({"status": "APPROVED"}).to_string()),
            // A misspelt status would approve the contract.
            (
                Method::PUT,
                "/contracts",
                json!({"property_id": House(11).id(), "Status": "CANCELLED"}).to_string(),
            ),
            (Method::PUT, "/contracts", json!({"property_id": House(11).id(), "status": "SOLD"}).to_string()),
            (Method::POST, "/listings", changed(listing(), "/images", Value::Null).to_string()),
            (Method::POST, "/listings", changed(listing(), "/listprice", json!(0)).to_string()),
            (Method::POST, "/listings", changed(listing(), "/listprice", json!(1.5)).to_string()),
            (Method::POST, "/listings", changed(listing(), "/currency", json!("usd")).to_string()),
            (Method::POST, "/listings", changed(listing(), "/contract", json!("gift")).to_string()),
            (
                Method::POST,
                "/listings",
                changed(listing(), "/description", json!("x".repeat(1201))).to_string(),
            ),
            // The id would be short, because each run of white space becomes one dash.
            (
                Method::POST,
                "/listings",
                changed(listing(), "/address/street", json!(format!("x{}", " ".repeat(262_000)))).to_string(),
            ),
            (Method::POST, "/listings", changed(listing(), "/images", json!([""])).to_string()),
            (Method::POST, "/listings", changed(listing(), "/images", json!(["x".repeat(513)])).to_string()),
            (Method::POST, "/request_approval", "{}".to_owned()),
            (Method::POST, "/request_approval", json!({"property_id": "a b/c/d/e"}).to_string()),
        ];
        for (method, path, body) in bad {
            let answer = send(client, method.clone(), path, "application/json", &body).await?;
            let expected = (StatusCode::BAD_REQUEST, json!({"message": "Invalid request body"}));
            assert_eq!(answer, expected, "{method} {path} {body}");
        }
        for queue in ["ContractsIngestQueueUrl", "WebIngestQueueUrl"] {
            assert_eq!(messages_in(client, queue).await?, 0, "{queue}");
        }
        Ok(())
    })
}

#[test]
fn texts_at_their_limits_are_accepted_and_counted_in_characters() -> anyhow::Result<()> {
    on_a_gateway(async |client| {
        let mut contract = changed(House(11).contract(), "/seller_name", json!("é".repeat(200)));
        contract = changed(contract, "/address/city", json!(format!("{}x", ".".repeat(99))));
        client.write(Method::POST, "/contracts", Some(&contract)).await?;
        let mut listing = changed(House(11).listing(), "/images", json!(["é".repeat(512)]));
        listing = changed(listing, "/address/street", json!(format!("-{}", " ".repeat(99))));
        client.write(Method::POST, "/listings", Some(&listing)).await?;
        Ok(())
    })
}

/// The gateway ignores extra keys if all keys are required, but these bodies are not JSON for every reader.
#[test]
fn a_body_that_nests_too_deep_or_holds_too_large_a_number_is_refused_on_every_route_that_takes_one()
-> anyhow::Result<()> {
    on_a_gateway(async |client| {
        for (method, path, body, queue) in writes().into_iter().filter(|(.., body, _)| body.is_object()) {
            let before = messages_in(client, queue).await?;
            let text = body.to_string();
            let with = |extra: &str| format!("{},\"extra\":{extra}}}", text.strip_suffix('}').unwrap());
            let nested = |levels: usize| with(&format!("{}{}", "[".repeat(levels), "]".repeat(levels)));
            // The body itself is the first level.
            for bad in [nested(200), nested(127), with("1e999"), with("[-1e999]")] {
                let answer = send(client, method.parse()?, path, JSON.1, &bad).await?;
                let expected = (StatusCode::BAD_REQUEST, json!({"message": "Invalid request body"}));
                assert_eq!(answer, expected, "{method} {path} {bad}");
            }
            assert_eq!(messages_in(client, queue).await?, before, "{method} {path}");
            // A body with optional keys refuses every other key.
            if method != "PUT" {
                for good in [nested(126), with("1e308")] {
                    let (status, answer) = send(client, method.parse()?, path, JSON.1, &good).await?;
                    assert_eq!(status, StatusCode::OK, "{method} {path} {good}: {answer}");
                    assert_eq!(receive(client, client.output(queue)?).await?["Body"], good);
                }
            }
        }
        Ok(())
    })
}

#[test]
fn a_key_reaches_the_queue_in_any_spelling_of_its_header_and_never_from_the_query() -> anyhow::Result<()> {
    on_a_gateway(async |client| {
        for (method, path, body, queue) in writes() {
            let body = if body.is_null() { String::new() } else { body.to_string() };
            let queue = client.output(queue)?;
            for name in ["Idempotency-Key", "idempotency-key", "IDEMPOTENCY-KEY", "Idempotency-key"] {
                let headers = [JSON, (name, "my & key"), ("X-Idempotency-Key", "another")];
                assert_eq!(send_raw(client, &format!("{method} {path}"), &headers, body.as_bytes())?, 200);
                let message = receive(client, queue).await?;
                let key = &message["MessageAttributes"]["IdempotencyKey"]["StringValue"];
                assert_eq!(key, "my & key", "{method} {path} {name}");
            }
            let request = format!("{method} {path}?Idempotency-Key=mine&IDEMPOTENCY-KEY=mine");
            assert_eq!(send_raw(client, &request, &[JSON, ("Idempotency-Key", "")], body.as_bytes())?, 200);
            let message = receive(client, queue).await?;
            assert!(message["MessageAttributes"]["CommandId"].is_object(), "{message}");
            assert!(message["MessageAttributes"]["IdempotencyKey"].is_null(), "{message}");
        }
        Ok(())
    })
}

/// No valid value has a character that the encoding changes. If a body has two members of one name, the
/// gateway validates the last one.
#[test]
fn the_body_of_a_change_of_a_contract_arrives_byte_for_byte() -> anyhow::Result<()> {
    on_a_gateway(async |client| {
        let (id, smuggled) = (House(11).id(), json!(format!("{CORPUS}&DelaySeconds=900+%2B#")));
        let body = format!(r#"{{"status":{smuggled}, "property_id":"{id}", "status" : "APPROVED"}}"#);
        let (status, answer) = send(client, Method::PUT, "/contracts", JSON.1, &body).await?;
        assert_eq!(status, StatusCode::OK, "{answer}");
        let message = receive(client, client.output("ContractsIngestQueueUrl")?).await?;
        assert_eq!(message["Body"], body);
        Ok(())
    })
}

/// "REST APIs decode URL-encoded request parameters before passing them to backend integrations"
/// (API Gateway guide, "Important notes"): once, so that the consumer must not do it again.
#[test]
fn a_path_is_decoded_once_and_the_message_that_is_made_of_it_is_always_json() -> anyhow::Result<()> {
    on_a_gateway(async |client| {
        let queue = client.output("WebIngestQueueUrl")?;
        for (written, arrives) in [
            ("usa/Any%20Town/Main%20Street/1", "usa/Any Town/Main Street/1"),
            ("usa/anytown/main-street/%2531", "usa/anytown/main-street/%31"),
            ("usa/anytown/a+b/1", "usa/anytown/a+b/1"),
            ("usa/any%2Ftown/main-street/1", "usa/any/town/main-street/1"),
            ("usa/%22%2C%22x%22%3A%22/%5C/%5C%22", "usa/\",\"x\":\"/\\/\\\""),
            ("usa/O'Hara/%27%5C%27/%5C%5C'", "usa/O'Hara/'\\'/\\\\'"),
            ("usa/%0A%0D%09%08%0C/%01%7F/1", "usa/\n\r\t\u{8}\u{c}/\u{1}\u{7f}/1"),
            ("usa/%F0%9F%A6%84/Z%C3%BCrich/1", "usa/\u{1f984}/Zürich/1"),
            ("usa/%FF/a%26DelaySeconds=900/1", "usa/\u{fffd}/a&DelaySeconds=900/1"),
            (
                "$context.apiId/%23if(true)/$input.body/%24%7Bx%7D",
                "$context.apiId/#if(true)/$input.body/${x}",
            ),
        ] {
            assert_eq!(
                send_raw(client, &format!("DELETE /listings/{written}"), &[JSON], b"")?,
                200,
                "{written}"
            );
            let message = receive(client, queue).await?;
            let body: Value = serde_json::from_str(message["Body"].as_str().unwrap())?;
            assert_eq!(body, json!({"property_id": arrives}), "{written}");
        }
        Ok(())
    })
}

/// A client can set `$context.requestId` with a header, and the log has that text without changes.
#[test]
fn an_access_log_line_is_the_gateways_alone_and_says_how_the_integration_went() -> anyhow::Result<()> {
    on_a_gateway(async |client| {
        let forged = ("x-amzn-RequestId", "\",\"status\":\"200\",\"ip\":\"10.0.0.1");
        let last = async |service: &str, count: usize| {
            let group = format!("/aws/apigateway/uni-prop-local-{service}");
            let events = client.log_events(&group, 0).await?;
            assert_eq!(events.len(), count, "{events:?}");
            let line = events[count - 1]["message"].as_str().unwrap_or_default().to_owned();
            assert!(!line.contains("10.0.0.1"), "{line}");
            anyhow::Ok(serde_json::from_str::<Value>(&line)?)
        };
        for (service, path, body, queue) in [
            ("contracts", "/contracts", House(11).contract().to_string(), "ContractsIngestQueueUrl"),
            ("web", "/listings", House(11).listing().to_string(), "WebIngestQueueUrl"),
        ] {
            let request = format!("POST {path}");
            assert_eq!(send_raw(client, &request, &[JSON, forged], body.as_bytes())?, 200);
            let line = last(service, 1).await?;
            let message = receive(client, client.output(queue)?).await?;
            let seen = ["requestId", "status", "error", "integrationStatus"].map(|name| line[name].clone());
            let id = &message["MessageAttributes"]["CommandId"]["StringValue"];
            assert_eq!(seen, [id.clone(), json!("200"), json!("-"), json!("200")], "{line}");
            for number in ["time", "latencyMs", "integrationLatencyMs"] {
                assert!(line[number].as_str().is_some_and(|text| text.parse::<u64>().is_ok()), "{line}");
            }

            assert_eq!(send_raw(client, &request, &[JSON, forged], b"{}")?, 400);
            let line = last(service, 2).await?;
            assert_eq!(
                (&line["status"], &line["error"]),
                (&json!("400"), &json!("BAD_REQUEST_BODY")),
                "{line}"
            );

            client.aws("AmazonSQS.DeleteQueue", &json!({"QueueUrl": client.output(queue)?})).await?;
            assert_eq!(send_raw(client, &request, &[JSON, forged], body.as_bytes())?, 503);
            let line = last(service, 3).await?;
            let seen = ["method", "resource", "status", "integrationStatus"].map(|name| line[name].clone());
            assert_eq!(seen, [json!("POST"), json!(path), json!("503"), json!("400")], "{line}");
        }
        Ok(())
    })
}

/// As on AWS. The consumer rejects a body with such a character.
#[test]
fn bytes_that_are_not_utf_8_reach_the_queue_as_replacement_characters() -> anyhow::Result<()> {
    on_a_gateway(async |client| {
        let body = House(11).contract().to_string();
        let (before, after) = body.split_once("Zebediah").unwrap();
        let bytes = [before.as_bytes(), b"\xffSm\xc3", after.as_bytes()].concat();
        assert_eq!(send_raw(client, "POST /contracts", &[JSON], &bytes)?, 200);
        let message = receive(client, client.output("ContractsIngestQueueUrl")?).await?;
        assert_eq!(message["Body"], format!("{before}\u{fffd}Sm\u{fffd}{after}"));
        Ok(())
    })
}

/// The gateway's validator ignores the length of arrays and cannot compare two members.
#[test]
fn what_the_gateway_cannot_check_is_rejected_with_a_record() -> anyhow::Result<()> {
    on_a_local_cloud(async |client| {
        let mismatch = changed(House(11).contract(), "/property_id", json!("usa/anytown/main-street/12"));
        let no_images = changed(House(11).listing(), "/images", json!([]));
        for (path, body, reason) in
            [("/contracts", mismatch, "property_id_mismatch"), ("/listings", no_images, "invalid_body")]
        {
            let command = client.write(Method::POST, path, Some(&body)).await?;
            let record = rejection(client, path, &command).await?;
            assert_eq!(record["reason"], reason);
            assert!(record["message"].is_string(), "{record}");
        }
        Ok(())
    })
}

#[test]
fn an_unknown_route_and_a_wrong_content_type_are_refused_by_the_gateway() -> anyhow::Result<()> {
    on_a_local_cloud(async |client| {
        for (method, path) in [
            (Method::GET, "/"),
            (Method::GET, "/contract"),
            (Method::PATCH, "/contracts"),
            (Method::PUT, "/listings"),
        ] {
            let answer = send(client, method.clone(), path, "application/json", "{}").await?;
            let expected = (StatusCode::FORBIDDEN, json!({"message": "Missing Authentication Token"}));
            assert_eq!(answer, expected, "{method} {path}");
        }
        for path in ["/contracts", "/listings", "/request_approval"] {
            let body = House(11).contract().to_string();
            let (status, answer) = send(client, Method::POST, path, "text/plain", &body).await?;
            assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{path}: {answer}");
            assert!(answer["message"].is_string(), "{path}: {answer}");
        }
        assert_eq!(messages_in(client, "ContractsIngestQueueUrl").await?, 0);
        Ok(())
    })
}

#[test]
fn a_property_or_a_command_that_nobody_knows_is_not_found() -> anyhow::Result<()> {
    on_a_local_cloud(async |client| {
        for path in [
            "/contracts/usa/anytown/main-street/11",
            "/contracts/usa/anytown/main-street/eleven",
            "/contracts/commands/nobody-sent-it",
            "/listings/usa/anytown/main-street/11",
            "/listings/commands/nobody-sent-it",
            "/properties/usa/anytown/main-street/11",
            "/properties/usa/anytown/%F0%9F%A6%84/11",
        ] {
            let answer = client.get(path).await?;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}: {}", answer.body);
            assert!(answer.body["message"].is_string(), "{path}: {}", answer.body);
        }
        for path in ["/search/usa/nowhere", "/search/usa/anytown/nowhere", "/search/%26/%2B"] {
            let answer = client.get(path).await?;
            assert_eq!((answer.status, answer.body), (StatusCode::OK, json!([])), "{path}");
        }
        for query in ["limit=0", "limit=101", "limit=x", "limit=", "next=nobody-gave-this"] {
            let answer = client.get(&format!("/search/usa/anytown?{query}")).await?;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}: {}", answer.body);
        }
        Ok(())
    })
}

/// A command that comes too early waits two minutes for its predecessor.
#[test]
fn a_command_for_an_unknown_property_is_rejected_after_all_its_waits() -> anyhow::Result<()> {
    on_a_local_cloud(async |client| {
        let begun = Instant::now();
        let rejected = async |method, path, reason: &str| {
            let command = client.write(method, path, Some(&json!({"property_id": House(11).id()}))).await?;
            let service = end_to_end_tests::service_of(path);
            let record = outcome(client, service, &command, Duration::from_secs(180)).await?;
            let expected = (&json!("REJECTED"), &json!(reason));
            assert_eq!((&record["status"], &record["reason"]), expected, "{path}");
            anyhow::Ok(())
        };
        tokio::try_join!(
            rejected(Method::PUT, "/contracts", "contract_not_found"),
            rejected(Method::POST, "/request_approval", "listing_not_found"),
        )?;
        let waited = begun.elapsed().as_secs();
        assert!((120..140).contains(&waited), "{waited} s");
        Ok(())
    })
}

#[test]
fn a_forbidden_change_is_rejected_and_leaves_the_contract_as_it_is() -> anyhow::Result<()> {
    on_a_local_cloud(async |client| {
        let house = House(11);
        let path = format!("/contracts/{}", house.id());
        apply(client, Method::POST, "/contracts", &house.contract()).await?;
        let change = |status: &str| json!({"property_id": house.id(), "status": status});
        for (method, body, reason) in [
            (Method::PUT, change("CLOSED"), "invalid_transition"),
            (Method::PUT, change("DRAFT"), "invalid_transition"),
            (Method::POST, house.contract(), "contract_exists"),
        ] {
            let before = client.get(&path).await?.body;
            let command = client.write(method, "/contracts", Some(&body)).await?;
            assert_eq!(rejection(client, "/contracts", &command).await?["reason"], reason, "{body}");
            assert_eq!(client.get(&path).await?.body, before);
        }
        // Upper case is the same property.
        apply(client, Method::PUT, "/contracts", &json!({"property_id": house.id().to_uppercase()})).await?;
        assert_eq!(client.get(&path).await?.body["contract_status"], "APPROVED");
        Ok(())
    })
}

#[test]
fn a_malformed_event_fails_alone() -> anyhow::Result<()> {
    on_a_local_cloud(async |client| {
        unicorn::seed::images(&project()?, client).await?;
        let malformed =
            json!({"property_id": 7, "contract_status": "CANCELLED", "evaluation_result": "MAYBE"});
        for (bus, source, detail_type, function) in [
            ("WebEventBusName", "unicorn-contracts", "ContractStatusChanged", "on-contract-ended"),
            (
                "WebEventBusName",
                "unicorn-properties",
                "PublicationEvaluationCompleted",
                "on-evaluation-completed",
            ),
            (
                "PropertiesEventBusName",
                "unicorn-contracts",
                "ContractStatusChanged",
                "on-contract-status-changed",
            ),
        ] {
            let id = put_event(client, client.output(bus)?, source, detail_type, &malformed).await?;
            // Lambda tries again after one and two minutes, then hands it to the dead-letter queue;
            // the test does not wait so long, but sees that the function failed.
            let group = format!("/aws/lambda/uni-prop-local-{function}");
            until(&format!("failure of event {id} in {group}"), PATIENCE, async || {
                let logged = client.logged(&group).await?;
                Ok(logged.into_iter().find(|line| line["record"]["status"] == "error"))
            })
            .await?;
        }
        // A request whose images are none starts an execution that is answered all the same.
        let property = "usa/anytown/main-street/99";
        let request = json!({"property_id": property, "images": "none"});
        let bus = client.output("PropertiesEventBusName")?;
        put_event(client, bus, "unicorn-web", "PublicationApprovalRequested", &request).await?;
        let log = client.log_group("PropertiesCatchAllLogGroupArn")?;
        until("answer to a malformed request", PATIENCE, async || {
            let answers = |event: &Value| {
                event["source"] == "unicorn-properties" && event["detail"]["property_id"] == property
            };
            let answer = client.logged(&log).await?.into_iter().find(answers);
            Ok(answer.inspect(|answer| assert_eq!(answer["detail"]["evaluation_result"], "DECLINED")))
        })
        .await?;
        // The whole flow still runs.
        end_to_end_tests::flow::Flow::new(client).run().await
    })
}

#[test]
fn a_poison_message_reaches_the_dead_letter_queue_whole_and_the_commands_around_it_are_applied()
-> anyhow::Result<()> {
    on_a_local_cloud(async |client| {
        for (queue, dead, good, path) in [
            ("ContractsIngestQueueUrl", "ContractsIngestDLQUrl", House(11).contract(), "/contracts"),
            ("WebIngestQueueUrl", "WebIngestDLQUrl", House(11).listing(), "/listings"),
        ] {
            // It did not come through the gateway: it has no command id.
            let attribute = json!({"DataType": "String", "StringValue": "kept"});
            let poison = json!({
                "QueueUrl": client.output(queue)?, "MessageBody": CORPUS, "MessageAttributes": {"Origin": attribute},
            });
            client.aws("AmazonSQS.SendMessage", &poison).await?;
            apply(client, Method::POST, path, &good).await?;
            let message = receive(client, client.output(dead)?).await?;
            assert_eq!(message["Body"], CORPUS);
            assert_eq!(message["MessageAttributes"]["Origin"]["StringValue"], "kept");
            // The reason is found by the message's id.
            let function = queue.trim_end_matches("IngestQueueUrl").to_lowercase();
            let group = format!("/aws/lambda/uni-prop-local-{function}-ingest");
            let id = message["MessageId"].as_str().unwrap();
            let logged = client.logged(&group).await?;
            assert!(logged.iter().any(|line| line.to_string().contains(id)), "{group} tells nothing of {id}");
            assert_eq!(messages_in(client, queue).await?, 0, "nothing is left in {queue}");
        }
        Ok(())
    })
}

#[test]
fn a_function_without_its_environment_stops_and_names_every_variable_in_one_sentence() {
    let application = templates::load(&project().unwrap(), ROOT, &[]).unwrap();
    let folder = runtime().unwrap().block_on(binaries()).unwrap();
    for function in templates::of_kind(&application, "AWS::Lambda::Function") {
        let binary = function.metadata["Binary"].as_str().unwrap();
        let mut child = Command::new(folder.join(binary))
            .env_clear()
            .env("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9")
            .env("AWS_REGION", "us-east-1")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let ended = runtime()
            .unwrap()
            .block_on(until(binary, Duration::from_secs(10), async || Ok(child.try_wait()?)));
        let _ = child.kill();
        let output = child.wait_with_output().unwrap();
        assert!(!ended.unwrap().success(), "{binary} must stop");
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let sentence = said.lines().find(|line| line.contains("environment is not complete"));
        let sentence = sentence.unwrap_or_else(|| panic!("{binary} says {said}"));
        for name in function.properties["Environment"]["Variables"].as_object().unwrap().keys() {
            assert!(
                sentence.contains(&format!("{name} is missing")),
                "{binary} does not name {name}: {sentence}"
            );
        }
    }
}
