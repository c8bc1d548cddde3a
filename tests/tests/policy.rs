//! The templates keep every rule of `src/policy`. So do the templates that
//! AWS's own translator makes of them. Each rule has edits of the real templates that only this rule, and a
//! second one if the edit names one, must notice.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use cloud_languages::template::Application;
use end_to_end_tests::permissions::{Permission, allowed};
use end_to_end_tests::policy::{self, Fault, Finding, Mutation, Rule};
use end_to_end_tests::{ROOT, project, templates};
use serde_json::Value;
use serde_norway::Value as Yaml;

/// The templates that can be deployed alone.
const TEMPLATES: [&str; 7] = [
    "account.yaml",
    ROOT,
    "contracts-service/template.yaml",
    "properties-service/template.yaml",
    "properties-service/subscriptions.yaml",
    "web-service/template.yaml",
    "web-service/subscriptions.yaml",
];

/// A template, deployed alone with all that it nests.
fn load(project: &Path, file: &str, stage: &str) -> anyhow::Result<Application> {
    // Each architecture has a stage, so that a constant is found.
    let architecture = if stage == "dev" { "x86_64" } else { "arm64" };
    let given = [
        ("Stage", stage),
        ("Architecture", architecture),
        ("ImagesBucketName", "images"),
        ("AlarmTopicArn", "arn:aws:sns:us-east-1:123456789012:alarms"),
        ("GitHubRepository", "owner/name"),
        ("PermissionsBoundary", "arn:aws:iam::123456789012:policy/boundary"),
    ];
    let known: Vec<_> = given.into_iter().filter(|(name, _)| parameters(file).contains(*name)).collect();
    templates::load(project, file, &known)
}

/// The names of a template's parameters: no edit changes them.
fn parameters(file: &str) -> &'static BTreeSet<String> {
    static NAMES: LazyLock<BTreeMap<&str, BTreeSet<String>>> = LazyLock::new(|| {
        let read = |file: &'static str| {
            let text = std::fs::read_to_string(project().unwrap().join(file)).unwrap();
            let template: Yaml = serde_norway::from_str(&text).unwrap();
            let names = template["Parameters"].as_mapping().unwrap().keys();
            (file, names.map(|name| name.as_str().unwrap().to_owned()).collect())
        };
        TEMPLATES.map(read).into()
    });
    &NAMES[file]
}

/// The places where a template breaks a rule.
fn findings(project: &Path, file: &str, stage: &str) -> anyhow::Result<BTreeSet<Finding>> {
    Ok(policy::findings(&load(project, file, stage)?, project)?.into_iter().collect())
}

/// The rules that are broken.
fn rules(findings: &BTreeSet<Finding>) -> BTreeSet<&'static str> {
    findings.iter().map(|finding| finding.rule).collect()
}

fn listed(findings: &BTreeSet<Finding>) -> String {
    findings.iter().map(|finding| format!("{finding}\n")).collect()
}

#[test]
fn the_templates_keep_every_rule_on_every_stage() {
    let mut all = BTreeSet::new();
    for file in TEMPLATES {
        // An account exists only on AWS.
        for stage in
            ["local", "dev", "prod"].into_iter().filter(|stage| file != "account.yaml" || *stage != "local")
        {
            all.extend(findings(&project().unwrap(), file, stage).unwrap());
        }
    }
    assert!(all.is_empty(), "\n{}", listed(&all));
}

/// The permissions in a policy's statements, as they are written.
fn statements(document: &Value) -> BTreeSet<Permission> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
    let texts = move |value: &Value| list(value).iter().map(|it| it.as_str().unwrap().to_owned()).collect();
    let mut all = BTreeSet::new();
    for statement in document["Statement"].as_array().unwrap() {
        let (actions, resources): (Vec<String>, Vec<String>) =
            (texts(&statement["Action"]), texts(&statement["Resource"]));
        let each =
            actions.iter().flat_map(|action| resources.iter().map(move |on| Permission::new(action, on)));
        all.extend(each);
    }
    all
}

#[test]
fn the_boundary_covers_what_every_role_is_allowed_and_has_no_action_more() {
    let project = project().unwrap();
    for stage in ["dev", "prod"] {
        let account = load(&project, "account.yaml", stage).unwrap();
        let boundary = templates::of_kind(&account, "AWS::IAM::ManagedPolicy")[0];
        let boundary = statements(&boundary.properties["PolicyDocument"]);
        let application = load(&project, ROOT, stage).unwrap();
        let mut used = BTreeSet::new();
        for role in templates::of_kind(&application, "AWS::IAM::Role") {
            for mut permission in allowed(&application, role).unwrap() {
                used.insert(permission.action.clone());
                // AWS's own policy allows all log groups; a function writes only into its own.
                if permission.resource == "*" && LOGS.contains(&permission.action.as_str()) {
                    let functions = templates::of_kind(&application, "AWS::Lambda::Function");
                    let function = functions.iter().find(|it| it.properties["Role"] == role.arn.as_str());
                    let group = function.unwrap().properties["LoggingConfig"]["LogGroup"].as_str().unwrap();
                    permission.resource = format!("arn:aws:logs:us-east-1:123456789012:log-group:{group}:*");
                }
                let within = boundary.iter().any(|most| most.covers(&permission));
                assert!(within, "{}: {permission} is beyond the boundary", role.logical_id);
            }
        }
        let most: BTreeSet<String> = boundary.into_iter().map(|permission| permission.action).collect();
        assert_eq!(most, used, "the boundary has actions that no role has");
    }
}

/// The actions of a function on its log group.
const LOGS: [&str; 3] = ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"];

/// Types that have an id or a path instead of a name: the role has single actions, or actions on all of them.
const NOT_NAMED: [&str; 3] = ["AWS::IAM::Role", "AWS::Lambda::EventSourceMapping", "AWS::Logs::Delivery"];

#[test]
fn the_role_of_cloudformation_reaches_everything_that_bears_a_name() {
    let project = project().unwrap();
    for stage in ["dev", "prod"] {
        let account = load(&project, "account.yaml", stage).unwrap();
        let roles = templates::of_kind(&account, "AWS::IAM::Role");
        let role = roles.into_iter().find(|role| role.logical_id == "CloudFormationRole").unwrap();
        let allowed = allowed(&account, role).unwrap();
        let application = load(&project, ROOT, stage).unwrap();
        let resources = application.stacks.iter().flat_map(|stack| &stack.resources);
        let named = resources.filter(|it| !it.arn.is_empty() && !NOT_NAMED.contains(&it.kind.as_str()));
        let mut seen = 0;
        for resource in named {
            let service = resource.arn.split(':').nth(2).unwrap();
            // AWS names a resource without a name after the stack, which is named after the stage.
            let arn = resource.arn.replace("uni-prop-local", &format!("uni-prop-{stage}"));
            let needed = Permission::new(format!("{service}:Anything"), arn);
            let reached = allowed.iter().any(|permission| permission.covers(&needed));
            assert!(reached, "{}: the role does not reach {}", resource.logical_id, resource.arn);
            seen += 1;
        }
        assert!(seen > 100, "only {seen} resources have a name");
    }
}

fn read(file: &str) -> String {
    std::fs::read_to_string(project().unwrap().join(file)).unwrap()
}

/// The words of the one loop over `variable` in a file, as a shell expands them on dev.
fn words_of_loop(file: &str, variable: &str) -> Vec<String> {
    let text = read(file);
    let (_, list) = text.split_once(&format!("for {variable} in ")).unwrap();
    let (list, _) = list.split_once("; do").unwrap();
    let script = format!("printf '%s\\n' {list}");
    let output = Command::new("bash").args(["-c", &script]).env("STAGE", "dev").output().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// The commands of docs/operating.md, block by block.
fn blocks_of_the_guide() -> Vec<String> {
    let guide = read("docs/operating.md");
    let fenced = guide.split("```sh\n").skip(1);
    fenced.map(|rest| rest.split_once("```").unwrap().0.to_owned()).collect()
}

#[test]
fn the_guide_deletes_every_table_and_every_log_group() {
    let application = load(&project().unwrap(), ROOT, "dev").unwrap();
    let names = |kind: &str| -> BTreeSet<String> {
        templates::of_kind(&application, kind).iter().map(|resource| resource.physical_id.clone()).collect()
    };
    let listed = words_of_loop("scripts/delete-tables", "table");
    let tables = listed.iter().map(|table| format!("uni-prop-dev-{table}")).collect::<BTreeSet<_>>();
    assert_eq!(tables, names("AWS::DynamoDB::Table"));
    let prefixes = words_of_loop("docs/operating.md", "PREFIX");
    let starts = |group: &String, prefix: &String| group.starts_with(&format!("/aws/{prefix}"));
    let groups = names("AWS::Logs::LogGroup");
    for group in &groups {
        assert!(prefixes.iter().any(|prefix| starts(group, prefix)), "{group} is left over");
    }
    for prefix in &prefixes {
        assert!(groups.iter().any(|group| starts(group, prefix)), "no log group begins with {prefix}");
        assert!(prefix.contains("dev"), "{prefix} takes the log groups of others too");
    }
}

/// The names in a block that a shell looks up: `$NAME` and `${NAME...}`.
fn variables(block: &str) -> impl Iterator<Item = &str> {
    let is_of_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let names = block.split('$').skip(1).map(move |rest| {
        let rest = rest.trim_start_matches('{');
        &rest[..rest.find(|c| !is_of_name(c)).unwrap_or(rest.len())]
    });
    names.filter(|name| name.starts_with(|c: char| c.is_ascii_uppercase()))
}

#[test]
fn every_block_of_the_guide_needs_none_but_the_first() {
    let blocks = blocks_of_the_guide();
    let functions = |block: &str| -> BTreeSet<String> {
        let names = block.lines().filter_map(|line| line.split_once("() {"));
        names.map(|(name, _)| name.to_owned()).collect()
    };
    let all: BTreeSet<String> = blocks.iter().flat_map(|block| functions(block)).collect();
    assert!(all.contains("output"), "the guide has functions: {all:?}");
    for block in &blocks[1..] {
        let before = format!("{}{block}", blocks[0]);
        let own = functions(&before);
        let commands = block.lines().map(|line| line.split(" # ").next().unwrap_or(line));
        let mut words = commands.flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_'));
        let foreign = words.find(|word| all.contains(*word) && !own.contains(*word));
        assert_eq!(foreign, None, "is a function of another block:\n{block}");
        for name in variables(block).filter(|name| *name != "PWD") {
            let given = [format!("{name}="), format!("{name}+="), format!("for {name} in ")];
            let is_read = before.lines().any(|line| line.contains("read -r ") && line.contains(name));
            let is_given = is_read || given.iter().any(|given| before.contains(given));
            assert!(is_given, "{name} is a variable of another block:\n{block}");
        }
    }
}

/// Runs commands in the project with `tests/fakes` first in PATH; how the fakes were called.
fn run_with_fakes(commands: &str, given: &[(&str, &str)]) -> (Output, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let calls = folder.path().join("calls");
    std::fs::write(&calls, "").unwrap();
    let project = project().unwrap();
    let path = format!("{}:{}", project.join("tests/fakes").display(), std::env::var("PATH").unwrap());
    let mut bash = Command::new("bash");
    bash.args(["-c", commands]).current_dir(project).env("PATH", path).env("CALLS", &calls);
    let output = bash.envs(given.iter().copied()).output().unwrap();
    let calls = std::fs::read_to_string(calls).unwrap();
    (output, calls.lines().map(str::to_owned).collect())
}

#[test]
fn after_a_failed_first_deployment_only_its_own_empty_tables_are_deleted() {
    let blocks = blocks_of_the_guide();
    let block = blocks.iter().find(|block| block.contains("ROLLBACK_FAILED)")).unwrap();
    let run = |status, full| {
        let (output, calls) =
            run_with_fakes(block, &[("STAGE", "prod"), ("STACK_STATUS", status), ("FULL", full)]);
        let named = |action: &str| -> Vec<String> {
            let start = format!("aws dynamodb {action} --table-name uni-prop-prod-");
            let names = calls.iter().filter_map(|call| call.strip_prefix(&start));
            names.map(|rest| rest.split_whitespace().next().unwrap().to_owned()).collect()
        };
        let deleted = named("delete-table");
        assert_eq!(deleted, named("update-table"), "what is not deleted stays protected");
        let stack_goes =
            calls.iter().any(|call| call == "sam delete --stack-name uni-prop-prod --no-prompts");
        assert!(calls.last().unwrap().contains("get-resources"), "what is left is listed at last");
        (deleted, stack_goes, String::from_utf8(output.stderr).unwrap())
    };
    let (deleted, stack_goes, said) = run("ROLLBACK_FAILED", "uni-prop-prod-listings");
    assert_eq!(deleted, ["web-commands"]);
    assert!(!stack_goes && said.contains("uni-prop-prod-listings is kept: it is not empty"), "{said}");
    let (deleted, stack_goes, said) = run("ROLLBACK_FAILED", "none");
    assert_eq!(deleted, ["listings", "web-commands"], "{said}");
    assert!(stack_goes, "{said}");
    let (deleted, stack_goes, _) = run("ROLLBACK_COMPLETE", "none");
    assert!(deleted.is_empty() && stack_goes);
    let (deleted, stack_goes, _) = run("UPDATE_COMPLETE", "none");
    assert!(deleted.is_empty() && !stack_goes);
}

#[test]
fn tables_of_a_stack_that_stands_are_not_deleted() {
    let given = [("STACK_STATUS", "CREATE_COMPLETE"), ("FULL", "none")];
    let (output, calls) = run_with_fakes("scripts/delete-tables failed uni-prop-prod", &given);
    assert!(!output.status.success());
    assert_eq!(calls.len(), 1, "it asks for the status, and does nothing more: {calls:?}");
}

/// Parameters for which every account uses the default.
const NOT_FROM_PIPELINE: [&str; 3] = ["Architecture", "ContractWaitSeconds", "LogRetentionDays"];

#[test]
fn the_pipeline_gives_every_parameter_that_an_account_decides_and_no_empty_boundary() {
    let workflow: Yaml = serde_norway::from_str(&read(".github/workflows/stage.yml")).unwrap();
    let steps = workflow["jobs"]["deploy"]["steps"].as_sequence().unwrap();
    let mut commands = steps.iter().filter_map(|step| step["run"].as_str());
    let deploy = commands.find(|run| run.starts_with("sam deploy")).unwrap();
    let run = |boundary| {
        let mut given = vec![("CONFIG", "prod"), ("STAGE", "prod"), ("CLOUDFORMATION_ROLE", "arn:role")];
        given.extend([("COMMAND_CONCURRENCY", "10"), ("OWNER", "A Team"), ("ALARM_EMAIL", "")]);
        given.push(("PERMISSIONS_BOUNDARY", boundary));
        run_with_fakes(deploy, &given)
    };
    let (output, calls) = run("");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && calls.is_empty(), "deploys without a boundary: {calls:?}");
    assert!(said.contains("AWS_PERMISSIONS_BOUNDARY"), "{said}");
    let (_, calls) = run("arn:boundary");
    let mut expected = parameters(ROOT).clone();
    expected.retain(|name| !NOT_FROM_PIPELINE.contains(&name.as_str()));
    let (_, overrides) = calls[0].split_once("--parameter-overrides ").unwrap();
    let missing: Vec<_> = expected.iter().filter(|name| !overrides.contains(&format!("{name}="))).collect();
    assert!(missing.is_empty(), "the pipeline does not give {missing:?}");
    assert!(overrides.contains("CommandConcurrency=10"), "{overrides}");
}

#[test]
fn every_rule_has_a_name_of_its_own_and_an_edit_that_it_notices() {
    let names: BTreeSet<&str> = policy::rules().map(|rule| rule.name).collect();
    assert_eq!(names.len(), policy::rules().count(), "two rules have one name");
    let unproved: Vec<&str> =
        policy::rules().filter(|rule| rule.notices.is_empty()).map(|rule| rule.name).collect();
    assert!(unproved.is_empty(), "no edit shows that these rules notice anything: {unproved:?}");
}

/// The template that reads `file`, or `file` itself.
fn template_of(file: &'static str) -> &'static str {
    match file {
        "contracts-service/api.yaml" => "contracts-service/template.yaml",
        "properties-service/approval.asl.yaml" => "properties-service/template.yaml",
        "web-service/api.yaml" => "web-service/template.yaml",
        template => template,
    }
}

/// Edits templates and compares the findings before and after.
#[derive(Default)]
struct Editor {
    before: BTreeMap<(&'static str, &'static str), BTreeSet<Finding>>,
}

impl Editor {
    fn added(
        &mut self,
        file: &'static str,
        stage: &'static str,
        edit: impl Fn(&str) -> String,
    ) -> anyhow::Result<BTreeSet<Finding>> {
        let (project, template) = (project()?, template_of(file));
        let copy = templates::edited(&project, file, edit)?;
        let before = match self.before.entry((template, stage)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(findings(&project, template, stage)?),
        };
        Ok(findings(copy.path(), template, stage)?.difference(before).cloned().collect())
    }

    /// Why the edit does not lead to exactly one finding of this rule, and one of its second rule if it has
    /// one, about the right resource.
    fn unnoticed(&mut self, rule: &str, mutation: &Mutation) -> Option<String> {
        let at = format!("{rule}: {} {} {:?}", mutation.file, mutation.resource, mutation.edit);
        let named = mutation.names.unwrap_or(mutation.resource);
        let is_about_it = |finding: &Finding| {
            let Fault { file, resource, .. } = &finding.fault;
            resource == named && file == template_of(mutation.file)
        };
        let expected: BTreeSet<&str> = [rule].into_iter().chain(mutation.also).collect();
        match self.added(mutation.file, mutation.stage, |text| mutation.apply(text)) {
            Err(error) => Some(format!("{at}: {error:#}")),
            Ok(all)
                if all.len() == expected.len() && all.iter().all(is_about_it) && rules(&all) == expected =>
            {
                None
            }
            Ok(all) => Some(format!("{at}: expected one finding about {named}, not:\n{}", listed(&all))),
        }
    }
}

#[test]
fn a_rule_objects_to_every_edit_that_breaks_it_and_no_other_rule_does() {
    let mut editor = Editor::default();
    let of_rule = |rule: &'static Rule| rule.notices.iter().map(|mutation| (rule.name, mutation));
    let mutations = policy::rules().flat_map(of_rule);
    let unnoticed: Vec<String> =
        mutations.filter_map(|(rule, mutation)| editor.unnoticed(rule, mutation)).collect();
    assert!(unnoticed.is_empty(), "\n{}", unnoticed.join("\n"));
}

#[test]
fn the_write_commands_and_the_preflights_of_both_apis_are_compared() {
    let project = project().unwrap();
    for (edited, rule) in [("'86400'", "api-preflights"), ("timeoutInMillis: 10000", "api-copies")] {
        let copy = templates::edited(&project, "web-service/api.yaml", |text| {
            text.replace(edited, &edited.replace('0', "1"))
        });
        let found = findings(copy.unwrap().path(), ROOT, "dev").unwrap();
        assert_eq!(rules(&found), BTreeSet::from([rule]), "{edited}:\n{}", listed(&found));
        let named = |finding: &Finding| finding.fault.resource == "WebApi";
        assert!(found.iter().all(named), "{}", listed(&found));
    }
}

/// Edits of every template: the lines that begin with a text are removed with the lines below them, or
/// replaced. One of the rules must notice each edit.
const EVERYWHERE: [(&str, Option<&str>, &[&str]); 9] = [
    ("Tags:", None, &["tags"]),
    ("RetentionInDays:", None, &["log-retention"]),
    ("DeadLetterConfig:", None, &["dead-letters"]),
    ("DestinationConfig:", None, &["dead-letters"]),
    ("RedrivePolicy:", None, &["dead-letters"]),
    ("Timeout:", None, &["function-timeout"]),
    ("TimeoutSeconds:", None, &["task-timeout", "wait-timeout", "workflow-timeout"]),
    ("timeoutInMillis:", None, &["api-timeout"]),
    ("Resource: ", Some("Resource: \"*\""), &["wildcard-resource"]),
];

/// What SAM appends to the name of a resource for the resources that it creates from it.
const GENERATED: [&str; 4] = ["", "Role", "Stage", "EventInvokeConfig"];

/// The file after the edits, and the resources (or states, or paths) that had such lines.
fn edited_everywhere(text: &str, start: &str, replacement: Option<&str>) -> (String, BTreeSet<String>) {
    let (mut edited, mut places, mut place, mut dropped) =
        (String::new(), BTreeSet::new(), String::new(), None);
    for line in text.lines() {
        let depth = line.len() - line.trim_start().len();
        if dropped.is_some_and(|from| depth > from || line.trim().is_empty()) {
            continue;
        }
        dropped = None;
        if let Some(name) = line.trim_end().strip_suffix(':').filter(|_| depth == 2) {
            name.trim().clone_into(&mut place);
        }
        match replacement {
            _ if !line.trim_start().starts_with(start) => edited.push_str(line),
            Some(replacement) if line.trim() != replacement => {
                places.insert(place.clone());
                edited.extend([&line[..depth], replacement]);
            }
            Some(_) => edited.push_str(line),
            None => {
                places.insert(place.clone());
                dropped = Some(depth);
                continue;
            }
        }
        edited.push('\n');
    }
    (edited, places)
}

#[test]
fn what_is_dropped_from_any_template_is_noticed_with_resource_and_rule() {
    let mut editor = Editor::default();
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for file in templates::FILES {
        for (start, replacement, rules) in EVERYWHERE {
            let text = std::fs::read_to_string(project().unwrap().join(file)).unwrap();
            let (edited, places) = edited_everywhere(&text, start, replacement);
            // The `Resource` of a state is the service that it calls.
            if places.is_empty() || replacement.is_some() && file != template_of(file) {
                continue;
            }
            *seen.entry(start).or_default() += places.len();
            let added = editor.added(file, "dev", |_| edited.clone()).unwrap();
            let of_rules: Vec<&Finding> =
                added.iter().filter(|finding| rules.contains(&finding.rule)).collect();
            if file != template_of(file) {
                // A machine has a finding for each of its states, an API for each of its operations.
                let lines = text.lines().filter(|line| line.trim_start().starts_with(start)).count();
                assert_eq!(of_rules.len(), lines, "{file} without {start}:\n{}", listed(&added));
                continue;
            }
            for place in places {
                // SAM names generated resources after their resource; Globals apply to every function.
                let names = |finding: &&&Finding| {
                    let suffix = finding.fault.resource.strip_prefix(&place);
                    place == "Function" || suffix.is_some_and(|suffix| GENERATED.contains(&suffix))
                };
                assert!(
                    of_rules.iter().any(|finding| names(&finding)),
                    "{file}: {place} without {start}:\n{}",
                    listed(&added)
                );
            }
        }
    }
    let starts: BTreeSet<&str> = EVERYWHERE.iter().map(|(start, ..)| *start).collect();
    assert_eq!(seen.into_keys().collect::<BTreeSet<_>>(), starts, "each of them is in a template");
}

/// The folder with the templates that AWS's own translator made, if SAM_TRANSLATED names one.
fn translated() -> Option<PathBuf> {
    let folder = std::env::var_os("SAM_TRANSLATED").map(PathBuf::from);
    assert!(
        folder.is_some() || std::env::var_os("CI").is_none(),
        "SAM_TRANSLATED is not set: see scripts/check"
    );
    if folder.is_none() {
        eprintln!("not run: SAM_TRANSLATED names no folder; scripts/check makes one with scripts/translate");
    }
    folder
}

#[test]
fn what_sams_own_translator_makes_of_the_templates_keeps_every_rule() {
    let Some(folder) = translated() else { return };
    let mut all = BTreeSet::new();
    for file in TEMPLATES {
        for stage in ["dev", "prod"] {
            all.extend(findings(&folder, file, stage).unwrap());
        }
    }
    assert!(all.is_empty(), "\n{}", listed(&all));
}

/// Properties that may differ between the two expansions, and why.
const DIFFERENT: [(&str, &str, &str); 4] = [
    (
        "AWS::ApiGateway::Deployment",
        "Description",
        "a digest of the API, to tell one deployment from another",
    ),
    ("AWS::ApiGateway::RestApi", "Parameters", "SAM repeats the endpoint's type for the import"),
    (
        "AWS::ApiGateway::Stage",
        "DeploymentId",
        "the id of a deployment ends with a digest of the API, each its own",
    ),
    ("AWS::Lambda::Function", "Code", "where `sam package` has put the binary; here, Metadata names it"),
];

type Expanded = BTreeMap<(String, String), (String, BTreeMap<String, Value>)>;

/// The resources of the application by template and logical id: type and properties.
fn expanded(project: &Path) -> Expanded {
    let application = load(project, ROOT, "dev").unwrap();
    let resources = application.stacks.into_iter().flat_map(|stack| stack.resources);
    let known =
        |kind: &str, key: &str| DIFFERENT.iter().any(|(of, property, _)| (*of, *property) == (kind, key));
    resources
        .map(|resource| {
            let Value::Object(properties) = resource.properties else { panic!("properties are a mapping") };
            let mut properties: BTreeMap<String, Value> =
                properties.into_iter().filter(|(key, _)| !known(&resource.kind, key)).collect();
            // Tags and policies are sets.
            for list in ["Tags", "ManagedPolicyArns"] {
                if let Some(items) = properties.get_mut(list).and_then(Value::as_array_mut) {
                    items.sort_by_key(ToString::to_string);
                }
            }
            let id = match resource.kind.as_str() {
                "AWS::ApiGateway::Deployment" => {
                    resource.logical_id[..resource.logical_id.len() - 10].to_owned()
                }
                _ => resource.logical_id,
            };
            ((resource.file.to_string(), id), (resource.kind, properties))
        })
        .collect()
}

#[test]
fn the_local_cloud_expands_the_templates_as_sams_own_translator_does() {
    let Some(folder) = translated() else { return };
    let (ours, theirs) = (expanded(&project().unwrap()), expanded(&folder));
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    let mut differences = String::new();
    for ((file, id), theirs) in &theirs {
        let ours = &ours[&(file.clone(), id.clone())];
        if ours != theirs {
            differences += &format!("\n{file}: {id}\n  ours: {ours:?}\n  SAM's: {theirs:?}");
        }
    }
    assert!(differences.is_empty(), "{differences}");
}
