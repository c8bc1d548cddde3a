//! `lambda-test` on the programs that cargo builds and on those that `sam build` built.

use std::path::PathBuf;
use std::process::Command;

use crate::hello::Hello;
use crate::support::{alone, assert_refused, run, unicorn};

/// The smallest application with one sample, and its function at the place where `sam build` puts it.
struct Built {
    hello: Hello,
    program: PathBuf,
}

impl Built {
    fn new() -> Self {
        let hello = Hello::new();
        let template = std::fs::read_to_string(hello.path().join("template.yaml")).unwrap();
        let named = template.replace("FunctionName: hello", "FunctionName: uni-prop-local-hello");
        hello.write("template.yaml", &named);
        hello.write("events/hello/1-says-one.json", "{}");
        hello.write("events/hello/1-says-one.answer.json", "\"one\"");
        let (succeeded, said, errors) = run(command(&hello, &["lambda-test"]));
        assert!(succeeded && said.ends_with("1 passed, 0 failed\n"), "{said}{errors}");
        let program = hello.path().join(".aws-sam/build/Hello/bootstrap");
        std::fs::create_dir_all(program.parent().unwrap()).unwrap();
        std::fs::copy(hello.path().join("target/debug/hello"), &program).unwrap();
        Self { hello, program }
    }

    fn lambda_test(&self, arguments: &[&str]) -> Command {
        let mut command = command(&self.hello, &["lambda-test", "--built", ".aws-sam/build"]);
        // A build would fail: `--built` needs none.
        command.args(arguments).env("CARGO", "false");
        command
    }

    /// Changes some bytes of the program.
    fn patch(&self, at: usize, bytes: &[u8]) {
        let mut program = std::fs::read(&self.program).unwrap();
        program[at..at + bytes.len()].copy_from_slice(bytes);
        std::fs::write(&self.program, program).unwrap();
    }
}

fn command(hello: &Hello, arguments: &[&str]) -> Command {
    let mut command = unicorn(arguments);
    command.current_dir(hello.path()).env("CARGO", env!("CARGO"));
    command.env("CARGO_TARGET_DIR", hello.path().join("target"));
    command
}

#[test]
fn the_samples_are_replayed_on_what_sam_built_and_not_on_what_cargo_builds() {
    let _alone = alone();
    let built = Built::new();
    built.hello.say("two");
    let (succeeded, said, errors) = run(built.lambda_test(&[]));
    assert!(succeeded, "{said}{errors}");
    let row = said.lines().find(|line| line.starts_with("Hello ")).unwrap();
    assert!(row.contains(" MiB") && row.contains(" 2."), "{row}");
    assert!(said.ends_with("1 passed, 0 failed\n"), "{said}");

    built.hello.write("events/hello/1-says-one.answer.json", "\"two\"");
    let (succeeded, said, _) = run(built.lambda_test(&[]));
    assert!(!succeeded && said.contains("FAILED  hello/1-says-one"), "{said}");
}

#[test]
fn what_cannot_be_shipped_is_refused_before_any_sample() {
    let _alone = alone();
    let built = Built::new();
    assert_refused(
        command(&built.hello, &["lambda-test", "--built", "none"]),
        &["nothing is built in none", "sam build"],
    );
    std::fs::remove_file(&built.program).unwrap();
    assert_refused(built.lambda_test(&[]), &["Hello has no program", "Hello/bootstrap", "sam build"]);
    // Large and incompressible.
    let noise: Vec<u8> = (0..4 << 20).map(|_| rand::random()).collect();
    let hello = std::fs::read(built.hello.path().join("target/debug/hello")).unwrap();
    std::fs::write(&built.program, [&hello[..], &noise].concat()).unwrap();
    assert_refused(built.lambda_test(&[]), &["Hello is ", "MiB zipped; the limit is 3.00 MiB"]);
    // All files in its folder are deployed with it.
    std::fs::write(&built.program, hello).unwrap();
    let other = built.program.with_file_name("other");
    std::fs::write(&other, noise).unwrap();
    assert_refused(built.lambda_test(&[]), &["Hello is ", "MiB zipped; the limit is 3.00 MiB"]);
    std::fs::remove_file(other).unwrap();
    std::fs::write(&built.program, "#!/bin/sh\n").unwrap();
    assert_refused(built.lambda_test(&[]), &["Hello is not a program for Lambda"]);
}

#[test]
fn what_is_built_for_another_processor_is_checked_and_not_replayed() {
    let _alone = alone();
    let built = Built::new();
    let (other, machine) = if cfg!(target_arch = "x86_64") { ("arm64", 183) } else { ("x86_64", 62) };
    let words = ["Hello is built for", &format!("not for {other}")];
    assert_refused(built.lambda_test(&["--architecture", other]), &words);
    // e_machine of an ELF file.
    built.patch(18, &[machine, 0]);
    for arguments in [&["--architecture", other][..], &[]] {
        let (succeeded, said, errors) = run(built.lambda_test(arguments));
        assert!(succeeded, "{said}{errors}");
        assert!(said.contains(&format!("Built for {other}: checked, but no sample was replayed")), "{said}");
        assert!(!said.contains("passed"), "{said}");
    }
}

#[test]
fn an_architecture_without_artefacts_is_refused() {
    let (succeeded, _, errors) = run(unicorn(&["lambda-test", "--architecture", "arm64"]));
    assert!(!succeeded && errors.contains("--built"), "{errors}");
}
