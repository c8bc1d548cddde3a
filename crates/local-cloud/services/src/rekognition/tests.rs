use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cloud_core::AwsError;
use serde_json::{Value, json};

use super::api::{DetectModerationLabels, INVALID_PARAMETERS, unreadable};
use super::judge::{IMAGE_LIMIT, judge};

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n rest";

fn object(bytes: &[u8], metadata: Value) -> Value {
    json!({"Body": STANDARD.encode(bytes), "Metadata": metadata})
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
    assert!(names("unsafe.png", json!({"moderation-labels": ""}), 50.0).is_empty(), "metadata comes first");
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
    let read = |least: Value| DetectModerationLabels::read(json!({"Image": image, "MinConfidence": least}));
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
