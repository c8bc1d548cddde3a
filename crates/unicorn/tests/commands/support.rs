//! Runs the built `unicorn` as a user does: a process with arguments, output and signals.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use local_cloud::up::Addresses;
use rustix::process::{Pid, Signal, kill_process};
use unicorn::client::Client;

/// Long enough for a first build of all functions on a small machine; everything else is much faster.
const BUILD: Duration = Duration::from_secs(20 * 60);

/// The folder of the workspace.
pub fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Locked by a test that measures, or that needs the whole machine.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `unicorn` in the project's folder.
pub fn unicorn(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_unicorn"));
    command.args(arguments).current_dir(project());
    command
}

/// A running `unicorn up`; killed when dropped.
pub struct Up {
    pub child: Child,
    pub state: PathBuf,
    /// The lines that it printed until it was ready.
    pub printed: Vec<String>,
    /// From the start of the process to the line `Ready`.
    pub ready_after: Duration,
    output: Receiver<String>,
    log: Receiver<String>,
}

impl Up {
    /// Starts it on free ports and waits until it is ready.
    pub fn start(state: &Path, arguments: &[&str]) -> Self {
        let mut command = unicorn(&["up", "--port", "0", "--aws-port", "0"]);
        command.args(arguments);
        Self::start_as(command, state)
    }

    /// Starts an `up` command with this state folder, and waits until it is ready.
    pub fn start_as(mut command: Command, state: &Path) -> Self {
        command.arg("--state-dir").arg(state).stdout(Stdio::piped()).stderr(Stdio::piped());
        let started = Instant::now();
        let mut child = command.spawn().unwrap();
        let output = lines(child.stdout.take().unwrap());
        let log = lines(child.stderr.take().unwrap());
        let mut printed = Vec::new();
        while !printed.iter().any(|line: &String| line.starts_with("Ready")) {
            let line = output.recv_timeout(BUILD);
            let all = || log.try_iter().collect::<Vec<_>>();
            printed.push(
                line.unwrap_or_else(|_| panic!("up ended before it was ready: {printed:?} {:?}", all())),
            );
        }
        let ready_after = started.elapsed();
        Self { child, state: state.to_owned(), printed, ready_after, output, log }
    }

    pub fn addresses(&self) -> Addresses {
        serde_json::from_slice(&std::fs::read(self.state.join("local.json")).unwrap()).unwrap()
    }

    pub fn client(&self) -> Client {
        Client::new(self.addresses())
    }

    /// Waits for a line of the live log that contains all of `words`.
    pub fn logged(&self, words: &[&str]) -> String {
        let asked = Instant::now();
        let mut seen = Vec::new();
        loop {
            let left = Duration::from_secs(60).saturating_sub(asked.elapsed());
            let line = self.log.recv_timeout(left);
            let line = line.unwrap_or_else(|_| panic!("{words:?} was not logged: {seen:#?}"));
            if words.iter().all(|word| line.contains(word)) {
                return line;
            }
            seen.push(line);
        }
    }

    /// The lines of the live log that no call has returned yet.
    pub fn log(&self) -> Vec<String> {
        self.log.try_iter().collect()
    }

    /// Sends a signal and waits for the end; returns the lines printed after `Ready`.
    pub fn end(mut self, signal: Signal) -> (ExitStatus, Vec<String>) {
        send(&self.child, signal);
        let status = wait(&mut self.child, Duration::from_secs(20));
        (status, self.output.iter().collect())
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// Waits for the end of a process, up to a limit.
pub fn wait(child: &mut Child, patience: Duration) -> ExitStatus {
    let asked = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(asked.elapsed() < patience, "the process has not ended after {patience:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn lines(output: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

/// The processes whose parent is `pid`.
pub fn children(pid: u32) -> BTreeSet<u32> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(|id| stat(*id).is_some_and(|(_, parent)| parent == pid)).collect()
}

/// Whether a process is alive, and not a zombie.
fn is_alive(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != 'Z')
}

/// State and parent of a process.
fn stat(pid: u32) -> Option<(char, u32)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in brackets and may contain anything.
    let mut fields = text.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// Waits until all of these processes are gone.
pub fn assert_gone(processes: &BTreeSet<u32>) {
    let asked = Instant::now();
    while let Some(alive) = processes.iter().find(|pid| is_alive(**pid)) {
        assert!(asked.elapsed() < Duration::from_secs(10), "process {alive} was left behind");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Writes a program that replaces cargo.
pub fn script(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// A folder with copies of the project's templates, which a test may change, and a stand-in for cargo that builds
/// the functions of the project.
pub struct Copy {
    pub folder: tempfile::TempDir,
    cargo: PathBuf,
}

impl Copy {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy_templates(&project(), folder.path());
        std::fs::write(folder.path().join("Cargo.lock"), "").unwrap();
        let text = format!("cd '{}' && exec '{}' \"$@\"", project().display(), env!("CARGO"));
        let cargo = script(folder.path(), "cargo-of-the-project", &text);
        Self { folder, cargo }
    }

    /// Replaces `old`, which must be there, by `new` in a file.
    pub fn change(&self, file: &str, old: &str, new: &str) {
        let path = self.folder.path().join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(old), "{file} has no {old}");
        std::fs::write(&path, text.replace(old, new)).unwrap();
    }

    /// `unicorn` in this folder.
    pub fn unicorn(&self, arguments: &[&str]) -> Command {
        let mut command = unicorn(arguments);
        command.current_dir(self.folder.path()).env("CARGO", &self.cargo);
        command
    }
}

/// Templates, what they include, and the seed data.
fn copy_templates(from: &Path, to: &Path) {
    std::fs::copy(from.join("template.yaml"), to.join("template.yaml")).unwrap();
    for service in ["contracts-service", "properties-service", "web-service"] {
        copy_files(&from.join(service), &to.join(service));
    }
    copy_files(&from.join("crates/events/schemas"), &to.join("crates/events/schemas"));
}

fn copy_files(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true if entry.file_name() == "src" || entry.file_name() == "tests" => {}
            true => copy_files(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// Runs a command to its end: whether it succeeded, its output and its errors.
pub fn run(mut command: Command) -> (bool, String, String) {
    // Its own process group, so that a signal to the test does not reach it.
    let output = command.process_group(0).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

/// Checks that it failed with one sentence that contains all of `words`.
pub fn assert_refused(command: Command, words: &[&str]) {
    let (succeeded, _, errors) = run(command);
    assert!(!succeeded, "it succeeded");
    let said: Vec<&str> = errors.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(said.len(), 1, "not one sentence: {errors}");
    for word in words {
        assert!(said[0].contains(word), "{word} is not in: {}", said[0]);
    }
}
