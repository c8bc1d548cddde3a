//! A documented stand-in for Rekognition `DetectModerationLabels`. It reads the image from
//! S3 and promises AWS's limits, errors and answer; it never looks at the picture.
//!
//! How it judges: the object's metadata `x-amz-meta-moderation-labels` lists labels, comma
//! separated, each a name with an optional confidence (`Violence, Alcohol:61.5`); an object
//! without it is labelled when its file name has the word `unsafe` (`unsafe-kitchen.jpg`).
//! Anything else is a harmless image.

use std::sync::Arc;

use base64::Engine as _;
use cloud_core::service::{Action, JSON_1_1, Protocol, Service};
use cloud_core::{AwsError, Cloud};
use serde::Deserialize;
use serde_json::{Value, json};

/// The service.
pub static SERVICE: Service = Service {
    protocols: &[Protocol::Json {
        content_type: JSON_1_1,
        targets: &["RekognitionService"],
        error_prefix: "",
        forward: None,
    }],
    actions: ACTIONS,
    ..Service::new("rekognition")
};

/// The largest image in an S3 object: 15 MB.
/// <https://docs.aws.amazon.com/rekognition/latest/dg/limits.html>
const IMAGE_LIMIT: usize = 15 * 1024 * 1024;

/// Labels below are left out where the request says nothing.
/// <https://docs.aws.amazon.com/rekognition/latest/APIReference/API_DetectModerationLabels.html>
const DEFAULT_MIN_CONFIDENCE: f64 = 50.0;

/// How sure a label without a confidence of its own is.
const CONFIDENCE: f64 = 98.0;

/// The version of the taxonomy that [`parent_of`] is from.
const MODEL_VERSION: &str = "7.0";

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct DetectModerationLabels {
    image: Image,
    min_confidence: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Image {
    s3_object: Option<S3Object>,
    bytes: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct S3Object {
    bucket: Option<String>,
    name: Option<String>,
}

fn invalid_parameter(message: &str) -> AwsError {
    AwsError::client("InvalidParameterException", message)
}

/// What Rekognition says of parameters that cannot be used together, and of images without
/// content.
const INVALID_PARAMETERS: &str = "Request has invalid parameters";

impl DetectModerationLabels {
    fn read(input: Value) -> Result<Self, AwsError> {
        let constraint = |what: &str, constraint: &str| {
            let message =
                format!("1 validation error detected: {what} failed to satisfy constraint: {constraint}");
            AwsError::client("ValidationException", message)
        };
        if input.get("Image").is_none_or(Value::is_null) {
            return Err(constraint("Value null at 'image'", "Member must not be null"));
        }
        let request: Self = serde_json::from_value(input)
            .map_err(|error| invalid_parameter(&format!("{INVALID_PARAMETERS}: {error}")))?;
        let what = format!("Value '{:?}' at 'minConfidence'", request.least());
        if request.least() < 0.0 {
            return Err(constraint(&what, "Member must have value greater than or equal to 0"));
        }
        if request.least() > 100.0 {
            return Err(constraint(&what, "Member must have value less than or equal to 100"));
        }
        Ok(request)
    }

    fn least(&self) -> f64 {
        self.min_confidence.unwrap_or(DEFAULT_MIN_CONFIDENCE)
    }

    /// Bucket and key of the image.
    fn object(&self) -> Result<(&str, &str), AwsError> {
        if self.image.bytes.is_some() {
            return Err(invalid_parameter("Image.Bytes is not emulated by the local cloud; use S3Object"));
        }
        let object = self.image.s3_object.as_ref();
        match object.and_then(|object| Some((object.bucket.as_deref()?, object.name.as_deref()?))) {
            Some((bucket, name)) => Ok((bucket, name)),
            None => Err(invalid_parameter(INVALID_PARAMETERS)),
        }
    }
}

async fn detect_moderation_labels(cloud: &Arc<Cloud>, input: Value) -> Result<Value, AwsError> {
    let request = DetectModerationLabels::read(input)?;
    let (bucket, name) = request.object()?;
    let object = cloud
        .call("s3", "GetObject", json!({"Bucket": bucket, "Key": name}))
        .await
        .map_err(|error| unreadable(&error))?;
    let answer = judge(name, &object, request.least())?;
    let labels = answer["ModerationLabels"].as_array().map_or(0, Vec::len);
    tracing::info!(target: "hop", service = "rekognition", resource = %name, labels, "image judged");
    Ok(answer)
}

/// Rekognition says the same for an object that is missing and for one that it may not read.
fn unreadable(error: &AwsError) -> AwsError {
    if error.is_server_fault() {
        return AwsError::new(500, "InternalServerError", error.to_string());
    }
    AwsError::client(
        "InvalidS3ObjectException",
        "Unable to get object metadata from S3. Check object key, region and/or access permissions.",
    )
}

/// What is to be said of an object as S3's `GetObject` answers it here: `Body` in base64, and
/// `Metadata`.
fn judge(name: &str, object: &Value, least: f64) -> Result<Value, AwsError> {
    let body = object.get("Body").and_then(Value::as_str).unwrap_or_default();
    let bytes = base64::engine::general_purpose::STANDARD.decode(body).map_err(AwsError::internal)?;
    if bytes.len() > IMAGE_LIMIT {
        return Err(AwsError::client("ImageTooLargeException", "Image size is too large"));
    }
    if bytes.is_empty() {
        return Err(invalid_parameter(INVALID_PARAMETERS));
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

/// JPEG and PNG are what Rekognition reads.
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

/// The parent of a label of the second or third level; empty for one of the first, and for
/// what is not in the taxonomy.
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

/// 1 to 3.
fn level_of(label: &str) -> u8 {
    match parent_of(label) {
        "" => 1,
        parent => 1 + level_of(parent),
    }
}

/// The actions, with the members of AWS's API reference.
const ACTIONS: &[Action] = &[Action::later("DetectModerationLabels", |cloud, input| {
    Box::pin(async move { detect_moderation_labels(cloud, input).await })
})];

#[cfg(test)]
mod tests {
    use super::*;

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n rest";

    fn object(bytes: &[u8], metadata: Value) -> Value {
        json!({"Body": base64::engine::general_purpose::STANDARD.encode(bytes), "Metadata": metadata})
    }

    fn names(name: &str, metadata: Value, least: f64) -> Vec<String> {
        let answer = judge(name, &object(PNG, metadata), least).unwrap();
        let labels = answer["ModerationLabels"].as_array().unwrap();
        labels.iter().map(|label| label["Name"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_harmless_image_has_no_labels() {
        assert!(names("images/house.png", json!({}), 50.0).is_empty());
        assert!(names("unsafe/house.png", json!({}), 50.0).is_empty(), "a folder is not the file's name");
        assert!(names("unsafely.png", json!({}), 50.0).is_empty(), "unsafe is not a word of its own here");
    }

    #[test]
    fn the_word_unsafe_in_the_file_name_gives_a_label_with_its_parent() {
        let answer = judge("images/Unsafe_kitchen.png", &object(PNG, json!({})), 50.0).unwrap();
        assert_eq!(
            answer["ModerationLabels"],
            json!([
                {"Name": "Violence", "ParentName": "", "Confidence": 98.0, "TaxonomyLevel": 1},
                {"Name": "Weapons", "ParentName": "Violence", "Confidence": 98.0, "TaxonomyLevel": 2},
            ])
        );
    }

    #[test]
    fn the_answer_names_the_model_and_no_content_types_of_photographs() {
        let answer = judge("house.png", &object(PNG, json!({})), 50.0).unwrap();
        let expected = json!({"ModerationLabels": [], "ModerationModelVersion": "7.0", "ContentTypes": []});
        assert_eq!(answer, expected);
    }

    #[test]
    fn a_label_has_its_parent_and_its_level_in_the_taxonomy() {
        let metadata = json!({"moderation-labels": "Explicit, Explicit Nudity, Exposed Female Nipple"});
        let answer = judge("a.png", &object(PNG, metadata), 50.0).unwrap();
        let labels = answer["ModerationLabels"].as_array().unwrap();
        let of = |member: &str| labels.iter().map(|label| label[member].clone()).collect::<Value>();
        assert_eq!(of("ParentName"), json!(["", "Explicit", "Explicit Nudity"]));
        assert_eq!(of("TaxonomyLevel"), json!([1, 2, 3]));
    }

    #[test]
    fn metadata_lists_the_labels_and_the_least_confidence_filters_them() {
        let metadata = json!({"moderation-labels": "Violence, Alcohol:61.5,"});
        assert_eq!(names("a.png", metadata.clone(), 50.0), ["Violence", "Alcohol"]);
        assert_eq!(names("a.png", metadata, 70.0), ["Violence"]);
        let prefixed = json!({"X-Amz-Meta-Moderation-Labels": "Gambling"});
        assert_eq!(names("a.png", prefixed, 50.0), ["Gambling"]);
        assert!(
            names("unsafe.png", json!({"moderation-labels": ""}), 50.0).is_empty(),
            "metadata comes first"
        );
    }

    #[test]
    fn only_jpeg_and_png_up_to_15_mb_are_read() {
        let code = |bytes: &[u8]| judge("a", &object(bytes, json!({})), 50.0).unwrap_err().code;
        assert_eq!(code(b"GIF89a"), "InvalidImageFormatException");
        assert_eq!(code(b""), "InvalidParameterException");
        let mut large = PNG.to_vec();
        large.resize(IMAGE_LIMIT, 0);
        assert!(judge("a", &object(&large, json!({})), 50.0).is_ok());
        large.push(0);
        assert_eq!(code(&large), "ImageTooLargeException");
        assert!(judge("a", &object(b"\xff\xd8\xff\xe0", json!({})), 50.0).is_ok());
    }

    #[test]
    fn a_missing_and_a_forbidden_object_look_the_same() {
        for code in ["NoSuchKey", "NoSuchBucket", "AccessDenied"] {
            let error = unreadable(&AwsError::new(404, code, "no"));
            assert_eq!(error.code, "InvalidS3ObjectException");
            assert!(error.message.starts_with("Unable to get object metadata from S3."));
        }
        assert_eq!(unreadable(&AwsError::internal("disk")).code, "InternalServerError");
    }

    #[test]
    fn the_least_confidence_is_between_0_and_100() {
        let image = json!({"S3Object": {"Bucket": "b", "Name": "n"}});
        let read =
            |least: Value| DetectModerationLabels::read(json!({"Image": image, "MinConfidence": least}));
        assert_eq!(read(json!(null)).unwrap().least(), 50.0);
        assert!(read(json!(0)).is_ok() && read(json!(100)).is_ok());
        let high = read(json!(100.5)).map(drop).unwrap_err();
        assert_eq!(high.code, "ValidationException");
        assert!(high.message.contains("Value '100.5' at 'minConfidence'"), "{}", high.message);
        assert_eq!(read(json!(-1)).map(drop).unwrap_err().code, "ValidationException");
    }

    #[tokio::test]
    async fn a_request_without_an_object_is_not_valid() {
        let cloud = crate::testing::cloud();
        let refused = async |input: Value| {
            let error = cloud.call("rekognition", "DetectModerationLabels", input).await.unwrap_err();
            (error.code, error.message)
        };
        let (code, message) = refused(json!({})).await;
        assert_eq!(code, "ValidationException");
        assert!(message.contains("Value null at 'image'"), "{message}");
        for image in [json!({}), json!({"S3Object": {}}), json!({"S3Object": {"Bucket": "b"}})] {
            let (code, message) = refused(json!({"Image": image})).await;
            assert_eq!((code.as_str(), message.as_str()), ("InvalidParameterException", INVALID_PARAMETERS));
        }
        let missing = json!({"S3Object": {"Bucket": "none", "Name": "none"}});
        assert_eq!(refused(json!({"Image": missing})).await.0, "InvalidS3ObjectException");
    }

    #[tokio::test]
    async fn what_of_a_request_is_not_emulated_is_refused_by_name() {
        let cloud = crate::testing::cloud();
        let image = json!({"S3Object": {"Bucket": "b", "Name": "n"}});
        for (input, name) in [
            (json!({"Image": {"Bytes": "AAAA"}}), "Bytes"),
            (json!({"Image": {"S3Object": {"Bucket": "b", "Name": "n", "Version": "1"}}}), "Version"),
            (json!({"Image": image, "HumanLoopConfig": {}}), "HumanLoopConfig"),
            (json!({"Image": image, "ProjectVersion": "arn"}), "ProjectVersion"),
        ] {
            let error = cloud.call("rekognition", "DetectModerationLabels", input).await.unwrap_err();
            assert_eq!(error.code, "InvalidParameterException");
            assert!(error.message.contains(name), "{}", error.message);
        }
        let other = cloud.call("rekognition", "DetectFaces", json!({})).await.unwrap_err();
        assert_eq!(other.code, "NotImplemented");
    }
}
