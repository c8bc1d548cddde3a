//! The resources that SAM generates, and their tags.

use serde_json::{Map, Value, json};

use crate::template::document::Declared;

/// Resources by logical id.
pub(super) type Generated = Vec<(String, Declared)>;

pub(super) fn get_att_arn(id: &str) -> Value {
    json!({ "Fn::GetAtt": [id, "Arn"] })
}

/// The tag that SAM adds, and the resource's own.
pub(super) fn tags(creator: &str, own: Option<Map<String, Value>>) -> Value {
    let mut tags = Map::from_iter([(format!("{creator}:createdBy"), json!("SAM"))]);
    tags.extend(own.unwrap_or_default());
    tag_list(tags)
}

/// The types to which SAM propagates tags: not to rules and event source mappings, which it cannot tag.
const TAGGED: [&str; 5] = [
    "AWS::ApiGateway::RestApi",
    "AWS::ApiGateway::Stage",
    "AWS::IAM::Role",
    "AWS::Lambda::Function",
    "AWS::StepFunctions::StateMachine",
];

/// With `PropagateTags`, SAM puts the resource's own tags on all generated resources that can carry any, in
/// the place of the tags that are there, its own `createdBy` included.
/// <https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/sam-resource-function.html>,
/// `PropagateTags`; the types are from the model classes of SAM's public translator.
pub(super) fn propagate(
    propagate: Option<Value>,
    own: Option<Map<String, Value>>,
    resources: &mut Generated,
) {
    let Some(own) = own.filter(|own| propagate == Some(Value::Bool(true)) && !own.is_empty()) else { return };
    for (_, declared) in resources {
        if TAGGED.contains(&declared.kind.as_str()) {
            declared.properties.insert("Tags".to_owned(), tag_list(own.clone()));
        }
    }
}

pub(super) fn tag_list(own: Map<String, Value>) -> Value {
    own.into_iter().map(|(key, value)| json!({ "Key": key, "Value": value })).collect()
}
