//! `cargo unicorn`: runs and shows Unicorn Properties on this machine.

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
use unicorn::summary::{Commands, Summary};
use unicorn::watch::{self, Binaries, Sources};
use unicorn::{artefacts, bench, build, demo, seed};

/// Runs and shows Unicorn Properties on this machine: no Docker, no Python, no account.
#[derive(Parser)]
#[command(name = "cargo unicorn", bin_name = "cargo unicorn")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// The whole application.
const ROOT: &str = "template.yaml";

#[derive(Subcommand)]
enum Command {
    /// Runs the whole application until Ctrl-C.
    Up(Up),
    /// Tells the whole story on the real functions, start to finish.
    Demo,
    /// Replays the samples of events/ on their functions and compares the answers.
    LambdaTest(artefacts::Options),
    /// Loads the seed listings and their images into a stage; what is there already is left alone.
    Seed(seed::Options),
    /// Measures an optimised build: speed, memory, and that nothing is lost.
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
    /// Where queues, tables, logs and executions are kept; .unicorn beside template.yaml if not given.
    #[arg(long)]
    state_dir: Option<PathBuf>,
    /// Forgets the state of earlier runs first.
    #[arg(long)]
    fresh: bool,
    /// The stage that is run.
    #[arg(long, default_value = "local", value_parser = ["local", "dev", "prod"])]
    stage: String,
    /// Builds the functions again when their sources change; the next invocation runs the new ones.
    #[arg(long)]
    watch: bool,
    /// Takes requests as fast as they come, whatever the templates' throttling says.
    #[arg(long)]
    no_throttle: bool,
    /// What goes wrong on purpose, to see what the application bears: shares of duplicate, throttle,
    /// lose (replies), partial (PutEvents) and crash, messages to reorder, milliseconds of delay;
    /// such as `seed=7,duplicate=0.1,reorder=50,delay=200,throttle=0.05,lose=0.02,crash=0.01`.
    #[arg(long, default_value = "", hide_default_value = true)]
    faults: Plan,
    /// The template that is run; a service's own, such as contracts-service/template.yaml, runs it alone.
    #[arg(long, default_value = ROOT)]
    template: String,
    /// Loads the seed listings at this start too; without it, only into a new state.
    #[arg(long, conflicts_with = "no_seed_data")]
    seed_data: bool,
    /// Starts without the seed listings.
    #[arg(long)]
    no_seed_data: bool,
    /// The live log, on standard error: a line a hop. The summary at the end is JSON with `json`.
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
    // From here on a signal ends the run cleanly, at whatever point it comes.
    let told_to_stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    match command {
        Command::Up(options) => run(options, told_to_stop).await,
        Command::Demo => unless(told_to_stop, show()).await,
        Command::LambdaTest(options) => {
            let passed = async { artefacts::run(&build::project()?, &options).await };
            Ok(if unless(told_to_stop, passed).await? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::Seed(options) => {
            unless(told_to_stop, async { seed::run(&build::project()?, &options).await }).await?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Bench(options) => {
            unless(told_to_stop, bench::run(&options)).await?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// An application that runs.
struct Started {
    running: Running,
    commands: Arc<Commands>,
    at: Instant,
    watching: Option<(Sources, Binaries)>,
}

/// Runs the application until it is told to stop, which may be before it is ready.
async fn run(mut options: Up, told_to_stop: impl Future<Output = ()>) -> anyhow::Result<ExitCode> {
    let mut told_to_stop = pin!(told_to_stop);
    let project = build::project()?;
    options.template = local_cloud::up::within(&project, &options.template);
    let started = tokio::select! {
        started = start(&project, &options) => Some(started?),
        () = &mut told_to_stop => None,
    };
    if let Some(Started { running, commands, at, mut watching }) = started {
        let cloud = running.cloud.clone();
        let ended = tokio::select! {
            () = &mut told_to_stop => Ok(()),
            error = attend(&cloud, &project, watching.as_mut()) => Err(error),
        };
        running.stop().await;
        // Not before: until then a function may still be started from the folder of links.
        drop(watching);
        ended?;
        let summary = Summary::take(&cloud, &commands, at).await?;
        match options.log {
            Log::Json => println!("{}", serde_json::to_string(&summary)?),
            Log::Text | Log::Quiet => print!("{}", summary.text()),
        }
    }
    if options.log != Log::Json {
        println!("Stopped. What was accepted is kept.");
    }
    Ok(ExitCode::SUCCESS)
}

/// What goes on beside the services; ends only with an error.
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
        bail!("--seed-data needs the whole application; {} has nowhere to put it", options.template);
    }
    let names = local_cloud::up::binaries(project, &options.template, &options.stage)?;
    // From before the build on, so that what is edited meanwhile is built after it.
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
    let addresses = &running.addresses;
    let when = match (options.seed_data, options.no_seed_data || options.template != ROOT) {
        (true, _) => seed::When::Now,
        (_, true) => seed::When::Never,
        _ => seed::When::Once,
    };
    let sent_before = seed::sent_before(&running.state)?;
    let loaded = seed::load(project, &running.state, &Client::new(addresses.clone()), when).await?;
    commands.leave_out(sent_before, loaded.as_ref());
    println!("APIs          {}", addresses.api_url);
    println!("AWS endpoint  {}", addresses.endpoint_url);
    println!("Stack         {}", addresses.stack);
    println!("State         {}", running.state.display());
    if let Some(loaded) = loaded {
        println!("Seed data     {loaded}");
    }
    if let Some((sources, _)) = &watching {
        println!("Watching      {} packages; a change builds and swaps their functions", sources.packages());
    }
    println!();
    println!("For the AWS command line:");
    println!("  export AWS_ENDPOINT_URL={} AWS_DEFAULT_REGION={}", addresses.endpoint_url, addresses.region);
    println!("  export AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local");
    println!();
    println!("Ready. Ctrl-C ends it.");
    Ok(Started { running, commands, at, watching })
}

/// Does some work to its end, unless it is told to stop before: then it has failed.
async fn unless<T>(
    told_to_stop: impl Future<Output = ()>,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    tokio::select! {
        done = work => done,
        () = told_to_stop => bail!("stopped before the end"),
    }
}

async fn show() -> anyhow::Result<ExitCode> {
    let project = build::project()?;
    let binaries = build::functions(&project, ROOT, "local").await?;
    demo::run(&project, &binaries).await?;
    Ok(ExitCode::SUCCESS)
}
