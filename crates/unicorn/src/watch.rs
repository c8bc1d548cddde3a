//! `cargo unicorn up --watch`: rebuilds the functions when a source changes, and replaces the binaries that
//! changed. A running invocation ends on the old binary; after a failed build, the old binaries stay. The
//! functions run from a separate folder of links, so that they never see a half-finished build.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use cloud_services::lambda;
use local_cloud::Cloud;
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use serde_json::Value;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::Instant;

use crate::build;

/// A build begins after so long without a change: an editor saves in several steps, and `git checkout` writes
/// many files.
const QUIET: Duration = Duration::from_millis(100);

/// The name of a folder of links is this prefix and the process id.
const PREFIX: &str = ".unicorn-up-";

/// The binaries that the functions run: links to what cargo built.
#[derive(Debug)]
pub struct Binaries {
    folder: PathBuf,
    names: Vec<String>,
    /// The versions that were linked last, by name.
    seen: HashMap<String, Version>,
}

/// Inode, time and size: at least one of them changes when a file is rewritten.
type Version = (u64, Option<SystemTime>, u64);

fn version(file: &Metadata) -> Version {
    (file.ino(), file.modified().ok(), file.len())
}

impl Binaries {
    /// Links these binaries of `built` into a folder there, since hard links cannot cross file systems.
    pub fn link(built: &Path, names: Vec<String>) -> anyhow::Result<Self> {
        forget_dead(built);
        let folder = built.join(format!("{PREFIX}{}", std::process::id()));
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let mut binaries = Self { folder, names, seen: HashMap::new() };
        binaries.update(built).1?;
        Ok(binaries)
    }

    /// The folder from which the functions run.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Links the binaries that cargo rebuilt. Returns their names, and the error where a file could not be read
    /// or linked; the names linked before the error are in use all the same.
    pub fn update(&mut self, built: &Path) -> (Vec<String>, anyhow::Result<()>) {
        let mut changed = Vec::new();
        let all = self.names.iter().try_for_each(|name| {
            let from = built.join(name);
            let now = version(&from.metadata().with_context(|| format!("cannot read {}", from.display()))?);
            if self.seen.get(name) == Some(&now) {
                return Ok(());
            }
            // Renamed into place, so that a process starts with the old or the new file, never with a part of it.
            let (to, new) = (self.folder.join(name), self.folder.join(format!(".{name}.new")));
            let _ = std::fs::remove_file(&new);
            std::fs::hard_link(&from, &new)
                .or_else(|_| std::fs::copy(&from, &new).map(|_| ()))
                .and_then(|()| std::fs::rename(&new, &to))
                .with_context(|| format!("cannot link {} to {}", from.display(), to.display()))?;
            self.seen.insert(name.clone(), now);
            changed.push(name.clone());
            Ok(())
        });
        (changed, all)
    }
}

impl Drop for Binaries {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Removes the folders of processes that were killed.
fn forget_dead(built: &Path) {
    for entry in std::fs::read_dir(built).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse().ok());
        let dead = pid.and_then(Pid::from_raw).is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH));
        if dead {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// What changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Change {
    /// The functions must be rebuilt.
    Source,
    /// The functions must be rebuilt, perhaps from other packages.
    Manifest,
    /// `up` must start again.
    Template,
}

/// Watches the sources of the functions and the templates.
#[derive(Debug)]
pub struct Sources {
    project: PathBuf,
    packages: BTreeSet<PathBuf>,
    changes: UnboundedReceiver<notify::Result<Event>>,
    /// Stops watching when dropped.
    watcher: RecommendedWatcher,
}

impl Sources {
    /// Watches the packages that build the functions `names`, and the packages of the workspace that these
    /// depend on.
    pub async fn watch(project: &Path, names: &[String]) -> anyhow::Result<Self> {
        let (sender, changes) = unbounded_channel();
        // Sending fails only after the receiver is dropped at the end.
        let mut watcher = notify::recommended_watcher(move |event| drop(sender.send(event)))
            .context("cannot watch for changes")?;
        watcher
            .watch(project, RecursiveMode::NonRecursive)
            .with_context(|| format!("cannot watch {}", project.display()))?;
        let mut sources = Self { project: project.to_owned(), packages: BTreeSet::new(), changes, watcher };
        sources.follow(names).await?;
        Ok(sources)
    }

    /// Watches the packages that build the functions `names` now, and no others.
    async fn follow(&mut self, names: &[String]) -> anyhow::Result<()> {
        let packages = packages(&build::metadata(&self.project).await?, names);
        if packages.is_empty() {
            bail!("no package of the workspace builds a function, so there is nothing to watch");
        }
        for package in packages.difference(&self.packages) {
            self.watcher
                .watch(package, RecursiveMode::Recursive)
                .with_context(|| format!("cannot watch {}", package.display()))?;
        }
        for package in self.packages.difference(&packages) {
            // Fails if the folder is gone, and its watch with it.
            let _ = self.watcher.unwatch(package);
        }
        self.packages = packages;
        Ok(())
    }

    /// The number of watched packages.
    pub fn packages(&self) -> usize {
        self.packages.len()
    }

    /// Waits for changes, and then for quiet. Returns the changes and the files.
    async fn next(&mut self) -> Option<(BTreeSet<Change>, BTreeSet<PathBuf>)> {
        let (mut changes, mut files) = (BTreeSet::new(), BTreeSet::new());
        // Only relevant changes extend the wait: compilers and editors open and read files all the time.
        let mut quiet = Instant::now();
        loop {
            let event = tokio::select! {
                biased;
                () = tokio::time::sleep_until(quiet), if !changes.is_empty() => return Some((changes, files)),
                event = self.changes.recv() => event?,
            };
            match event {
                // Events were lost; a build finds every change.
                Ok(event) if event.need_rescan() => {
                    changes.insert(Change::Manifest);
                    quiet = Instant::now() + QUIET;
                }
                Ok(event) => {
                    for path in event.paths.into_iter().filter(|_| is_change(event.kind)) {
                        if let Some(change) = classify(&self.project, &self.packages, &path) {
                            changes.insert(change);
                            files.insert(path);
                            quiet = Instant::now() + QUIET;
                        }
                    }
                }
                Err(error) => {
                    tracing::error!(target: "hop", service = "watch", "changes may be missed: {error}");
                }
            }
        }
    }
}

/// Whether a file changed; the watcher also reports reads.
fn is_change(kind: EventKind) -> bool {
    !matches!(kind, EventKind::Access(_))
}

fn classify(project: &Path, packages: &BTreeSet<PathBuf>, path: &Path) -> Option<Change> {
    let name = path.file_name()?.to_str()?;
    // Temporary files of editors.
    if name.starts_with(['.', '#']) || name.ends_with('~') {
        return None;
    }
    let in_root = path.parent() == Some(project);
    let in_package = packages.iter().any(|package| path.starts_with(package));
    match path.extension()?.to_str()? {
        "yaml" | "yml" if in_root || in_package => Some(Change::Template),
        "toml" | "lock" if in_root || in_package => Some(Change::Manifest),
        "rs" | "json" | "txt" if in_package => Some(Change::Source),
        _ => None,
    }
}

/// The folders of the packages that build the functions and of the packages of the workspace that these depend
/// on, from the output of `cargo metadata --no-deps`.
fn packages(metadata: &Value, functions: &[String]) -> BTreeSet<PathBuf> {
    let folder = |package: &Value| Path::new(package["manifest_path"].as_str()?).parent().map(Path::to_owned);
    let builds_one = |package: &&Value| {
        build::binaries_of(package).any(|binary| functions.iter().any(|name| name == binary))
    };
    let by_folder: HashMap<PathBuf, &Value> =
        build::packages(metadata).filter_map(|package| Some((folder(package)?, package))).collect();
    let mut open: Vec<PathBuf> = build::packages(metadata).filter(builds_one).filter_map(folder).collect();
    let mut found = BTreeSet::new();
    while let Some(next) = open.pop() {
        if !found.insert(next.clone()) {
            continue;
        }
        let dependencies = by_folder.get(&next).and_then(|package| package["dependencies"].as_array());
        open.extend(
            dependencies
                .into_iter()
                .flatten()
                .filter(|dependency| dependency["kind"] != "dev")
                .filter_map(|dependency| dependency["path"].as_str().map(PathBuf::from)),
        );
    }
    found
}

/// Rebuilds and replaces functions at every change, until it is dropped.
pub async fn run(cloud: &Arc<Cloud>, project: &Path, sources: &mut Sources, binaries: &mut Binaries) {
    let mut reported: HashSet<PathBuf> = HashSet::new();
    while let Some((changes, files)) = sources.next().await {
        if changes.contains(&Change::Template) {
            let is_template = |file: &&PathBuf| {
                classify(project, &sources.packages, file) == Some(Change::Template)
                    && !reported.contains(*file)
            };
            let new: Vec<PathBuf> = files.iter().filter(is_template).cloned().collect();
            for file in new {
                let shown = file.strip_prefix(project).unwrap_or(&file).display();
                tracing::warn!(target: "hop", service = "watch", resource = %shown, "has changed: start `up` again to run it; what was accepted is kept");
                reported.insert(file);
            }
        }
        let followed = match changes.contains(&Change::Manifest) {
            true => sources.follow(&binaries.names).await,
            false => Ok(()),
        };
        if changes.contains(&Change::Source) || changes.contains(&Change::Manifest) {
            rebuild(cloud, project, binaries, followed).await;
        }
    }
}

/// Rebuilds the running functions, also while a template is half edited; fails if `followed` has failed.
async fn rebuild(cloud: &Cloud, project: &Path, binaries: &mut Binaries, followed: anyhow::Result<()>) {
    let began = Instant::now();
    let built = match followed {
        Ok(()) => build::named(project, &binaries.names, build::Show::Nothing).await,
        Err(error) => Err(error),
    };
    let (changed, all) = match built {
        Ok(folder) => binaries.update(&folder),
        Err(error) => (Vec::new(), Err(error)),
    };
    if !changed.is_empty() {
        lambda::replaced(cloud, &changed);
        let took_ms = began.elapsed().as_millis();
        tracing::info!(target: "hop", service = "watch", "swapped after {took_ms} ms: {}", changed.join(", "));
    }
    if let Err(error) = all {
        tracing::error!(target: "hop", service = "watch", "{error:#}; the old functions go on");
    }
}

#[cfg(test)]
mod tests {
    use notify::event::AccessKind;
    use serde_json::json;

    use super::*;

    #[test]
    fn only_sources_of_the_functions_and_templates_count() {
        let packages = [PathBuf::from("/p/web"), PathBuf::from("/p/crates/kit")].into();
        for (path, change) in [
            ("/p/web/src/main.rs", Some(Change::Source)),
            ("/p/crates/kit/Cargo.toml", Some(Change::Manifest)),
            ("/p/Cargo.lock", Some(Change::Manifest)),
            ("/p/template.yaml", Some(Change::Template)),
            ("/p/web/approval.asl.yaml", Some(Change::Template)),
            ("/p/crates/cli/src/main.rs", None),
            ("/p/README.md", None),
            ("/p/web/src/.main.rs.swp", None),
            ("/p/web/src/main.rs~", None),
            ("/p/web/src/4913", None),
        ] {
            assert_eq!(classify(Path::new("/p"), &packages, Path::new(path)), change, "{path}");
        }
    }

    #[test]
    fn what_a_function_depends_on_in_the_workspace_is_watched_and_nothing_else() {
        let package = |name: &str, binary: &str, dependencies: Value| {
            json!({"manifest_path": format!("/p/{name}/Cargo.toml"), "dependencies": dependencies,
                "targets": [{"kind": ["bin"], "name": binary}]})
        };
        let metadata = json!({"packages": [
            package("web", "search", json!([
                {"path": "/p/kit"}, {"path": "/p/fake", "kind": "dev"}, {"name": "serde"}])),
            package("kit", "-", json!([{"path": "/p/words"}])),
            package("words", "-", json!([])),
            package("fake", "-", json!([])),
            package("cli", "unicorn", json!([{"path": "/p/kit"}])),
        ]});
        let found = packages(&metadata, &["search".into()]);
        assert_eq!(found, ["/p/kit", "/p/web", "/p/words"].map(PathBuf::from).into());
    }

    #[tokio::test]
    async fn what_does_not_matter_never_puts_off_a_build() {
        let (sender, changes) = unbounded_channel();
        let mut sources = Sources {
            project: "/p".into(),
            packages: [PathBuf::from("/p/web")].into(),
            changes,
            watcher: notify::recommended_watcher(|_| {}).unwrap(),
        };
        let tell = move |kind, path: &str| sender.send(Ok(Event::new(kind).add_path(path.into()))).is_ok();
        tell(EventKind::Any, "/p/web/src/main.rs");
        let reader = tokio::spawn(async move {
            while tell(EventKind::Access(AccessKind::Any), "/p/web/src/main.rs")
                && tell(EventKind::Any, "/p/web/notes")
            {
                tokio::task::yield_now().await;
            }
        });
        let (changes, _) = tokio::time::timeout(50 * QUIET, sources.next()).await.unwrap().unwrap();
        assert_eq!(changes, [Change::Source].into());
        drop(sources);
        reader.await.unwrap();
    }

    #[test]
    fn only_a_binary_that_was_built_anew_is_linked_anew() {
        let built = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let (path, new) = (built.path().join(name), built.path().join("new"));
            std::fs::write(&new, text).unwrap();
            std::fs::rename(new, path).unwrap();
        };
        write("a", "1");
        write("b", "1");
        let mut binaries = Binaries::link(built.path(), vec!["a".into(), "b".into()]).unwrap();
        let update = |binaries: &mut Binaries| {
            let (changed, all) = binaries.update(built.path());
            (changed, all.is_ok())
        };
        assert_eq!(update(&mut binaries), (vec![], true));
        write("b", "2");
        let read = |binaries: &Binaries| std::fs::read_to_string(binaries.folder().join("b")).unwrap();
        assert_eq!(read(&binaries), "1", "a half-done build is seen");
        assert_eq!(update(&mut binaries), (vec!["b".into()], true));
        assert_eq!(read(&binaries), "2");
        // The binaries linked before the failure are reported too: they run from here on.
        write("a", "2");
        std::fs::remove_file(built.path().join("b")).unwrap();
        assert_eq!(update(&mut binaries), (vec!["a".into()], false));
        let folder = binaries.folder().to_owned();
        drop(binaries);
        assert!(!folder.exists());
    }
}
