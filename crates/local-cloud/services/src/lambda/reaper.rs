//! The process groups of functions that are alive; none outlives the local cloud. An idle function ends by
//! itself when its Runtime API is gone, but a busy or stuck one does not. So a shell waits at the end of a
//! pipe that only the local cloud holds open. However the local cloud ends, `kill -9` included, the shell
//! wakes and kills the groups that are still alive.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use cloud_core::lock;
use rustix::process::{Pid, Signal};

/// Kills the groups that the last line of standard input names.
const WATCH: &str = r#"while read -r groups; do alive=$groups; done
for group in $alive; do kill -s KILL -- "-$group"; done"#;

#[derive(Debug, Default)]
pub(super) struct Groups(Mutex<Watched>);

#[derive(Debug, Default)]
struct Watched {
    alive: BTreeSet<i32>,
    /// Started with the first function.
    watch: Option<Child>,
}

impl Groups {
    pub fn add(&self, group: i32) {
        let mut watched = lock(&self.0);
        watched.alive.insert(group);
        watched.write();
    }

    pub fn remove(&self, group: i32) {
        let mut watched = lock(&self.0);
        if watched.alive.remove(&group) {
            watched.write();
        }
    }

    pub fn kill_all(&self) {
        let mut watched = lock(&self.0);
        std::mem::take(&mut watched.alive).into_iter().for_each(kill_group);
        watched.write();
    }

    #[cfg(test)]
    pub fn count(&self) -> usize {
        lock(&self.0).alive.len()
    }
}

impl Watched {
    /// Writes one short line, which a pipe takes whole.
    fn write(&mut self) {
        if self.watch.is_none() {
            if self.alive.is_empty() {
                return;
            }
            match start() {
                Ok(watch) => self.watch = Some(watch),
                Err(error) => {
                    return tracing::warn!(%error, "functions cannot be watched: a stuck one may outlive the local cloud");
                }
            }
        }
        let groups: Vec<String> = self.alive.iter().map(i32::to_string).collect();
        let line = format!("{}\n", groups.join(" "));
        let pipe = self.watch.as_mut().and_then(|watch| watch.stdin.as_mut());
        if let Some(Err(error)) = pipe.map(|pipe| pipe.write_all(line.as_bytes())) {
            tracing::warn!(%error, "functions are no longer watched");
        }
    }
}

/// Kills a process and all that it started; no effect where they are gone.
pub(super) fn kill_group(group: i32) {
    if let Some(group) = Pid::from_raw(group) {
        // The only error is that there is nothing left to kill.
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
    }
}

/// Starts the shell in a group of its own, so that a Ctrl-C at the terminal does not end it first.
fn start() -> std::io::Result<Child> {
    let (output, errors) = (Stdio::null(), Stdio::null());
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", WATCH]).env_clear().current_dir("/").process_group(0);
    shell.stdin(Stdio::piped()).stdout(output).stderr(errors).spawn()
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(mut watch) = self.watch.take() {
            // The end of its input ends the shell; there is no remedy where that fails.
            drop(watch.stdin.take());
            let _ = watch.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    fn sleeper() -> Child {
        Command::new("sleep").arg("1000").process_group(0).spawn().unwrap()
    }

    /// What the shell sees when the local cloud is killed is the end of the pipe, as here.
    #[test]
    fn what_is_alive_when_the_pipe_closes_is_killed_and_nothing_else() {
        let (mut stuck, mut ended) = (sleeper(), sleeper());
        let groups = Groups::default();
        groups.add(stuck.id() as i32);
        groups.add(ended.id() as i32);
        groups.remove(ended.id() as i32);
        drop(groups);
        assert_eq!(stuck.wait().unwrap().signal(), Some(9));
        assert!(ended.try_wait().unwrap().is_none(), "a group was killed that had been removed");
        ended.kill().unwrap();
        ended.wait().unwrap();
    }
}
