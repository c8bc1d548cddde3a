//! A client of a running application: of its HTTP API and its AWS endpoint.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use local_cloud::up::Addresses;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    pub addresses: Addresses,
}

/// An answer of the API.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: StatusCode,
    /// The header `x-command-id` of an accepted write.
    pub command_id: Option<String>,
    /// The body; `null` where it is not JSON.
    pub body: Value,
}

impl Client {
    pub fn new(addresses: Addresses) -> Self {
        Self { http: reqwest::Client::new(), addresses }
    }

    /// Calls the HTTP API: `path` begins with `/`.
    ///
    /// # Errors
    /// When the connection fails; an HTTP status is an answer.
    pub async fn api(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Answer> {
        let mut request = self.http.request(method, format!("{}{path}", self.addresses.api_url));
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await?;
        let command_id =
            response.headers().get("x-command-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
        let status = response.status();
        let body = serde_json::from_slice(&response.bytes().await?).unwrap_or(Value::Null);
        Ok(Answer { status, command_id, body })
    }

    /// Reads from the HTTP API.
    pub async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.api(Method::GET, path, None).await
    }

    /// Sends a write and returns its command id.
    pub async fn write(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<String> {
        let answer = self.api(method, path, body).await?;
        match (answer.status, answer.command_id) {
            (StatusCode::OK, Some(id)) => Ok(id),
            (status, _) => bail!("{path} was not accepted: {status} {}", answer.body),
        }
    }

    /// Calls an operation of the AWS endpoint in JSON: `target` is the `X-Amz-Target`.
    pub async fn aws(&self, target: &str, input: &Value) -> anyhow::Result<Value> {
        let response = self
            .http
            .post(&self.addresses.endpoint_url)
            .header("X-Amz-Target", target)
            .header("Content-Type", "application/x-amz-json-1.1")
            .body(input.to_string())
            .send()
            .await?;
        let status = response.status();
        let body: Value = serde_json::from_slice(&response.bytes().await?).unwrap_or(Value::Null);
        if status.is_success() { Ok(body) } else { bail!("{target}: {status} {body}") }
    }

    /// Invokes a function and waits for its answer.
    ///
    /// # Errors
    /// When there is no such function; a function's own error is an answer.
    pub async fn invoke(&self, function: &str, event: &Value) -> anyhow::Result<Value> {
        let url = format!("{}/2015-03-31/functions/{function}/invocations", self.addresses.endpoint_url);
        let response = self.http.post(url).json(event).send().await?;
        let status = response.status();
        let body = response.bytes().await?;
        if !status.is_success() {
            bail!("{function}: {status} {}", String::from_utf8_lossy(&body));
        }
        serde_json::from_slice(&body).with_context(|| format!("{function} did not answer in JSON"))
    }

    /// Calls a REST service of the AWS endpoint (Lambda, Schemas): `path` begins with `/`.
    pub async fn rest(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let mut request = self.http.request(method, format!("{}{path}", self.addresses.endpoint_url));
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await?;
        let status = response.status();
        let answer: Value = serde_json::from_slice(&response.bytes().await?).unwrap_or(Value::Null);
        if status.is_success() { Ok(answer) } else { bail!("{path}: {status} {answer}") }
    }

    /// Switches the event source mapping of a function on or off, and waits until its poller has noticed.
    pub async fn poll(&self, function: &str, enabled: bool, patience: Duration) -> anyhow::Result<()> {
        const MAPPINGS: &str = "/2015-03-31/event-source-mappings";
        let mappings = self.rest(Method::GET, &format!("{MAPPINGS}?FunctionName={function}"), None).await?;
        let id =
            mappings["EventSourceMappings"][0]["UUID"].as_str().context("the function has no mapping")?;
        let path = format!("{MAPPINGS}/{id}");
        self.rest(Method::PUT, &path, Some(&json!({"Enabled": enabled}))).await?;
        let state = if enabled { "Enabled" } else { "Disabled" };
        until(&format!("a mapping that is {state}"), patience, async || {
            Ok((self.rest(Method::GET, &path, None).await?["State"] == state).then_some(()))
        })
        .await
    }

    /// Puts an object into the images bucket.
    pub async fn put_image(&self, key: &str, bytes: Vec<u8>) -> anyhow::Result<()> {
        let bucket = self.output("ImagesBucketName")?;
        let url = format!("{}/{bucket}/{key}", self.addresses.endpoint_url);
        let content_type = if key.ends_with(".png") { "image/png" } else { "image/jpeg" };
        // The endpoint recognises a call to S3 by the credential scope.
        let scope =
            format!("AWS4-HMAC-SHA256 Credential=local/20260101/{}/s3/aws4_request", self.addresses.region);
        let request = self.http.put(url).header("Content-Type", content_type).header("Authorization", scope);
        request.body(bytes).send().await?.error_for_status()?;
        Ok(())
    }

    /// An output of the root stack.
    pub fn output(&self, key: &str) -> anyhow::Result<&str> {
        let value =
            self.addresses.outputs.get(key).with_context(|| format!("the stack has no output {key}"))?;
        Ok(value)
    }

    /// The name of the log group whose ARN this output is.
    pub fn log_group(&self, output: &str) -> anyhow::Result<String> {
        let arn = self.output(output)?;
        let name = arn.split(":log-group:").nth(1).unwrap_or_default();
        Ok(name.trim_end_matches(":*").to_owned())
    }

    /// All JSON messages of a log group, oldest first.
    pub async fn logged(&self, group: &str) -> anyhow::Result<Vec<Value>> {
        let events = self.log_events(group, 0).await?;
        Ok(events.iter().filter_map(|event| serde_json::from_str(event["message"].as_str()?).ok()).collect())
    }

    /// The events of a log group since `from_ms` (milliseconds since the epoch), oldest first.
    pub async fn log_events(&self, group: &str, from_ms: u64) -> anyhow::Result<Vec<Value>> {
        let mut events = Vec::new();
        let mut input = json!({"logGroupName": group, "startTime": from_ms});
        loop {
            let mut page = self.aws("Logs_20140328.FilterLogEvents", &input).await?;
            if let Value::Array(found) = page["events"].take() {
                events.extend(found);
            }
            input["nextToken"] = page["nextToken"].take();
            if input["nextToken"].is_null() {
                return Ok(events);
            }
        }
    }
}

/// Asks again and again until there is an answer, for at most `patience`. `what` names it in the error.
pub async fn until<T>(
    what: &str,
    patience: Duration,
    mut question: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let asked = Instant::now();
    loop {
        if let Some(answer) = question().await? {
            return Ok(answer);
        }
        if asked.elapsed() > patience {
            bail!("{what} did not come within {} s", patience.as_secs());
        }
        // A client can only poll.
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}
