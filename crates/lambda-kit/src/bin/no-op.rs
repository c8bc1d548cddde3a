//! A function that does nothing: what the runtime costs by itself. `cargo unicorn bench --functions`
//! measures the others against it; it is never deployed.

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde_json::Value;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    run(service_fn(async |_: LambdaEvent<Value>| Ok::<(), Error>(()))).await
}
