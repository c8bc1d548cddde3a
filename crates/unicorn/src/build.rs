//! Builds the functions that the templates name, with cargo, and tells where they are.

use std::collections::HashSet;
use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use rustix::termios::tcgetwinsize;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::Command;

use crate::bench::functions::NO_OP;

/// What a build shows on standard error beside what is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// How far it is, as a bar on a terminal, as lines elsewhere; nothing where all is built already.
    Progress,
    /// Nothing: something else is told there.
    Nothing,
}

/// The folder of the workspace: the nearest one, upwards, with the root `template.yaml`.
///
/// # Errors
/// When the command is run outside of a checkout.
pub fn project() -> anyhow::Result<PathBuf> {
    let here = std::env::current_dir()?;
    here.ancestors()
        .find(|folder| folder.join("template.yaml").is_file() && folder.join("Cargo.lock").is_file())
        .map(Path::to_owned)
        .with_context(|| format!("there is no template.yaml and Cargo.lock in {} or above", here.display()))
}

/// Builds the binaries of all functions and returns the folder that holds them. Dropped
/// midway, it ends cargo and its compilers.
///
/// # Errors
/// When cargo fails; it has printed why.
pub async fn functions(project: &Path, template: &str, stage: &str) -> anyhow::Result<PathBuf> {
    named(project, &local_cloud::up::binaries(project, template, stage)?, Show::Progress).await
}

/// Builds the binaries of these functions and returns the folder that holds them.
///
/// # Errors
/// When cargo fails; it has printed why.
pub async fn named(project: &Path, names: &[String], show: Show) -> anyhow::Result<PathBuf> {
    // As optimised as this program itself.
    let profile = if cfg!(debug_assertions) { Profile::Dev } else { Profile::Profiling };
    let built = binaries(project, names, profile, show).await?;
    let folder = built.first().and_then(|path| path.parent());
    folder.map(Path::to_owned).context("the templates name no function")
}

/// Builds this program and all functions of the root template optimised, but quick to link; where
/// the program is.
///
/// # Errors
/// When cargo fails; it has printed why.
pub async fn optimised(project: &Path) -> anyhow::Result<PathBuf> {
    let mut names = local_cloud::up::binaries(project, "template.yaml", "local")?;
    names.push(SELF.to_owned());
    binaries(project, &names, Profile::Profiling, Show::Progress).await?.pop().context("cargo built nothing")
}

/// Builds this program alone, optimised but quick to link; where it is.
///
/// # Errors
/// When cargo fails; it has printed why.
pub async fn optimised_self(project: &Path) -> anyhow::Result<PathBuf> {
    binaries(project, &[SELF.to_owned()], Profile::Profiling, Show::Progress)
        .await?
        .pop()
        .context("cargo built nothing")
}

/// Builds all functions of the root template as they are shipped, and the one that does nothing;
/// where they are, that one first.
///
/// # Errors
/// When cargo fails; it has printed why.
pub async fn shipped(project: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut names = vec![NO_OP.to_owned()];
    names.extend(local_cloud::up::binaries(project, "template.yaml", "local")?);
    binaries(project, &names, Profile::Release, Show::Progress).await
}

/// The binary of this program.
const SELF: &str = "unicorn";

/// How binaries are built; each is explained in the workspace's Cargo.toml.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Profile {
    Dev,
    Profiling,
    Release,
}

/// Builds binaries of the workspace; where they are, in the order of `names`.
async fn binaries(
    project: &Path,
    names: &[String],
    profile: Profile,
    show: Show,
) -> anyhow::Result<Vec<PathBuf>> {
    let mut arguments = vec!["build", "--message-format=json-render-diagnostics"];
    let metadata_of_packages;
    match profile {
        Profile::Dev => arguments.push("--workspace"),
        Profile::Profiling => arguments.extend(["--workspace", "--profile", "profiling"]),
        Profile::Release => {
            arguments.push("--release");
            // Not the workspace: cargo would give the functions what other packages ask of their libraries.
            metadata_of_packages = metadata(project).await?;
            let wanted =
                |package: &&Value| binaries_of(package).any(|name| names.iter().any(|it| it == name));
            let packages = packages(&metadata_of_packages).filter(wanted);
            for name in packages.filter_map(|package| package["name"].as_str()) {
                arguments.extend(["--package", name]);
            }
        }
    }
    for name in names {
        arguments.extend(["--bin", name]);
    }
    let output = cargo(project, &arguments, show).await?;
    if !output.status.success() {
        let metadata = metadata(project).await.unwrap_or_default();
        let built: HashSet<&str> = packages(&metadata).flat_map(binaries_of).collect();
        match names.iter().find(|name| !built.is_empty() && !built.contains(name.as_str())) {
            Some(missing) => bail!("the templates name a function binary {missing}, which no package builds"),
            None => bail!("the functions could not be built; cargo says why above"),
        }
    }
    // Cargo itself says where it put them, whatever the target folder is.
    let built: Vec<PathBuf> = output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Value>(line).ok())
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .collect();
    let find = |name: &String| {
        let path = built.iter().find(|path| path.file_stem().is_some_and(|stem| stem == name.as_str()));
        path.cloned()
            .with_context(|| format!("the templates name a function binary {name}, which no package builds"))
    };
    names.iter().map(find).collect()
}

/// What cargo says of the packages of the workspace.
///
/// # Errors
/// When it says nothing that can be read.
pub async fn metadata(project: &Path) -> anyhow::Result<Value> {
    let output = cargo(project, &["metadata", "--no-deps", "--format-version", "1"], Show::Nothing).await?;
    if !output.status.success() {
        bail!("cargo cannot tell the packages of the workspace; it says why above");
    }
    serde_json::from_slice(&output.stdout).context("cargo metadata cannot be read")
}

/// The packages in what [`metadata`] says.
pub fn packages(metadata: &Value) -> impl Iterator<Item = &Value> {
    metadata["packages"].as_array().into_iter().flatten()
}

/// The names of the binaries that a package builds.
pub fn binaries_of(package: &Value) -> impl Iterator<Item = &str> {
    let targets = package["targets"].as_array().into_iter().flatten();
    let is_binary = |target: &&Value| {
        target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "bin"))
    };
    targets.filter(is_binary).filter_map(|target| target["name"].as_str())
}

/// Runs cargo; dropped midway, it ends cargo and all that it started.
async fn cargo(project: &Path, arguments: &[&str], show: Show) -> anyhow::Result<Output> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(project).args(arguments);
    // What `cargo run` tells us about this package is not about those: some build scripts
    // (ring's) would take it for news and build everything anew.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"].iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(&*name);
        }
    }
    let lines = show == Show::Progress && !has_bar();
    if lines {
        command.stderr(Stdio::piped());
    } else {
        command.arg("--quiet");
        if show == Show::Progress {
            // Cargo shows its bar although it is quiet, and nothing where there is nothing to build.
            // https://doc.rust-lang.org/cargo/reference/config.html#termprogresswhen
            let width = columns(std::io::stderr()).to_string();
            command.env("CARGO_TERM_PROGRESS_WHEN", "always").env("CARGO_TERM_PROGRESS_WIDTH", width);
        }
    }
    // A group of its own: a Ctrl-C at the terminal reaches us alone, and we end all of it.
    command.stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
    let mut cargo = command.spawn().context("cargo could not be started")?;
    let _group = Group(cargo.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)));
    let told = cargo.stderr.take();
    let told = async {
        match told {
            Some(told) => pass_on(told).await,
            None => Ok(()),
        }
    };
    let (output, told) = tokio::join!(cargo.wait_with_output(), told);
    told?;
    Ok(output?)
}

/// Whether cargo can draw its bar on standard error, and the user has not decided about it.
fn has_bar() -> bool {
    let dumb = std::env::var_os("TERM").is_none_or(|terminal| terminal == "dumb");
    std::io::stderr().is_terminal() && !dumb && std::env::var_os("CARGO_TERM_PROGRESS_WHEN").is_none()
}

/// How wide a terminal is; 80 where it does not say, as it does not without a window.
fn columns(terminal: impl AsFd) -> u16 {
    tcgetwinsize(terminal).ok().map(|size| size.ws_col).filter(|columns| *columns > 0).unwrap_or(80)
}

/// Passes on what cargo says, line by line, but not that it has finished: that goes without saying,
/// and is all that it says where there was nothing to build.
async fn pass_on(told: impl AsyncRead + Unpin) -> std::io::Result<()> {
    let mut told = BufReader::new(told);
    let mut line = Vec::new();
    while told.read_until(b'\n', &mut line).await? > 0 {
        if !is_finished(&line) {
            std::io::stderr().write_all(&line)?;
        }
        line.clear();
    }
    Ok(())
}

fn is_finished(line: &[u8]) -> bool {
    let line = String::from_utf8_lossy(line);
    line.contains("Finished") && line.contains("target(s) in")
}

/// The processes of a build; whatever is left of them ends when this is dropped.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // The only error is that there is nothing left to end.
            let _ = kill_process_group(group, Signal::TERM);
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::pty::{OpenptFlags, openpt};
    use rustix::termios::{Winsize, tcsetwinsize};

    use super::*;

    #[test]
    fn the_bar_is_as_wide_as_the_terminal() {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        for (set, expected) in [(132, 132), (40, 40), (0, 80)] {
            tcsetwinsize(&terminal, Winsize { ws_row: 50, ws_col: set, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
            assert_eq!(columns(&terminal), expected);
        }
        assert_eq!(columns(tempfile::tempfile().unwrap()), 80, "a file is no terminal");
    }
}
