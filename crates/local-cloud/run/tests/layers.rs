//! The layers of the local cloud: which crate may use which, and that no service calls upwards. The files of
//! one service may use each other.

// clippy.toml allows these in tests, but not in helpers of integration tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use local_cloud::services::SERVICES;

/// Each crate's folder, and the crates of the local cloud that it may use.
const LAYERS: [(&str, &[&str]); 4] = [
    ("core", &[]),
    ("languages", &["cloud-core"]),
    ("services", &["cloud-core", "cloud-languages"]),
    ("run", &["cloud-core", "cloud-languages", "cloud-services"]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

#[test]
fn a_crate_uses_only_those_below_it() {
    for (folder, allowed) in LAYERS {
        let manifest = std::fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap();
        let name = |line: &str| line.split(['.', ' ', '=']).next().unwrap().to_owned();
        let uses: BTreeSet<String> = manifest
            .lines()
            .map(name)
            .filter(|name| name.starts_with("cloud-") || name == "local-cloud" || name == "unicorn")
            .collect();
        let allowed: BTreeSet<String> = allowed.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(uses, allowed, "{folder}");
    }
}

/// The top modules of a crate that each of its modules uses, without the tests.
fn imports(folder: &str) -> BTreeMap<String, BTreeSet<String>> {
    let source = root().join(folder).join("src");
    let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut folders = vec![source.clone()];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path()) {
            let relative = path.strip_prefix(&source).unwrap();
            let is_test = relative.to_string_lossy().contains("test") || path.ends_with("referee.rs");
            match path.is_dir() {
                true => folders.push(path),
                false if !is_test && path.extension().is_some_and(|extension| extension == "rs") => {
                    let module = relative.iter().next().unwrap().to_string_lossy();
                    let module = module.trim_end_matches(".rs").to_owned();
                    let found = named(&std::fs::read_to_string(&path).unwrap());
                    imports.entry(module).or_default().extend(found);
                }
                false => {}
            }
        }
    }
    for (module, found) in &mut imports {
        found.remove(module);
    }
    let modules: BTreeSet<String> = imports.keys().cloned().collect();
    imports.values_mut().for_each(|found| found.retain(|name| modules.contains(name)));
    imports
}

/// The names after `crate::` and in `crate::{...}`, without comments and tests.
fn named(source: &str) -> BTreeSet<String> {
    let source = source.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let code: String = source
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| [line, "\n"])
        .collect();
    let mut names = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            None => names.extend(identifier(rest)),
            Some(list) => {
                let mut depth = 0;
                for (at, letter) in list.char_indices() {
                    match letter {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        _ if depth == 0 && (at == 0 || list[..at].trim_end().ends_with(',')) => {
                            names.extend(identifier(list[at..].trim_start()));
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    names
}

fn identifier(text: &str) -> Option<String> {
    let end = text.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')?;
    (end > 0).then(|| text[..end].to_owned())
}

/// The services in the order of `services.rs`.
fn order() -> Vec<String> {
    let list = std::fs::read_to_string(root().join("run/src/services.rs")).unwrap();
    let mut order: Vec<String> = list
        .lines()
        .filter_map(|line| {
            line.trim().strip_prefix('&')?.split_once("::").map(|(module, _)| module.to_owned())
        })
        .collect();
    order.dedup();
    order
}

#[test]
fn a_service_calls_only_those_that_stand_before_it_in_the_list() {
    let order = order();
    let place = |module: &str| order.iter().position(|name| name == module);
    let imports = imports("services");
    let folders: BTreeSet<&String> =
        imports.keys().filter(|module| !["lib", "testing"].contains(&module.as_str())).collect();
    assert_eq!(folders, order.iter().collect(), "the list names every folder");
    let mut seen = 0;
    for (module, used) in imports.iter().filter(|(module, _)| module.as_str() != "lib") {
        for other in used {
            assert!(place(other) < place(module), "{module} calls {other}, which stands behind it");
            seen += 1;
        }
    }
    assert!(seen > 10, "the imports are written in another way now: {seen}");
}

#[test]
fn no_circle_of_imports_leaves_a_folder() {
    for folder in ["languages", "run"] {
        let imports = imports(folder);
        let mut done: BTreeSet<&str> = BTreeSet::new();
        while done.len() < imports.len() {
            let free = |(module, used): &(&String, &BTreeSet<String>)| {
                !done.contains(module.as_str()) && used.iter().all(|name| done.contains(name.as_str()))
            };
            let next: Vec<&str> = imports.iter().filter(free).map(|(module, _)| module.as_str()).collect();
            let left = || imports.keys().filter(|module| !done.contains(module.as_str())).collect::<Vec<_>>();
            assert!(!next.is_empty(), "a circle in {folder} among {:?}", left());
            done.extend(next);
        }
    }
}

#[test]
fn core_and_languages_name_no_service() {
    for folder in ["core", "languages"] {
        let text = std::fs::read_to_string(root().join(folder).join("src/lib.rs")).unwrap();
        for service in order() {
            assert!(!text.contains(&format!("mod {service};")), "{folder} has a module {service}");
        }
    }
    // The states language names services, since tasks do; core has no reason to.
    for path in std::fs::read_dir(root().join("core/src")).unwrap().flatten().map(|entry| entry.path()) {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let code = text.split("#[cfg(test)]").next().unwrap();
        for service in SERVICES {
            assert!(
                !code.contains(&format!("\"{}\"", service.name)),
                "{} names {}",
                path.display(),
                service.name
            );
        }
    }
}

#[test]
fn imports_are_read_from_lists_and_paths() {
    let source = "// crate::a\nuse crate::{b::{c, d}, e};\nuse crate::f::g;\nfn h() { crate::i::j() }\n#[cfg(test)]\nmod tests {\nuse crate::k;";
    assert_eq!(named(source).into_iter().collect::<Vec<_>>(), ["b", "e", "f", "i"]);
}
