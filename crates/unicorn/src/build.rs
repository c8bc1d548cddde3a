//! Builds the functions that the templates name, with cargo, and tells where they are.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use serde_json::Value;

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

/// Builds the binaries of all functions and returns the folder that holds them.
///
/// # Errors
/// When cargo fails; it has printed why.
pub fn functions(project: &Path, template: &str, stage: &str) -> anyhow::Result<PathBuf> {
    let names = local_cloud::up::binaries(project, template, stage)?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(project).args([
        "build",
        "--quiet",
        "--workspace",
        "--message-format=json-render-diagnostics",
    ]);
    for name in &names {
        command.args(["--bin", name]);
    }
    let output = command.stderr(Stdio::inherit()).output().context("cargo could not be started")?;
    if !output.status.success() {
        bail!("the functions could not be built; cargo says why above");
    }
    // Cargo itself says where it put them, whatever the target folder is.
    let built: Vec<PathBuf> = output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Value>(line).ok())
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .collect();
    let find =
        |name: &String| built.iter().find(|path| path.file_stem().is_some_and(|stem| stem == name.as_str()));
    if let Some(missing) = names.iter().find(|name| find(name).is_none()) {
        bail!("the templates name a function binary {missing}, which no package builds");
    }
    let folder = names.first().and_then(find).and_then(|path| path.parent());
    folder.map(Path::to_owned).context("the templates name no function")
}
