//! Loads the seed data of `web-service/data/` into any stage: images into the bucket, listings through the API.
//! It skips images and listings that are there already, so that it can run at any time, also again after an
//! interruption.

use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumMode};
use aws_smithy_runtime_api::client::http::{HttpConnector, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use local_cloud::up::Addresses;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use vocabulary::Address;

use crate::client::{Client, until};
use crate::stack::{self, Stack};

#[derive(Debug, clap::Args)]
pub struct Options {
    /// The stage; its stack is uni-prop-STAGE. `local` is the local cloud of `cargo unicorn up`, unless
    /// AWS_ENDPOINT_URL is set; the others are found with your AWS credentials and region.
    #[arg(long, default_value = "local", value_parser = ["local", "dev", "prod"])]
    stage: String,
    /// The name of the stack, if it is not uni-prop-STAGE.
    #[arg(long)]
    stack_name: Option<String>,
    /// The state folder of the local cloud; by default .unicorn beside template.yaml.
    #[arg(long)]
    state_dir: Option<PathBuf>,
}

/// The longest wait for the outcome of a command: one that came too early waits two minutes, and one whose
/// function was killed is received again later.
const PATIENCE: Duration = Duration::from_secs(240);

/// When `up` loads the seed data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Into a new state; a mark in the state folder records it.
    Once,
    /// At this start, where it is missing or different.
    Now,
    Never,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Images that were uploaded.
    pub images: usize,
    /// Images that were there already, byte for byte.
    pub images_kept: usize,
    pub listings: Vec<Sent>,
    /// Listings that were there already with the same content.
    pub listings_kept: usize,
    /// The status of every answer of the API.
    pub answers: Vec<u16>,
}

/// A listing that the API accepted; its outcome is known later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    pub property_id: String,
    pub command_id: String,
}

impl fmt::Display for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} images and {} listings loaded", self.images, self.listings.len())?;
        if self.images_kept + self.listings_kept > 0 {
            write!(
                f,
                "; {} images and {} listings were there already",
                self.images_kept, self.listings_kept
            )?;
        }
        Ok(())
    }
}

/// The bucket and the API of a stage.
#[derive(Debug)]
pub struct Target {
    s3: aws_sdk_s3::Client,
    bucket: String,
    api: Api,
}

impl Target {
    /// Finds them in the outputs of the stack.
    pub fn of(stack: &Stack) -> anyhow::Result<Self> {
        // Only AWS resolves a bucket's name before the host name.
        let config = aws_sdk_s3::config::Builder::from(&stack.config)
            .force_path_style(stack.config.endpoint_url().is_some())
            .build();
        Ok(Self {
            s3: aws_sdk_s3::Client::from_conf(config),
            bucket: stack.output("ImagesBucketName")?.to_owned(),
            api: Api::new(stack.output("WebApiUrl")?),
        })
    }

    /// Finds them in a local cloud.
    pub async fn local(client: &Client) -> anyhow::Result<Self> {
        let addresses = &client.addresses;
        Self::of(&Stack::find(&addresses.stack, stack::of_local_cloud(addresses)).await?)
    }

    /// Loads images and listings that are missing or different; calls `accepted` for each accepted listing.
    ///
    /// # Errors
    /// When something is refused. The next attempt keeps what is loaded by then.
    pub async fn load(
        &self,
        project: &Path,
        mut accepted: impl FnMut(&Sent) -> anyhow::Result<()>,
    ) -> anyhow::Result<Loaded> {
        let mut loaded = Loaded::default();
        (loaded.images, loaded.images_kept) = self.images(project).await?;
        for listing in listings(project)? {
            match self.listing(&listing).await? {
                Some(sent) => {
                    accepted(&sent)?;
                    loaded.listings.push(sent);
                }
                None => loaded.listings_kept += 1,
            }
        }
        loaded.answers =
            std::mem::take(&mut *self.api.answers.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(loaded)
    }

    /// Uploads the images of `web-service/data/images/` that are missing or different, with their paths as keys.
    /// Returns how many it uploaded, and how many were there.
    async fn images(&self, project: &Path) -> anyhow::Result<(usize, usize)> {
        let root = project.join("web-service/data/images");
        let (mut put, mut kept) = (0, 0);
        for path in files(&root)? {
            let key = path.strip_prefix(&root)?.to_string_lossy().into_owned();
            let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            if self.put(&key, bytes).await? {
                put += 1;
            } else {
                kept += 1;
            }
        }
        Ok((put, kept))
    }

    /// Uploads an image, unless S3 has one with the same SHA-256; returns whether it did. An ETag would not do:
    /// it is a hash of the bytes only for some kinds of encryption.
    /// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html>
    async fn put(&self, key: &str, bytes: Vec<u8>) -> anyhow::Result<bool> {
        let place = format!("{key} in the bucket {}", self.bucket);
        let head = self.s3.head_object().bucket(&self.bucket).key(key).checksum_mode(ChecksumMode::Enabled);
        let kept = match head.send().await {
            Ok(head) => head.checksum_sha256,
            Err(error) if error.as_service_error().is_some_and(|error| error.is_not_found()) => None,
            Err(error) => return Err(stack::failure(&format!("look for {place}"), &error)),
        };
        let checksum = STANDARD.encode(Sha256::digest(&bytes));
        if kept.as_ref() == Some(&checksum) {
            return Ok(false);
        }
        let content_type = if key.ends_with(".png") { "image/png" } else { "image/jpeg" };
        let put = self.s3.put_object().bucket(&self.bucket).key(key).content_type(content_type);
        let put = put.checksum_algorithm(ChecksumAlgorithm::Sha256).checksum_sha256(checksum);
        let done = put.body(ByteStream::from(bytes)).send().await;
        done.map_err(|error| stack::failure(&format!("put {place}"), &error))?;
        Ok(true)
    }

    /// Sends a listing, unless it is there with the same content: replacing it would remove it from search.
    async fn listing(&self, listing: &Value) -> anyhow::Result<Option<Sent>> {
        let address: Address = serde_json::from_value(listing["address"].clone())
            .with_context(|| format!("a seed listing has no valid address: {}", listing["address"]))?;
        let property_id = address.property_id().to_string();
        let found = self.api.call("GET", &format!("/listings/{property_id}"), None).await?;
        let seen = match found.status {
            200 if is_same(listing, &found.body) => return Ok(None),
            200 => found.body["updated_at"].to_string(),
            404 => "none".to_owned(),
            _ => bail!(found.unexpected()),
        };
        let body = listing.to_string();
        // The key names the new content and the version that it replaces: a second run before the command is
        // applied repeats it, but a listing that somebody changed or withdrew since gets a new command.
        let key = format!("seed-{}", hex::encode(Sha256::digest(format!("{body}\n{seen}"))));
        let sent = self.api.call("POST", "/listings", Some((&body, &key))).await?;
        match (sent.status, &sent.command_id) {
            (200, Some(id)) => Ok(Some(Sent { property_id, command_id: id.clone() })),
            _ => bail!(sent.unexpected()),
        }
    }

    /// Waits for the outcome of a command: `None` if it was applied, the reason if it was rejected.
    async fn outcome(&self, sent: &Sent) -> anyhow::Result<Option<String>> {
        let path = format!("/listings/commands/{}", sent.command_id);
        until(&format!("the outcome of {} ({path})", sent.property_id), PATIENCE, async || {
            let answer = self.api.call("GET", &path, None).await?;
            match (answer.status, answer.body["status"].as_str()) {
                (200, Some("APPLIED")) => Ok(Some(None)),
                (200, Some("REJECTED")) => Ok(Some(Some(format!(
                    "{}: {}",
                    answer.body["reason"].as_str().unwrap_or_default(),
                    answer.body["message"].as_str().unwrap_or_default()
                )))),
                // No function has received it yet, or it waits.
                (404, _) | (200, Some("PENDING")) => Ok(None),
                _ => bail!(answer.unexpected()),
            }
        })
        .await
    }
}

/// `cargo unicorn seed`: loads the seed data into a stage and prints the outcome of each listing.
pub async fn run(project: &Path, options: &Options) -> anyhow::Result<()> {
    let name = options.stack_name.clone().unwrap_or_else(|| format!("uni-prop-{}", options.stage));
    let is_here = options.stage == "local" && std::env::var_os("AWS_ENDPOINT_URL").is_none();
    ensure!(
        is_here || options.state_dir.is_none(),
        "--state-dir belongs to a local cloud; it has no meaning for another stage or with AWS_ENDPOINT_URL"
    );
    let config = if is_here {
        let state = options.state_dir.clone().unwrap_or_else(|| project.join(".unicorn"));
        stack::of_local_cloud(&addresses(&state)?)
    } else {
        stack::from_env().await?
    };
    let target = Target::of(&Stack::find(&name, config.clone()).await?)?;
    println!("Stack       {name} in {}", stack::place(&config));
    println!("Bucket      {}", target.bucket);
    println!("API         {}", target.api.url);
    let loaded = target.load(project, |_| Ok(())).await?;
    println!("Seed data   {loaded}");
    let mut rejected = 0;
    for sent in &loaded.listings {
        match target.outcome(sent).await? {
            None => println!("applied     {}", sent.property_id),
            Some(why) => {
                rejected += 1;
                println!("rejected    {}: {why}", sent.property_id);
            }
        }
    }
    ensure!(rejected == 0, "{rejected} of {} listings were rejected", loaded.listings.len());
    Ok(())
}

/// The addresses of the local cloud that runs on this state folder.
fn addresses(state: &Path) -> anyhow::Result<Addresses> {
    let file = state.join("local.json");
    let text = std::fs::read(&file).with_context(|| {
        format!(
            "no local cloud runs on {}; start one with `cargo unicorn up`, or set --state-dir",
            state.display()
        )
    })?;
    serde_json::from_slice(&text).with_context(|| format!("{} cannot be read", file.display()))
}

/// The bodies of the seed listings for `POST /listings`.
pub fn listings(project: &Path) -> anyhow::Result<Vec<Value>> {
    let path = project.join("web-service/data/listings.json");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not a list of listings", path.display()))
}

/// Loads only the images into a local cloud, and returns how many it uploaded.
pub async fn images(project: &Path, client: &Client) -> anyhow::Result<usize> {
    Ok(Target::local(client).await?.images(project).await?.0)
}

/// Loads the seed data into the local cloud with this state folder, as `when` says.
///
/// # Errors
/// When something is refused; the next start tries again.
pub async fn load(
    project: &Path,
    state: &Path,
    client: &Client,
    when: When,
) -> anyhow::Result<Option<Loaded>> {
    let mut mark = Mark::read(state)?;
    if when == When::Never || (when == When::Once && mark.is_complete) {
        return Ok(None);
    }
    let target = Target::local(client).await?;
    let loading = target.load(project, |sent| {
        mark.commands.push(sent.command_id.clone());
        mark.write(state)
    });
    let loaded = loading.await?;
    mark.is_complete = true;
    mark.write(state)?;
    Ok(Some(loaded))
}

/// The ids of the commands with which earlier runs on this state loaded the seed data. Commands of an
/// interrupted run may end in this run.
pub fn sent_before(state: &Path) -> anyhow::Result<Vec<String>> {
    Ok(Mark::read(state)?.commands)
}

/// The file `seeded` in the state folder: one line for each accepted command, and the line `loaded` after the
/// last. An empty file, from an earlier version, also means that everything is loaded.
#[derive(Debug, Default, PartialEq)]
struct Mark {
    commands: Vec<String>,
    is_complete: bool,
}

impl Mark {
    const FILE: &str = "seeded";
    const COMPLETE: &str = "loaded";

    fn read(state: &Path) -> anyhow::Result<Self> {
        let file = state.join(Self::FILE);
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
        };
        let mut commands: Vec<String> = text.lines().map(str::to_owned).collect();
        let is_complete = commands.is_empty() || commands.last().is_some_and(|last| last == Self::COMPLETE);
        commands.retain(|line| line != Self::COMPLETE);
        Ok(Self { commands, is_complete })
    }

    /// Replaces the whole file: an interrupted write leaves the old one.
    fn write(&self, state: &Path) -> anyhow::Result<()> {
        let complete = self.is_complete.then_some(Self::COMPLETE);
        let lines = self.commands.iter().map(String::as_str).chain(complete);
        let text: String = lines.flat_map(|line| [line, "\n"]).collect();
        let new = state.join(format!("{}.new", Self::FILE));
        cloud_core::private_file::write(&new, text.as_bytes())?;
        std::fs::rename(&new, state.join(Self::FILE))?;
        Ok(())
    }
}

/// All files in a folder and its subfolders, sorted by path.
pub(crate) fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<_>>>()?;
    paths.sort();
    let below = paths.into_iter().map(|path| if path.is_dir() { files(&path) } else { Ok(vec![path]) });
    Ok(below.collect::<anyhow::Result<Vec<_>>>()?.concat())
}

/// Whether a listing of the API has the content of a seed listing and is not withdrawn.
fn is_same(listing: &Value, found: &Value) -> bool {
    let mut content = listing.as_object().into_iter().flatten();
    found["status"] != "WITHDRAWN" && content.all(|(name, value)| name == "address" || found[name] == *value)
}

/// The public API of the web service.
#[derive(Debug)]
struct Api {
    url: String,
    https: SharedHttpConnector,
    /// The status of each answer.
    answers: Mutex<Vec<u16>>,
}

struct Answer {
    /// Method and URL.
    request: String,
    status: u16,
    command_id: Option<String>,
    body: Value,
}

impl Answer {
    fn unexpected(&self) -> anyhow::Error {
        anyhow!("{} answered {} {}", self.request, self.status, self.body)
    }
}

impl Api {
    fn new(url: &str) -> Self {
        Self { url: url.to_owned(), https: stack::connector(), answers: Mutex::default() }
    }

    /// Sends one request; a write has a body and an idempotency key.
    async fn call(&self, method: &str, path: &str, write: Option<(&str, &str)>) -> anyhow::Result<Answer> {
        let url = format!("{}{path}", self.url);
        let mut request = HttpRequest::new(SdkBody::from(write.map_or("", |(body, _)| body)));
        request.set_method(method)?;
        request.set_uri(&*url).with_context(|| format!("{url} is not a valid address"))?;
        if let Some((_, key)) = write {
            request.headers_mut().insert("content-type", "application/json");
            request.headers_mut().try_insert("idempotency-key", key.to_owned())?;
        }
        let unreachable = |why| anyhow!("the API at {} cannot be reached: {why}", self.url);
        let answer = self.https.call(request).await;
        let mut answer = answer.map_err(|error| unreachable(stack::causes(&error)))?;
        let status = answer.status().as_u16();
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).push(status);
        let body = ByteStream::new(answer.take_body()).collect().await;
        let body = body.map_err(|error| unreachable(stack::causes(&error)))?.into_bytes();
        Ok(Answer {
            request: format!("{method} {url}"),
            status,
            command_id: answer.headers().get("x-command-id").map(str::to_owned),
            body: serde_json::from_slice(&body).unwrap_or(Value::Null),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn an_api_that_nobody_answers_is_told_with_its_address() {
        let api = Api::new("http://127.0.0.1:1/dev");
        let error = api.call("GET", "/listings/a/b/c/1", None).await.err().unwrap().to_string();
        assert!(error.starts_with("the API at http://127.0.0.1:1/dev cannot be reached: "), "{error}");
        assert!(error.contains("refused"), "{error}");
    }

    #[test]
    fn what_was_accepted_is_known_after_an_interruption_and_is_not_all() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(Mark::read(state.path()).unwrap(), Mark::default());
        let mut mark = Mark { commands: vec!["c-1".into()], is_complete: false };
        for complete in [false, true] {
            mark.commands.push("c-2".into());
            mark.is_complete = complete;
            mark.write(state.path()).unwrap();
            assert_eq!(Mark::read(state.path()).unwrap(), mark);
        }
        assert_eq!(sent_before(state.path()).unwrap(), ["c-1", "c-2", "c-2"]);
        std::fs::write(state.path().join("seeded"), "").unwrap();
        assert!(Mark::read(state.path()).unwrap().is_complete, "as an earlier version left it");
    }

    #[test]
    fn a_listing_is_there_when_all_its_content_is_and_nobody_withdrew_it() {
        let listing = json!({"address": {"city": "A"}, "listprice": 1});
        assert!(is_same(&listing, &json!({"listprice": 1, "status": "DECLINED", "more": 2})));
        assert!(!is_same(&listing, &json!({"listprice": 2, "status": "NEW"})));
        assert!(!is_same(&listing, &json!({"listprice": 1, "status": "WITHDRAWN"})));
    }
}
