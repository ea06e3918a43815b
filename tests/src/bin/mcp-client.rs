//! `mcp-client CALLS SERVER [ARGS...]`: starts a server of the Model Context Protocol, lists its tools, makes the calls of a file
//! over its standard input and output, and prints a JSON document about each: `{"operation", "code", "said"}`.

#![allow(clippy::print_stdout, reason = "standard output is its answer")]

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::{env, fs};

use anyhow::{Context, Result};
use rig::clients::Entry;
use serde::Deserialize;
use serde_json::{Value, json};

/// The revision of the protocol that is offered.
const PROTOCOL: &str = "2025-03-26";

/// One call of a tool.
#[derive(Deserialize)]
struct Call {
    operation: String,
    tool: String,
    arguments: Value,
}

fn main() -> Result<()> {
    let mut arguments = env::args().skip(1);
    let calls = arguments.next().context("mcp-client CALLS SERVER [ARGS...]")?;
    let calls = fs::read_to_string(&calls).with_context(|| format!("reading {calls}"))?;
    let namespace = env::var_os("NAMESPACE").context("NAMESPACE")?;
    let calls = calls.replace("$NAMESPACE", &namespace.to_string_lossy());
    let calls: Vec<Call> = serde_json::from_str(&calls)?;
    let mut server = Server::start(&arguments.next().context("no server")?, arguments)?;
    let tools = server.ask("tools/list", &json!({}))?;
    let mut names: Vec<&str> = tools["result"]["tools"]
        .as_array()
        .context("a list of tools")?
        .iter()
        .filter_map(|tool| tool["name"].as_str())
        .collect();
    names.sort_unstable();
    print("list tools", &json!(names), true)?;
    for call in &calls {
        let answer = server.ask(
            "tools/call",
            &json!({"name": call.tool, "arguments": call.arguments}),
        )?;
        let result = &answer["result"];
        let is_good = answer["error"].is_null() && result["isError"] != true;
        let said = if result.is_null() {
            &answer["error"]
        } else {
            result
        };
        print(&call.operation, said, is_good)?;
    }
    server.end()
}

fn print(operation: &str, said: &Value, is_good: bool) -> Result<()> {
    let entry = Entry {
        operation: operation.to_owned(),
        code: i32::from(!is_good),
        said: serde_json::to_string_pretty(said)?,
    };
    println!("{}", serde_json::to_string(&entry)?);
    Ok(())
}

struct Server {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    number: u64,
}

impl Server {
    fn start(program: &str, arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {program}"))?;
        let input = child.stdin.take().context("piped")?;
        let output = BufReader::new(child.stdout.take().context("piped")?).lines();
        let mut server = Self {
            child,
            input,
            output,
            number: 0,
        };
        let client = json!({"name": "eks-guard-tests", "version": "1"});
        server.ask(
            "initialize",
            &json!({"protocolVersion": PROTOCOL, "capabilities": {}, "clientInfo": client}),
        )?;
        server.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}))?;
        Ok(server)
    }

    fn send(&mut self, message: &Value) -> Result<()> {
        writeln!(self.input, "{message}").context("writing to the server")
    }

    /// The answer to a request; what the server says in between is passed over.
    fn ask(&mut self, method: &str, params: &Value) -> Result<Value> {
        self.number += 1;
        let number = self.number;
        self.send(&json!({"jsonrpc": "2.0", "id": number, "method": method, "params": params}))?;
        loop {
            let line = self.output.next().context("the server is gone")??;
            // Some servers say hello on standard output.
            match serde_json::from_str::<Value>(&line) {
                Ok(message) if message["id"] == number => return Ok(message),
                Ok(_) | Err(_) => {}
            }
        }
    }

    /// Ends it as the protocol says: by closing its input.
    fn end(self) -> Result<()> {
        let Self { mut child, input, .. } = self;
        drop(input);
        child.wait().context("waiting for the server")?;
        Ok(())
    }
}
