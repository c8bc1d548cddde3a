//! `cargo unicorn bench --functions`: measures each function as it is deployed, beside one of the same profile
//! that does nothing. The functions run in turn, so that other work on the machine slows all of them alike.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use local_cloud::up::Function;
use serde::Serialize;

use super::host::Process;
use super::stub::Stub;
use super::{machine, quantile};
use crate::{artefacts, samples};

#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// The number of processes of each function.
    #[arg(long, default_value_t = 20, requires = "functions", value_parser = clap::value_parser!(u32).range(1..))]
    pub spawns: u32,
    /// The number of invocations of each process after its first.
    #[arg(long, default_value_t = 100, requires = "functions", value_parser = clap::value_parser!(u32).range(1..))]
    pub invocations: u32,
    /// Prints JSON instead of the table.
    #[arg(long, requires = "functions")]
    pub json: bool,
}

/// The function that does nothing.
pub const NO_OP: &str = "no-op";

/// The limit of a start, as a multiple of the no-op's.
const LIMIT: f64 = 3.2;

/// The figures of one function: medians over all processes or invocations, where nothing else is said.
#[derive(Debug, Serialize)]
pub struct Figures {
    pub function: String,
    /// From the spawn to the first request for an event, including its connection to AWS.
    pub start_ms: f64,
    /// The same as a multiple of the no-op's.
    pub start_of_no_op: f64,
    /// The first invocation.
    pub first_ms: f64,
    /// All other invocations.
    pub warm_p50_ms: f64,
    pub warm_p99_ms: f64,
    /// Processor time of the start.
    pub start_cpu_ms: f64,
    /// Processor time of one warm invocation.
    pub warm_cpu_ms: f64,
    /// The maximum of resident memory.
    pub peak_mib: f64,
    /// The size of its zip, as `sam build` and `sam package` make it.
    pub zip_mib: f64,
}

/// A function and its measured values.
struct Subject {
    name: String,
    program: PathBuf,
    variables: BTreeMap<String, String>,
    event: Bytes,
    starts: Vec<f64>,
    firsts: Vec<f64>,
    warm: Vec<f64>,
    start_cpu: Vec<f64>,
    warm_cpu: Vec<f64>,
    peaks: Vec<f64>,
}

/// Measures and prints the table or JSON; fails if a start exceeds the limit.
pub async fn run(project: &Path, programs: &[PathBuf], options: &Options) -> anyhow::Result<()> {
    let figures = measure(project, programs, options).await?;
    let slowest = slowest(&figures).context("nothing was measured")?;
    let sentence = format!(
        "The slowest start is that of {}, {:.1} times the no-op's; the limit is {LIMIT}.",
        slowest.function, slowest.start_of_no_op
    );
    if options.json {
        let document = serde_json::json!({
            "machine": machine(), "spawns": options.spawns, "invocations": options.invocations,
            "limit": LIMIT, "functions": figures,
        });
        println!("{document:#}");
    } else {
        println!("Machine: {}\n\n{}\n{sentence}", machine(), table(&figures));
    }
    ensure!(slowest.start_of_no_op <= LIMIT, "{sentence}");
    Ok(())
}

fn slowest(figures: &[Figures]) -> Option<&Figures> {
    figures.iter().max_by(|one, other| one.start_of_no_op.total_cmp(&other.start_of_no_op))
}

/// Measures these programs and the no-op among them, each with the environment of its function in the root
/// template and its first sample of `events/`.
pub async fn measure(
    project: &Path,
    programs: &[PathBuf],
    options: &Options,
) -> anyhow::Result<Vec<Figures>> {
    let folder = tempfile::tempdir()?;
    let stub = Stub::start(project, folder.path()).await?;
    let functions = local_cloud::up::functions(project, "template.yaml", "local")?;
    let mut subjects = Vec::new();
    for program in programs {
        subjects.push(Subject::new(project, program, &functions, &stub)?);
    }
    // The first round does not count: the page cache does not hold the programs yet.
    for round in 0..=options.spawns {
        for subject in &mut subjects {
            subject
                .round(options.invocations, round > 0)
                .await
                .with_context(|| format!("{} cannot be measured", subject.name))?;
        }
        eprint!("\r{round} of {} rounds", options.spawns);
    }
    eprintln!();
    let no_op = subjects.iter().find(|subject| subject.name == NO_OP).context("there is no no-op")?;
    let no_op_ms = median(&no_op.starts);
    subjects.iter().map(|subject| subject.figures(no_op_ms)).collect()
}

impl Subject {
    fn new(project: &Path, program: &Path, functions: &[Function], stub: &Stub) -> anyhow::Result<Self> {
        let name = program.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let mut variables = BTreeMap::from(
            [
                ("AWS_REGION", "us-east-1"),
                ("AWS_ACCESS_KEY_ID", "bench"),
                ("AWS_SECRET_ACCESS_KEY", "bench"),
                ("AWS_ENDPOINT_URL", &stub.url),
                ("AWS_CA_BUNDLE", &stub.bundle.display().to_string()),
                ("AWS_LAMBDA_FUNCTION_NAME", &name),
                ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
                ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"),
                ("AWS_LAMBDA_LOG_GROUP_NAME", "bench"),
                ("AWS_LAMBDA_LOG_STREAM_NAME", "bench"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        let mut event = Bytes::from_static(b"{}");
        if name != NO_OP {
            let function = functions.iter().find(|function| function.binary == name);
            variables
                .extend(function.with_context(|| format!("{name} is not a function"))?.variables.clone());
            event = samples::first(project, &name)?.to_string().into();
        }
        let (program, empty) = (program.to_owned(), Vec::new);
        Ok(Self {
            name,
            program,
            variables,
            event,
            starts: empty(),
            firsts: empty(),
            warm: empty(),
            start_cpu: empty(),
            warm_cpu: empty(),
            peaks: empty(),
        })
    }

    /// Runs one process from its spawn to its end.
    async fn round(&mut self, invocations: u32, counts: bool) -> anyhow::Result<()> {
        let mut process = Process::spawn(&self.program, &self.variables).await?;
        let start_cpu = process.cpu()?;
        let first = process.invoke(&self.event).await?;
        let before = process.cpu()?;
        let mut warm = Vec::new();
        for _ in 0..invocations {
            warm.push(ms(process.invoke(&self.event).await?));
        }
        if counts {
            self.starts.push(ms(process.start));
            self.start_cpu.push(ms(start_cpu));
            self.firsts.push(ms(first));
            self.warm.append(&mut warm);
            self.warm_cpu.push(ms(process.cpu()? - before) / f64::from(invocations));
            self.peaks.push(process.peak_mib()?);
        }
        Ok(())
    }

    fn figures(&self, no_op_ms: f64) -> anyhow::Result<Figures> {
        let start_ms = median(&self.starts);
        Ok(Figures {
            function: self.name.clone(),
            start_ms,
            start_of_no_op: start_ms / no_op_ms,
            first_ms: median(&self.firsts),
            warm_p50_ms: median(&self.warm),
            warm_p99_ms: at(&self.warm, 0.99),
            start_cpu_ms: median(&self.start_cpu),
            warm_cpu_ms: median(&self.warm_cpu),
            peak_mib: self.peaks.iter().copied().fold(0.0, f64::max),
            zip_mib: artefacts::zip_of(&self.program)? as f64 / artefacts::MIB as f64,
        })
    }
}

/// A Markdown table for docs/performance.md.
fn table(figures: &[Figures]) -> String {
    let mut table = String::from(
        "| function | start | of the no-op | first invocation | warm p50 | warm p99 | CPU to start | CPU warm | peak memory | zip |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    for it in figures {
        // Writing to a String does not fail; the same below.
        let _ = writeln!(
            table,
            "| {} | {:.2} ms | {:.1} x | {:.2} ms | {:.2} ms | {:.2} ms | {:.2} ms | {:.2} ms | {:.1} MiB | {:.2} MiB |",
            it.function,
            it.start_ms,
            it.start_of_no_op,
            it.first_ms,
            it.warm_p50_ms,
            it.warm_p99_ms,
            it.start_cpu_ms,
            it.warm_cpu_ms,
            it.peak_mib,
            it.zip_mib,
        );
    }
    table
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

fn median(values: &[f64]) -> f64 {
    at(values, 0.5)
}

fn at(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    quantile(&sorted, share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_a_figure_that_was_measured() {
        let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!((median(&values), at(&values, 0.99), at(&values, 1.0)), (51.0, 100.0, 100.0));
        assert_eq!(median(&[7.0]), 7.0);
    }
}
