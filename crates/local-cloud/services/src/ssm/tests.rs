use std::sync::Arc;

use cloud_core::resource::Resource;
use cloud_core::{AwsError, Cloud};
use serde_json::{Value, json};

async fn put(cloud: &Arc<Cloud>, name: &str, value: &str) -> Result<Value, AwsError> {
    cloud.call("ssm", "PutParameter", json!({"Name": name, "Value": value, "Type": "String"})).await
}

fn resource(properties: Value) -> Resource {
    Resource {
        stack: "uni-prop-local".into(),
        logical_id: "BusName".into(),
        kind: "AWS::SSM::Parameter".into(),
        physical_id: "/uni-prop/local/bus".into(),
        arn: String::new(),
        properties,
        metadata: Value::Null,
        file: "template.yaml".into(),
    }
}

#[tokio::test]
async fn a_deployed_parameter_is_found_by_name_arn_and_version() {
    let cloud = crate::testing::cloud();
    let parameter = resource(json!({"Type": "String", "Value": "unicorn", "Tags": {"Owner": "us"}}));
    cloud.deploy(&parameter).await.unwrap();
    cloud.deploy(&parameter).await.unwrap();
    let arn = "arn:aws:ssm:us-east-1:123456789012:parameter/uni-prop/local/bus";
    for name in ["/uni-prop/local/bus", "/uni-prop/local/bus:1", arn] {
        let found = cloud.call("ssm", "GetParameter", json!({"Name": name})).await.unwrap();
        let found = &found["Parameter"];
        assert_eq!((&found["Value"], &found["Version"]), (&json!("unicorn"), &json!(1)), "{name}");
        assert_eq!(found["ARN"], arn);
    }
}

#[tokio::test]
async fn a_changed_value_is_a_new_version() {
    let cloud = crate::testing::cloud();
    cloud.deploy(&resource(json!({"Type": "String", "Value": "one"}))).await.unwrap();
    cloud.deploy(&resource(json!({"Type": "String", "Value": "two"}))).await.unwrap();
    let name = "/uni-prop/local/bus";
    let found = cloud.call("ssm", "GetParameter", json!({"Name": name})).await.unwrap();
    assert_eq!(found["Parameter"]["Version"], 2);
    assert!(found["Parameter"].get("Selector").is_none());
    let first = cloud.call("ssm", "GetParameter", json!({"Name": format!("{name}:1")})).await.unwrap();
    let first = &first["Parameter"];
    assert_eq!((&first["Value"], &first["Version"]), (&json!("one"), &json!(1)));
    assert_eq!((&first["Name"], &first["Selector"]), (&json!(name), &json!(":1")));
    for selector in ["3", "0", "production"] {
        let input = json!({"Name": format!("{name}:{selector}")});
        let error = cloud.call("ssm", "GetParameter", input).await.unwrap_err();
        assert_eq!(error.code, "ParameterVersionNotFound");
        let both = json!({"Names": [name, format!("{name}:{selector}")]});
        let both = cloud.call("ssm", "GetParameters", both).await.unwrap();
        assert_eq!(both["Parameters"].as_array().unwrap().len(), 1);
        assert_eq!(both["InvalidParameters"], json!([format!("{name}:{selector}")]));
    }
}

#[tokio::test]
async fn the_hundred_newest_versions_are_kept() {
    let cloud = crate::testing::cloud();
    for n in 1..=101 {
        let input = json!({"Name": "p", "Value": n.to_string(), "Type": "String", "Overwrite": true});
        assert_eq!(cloud.call("ssm", "PutParameter", input).await.unwrap()["Version"], n);
    }
    let get = async |name: &str| cloud.call("ssm", "GetParameter", json!({"Name": name})).await;
    assert_eq!(get("p:2").await.unwrap()["Parameter"]["Value"], "2");
    assert_eq!(get("p:1").await.unwrap_err().code, "ParameterVersionNotFound");
}

#[tokio::test]
async fn parameters_are_deleted_together() {
    let cloud = crate::testing::cloud();
    put(&cloud, "here", "x").await.unwrap();
    let gone = json!({"Names": ["here", "nobody"]});
    let gone = cloud.call("ssm", "DeleteParameters", gone).await.unwrap();
    assert_eq!(gone, json!({"DeletedParameters": ["here"], "InvalidParameters": ["nobody"]}));
    let error = cloud.call("ssm", "GetParameter", json!({"Name": "here"})).await.unwrap_err();
    assert_eq!(error.code, "ParameterNotFound");
}

#[tokio::test]
async fn a_missing_parameter_is_an_error_alone_and_an_entry_among_others() {
    let cloud = crate::testing::cloud();
    put(&cloud, "here", "x").await.unwrap();
    let error = cloud.call("ssm", "GetParameter", json!({"Name": "there"})).await.unwrap_err();
    assert_eq!((error.status, error.code.as_str()), (400, "ParameterNotFound"));
    let both = cloud.call("ssm", "GetParameters", json!({"Names": ["here", "there"]})).await.unwrap();
    assert_eq!(both["Parameters"][0]["Name"], "here");
    assert_eq!(both["InvalidParameters"], json!(["there"]));
}

#[tokio::test]
async fn a_parameter_is_overwritten_only_where_that_is_asked_for() {
    let cloud = crate::testing::cloud();
    put(&cloud, "p", "one").await.unwrap();
    assert_eq!(put(&cloud, "p", "two").await.unwrap_err().code, "ParameterAlreadyExists");
    let input = json!({"Name": "p", "Value": "two", "Overwrite": true});
    assert_eq!(cloud.call("ssm", "PutParameter", input).await.unwrap()["Version"], 2);
}

#[tokio::test]
async fn a_path_holds_its_own_level_and_recursively_all_below_page_by_page() {
    let cloud = crate::testing::cloud();
    for name in ["/a/1", "/a/2", "/a/b/3", "/ab/4", "a5"] {
        put(&cloud, name, "x").await.unwrap();
    }
    let names = |answer: &Value| -> Vec<String> {
        let parameters = answer["Parameters"].as_array().unwrap();
        parameters.iter().map(|found| found["Name"].as_str().unwrap().to_string()).collect()
    };
    let own = cloud.call("ssm", "GetParametersByPath", json!({"Path": "/a"})).await.unwrap();
    assert_eq!(names(&own), ["/a/1", "/a/2"]);
    let mut input = json!({"Path": "/a/", "Recursive": true, "MaxResults": 2});
    let first = cloud.call("ssm", "GetParametersByPath", input.clone()).await.unwrap();
    assert_eq!(names(&first), ["/a/1", "/a/2"]);
    input["NextToken"] = first["NextToken"].clone();
    let second = cloud.call("ssm", "GetParametersByPath", input).await.unwrap();
    assert_eq!(names(&second), ["/a/b/3"]);
    assert!(second["NextToken"].is_null());
}

#[tokio::test]
async fn a_secret_is_refused_and_so_are_names_that_aws_reserves() {
    let cloud = crate::testing::cloud();
    let secret = json!({"Name": "p", "Value": "x", "Type": "SecureString"});
    assert_eq!(cloud.call("ssm", "PutParameter", secret).await.unwrap_err().code, "NotImplemented");
    let tagged = json!({"Name": "p", "Value": "x", "Type": "String", "Tags": [{"Key": "a", "Value": "b"}]});
    assert_eq!(cloud.call("ssm", "PutParameter", tagged).await.unwrap_err().code, "NotImplemented");
    let filtered = json!({"Path": "/", "ParameterFilters": [{"Key": "Type", "Values": ["String"]}]});
    let refused = cloud.call("ssm", "GetParametersByPath", filtered).await.unwrap_err();
    assert!(refused.message.contains("ParameterFilters"), "{refused}");
    assert_eq!(put(&cloud, "/aws/x", "x").await.unwrap_err().code, "ValidationException");
    assert_eq!(put(&cloud, "a b", "x").await.unwrap_err().code, "ValidationException");
    assert_eq!(put(&cloud, "long", &"x".repeat(4097)).await.unwrap_err().code, "ValidationException");
}

#[tokio::test]
async fn an_unknown_property_is_refused_by_name() {
    let cloud = crate::testing::cloud();
    let odd = resource(json!({"Type": "String", "Value": "x", "Policies": "[]"}));
    let refusal = cloud.deploy(&odd).await.unwrap_err();
    assert!(refusal.reason.contains("Policies"), "{refusal}");
}

#[tokio::test]
async fn no_more_than_ten_names_are_taken_at_once() {
    let cloud = crate::testing::cloud();
    for (count, fits) in [(0, false), (10, true), (11, false)] {
        let names: Vec<String> = (0..count).map(|n| format!("p{n}")).collect();
        for action in ["GetParameters", "DeleteParameters"] {
            let answer = cloud.call("ssm", action, json!({"Names": names})).await;
            assert_eq!(
                answer.map_err(|error| error.code).err(),
                (!fits).then(|| "ValidationException".into())
            );
        }
    }
}

#[tokio::test]
async fn a_hierarchy_has_fifteen_levels_at_most() {
    let cloud = crate::testing::cloud();
    put(&cloud, &"/a".repeat(15), "x").await.unwrap();
    let error = put(&cloud, &"/a".repeat(16), "x").await.unwrap_err();
    assert_eq!(error.code, "HierarchyLevelLimitExceededException");
}

#[tokio::test]
async fn the_tier_decides_how_long_a_value_may_be() {
    let cloud = crate::testing::cloud();
    let with = |tier: &str, length: usize| {
        let value = "x".repeat(length);
        json!({"Name": "p", "Value": value, "Type": "String", "Tier": tier, "Overwrite": true})
    };
    for (tier, length, fits) in [
        ("Standard", 4096, true),
        ("Standard", 4097, false),
        ("Advanced", 8192, true),
        ("Advanced", 8193, false),
    ] {
        let answer = cloud.call("ssm", "PutParameter", with(tier, length)).await;
        assert_eq!(answer.is_ok(), fits, "{tier} {length}");
    }
}
