use std::net::SocketAddr;

use cloud_core::Settings;
use cloud_core::clock::Clock;
use cloud_core::port::testing::{SHORT, send, send_and_end};
use cloud_core::random::Random;
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

use super::*;
use crate::services::SERVICES;

/// A cloud whose endpoint listens.
struct Listening {
    url: String,
    client: Client,
    cloud: Arc<Cloud>,
}

async fn listen() -> Listening {
    listen_with(Settings::for_tests()).await
}

async fn listen_with(settings: Settings) -> Listening {
    let cloud = Cloud::open(settings, Clock::system(), Random::seeded(1), SERVICES).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(serve(cloud.clone(), listener));
    Listening { url, client: Client::builder().no_proxy().build().unwrap(), cloud }
}

impl Listening {
    fn address(&self) -> SocketAddr {
        self.url.strip_prefix("http://").unwrap().parse().unwrap()
    }

    /// The status of a request that is sent line by line as it is written here, and its answer.
    async fn raw(&self, request: &str, headers: &[&str], body: &str) -> (u16, String) {
        let mut lines = vec![format!("{request} HTTP/1.1"), "connection: close".into()];
        lines.extend(headers.iter().map(|header| header.to_string()));
        lines.push(format!("content-length: {}\r\n\r\n{body}", body.len()));
        let answer = send(self.address(), lines.join("\r\n").as_bytes()).await;
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.unwrap_or_else(|| panic!("no answer: {answer:?}")), answer)
    }

    fn post(&self, path: &str, service: &str) -> RequestBuilder {
        self.signed(self.client.post(format!("{}{path}", self.url)), service)
    }

    fn get(&self, path: &str, service: &str) -> RequestBuilder {
        self.signed(self.client.get(format!("{}{path}", self.url)), service)
    }

    fn s3(&self, method: &str, path: &str) -> RequestBuilder {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        self.signed(self.client.request(method, format!("{}{path}", self.url)), "s3")
    }

    fn signed(&self, request: RequestBuilder, service: &str) -> RequestBuilder {
        request.header(
            "authorization",
            format!(
                "AWS4-HMAC-SHA256 Credential=AKID/20260101/us-east-1/{service}/aws4_request, \
                 SignedHeaders=host;x-amz-date, Signature=00"
            ),
        )
    }

    fn form(&self, service: &str, form: &[(&str, &str)]) -> RequestBuilder {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        self.post("/", service).header("content-type", "application/x-www-form-urlencoded").body(body)
    }

    async fn query(&self, service: &str, form: &[(&str, &str)]) -> String {
        self.form(service, form).send().await.unwrap().text().await.unwrap()
    }

    async fn json(&self, target: &str, service: &str, input: Value) -> Response {
        let request = self.post("/", service).header("x-amz-target", target);
        request.body(input.to_string()).send().await.unwrap()
    }
}

fn header_of(response: &Response, name: &str) -> String {
    response.headers().get(name).map(|value| value.to_str().unwrap().to_string()).unwrap_or_default()
}

#[tokio::test]
async fn json_is_answered_with_a_request_id_and_the_type_of_its_version() {
    let cloud = listen().await;
    let input = json!({"Name": "p", "Value": "x", "Type": "String"});
    let response = cloud.json("AmazonSSM.PutParameter", "ssm", input).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(header_of(&response, "content-type"), "application/x-amz-json-1.1");
    assert_eq!(header_of(&response, "x-amzn-requestid").len(), 36);
    assert_eq!(response.json::<Value>().await.unwrap(), json!({"Version": 1, "Tier": "Standard"}));
}

#[tokio::test]
async fn a_refusal_in_json_names_its_code_in_body_and_header() {
    let cloud = listen().await;
    let response = cloud.json("AmazonSSM.GetParameter", "ssm", json!({"Name": "nowhere"})).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert_eq!(header_of(&response, "x-amzn-errortype"), "ParameterNotFound");
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["__type"], "ParameterNotFound");
    assert_eq!(body["message"], "Parameter nowhere not found.");
}

#[tokio::test]
async fn a_body_that_is_not_json_is_a_serialization_exception() {
    let cloud = listen().await;
    let request = cloud.post("/", "ssm").header("x-amz-target", "AmazonSSM.GetParameter").body("{");
    let body: Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(body["__type"], "SerializationException");
}

#[tokio::test]
async fn dynamodb_answers_carry_the_checksum_that_its_clients_verify() {
    let cloud = listen().await;
    let response = cloud.json("DynamoDB_20120810.ListTables", "dynamodb", json!({})).await;
    assert_eq!(header_of(&response, "content-type"), "application/x-amz-json-1.0");
    let checksum = header_of(&response, "x-amz-crc32");
    let body = response.bytes().await.unwrap();
    assert_eq!(checksum, crc32fast::hash(&body).to_string());
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), json!({"TableNames": []}));
}

#[tokio::test]
async fn dynamodb_refusals_have_dynamodbs_own_form() {
    let cloud = listen().await;
    let input = json!({"TableName": "nowhere"});
    let response = cloud.json("DynamoDB_20120810.DescribeTable", "dynamodb", input).await;
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["__type"], "com.amazonaws.dynamodb.v20120810#ResourceNotFoundException");
}

#[tokio::test]
async fn what_is_not_emulated_says_so_in_the_protocol_of_the_caller() {
    let cloud = listen().await;
    let json_body: Value = cloud.json("AmazonSSM.StartSession", "ssm", json!({})).await.json().await.unwrap();
    assert_eq!(json_body["__type"], "NotImplemented");
    assert_eq!(json_body["message"], "ssm:StartSession is not emulated by the local cloud.");
    let unknown: Value = cloud.json("TrentService.Encrypt", "kms", json!({})).await.json().await.unwrap();
    assert_eq!(unknown["message"], "kms:Encrypt is not emulated by the local cloud.");
    let form = [("Action", "ListRoles"), ("Version", "2010-05-08")];
    let query = cloud.form("iam", &form).send().await.unwrap().text().await.unwrap();
    assert!(query.contains("<Code>NotImplemented</Code>"), "{query}");
    let rest = cloud.get("/2018-10-31/layers", "lambda").send().await.unwrap();
    assert_eq!(header_of(&rest, "x-amzn-errortype"), "NotImplemented");
    let unknown = cloud.get("/restapis", "apigateway").send().await.unwrap();
    let unknown: Value = unknown.json().await.unwrap();
    assert_eq!(unknown["message"], "apigateway:GET /restapis is not emulated by the local cloud.");
    for sub in ["versions", "location"] {
        let s3 = cloud.s3("GET", &format!("/images?{sub}")).send().await.unwrap();
        assert_eq!(s3.status(), StatusCode::NOT_IMPLEMENTED);
        assert!(s3.text().await.unwrap().contains(&format!("s3:GET ?{sub} is not emulated")));
    }
}

#[tokio::test]
async fn older_clients_of_sqs_are_answered_in_the_query_protocol() {
    let cloud = listen().await;
    let made = cloud
        .query(
            "sqs",
            &[
                ("Action", "CreateQueue"),
                ("QueueName", "q"),
                ("Attribute.1.Name", "VisibilityTimeout"),
                ("Attribute.1.Value", "7"),
                ("Tag.1.Key", "Owner"),
                ("Tag.1.Value", "me"),
            ],
        )
        .await;
    let url = "http://127.0.0.1:4566/123456789012/q";
    assert!(
        made.contains(&format!("<CreateQueueResult><QueueUrl>{url}</QueueUrl></CreateQueueResult>")),
        "{made}"
    );
    let tags = cloud.query("sqs", &[("Action", "ListQueueTags"), ("QueueUrl", url)]).await;
    assert!(tags.contains("<Tag><Key>Owner</Key><Value>me</Value></Tag>"), "{tags}");
    let attributes =
        [("Action", "GetQueueAttributes"), ("QueueUrl", url), ("AttributeName.1", "VisibilityTimeout")];
    let attributes = cloud.query("sqs", &attributes).await;
    assert!(attributes.contains("<Attribute><Name>VisibilityTimeout</Name><Value>7</Value></Attribute>"));
    let sent = cloud
        .query(
            "sqs",
            &[
                ("Action", "SendMessageBatch"),
                ("QueueUrl", url),
                ("SendMessageBatchRequestEntry.1.Id", "a"),
                ("SendMessageBatchRequestEntry.1.MessageBody", "1 < 2\r\n"),
                ("SendMessageBatchRequestEntry.1.MessageAttribute.1.Name", "N"),
                ("SendMessageBatchRequestEntry.1.MessageAttribute.1.Value.DataType", "Number"),
                ("SendMessageBatchRequestEntry.1.MessageAttribute.1.Value.StringValue", "42"),
                ("SendMessageBatchRequestEntry.2.Id", "b"),
                ("SendMessageBatchRequestEntry.2.MessageBody", "x"),
                ("SendMessageBatchRequestEntry.2.DelaySeconds", "901"),
            ],
        )
        .await;
    assert!(
        sent.contains("<SendMessageBatchResultEntry>") && sent.contains("<BatchResultErrorEntry>"),
        "{sent}"
    );
    let received = cloud
        .query(
            "sqs",
            &[
                ("Action", "ReceiveMessage"),
                ("QueueUrl", url),
                ("MaxNumberOfMessages", "10"),
                ("AttributeName.1", "All"),
                ("MessageAttributeName.1", "All"),
            ],
        )
        .await;
    assert!(received.contains("<Body>1 &lt; 2&#13;\n</Body>"), "{received}");
    assert!(
        received.contains("<Attribute><Name>ApproximateReceiveCount</Name><Value>1</Value>"),
        "{received}"
    );
    assert!(received.contains("<MessageAttribute><Name>N</Name><Value>"), "{received}");
    let wrong = cloud
        .query("sqs", &[("Action", "ReceiveMessage"), ("QueueUrl", url), ("WaitTimeSeconds", "x")])
        .await;
    assert!(wrong.contains("<Code>InvalidParameterValue</Code>"), "{wrong}");
    let deleted = cloud.client.post(format!("{}/123456789012/q", cloud.url));
    let deleted = cloud.signed(deleted, "sqs").header("content-type", "application/x-www-form-urlencoded");
    let deleted = deleted.body("Action=DeleteQueue").send().await.unwrap().text().await.unwrap();
    assert!(deleted.contains("DeleteQueueResponse") && !deleted.contains("DeleteQueueResult"), "{deleted}");
    let gone = cloud.query("sqs", &[("Action", "PurgeQueue"), ("QueueUrl", url)]).await;
    assert!(gone.contains("<Code>AWS.SimpleQueueService.NonExistentQueue</Code>"), "{gone}");
}

#[tokio::test]
async fn sts_tells_who_calls() {
    let cloud = listen().await;
    let form = [("Action", "GetCallerIdentity"), ("Version", "2011-06-15")];
    let text = cloud.form("sts", &form).send().await.unwrap().text().await.unwrap();
    assert!(text.contains("<GetCallerIdentityResult>"), "{text}");
    assert!(text.contains("<Account>123456789012</Account>"), "{text}");
    assert!(text.contains("<ResponseMetadata><RequestId>"), "{text}");
}

#[tokio::test]
async fn someone_who_opens_the_address_in_a_browser_gets_a_sentence() {
    let cloud = listen().await;
    let text = cloud.client.get(&cloud.url).send().await.unwrap().text().await.unwrap();
    assert!(text.contains("AWS endpoint of the local cloud"), "{text}");
}

#[tokio::test]
async fn lambdas_paths_are_known_without_a_signature() {
    let cloud = listen().await;
    let path = format!("{}/2015-03-31/functions/nowhere/invocations", cloud.url);
    let response = cloud.client.post(path).body("{}").send().await.unwrap();
    // Whatever Lambda says of it, it says so in its own form.
    assert!(!header_of(&response, "x-amzn-errortype").is_empty());
    assert!(response.json::<Value>().await.unwrap()["Message"].is_string());
}

async fn with_bucket() -> Listening {
    let cloud = listen().await;
    let made = cloud.s3("PUT", "/images").send().await.unwrap();
    assert_eq!(made.status(), StatusCode::OK);
    cloud
}

#[tokio::test]
async fn a_rest_operation_that_is_not_emulated_is_refused_by_its_name() {
    let cloud = listen().await;
    for (path, service, name) in [
        ("/2015-03-31/functions/f/policy", "lambda", "lambda:GetPolicy"),
        ("/v1/registries/name/r/schemas/name/s/versions", "schemas", "schemas:ListSchemaVersions"),
    ] {
        let refused = cloud.get(path, service).send().await.unwrap();
        assert_eq!(refused.status(), StatusCode::NOT_IMPLEMENTED);
        let text = refused.text().await.unwrap();
        assert!(text.contains(name), "{text}");
    }
}

#[tokio::test]
async fn a_request_to_s3_needs_the_permission_that_a_policy_can_name() {
    let cloud = with_bucket().await;
    let key = cloud.cloud.calls.key_of("me");
    for path in ["/images?list-type=2", "/images/a.png"] {
        let signature =
            format!("AWS4-HMAC-SHA256 Credential={key}/20260101/us-east-1/s3/aws4_request, Signature=00");
        let request = cloud.client.get(format!("{}{path}", cloud.url)).header("authorization", signature);
        request.send().await.unwrap();
    }
    let made: Vec<_> =
        cloud.cloud.calls.made().into_keys().map(|call| (call.action, call.resource)).collect();
    let needed = |action: &str, resource: &str| (action.to_owned(), resource.to_owned());
    // The object does not exist. S3 says so only to a caller that may list the bucket.
    let expected =
        [needed("s3:GetObject", "arn:aws:s3:::images/a.png"), needed("s3:ListBucket", "arn:aws:s3:::images")];
    assert_eq!(made, expected);
}

#[tokio::test]
async fn an_object_comes_back_byte_for_byte_with_its_headers() {
    let cloud = with_bucket().await;
    let put = cloud.s3("PUT", "/images/a%20b/%C3%A9.png").header("content-type", "image/png");
    let put = put.header("x-amz-meta-moderation", "safe").body("hello").send().await.unwrap();
    assert_eq!(header_of(&put, "etag"), "\"5d41402abc4b2a76b9719d911017c592\"");
    let found = cloud.s3("GET", "/images/a%20b/%C3%A9.png").send().await.unwrap();
    assert_eq!(header_of(&found, "content-type"), "image/png");
    assert_eq!(header_of(&found, "x-amz-meta-moderation"), "safe");
    assert!(header_of(&found, "last-modified").ends_with(" GMT"));
    assert_eq!(found.text().await.unwrap(), "hello");
    let head = cloud.s3("HEAD", "/images/a%20b/%C3%A9.png").send().await.unwrap();
    assert_eq!(header_of(&head, "content-length"), "5");
    let part = cloud.s3("GET", "/images/a%20b/%C3%A9.png").header("range", "bytes=1-2").send().await.unwrap();
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(header_of(&part, "content-range"), "bytes 1-2/5");
    assert_eq!(part.text().await.unwrap(), "el");
}

#[tokio::test]
async fn a_bucket_can_stand_in_the_host() {
    let cloud = with_bucket().await;
    cloud.s3("PUT", "/images/key").body("x").send().await.unwrap();
    for host in ["images.localhost:4566", "images.s3.localhost"] {
        let found = cloud.s3("GET", "/key").header("host", host).send().await.unwrap();
        assert_eq!(found.text().await.unwrap(), "x", "{host}");
    }
}

#[tokio::test]
async fn a_chunked_upload_is_stored_without_its_framing_and_checked_against_its_trailer() {
    let cloud = with_bucket().await;
    // As boto3 sends it: unsigned chunks, the checksum behind them.
    let upload = |key: &str, checksum: &str| {
        cloud
            .s3("PUT", &format!("/images/{key}"))
            .header("content-encoding", "gzip,aws-chunked")
            .header("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER")
            .header("x-amz-trailer", "x-amz-checksum-crc32")
            .header("x-amz-decoded-content-length", "11")
            .body(format!("b\r\nhello world\r\n0\r\nx-amz-checksum-crc32:{checksum}\r\n\r\n"))
            .send()
    };
    let wrong = upload("wrong", "AAAAAA==").await.unwrap();
    assert_eq!(wrong.status(), StatusCode::BAD_REQUEST);
    assert!(wrong.text().await.unwrap().contains("<Code>BadDigest</Code>"));
    assert_eq!(upload("right", "DUoRhQ==").await.unwrap().status(), StatusCode::OK);
    let found = cloud.s3("GET", "/images/right").send().await.unwrap();
    assert_eq!(header_of(&found, "content-encoding"), "gzip");
    assert_eq!(found.bytes().await.unwrap(), "hello world");
    assert_eq!(cloud.s3("GET", "/images/wrong").send().await.unwrap().status(), StatusCode::NOT_FOUND);
    let other = cloud.s3("PUT", "/images/other").header("content-encoding", "aws-chunked");
    let other = other.body("1\r\nx\r\n0\r\nx-amz-checksum-sha1:AA==\r\n\r\n").send().await.unwrap();
    assert_eq!(other.status(), StatusCode::NOT_IMPLEMENTED);
}

#[tokio::test]
async fn every_upload_has_a_checksum_the_clients_or_s3s_own_and_tells_it_on_request() {
    let cloud = with_bucket().await;
    let plain = cloud.s3("PUT", "/images/plain").body("123456789").send().await.unwrap();
    assert_eq!(header_of(&plain, "x-amz-checksum-crc64nvme"), "rosUhgp5mIg=");
    assert_eq!(header_of(&plain, "x-amz-server-side-encryption"), "AES256");
    let own = cloud.s3("PUT", "/images/own").header("x-amz-checksum-crc32", "y/Q5Jg==").body("123456789");
    assert_eq!(header_of(&own.send().await.unwrap(), "x-amz-checksum-crc32"), "y/Q5Jg==");
    let copy = cloud.s3("PUT", "/images/copy").header("x-amz-copy-source", "images/own");
    copy.header("x-amz-metadata-directive", "REPLACE").send().await.unwrap();
    for key in ["own", "copy"] {
        let path = format!("/images/{key}");
        let asked = cloud.s3("HEAD", &path).header("x-amz-checksum-mode", "ENABLED").send().await.unwrap();
        assert_eq!(header_of(&asked, "x-amz-checksum-crc32"), "y/Q5Jg==");
        assert_eq!(header_of(&asked, "x-amz-checksum-type"), "FULL_OBJECT");
        let silent = cloud.s3("GET", &path).send().await.unwrap();
        assert_eq!(header_of(&silent, "x-amz-checksum-crc32"), "");
    }
    for (header, value, code) in [
        ("x-amz-checksum-sha256", "AAAA", "InvalidRequest"),
        ("x-amz-checksum-crc64nvme", "AAAAAAAAAAA=", "BadDigest"),
        ("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==", "BadDigest"),
        ("content-md5", "AA==", "InvalidDigest"),
    ] {
        let wrong = cloud.s3("PUT", "/images/wrong").header(header, value).body("x").send().await.unwrap();
        assert!(wrong.text().await.unwrap().contains(&format!("<Code>{code}</Code>")), "{header}");
    }
}

#[tokio::test]
async fn conditions_on_the_tag_and_on_the_time_are_heard() {
    let cloud = with_bucket().await;
    let tag = header_of(&cloud.s3("PUT", "/images/a").body("x").send().await.unwrap(), "etag");
    let (past, future) = ("Thu, 01 Jan 1970 00:00:00 GMT", "Tue, 01 Jan 2999 00:00:00 GMT");
    for (headers, status) in [
        (vec![("if-modified-since", future)], 304),
        (vec![("if-modified-since", past)], 200),
        (vec![("if-modified-since", "whenever")], 200),
        (vec![("if-unmodified-since", past)], 412),
        (vec![("if-unmodified-since", future)], 200),
        (vec![("if-none-match", tag.as_str()), ("if-modified-since", past)], 304),
        (vec![("if-none-match", "\"other\""), ("if-modified-since", future)], 200),
        (vec![("if-match", tag.as_str()), ("if-unmodified-since", past)], 200),
        (vec![("if-match", "\"other\"")], 412),
        (vec![("if-range", tag.as_str())], 501),
    ] {
        let request =
            headers.iter().fold(cloud.s3("GET", "/images/a"), |r, (name, value)| r.header(*name, *value));
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{headers:?}");
        if status == 304 {
            assert_eq!(header_of(&answer, "etag"), tag);
        }
    }
}

#[tokio::test]
async fn what_an_upload_cannot_have_here_is_refused_and_not_ignored() {
    let cloud = with_bucket().await;
    for (header, value, code) in [
        ("x-amz-acl", "public-read", "AccessControlListNotSupported"),
        ("x-amz-grant-read", "id=1", "NotImplemented"),
        ("x-amz-storage-class", "GLACIER", "NotImplemented"),
        ("x-amz-server-side-encryption", "aws:kms", "NotImplemented"),
        ("x-amz-tagging", "a=b", "NotImplemented"),
        ("x-amz-checksum-crc32c", "AAAAAA==", "NotImplemented"),
        ("x-amz-checksum-sha1", "AA==", "NotImplemented"),
        ("x-amz-expected-bucket-owner", "999999999999", "AccessDenied"),
    ] {
        let put = cloud.s3("PUT", "/images/a").header(header, value).body("x").send().await.unwrap();
        assert!(put.text().await.unwrap().contains(&format!("<Code>{code}</Code>")), "{header}");
    }
    for (header, value) in [
        ("x-amz-acl", "bucket-owner-full-control"),
        ("x-amz-storage-class", "STANDARD"),
        ("x-amz-server-side-encryption", "AES256"),
        ("x-amz-expected-bucket-owner", "123456789012"),
    ] {
        let put = cloud.s3("PUT", "/images/a").header(header, value).body("x").send().await.unwrap();
        assert_eq!(put.status(), StatusCode::OK, "{header}");
    }
    let copy = cloud.s3("PUT", "/images/b").header("x-amz-copy-source", "/images/a");
    let copy = copy.header("x-amz-copy-source-if-match", "x").send().await.unwrap();
    assert_eq!(copy.status(), StatusCode::NOT_IMPLEMENTED);
    for (method, header) in [
        ("GET", "x-amz-server-side-encryption-customer-algorithm"),
        ("PUT", "if-match"),
        ("DELETE", "if-match"),
    ] {
        let answer = cloud.s3(method, "/images/a").header(header, "x").send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_IMPLEMENTED, "{method} {header}");
    }
}

#[tokio::test]
async fn buckets_are_listed_in_pages() {
    let cloud = with_bucket().await;
    cloud.s3("PUT", "/image-b").send().await.unwrap();
    let list = async |query: &str| {
        cloud.s3("GET", &format!("/?{query}")).send().await.unwrap().text().await.unwrap()
    };
    let first = list("max-buckets=1").await;
    assert!(first.contains("<Name>image-b</Name>") && !first.contains("<Name>images</Name>"), "{first}");
    let token = first.split("<ContinuationToken>").nth(1).unwrap().split('<').next().unwrap();
    let second = list(&format!("max-buckets=1&continuation-token={token}")).await;
    assert!(second.contains("<Name>images</Name>") && !second.contains("<ContinuationToken>"), "{second}");
    assert!(list("max-buckets=0").await.contains("InvalidArgument"));
    assert!(list("prefix=image").await.contains("NotImplemented"));
    let elsewhere = "<CreateBucketConfiguration><LocationConstraint>eu-west-1</LocationConstraint></CreateBucketConfiguration>";
    let made = cloud.s3("PUT", "/else-where").body(elsewhere).send().await.unwrap().text().await.unwrap();
    assert!(made.contains("IllegalLocationConstraintException"), "{made}");
}

#[tokio::test]
async fn a_listing_without_keys_is_complete_and_the_owner_is_told_as_the_version_has_it() {
    let cloud = with_bucket().await;
    cloud.s3("PUT", "/images/a").body("x").send().await.unwrap();
    let list = async |query: &str| {
        cloud.s3("GET", &format!("/images?{query}")).send().await.unwrap().text().await.unwrap()
    };
    let none = list("list-type=2&max-keys=0").await;
    assert!(
        none.contains("<IsTruncated>false</IsTruncated>") && none.contains("<KeyCount>0</KeyCount>"),
        "{none}"
    );
    let owner = "<Owner><ID>123456789012</ID></Owner>";
    assert!(list("prefix=a").await.contains(owner));
    assert!(list("list-type=2&fetch-owner=true").await.contains(owner));
    assert!(!list("list-type=2").await.contains(owner));
    assert!(list("max-keys=-1").await.contains("InvalidArgument"));
}

#[tokio::test]
async fn what_is_missing_is_404_with_a_code_and_without_a_body_for_head() {
    let cloud = with_bucket().await;
    let missing = cloud.s3("GET", "/images/nothing").send().await.unwrap();
    assert_eq!(missing.status(), StatusCode::NOT_FOUND);
    let text = missing.text().await.unwrap();
    assert!(text.contains("<Code>NoSuchKey</Code>") && text.contains("<Key>nothing</Key>"), "{text}");
    let missing = cloud.s3("GET", "/nowhere/nothing").send().await.unwrap().text().await.unwrap();
    assert!(missing.contains("<Code>NoSuchBucket</Code>"), "{missing}");
    let head = cloud.s3("HEAD", "/images/nothing").send().await.unwrap();
    assert_eq!(head.status(), StatusCode::NOT_FOUND);
    assert_eq!(head.text().await.unwrap(), "");
}

#[tokio::test]
async fn a_listing_encodes_keys_where_that_is_asked_for() {
    let cloud = with_bucket().await;
    cloud.s3("PUT", "/images/a%20%26b").body("x").send().await.unwrap();
    let plain = cloud.s3("GET", "/images?list-type=2").send().await.unwrap().text().await.unwrap();
    assert!(plain.contains("<Key>a &amp;b</Key>"), "{plain}");
    let encoded = cloud.s3("GET", "/images?list-type=2&encoding-type=url").send().await.unwrap();
    let encoded = encoded.text().await.unwrap();
    assert!(
        encoded.contains("<Key>a%20%26b</Key><") && encoded.contains("<KeyCount>1</KeyCount>"),
        "{encoded}"
    );
}

#[tokio::test]
async fn many_objects_are_deleted_at_once_and_one_that_is_missing_is_deleted_too() {
    let cloud = with_bucket().await;
    cloud.s3("PUT", "/images/a%26b").body("x").send().await.unwrap();
    let body = "<Delete><Object><Key>a&amp;b</Key></Object><Object><Key>nothing</Key></Object></Delete>";
    let text = cloud.s3("POST", "/images?delete").body(body).send().await.unwrap().text().await.unwrap();
    assert!(
        text.contains("<Deleted><Key>a&amp;b</Key></Deleted><Deleted><Key>nothing</Key></Deleted>"),
        "{text}"
    );
    assert_eq!(cloud.s3("GET", "/images/a%26b").send().await.unwrap().status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn more_than_a_thousand_objects_are_not_deleted_at_once() {
    let cloud = with_bucket().await;
    for (count, code) in [(0, "MalformedXML"), (1_000, "Deleted"), (1_001, "MalformedXML")] {
        let body = format!("<Delete>{}</Delete>", "<Object><Key>a</Key></Object>".repeat(count));
        let answer =
            cloud.s3("POST", "/images?delete").body(body).send().await.unwrap().text().await.unwrap();
        assert!(answer.contains(code), "{count}: {answer}");
    }
}

#[tokio::test]
async fn a_copy_takes_its_metadata_along_or_gets_its_own() {
    let cloud = with_bucket().await;
    cloud.s3("PUT", "/images/a").header("x-amz-meta-x", "1").body("hello").send().await.unwrap();
    let copy = cloud.s3("PUT", "/images/b").header("x-amz-copy-source", "/images/a").send().await.unwrap();
    assert!(copy.text().await.unwrap().contains("<CopyObjectResult"));
    let own = cloud.s3("PUT", "/images/c").header("x-amz-copy-source", "images/a");
    let own = own.header("x-amz-metadata-directive", "REPLACE").header("x-amz-meta-x", "2");
    own.send().await.unwrap();
    for (key, metadata) in [("b", "1"), ("c", "2")] {
        let found = cloud.s3("GET", &format!("/images/{key}")).send().await.unwrap();
        assert_eq!(header_of(&found, "x-amz-meta-x"), metadata);
        assert_eq!(found.text().await.unwrap(), "hello");
    }
}

#[tokio::test]
async fn a_presigned_address_needs_no_header() {
    let cloud = with_bucket().await;
    cloud.s3("PUT", "/images/a").body("hello").send().await.unwrap();
    let query = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=A%2F20260101%2Fus-east-1%2Fs3%2Faws4_request\
                 &X-Amz-Signature=0&response-content-type=text%2Fplain";
    let found = cloud.client.get(format!("{}/images/a?{query}", cloud.url)).send().await.unwrap();
    assert_eq!(header_of(&found, "content-type"), "text/plain");
    assert_eq!(found.text().await.unwrap(), "hello");
}

#[tokio::test]
async fn an_upload_for_a_new_object_only_fails_where_there_is_one() {
    let cloud = with_bucket().await;
    for status in [StatusCode::OK, StatusCode::PRECONDITION_FAILED] {
        let put = cloud.s3("PUT", "/images/a").header("if-none-match", "*").body("x");
        assert_eq!(put.send().await.unwrap().status(), status);
    }
}

/// What a web page can send without asking: a queue is purged, an object deleted, a function invoked.
struct Victim {
    cloud: Listening,
    queue: String,
}

impl Victim {
    async fn new() -> Self {
        let cloud = with_bucket().await;
        cloud.s3("PUT", "/images/a.png").body("x").send().await.unwrap();
        let made = cloud.cloud.call("sqs", "CreateQueue", json!({"QueueName": "q"})).await.unwrap();
        let queue = made["QueueUrl"].as_str().unwrap().to_owned();
        let message = json!({"QueueUrl": queue, "MessageBody": "m"});
        cloud.cloud.call("sqs", "SendMessage", message).await.unwrap();
        Self { cloud, queue }
    }

    /// The statuses of the answers.
    async fn attack(&self, headers: &[&str]) -> [u16; 4] {
        let purge = format!("/?Action=PurgeQueue&Version=2012-11-05&QueueUrl={}", self.queue);
        let form = [headers, &["content-type: application/x-www-form-urlencoded"]].concat();
        let text = [headers, &["content-type: text/plain"]].concat();
        let delete = "<Delete><Object><Key>a.png</Key></Object></Delete>";
        let invoke = "POST /2015-03-31/functions/nowhere/invocations";
        [
            self.cloud.raw("POST /images?delete", &text, delete).await.0,
            self.cloud.raw(invoke, &text, "{}").await.0,
            self.cloud.raw("POST /", &form, "Action=GetCallerIdentity&Version=2011-06-15").await.0,
            self.cloud.raw(&format!("GET {purge}"), headers, "").await.0,
        ]
    }

    /// How many messages and objects there are.
    async fn holds(&self) -> (String, bool) {
        let asked = json!({"QueueUrl": self.queue, "AttributeNames": ["All"]});
        let attributes = self.cloud.cloud.call("sqs", "GetQueueAttributes", asked).await.unwrap();
        let messages = attributes["Attributes"]["ApproximateNumberOfMessages"].as_str().unwrap().to_owned();
        let image = self.cloud.s3("GET", "/images/a.png").send().await.unwrap();
        (messages, image.status() == StatusCode::OK)
    }
}

#[tokio::test]
async fn what_a_web_page_from_elsewhere_sends_does_nothing() {
    let victim = Victim::new().await;
    let evil = [
        &["host: evil.example:4566"][..],
        &["host: localhost.evil.example"],
        &["host: "],
        &[],
        &["host: localhost", "origin: https://evil.example"],
        &["host: localhost", "origin: null"],
        &["host: localhost", "origin: http://localhost:3000", "origin: https://evil.example"],
        &["host: localhost", "referer: https://evil.example/localhost"],
        &["host: localhost", "origin: http://localhost", "referer: http://localhost@evil.example/"],
        &["host: localhost", "sec-fetch-site: cross-site"],
        &["host: localhost", "sec-fetch-site: Cross-Site", "origin: http://localhost:3000"],
    ];
    for headers in evil {
        assert_eq!(victim.attack(headers).await, [403; 4], "{headers:?}");
        assert_eq!(victim.holds().await, ("1".into(), true), "{headers:?}");
    }
    for hosts in [["host: localhost", "host: localhost"], ["host: localhost", "host: evil.example"]] {
        assert_eq!(victim.attack(&hosts).await, [400; 4], "{hosts:?}");
        assert_eq!(victim.holds().await, ("1".into(), true), "{hosts:?}");
    }
    // Somebody was led here by a page that was opened from the address bar.
    let led = ["host: localhost", "sec-fetch-site: none", "sec-fetch-mode: navigate"];
    let purge = format!("GET /?Action=PurgeQueue&Version=2012-11-05&QueueUrl={}", victim.queue);
    assert_eq!(victim.cloud.raw(&purge, &led, "").await.0, 403);
    assert_eq!(victim.holds().await, ("1".into(), true));
    assert_eq!(victim.cloud.raw("GET /images/a.png", &led, "").await.0, 200);
    // The same from this machine has the effects that nothing above has had.
    assert_eq!(victim.attack(&["host: localhost", "sec-fetch-site: none"]).await, [200, 404, 200, 200]);
    assert_eq!(victim.holds().await, ("0".into(), false));
}

#[tokio::test]
async fn programs_and_pages_of_this_machine_are_answered() {
    let cloud = listen().await;
    let local = [
        &["host: localhost"][..],
        &["host: LOCALHOST:1"],
        &["host: 127.0.0.1:4566"],
        &["host: [::1]:4566"],
        &["host: bucket.localhost:4566"],
        &["host: bucket.s3.localhost"],
        &["host: localhost", "origin: http://localhost:5173", "sec-fetch-site: same-site"],
        &["host: localhost", "origin: https://app.localhost", "referer: https://app.localhost/a?b=c#d"],
        &["host: 127.0.0.1", "referer: http://[::1]:5173/", "sec-fetch-site: same-origin"],
        &["host: 127.0.0.1", "sec-fetch-site: none"],
    ];
    for headers in local {
        let (status, answer) =
            cloud.raw("GET /?Action=GetCallerIdentity&Version=2011-06-15", headers, "").await;
        assert_eq!(status, 200, "{headers:?}: {answer}");
    }
    let identity = "?Action=GetCallerIdentity&Version=2011-06-15";
    for (host, status) in [("localhost", 200), ("evil.example", 403)] {
        let absolute = format!("GET http://{host}/{identity}");
        assert_eq!(cloud.raw(&absolute, &["host: localhost"], "").await.0, status, "{absolute}");
    }
    let disguised = format!("GET http://localhost/{identity}");
    assert_eq!(cloud.raw(&disguised, &["host: evil.example"], "").await.0, 403);
}

#[tokio::test]
async fn a_refused_page_is_told_why_in_the_protocol_that_it_speaks() {
    let cloud = listen().await;
    let sentence = "This port does nothing for web pages from elsewhere: origin is ";
    let evil = ["host: localhost", "origin: https://evil.example"];
    let target = [&evil[..], &["x-amz-target: AmazonSQS.ListQueues"]].concat();
    for (request, headers, code) in [
        ("POST /", &target[..], r#""__type":"com.amazonaws.sqs#AccessDenied""#),
        ("GET /?Action=ListQueues", &evil, "<Code>AccessDenied</Code>"),
        ("GET /images/a.png", &evil, "<Error><Code>AccessDenied</Code>"),
        ("GET /2015-03-31/functions", &evil, r#""Type":"User""#),
        ("GET /", &evil, "text/plain"),
    ] {
        let (status, answer) = cloud.raw(request, headers, "").await;
        assert!(status == 403 && answer.contains(code) && answer.contains(sentence), "{request}: {answer}");
    }
}

/// The address of an object, presigned as an SDK does it.
fn presigned(cloud: &Listening, key: &str, secret: &str, path: &str, age: u64) -> String {
    use aws_sigv4::http_request::{
        PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign,
    };
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(std::time::Duration::from_secs(60));
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    let token = Some("token".to_owned());
    let identity = aws_credential_types::Credentials::new(key, secret, token, None, "test").into();
    let params = aws_sigv4::sign::v4::SigningParams::builder()
        .identity(&identity)
        .region("us-east-1")
        .name("s3")
        .time(std::time::SystemTime::now() - std::time::Duration::from_secs(age))
        .settings(settings)
        .build()
        .unwrap()
        .into();
    let path = format!("{path}?x-id=GetObject");
    let address = format!("{}{path}", cloud.url);
    let request =
        SignableRequest::new("GET", address, std::iter::empty(), SignableBody::UnsignedPayload).unwrap();
    let (signed, _) = sign(request, &params).unwrap().into_parts();
    let (_, added) = signed.into_parts();
    let added = form_urlencoded::Serializer::new(String::new()).extend_pairs(added).finish();
    format!("{path}&{added}")
}

#[tokio::test]
async fn a_page_from_elsewhere_shows_an_object_that_is_validly_presigned_and_no_other() {
    let cloud = with_bucket().await;
    for key in ["a%20b.png", "other.png"] {
        cloud.s3("PUT", &format!("/images/{key}")).body("x").send().await.unwrap();
    }
    let function = cloud.cloud.calls.key_of("arn:aws:lambda:us-east-1:123456789012:function:f");
    let secret = cloud.cloud.secret.clone();
    let host = format!("host: {}", cloud.address());
    let evil = [host.as_str(), "referer: https://evil.example/", "sec-fetch-site: cross-site"];
    let signed = |key: &str, secret: &str, age| presigned(&cloud, key, secret, "/images/a%20b.png", age);

    let valid = signed(&function, &secret, 30);
    for valid in [&valid, &signed("local", "local", 30)] {
        let (status, answer) = cloud.raw(&format!("GET {valid}"), &evil, "").await;
        assert!(status == 200 && answer.ends_with("\r\n\r\nx"), "{answer}");
        assert!(!answer.contains("access-control-"), "a page may show it, and not read it: {answer}");
    }
    for (what, request) in [
        ("expired", format!("GET {}", signed(&function, &secret, 120))),
        ("of another secret", format!("GET {}", signed("local", "other", 30))),
        ("of a function's key without its secret", format!("GET {}", signed(&function, "local", 30))),
        ("of nobody's key", format!("GET {}", signed("AKIDNOBODY", &secret, 30))),
        ("for another object", format!("GET {}", valid.replace("a%20b", "other"))),
        ("to write", format!("PUT {valid}")),
        ("to delete", format!("DELETE {valid}")),
        ("with another action", format!("GET {valid}&Action=ListQueues")),
        ("not signed", "GET /images/a%20b.png".into()),
    ] {
        assert_eq!(cloud.raw(&request, &evil, "").await.0, 403, "{what}: {request}");
    }
    let rebound = ["host: evil.example", "sec-fetch-site: same-origin"];
    assert_eq!(cloud.raw(&format!("GET {valid}"), &rebound, "").await.0, 403);
}

#[tokio::test]
async fn a_body_that_is_cut_short_or_does_not_go_on_is_told_apart_from_one_that_is_too_long() {
    let cloud = listen_with(Settings { patience: SHORT, ..Settings::for_tests() }).await;
    let put = |length: usize| {
        format!(
            "PUT /images/a HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n\r\nabc"
        )
    };
    let silent = send(cloud.address(), put(4).as_bytes()).await;
    assert!(silent.starts_with("HTTP/1.1 400") && silent.contains("<Code>RequestTimeout</Code>"), "{silent}");
    // Who has gone away gets no answer, or this one.
    let cut = send_and_end(cloud.address(), put(4).as_bytes()).await;
    assert!(cut.is_empty() || cut.contains("<Code>IncompleteBody</Code>"), "{cut}");
    let chunked = "PUT /images/a HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n";
    let broken = send(cloud.address(), chunked.as_bytes()).await;
    assert!(broken.starts_with("HTTP/1.1 400") && broken.contains("<Code>IncompleteBody</Code>"), "{broken}");
    let too_long = vec![b'x'; MAX_BODY + 1];
    let too_long = cloud.s3("PUT", "/images/a").body(too_long).send().await.unwrap();
    assert_eq!(too_long.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert!(too_long.text().await.unwrap().contains("<Code>EntityTooLarge</Code>"));
    // Half a head has no answer; the connection is closed.
    assert_eq!(send(cloud.address(), b"GET /images HTTP/1.1\r\nhost: loc").await, "");
}
