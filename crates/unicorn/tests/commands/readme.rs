//! Runs the README: every block of its story, in one shell, against a running `up`.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::support::{Up, alone, project};

/// Longer than the slowest answer of the story: a command waits 6 s for its contract.
const PATIENCE: Duration = Duration::from_secs(30);

/// One fenced block: commands, and parts of their expected output.
struct Block {
    commands: String,
    answers: Vec<String>,
}

impl Block {
    /// Whether it writes nothing, so that it may run again.
    fn only_reads(&self) -> bool {
        !self.commands.contains("--json") && !self.commands.contains("draft")
    }

    fn needs_aws(&self) -> bool {
        self.commands
            .lines()
            .any(|line| line.starts_with("aws ") || line.contains("$(aws ") || line.contains("$(output"))
            || self.commands.contains("output WebApiUrl")
    }
}

fn story(text: &str) -> Vec<Block> {
    let (_, story) = text.split_once("<!-- story -->").expect("the README begins its story");
    let (story, _) = story.split_once("<!-- end of story -->").expect("the README ends its story");
    let blocks = story.split("```bash\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default());
    blocks
        .map(|block| {
            let (answers, commands): (Vec<&str>, Vec<&str>) =
                block.lines().partition(|line| line.starts_with("#>"));
            Block {
                commands: commands.join("\n"),
                answers: answers.iter().map(|line| line.trim_start_matches("#>").trim().to_owned()).collect(),
            }
        })
        .collect()
}

/// A shell that keeps its variables from block to block.
struct Shell {
    child: Child,
    output: Receiver<String>,
}

impl Shell {
    fn start() -> Self {
        let mut command = Command::new("bash");
        // Prefers the AWS command line of `scripts/check`; that of the machine may be too old.
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", project().join(".venv/bin").display()));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (sender, output) = channel();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        std::thread::spawn(move || lines.into_iter().try_for_each(|line| sender.send(line)));
        Self { child, output }
    }

    /// Runs commands and returns what they print.
    fn run(&mut self, commands: &str) -> String {
        let end = "-- end of block --";
        let input = self.child.stdin.as_mut().unwrap();
        writeln!(input, "{{ {commands}\n}} 2>&1; echo; echo '{end}'").unwrap();
        let mut printed = Vec::new();
        loop {
            let line = self.output.recv_timeout(PATIENCE);
            match line.unwrap_or_else(|_| panic!("no end of: {commands}\nprinted so far: {printed:?}")) {
                line if line == end => return printed.join("\n"),
                line => printed.push(line),
            }
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn every_command_of_the_readmes_story_answers_what_stands_there() {
    let _alone = alone();
    let state = tempfile::tempdir().unwrap();
    let running = Up::start(state.path(), &[]);
    let addresses = running.addresses();
    let text = std::fs::read_to_string(project().join("README.md")).unwrap();
    let text = text
        .replace("http://127.0.0.1:3000", &addresses.api_url)
        .replace("http://127.0.0.1:4566", &addresses.endpoint_url);
    let blocks = story(&text);
    assert!(blocks.len() > 20, "only {} blocks were found", blocks.len());

    let mut shell = Shell::start();
    let has_aws = reads_the_endpoint(&shell.run("aws --version"));
    for block in &blocks {
        if block.needs_aws() && !has_aws {
            // The README promises to need nothing but Rust, so a machine without this tool is no failure.
            println!("not run, since there is no AWS command line, or an old one:\n{}", block.commands);
            continue;
        }
        let asked = Instant::now();
        loop {
            let printed = shell.run(&block.commands);
            let missing = block.answers.iter().find(|answer| !printed.contains(answer.as_str()));
            let Some(missing) = missing else { break };
            // A reader types slower than an accepted command takes effect.
            assert!(
                block.only_reads() && asked.elapsed() < PATIENCE,
                "{missing} is not in what was printed by:\n{}\n\n{printed}",
                block.commands
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    running.end(rustix::process::Signal::TERM);
}

/// Whether this version of the AWS command line reads `AWS_ENDPOINT_URL`: since 1.29 and 2.13.
/// <https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html>
fn reads_the_endpoint(version: &str) -> bool {
    let Some((_, rest)) = version.split_once("aws-cli/") else { return false };
    let mut numbers = rest.split(|letter: char| !letter.is_ascii_digit()).map(|part| part.parse().ok());
    let version: (Option<u32>, Option<u32>) = (numbers.next().flatten(), numbers.next().flatten());
    match version {
        (Some(1), Some(minor)) => minor >= 29,
        (Some(2), Some(minor)) => minor >= 13,
        (Some(major), _) => major > 2,
        _ => false,
    }
}

#[test]
fn an_aws_command_line_that_does_not_read_the_endpoint_counts_as_absent() {
    for version in ["bash: line 1: aws: command not found", "aws-cli/2.9.19 Python/3.11.2", "aws-cli/1.28.4"]
    {
        assert!(!reads_the_endpoint(version), "{version}");
    }
    for version in ["aws-cli/1.46.3 md/Botocore#1.44.5", "aws-cli/2.13.0 Python/3.11.2", "aws-cli/1.29.0"] {
        assert!(reads_the_endpoint(version), "{version}");
    }
}

#[test]
fn every_file_that_the_documents_name_is_there() {
    let missing: Vec<String> =
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "crates/local-cloud/README.md"]
            .iter()
            .flat_map(|document| {
                let text = std::fs::read_to_string(project().join(document)).unwrap();
                let named: Vec<String> = text.split('`').skip(1).step_by(2).map(str::to_owned).collect();
                named.into_iter().filter(|name| is_path(name)).map(move |name| (document, name))
            })
            .filter(|(_, name)| !project().join(name).exists())
            .map(|(document, name)| format!("{document}: {name}"))
            .collect();
    assert!(missing.is_empty(), "not there: {missing:#?}");
}

#[test]
fn the_tests_that_architecture_names_exist() {
    let text = std::fs::read_to_string(project().join("ARCHITECTURE.md")).unwrap();
    let named: Vec<&str> = text
        .lines()
        .filter_map(|row| row.strip_suffix("` |")?.split_once(" | `"))
        .flat_map(|(_, names)| names.split("`, `"))
        .collect();
    assert!(named.len() > 25, "only {} tests were found", named.len());
    let mut sources = String::new();
    for folder in ["crates", "contracts-service", "properties-service", "web-service", "tests"] {
        read_sources(&project().join(folder), &mut sources);
    }
    for name in named {
        assert!(sources.contains(&format!("fn {name}(")), "there is no test {name}");
    }
}

fn read_sources(folder: &Path, into: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            read_sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push_str(&std::fs::read_to_string(&path).unwrap());
        }
    }
}

/// Whether a word in backticks is a path of the repository.
fn is_path(name: &str) -> bool {
    let roots = [
        "crates/",
        "contracts-service/",
        "properties-service/",
        "web-service/",
        "events/",
        "scripts/",
        "tests/",
    ];
    // The file that an example of CONTRIBUTING.md makes.
    let example = name.to_lowercase().replace(['-', '_'], "").contains("listingwithdrawn");
    roots.iter().any(|root| name.starts_with(root)) && !name.contains([' ', '*', '{', '<']) && !example
}
