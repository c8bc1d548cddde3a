//! Every fault that was seen in other editions of this application has a test whose name says the right
//! behaviour. Those that are best tested from outside are tested here, with HTTP and the AWS API. For the
//! others this table names the test, or the rule of the template policy.
//!
//! | row | file | tests |
//! |---|---|---|
//! | 1 | tests/tests/known_faults.rs | a_body_arrives_byte_for_byte_and_adds_no_parameter |
//! | 2 | tests/tests/known_faults.rs | what_the_queue_refuses_is_not_answered_ok |
//! | 3 | contracts-service/src/handlers/ingest.rs | wherever_a_call_fails_the_redelivery_completes_the_command_once |
//! | 3 | web-service/src/handlers/on_evaluation_completed.rs | an_evaluation_that_cannot_be_stored_fails_and_succeeds_when_repeated |
//! | 3 | properties-service/src/handlers/on_contract_status_changed.rs | a_status_that_could_not_be_kept_is_an_error_and_kept_when_the_event_comes_again |
//! | 4 | crates/lambda-kit/src/publish.rs | an_entry_that_the_bus_did_not_take_is_an_error |
//! | 5 | properties-service/src/handlers/on_contract_status_stream.rs | one_execution_that_cannot_be_told_fails_its_record_alone_and_nobody_else_waits_for_it |
//! | 6 | crates/lambda-kit/src/batch.rs | one_bad_message_fails_alone_and_under_its_own_id |
//! | 7 | web-service/src/handlers/ingest.rs | poison_fails_alone_and_is_visible_at_once |
//! | 7 | properties-service/src/handlers/on_contract_status_stream.rs | a_record_that_cannot_be_read_fails_alone |
//! | 8 | tests/src/policy/queues.rs | queue-receives |
//! | 9 | tests/src/policy/failures.rs | dead-letters, dead-letter-place, dead-letter-senders |
//! | 10 | tests/tests/known_faults.rs | an_event_carries_the_date_and_the_version_of_its_contract |
//! | 11 | properties-service/src/handlers/on_contract_status_changed.rs | a_late_draft_never_overwrites_an_approved_contract |
//! | 12 | properties-service/src/handlers/await_contract_approval.rs | two_executions_that_wait_for_one_property_are_both_woken |
//! | 13 | properties-service/src/handlers/on_contract_status_stream.rs | a_dead_token_is_done_and_its_row_is_removed |
//! | 14 | contracts-service/src/dynamo.rs | a_decision_on_an_outdated_contract_is_not_written |
//! | 14 | web-service/src/handlers/on_evaluation_completed.rs | a_withdrawal_between_reading_and_writing_is_not_overwritten |
//! | 15 | tests/tests/known_faults.rs | only_a_change_of_status_is_published |
//! | 16 | tests/src/policy/workflow.rs | task-timeout, wait-timeout, workflow-timeout |
//! | 17 | properties-service/tests/approval_workflow.rs | only_a_failed_look_up_that_stays_failed_is_a_failed_evaluation_and_never_a_missing_contract, every_way_out_publishes_an_answer |
//! | 18 | properties-service/tests/approval_workflow.rs | positive_and_neutral_texts_pass_and_all_others_decline |
//! | 19 | properties-service/src/handlers/await_contract_approval.rs | every_failure_fails_the_task_and_the_retry_is_answered |
//! | 20 | web-service/src/handlers/ingest.rs | a_request_and_a_withdrawal_without_a_listing_are_rejected_after_all_waits |
//! | 21 | web-service/src/handlers/on_evaluation_completed.rs | an_evaluation_for_an_unknown_listing_creates_nothing, an_evaluation_with_an_unknown_result_fails_and_changes_nothing |
//! | 22 | tests/tests/known_faults.rs | an_approved_listing_is_not_requested_again |
//! | 23 | crates/vocabulary/src/address.rs | every_run_of_white_space_becomes_one_dash |
//! | 24 | tests/tests/known_faults.rs | search_pages_through_everything |
//! | 25 | tests/tests/known_faults.rs | a_place_is_found_in_any_spelling |
//! | 26 | tests/tests/known_faults.rs | a_street_and_a_number_are_matched_whole |
//! | 27 | crates/events/tests/schemas.rs | contract_status_changed_is_what_its_schema_says, publication_approval_requested_is_what_its_schema_says, publication_evaluation_completed_is_what_its_schema_says |
//! | 27 | web-service/src/tests/samples.rs | the_models_of_the_api_name_what_the_handlers_read_and_answer |
//! | 27 | tests/tests/events.rs | every_event_of_a_whole_run_is_what_its_schema_says, the_registries_publish_the_schemas_of_the_event_contracts |
//! | 28 | contracts-service/src/handlers/ingest.rs | an_approval_that_overtakes_its_create_is_applied_after_it |
//! | 29 | web-service/src/tests/samples.rs | every_seed_listing_is_one_that_the_service_takes_and_its_images_are_here |
//! | 30 | tests/tests/known_faults.rs | no_log_holds_a_task_token_or_a_sellers_name |
//! | 30 | tests/src/policy/kept.rs | kept, table-protection, table-recovery |
//! | 30 | tests/src/policy/account.rs | account-settings |
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use std::collections::BTreeSet;

use end_to_end_tests::flow::{CORPUS, Flow, House, SELLER};
use end_to_end_tests::{PATIENCE, apply, on_a_local_cloud, outcome, project, receive};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use unicorn::client::{Client, until};

/// Whether `source` has a test of this name that runs: the lines above it, up to an empty line or the end of
/// the item before, make it a test and do not ignore it.
fn is_run(source: &str, test: &str) -> bool {
    let is_it = |line: &str| {
        let line = line.trim_start();
        line.strip_prefix("async ").unwrap_or(line).starts_with(&format!("fn {test}()"))
    };
    let lines: Vec<&str> = source.lines().collect();
    let Some(at) = lines.iter().position(|line| is_it(line)) else { return false };
    let above =
        || lines[..at].iter().rev().map(|line| line.trim()).take_while(|line| !matches!(*line, "" | "}"));
    let is_test = |line: &str| line == "#[test]" || line.starts_with("#[tokio::test");
    above().any(is_test) && !above().any(|line| line.starts_with("#[ignore"))
}

#[test]
fn a_name_is_a_test_only_where_it_is_run() {
    for run in ["#[test]\nfn a() {", "#[tokio::test(flavor = \"x\")]\n#[allow(b)]\nasync fn a() {"] {
        assert!(is_run(run, "a"), "{run}");
    }
    for not_run in [
        "fn a() {",
        "#[test]\n#[ignore]\nfn a() {",
        "#[ignore = \"slow\"]\n#[test]\nfn a() {",
        "#[test]\nfn b() {}\n\nfn a() {",
        "#[test]\nfn ba() {",
        "// #[test]\nfn a() {",
    ] {
        assert!(!is_run(not_run, "a"), "{not_run}");
    }
}

#[test]
fn every_row_has_a_test_that_exists() {
    let table = include_str!("known_faults.rs").lines().filter_map(|line| line.strip_prefix("//! | "));
    let mut rows = BTreeSet::new();
    for line in table {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let Ok(row) = cells[0].parse::<u32>() else { continue };
        let source = std::fs::read_to_string(project().unwrap().join(cells[1])).unwrap();
        for test in cells[2].split(", ") {
            let is_there = is_run(&source, test) || source.contains(&format!("name: \"{test}\""));
            assert!(is_there, "row {row}: {} has no test and no rule {test}", cells[1]);
        }
        rows.insert(row);
    }
    assert_eq!(rows, (1..=30).collect());
}

/// Sends a body as it is, not as a JSON library would write it.
async fn post(client: &Client, path: &str, body: String) -> anyhow::Result<(StatusCode, Value)> {
    let url = format!("{}{path}", client.addresses.api_url);
    let request = reqwest::Client::new().post(url).header("Content-Type", "application/json").body(body);
    let response = request.send().await?;
    let status = response.status();
    Ok((status, serde_json::from_slice(&response.bytes().await?).unwrap_or(Value::Null)))
}

/// Row 1: the body was put unencoded into the form of the queue call.
#[test]
fn a_body_arrives_byte_for_byte_and_adds_no_parameter() -> anyhow::Result<()> {
    on_a_local_cloud(async |client| {
        client.poll("uni-prop-local-contracts-ingest", false, PATIENCE).await?;
        // White space, order and escapes of the client's own, which a parser would change.
        let contract = House(11).contract();
        let body = format!(
            "{{ \"note\" : {},\n\t\"smuggled\":\"&DelaySeconds=900&MessageAttribute.9.Name=X\", \"e\":\"\\u00e9+%2B#\",  {}",
            json!(CORPUS),
            &contract.to_string()[1..]
        );
        let (status, answer) = post(client, "/contracts", body.clone()).await?;
        assert_eq!((status, answer), (StatusCode::OK, json!({"message": "OK"})));
        let message = receive(client, client.output("ContractsIngestQueueUrl")?).await?;
        assert_eq!(message["Body"], body);
        let attributes: BTreeSet<&str> =
            message["MessageAttributes"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(
            attributes,
            BTreeSet::from(["CommandId", "HttpMethod", "RequestTimeEpoch", "ResourcePath"])
        );
        Ok(())
    })
}

/// Row 2: a refused queue call was answered OK.
#[test]
fn what_the_queue_refuses_is_not_answered_ok() -> anyhow::Result<()> {
    on_a_local_cloud(async |client| {
        for (path, body, queue) in [
            ("/contracts", House(11).contract(), "ContractsIngestQueueUrl"),
            ("/listings", House(11).listing(), "WebIngestQueueUrl"),
        ] {
            let with = |note: &str| {
                let mut body = body.clone();
                body["note"] = json!(note);
                body.to_string()
            };
            // More than the queue takes: 1 MiB (SQS quotas, message size).
            let (status, answer) = post(client, path, with(&"x".repeat(1_048_576))).await?;
            assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{path}: {answer}");
            assert!(answer["message"].is_string(), "{path}: {answer}");
            // Not among the characters of XML 1.0, which are those of a message (API_SendMessage).
            let (status, answer) = post(client, path, with("\u{fffe}")).await?;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{path}: {answer}");
            assert!(answer["message"].is_string(), "{path}: {answer}");

            client.aws("AmazonSQS.DeleteQueue", &json!({"QueueUrl": client.output(queue)?})).await?;
            let (status, answer) = post(client, path, body.to_string()).await?;
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{path}: {answer}");
            assert!(answer["message"].is_string(), "{path}: {answer}");
        }
        Ok(())
    })
}

async fn status_events(client: &Client, house: House) -> anyhow::Result<Vec<Value>> {
    let logged = client.logged(&client.log_group("ContractsCatchAllLogGroupArn")?).await?;
    let of_house = |event: &Value| event["detail"]["property_id"] == house.id();
    Ok(logged.into_iter().filter(of_house).map(|mut event| event["detail"].take()).collect())
}

/// Waits until the bus of contracts has logged `count` events of a property.
async fn wait_for_status_events(client: &Client, house: House, count: usize) -> anyhow::Result<Vec<Value>> {
    until(&format!("{count} events of {}", house.id()), PATIENCE, async || {
        Ok(Some(status_events(client, house).await?).filter(|events| events.len() >= count))
    })
    .await
}

/// Row 10: one date was updated, another one published.
#[test]
fn an_event_carries_the_date_and_the_version_of_its_contract() -> anyhow::Result<()> {
    on_a_local_cloud(async |client| {
        let house = House(11);
        apply(client, Method::POST, "/contracts", &house.contract()).await?;
        let draft = client.get(&format!("/contracts/{}", house.id())).await?.body;
        apply(client, Method::PUT, "/contracts", &json!({"property_id": house.id()})).await?;
        let approved = client.get(&format!("/contracts/{}", house.id())).await?.body;
        assert_ne!(draft["contract_last_modified_on"], approved["contract_last_modified_on"]);
        let events = wait_for_status_events(client, house, 2).await?;
        for (event, contract, version) in [(&events[0], draft, "1"), (&events[1], approved, "2")] {
            for member in ["contract_id", "contract_status", "contract_last_modified_on"] {
                assert_eq!(event[member], contract[member], "{member} of {event} and {contract}");
            }
            assert_eq!(event["contract_version"], version, "{event}");
        }
        Ok(())
    })
}

/// Row 15: every modification of a contract was published.
#[test]
fn only_a_change_of_status_is_published() -> anyhow::Result<()> {
    on_a_local_cloud(async |client| {
        let house = House(11);
        apply(client, Method::POST, "/contracts", &house.contract()).await?;
        let correction = json!({
            "TableName": client.output("ContractsTableName")?, "Key": {"property_id": {"S": house.id()}},
            "UpdateExpression": "SET seller_name = :name",
            "ExpressionAttributeValues": {":name": {"S": "Somebody else"}},
        });
        client.aws("DynamoDB_20120810.UpdateItem", &correction).await?;
        // The stream is in order: once this one has passed, the correction has passed too.
        apply(client, Method::PUT, "/contracts", &json!({"property_id": house.id()})).await?;
        let events = wait_for_status_events(client, house, 2).await?;
        let statuses: Vec<&Value> = events.iter().map(|event| &event["contract_status"]).collect();
        assert_eq!(statuses, ["DRAFT", "APPROVED"]);
        Ok(())
    })
}

/// Brings a listing into search.
async fn publish(client: &Client, street: &str, number: u32) -> anyhow::Result<()> {
    let address = json!({"country": "USA", "city": "Anytown", "street": street, "number": number});
    let id = format!("usa/anytown/{}/{number}", street.to_lowercase().replace(' ', "-"));
    let contract = json!({"property_id": id, "address": address, "seller_name": SELLER});
    apply(client, Method::POST, "/contracts", &contract).await?;
    apply(client, Method::PUT, "/contracts", &json!({"property_id": id})).await?;
    let mut listing = House(number).listing();
    listing["address"] = address;
    apply(client, Method::POST, "/listings", &listing).await?;
    apply(client, Method::POST, "/request_approval", &json!({"property_id": id})).await?;
    until(&format!("{id} in search"), PATIENCE, async || {
        Ok(client.get(&format!("/properties/{id}")).await?.status.is_success().then_some(()))
    })
    .await
}

/// What a search finds, as street and number.
async fn search(client: &Client, path: &str) -> anyhow::Result<Vec<(String, u64)>> {
    let answer = client.get(path).await?;
    assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.body);
    let place =
        |found: &Value| (found["street"].as_str().unwrap().to_owned(), found["number"].as_u64().unwrap());
    Ok(answer.body.as_array().unwrap().iter().map(place).collect())
}

/// Row 22: a listing that is published already was evaluated again.
#[test]
fn an_approved_listing_is_not_requested_again() -> anyhow::Result<()> {
    on_a_local_cloud(async |client| {
        unicorn::seed::images(&project()?, client).await?;
        publish(client, "Main Street", 11).await?;
        let request = json!({"property_id": House(11).id()});
        let command = client.write(Method::POST, "/request_approval", Some(&request)).await?;
        let record = outcome(client, "/listings", &command, PATIENCE).await?;
        assert_eq!((&record["status"], &record["reason"]), (&json!("REJECTED"), &json!("already_approved")));
        assert_eq!(search(client, "/search/usa/anytown").await?.len(), 1, "it stays published");
        Ok(())
    })
}

/// Row 24: search returned its first page and dropped the rest.
#[test]
fn search_pages_through_everything() -> anyhow::Result<()> {
    on_a_local_cloud(async |client| {
        unicorn::seed::images(&project()?, client).await?;
        let published = [1, 2, 10, 20, 30].map(|number| publish(client, "Main Street", number));
        futures::future::try_join_all(published).await?;
        let http = reqwest::Client::new();
        let mut next = Some(format!("{}/search/usa/anytown?limit=2", client.addresses.api_url));
        let (mut numbers, mut pages) = (Vec::new(), 0);
        while let Some(url) = next {
            let response = http.get(&url).send().await?.error_for_status()?;
            // The address is absolute: a client follows it as it is.
            let link = response.headers().get("Link").map(|link| link.to_str().unwrap().to_owned());
            next = link.map(|link| {
                let (address, relation) = link.split_once('>').unwrap();
                assert_eq!(relation.trim(), "; rel=\"next\"");
                address.trim_start_matches('<').to_owned()
            });
            let page: Value = serde_json::from_slice(&response.bytes().await?)?;
            let found = page.as_array().unwrap();
            assert!(found.len() <= 2, "{page}");
            numbers.extend(found.iter().map(|listing| listing["number"].as_u64().unwrap()));
            pages += 1;
        }
        assert_eq!((numbers, pages), (vec![1, 2, 10, 20, 30], 3));
        Ok(())
    })
}

/// Row 25: only the stored spelling was found.
#[test]
fn a_place_is_found_in_any_spelling() -> anyhow::Result<()> {
    on_a_local_cloud(async |client| {
        unicorn::seed::images(&project()?, client).await?;
        publish(client, "Main Street", 11).await?;
        for path in [
            "/search/usa/anytown",
            "/search/USA/Anytown",
            "/search/usa/anytown/main-street",
            "/search/Usa/AnyTown/Main%20Street",
            "/search/U.S.A./%20Anytown/MAIN%20%20street",
        ] {
            assert_eq!(search(client, path).await?.len(), 1, "{path}");
        }
        let details = client.get("/properties/USA/Anytown/Main%20Street/11").await?;
        assert_eq!((details.status, &details.body["number"]), (StatusCode::OK, &json!(11)));
        Ok(())
    })
}

/// Row 26: number 11 matched 111, street main matched main-street.
#[test]
fn a_street_and_a_number_are_matched_whole() -> anyhow::Result<()> {
    on_a_local_cloud(async |client| {
        unicorn::seed::images(&project()?, client).await?;
        let published =
            [("Main Street", 111), ("Main", 5)].map(|(street, number)| publish(client, street, number));
        futures::future::try_join_all(published).await?;
        let streets =
            |found: Vec<(String, u64)>| found.into_iter().map(|(_, number)| number).collect::<Vec<_>>();
        assert_eq!(streets(search(client, "/search/usa/anytown/main").await?), [5]);
        assert_eq!(streets(search(client, "/search/usa/anytown/main-street").await?), [111]);
        assert_eq!(streets(search(client, "/search/usa/any").await?), [0; 0]);
        assert_eq!(client.get("/properties/usa/anytown/main-street/11").await?.status, StatusCode::NOT_FOUND);
        Ok(())
    })
}

/// All text in all log groups, each line with its group.
async fn every_log(client: &Client) -> anyhow::Result<Vec<(String, String)>> {
    let groups = client.aws("Logs_20140328.DescribeLogGroups", &json!({"limit": 50})).await?;
    assert!(groups["nextToken"].is_null(), "there are more groups than one answer holds");
    let mut lines = Vec::new();
    for group in groups["logGroups"].as_array().unwrap() {
        let name = group["logGroupName"].as_str().unwrap();
        let mut token = Value::Null;
        loop {
            let mut input = json!({"logGroupName": name});
            if !token.is_null() {
                input["nextToken"] = token;
            }
            let mut page = client.aws("Logs_20140328.FilterLogEvents", &input).await?;
            for event in page["events"].as_array().unwrap() {
                lines.push((name.to_owned(), event["message"].as_str().unwrap().to_owned()));
            }
            token = page["nextToken"].take();
            if token.is_null() {
                break;
            }
        }
    }
    Ok(lines)
}

/// Row 30: task tokens were logged. A log must not have a seller's name either.
#[test]
fn no_log_holds_a_task_token_or_a_sellers_name() -> anyhow::Result<()> {
    on_a_local_cloud(async |client| {
        unicorn::seed::images(&project()?, client).await?;
        Flow::new(client).run().await?;
        // An event whose handling fails is logged too, and must not be logged whole.
        let waits =
            json!({"task_token": "token-of-nobody", "property_id": "not a property", "execution_arn": "x"});
        client.invoke("uni-prop-local-await-contract-approval", &waits).await?;

        // An aborted execution leaves its row, which has a real token.
        let rows =
            client.aws("DynamoDB_20120810.Scan", &json!({"TableName": "uni-prop-local-approvals"})).await?;
        let rows = rows["Items"].as_array().unwrap();
        let mut secrets: Vec<&str> = rows.iter().filter_map(|row| row["task_token"]["S"].as_str()).collect();
        assert!(!secrets.is_empty(), "a token has been stored: {rows:?}");
        secrets.extend(["token-of-nobody", SELLER]);

        let lines = every_log(client).await?;
        let groups: BTreeSet<&str> = lines.iter().map(|(group, _)| group.as_str()).collect();
        for written in [
            "/aws/lambda/uni-prop-local-await-contract-approval",
            "/aws/vendedlogs/states/uni-prop-local-approval",
        ] {
            assert!(groups.contains(written), "{written} is among {groups:?}");
        }
        for (group, line) in &lines {
            for secret in &secrets {
                assert!(!line.contains(secret), "{group} holds {secret}: {line}");
            }
        }
        Ok(())
    })
}
