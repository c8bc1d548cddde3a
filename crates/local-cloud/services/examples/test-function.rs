//! A function for the tests of the local cloud's Lambda: it does what its event says, over
//! the real runtime client.

use std::io::Write;
use std::time::Duration;

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::{Value, json};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    match std::env::var("INIT").as_deref() {
        Ok("exit") => return Err("TABLE_NAME is missing".into()),
        Ok("hang") => std::future::pending().await,
        Ok("slow") => tokio::time::sleep(Duration::from_millis(300)).await,
        _ => {}
    }
    let mut invocations = 0;
    lambda_runtime::run(service_fn(move |event: LambdaEvent<Value>| {
        invocations += 1;
        handle(event, invocations)
    }))
    .await
}

async fn handle(event: LambdaEvent<Value>, invocations: u32) -> Result<Value, Error> {
    let (event, context) = event.into_parts();
    match event["do"].as_str().unwrap_or_default() {
        "count" => Ok(json!({ "process": std::process::id(), "invocations": invocations })),
        "environment" => Ok(std::env::vars().map(|(name, value)| (name, Value::from(value))).collect()),
        "context" => Ok(json!({
            "request_id": context.request_id, "deadline": context.deadline,
            "arn": context.invoked_function_arn, "trace": context.xray_trace_id,
            "client": context.client_context.map(|client| client.custom),
        })),
        "print" => {
            let mut out = std::io::stdout().lock();
            writeln!(out, "{}", event["text"].as_str().unwrap_or_default())?;
            writeln!(std::io::stderr(), "to stderr")?;
            Ok(Value::Null)
        }
        "sleep" => {
            tokio::time::sleep(Duration::from_millis(event["ms"].as_u64().unwrap_or_default())).await;
            Ok(json!("slept"))
        }
        "limits" => Ok(std::fs::read_to_string("/proc/self/limits")?.into()),
        "hang" => std::future::pending().await,
        "spawn" => {
            // A grandchild that must not be left behind.
            let child = std::process::Command::new("sleep").arg("1000").spawn()?;
            Ok(json!({ "process": std::process::id(), "grandchild": child.id() }))
        }
        "allocate" => {
            // Written to, so that it is resident too.
            let held = std::hint::black_box(vec![1_u8; event["bytes"].as_u64().unwrap_or_default() as usize]);
            Ok(Value::from(held.iter().map(|byte| u64::from(*byte)).sum::<u64>()))
        }
        "abort" => std::process::abort(),
        "exit" => std::process::exit(event["code"].as_i64().unwrap_or_default() as i32),
        "fail" => Err(event["text"].as_str().unwrap_or("failed").into()),
        "large" => Ok(Value::from("x".repeat(event["bytes"].as_u64().unwrap_or_default() as usize))),
        _ => answer(event),
    }
}

/// What the variable ANSWER says, with the id of the batch's second record for `SECOND`;
/// without it, the event.
fn answer(event: Value) -> Result<Value, Error> {
    let second = event["Records"][1]["messageId"].as_str().unwrap_or_default();
    match std::env::var("ANSWER") {
        Ok(answer) => Ok(serde_json::from_str(&answer.replace("SECOND", second))?),
        Err(_) => Ok(event),
    }
}
