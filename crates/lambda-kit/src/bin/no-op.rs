//! A function that does nothing, to measure the runtime alone: `cargo unicorn bench --functions` compares
//! the others with it. It is never deployed.

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde_json::Value;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    run(service_fn(async |_: LambdaEvent<Value>| Ok::<(), Error>(()))).await
}
