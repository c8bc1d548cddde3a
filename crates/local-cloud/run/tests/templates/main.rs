//! Whole templates, from YAML to the resources that the services get.

// clippy.toml allows these in tests, but not in helpers of integration tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

mod functions;
mod serverless;
mod stacks;

use cloud_core::Settings;
use cloud_core::resource::Resource;
use cloud_languages::template::Application;
use local_cloud::project::load;

/// Loads the files (name, content), the first one as root of the stack `app`.
fn load_files(files: &[(&str, &str)], parameters: &[(&str, &str)]) -> Result<Application, String> {
    let project = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = project.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let parameters: BTreeMap<String, String> =
        parameters.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let settings = Settings::for_tests();
    load(
        project.path(),
        files[0].0,
        "app",
        &parameters,
        &settings,
        "http://127.0.0.1:3000",
        "http://127.0.0.1:4566",
    )
    .map_err(|refusal| refusal.to_string())
}

fn load_one(template: &str) -> Result<Application, String> {
    load_files(&[("template.yaml", template)], &[])
}

fn refused(template: &str) -> String {
    load_one(template).expect_err("must be refused")
}

fn find<'a>(application: &'a Application, logical_id: &str) -> &'a Resource {
    let mut resources = application.stacks.iter().flat_map(|stack| &stack.resources);
    resources.find(|resource| resource.logical_id == logical_id).unwrap_or_else(|| panic!("no {logical_id}"))
}

/// An output of the root stack.
fn output(application: &Application, key: &str) -> Option<String> {
    application.outputs("app").remove(key)
}

fn ids(application: &Application) -> Vec<&str> {
    let mut ids: Vec<&str> =
        application.stacks[0].resources.iter().map(|resource| resource.logical_id.as_str()).collect();
    ids.sort_unstable();
    ids
}
