//! Starts the whole application: ports, templates, state, resources, background tasks, in this order, so that
//! a busy port or a broken template is reported before anything runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use cloud_core::clock::{self, Clock};
use cloud_core::faults::Plan;
use cloud_core::random::Random;
use cloud_core::resource::Resource;
use cloud_core::{Cloud, Settings, housekeeping, private_file};
use cloud_languages::template::Application;
use cloud_services::{apigateway, cloudformation, lambda};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::folder::{Folder, Made};
use crate::services::SERVICES;
use crate::{deploy, endpoint, project, removed, samconfig};

#[derive(Debug, Clone)]
pub struct Options {
    /// The folder of the root `template.yaml`.
    pub project: PathBuf,
    /// The template to run, relative to the project: the root template, or that of one service.
    pub template: String,
    pub stage: String,
    /// The state folder; created where it is missing.
    pub state: PathBuf,
    /// Port of the APIs; 0 for any free one.
    pub port: u16,
    /// Port of the AWS endpoint; 0 for any free one.
    pub aws_port: u16,
    /// The folder of the functions' binaries.
    pub binaries: PathBuf,
    /// Ignores the throttling of the templates, for load tests.
    pub no_throttle: bool,
    /// Deletes the state of earlier runs first.
    pub fresh: bool,
    /// Faults to inject, for tests.
    pub faults: Plan,
}

impl Options {
    /// The whole application of `project` in stage `local`, on free ports.
    pub fn on_free_ports(project: &Path, state: &Path, binaries: &Path) -> Self {
        Self {
            project: project.to_owned(),
            template: "template.yaml".into(),
            stage: "local".into(),
            state: state.to_owned(),
            port: 0,
            aws_port: 0,
            binaries: binaries.to_owned(),
            no_throttle: false,
            fresh: false,
            faults: Plan::default(),
        }
    }
}

/// The addresses of a running local cloud, in `{state}/local.json` for other processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// The origin of all HTTP routes.
    pub api_url: String,
    /// The AWS endpoint, for `AWS_ENDPOINT_URL`.
    pub endpoint_url: String,
    pub region: String,
    pub account: String,
    /// The root stack.
    pub stack: String,
    /// The outputs of the root stack.
    pub outputs: BTreeMap<String, String>,
    pub pid: u32,
}

/// A running local cloud.
#[derive(Debug)]
pub struct Running {
    pub cloud: Arc<Cloud>,
    pub addresses: Addresses,
    /// The state folder.
    pub state: PathBuf,
    tasks: JoinSet<()>,
    /// Locks the state folder.
    _folder: Folder,
}

/// A function of the templates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Its logical ids from the root template down, such as `ContractsService/IngestFunction`: the folder that
    /// `sam build` builds it into.
    pub path: String,
    pub binary: String,
    /// The environment variables that its template sets.
    pub variables: BTreeMap<String, String>,
}

/// The functions of the templates, sorted by path.
pub fn functions(project: &Path, template: &str, stage: &str) -> anyhow::Result<Vec<Function>> {
    let (settings, template) = (settings(project, stage, None), within(project, template));
    let application = load(&settings, &template, "http://127.0.0.1", "http://127.0.0.1")?;
    let resources = || application.stacks.iter().flat_map(|stack| &stack.resources);
    let path = |function: &Resource| {
        let mut path = function.logical_id.clone();
        let mut stack = application.stack(&function.stack);
        while let Some(nested) = stack
            && let Some(nesting) = resources().find(|resource| resource.physical_id == nested.id)
        {
            path = format!("{}/{path}", nesting.logical_id);
            stack = application.stack(&nesting.stack);
        }
        path
    };
    let is_function = |resource: &&Resource| resource.kind == "AWS::Lambda::Function";
    let function = |resource: &Resource| {
        let binary = resource.metadata["Binary"].as_str()?.to_owned();
        let variables = resource.properties["Environment"]["Variables"].as_object();
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let variables = variables.into_iter().flatten();
        let variables = variables.map(|(name, value)| (name.clone(), text(value))).collect();
        Some(Function { path: path(resource), binary, variables })
    };
    let mut functions: Vec<_> = resources().filter(is_function).filter_map(function).collect();
    functions.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(functions)
}

/// The names of the binaries that the templates' functions run.
pub fn binaries(project: &Path, template: &str, stage: &str) -> anyhow::Result<Vec<String>> {
    let functions = functions(project, template, stage)?.into_iter();
    let mut names: Vec<String> = functions.map(|function| function.binary).collect();
    names.sort();
    names.dedup();
    Ok(names)
}

fn settings(project: &Path, stage: &str, state: Option<PathBuf>) -> Settings {
    Settings { stage: stage.to_owned(), project: project.to_owned(), state, ..Settings::for_tests() }
}

fn load(
    settings: &Settings,
    template: &str,
    api_url: &str,
    endpoint_url: &str,
) -> anyhow::Result<Application> {
    let parameters = BTreeMap::from([
        ("Stage".to_owned(), settings.stage.clone()),
        ("Owner".to_owned(), "local".to_owned()),
    ]);
    let stack = samconfig::stack_name(&settings.project, template, &settings.stage)?;
    Ok(project::load(&settings.project, template, &stack, &parameters, settings, api_url, endpoint_url)?)
}

/// A template's path within the project, the same for `./template.yaml` and `template.yaml`: it is part of
/// what a state was made for. The path of a missing file stays as it is.
pub fn within(project: &Path, template: &str) -> String {
    let whole = || {
        let (project, template) = (project.canonicalize().ok()?, project.join(template).canonicalize().ok()?);
        Some(template.strip_prefix(project).ok()?.to_str()?.to_owned())
    };
    whole().unwrap_or_else(|| template.to_owned())
}

async fn listen(port: u16, option: &str) -> anyhow::Result<(TcpListener, String)> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await.map_err(|error| {
        if error.kind() == std::io::ErrorKind::AddrInUse {
            anyhow::anyhow!("port {port} is in use; choose another one with {option} (0 takes any free one)")
        } else {
            anyhow::anyhow!("cannot listen on port {port}: {error}; choose another one with {option}")
        }
    })?;
    let url = format!("http://{}", listener.local_addr()?);
    Ok((listener, url))
}

/// Starts everything; returns when both ports answer.
///
/// # Errors
/// One sentence: a busy port, a state folder in use or of another version, a template that cannot run here.
pub async fn up(options: &Options) -> anyhow::Result<Running> {
    up_with(options, |_| {}).await
}

/// Like [`up`]; calls `prepare` after the state is open and before anything is deployed.
pub async fn up_with(options: &Options, prepare: impl FnOnce(&Arc<Cloud>)) -> anyhow::Result<Running> {
    raise_open_files();
    let (api, api_url) = listen(options.port, "--port").await?;
    let (aws, endpoint_url) = listen(options.aws_port, "--aws-port").await?;

    let template = within(&options.project, &options.template);
    let application =
        load(&settings(&options.project, &options.stage, None), &template, &api_url, &endpoint_url)?;
    let stack = samconfig::stack_name(&options.project, &template, &options.stage)?;
    let made = Made { stage: options.stage.clone(), template };
    let folder = Folder::take(&options.state, &made, options.fresh)?;
    let state = folder.path();

    let settings = Settings {
        faults: options.faults.clone(),
        ..settings(&options.project, &options.stage, Some(state.to_owned()))
    };
    let cloud = open(settings, options).with_context(|| unusable(state))?;
    prepare(&cloud);
    let _ = cloud.api_url.set(api_url.clone());
    let _ = cloud.endpoint_url.set(endpoint_url.clone());
    let removed = removed::compare(&cloud, &application).await.with_context(|| unusable(state))?;
    deploy::deploy(&cloud, &application).await?;
    let outputs = application.outputs(&stack);
    cloudformation::publish(&cloud, application)?;
    // Before the ports answer, so that nobody can put something into these resources.
    removed::remove(&cloud, &removed).await?;

    let mut tasks = JoinSet::new();
    tasks.spawn(apigateway::serve(cloud.clone(), api));
    tasks.spawn(endpoint::serve(cloud.clone(), aws));
    for service in cloud.services() {
        (service.start)(&cloud);
    }
    housekeeping::start(&cloud);

    let addresses = Addresses {
        api_url,
        endpoint_url,
        region: cloud.settings.region.clone(),
        account: cloud.settings.account.clone(),
        stack,
        outputs,
        pid: std::process::id(),
    };
    private_file::write(&state.join("local.json"), &serde_json::to_vec_pretty(&addresses)?)?;
    Ok(Running { cloud, addresses, tasks, state: state.to_owned(), _folder: folder })
}

fn unusable(state: &Path) -> String {
    format!("cannot go on with the state in {}", state.display())
}

/// Opens the services on their state, which this version must be able to read.
fn open(settings: Settings, options: &Options) -> anyhow::Result<Arc<Cloud>> {
    let cloud = Cloud::open(settings, Clock::system(), Random::from_entropy(), SERVICES)?;
    for service in cloud.services() {
        (service.check)(&cloud)?;
    }
    let _ = cloud.state::<lambda::State>().binaries.set(options.binaries.clone());
    if options.no_throttle {
        cloud.state::<apigateway::State>().disable_throttling();
    }
    Ok(cloud)
}

/// The number of files that this process needs at most: about eleven for each of 64 function processes, and one
/// for each connection of a client. macOS accepts no larger limit (OPEN_MAX), although it reports none.
const MAX_OPEN_FILES: u64 = 10_240;

/// Raises the limit of open files as far as needed and allowed: a shell often allows 1,024. Children inherit
/// the limit; it must not be larger than needed, since some programs close every file number up to it.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let Some(wanted) = raised(limit.current, limit.maximum) else { return };
    if setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit }).is_err() {
        tracing::warn!("the limit of open files stays at {:?}", limit.current);
    }
}

/// The new limit; `None` where the current one is high enough or cannot be raised.
fn raised(current: Option<u64>, maximum: Option<u64>) -> Option<u64> {
    let wanted = maximum.map_or(MAX_OPEN_FILES, |maximum| maximum.min(MAX_OPEN_FILES));
    current.is_some_and(|current| current < wanted).then_some(wanted)
}

impl Running {
    /// Stops all background tasks and functions. The state folder keeps everything that was accepted.
    pub async fn stop(mut self) {
        self.end();
        while self.tasks.join_next().await.is_some() {}
    }

    fn end(&mut self) {
        self.cloud.stopping.cancel();
        lambda::end_processes(&self.cloud);
        if let Err(error) = clock::remember(&self.cloud.store, self.cloud.clock.now_ms()) {
            tracing::warn!(%error, "the time could not be written down");
        }
        // A client may keep its connection open, but the ports accept nothing from now on.
        self.tasks.abort_all();
        let _ = std::fs::remove_file(self.state.join("local.json"));
    }
}

impl Drop for Running {
    /// Ends everything also without [`Running::stop`], for example after an error.
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_the_same_however_its_path_is_written() {
        let project = tempfile::tempdir().unwrap();
        std::fs::create_dir(project.path().join("web")).unwrap();
        for file in ["template.yaml", "web/template.yaml"] {
            std::fs::write(project.path().join(file), "").unwrap();
        }
        let whole = project.path().join("template.yaml");
        for written in ["template.yaml", "./template.yaml", "web/../template.yaml", whole.to_str().unwrap()] {
            assert_eq!(within(project.path(), written), "template.yaml");
        }
        assert_eq!(within(project.path(), "web//template.yaml"), "web/template.yaml");
        assert_eq!(within(project.path(), "./none.yaml"), "./none.yaml");
    }

    #[test]
    fn the_limit_of_open_files_is_raised_as_far_as_needed_and_never_lowered() {
        for (current, maximum, expected) in [
            (Some(1_024), Some(1_048_576), Some(10_240)),
            (Some(1_024), Some(4_096), Some(4_096)),
            (Some(1_024), None, Some(10_240)),
            (Some(20_000), Some(1_048_576), None),
            (Some(4_096), Some(4_096), None),
            (None, None, None),
        ] {
            assert_eq!(raised(current, maximum), expected, "{current:?} of {maximum:?}");
        }
    }

    #[test]
    fn this_process_may_open_more_files_after_a_start() {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let limit = getrlimit(Resource::Nofile);
        // High enough for the tests that run beside this one.
        let low = Some(limit.maximum.unwrap_or(u64::MAX).min(MAX_OPEN_FILES - 1));
        let low = Rlimit { current: low, ..limit };
        setrlimit(Resource::Nofile, low).unwrap();
        raise_open_files();
        let now = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, limit).unwrap();
        assert_eq!(now.current, raised(low.current, low.maximum).or(low.current));
    }

    #[test]
    fn a_function_has_the_path_at_which_sam_builds_it() {
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
        let path = |template: &str| {
            let functions = functions(&project, template, "local").unwrap();
            functions.into_iter().find(|function| function.binary == "contracts-ingest").unwrap().path
        };
        assert_eq!(path("template.yaml"), "ContractsService/IngestFunction");
        assert_eq!(path("contracts-service/template.yaml"), "IngestFunction");
    }
}
