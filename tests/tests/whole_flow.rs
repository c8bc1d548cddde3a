//! A contract and a listing travel from HTTP to search and out of it again, on the real binaries.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use end_to_end_tests::flow::Flow;
use end_to_end_tests::{on_a_local_cloud, project};

#[test]
fn a_contract_and_a_listing_travel_from_http_to_search() -> anyhow::Result<()> {
    on_a_local_cloud(async |client| {
        unicorn::seed::images(&project()?, client).await?;
        Flow::new(client).run().await
    })
}
