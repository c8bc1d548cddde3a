//! Loads the seed data of `web-service/data/` into any stage: images into the bucket, listings
//! through the API. What is there as it should be is left alone, so that it can be run at any time,
//! and again after it was interrupted.

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

/// Where the seed data is loaded.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The stage, whose stack is uni-prop-STAGE. `local` is what `cargo unicorn up` runs, unless
    /// AWS_ENDPOINT_URL says otherwise; the others are found with your AWS credentials and region.
    #[arg(long, default_value = "local", value_parser = ["local", "dev", "prod"])]
    stage: String,
    /// The stack, if it has another name.
    #[arg(long)]
    stack_name: Option<String>,
    /// The state folder of the local cloud; .unicorn beside template.yaml if not given.
    #[arg(long)]
    state_dir: Option<PathBuf>,
}

/// The longest wait for a command: one that came too early waits for two minutes, and one whose
/// function was killed comes back after another one.
const PATIENCE: Duration = Duration::from_secs(240);

/// When the seed data is loaded by `up`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Into a state that has not got it yet; a mark in the state folder remembers it.
    Once,
    /// At this start, whatever is there: what is missing or different is loaded.
    Now,
    /// Not at all.
    Never,
}

/// What was loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Images that were put.
    pub images: usize,
    /// Images that were there already, byte for byte.
    pub images_kept: usize,
    /// Listings that were sent.
    pub listings: Vec<Sent>,
    /// Listings that were there already, as they are in the seed data.
    pub listings_kept: usize,
    /// The status of every answer of the API.
    pub answers: Vec<u16>,
}

/// A listing that was accepted; what became of it is known later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Whose listing it is.
    pub property_id: String,
    /// The command's id.
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

/// Where the seed data goes: a bucket and an API.
#[derive(Debug)]
pub struct Target {
    s3: aws_sdk_s3::Client,
    bucket: String,
    api: Api,
}

impl Target {
    /// The bucket and the API of a stack.
    ///
    /// # Errors
    /// When the stack's outputs do not name them.
    pub fn of(stack: &Stack) -> anyhow::Result<Self> {
        // The name of a bucket goes before the host only where AWS resolves that.
        let config = aws_sdk_s3::config::Builder::from(&stack.config)
            .force_path_style(stack.config.endpoint_url().is_some())
            .build();
        Ok(Self {
            s3: aws_sdk_s3::Client::from_conf(config),
            bucket: stack.output("ImagesBucketName")?.to_owned(),
            api: Api::new(stack.output("WebApiUrl")?),
        })
    }

    /// That of a local cloud.
    ///
    /// # Errors
    /// When there is no such stack in it.
    pub async fn local(client: &Client) -> anyhow::Result<Self> {
        let addresses = &client.addresses;
        Self::of(&Stack::find(&addresses.stack, stack::of_local_cloud(addresses)).await?)
    }

    /// Loads what is missing or different, and tells each listing when it is accepted.
    ///
    /// # Errors
    /// When something is refused; what was loaded until then is kept by the next attempt.
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

    /// Puts the images below `web-service/data/images/` that are missing or different, under their
    /// paths there as keys; how many, and how many were there.
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

    /// Whether an image had to be put: it is known by its SHA-256, which S3 keeps, since an ETag is
    /// one of the bytes only for some ways of encryption.
    /// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html>
    async fn put(&self, key: &str, bytes: Vec<u8>) -> anyhow::Result<bool> {
        let place = format!("{key} in the bucket {}", self.bucket);
        let head = self.s3.head_object().bucket(&self.bucket).key(key).checksum_mode(ChecksumMode::Enabled);
        let kept = match head.send().await {
            Ok(head) => head.checksum_sha256,
            Err(error) if error.as_service_error().is_some_and(|error| error.is_not_found()) => None,
            Err(error) => return Err(stack::told(&format!("look for {place}"), &error)),
        };
        let checksum = STANDARD.encode(Sha256::digest(&bytes));
        if kept.as_ref() == Some(&checksum) {
            return Ok(false);
        }
        let content_type = if key.ends_with(".png") { "image/png" } else { "image/jpeg" };
        let put = self.s3.put_object().bucket(&self.bucket).key(key).content_type(content_type);
        let put = put.checksum_algorithm(ChecksumAlgorithm::Sha256).checksum_sha256(checksum);
        let done = put.body(ByteStream::from(bytes)).send().await;
        done.map_err(|error| stack::told(&format!("put {place}"), &error))?;
        Ok(true)
    }

    /// Sends a listing, unless it is there with this very content: to replace it would take it out
    /// of search.
    async fn listing(&self, listing: &Value) -> anyhow::Result<Option<Sent>> {
        let address: Address = serde_json::from_value(listing["address"].clone())
            .with_context(|| format!("a seed listing is at no address: {}", listing["address"]))?;
        let property_id = address.property_id().to_string();
        let found = self.api.call("GET", &format!("/listings/{property_id}"), None).await?;
        let seen = match found.status {
            200 if is_same(listing, &found.body) => return Ok(None),
            200 => found.body["updated_at"].to_string(),
            404 => "none".to_owned(),
            _ => bail!(found.unexpected()),
        };
        let body = listing.to_string();
        // Named by what is to replace what: run again before it is applied, this is the same command,
        // but a new one where somebody withdrew or changed the listing since.
        let key = format!("seed-{}", hex::encode(Sha256::digest(format!("{body}\n{seen}"))));
        let sent = self.api.call("POST", "/listings", Some((&body, &key))).await?;
        match (sent.status, &sent.command_id) {
            (200, Some(id)) => Ok(Some(Sent { property_id, command_id: id.clone() })),
            _ => bail!(sent.unexpected()),
        }
    }

    /// Waits for the end of a command: `None` when it was applied, otherwise why not.
    ///
    /// # Errors
    /// When there is none for too long, or the API does not answer.
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
                // Not seen by any function yet, or waiting.
                (404, _) | (200, Some("PENDING")) => Ok(None),
                _ => bail!(answer.unexpected()),
            }
        })
        .await
    }
}

/// `cargo unicorn seed`: loads the seed data into a stage and tells what became of it.
///
/// # Errors
/// One sentence: no such stack, no credentials, nothing that answers; or that a listing was rejected.
pub async fn run(project: &Path, options: &Options) -> anyhow::Result<()> {
    let name = options.stack_name.clone().unwrap_or_else(|| format!("uni-prop-{}", options.stage));
    let is_here = options.stage == "local" && std::env::var_os("AWS_ENDPOINT_URL").is_none();
    ensure!(
        is_here || options.state_dir.is_none(),
        "--state-dir is a local cloud's; it has no meaning for another stage or with AWS_ENDPOINT_URL"
    );
    let config = if is_here {
        let state = options.state_dir.clone().unwrap_or_else(|| project.join(".unicorn"));
        stack::of_local_cloud(&addresses(&state)?)
    } else {
        stack::of_environment().await?
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

/// Where the local cloud with this state folder runs.
fn addresses(state: &Path) -> anyhow::Result<Addresses> {
    let file = state.join("local.json");
    let text = std::fs::read(&file).with_context(|| {
        format!(
            "no local cloud runs on {}; start it with `cargo unicorn up`, or name --state-dir",
            state.display()
        )
    })?;
    serde_json::from_slice(&text).with_context(|| format!("{} cannot be read", file.display()))
}

/// The bodies of the seed listings, as `POST /listings` takes them.
///
/// # Errors
/// When the file is missing or is not JSON.
pub fn listings(project: &Path) -> anyhow::Result<Vec<Value>> {
    let path = project.join("web-service/data/listings.json");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not a list of listings", path.display()))
}

/// Loads the images alone into a local cloud; how many were put.
///
/// # Errors
/// When a file cannot be read or the bucket refuses it.
pub async fn images(project: &Path, client: &Client) -> anyhow::Result<usize> {
    Ok(Target::local(client).await?.images(project).await?.0)
}

/// Loads the seed data into the local cloud with this state folder, if it is time to.
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

/// The ids of the commands that earlier runs on this state loaded the seed data with. Those of a
/// run that was interrupted may come to their end in this one.
///
/// # Errors
/// When the mark of the seed data cannot be read.
pub fn sent_before(state: &Path) -> anyhow::Result<Vec<String>> {
    Ok(Mark::read(state)?.commands)
}

/// The file `seeded` in the state folder: a line for each command that was accepted, and the last
/// line `loaded` once all the seed data is. An empty file of an earlier version says that it is.
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

    /// Replaces the file as a whole: an interrupted write leaves the one before.
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

/// All files in a folder and below, in the order of their names.
pub(crate) fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<_>>>()?;
    paths.sort();
    let below = paths.into_iter().map(|path| if path.is_dir() { files(&path) } else { Ok(vec![path]) });
    Ok(below.collect::<anyhow::Result<Vec<_>>>()?.concat())
}

/// Whether a listing of the API is a seed listing that somebody may see.
fn is_same(listing: &Value, found: &Value) -> bool {
    let mut content = listing.as_object().into_iter().flatten();
    found["status"] != "WITHDRAWN" && content.all(|(name, value)| name == "address" || found[name] == *value)
}

/// The web API, as an agent calls it.
#[derive(Debug)]
struct Api {
    url: String,
    https: SharedHttpConnector,
    /// The status of each answer.
    answers: Mutex<Vec<u16>>,
}

/// An answer of the API.
struct Answer {
    /// What was asked.
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
        request.set_uri(&*url).with_context(|| format!("{url} is no address"))?;
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
