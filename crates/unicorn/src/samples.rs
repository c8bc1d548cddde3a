//! `cargo lambda-test`: invokes each function with its samples in `events/`, over the Runtime API, and compares
//! the answers.
//!
//! `events/{binary}/{case}.json` is the event, `{case}.answer.json` the expected answer; `"<any>"` there stands
//! for any value. The cases of one function run in the order of their names, on one state that is empty at
//! first.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use local_cloud::up::{Options, up};
use serde_json::Value;

use crate::client::Client;

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub passed: usize,
    pub failed: usize,
}

struct Sample {
    case: String,
    event: Value,
    answer: Value,
}

/// Replays all samples and prints one line each.
pub async fn replay(project: &Path, binaries: &Path) -> anyhow::Result<Report> {
    let known = local_cloud::up::binaries(project, "template.yaml", "local")?;
    let mut report = Report::default();
    let samples = read(project)?;
    if let Some(untested) = known.iter().find(|name| !samples.contains_key(*name)) {
        bail!("function {untested} has no sample in events/{untested}/");
    }
    for (binary, samples) in samples {
        if !known.contains(&binary) {
            bail!("events/{binary}/ belongs to no function of the templates");
        }
        let state = tempfile::tempdir()?;
        let running = up(&Options::on_free_ports(project, state.path(), binaries)).await?;
        let client = Client::new(running.addresses.clone());
        for sample in samples {
            let answer = client.invoke(&format!("uni-prop-local-{binary}"), &sample.event).await?;
            if matches(&sample.answer, &answer) {
                report.passed += 1;
                println!("ok      {binary}/{}", sample.case);
            } else {
                report.failed += 1;
                println!(
                    "FAILED  {binary}/{}\n  expected {}\n  answered {answer}",
                    sample.case, sample.answer
                );
            }
        }
        running.stop().await;
    }
    Ok(report)
}

/// The event of a function's first sample.
pub fn first(project: &Path, binary: &str) -> anyhow::Result<Value> {
    let sample = read(project)?.remove(binary).and_then(|samples| samples.into_iter().next());
    Ok(sample.with_context(|| format!("function {binary} has no sample in events/{binary}/"))?.event)
}

/// The samples of each function, sorted by case.
fn read(project: &Path) -> anyhow::Result<BTreeMap<String, Vec<Sample>>> {
    let mut samples: BTreeMap<String, Vec<Sample>> = BTreeMap::new();
    for folder in list(&project.join("events"))?.into_iter().filter(|path| path.is_dir()) {
        for path in list(&folder)? {
            let Some(case) = name(&path)
                .strip_suffix(".json")
                .filter(|case| !case.ends_with(".answer"))
                .map(str::to_owned)
            else {
                continue;
            };
            let answer = json(&folder.join(format!("{case}.answer.json")))?;
            samples.entry(name(&folder)).or_default().push(Sample { case, event: json(&path)?, answer });
        }
    }
    Ok(samples)
}

fn list(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths: Vec<_> = entries.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<_>>()?;
    paths.sort();
    Ok(paths)
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn json(path: &Path) -> anyhow::Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))
}

/// Whether `answer` equals `expected`, where `"<any>"` stands for any value.
fn matches(expected: &Value, answer: &Value) -> bool {
    match (expected, answer) {
        (Value::String(any), _) if any == "<any>" => true,
        (Value::Object(expected), Value::Object(answer)) => {
            expected.len() == answer.len()
                && expected
                    .iter()
                    .all(|(key, value)| answer.get(key).is_some_and(|answer| matches(value, answer)))
        }
        (Value::Array(expected), Value::Array(answer)) => {
            expected.len() == answer.len()
                && expected.iter().zip(answer).all(|(expected, answer)| matches(expected, answer))
        }
        _ => expected == answer,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn any_stands_for_any_value_and_nothing_else_is_forgiven() {
        let expected = json!({"id": "<any>", "list": [1, "<any>"]});
        assert!(matches(&expected, &json!({"id": {"x": 1}, "list": [1, null]})));
        for other in [
            json!({"id": 1, "list": [2, 2]}),
            json!({"id": 1, "list": [1]}),
            json!({"id": 1, "list": [1, 2], "more": 1}),
            json!({"list": [1, 2]}),
        ] {
            assert!(!matches(&expected, &other), "{other}");
        }
    }
}
