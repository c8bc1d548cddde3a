//! The smallest application: a workspace with one function in two packages, without dependencies, so that cargo
//! builds it in a second.

use std::path::Path;
use std::process::Command;

use crate::support::unicorn;

/// A workspace in a temporary folder.
pub struct Hello {
    pub folder: tempfile::TempDir,
}

/// Answers `greeting::word()`; for an event `{"wait": FILE}` it first waits for that file.
const FUNCTION: &str = r#"
use std::io::{Read, Write};
use std::path::Path;

fn main() {
    greeting::start();
    let api = std::env::var("AWS_LAMBDA_RUNTIME_API").unwrap();
    loop {
        let (head, event) = call(&api, "GET", "next", "");
        let id = |line: &str| Some(line.split_once(':')?.1.trim().to_owned());
        let is_id = |line: &&str| line.to_lowercase().starts_with("lambda-runtime-aws-request-id");
        let id = head.lines().find(is_id).and_then(id).unwrap();
        let word = greeting::word();
        if let Some(file) = event.split('"').nth(3) {
            std::fs::write(format!("{file}.begun"), "").unwrap();
            while !Path::new(file).exists() {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
        call(&api, "POST", &format!("{id}/response"), &format!("\"{word}\""));
    }
}

fn call(api: &str, method: &str, path: &str, body: &str) -> (String, String) {
    let mut stream = std::net::TcpStream::connect(api).unwrap();
    let length = body.len();
    let path = format!("/2018-06-01/runtime/invocation/{path}");
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: {api}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}
"#;

const TEMPLATE: &str = r#"AWSTemplateFormatVersion: "2010-09-09"
Parameters:
  Stage: { Type: String }
  Owner: { Type: String }
Resources:
  Hello:
    Type: AWS::Lambda::Function
    Metadata: { Binary: hello }
    Properties:
      FunctionName: hello
      Runtime: provided.al2023
      Handler: bootstrap
      Role: arn:aws:iam::123456789012:role/hello
      Code: { ZipFile: "-" }
      Timeout: 60
"#;

impl Hello {
    pub fn new() -> Self {
        let hello = Self { folder: tempfile::tempdir().unwrap() };
        let package = "version = \"0.0.0\"\nedition = \"2024\"\n";
        for (file, text) in [
            (
                "Cargo.toml",
                "[workspace]\nresolver = \"3\"\nmembers = [\"greeting\", \"hello\"]\n\n[profile.dev]\nstrip = \"symbols\"\n"
                    .to_owned(),
            ),
            (
                "Cargo.lock",
                "version = 4\n\n[[package]]\nname = \"greeting\"\nversion = \"0.0.0\"\n\n[[package]]\nname = \"hello\"\n\
                 version = \"0.0.0\"\ndependencies = [\n \"greeting\",\n]\n"
                    .to_owned(),
            ),
            ("template.yaml", TEMPLATE.to_owned()),
            ("greeting/Cargo.toml", format!("[package]\nname = \"greeting\"\n{package}")),
            (
                "hello/Cargo.toml",
                format!(
                    "[package]\nname = \"hello\"\n{package}[dependencies]\ngreeting = {{ path = \"../greeting\" }}\n"
                ),
            ),
            ("hello/src/main.rs", FUNCTION.to_owned()),
        ] {
            hello.write(file, &text);
        }
        hello.say("one");
        hello
    }

    pub fn write(&self, file: &str, text: &str) {
        let path = self.folder.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Sets the word that the function answers after the next build.
    pub fn say(&self, word: &str) {
        self.greeting(&format!("pub fn word() -> &'static str {{ \"{word}\" }}\npub fn start() {{}}\n"));
    }

    /// The package that the function depends on.
    pub fn greeting(&self, text: &str) {
        self.write("greeting/src/lib.rs", text);
    }

    /// `unicorn up` in this folder, on free ports.
    pub fn up(&self, arguments: &[&str]) -> Command {
        let mut command = unicorn(&["up", "--port", "0", "--aws-port", "0", "--no-seed-data"]);
        command.args(arguments).current_dir(self.folder.path()).env("CARGO", env!("CARGO"));
        command.env("CARGO_TARGET_DIR", self.folder.path().join("target"));
        command
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}
