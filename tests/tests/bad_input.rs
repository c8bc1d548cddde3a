//! Bad input gets what product.md says, and disturbs nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

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

/// Sends a request as it is written, and returns status and body.
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

/// How many messages a queue holds, in flight or not.
async fn messages_in(client: &Client, queue_output: &str) -> anyhow::Result<u64> {
    let input = json!({"QueueUrl": client.output(queue_output)?, "AttributeNames": ["All"]});
    let attributes = client.aws("AmazonSQS.GetQueueAttributes", &input).await?;
    let count = |name: &str| attributes["Attributes"][name].as_str().unwrap().parse::<u64>().unwrap();
    Ok(count("ApproximateNumberOfMessages") + count("ApproximateNumberOfMessagesNotVisible"))
}

/// A body with one member changed; `null` takes it away.
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
            (Method::PUT, "/contracts", json!({"status": "APPROVED"}).to_string()),
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

/// The gateway's validator ignores the length of arrays, and does not know that two members must agree.
#[test]
fn what_the_gateway_cannot_check_is_rejected_with_a_record() -> anyhow::Result<()> {
    on_a_local_cloud(async |client| {
        let mismatch = changed(House(11).contract(), "/property_id", json!("usa/anytown/main-street/12"));
        let no_images = changed(House(11).listing(), "/images", json!([]));
        for (path, body, reason) in
            [("/contracts", mismatch, "property_id_mismatch"), ("/listings", no_images, "invalid_body")]
        {
            let command = client.write(Method::POST, path, Some(&body)).await?;
            let record = outcome(client, path, &command, PATIENCE).await?;
            assert_eq!((&record["status"], &record["reason"]), (&json!("REJECTED"), &json!(reason)));
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

/// Commands that come too early wait for what may be on its way: for two minutes.
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
            let record = outcome(client, "/contracts", &command, PATIENCE).await?;
            assert_eq!(
                (&record["status"], &record["reason"]),
                (&json!("REJECTED"), &json!(reason)),
                "{body}"
            );
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
        // Nothing else is disturbed: the whole story still runs.
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
        let told =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let sentence = told.lines().find(|line| line.contains("environment is not complete"));
        let sentence = sentence.unwrap_or_else(|| panic!("{binary} says {told}"));
        for name in function.properties["Environment"]["Variables"].as_object().unwrap().keys() {
            assert!(
                sentence.contains(&format!("{name} is missing")),
                "{binary} does not name {name}: {sentence}"
            );
        }
    }
}
