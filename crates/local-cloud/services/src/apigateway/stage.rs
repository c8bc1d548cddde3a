//! A stage: the address under which an API answers, its throttling, variables and access log.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use cloud_core::api::is_name;
use cloud_core::resource::{Refusal, Resource};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};

use super::rest_api::{self, RestApi};
use super::substitution::{Place, Substitution};
use super::throttle::Bucket;

/// The limits of a method of which only one is set: those of an account ("10,000 requests per second",
/// "5,000 burst"; guide, "Quotas").
const ACCOUNT_RATE: f64 = 10_000.0;
const ACCOUNT_BURST: u32 = 5_000;

/// `AWS::ApiGateway::Stage`. Properties with an underscore have no effect here.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(super) struct StageProperties {
    pub rest_api_id: String,
    stage_name: String,
    /// A deployment is a snapshot of the API on AWS; here the API is always that of the template.
    #[serde(default)]
    deployment_id: String,
    #[serde(default)]
    method_settings: Vec<MethodSetting>,
    access_log_setting: Option<AccessLogSetting>,
    #[serde(default)]
    variables: Map<String, Value>,
    #[serde(default, deserialize_with = "flag")]
    cache_cluster_enabled: bool,
    #[serde(rename = "TracingEnabled")]
    _tracing_enabled: Option<Value>,
    #[serde(rename = "Description")]
    _description: Option<String>,
    #[serde(rename = "DocumentationVersion")]
    _documentation_version: Option<String>,
    #[serde(rename = "Tags")]
    _tags: Option<Value>,
}

/// Execution logs and metrics are not emulated: the properties with an underscore.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct MethodSetting {
    http_method: Option<String>,
    resource_path: Option<String>,
    #[serde(default, deserialize_with = "number")]
    throttling_rate_limit: Option<f64>,
    #[serde(default, deserialize_with = "number")]
    throttling_burst_limit: Option<f64>,
    #[serde(default, deserialize_with = "flag")]
    caching_enabled: bool,
    #[serde(rename = "LoggingLevel")]
    _logging_level: Option<Value>,
    #[serde(rename = "DataTraceEnabled")]
    _data_trace_enabled: Option<Value>,
    #[serde(rename = "MetricsEnabled")]
    _metrics_enabled: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct AccessLogSetting {
    destination_arn: String,
    format: String,
}

/// A number, which a template parameter gives as text.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let number = value.as_f64().or_else(|| value.as_str()?.parse().ok());
    number.map(Some).ok_or_else(|| serde::de::Error::custom(format!("{value} is not a number")))
}

/// A Boolean, which a template parameter gives as text.
fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let flag = value.as_bool().or_else(|| value.as_str()?.parse().ok());
    flag.ok_or_else(|| serde::de::Error::custom(format!("{value} is neither true nor false")))
}

#[derive(Debug)]
pub(super) struct Stage {
    pub name: String,
    pub api: Arc<RestApi>,
    pub variables: Value,
    /// The id of its deployment.
    pub deployment: String,
    /// Whether it is the stage of a `Deployment.StageName`.
    pub implicit: bool,
    limits: Vec<Limit>,
    buckets: Mutex<HashMap<(String, String), Arc<Bucket>>>,
    access_log: Option<AccessLog>,
}

#[derive(Debug)]
struct Limit {
    /// `None` for all.
    path: Option<String>,
    method: Option<String>,
    rate: f64,
    burst: u32,
}

#[derive(Debug)]
struct AccessLog {
    group: String,
    format: Substitution,
}

impl Stage {
    /// A stage without settings.
    pub fn plain(name: &str, deployment: &str, api: Arc<RestApi>) -> Self {
        Self {
            name: name.to_owned(),
            deployment: deployment.to_owned(),
            api,
            variables: json!({}),
            implicit: true,
            limits: Vec::new(),
            buckets: Mutex::default(),
            access_log: None,
        }
    }

    pub fn new(resource: &Resource, properties: StageProperties, api: Arc<RestApi>) -> Result<Self, Refusal> {
        let name = &properties.stage_name;
        // "Stage names can only contain alphanumeric characters, hyphens, and underscores. Maximum length is
        // 128 characters" (guide, "Amazon API Gateway important notes").
        if !is_name(name, "-_") || name.len() > 128 {
            return Err(resource.refuse("Properties.StageName", format!("{name} is not a valid stage name")));
        }
        if properties.cache_cluster_enabled {
            return Err(resource.refuse("Properties.CacheClusterEnabled", "caching is not emulated"));
        }
        if let Some((variable, _)) = properties.variables.iter().find(|(_, value)| !value.is_string()) {
            let path = format!("Properties.Variables.{variable}");
            return Err(resource.refuse(&path, "a stage variable is a text"));
        }
        let mut limits = Vec::new();
        for (index, setting) in properties.method_settings.iter().enumerate() {
            let path = format!("Properties.MethodSettings[{index}]");
            limits.extend(setting.limit(&api).map_err(|reason| resource.refuse(&path, reason))?);
        }
        let access_log = properties.access_log_setting.map(|setting| setting.read(resource)).transpose()?;
        let mut stage = Self::plain(name, &properties.deployment_id, api);
        stage.variables = Value::Object(properties.variables);
        stage.implicit = false;
        stage.limits = limits;
        stage.access_log = access_log;
        Ok(stage)
    }

    /// Takes a token for one request to a method; true where the method is not limited.
    pub fn admits(&self, path: &str, method: &str, now_ms: i64) -> bool {
        let Some(limit) = self.limit(path, method) else { return true };
        let key = (path.to_owned(), method.to_owned());
        let bucket = {
            let mut buckets = cloud_core::lock(&self.buckets);
            let bucket = buckets.entry(key);
            bucket.or_insert_with(|| Arc::new(Bucket::new(limit.rate, limit.burst, now_ms))).clone()
        };
        bucket.take(now_ms)
    }

    /// The group and the line; `None` where the stage has no access log.
    pub fn log_line(&self, context: &Value) -> Option<(&str, String)> {
        let log = self.access_log.as_ref()?;
        Some((&log.group, log.format.write(context, &self.variables, "-")))
    }

    /// The setting of the method itself wins over that of all methods.
    fn limit(&self, path: &str, method: &str) -> Option<&Limit> {
        let fits = |limit: &&Limit| {
            limit.path.as_deref().is_none_or(|other| other == path)
                && limit.method.as_deref().is_none_or(|other| other == method)
        };
        self.limits.iter().filter(fits).max_by_key(|limit| (limit.path.is_some(), limit.method.is_some()))
    }
}

impl AccessLogSetting {
    fn read(self, resource: &Resource) -> Result<AccessLog, Refusal> {
        let refuse =
            |key: &str, reason: &str| resource.refuse(&format!("Properties.AccessLogSetting.{key}"), reason);
        let group = log_group(&self.destination_arn)
            .ok_or_else(|| refuse("DestinationArn", "is not the ARN of a log group"))?;
        let format = Substitution::parse(&self.format, Place::AccessLog)
            .map_err(|reason| refuse("Format", &reason))?;
        if !format.reads("requestId") && !format.reads("extendedRequestId") {
            let reason = "must contain $context.requestId or $context.extendedRequestId";
            return Err(refuse("Format", reason));
        }
        Ok(AccessLog { group, format })
    }
}

impl MethodSetting {
    /// The limit of its methods; `None` where it sets none.
    fn limit(&self, api: &RestApi) -> Result<Option<Limit>, String> {
        if self.caching_enabled {
            return Err("CachingEnabled is not emulated".into());
        }
        let path = match self.resource_path.as_deref() {
            None => return Err("ResourcePath is missing".into()),
            Some("/*" | "*") => None,
            // "Forward slashes (/) are encoded as ~1 and the initial slash must include a forward slash"
            // (CloudFormation, AWS::ApiGateway::Stage MethodSetting).
            Some(path) if path.contains("~1") => Some(path.replacen('/', "", 1).replace("~1", "/")),
            Some(path) => Some(path.to_owned()),
        };
        let method = match self.http_method.as_deref() {
            None => return Err("HttpMethod is missing".into()),
            Some("*") => None,
            Some(method) => Some(method.to_owned()),
        };
        if let Some(path) = &path {
            let found = api.resources.iter().find(|resource| resource.path == *path);
            let has_method = |resource: &rest_api::Resource| {
                method.as_ref().is_none_or(|method| resource.methods.contains_key(method))
            };
            if !found.is_some_and(has_method) {
                return Err(format!("the API has no {} {path}", method.as_deref().unwrap_or("*")));
            }
        }
        if self.throttling_rate_limit.is_none() && self.throttling_burst_limit.is_none() {
            return Ok(None);
        }
        Ok(Some(Limit {
            path,
            method,
            rate: self.throttling_rate_limit.unwrap_or(ACCOUNT_RATE),
            burst: self.throttling_burst_limit.map_or(ACCOUNT_BURST, |burst| burst as u32),
        }))
    }
}

/// `/aws/...` out of `arn:aws:logs:{region}:{account}:log-group:/aws/...:*`.
fn log_group(arn: &str) -> Option<String> {
    let group = arn.strip_prefix("arn:aws:logs:")?.split_once(":log-group:")?.1;
    Some(group.strip_suffix(":*").unwrap_or(group).to_owned())
}
