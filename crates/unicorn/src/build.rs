//! Builds the functions of the templates with cargo, and returns where they are. A build that is dropped ends
//! cargo and its compilers. Where cargo fails, it has printed why.

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

/// What a build shows on standard error beside errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// The progress: a bar on a terminal, lines elsewhere, nothing where everything is built already.
    Progress,
    Nothing,
}

/// The folder of the workspace: the nearest one upwards with `template.yaml` and `Cargo.lock`.
pub fn project() -> anyhow::Result<PathBuf> {
    let here = std::env::current_dir()?;
    here.ancestors()
        .find(|folder| folder.join("template.yaml").is_file() && folder.join("Cargo.lock").is_file())
        .map(Path::to_owned)
        .with_context(|| format!("there is no template.yaml and Cargo.lock in {} or above", here.display()))
}

/// Builds the binaries of all functions and returns the folder that holds them.
pub async fn functions(project: &Path, template: &str, stage: &str) -> anyhow::Result<PathBuf> {
    named(project, &local_cloud::up::binaries(project, template, stage)?, Show::Progress).await
}

/// Builds the binaries of these functions and returns the folder that holds them.
pub async fn named(project: &Path, names: &[String], show: Show) -> anyhow::Result<PathBuf> {
    // As optimised as this program itself.
    let profile = if cfg!(debug_assertions) { Profile::Dev } else { Profile::Profiling };
    let built = binaries(project, names, profile, show).await?;
    let folder = built.first().and_then(|path| path.parent());
    folder.map(Path::to_owned).context("the templates name no function")
}

/// Builds this program and all functions of the root template optimised, but quick to link. Returns the path of
/// the program.
pub async fn optimised(project: &Path) -> anyhow::Result<PathBuf> {
    let mut names = local_cloud::up::binaries(project, "template.yaml", "local")?;
    names.push(SELF.to_owned());
    binaries(project, &names, Profile::Profiling, Show::Progress).await?.pop().context("cargo built nothing")
}

/// Builds only this program, optimised but quick to link, and returns its path.
pub async fn optimised_self(project: &Path) -> anyhow::Result<PathBuf> {
    binaries(project, &[SELF.to_owned()], Profile::Profiling, Show::Progress)
        .await?
        .pop()
        .context("cargo built nothing")
}

/// Builds all functions of the root template with the release profile, and the function that does nothing.
/// Returns their paths; the latter is the first.
pub async fn shipped(project: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut names = vec![NO_OP.to_owned()];
    names.extend(local_cloud::up::binaries(project, "template.yaml", "local")?);
    binaries(project, &names, Profile::Release, Show::Progress).await
}

const SELF: &str = "unicorn";

/// A build profile; the workspace's Cargo.toml explains each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Profile {
    Dev,
    Profiling,
    Release,
}

/// Builds binaries of the workspace and returns their paths in the order of `names`.
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
            // Not the whole workspace: the functions would get the library features that other packages need.
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
            None => bail!("the functions could not be built; cargo's message is above"),
        }
    }
    // Cargo prints the paths, so that this works with any target folder.
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

/// The output of `cargo metadata` for the packages of the workspace.
pub async fn metadata(project: &Path) -> anyhow::Result<Value> {
    let output = cargo(project, &["metadata", "--no-deps", "--format-version", "1"], Show::Nothing).await?;
    if !output.status.success() {
        bail!("cargo cannot list the packages of the workspace; its message is above");
    }
    serde_json::from_slice(&output.stdout).context("cargo metadata cannot be read")
}

/// The packages in the output of [`metadata`].
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

/// Runs cargo. Dropped before the end, it ends cargo and all its processes.
async fn cargo(project: &Path, arguments: &[&str], show: Show) -> anyhow::Result<Output> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(project).args(arguments);
    // `cargo run` sets these variables for this package. They would differ from the last build of the others,
    // and some build scripts (ring's) would then build everything anew.
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
            // Cargo then shows its bar despite `--quiet`, and shows nothing if there is nothing to build.
            // https://doc.rust-lang.org/cargo/reference/config.html#termprogresswhen
            let width = columns(std::io::stderr()).to_string();
            command.env("CARGO_TERM_PROGRESS_WHEN", "always").env("CARGO_TERM_PROGRESS_WIDTH", width);
        }
    }
    // Its own process group: a Ctrl-C at the terminal reaches only this process, which then ends the group.
    command.stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
    let mut cargo = command.spawn().context("cargo could not be started")?;
    let _group = Group(cargo.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)));
    let messages = cargo.stderr.take();
    let passed_on = async {
        match messages {
            Some(messages) => pass_on(messages).await,
            None => Ok(()),
        }
    };
    let (output, passed_on) = tokio::join!(cargo.wait_with_output(), passed_on);
    passed_on?;
    Ok(output?)
}

/// Whether cargo can draw its bar on standard error, and the user has not chosen a setting for it.
fn has_bar() -> bool {
    let dumb = std::env::var_os("TERM").is_none_or(|terminal| terminal == "dumb");
    std::io::stderr().is_terminal() && !dumb && std::env::var_os("CARGO_TERM_PROGRESS_WHEN").is_none()
}

/// The width of a terminal; 80 where it is unknown, for example without a window.
fn columns(terminal: impl AsFd) -> u16 {
    tcgetwinsize(terminal).ok().map(|size| size.ws_col).filter(|columns| *columns > 0).unwrap_or(80)
}

/// Passes on cargo's messages line by line, except that it has finished: where there was nothing to build, this
/// is its only message.
async fn pass_on(messages: impl AsyncRead + Unpin) -> std::io::Result<()> {
    let mut messages = BufReader::new(messages);
    let mut line = Vec::new();
    while messages.read_until(b'\n', &mut line).await? > 0 {
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

/// The process group of a build; ends when this is dropped.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It can fail only if no process is left.
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
        assert_eq!(columns(tempfile::tempfile().unwrap()), 80, "a file is not a terminal");
    }
}
