//! The flow notices a missing part: each test removes one pipe, rule or URL-encoding from a copy of the
//! templates, and the flow must fail with a message that names it. The list of parts comes from the
//! templates, so that a new rule needs its own hop.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use std::collections::BTreeSet;
use std::path::Path;

use end_to_end_tests::flow::{ENCODINGS, Flow, Part, RULES, STATUS_PIPE};
use end_to_end_tests::{ROOT, binaries, project, runtime, templates, with_templates};
use futures::stream::{self, StreamExt};

/// Local clouds that run at the same time. Most of the time each one waits for a hop that cannot happen.
const AT_ONCE: usize = 5;

/// A part, and how its file looks without it.
type Mutation = (Part, fn(&str, Part) -> String);

/// Runs the flow without each part and fails if it does not notice.
fn each_is_noticed(mutations: Vec<Mutation>) {
    // Built before the flows begin, not by the first of them.
    runtime().unwrap().block_on(binaries()).unwrap();
    let project = project().unwrap();
    let unnoticed: Vec<String> = runtime().unwrap().block_on(
        stream::iter(mutations)
            .map(|mutation| unnoticed(&project, mutation))
            .buffer_unordered(AT_ONCE)
            .filter_map(std::future::ready)
            .collect(),
    );
    assert!(unnoticed.is_empty(), "{}", unnoticed.join("\n"));
}

/// The error if the flow does not name the missing part.
async fn unnoticed(project: &Path, (part, edit): Mutation) -> Option<String> {
    let copy = templates::edited(project, part.file, |text| edit(text, part)).unwrap();
    let ended = with_templates(copy.path(), async |client| {
        unicorn::seed::images(project, client).await?;
        Flow::without(client, part).run().await
    })
    .await;
    match ended {
        Ok(()) => Some(format!("without {part} the flow passes")),
        Err(error) if format!("{error:#}").contains(&format!("is {part} in place?")) => None,
        Err(error) => Some(format!("without {part} the flow says: {error:#}")),
    }
}

/// The resources of a type in all stacks, each as the file and name of a [`Part`].
fn declared(kind: &str) -> BTreeSet<(String, String)> {
    let application = templates::load(&project().unwrap(), ROOT, &[]).unwrap();
    let resources = templates::of_kind(&application, kind);
    resources.into_iter().map(|resource| (resource.file.to_string(), resource.logical_id.clone())).collect()
}

fn as_declared(part: &Part) -> (String, String) {
    (part.file.to_owned(), part.name.to_owned())
}

#[test]
fn without_the_pipe_the_flow_names_it() {
    assert_eq!(declared("AWS::Pipes::Pipe"), BTreeSet::from([as_declared(&STATUS_PIPE)]));
    each_is_noticed(vec![(STATUS_PIPE, without)]);
}

#[test]
fn without_a_rule_the_flow_names_it() {
    assert_eq!(declared("AWS::Events::Rule"), RULES.iter().map(as_declared).collect::<BTreeSet<_>>());
    each_is_noticed(RULES.map(|rule| (rule, without as _)).to_vec());
}

#[test]
fn without_its_url_encoding_the_flow_names_the_operation() {
    let written: usize = ["contracts-service/api.yaml", "web-service/api.yaml"]
        .iter()
        .map(|file| std::fs::read_to_string(project().unwrap().join(file)).unwrap())
        .map(|text| text.matches("Action=SendMessage").count())
        .sum();
    // That of PUT /contracts is tested in bad_input.rs.
    assert_eq!(
        written - 1,
        ENCODINGS.len(),
        "each operation that sends into a queue has its encoding tested"
    );
    each_is_noticed(ENCODINGS.map(|encoding| (encoding, unencoded as _)).to_vec());
}

fn without(text: &str, part: Part) -> String {
    templates::without_resource(text, part.name)
}

/// The API without the encoding of the body, or of the path, of one operation.
fn unencoded(text: &str, part: Part) -> String {
    let (_, operation) = part.name.split_once(" in ").unwrap();
    let (method, path) = operation.split_once(' ').unwrap();
    let path_at = text.find(&format!("\n  {path}:\n")).unwrap();
    let start = path_at + text[path_at..].find(&format!("\n    {}:\n", method.to_lowercase())).unwrap();
    let (before, rest) = text.split_at(start);
    // Up to the next attribute: the command id and the rest stay encoded.
    let (body, after) = rest.split_at(rest.find("&MessageAttribute.1.Name").unwrap());
    let plain = body
        .replace("$util.urlEncode($input.body)", "$input.body")
        .replace("$util.urlEncode($util.escapeJavaScript(", "$util.escapeJavaScript($util.escapeJavaScript(");
    format!("{before}{plain}{after}")
}
