//! The state folder of a local cloud. A file in it, the mark, says that it is one, and for which stage and
//! template it was made. A folder without a mark that holds other things is never cleared, and files of
//! others are never removed. One process at a time uses the folder. Other users of the machine cannot read
//! its files.

use std::fs::{DirBuilder, File, Permissions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use cloud_core::private_file;
use serde::{Deserialize, Serialize};

/// Locked by the process that uses the folder.
const LOCK: &str = "lock";

/// Marks a state folder.
const MARK: &str = "state.json";

/// The name of the mark while the folder is being cleared: the next start goes on clearing.
const CLEARING: &str = "state.json.clearing";

/// The files that a run leaves, each perhaps with one of the endings below.
const OURS: [&str; 6] = [MARK, CLEARING, "cloud.sqlite", "dynamodb.sqlite", "local.json", "seeded"];

/// Endings that SQLite adds to the name of a database, and `.new` of a file to be renamed into place.
const ENDINGS: [&str; 5] = ["", "-wal", "-shm", "-journal", ".new"];

/// The stage and template that a state was made for. Only a run with the same ones can use it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// Part of the name of nearly every resource.
    pub stage: String,
    /// Relative to the project. Names the nested stacks and their resources.
    pub template: String,
}

/// A state folder that this process has locked.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Takes a folder, creates it where it is missing, and removes the state of earlier runs if `fresh`.
    ///
    /// # Errors
    /// One sentence: it cannot be written, holds other things, is in use, or was made for another stage or
    /// template.
    pub fn take(path: &Path, made: &Made, fresh: bool) -> anyhow::Result<Self> {
        let shown = path.display();
        let mut builder = DirBuilder::new();
        let created = builder.recursive(true).mode(0o700).create(path);
        created.with_context(|| format!("cannot create the state folder {shown}"))?;
        if fresh
            && let Some(stranger) =
                stranger(path).with_context(|| format!("cannot read the folder {shown}"))?
        {
            bail!(
                "{shown} is not a state folder: it holds {stranger}, so --fresh does not clear it; leave out --fresh, or choose another folder with --state-dir"
            );
        }
        let file = private_file::open(&path.join(LOCK)).with_context(|| {
            format!("cannot write to the state folder {shown}; choose another --state-dir")
        })?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!("another local cloud is running on {shown}; stop it, or choose another --state-dir")
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock the state folder {shown}"));
            }
        }
        let folder = Self { path: path.to_owned(), _lock: file };
        if fresh || path.join(CLEARING).exists() {
            folder.clear().with_context(|| format!("cannot clear the state folder {shown}"))?;
        }
        folder.check(made)?;
        folder.close().with_context(|| format!("cannot close the state folder {shown} to other users"))?;
        Ok(folder)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes away the permissions that earlier versions gave to other users. A folder that also holds other
    /// things keeps its own permissions.
    fn close(&self) -> std::io::Result<()> {
        let entries = entries(&self.path)?;
        for (name, _) in entries.iter().filter(|(_, ours)| *ours) {
            std::fs::set_permissions(self.path.join(name), Permissions::from_mode(0o600))?;
        }
        if entries.iter().all(|(name, ours)| *ours || name == LOCK) {
            std::fs::set_permissions(&self.path, Permissions::from_mode(0o700))?;
        }
        Ok(())
    }

    /// Removes the files of earlier runs. The mark has its other name until the last of them is gone, so that
    /// no run uses half a state.
    fn clear(&self) -> std::io::Result<()> {
        let clearing = self.path.join(CLEARING);
        let mark = self.path.join(MARK);
        if mark.is_file() {
            std::fs::rename(mark, &clearing)?;
        } else {
            private_file::open(&clearing)?;
        }
        for (name, _) in entries(&self.path)?.iter().filter(|(name, ours)| *ours && name != CLEARING) {
            std::fs::remove_file(self.path.join(name))?;
        }
        std::fs::remove_file(clearing)
    }

    /// Refuses a state that was made for another stage or template; marks a new one.
    fn check(&self, made: &Made) -> anyhow::Result<()> {
        const INSTEAD: &str = "start once with --fresh, or choose another --state-dir";
        let (mark, shown) = (self.path.join(MARK), self.path.display());
        let text = match std::fs::read(&mark) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                // Renamed into place, so that a mark is whole or missing.
                let new = self.path.join(format!("{MARK}.new"));
                let written = private_file::write(&new, &serde_json::to_vec_pretty(made)?)
                    .and_then(|()| std::fs::rename(&new, &mark));
                return written.with_context(|| format!("cannot write to the state folder {shown}"));
            }
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", mark.display())),
        };
        let before: Made = serde_json::from_slice(&text)
            .with_context(|| format!("{} cannot be read; {INSTEAD}", mark.display()))?;
        for (option, old, new) in
            [("stage", &before.stage, &made.stage), ("template", &before.template, &made.template)]
        {
            if old != new {
                bail!("the state in {shown} was made with --{option} {old}, not {new}; {INSTEAD}");
            }
        }
        Ok(())
    }
}

/// The names in a folder, and whether each is a file of ours.
fn entries(path: &Path) -> std::io::Result<Vec<(String, bool)>> {
    let entry = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let ours = is_ours(&name) && entry.file_type()?.is_file();
        Ok((name, ours))
    };
    std::fs::read_dir(path)?.map(entry).collect()
}

fn is_ours(name: &str) -> bool {
    OURS.iter().filter_map(|ours| name.strip_prefix(ours)).any(|rest| ENDINGS.contains(&rest))
}

/// Something in a folder without a mark that no run left there.
fn stranger(path: &Path) -> std::io::Result<Option<String>> {
    let entries = entries(path)?;
    // The first versions left no mark.
    let marks = [MARK, CLEARING, "cloud.sqlite"];
    if entries.iter().any(|(name, ours)| *ours && marks.contains(&name.as_str())) {
        return Ok(None);
    }
    Ok(entries.into_iter().find(|(name, ours)| name != LOCK && !ours).map(|(name, _)| name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(stage: &str, template: &str) -> Made {
        Made { stage: stage.into(), template: template.into() }
    }

    fn whole() -> Made {
        made("local", "template.yaml")
    }

    fn refusal(path: &Path, made: &Made, fresh: bool) -> String {
        format!("{:#}", Folder::take(path, made, fresh).unwrap_err())
    }

    fn names(path: &Path) -> Vec<String> {
        let mut names: Vec<String> = entries(path).unwrap().into_iter().map(|(name, _)| name).collect();
        names.sort();
        names
    }

    #[test]
    fn a_folder_that_holds_something_else_is_not_cleared_but_may_become_a_state_folder() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("thesis.tex"), "years of work").unwrap();
        let said = refusal(folder.path(), &whole(), true);
        assert!(said.contains("thesis.tex") && said.contains("--state-dir"), "{said}");
        assert_eq!(names(folder.path()), ["thesis.tex"]);
        drop(Folder::take(folder.path(), &whole(), false).unwrap());
        drop(Folder::take(folder.path(), &whole(), true).unwrap());
        assert_eq!(names(folder.path()), ["lock", "state.json", "thesis.tex"]);
    }

    #[test]
    fn fresh_removes_what_is_ours_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        drop(Folder::take(folder.path(), &whole(), false).unwrap());
        for name in ["cloud.sqlite", "cloud.sqlite-wal", "dynamodb.sqlite", "dynamodb.sqlite-journal"]
            .into_iter()
            .chain(["local.json", "cloud.sqlite.bak", "seeded.csv", "notes.txt"])
        {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        std::fs::create_dir(folder.path().join("seeded")).unwrap();
        drop(Folder::take(folder.path(), &whole(), true).unwrap());
        let left = ["cloud.sqlite.bak", "lock", "notes.txt", "seeded", "seeded.csv", "state.json"];
        assert_eq!(names(folder.path()), left);
    }

    #[test]
    fn a_clearing_that_was_cut_short_is_finished_by_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        drop(Folder::take(folder.path(), &made("dev", "template.yaml"), false).unwrap());
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("cloud.sqlite-wal"), "half").unwrap();
        std::fs::write(at("notes.txt"), "").unwrap();
        std::fs::rename(at(MARK), at(CLEARING)).unwrap();
        drop(Folder::take(folder.path(), &whole(), false).unwrap());
        assert_eq!(names(folder.path()), ["lock", "notes.txt", "state.json"]);
    }

    #[test]
    fn a_state_of_another_stage_or_template_is_refused_and_fresh_takes_it() {
        let folder = tempfile::tempdir().unwrap();
        drop(Folder::take(folder.path(), &whole(), false).unwrap());
        let said = refusal(folder.path(), &made("dev", "template.yaml"), false);
        assert!(said.contains("--stage local, not dev") && said.contains("--fresh"), "{said}");
        let said = refusal(folder.path(), &made("local", "web-service/template.yaml"), false);
        assert!(said.contains("--template template.yaml, not web-service/template.yaml"), "{said}");
        drop(Folder::take(folder.path(), &made("dev", "template.yaml"), true).unwrap());
        assert!(refusal(folder.path(), &whole(), false).contains("--stage dev"));
    }

    #[test]
    fn no_other_user_reads_the_state_not_even_of_an_earlier_version() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("a/state");
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        let all = || {
            let files = names(&folder).into_iter().map(|name| (mode(&folder.join(&name)), name));
            files.map(|(mode, name)| format!("{mode:o} {name}")).collect::<Vec<_>>()
        };
        drop(Folder::take(&folder, &whole(), false).unwrap());
        let store = cloud_core::store::Store::open(&folder.join("cloud.sqlite")).unwrap();
        store.migrate("CREATE TABLE IF NOT EXISTS t (x INTEGER)").unwrap();
        private_file::write(&folder.join("local.json"), b"{}").unwrap();
        assert_eq!(mode(&folder), 0o700);
        let expected = [
            "600 cloud.sqlite",
            "600 cloud.sqlite-shm",
            "600 cloud.sqlite-wal",
            "600 local.json",
            "600 lock",
            "600 state.json",
        ];
        assert_eq!(all(), expected);

        drop(store);
        for name in names(&folder) {
            std::fs::set_permissions(folder.join(name), Permissions::from_mode(0o644)).unwrap();
        }
        std::fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        drop(Folder::take(&folder, &whole(), false).unwrap());
        assert_eq!(mode(&folder), 0o700);
        assert!(all().iter().all(|file| file.starts_with("600 ")), "{:?}", all());
    }

    #[test]
    fn a_folder_that_holds_other_things_stays_open_but_for_what_is_ours() {
        let folder = tempfile::tempdir().unwrap();
        let mode = |name: &str| folder.path().join(name).metadata().unwrap().permissions().mode() & 0o777;
        std::fs::write(folder.path().join("thesis.tex"), "years of work").unwrap();
        for (name, mode) in [("", 0o755), ("thesis.tex", 0o644)] {
            std::fs::set_permissions(folder.path().join(name), Permissions::from_mode(mode)).unwrap();
        }
        drop(Folder::take(folder.path(), &whole(), false).unwrap());
        assert_eq!((mode(""), mode("thesis.tex"), mode("state.json")), (0o755, 0o644, 0o600));
    }

    #[test]
    fn a_folder_in_use_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let held = Folder::take(folder.path(), &whole(), false).unwrap();
        assert!(refusal(folder.path(), &whole(), true).contains("another local cloud is running"));
        drop(held);
        Folder::take(folder.path(), &whole(), false).unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_one_sentence() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let said = refusal(&file.path().join("state"), &whole(), false);
        assert!(said.starts_with("cannot create the state folder"), "{said}");
    }
}
