//! The benchmark itself, on a small load and the build that the tests have: every figure is
//! there, and every contract was told of. What the figures are worth is seen in a release only.

// clippy.toml allows them in tests; it does not know the helpers of an integration test for such.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use unicorn::bench::load::{Options, measure};

#[tokio::test]
async fn every_contract_of_the_benchmark_is_told_of_and_every_figure_is_there() {
    let options = Options { rate: 20, seconds: 2, commands: 60, idle_seconds: 1 };
    let table = measure(Path::new(env!("CARGO_BIN_EXE_unicorn")), &options).await.unwrap();
    // 200 to warm up, 40 at 20 a second, and 60.
    assert!(table.contains("| contracts created, and told of by an event | 300, 300; "), "{table}");
    assert_eq!(table.matches("p50 ").count(), 2, "{table}");
    assert_eq!(table.matches("a second |").count(), 2, "{table}");
    assert_eq!(table.matches(" MiB |").count(), 2, "{table}");
}
