//! Message attributes, and the MD5 digests by which SDKs verify messages.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};

/// A message attribute as it is on the wire; a binary value is base64 text.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(super) struct Attribute {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub string_value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binary_value: Option<String>,
    /// Reserved by AWS; must be empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub string_list_values: Vec<String>,
    /// Reserved by AWS; must be empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub binary_list_values: Vec<String>,
    pub data_type: String,
}

impl Attribute {
    /// The value's bytes; `None` where a binary value is not base64 or there is no value.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        match (&self.string_value, &self.binary_value) {
            (Some(text), None) => Some(text.clone().into_bytes()),
            (None, Some(text)) => STANDARD.decode(text).ok(),
            _ => None,
        }
    }
}

pub(super) type Attributes = BTreeMap<String, Attribute>;

pub(super) fn of_body(body: &str) -> String {
    hex::encode(Md5::digest(body))
}

/// The digest over attributes in the order of their names; `None` where there are none. The length in four
/// bytes precedes each name, type and value, and a byte for its kind precedes the value (SQSDeveloperGuide,
/// sqs-message-metadata, "Calculating the MD5 message digest for message attributes").
pub(super) fn of_attributes(attributes: &Attributes) -> Option<String> {
    if attributes.is_empty() {
        return None;
    }
    let mut digest = Md5::new();
    let mut part = |bytes: &[u8], kind: Option<u8>| {
        digest.update(kind.as_slice());
        digest.update((bytes.len() as u32).to_be_bytes());
        digest.update(bytes);
    };
    for (name, attribute) in attributes {
        part(name.as_bytes(), None);
        part(attribute.data_type.as_bytes(), None);
        let kind = if attribute.binary_value.is_some() { 2 } else { 1 };
        part(&attribute.bytes().unwrap_or_default(), Some(kind));
    }
    Some(hex::encode(digest.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(json: serde_json::Value) -> Attributes {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn the_body_digest_is_the_md5_of_its_utf8_bytes() {
        assert_eq!(of_body("This is a test message"), "fafb00f5732ab283681e124bf8747ed1");
    }

    #[test]
    fn the_attribute_digest_is_the_one_of_awss_published_layout() {
        // Computed with Python's hashlib over the documented layout, independently of this code.
        let given = attributes(serde_json::json!({
            "b": { "DataType": "Binary", "BinaryValue": "AAEC" },
            "a": { "DataType": "String", "StringValue": "é" },
            "n": { "DataType": "Number.int", "StringValue": "42" },
        }));
        assert_eq!(of_attributes(&given).as_deref(), Some("a73b879afca0707b10be959ad197dcb3"));
        assert_eq!(of_attributes(&Attributes::new()), None);
    }
}
