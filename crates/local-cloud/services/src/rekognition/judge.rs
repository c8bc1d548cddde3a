//! The labels of an image, from its metadata and its name.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cloud_core::AwsError;
use serde_json::{Value, json};

/// Bytes of an image in an S3 object: 15 MB.
/// <https://docs.aws.amazon.com/rekognition/latest/dg/limits.html>
pub(super) const IMAGE_LIMIT: usize = 15 * 1024 * 1024;

/// The confidence of a label without its own.
const CONFIDENCE: f64 = 98.0;

/// The version of the taxonomy that [`parent_of`] is from.
const MODEL_VERSION: &str = "7.0";

/// The answer for an object with `Body` in base64 and `Metadata`, as `GetObject` answers it here.
pub(super) fn judge(name: &str, object: &Value, least: f64) -> Result<Value, AwsError> {
    let body = object.get("Body").and_then(Value::as_str).unwrap_or_default();
    let bytes = STANDARD.decode(body).map_err(AwsError::internal)?;
    if bytes.len() > IMAGE_LIMIT {
        return Err(AwsError::client("ImageTooLargeException", "Image size is too large"));
    }
    if bytes.is_empty() {
        return Err(AwsError::client("InvalidParameterException", "Request has invalid parameters"));
    }
    if !is_image(&bytes) {
        return Err(AwsError::client("InvalidImageFormatException", "Request has invalid image format"));
    }
    let labels: Vec<Value> = labels_of(name, object.get("Metadata"))
        .into_iter()
        .filter(|(_, confidence)| *confidence >= least)
        .map(|(name, confidence)| {
            json!({
                "Name": name,
                "ParentName": parent_of(&name),
                "Confidence": confidence,
                "TaxonomyLevel": level_of(&name),
            })
        })
        .collect();
    Ok(json!({"ModerationLabels": labels, "ModerationModelVersion": MODEL_VERSION, "ContentTypes": []}))
}

/// Rekognition reads JPEG and PNG.
/// <https://docs.aws.amazon.com/rekognition/latest/dg/limits.html>
fn is_image(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\xff\xd8\xff") || bytes.starts_with(b"\x89PNG\r\n\x1a\n")
}

fn labels_of(name: &str, metadata: Option<&Value>) -> Vec<(String, f64)> {
    let listed = metadata.and_then(Value::as_object).and_then(|metadata| {
        metadata.iter().find_map(|(key, value)| {
            let key = key.to_ascii_lowercase();
            let key = key.strip_prefix("x-amz-meta-").unwrap_or(&key);
            if key == "moderation-labels" { value.as_str() } else { None }
        })
    });
    if let Some(listed) = listed {
        return listed.split(',').map(str::trim).filter(|label| !label.is_empty()).map(label).collect();
    }
    let file = name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
    if file.split(|letter: char| !letter.is_alphanumeric()).any(|word| word == "unsafe") {
        // Rekognition gives a label together with its parent.
        return vec![("Violence".into(), CONFIDENCE), ("Weapons".into(), CONFIDENCE)];
    }
    Vec::new()
}

fn label(text: &str) -> (String, f64) {
    let (name, confidence) = text.rsplit_once(':').unwrap_or((text, ""));
    match confidence.trim().parse() {
        Ok(confidence) => (name.trim().into(), confidence),
        Err(_) => (text.into(), CONFIDENCE),
    }
}

/// The parent of a label of the second or third level; empty for every other label.
/// <https://docs.aws.amazon.com/rekognition/latest/dg/moderation-api.html>
fn parent_of(label: &str) -> &'static str {
    match label {
        "Weapons" | "Graphic Violence" => "Violence",
        "Weapon Violence" | "Physical Violence" | "Self-Harm" | "Blood & Gore" | "Explosions and Blasts" => {
            "Graphic Violence"
        }
        "Death and Emaciation" | "Crashes" => "Visually Disturbing",
        "Explicit Nudity" | "Explicit Sexual Activity" | "Sex Toys" => "Explicit",
        "Exposed Male Genitalia"
        | "Exposed Female Genitalia"
        | "Exposed Buttocks or Anus"
        | "Exposed Female Nipple" => "Explicit Nudity",
        "Products" | "Drugs & Tobacco Paraphernalia & Use" => "Drugs & Tobacco",
        "Alcohol Use" | "Alcoholic Beverages" => "Alcohol",
        "Middle Finger" => "Rude Gestures",
        "Nazi Party" | "White Supremacy" | "Extremist" => "Hate Symbols",
        _ => "",
    }
}

/// The level in the taxonomy, 1 to 3.
fn level_of(label: &str) -> u8 {
    match parent_of(label) {
        "" => 1,
        parent => 1 + level_of(parent),
    }
}
