//! `cargo unicorn bench`: measures speed and memory. Everything measured is optimised and runs in a separate
//! process, so that the measuring process does not count.

pub mod functions;
mod host;
pub mod load;
mod stub;

use anyhow::{Context, ensure};
use tokio::process::Command;

use crate::build;

#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Measures each function as it is deployed, beside a function that does nothing.
    #[arg(long, conflicts_with_all = ["rate", "seconds", "commands", "idle_seconds"])]
    functions: bool,
    #[command(flatten)]
    of_functions: functions::Options,
    #[command(flatten)]
    of_load: load::Options,
}

/// Builds with optimisation, measures, and prints a table.
pub async fn run(options: &Options) -> anyhow::Result<()> {
    let project = build::project()?;
    if !options.functions {
        eprintln!("Building with optimisation; the first time takes minutes.");
        let unicorn = build::optimised(&project).await?;
        println!("Machine: {}\n\n{}", machine(), load::measure(&unicorn, &options.of_load).await?);
        return Ok(());
    }
    if cfg!(debug_assertions) {
        // The stub and the host are part of every measured time, so they must be fast too.
        eprintln!("Building this tool with optimisation; the first time takes minutes.");
        let unicorn = build::optimised_self(&project).await?;
        let arguments = std::env::args_os().skip(1);
        let status = Command::new(unicorn).args(arguments).kill_on_drop(true).status().await?;
        ensure!(status.success(), "the functions were not measured");
        return Ok(());
    }
    eprintln!("Building the functions for release; the first time takes many minutes.");
    let programs = build::shipped(&project).await?;
    functions::run(&project, &programs, &options.of_functions).await
}

/// The number of cores and the processor.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name));
    format!("{cores} cores of {}", model.unwrap_or("an unknown processor"))
}

/// Memory of a process in MiB: a field of its status, such as `VmRSS` (proc_pid_status(5)).
fn memory_mib(pid: u32, field: &str) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kib = line.and_then(|text| text.split_whitespace().next()).with_context(|| format!("no {field}"))?;
    Ok(kib.parse::<f64>()? / 1_024.0)
}

/// The value below which this share of the values lies.
fn quantile<T: Copy + Default>(sorted: &[T], share: f64) -> T {
    let place = (sorted.len() as f64 * share) as usize;
    sorted.get(place).or(sorted.last()).copied().unwrap_or_default()
}
