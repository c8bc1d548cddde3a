//! Finds the name that `sam deploy` gives to the stack of a template: `stack_name` in the `samconfig.toml`
//! beside the template, from the environment that deploys this template for this stage. Where several do, an
//! environment that names the stage comes first, then `default`.
//! <https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/serverless-sam-cli-config.html>

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::Context;
use toml::Value;

/// The name of the stack; `uni-prop-{stage}` where no environment gives one.
pub(crate) fn stack_name(project: &Path, template: &str, stage: &str) -> anyhow::Result<String> {
    let template = project.join(template);
    let file = template.with_file_name("samconfig.toml");
    let unnamed = || format!("uni-prop-{stage}");
    let unreadable = || format!("cannot read {}", file.display());
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(unnamed()),
        Err(error) => return Err(error).with_context(unreadable),
    };
    let environments: BTreeMap<String, Value> = toml::from_str(&text).with_context(unreadable)?;
    let template = template.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let named = environments.iter().filter_map(|(environment, values)| {
        let (names_stage, name) = name_in(values, template, stage)?;
        Some(((!names_stage, environment != "default"), name))
    });
    // Among equals, the first by name.
    let best = named.min_by_key(|(rank, _)| *rank);
    Ok(best.map_or_else(unnamed, |(_, name)| name))
}

/// Whether an environment names the stage, and its stack name, if it deploys this template for this stage.
fn name_in(environment: &Value, template: &str, stage: &str) -> Option<(bool, String)> {
    // A parameter of `deploy` wins over one of all commands.
    let parameter = |name: &str| {
        let of = |command: &&str| environment.get(command)?.get("parameters")?.get(name);
        ["deploy", "global"].iter().find_map(of)
    };
    let file = parameter("template").or_else(|| parameter("template_file")).and_then(Value::as_str);
    let overrides = match parameter("parameter_overrides") {
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
        Some(Value::String(all)) => all.split_whitespace().collect(),
        _ => Vec::new(),
    };
    let mut stages = overrides.iter().filter_map(|pair| pair.strip_prefix("Stage="));
    let named = stages.next_back().map(|other| other.trim_matches('"') == stage);
    let deploys = file.unwrap_or("template.yaml") == template && named != Some(false);
    let name = parameter("stack_name").and_then(Value::as_str).filter(|_| deploys)?;
    Some((named.is_some(), name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_is_called_as_sam_deploys_it() {
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
        let name = |template: &str, stage: &str| stack_name(&project, template, stage).unwrap();
        for (template, stage, expected) in [
            ("template.yaml", "local", "uni-prop-local"),
            ("template.yaml", "dev", "uni-prop-dev"),
            ("template.yaml", "prod", "uni-prop-prod"),
            ("account.yaml", "dev", "uni-prop-account"),
            ("contracts-service/template.yaml", "local", "uni-prop-local-contracts"),
            ("contracts-service/template.yaml", "prod", "uni-prop-prod-contracts"),
            ("web-service/template.yaml", "local", "uni-prop-local-web"),
            ("web-service/template.yaml", "dev", "uni-prop-dev-web"),
            ("web-service/subscriptions.yaml", "prod", "uni-prop-prod-web-subscriptions"),
            ("properties-service/template.yaml", "local", "uni-prop-local-properties"),
            ("properties-service/subscriptions.yaml", "dev", "uni-prop-dev-properties-subscriptions"),
        ] {
            assert_eq!(name(template, stage), expected, "{template} {stage}");
        }
    }

    #[test]
    fn of_several_environments_one_that_names_the_stage_wins_then_the_default_one() {
        let project = tempfile::tempdir().unwrap();
        let environment = |name: &str, stage: Option<&str>| {
            let stage = stage.map(|stage| format!("parameter_overrides = [\"Stage={stage}\"]\n"));
            let stage = stage.unwrap_or_default();
            format!("[{name}.global.parameters]\nstack_name = \"of-{name}\"\n{stage}")
        };
        let a = environment("a", None);
        let default = environment("default", None);
        let here = environment("here", Some("local"));
        let other = environment("a0", Some("dev"));
        for (environments, expected) in [
            ([&a, &default, &here, &other].as_slice(), "of-here"),
            (&[&a, &default, &other], "of-default"),
            (&[&environment("z", None), &a, &other], "of-a"),
            (&[&here, &environment("default", Some("local"))], "of-default"),
            (&[&other], "uni-prop-local"),
        ] {
            let text: String = environments.iter().map(|text| text.as_str()).collect();
            std::fs::write(project.path().join("samconfig.toml"), format!("version = 0.1\n{text}")).unwrap();
            assert_eq!(stack_name(project.path(), "template.yaml", "local").unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn a_stack_that_no_file_names_is_called_after_its_stage() {
        let project = tempfile::tempdir().unwrap();
        let name =
            || stack_name(project.path(), "template.yaml", "local").map_err(|error| format!("{error:#}"));
        assert_eq!(name().unwrap(), "uni-prop-local");
        let file = project.path().join("samconfig.toml");
        let write = |text: &str| std::fs::write(&file, text).unwrap();
        write(
            "version = 0.1\n[default.deploy.parameters]\nstack_name = \"s\"\nparameter_overrides = \"A=b Stage=dev\"",
        );
        assert_eq!(name().unwrap(), "uni-prop-local");
        write(
            "version = 0.1\n[default.deploy.parameters]\nstack_name = \"s\"\nparameter_overrides = \"A=b Stage=local\"",
        );
        assert_eq!(name().unwrap(), "s");
        write("version = ");
        assert!(name().unwrap_err().starts_with("cannot read "), "{:?}", name());
    }
}
