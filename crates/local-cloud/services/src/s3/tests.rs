use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cloud_core::Cloud;
use cloud_core::resource::Resource;
use serde_json::{Map, Value, json};

use super::store::is_bucket_name;
use super::*;

fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

async fn with_bucket() -> Arc<Cloud> {
    let cloud = crate::testing::cloud();
    cloud.deploy(&bucket(json!({"BucketName": "images"}))).await.unwrap();
    cloud
}

fn bucket(properties: Value) -> Resource {
    Resource {
        stack: "uni-prop-local".into(),
        logical_id: "Images".into(),
        kind: "AWS::S3::Bucket".into(),
        physical_id: "images".into(),
        arn: "arn:aws:s3:::images".into(),
        properties,
        metadata: Value::Null,
        file: "template.yaml".into(),
    }
}

async fn put_text(cloud: &Arc<Cloud>, key: &str) {
    let input = json!({"Bucket": "images", "Key": key, "Body": encode(key.as_bytes())});
    cloud.call("s3", "PutObject", input).await.unwrap();
}

#[tokio::test]
async fn an_object_is_there_with_its_type_metadata_and_md5() {
    let cloud = with_bucket().await;
    let input = json!({
        "Bucket": "images", "Key": "a/b.png", "Body": encode(b"hello"),
        "ContentType": "image/png", "Metadata": {"moderation": "safe"},
    });
    cloud.call("s3", "PutObject", input).await.unwrap();
    let found = cloud.call("s3", "GetObject", json!({"Bucket": "images", "Key": "a/b.png"})).await.unwrap();
    assert_eq!(found["Body"], encode(b"hello"));
    assert_eq!(found["ContentLength"], 5);
    assert_eq!(found["ContentType"], "image/png");
    assert_eq!(found["Metadata"]["moderation"], "safe");
    // The ETag of an object that was put in one piece is its MD5.
    // https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html
    assert_eq!(found["ETag"], "\"5d41402abc4b2a76b9719d911017c592\"");
}

#[tokio::test]
async fn a_missing_object_and_a_missing_bucket_are_told_apart() {
    let cloud = with_bucket().await;
    let missing = cloud.call("s3", "HeadObject", json!({"Bucket": "images", "Key": "x"})).await.unwrap_err();
    assert_eq!((missing.status, missing.code.as_str()), (404, "NoSuchKey"));
    let missing = cloud.call("s3", "HeadObject", json!({"Bucket": "nowhere", "Key": "x"})).await.unwrap_err();
    assert_eq!((missing.status, missing.code.as_str()), (404, "NoSuchBucket"));
}

#[tokio::test]
async fn a_bucket_with_an_object_is_not_deleted() {
    let cloud = with_bucket().await;
    put_text(&cloud, "a").await;
    assert_eq!(delete_bucket(&cloud, "images").unwrap_err().code, "BucketNotEmpty");
    delete(&cloud, "images", "a").unwrap();
    delete_bucket(&cloud, "images").unwrap();
    assert_eq!(head(&cloud, "images", "a").unwrap_err().code, "NoSuchBucket");
}

#[tokio::test]
async fn an_unknown_member_is_refused_by_name() {
    let cloud = with_bucket().await;
    let input = json!({"Bucket": "images", "Key": "x", "VersionId": "1"});
    let error = cloud.call("s3", "GetObject", input).await.unwrap_err();
    assert!(error.message.contains("VersionId"), "{error}");
}

#[tokio::test]
async fn a_listing_folds_at_the_delimiter_and_pages_without_gaps_or_repeats() {
    let cloud = with_bucket().await;
    for key in ["a.txt", "b/1", "b/2", "b/c/3", "d/4", "e.txt"] {
        put_text(&cloud, key).await;
    }
    let mut seen = Vec::new();
    let mut token = None;
    loop {
        let mut input = json!({"Bucket": "images", "Delimiter": "/", "MaxKeys": 1});
        if let Some(token) = token {
            input["ContinuationToken"] = token;
        }
        let page = cloud.call("s3", "ListObjectsV2", input).await.unwrap();
        assert_eq!(page["KeyCount"], 1);
        let name = &page["Contents"][0]["Key"];
        seen.push(if name.is_null() { page["CommonPrefixes"][0]["Prefix"].clone() } else { name.clone() });
        if page["IsTruncated"] == false {
            break;
        }
        token = Some(page["NextContinuationToken"].clone());
    }
    assert_eq!(seen, ["a.txt", "b/", "d/", "e.txt"]);
}

#[tokio::test]
async fn a_listing_by_prefix_shows_nothing_else() {
    let cloud = with_bucket().await;
    for key in ["a/1", "ab/1", "b/1", "b/é"] {
        put_text(&cloud, key).await;
    }
    let page = cloud.call("s3", "ListObjectsV2", json!({"Bucket": "images", "Prefix": "b/"})).await.unwrap();
    assert_eq!(page["Contents"][0]["Key"], "b/1");
    assert_eq!(page["Contents"][1]["Key"], "b/é");
    assert_eq!(page["KeyCount"], 2);
}

#[tokio::test]
async fn a_bucket_that_is_deployed_again_keeps_its_objects() {
    let cloud = with_bucket().await;
    put_text(&cloud, "a").await;
    cloud.deploy(&bucket(json!({"Tags": []}))).await.unwrap();
    assert_eq!(head(&cloud, "images", "a").unwrap().size, 1);
}

#[tokio::test]
async fn a_property_of_a_bucket_that_would_do_something_is_refused_by_name() {
    let cloud = crate::testing::cloud();
    for property in ["NotificationConfiguration", "VersioningConfiguration", "LifecycleConfiguration"] {
        let refusal = cloud.deploy(&bucket(json!({property: {}}))).await.unwrap_err();
        assert!(refusal.reason.contains(property), "{refusal}");
    }
    let encrypted = |algorithm: &str| {
        let rule = json!({"ServerSideEncryptionByDefault": {"SSEAlgorithm": algorithm}});
        bucket(json!({"BucketEncryption": {"ServerSideEncryptionConfiguration": [rule]}}))
    };
    cloud.deploy(&encrypted("AES256")).await.unwrap();
    let refusal = cloud.deploy(&encrypted("aws:kms")).await.unwrap_err();
    assert!(refusal.to_string().contains("BucketEncryption: aws:kms"), "{refusal}");
}

#[tokio::test]
async fn a_bucket_with_objects_is_not_deleted() {
    let cloud = with_bucket().await;
    put_text(&cloud, "a").await;
    assert_eq!(delete_bucket(&cloud, "images").unwrap_err().code, "BucketNotEmpty");
    delete(&cloud, "images", "a").unwrap();
    delete_bucket(&cloud, "images").unwrap();
}

#[test]
fn names_of_buckets_follow_the_rules_of_s3() {
    assert!(is_bucket_name("uni-prop-local-images"));
    for name in ["ab", "Images", "-images", "images-", "a..b", "im_ages", &"a".repeat(64)] {
        assert!(!is_bucket_name(name), "{name}");
    }
}

#[tokio::test]
async fn a_key_has_1024_bytes_at_most() {
    let cloud = with_bucket().await;
    put_text(&cloud, &"é".repeat(512)).await;
    let long = json!({"Bucket": "images", "Key": "é".repeat(513)});
    assert_eq!(cloud.call("s3", "PutObject", long).await.unwrap_err().code, "KeyTooLongError");
}

#[tokio::test]
async fn a_copy_onto_itself_must_change_something() {
    let cloud = with_bucket().await;
    put_text(&cloud, "a").await;
    let itself = ("images", "a");
    assert_eq!(copy(&cloud, itself, itself, None).unwrap_err().code, "InvalidRequest");
    let changed = Some((Map::new(), Map::from_iter([("k".to_owned(), "v".into())])));
    assert_eq!(copy(&cloud, itself, itself, changed).unwrap().metadata["k"], "v");
}

#[test]
fn an_upload_that_an_earlier_version_left_does_not_stop_a_start() {
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        let settings = cloud_core::Settings {
            state: Some(folder.path().to_owned()),
            ..cloud_core::Settings::for_tests()
        };
        crate::testing::open(
            settings,
            cloud_core::clock::Clock::system(),
            cloud_core::random::Random::seeded(1),
        )
    };
    let left = "CREATE TABLE s3_uploads (id TEXT PRIMARY KEY); INSERT INTO s3_uploads VALUES ('u');
                CREATE TABLE s3_parts (id TEXT REFERENCES s3_uploads); INSERT INTO s3_parts VALUES ('u')";
    open().unwrap().store.write(|tx| tx.execute_batch(left)).unwrap();
    open().unwrap();
}
