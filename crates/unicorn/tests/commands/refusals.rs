//! The refusals of `up`: one sentence, and a status that is not zero.

use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::hello::Hello;
use crate::support::{Up, alone, assert_refused, run, script, unicorn};

/// `up` in `hello`, on a new state.
fn up(hello: &Hello, state: &Path, arguments: &[&str]) -> Command {
    let mut command = hello.up(arguments);
    command.arg("--state-dir").arg(state);
    command
}

/// The state folder of a finished run.
fn used(hello: &Hello) -> tempfile::TempDir {
    let state = tempfile::tempdir().unwrap();
    Up::start_as(hello.up(&[]), state.path()).end(Signal::TERM);
    state
}

#[test]
fn a_template_that_is_missing_or_broken_is_named_with_the_line() {
    let hello = Hello::new();
    let state = tempfile::tempdir().unwrap();
    assert_refused(up(&hello, state.path(), &["--template", "none.yaml"]), &["none.yaml", "cannot be read"]);
    hello.write("template.yaml", "AWSTemplateFormatVersion: \"2010-09-09\"\nResources:\n  Hello: {\n");
    assert_refused(up(&hello, state.path(), &[]), &["template.yaml", "is not YAML", "line"]);
}

#[test]
fn a_binary_that_no_package_builds_is_named() {
    let _alone = alone();
    let hello = Hello::new();
    let template = std::fs::read_to_string(hello.path().join("template.yaml")).unwrap();
    hello.write("template.yaml", &template.replace("Binary: hello", "Binary: bonjour"));
    let state = tempfile::tempdir().unwrap();
    // Cargo's message comes first.
    let (succeeded, _, errors) = run(up(&hello, state.path(), &[]));
    let last = errors.lines().last().unwrap_or_default();
    assert!(!succeeded && last.contains("bonjour, which no package builds"), "{errors}");
    // Cargo may also succeed without building it.
    let mut command = up(&hello, state.path(), &[]);
    command.env("CARGO", script(hello.path(), "idle-cargo", "exit 0"));
    assert_refused(command, &["bonjour", "no package builds"]);
}

#[test]
fn a_function_that_does_not_start_ends_it_with_what_the_function_said() {
    let _alone = alone();
    let hello = Hello::new();
    hello.greeting(
        "pub fn word() -> &'static str { \"\" }\npub fn start() { panic!(\"no TABLE_NAME is given\") }\n",
    );
    let state = tempfile::tempdir().unwrap();
    let words = ["the function hello does not start", "exit status 101", "no TABLE_NAME is given"];
    assert_refused(up(&hello, state.path(), &["--log", "quiet"]), &words);
}

#[test]
fn a_state_folder_that_cannot_be_used_is_named() {
    let _alone = alone();
    let hello = Hello::new();
    let file = tempfile::NamedTempFile::new().unwrap();
    let below_a_file = file.path().join("state");
    assert_refused(up(&hello, &below_a_file, &[]), &["cannot create the state folder", "Not a directory"]);
    if !rustix::process::geteuid().is_root() {
        assert_refused(up(&hello, Path::new("/proc"), &[]), &["/proc"]);
    }
}

/// Limits all files to some kilobytes, as on a full disk.
#[test]
fn a_disk_that_is_full_is_told_with_the_state_folder() {
    let _alone = alone();
    let hello = Hello::new();
    // Built before, so that only the state can reach the limit.
    let state = used(&hello);
    let full = up(&hello, &state.path().join("full"), &[]);
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$@\"", "sh"]).arg(full.get_program());
    command.args(full.get_args()).current_dir(hello.path());
    command.envs(full.get_envs().filter_map(|(name, value)| Some((name, value?))));
    assert_refused(command, &["state", "full"]);
}

#[test]
fn a_folder_that_holds_something_else_is_not_even_emptied_by_fresh() {
    let _alone = alone();
    let hello = Hello::new();
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("letter.txt"), "dear").unwrap();
    let words = ["is not a state folder", "letter.txt", "--state-dir"];
    assert_refused(up(&hello, home.path(), &["--fresh"]), &words);
    let left: Vec<_> = std::fs::read_dir(home.path()).unwrap().flatten().map(|it| it.file_name()).collect();
    assert_eq!(left, ["letter.txt"]);
}

#[test]
fn a_state_of_another_stage_or_template_is_refused_and_fresh_takes_it() {
    let _alone = alone();
    let hello = Hello::new();
    let state = used(&hello);
    assert_refused(up(&hello, state.path(), &["--stage", "dev"]), &["--stage local, not dev", "--fresh"]);
    let template = std::fs::read_to_string(hello.path().join("template.yaml")).unwrap();
    hello.write("other.yaml", &template);
    assert_refused(
        up(&hello, state.path(), &["--template", "other.yaml"]),
        &["--template template.yaml, not other.yaml"],
    );
    Up::start_as(hello.up(&["--stage", "dev", "--fresh"]), state.path()).end(Signal::TERM);
}

#[test]
fn a_state_of_another_version_is_refused() {
    let _alone = alone();
    let hello = Hello::new();
    let state = used(&hello);
    let edit = |file: &str, statement: &str| {
        let connection = rusqlite::Connection::open(state.path().join(file)).unwrap();
        connection.execute_batch(statement).unwrap();
    };
    edit("cloud.sqlite", "ALTER TABLE deployed_resources ADD COLUMN colour TEXT");
    assert_refused(up(&hello, state.path(), &[]), &["another version", "deployed_resources", "--fresh"]);
    edit("cloud.sqlite", "ALTER TABLE deployed_resources DROP COLUMN colour");
    edit("dynamodb.sqlite", "UPDATE _config SET value = '999' WHERE key = 'schema_version'");
    assert_refused(up(&hello, state.path(), &[]), &["DynamoDB tables", "--fresh"]);
}

#[test]
fn a_resource_that_is_gone_from_the_template_is_named_while_it_holds_something() {
    let _alone = alone();
    let hello = Hello::new();
    let template = std::fs::read_to_string(hello.path().join("template.yaml")).unwrap();
    let queue = "  Orders: { Type: AWS::SQS::Queue, Properties: { QueueName: orders } }\n";
    hello.write("template.yaml", &format!("{template}{queue}"));
    let state = tempfile::tempdir().unwrap();
    let running = Up::start_as(hello.up(&[]), state.path());
    let client = running.client();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let url = format!("{}/123456789012/orders", client.addresses.endpoint_url);
        let message = serde_json::json!({"QueueUrl": url, "MessageBody": "m"});
        client.aws("AmazonSQS.SendMessage", &message).await.unwrap();
    });
    running.end(Signal::KILL);
    hello.write("template.yaml", &template);
    let words = ["template.yaml has no Orders any more", "1 message of orders", "--fresh"];
    assert_refused(up(&hello, state.path(), &[]), &words);
}

/// The template is valid, but a service refuses it when other resources are deployed already.
#[test]
fn what_a_service_refuses_is_told_in_one_sentence_and_nothing_is_left_running() {
    let _alone = alone();
    let hello = Hello::new();
    let template = std::fs::read_to_string(hello.path().join("template.yaml")).unwrap();
    let queue = |seconds: u32| {
        format!(
            "{template}  Orders:\n    Type: AWS::SQS::Queue\n    DependsOn: Hello\n    Properties: {{ VisibilityTimeout: {seconds} }}\n"
        )
    };
    hello.write("template.yaml", &queue(43_201));
    let state = tempfile::tempdir().unwrap();
    let mut command = up(&hello, state.path(), &["--log", "quiet"]);
    let output = command.output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    // Without cargo's lines about the build.
    let is_built = |line: &&str| line.trim_start().starts_with("Compiling ");
    let said: Vec<&str> = errors.lines().filter(|line| !is_built(line)).collect();
    assert_eq!(said.len(), 1, "{errors}");
    for word in ["error: ", "template.yaml", "Orders", "VisibilityTimeout"] {
        assert!(said[0].contains(word), "{word} is not in: {errors}");
    }
    let programs = std::fs::read_dir("/proc").unwrap().flatten();
    let left = programs.filter_map(|process| std::fs::read_link(process.path().join("exe")).ok());
    let left: Vec<_> = left.filter(|program| program.starts_with(hello.path())).collect();
    assert!(left.is_empty(), "left running: {left:?}");
    // The state is unlocked and as good as new.
    hello.write("template.yaml", &queue(43_200));
    Up::start_as(hello.up(&[]), state.path()).end(Signal::TERM);
}

#[test]
fn a_port_that_only_root_may_use_is_named() {
    if rustix::process::geteuid().is_root() {
        return;
    }
    let _alone = alone();
    let hello = Hello::new();
    let state = tempfile::tempdir().unwrap();
    let mut command = unicorn(&["up", "--port", "80", "--aws-port", "0", "--state-dir"]);
    command.arg(state.path()).current_dir(hello.path());
    assert_refused(command, &["cannot listen on port 80", "--port"]);
}
