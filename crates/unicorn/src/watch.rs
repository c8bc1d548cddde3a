//! `cargo unicorn up --watch`: on a change of a function's source it builds, and swaps the
//! binaries that became others. Invocations that run end on the old binary; when a build
//! fails, the old ones go on. The functions run from a folder of links of their own, so that
//! nothing that cargo does half-way is ever seen by them.

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

/// An editor saves in several steps, and `git checkout` writes many files: a build begins
/// when there has been quiet for so long.
const QUIET: Duration = Duration::from_millis(100);

/// The folders of links begin with this; the process id follows.
const PREFIX: &str = ".unicorn-up-";

/// The binaries that the functions run: links to what cargo built.
#[derive(Debug)]
pub struct Binaries {
    folder: PathBuf,
    names: Vec<String>,
    /// Of what cargo built, when it was last linked.
    seen: HashMap<String, Version>,
}

/// What changes when a file is written anew.
type Version = (u64, Option<SystemTime>, u64);

fn version(file: &Metadata) -> Version {
    (file.ino(), file.modified().ok(), file.len())
}

impl Binaries {
    /// Links the binaries of these names in `built`, in a folder beside them, since links do not
    /// cross file systems.
    ///
    /// # Errors
    /// When a file cannot be read or linked.
    pub fn link(built: &Path, names: Vec<String>) -> anyhow::Result<Self> {
        forget_dead(built);
        let folder = built.join(format!("{PREFIX}{}", std::process::id()));
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let mut binaries = Self { folder, names, seen: HashMap::new() };
        binaries.update(built).1?;
        Ok(binaries)
    }

    /// Where the functions find them.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Links those that cargo has built anew; their names, and whether a file could not be read
    /// or linked. What was linked before that is in place all the same.
    pub fn update(&mut self, built: &Path) -> (Vec<String>, anyhow::Result<()>) {
        let mut changed = Vec::new();
        let all = self.names.iter().try_for_each(|name| {
            let from = built.join(name);
            let now = version(&from.metadata().with_context(|| format!("cannot read {}", from.display()))?);
            if self.seen.get(name) == Some(&now) {
                return Ok(());
            }
            // Renamed into place: a process starts with the old one or the new one.
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

/// What a change asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Change {
    /// The functions are built again.
    Source,
    /// They are built again, perhaps out of other packages.
    Manifest,
    /// What is deployed would be another.
    Template,
}

/// The files that matter: the sources of the functions, and the templates.
#[derive(Debug)]
pub struct Sources {
    project: PathBuf,
    packages: BTreeSet<PathBuf>,
    changes: UnboundedReceiver<notify::Result<Event>>,
    /// Tells no more when it is dropped.
    watcher: RecommendedWatcher,
}

impl Sources {
    /// Watches from now on the packages that build the functions `names`, and those of the
    /// workspace that they depend on.
    ///
    /// # Errors
    /// When cargo cannot tell, or a folder cannot be watched.
    pub async fn watch(project: &Path, names: &[String]) -> anyhow::Result<Self> {
        let (sender, changes) = unbounded_channel();
        // The receiver is gone only when nobody wants to know any more.
        let mut watcher = notify::recommended_watcher(move |event| drop(sender.send(event)))
            .context("cannot watch for changes")?;
        watcher
            .watch(project, RecursiveMode::NonRecursive)
            .with_context(|| format!("cannot watch {}", project.display()))?;
        let mut sources = Self { project: project.to_owned(), packages: BTreeSet::new(), changes, watcher };
        sources.follow(names).await?;
        Ok(sources)
    }

    /// Watches the packages that build the functions `names` now; another one no more.
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
            // The folder may be gone, and its watch with it.
            let _ = self.watcher.unwatch(package);
        }
        self.packages = packages;
        Ok(())
    }

    /// How many packages are watched.
    pub fn packages(&self) -> usize {
        self.packages.len()
    }

    /// Waits for changes, and then for quiet: what they ask for, and the files.
    async fn next(&mut self) -> Option<(BTreeSet<Change>, BTreeSet<PathBuf>)> {
        let (mut changes, mut files) = (BTreeSet::new(), BTreeSet::new());
        // Only what matters puts it off: compilers and editors open and read files all the time.
        let mut quiet = Instant::now();
        loop {
            let event = tokio::select! {
                biased;
                () = tokio::time::sleep_until(quiet), if !changes.is_empty() => return Some((changes, files)),
                event = self.changes.recv() => event?,
            };
            match event {
                // Some were missed: whatever changed, a build will find it.
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

/// Whether a file is another now; that it was read is told as well.
fn is_change(kind: EventKind) -> bool {
    !matches!(kind, EventKind::Access(_))
}

fn classify(project: &Path, packages: &BTreeSet<PathBuf>, path: &Path) -> Option<Change> {
    let name = path.file_name()?.to_str()?;
    // What editors leave beside the files that they write.
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

/// The folders of the packages that build the functions, and of those of the workspace that
/// they depend on, out of what `cargo metadata --no-deps` says.
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

/// Builds and swaps at every change, until it is dropped.
pub async fn run(cloud: &Arc<Cloud>, project: &Path, sources: &mut Sources, binaries: &mut Binaries) {
    let mut told: HashSet<PathBuf> = HashSet::new();
    while let Some((changes, files)) = sources.next().await {
        if changes.contains(&Change::Template) {
            let is_template = |file: &&PathBuf| {
                classify(project, &sources.packages, file) == Some(Change::Template) && !told.contains(*file)
            };
            let new: Vec<PathBuf> = files.iter().filter(is_template).cloned().collect();
            for file in new {
                let shown = file.strip_prefix(project).unwrap_or(&file).display();
                tracing::warn!(target: "hop", service = "watch", resource = %shown, "has changed: start `up` again to run it; what was accepted is kept");
                told.insert(file);
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

/// Builds the functions that run, whatever a half-edited template says, unless cargo could not
/// even tell their packages.
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
        // What was linked before a failure is told all the same: it is what runs from here on.
        write("a", "2");
        std::fs::remove_file(built.path().join("b")).unwrap();
        assert_eq!(update(&mut binaries), (vec!["a".into()], false));
        let folder = binaries.folder().to_owned();
        drop(binaries);
        assert!(!folder.exists());
    }
}
