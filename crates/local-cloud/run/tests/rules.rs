//! `rules/{module}.md` lists the rules of AWS that a module follows, and their tests. This test compares the
//! lists with the code: every service has a list, every rule has a source, and every named test exists.

// clippy.toml allows these in tests, but not in helpers of integration tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..").canonicalize().unwrap()
}

fn modules() -> BTreeSet<String> {
    let entries = std::fs::read_dir(root().join("crates/local-cloud/services/src")).unwrap().flatten();
    let folders = entries.filter(|entry| entry.path().is_dir());
    folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

struct Rule {
    text: String,
    source: String,
    tests: Vec<String>,
}

/// The rows `| rule | source | tests |` of a list; tests stand in backquotes.
fn rules(module: &str) -> Vec<Rule> {
    let path = root().join(format!("crates/local-cloud/rules/{module}.md"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|_| panic!("{} is missing", path.display()));
    let rows = text.lines().filter(|line| line.starts_with("| ")).skip(1);
    rows.filter(|row| !row.starts_with("|---") && !row.starts_with("| ---"))
        .map(|row| {
            let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
            let [rule, source, tests] = cells[..] else { panic!("not three cells in {module}.md: {row}") };
            let tests = tests.split('`').skip(1).step_by(2).map(str::to_owned).collect();
            Rule { text: rule.to_owned(), source: source.to_owned(), tests }
        })
        .collect()
}

/// The names of all test functions of the workspace and of the SDK suites.
fn tests() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut folders: Vec<PathBuf> =
        ["crates", "contracts-service", "properties-service", "web-service", "tests"]
            .map(|folder| root().join(folder))
            .into();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            let name = entry.file_name();
            if path.is_dir() {
                if name != "node_modules" && name != ".venv" && name != "target" {
                    folders.push(path);
                }
                continue;
            }
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("rs") => names.extend(rust_tests(&text)),
                Some("py") => names.extend(text.lines().filter_map(|line| {
                    let (name, _) = line.trim_start().strip_prefix("def ")?.split_once('(')?;
                    name.starts_with("test_").then(|| name.to_owned())
                })),
                Some("js") => names.extend(
                    text.split("test(\"")
                        .skip(1)
                        .filter_map(|rest| rest.split_once('"').map(|(name, _)| name.to_owned())),
                ),
                _ => {}
            }
        }
    }
    names
}

/// Functions below an attribute `#[test]`, `#[tokio::test]` or the like.
fn rust_tests(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[") {
            is_test |= line.starts_with("#[test]") || line.contains("::test");
        } else if let Some((_, rest)) = line.split_once("fn ") {
            if is_test {
                names.extend(rest.split_once('(').map(|(name, _)| name.to_owned()));
            }
            is_test = false;
        }
    }
    names
}

#[test]
fn every_service_has_a_list_of_rules_and_no_list_is_left_over() {
    let lists: BTreeSet<String> = std::fs::read_dir(root().join("crates/local-cloud/rules"))
        .unwrap()
        .flatten()
        .map(|entry| entry.path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(modules(), lists);
    for module in modules() {
        assert!(!rules(&module).is_empty(), "{module}.md lists no rule");
    }
}

#[test]
fn every_rule_has_a_source_and_a_test_that_exists() {
    let tests = tests();
    let mut wrong = Vec::new();
    for module in modules() {
        for rule in rules(&module) {
            // Where AWS's documentation is silent, the list says so and names the source used instead.
            if !rule.source.contains("https://docs.aws.amazon.com/")
                && !rule.source.contains("not documented")
            {
                wrong.push(format!("{module}.md: no source: {}", rule.text));
            }
            if rule.tests.is_empty() {
                wrong.push(format!("{module}.md: no test: {}", rule.text));
            }
            for test in rule.tests.iter().filter(|test| !tests.contains(*test)) {
                wrong.push(format!("{module}.md: there is no test {test}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Members of template properties that are read and not used are named `_so`. The input of an API action and the
/// answer of a function are not template properties.
#[test]
fn every_property_that_is_accepted_without_effect_stands_in_the_table_of_those() {
    /// The physical id is made of them before the resource is deployed.
    const NAMES: &[&str] = &["BucketName", "TableName"];
    let readme = std::fs::read_to_string(root().join("crates/local-cloud/README.md")).unwrap();
    let (_, rest) = readme.split_once("## What is accepted without effect").unwrap();
    let table = rest.split("\n## ").next().unwrap();
    let mut folders = vec![root().join("crates/local-cloud/services/src")];
    let (mut seen, mut missing) = (0, Vec::new());
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let reads_input =
                path.ends_with("api.rs") || path.parent().is_some_and(|folder| folder.ends_with("api"));
            if reads_input || path.ends_with("proxy.rs") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for (line, next) in text.lines().zip(text.lines().skip(1)) {
                let renamed =
                    line.trim().strip_prefix("#[serde(").and_then(|line| line.split_once("rename = \""));
                let Some((_, name)) = renamed.filter(|_| next.trim_start().starts_with('_')) else {
                    continue;
                };
                let name = name.split('"').next().unwrap();
                seen += 1;
                if !NAMES.contains(&name) && !table.contains(&format!("`{name}`")) {
                    missing.push(format!("{}: {name}", path.display()));
                }
            }
        }
    }
    assert!(seen > 20, "the members are written in another way now: {seen}");
    assert!(missing.is_empty(), "README.md does not tell of {missing:#?}");
}
