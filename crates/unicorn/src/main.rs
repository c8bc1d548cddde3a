//! `cargo unicorn`: runs and shows Unicorn Properties on this machine.

use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, Parser, Subcommand};
use local_cloud::up::{Options, Running, up};
use tokio::signal::unix::{SignalKind, signal};
use unicorn::client::Client;
use unicorn::hops::{self, Log};
use unicorn::{bench, build, demo, samples, seed};

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
    LambdaTest,
    /// Measures the release build: speed, memory, and that nothing is lost.
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
    /// Forgets the state of earlier runs.
    #[arg(long)]
    fresh: bool,
    /// The stage that is run.
    #[arg(long, default_value = "local", value_parser = ["local", "dev", "prod"])]
    stage: String,
    /// Takes requests as fast as they come, whatever the templates' throttling says.
    #[arg(long)]
    no_throttle: bool,
    /// The template that is run; a service's own, such as contracts-service/template.yaml, runs it alone.
    #[arg(long, default_value = ROOT)]
    template: String,
    /// Starts without the seed listings.
    #[arg(long)]
    no_seed_data: bool,
    /// The live log, on standard error.
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
        Command::LambdaTest => unless(told_to_stop, replay()).await,
        Command::Bench(options) => {
            unless(told_to_stop, bench::run(&options)).await?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Runs the application until it is told to stop, which may be before it is ready.
async fn run(options: Up, told_to_stop: impl Future<Output = ()>) -> anyhow::Result<ExitCode> {
    let mut told_to_stop = pin!(told_to_stop);
    let started = tokio::select! {
        running = start(options) => Some(running?),
        () = &mut told_to_stop => None,
    };
    if let Some(running) = started {
        told_to_stop.await;
        running.stop().await;
    }
    println!("Stopped. What was accepted is kept.");
    Ok(ExitCode::SUCCESS)
}

async fn start(options: Up) -> anyhow::Result<Running> {
    let project = build::project()?;
    let binaries = build::functions(&project, &options.template, &options.stage).await?;
    let running = up(&Options {
        project: project.clone(),
        template: options.template.clone(),
        stage: options.stage,
        state: options.state_dir.unwrap_or_else(|| project.join(".unicorn")),
        port: options.port,
        aws_port: options.aws_port,
        binaries,
        no_throttle: options.no_throttle,
        fresh: options.fresh,
    })
    .await?;
    let addresses = &running.addresses;
    if !options.no_seed_data && options.template == ROOT {
        seed::load_once(&project, &running.state, &Client::new(addresses.clone())).await?;
    }
    println!("APIs          {}", addresses.api_url);
    println!("AWS endpoint  {}", addresses.endpoint_url);
    println!("Stack         {}", addresses.stack);
    println!("State         {}", running.state.display());
    println!();
    println!("For the AWS command line:");
    println!("  export AWS_ENDPOINT_URL={} AWS_DEFAULT_REGION={}", addresses.endpoint_url, addresses.region);
    println!("  export AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local");
    println!();
    println!("Ready. Ctrl-C ends it.");
    Ok(running)
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

async fn replay() -> anyhow::Result<ExitCode> {
    let project = build::project()?;
    let binaries = build::functions(&project, ROOT, "local").await?;
    let report = samples::replay(&project, &binaries).await?;
    println!("{} passed, {} failed", report.passed, report.failed);
    Ok(if report.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
