//! Copies of the project's templates with one edit each, which a test must notice. An edit changes the
//! text, so that everything else stays as it is written.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, ensure};
use cloud_core::Settings;
use cloud_core::resource::Resource;
use cloud_languages::template::Application;
use tempfile::TempDir;

/// The template of the contracts service, relative to the project.
pub const CONTRACTS: &str = "contracts-service/template.yaml";
/// The template of the approval service.
pub const PROPERTIES: &str = "properties-service/template.yaml";
/// The template of the web service.
pub const WEB: &str = "web-service/template.yaml";

/// All files that make the application, relative to the project.
pub const FILES: [&str; 10] = [
    "account.yaml",
    "template.yaml",
    "contracts-service/template.yaml",
    "contracts-service/api.yaml",
    "properties-service/template.yaml",
    "properties-service/subscriptions.yaml",
    "properties-service/approval.asl.yaml",
    "web-service/template.yaml",
    "web-service/subscriptions.yaml",
    "web-service/api.yaml",
];

/// A copy of all templates, with one file changed by `edit`.
///
/// # Errors
/// When a file is missing, or the edit changes nothing.
pub fn edited(project: &Path, file: &str, edit: impl Fn(&str) -> String) -> anyhow::Result<TempDir> {
    let copy = tempfile::tempdir()?;
    for name in FILES {
        let text =
            std::fs::read_to_string(project.join(name)).with_context(|| format!("cannot read {name}"))?;
        let target = copy.path().join(name);
        std::fs::create_dir_all(target.parent().context("a file stands in a folder")?)?;
        let written = if name == file { edit(&text) } else { text.clone() };
        ensure!(name != file || written != text, "the edit changes nothing in {file}");
        std::fs::write(target, written)?;
    }
    Ok(copy)
}

/// The template `file` as it is deployed: transformed, and with every function evaluated.
///
/// # Errors
/// When the local cloud refuses it.
pub fn load(project: &Path, file: &str, parameters: &[(&str, &str)]) -> anyhow::Result<Application> {
    let settings = Settings { project: project.to_owned(), ..Settings::for_tests() };
    let own: [(&str, &str); 2] = [("Stage", &settings.stage), ("Owner", "tests")];
    let parameters: BTreeMap<String, String> =
        own.iter().chain(parameters).map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Ok(local_cloud::project::load(
        project,
        file,
        "uni-prop-local",
        &parameters,
        &settings,
        "http://127.0.0.1",
        "http://127.0.0.1",
    )?)
}

/// All resources of a type, in every stack.
pub fn of_kind<'a>(application: &'a Application, kind: &str) -> Vec<&'a Resource> {
    application
        .stacks
        .iter()
        .flat_map(|stack| &stack.resources)
        .filter(|resource| resource.kind == kind)
        .collect()
}

/// `text` without the resource `id`; a reference to it becomes the ARN of a rule that does not exist.
pub fn without_resource(text: &str, id: &str) -> String {
    let rest = without_block(text, &format!("  {id}:"));
    let rest = without_reference(&rest, &format!("!GetAtt {id}.Arn"));
    without_reference(&rest, &format!("!Ref {id}"))
}

/// `text` with the block of the first line that is `name:` changed: up to the next line that is
/// indented no deeper. The whole text where there is no name.
pub fn in_block(text: &str, name: &str, edit: impl Fn(&str) -> String) -> String {
    if name.is_empty() {
        return edit(text);
    }
    let head = format!("{name}:");
    let mut start = None;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        match start {
            None if line.trim_end().trim_start() == head => start = Some((at, indent(line))),
            Some((start, depth)) if !line.trim().is_empty() && indent(line) <= depth => {
                return format!("{}{}{}", &text[..start], edit(&text[start..at]), &text[at..]);
            }
            _ => {}
        }
        at += line.len();
    }
    match start {
        Some((start, _)) => format!("{}{}", &text[..start], edit(&text[start..])),
        None => text.to_owned(),
    }
}

/// `text` without its first line that begins with `start`, and all lines below it that are indented deeper.
pub fn without_line(text: &str, start: &str) -> String {
    let found = text.lines().find(|line| line.trim_start().starts_with(start));
    found.map_or_else(|| text.to_owned(), |line| without_block(text, line))
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// `text` without one whole reference: `!Ref Pipe` is not in `!Ref PipeQueue`.
fn without_reference(text: &str, reference: &str) -> String {
    let mut parts = text.split(reference);
    let mut rest = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let is_longer = part.starts_with(|next: char| next.is_ascii_alphanumeric());
        rest.push_str(if is_longer { reference } else { "arn:aws:events:us-east-1:111111111111:rule/gone" });
        rest.push_str(part);
    }
    rest
}

/// Drops the first line that is `head`, and all lines below it that are indented deeper.
fn without_block(text: &str, head: &str) -> String {
    let depth = indent(head);
    let mut kept = String::new();
    let (mut found, mut inside) = (false, false);
    for line in text.lines() {
        let deeper = line.trim().is_empty() || indent(line) > depth;
        inside = inside && deeper;
        if !found && line == head {
            (found, inside) = (true, true);
        }
        if !inside {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Resources:\n  A:\n    Type: X\n    Refs: [!Ref B, !Ref BQueue]\n\n  B:\n    Type: Y\n  F:\n    Properties:\n      Events:\n        E:\n          Type: Z\n      Tags: 1\n";

    #[test]
    fn only_the_named_block_is_edited_and_only_its_first_line_goes() {
        let text =
            "A:\n  Tags:\n    - x\n\nB:\n  Tags: # why\n    - y\n  Refs: z\n# next\nC:\n  Tags:\n    - w\n";
        let edited = in_block(text, "B", |block| without_line(block, "Tags"));
        assert_eq!(edited, text.replace("  Tags: # why\n    - y\n", ""));
        assert_eq!(in_block(text, "D", |_| String::new()), text);
    }

    #[test]
    fn exactly_the_named_resource_goes() {
        let rest = without_resource(TEXT, "B");
        assert!(rest.contains("!Ref BQueue"), "{rest}");
        assert!(!rest.contains("Type: Y") && !rest.contains("!Ref B,") && rest.contains("/gone"), "{rest}");
        assert!(rest.contains("Type: X") && rest.contains("Type: Z"), "{rest}");
    }
}
