//! `cargo unicorn`: runs Unicorn Properties on this machine.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{anyhow, bail};
use clap::{Args, Parser, Subcommand};
use cloud_core::faults::Plan;
use local_cloud::Cloud;
use local_cloud::up::{Options, Running, up_with};
use tokio::signal::unix::{SignalKind, signal};
use unicorn::client::Client;
use unicorn::hops::{self, Log};
use unicorn::seed::Loaded;
use unicorn::summary::{Commands, Summary};
use unicorn::watch::{self, Binaries, Sources};
use unicorn::{artefacts, bench, build, demo, seed};

/// Runs Unicorn Properties on this machine. It needs no Docker, no Python and no AWS account.
#[derive(Parser)]
#[command(name = "cargo unicorn", bin_name = "cargo unicorn")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// The template of the whole application.
const ROOT: &str = "template.yaml";

#[derive(Subcommand)]
enum Command {
    /// Runs the whole application until Ctrl-C.
    Up(Up),
    /// Runs one story from contract to search on the real functions, and prints each step.
    Demo,
    /// Invokes each function with its samples in events/ and compares the answers.
    LambdaTest(artefacts::Options),
    /// Loads the seed listings and their images into a stage; skips those that are there already.
    Seed(seed::Options),
    /// Measures the speed and memory of an optimised build, and checks that no event is lost.
    Bench(bench::Options),
}

#[derive(Args)]
struct Up {
    /// Port of the HTTP APIs; 0 takes any free one.
    #[arg(long, default_value_t = 3000)]
    port: u16,
    /// Port of the AWS endpoint; 0 takes any free one.
    #[arg(long, default_value_t = 4566)]
    aws_port: u16,
    /// The folder for queues, tables, logs and executions; by default .unicorn beside template.yaml.
    #[arg(long)]
    state_dir: Option<PathBuf>,
    /// Deletes the state of earlier runs first.
    #[arg(long)]
    fresh: bool,
    /// The stage to run.
    #[arg(long, default_value = "local", value_parser = ["local", "dev", "prod"])]
    stage: String,
    /// Rebuilds a function when its source changes; the next invocation runs the new one.
    #[arg(long)]
    watch: bool,
    /// Ignores the throttling limits of the templates.
    #[arg(long)]
    no_throttle: bool,
    /// Faults to inject: duplicate, throttle, lose (replies), partial (PutEvents) and crash as shares from
    /// 0 to 1; reorder as a number of messages; delay in milliseconds. The seed repeats a run. Example:
    /// `seed=7,duplicate=0.1,reorder=50,delay=200,throttle=0.05,lose=0.02,crash=0.01`.
    #[arg(long, default_value = "", hide_default_value = true)]
    faults: Plan,
    /// The template to run; contracts-service/template.yaml, for example, runs that service alone.
    #[arg(long, default_value = ROOT)]
    template: String,
    /// Loads the seed listings now; by default `up` loads them into a new state only.
    #[arg(long, conflicts_with = "no_seed_data")]
    seed_data: bool,
    /// Starts without the seed listings.
    #[arg(long)]
    no_seed_data: bool,
    /// Format of the live log on standard error, one line a hop; `json` also prints the summary as JSON.
    #[arg(long, value_enum, default_value_t = Log::Text)]
    log: Log,
}

#[tokio::main]
async fn main() -> ExitCode {
    match perform(Cli::parse().command).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn perform(command: Command) -> anyhow::Result<ExitCode> {
    let log = if let Command::Up(options) = &command { options.log } else { Log::Quiet };
    hops::init(log);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // From here on a signal ends the run cleanly at any point.
    let stop_signal = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    match command {
        Command::Up(options) => run(options, stop_signal).await,
        Command::Demo => unless(stop_signal, show()).await,
        Command::LambdaTest(options) => {
            let passed = async { artefacts::run(&build::project()?, &options).await };
            Ok(if unless(stop_signal, passed).await? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::Seed(options) => {
            unless(stop_signal, async { seed::run(&build::project()?, &options).await }).await?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Bench(options) => {
            unless(stop_signal, bench::run(&options)).await?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

struct Started {
    running: Running,
    commands: Arc<Commands>,
    at: Instant,
    watching: Option<(Sources, Binaries)>,
}

/// Runs the application until the signal to stop, which may come before it is ready.
async fn run(mut options: Up, stop_signal: impl Future<Output = ()>) -> anyhow::Result<ExitCode> {
    let mut stop_signal = pin!(stop_signal);
    let project = build::project()?;
    options.template = local_cloud::up::within(&project, &options.template);
    let started = tokio::select! {
        started = start(&project, &options) => Some(started?),
        () = &mut stop_signal => None,
    };
    if let Some(Started { running, commands, at, mut watching }) = started {
        let cloud = running.cloud.clone();
        let ended = tokio::select! {
            () = &mut stop_signal => Ok(()),
            error = attend(&cloud, &project, watching.as_mut()) => Err(error),
        };
        running.stop().await;
        // Only now: a function may have started from the folder of links until the stop.
        drop(watching);
        ended?;
        let summary = Summary::take(&cloud, &commands, at).await?;
        match options.log {
            Log::Json => println!("{}", serde_json::to_string(&summary)?),
            Log::Text | Log::Quiet => print!("{}", summary.text()),
        }
    }
    if options.log != Log::Json {
        println!("Stopped. The state is kept.");
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs beside the services; ends only with an error.
async fn attend(
    cloud: &Arc<Cloud>,
    project: &Path,
    watching: Option<&mut (Sources, Binaries)>,
) -> anyhow::Error {
    if let Err(sentence) = cloud_services::lambda::start_all(cloud).await {
        return anyhow!(sentence);
    }
    if let Some((sources, binaries)) = watching {
        watch::run(cloud, project, sources, binaries).await;
    }
    std::future::pending().await
}

async fn start(project: &Path, options: &Up) -> anyhow::Result<Started> {
    if options.seed_data && options.template != ROOT {
        bail!("--seed-data needs the whole application; {} has no place for it", options.template);
    }
    let names = local_cloud::up::binaries(project, &options.template, &options.stage)?;
    // Before the build, so that an edit during the build starts another one.
    let sources = if options.watch { Some(Sources::watch(project, &names).await?) } else { None };
    // With `--log json`, standard error is for programs.
    let show = if options.log == Log::Json { build::Show::Nothing } else { build::Show::Progress };
    if options.log == Log::Json {
        // The first build takes minutes.
        tracing::info!(target: "hop", service = "build", "{} functions are built, where they are not yet", names.len());
    }
    let mut binaries = build::named(project, &names, show).await?;
    let mut watching = None;
    if let Some(sources) = sources {
        let links = Binaries::link(&binaries, names)?;
        binaries = links.folder().to_owned();
        watching = Some((sources, links));
    }
    let at = Instant::now();
    let mut commands = Arc::default();
    let running = up_with(
        &Options {
            project: project.to_owned(),
            template: options.template.clone(),
            stage: options.stage.clone(),
            state: options.state_dir.clone().unwrap_or_else(|| project.join(".unicorn")),
            port: options.port,
            aws_port: options.aws_port,
            binaries,
            no_throttle: options.no_throttle,
            faults: options.faults.clone(),
            fresh: options.fresh,
        },
        |cloud| commands = Commands::count(cloud),
    )
    .await?;
    let when = match (options.seed_data, options.no_seed_data || options.template != ROOT) {
        (true, _) => seed::When::Now,
        (_, true) => seed::When::Never,
        _ => seed::When::Once,
    };
    let sent_before = seed::sent_before(&running.state)?;
    let loaded = seed::load(project, &running.state, &Client::new(running.addresses.clone()), when).await?;
    commands.leave_out(sent_before, loaded.as_ref());
    announce(&running, loaded.as_ref(), watching.as_ref().map(|(sources, _)| sources));
    Ok(Started { running, commands, at, watching })
}

/// Prints the addresses of a started application.
fn announce(running: &Running, loaded: Option<&Loaded>, sources: Option<&Sources>) {
    let addresses = &running.addresses;
    println!("APIs          {}", addresses.api_url);
    println!("AWS endpoint  {}", addresses.endpoint_url);
    println!("Stack         {}", addresses.stack);
    println!("State         {}", running.state.display());
    if let Some(loaded) = loaded {
        println!("Seed data     {loaded}");
    }
    if let Some(sources) = sources {
        println!("Watching      {} packages; a change rebuilds their functions", sources.packages());
    }
    println!("\nFor the AWS command line:");
    println!("  export AWS_ENDPOINT_URL={} AWS_DEFAULT_REGION={}", addresses.endpoint_url, addresses.region);
    println!("  export AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local");
    println!("\nReady. Press Ctrl-C to stop.");
}

/// Does some work to its end; fails if the signal to stop comes first.
async fn unless<T>(
    stop_signal: impl Future<Output = ()>,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    tokio::select! {
        done = work => done,
        () = stop_signal => bail!("stopped before the end"),
    }
}

async fn show() -> anyhow::Result<ExitCode> {
    let project = build::project()?;
    let binaries = build::functions(&project, ROOT, "local").await?;
    demo::run(&project, &binaries).await?;
    Ok(ExitCode::SUCCESS)
}
