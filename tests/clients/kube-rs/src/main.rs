//! What a controller in Rust does with kube: typed and dynamic APIs, patches, watches, reflectors. Prints one JSON document for
//! each operation.

#![allow(clippy::print_stdout, reason = "standard output is its answer")]

mod operations;

use std::env;

use anyhow::{Context, Result};
use kube::Client;
use serde_json::{Value, json};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let namespace = env::var("NAMESPACE").context("NAMESPACE")?;
    let work = operations::Work::new(Client::try_default().await?, &namespace);
    say("create", work.create().await)?;
    say(
        "create without a field manager",
        work.create_without_manager().await,
    )?;
    say("get", work.get().await)?;
    say("get what is not there", work.get_absent().await)?;
    say("list in pages", work.list_in_pages().await)?;
    say("replace", work.replace().await)?;
    say("replace with a conflict", work.replace_conflict().await)?;
    say("strategic merge patch", work.strategic_patch().await)?;
    say("merge patch", work.merge_patch().await)?;
    say("JSON patch", work.json_patch().await)?;
    say("server-side apply", work.apply().await)?;
    say("create and scale a deployment", work.deployment().await)?;
    say("log of a pod that does not run", work.log().await)?;
    say("watcher", work.watcher().await)?;
    say("reflector", work.reflector().await)?;
    say("discovery and dynamic objects", work.dynamic().await)?;
    say("metadata only", work.metadata().await)?;
    say("delete", work.delete().await)?;
    say("delete a collection", work.delete_collection().await)
}

fn say(operation: &str, result: Result<Value>) -> Result<()> {
    let entry = match result {
        Ok(value) => json!({"operation": operation, "code": 0, "said": value.to_string()}),
        Err(error) => json!({"operation": operation, "code": 1, "said": format!("{error:#}")}),
    };
    println!("{}", serde_json::to_string(&entry)?);
    Ok(())
}
