//! The benchmarks on a small load and the test build: every figure is there, and every contract was published.
//! The figures mean something in a release build only.

// clippy.toml allows these in tests, but not in helpers of integration tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use unicorn::bench::functions;
use unicorn::bench::load::{Options, measure};
use unicorn::build;

#[tokio::test]
async fn every_contract_of_the_benchmark_is_told_of_and_every_figure_is_there() {
    let options = Options { rate: 20, seconds: 2, commands: 60, idle_seconds: 1 };
    let table = measure(Path::new(env!("CARGO_BIN_EXE_unicorn")), &options).await.unwrap();
    // 200 to warm up, 40 at 20 a second, and 60.
    assert!(
        table.contains("| contracts created; published by an event; published again | 300; 300; "),
        "{table}"
    );
    assert_eq!(table.matches("p50 ").count(), 2, "{table}");
    assert_eq!(table.matches("a second |").count(), 2, "{table}");
    assert_eq!(table.matches(" MiB |").count(), 2, "{table}");
}

fn functions(spawns: u32) -> functions::Options {
    functions::Options { spawns, invocations: 2, json: false }
}

#[tokio::test]
async fn every_function_is_measured_beside_one_that_does_nothing() {
    let project = build::project().unwrap();
    let mut names = vec![functions::NO_OP.to_owned()];
    names.extend(local_cloud::up::binaries(&project, "template.yaml", "local").unwrap());
    let folder = build::named(&project, &names, build::Show::Nothing).await.unwrap();
    let programs: Vec<_> = names.iter().map(|name| folder.join(name)).collect();
    let figures = functions::measure(&project, &programs, &functions(1)).await.unwrap();
    assert_eq!(figures.iter().map(|it| &it.function).collect::<Vec<_>>(), names.iter().collect::<Vec<_>>());
    assert_eq!(figures[0].start_of_no_op, 1.0);
    for it in &figures {
        let all = [it.start_ms, it.first_ms, it.warm_p50_ms, it.start_cpu_ms, it.warm_cpu_ms, it.peak_mib];
        assert!(all.iter().all(|figure| *figure > 0.0), "{it:?}");
        assert!(it.warm_p99_ms >= it.warm_p50_ms && it.zip_mib > 0.0, "{it:?}");
    }
}

#[tokio::test]
async fn a_function_that_does_not_start_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("search");
    std::os::unix::fs::symlink("/bin/false", &program).unwrap();
    let project = build::project().unwrap();
    let error = functions::measure(&project, &[program], &functions(1)).await.unwrap_err();
    assert_eq!(format!("{error:#}"), "search cannot be measured: it ended: exit status: 1");
}
