//! Rules and their targets, as templates and API callers make them.

use cloud_core::resource::Resource;

use super::*;

fn rule_resource(properties: Value) -> Resource {
    let mut all = json!({ "Name": "r", "EventPattern": { "source": ["app"] } });
    for (name, property) in properties.as_object().unwrap() {
        all[name] = property.clone();
    }
    resource("AWS::Events::Rule", all)
}

#[tokio::test]
async fn a_rule_of_an_earlier_template_is_gone_at_the_next_start_and_one_made_by_api_stays() {
    let cloud = manual();
    cloud.deploy(&rule_resource(json!({ "Name": "stays" }))).await.unwrap();
    cloud.deploy(&rule_resource(json!({ "Name": "goes" }))).await.unwrap();
    rule(&cloud, "default", "mine", app(), json!([{ "Id": "q", "Arn": QUEUE }])).await;
    // As after a restart with another template.
    cloud
        .store
        .write(|tx| tx.execute("UPDATE events_rules SET name = 'old' WHERE name = 'goes'", []))
        .unwrap();
    start(&cloud);
    let rules = ok(&cloud, "ListRules", json!({})).await;
    let names: Vec<&Value> = rules["Rules"].as_array().unwrap().iter().map(|rule| &rule["Name"]).collect();
    assert_eq!(names, ["mine", "stays"]);
}

#[tokio::test]
async fn a_redeployed_rule_has_exactly_the_targets_of_its_template() {
    let cloud = manual();
    let targets = |ids: &[&str]| {
        let targets: Vec<Value> = ids.iter().map(|id| json!({ "Id": id, "Arn": QUEUE })).collect();
        json!({ "Targets": targets, "State": "ENABLED", "Tags": [{ "Key": "Owner", "Value": "me" }] })
    };
    cloud.deploy(&rule_resource(targets(&["a", "b"]))).await.unwrap();
    cloud.deploy(&rule_resource(targets(&["b", "c"]))).await.unwrap();
    let listed = ok(&cloud, "ListTargetsByRule", json!({ "Rule": "r" })).await;
    let ids: Vec<&Value> = listed["Targets"].as_array().unwrap().iter().map(|target| &target["Id"]).collect();
    assert_eq!(ids, ["b", "c"]);
    let arn = "arn:aws:events:us-east-1:123456789012:rule/r";
    let tags = ok(&cloud, "ListTagsForResource", json!({ "ResourceARN": arn })).await;
    assert_eq!(tags["Tags"], json!([{ "Key": "Owner", "Value": "me" }]));
}

#[tokio::test]
async fn what_a_template_asks_for_and_is_not_emulated_is_refused_by_name() {
    let cloud = manual();
    for (properties, named) in [
        (json!({ "ScheduleExpression": "rate(1 day)" }), "ScheduleExpression"),
        (json!({ "EventPattern": { "a": [{ "regexp": "x" }] } }), "regexp"),
        (json!({ "EventBusName": "none" }), "EventBusName"),
        (json!({ "State": "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS" }), "State"),
        (json!({ "Targets": [{ "Id": "q", "Arn": QUEUE, "SqsParameters": {} }] }), "SqsParameters"),
        (json!({ "Targets": [{ "Id": "q", "Arn": "arn:aws:sns:us-east-1:1:t" }] }), "arn:aws:sns"),
    ] {
        let refusal = cloud.deploy(&rule_resource(properties)).await.unwrap_err().to_string();
        assert!(refusal.contains(named), "{refusal}");
    }
    let bus = resource("AWS::Events::EventBus", json!({ "Name": "b", "EventSourceName": "x" }));
    let refusal = cloud.deploy(&bus).await.unwrap_err().to_string();
    assert!(refusal.contains("EventSourceName"), "{refusal}");
}

#[tokio::test]
async fn a_disabled_rule_matches_nothing() {
    let cloud = manual();
    rule(&cloud, "default", "r", app(), json!([{ "Id": "q", "Arn": QUEUE }])).await;
    ok(&cloud, "DisableRule", json!({ "Name": "r" })).await;
    put(&cloud, "default", json!({})).await;
    assert!(cloud.store.read(store::waiting_targets).unwrap().is_empty());
    ok(&cloud, "EnableRule", json!({ "Name": "r" })).await;
    put(&cloud, "default", json!({})).await;
    assert_eq!(cloud.store.read(store::waiting_targets).unwrap(), [QUEUE]);
}

#[tokio::test]
async fn a_rule_with_targets_cannot_be_deleted_nor_a_bus_with_rules() {
    let cloud = manual();
    bus(&cloud, "b").await;
    rule(&cloud, "b", "r", app(), json!([{ "Id": "q", "Arn": QUEUE }])).await;
    let delete = json!({ "Name": "r", "EventBusName": "b" });
    assert_eq!(error(&cloud, "DeleteRule", delete.clone()).await.code, "ValidationException");
    assert_eq!(error(&cloud, "DeleteEventBus", json!({ "Name": "b" })).await.code, "ValidationException");
    ok(&cloud, "RemoveTargets", json!({ "Rule": "r", "EventBusName": "b", "Ids": ["q"] })).await;
    ok(&cloud, "DeleteRule", delete.clone()).await;
    assert_eq!(error(&cloud, "DescribeRule", delete).await.code, "ResourceNotFoundException");
    ok(&cloud, "DeleteEventBus", json!({ "Name": "b" })).await;
    let gone = error(&cloud, "DescribeEventBus", json!({ "Name": "b" })).await;
    assert_eq!(gone.code, "ResourceNotFoundException");
    assert_eq!(
        error(&cloud, "DeleteEventBus", json!({ "Name": "default" })).await.code,
        "ValidationException"
    );
}

#[tokio::test]
async fn test_event_pattern_says_whether_an_event_matches() {
    let cloud = manual();
    let event = json!({ "id": "1", "account": "1", "source": "app", "time": "2020-01-01T00:00:00Z", "region": "r", "detail-type": "t" });
    let test = |pattern: &str, event: &Value| json!({ "EventPattern": pattern, "Event": event.to_string() });
    let answer = ok(&cloud, "TestEventPattern", test(r#"{"source":["app"]}"#, &event)).await;
    assert_eq!(answer["Result"], true);
    let answer = ok(&cloud, "TestEventPattern", test(r#"{"source":["other"]}"#, &event)).await;
    assert_eq!(answer["Result"], false);
    let broken = error(&cloud, "TestEventPattern", test(r#"{"source":"app"}"#, &event)).await;
    assert_eq!(broken.code, "InvalidEventPatternException");
    assert_eq!(
        broken.message,
        "Event pattern is not valid. Reason: \"source\" must be an object or an array"
    );
    for member in ["id", "account", "source", "time", "region", "detail-type"] {
        let mut event = event.clone();
        event.as_object_mut().unwrap().remove(member);
        let incomplete = error(&cloud, "TestEventPattern", test(r#"{"source":["app"]}"#, &event)).await;
        assert_eq!(
            (incomplete.code.as_str(), incomplete.message.as_str()),
            ("ValidationException", "Parameter Event is not valid.")
        );
    }
}

#[tokio::test]
async fn rules_are_listed_in_pages_and_what_is_not_emulated_is_refused() {
    let cloud = manual();
    for name in ["a1", "a2", "b1"] {
        ok(&cloud, "PutRule", json!({ "Name": name, "EventPattern": app().to_string() })).await;
    }
    let first = ok(&cloud, "ListRules", json!({ "NamePrefix": "a", "Limit": 1 })).await;
    let second = json!({ "NamePrefix": "a", "Limit": 1, "NextToken": first["NextToken"] });
    let second = ok(&cloud, "ListRules", second).await;
    assert_eq!((&first["Rules"][0]["Name"], &second["Rules"][0]["Name"]), (&json!("a1"), &json!("a2")));
    assert!(second.get("NextToken").is_none());
    for action in ["CreateEndpoint", "PutPermission", "TagResource", "CancelReplay"] {
        assert_eq!(error(&cloud, action, json!({})).await.code, "NotImplemented");
    }
    let schedule = json!({ "Name": "s", "ScheduleExpression": "rate(1 day)" });
    assert!(error(&cloud, "PutRule", schedule).await.message.contains("ScheduleExpression"));
}

#[tokio::test]
async fn a_rule_takes_five_targets() {
    let cloud = manual();
    let targets = |count: usize| {
        let targets: Vec<Value> =
            (0..count).map(|n| json!({ "Id": format!("t{n}"), "Arn": QUEUE })).collect();
        json!({ "Rule": "r", "Targets": targets })
    };
    ok(&cloud, "PutRule", json!({ "Name": "r", "EventPattern": app().to_string() })).await;
    ok(&cloud, "PutTargets", targets(5)).await;
    // The same ids again replace those that are there.
    ok(&cloud, "PutTargets", targets(5)).await;
    let sixth = json!({ "Rule": "r", "Targets": [{ "Id": "more", "Arn": QUEUE }] });
    assert_eq!(error(&cloud, "PutTargets", sixth).await.code, "LimitExceededException");
    assert_eq!(error(&cloud, "PutTargets", targets(6)).await.code, "LimitExceededException");
    let nowhere = json!({ "Rule": "none", "Targets": [{ "Id": "q", "Arn": QUEUE }] });
    let nowhere = error(&cloud, "PutTargets", nowhere).await;
    assert_eq!(nowhere.message, "Rule none does not exist on EventBus default.");
}

#[tokio::test]
async fn names_and_limits_are_refused_in_the_words_of_aws() {
    let cloud = manual();
    let pattern = app().to_string();
    let message = async |action: &str, input: Value| error(&cloud, action, input).await.message;
    let odd = message("PutRule", json!({ "Name": "a b", "EventPattern": pattern })).await;
    assert_eq!(
        odd,
        "1 validation error detected: Value 'a b' at 'name' failed to satisfy constraint: Member must satisfy regular expression pattern: [\\.\\-_A-Za-z0-9]+"
    );
    let long = message("PutRule", json!({ "Name": "a".repeat(65), "EventPattern": pattern })).await;
    assert!(long.ends_with("Member must have length less than or equal to 64"), "{long}");
    ok(&cloud, "PutRule", json!({ "Name": "r", "EventPattern": pattern })).await;
    let id = json!({ "Rule": "r", "Targets": [{ "Id": "a b", "Arn": QUEUE }] });
    let id = message("PutTargets", id).await;
    assert!(id.contains("Value 'a b' at 'targets.1.member.id'"), "{id}");
    let none = message("PutTargets", json!({ "Rule": "r", "Targets": [] })).await;
    assert!(none.ends_with("Member must have length greater than or equal to 1"), "{none}");
    let state = json!({ "Name": "r", "EventPattern": pattern, "State": "ON" });
    let state = message("PutRule", state).await;
    assert!(state.contains("'ON' at 'state'") && state.contains("[ENABLED, DISABLED, "), "{state}");
    let unnamed = message("PutRule", json!({ "EventPattern": pattern })).await;
    assert!(unnamed.ends_with("Value null at 'name' failed to satisfy constraint: Member must not be null"));
    let unknown = message("CreateEventBus", json!({ "Name": "b", "EventSourceName": "x" })).await;
    assert_eq!(unknown, "The parameter EventSourceName is not emulated by the local cloud.");
    let number = error(&cloud, "PutRule", json!({ "Name": 5 })).await;
    assert_eq!(number.code, "SerializationException");
    let nothing = message("PutRule", json!({ "Name": "r" })).await;
    assert_eq!(nothing, "Parameter(s) EventPattern or ScheduleExpression must be specified.");
    let limit = message("ListRules", json!({ "Limit": 101 })).await;
    assert!(limit.contains("'101' at 'limit'") && limit.ends_with("less than or equal to 100"), "{limit}");
    let limit = message("ListEventBuses", json!({ "Limit": 0 })).await;
    assert!(limit.contains("'0' at 'limit'") && limit.ends_with("greater than or equal to 1"), "{limit}");
    let slash = message("CreateEventBus", json!({ "Name": "a/b" })).await;
    assert_eq!(slash, "Event bus name must not contain '/'.");
    let nowhere = message("ListRules", json!({ "EventBusName": "none" })).await;
    assert_eq!(nowhere, "Event bus none does not exist.");
    let missing = message("DescribeRule", json!({ "Name": "none" })).await;
    assert_eq!(missing, "Rule none does not exist on EventBus default.");
}

#[tokio::test]
async fn a_disabled_rule_and_the_rules_of_api_callers_are_as_they_were_after_a_restart() {
    let folder = Folder::new();
    let cloud = folder.open();
    cloud.deploy(&rule_resource(json!({ "Name": "declared" }))).await.unwrap();
    ok(&cloud, "DisableRule", json!({ "Name": "declared" })).await;
    let tags = json!([{ "Key": "k", "Value": "v" }]);
    ok(&cloud, "PutRule", json!({ "Name": "mine", "EventPattern": app().to_string(), "Tags": tags })).await;
    rule(&cloud, "default", "mine", app(), json!([{ "Id": "q", "Arn": QUEUE }])).await;
    let cloud = folder.open();
    cloud.deploy(&rule_resource(json!({ "Name": "declared" }))).await.unwrap();
    start(&cloud);
    let state = async |cloud: &Arc<Cloud>| {
        ok(cloud, "DescribeRule", json!({ "Name": "declared" })).await["State"].clone()
    };
    assert_eq!(state(&cloud).await, "DISABLED");
    let targets = ok(&cloud, "ListTargetsByRule", json!({ "Rule": "mine" })).await;
    assert_eq!(targets["Targets"][0]["Arn"], QUEUE);
    let arn = names::rule_arn(&cloud, "default", "mine");
    let listed = ok(&cloud, "ListTagsForResource", json!({ "ResourceARN": arn })).await;
    assert_eq!(listed["Tags"], tags);
    // A template that asks for another state gets it, and for the first one again too.
    for wanted in ["DISABLED", "ENABLED"] {
        cloud.deploy(&rule_resource(json!({ "Name": "declared", "State": wanted }))).await.unwrap();
        assert_eq!(state(&cloud).await, wanted);
    }
}

#[tokio::test]
async fn the_policy_of_a_bus_is_shown() {
    let cloud = manual();
    bus(&cloud, "b").await;
    let statement = json!({
        "Effect": "Allow", "Principal": { "AWS": "arn:aws:iam::123456789012:root" },
        "Action": "events:PutEvents", "Resource": names::bus_arn(&cloud, "b"),
    });
    let declare = async |id: &str, principal: Value| {
        let mut declared = json!({ "EventBusName": "b", "StatementId": id });
        match principal {
            Value::String(principal) => {
                declared["Action"] = "events:PutEvents".into();
                declared["Principal"] = principal.into();
            }
            _ => declared["Statement"] = statement.clone(),
        }
        cloud.deploy(&resource("AWS::Events::EventBusPolicy", declared)).await.unwrap();
    };
    declare("own", Value::Null).await;
    declare("all", json!("*")).await;
    declare("other", json!("999999999999")).await;
    start(&cloud);
    let policy = async || {
        let described = ok(&cloud, "DescribeEventBus", json!({ "Name": "b" })).await;
        described["Policy"].as_str().map(|policy| serde_json::from_str::<Value>(policy).unwrap())
    };
    let shown = policy().await.unwrap();
    let ids: Vec<&Value> =
        shown["Statement"].as_array().unwrap().iter().map(|statement| &statement["Sid"]).collect();
    assert_eq!(shown["Version"], "2012-10-17");
    assert_eq!(ids, ["own", "all", "other"]);
    assert_eq!(shown["Statement"][0]["Principal"], statement["Principal"]);
    assert_eq!(shown["Statement"][1]["Principal"], "*");
    assert_eq!(shown["Statement"][2]["Principal"]["AWS"], "arn:aws:iam::999999999999:root");
    // As after a restart with a template that has no policy.
    declare_anew_for_tests(&cloud);
    deploy::forget_undeclared(&cloud).unwrap();
    assert!(policy().await.is_none());
    let both =
        json!({ "EventBusName": "b", "StatementId": "s", "Statement": {}, "Action": "events:PutEvents" });
    let refusal = cloud.deploy(&resource("AWS::Events::EventBusPolicy", both)).await.unwrap_err();
    assert!(refusal.to_string().contains("either Statement"), "{refusal}");
}
