//! What passes: arguments, streams, folder, environment, exit codes, requests.

use std::io::{Read, Write};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use rig::leash;

use crate::support::Operator;

#[test]
fn exit_code_and_both_outputs_are_the_commands() -> Result<()> {
    let output = Operator::new()?.shell("echo out; echo err >&2; exit 7")?;
    ensure!(output.code == 7, "{output:?}");
    ensure!(
        (output.stdout.as_str(), output.stderr.as_str()) == ("out\n", "err\n"),
        "{output:?}"
    );
    Ok(())
}

#[test]
fn a_signal_is_128_and_its_number() -> Result<()> {
    let output = Operator::new()?.shell("kill -TERM $$; sleep 60")?;
    ensure!(output.code == 143, "{output:?}");
    Ok(())
}

#[test]
fn not_found_is_127_and_not_executable_is_126() -> Result<()> {
    let operator = Operator::new()?;
    let output = operator.run(&["-q"], &["no-such-program"])?;
    ensure!(
        output.code == 127 && output.stderr.contains("no-such-program"),
        "{output:?}"
    );
    ensure!(output.stderr.lines().count() == 1, "one line: {output:?}");
    let output = operator.run(&["-q"], &["/etc/passwd"])?;
    ensure!(
        output.code == 126 && output.stderr.contains("permission denied"),
        "{output:?}"
    );
    Ok(())
}

#[test]
fn arguments_arrive_as_they_were_given() -> Result<()> {
    let line = [
        "/usr/bin/printf",
        "[%s]",
        "a b",
        "",
        "*",
        "--agent",
        "$HOME",
        "\n",
    ];
    let output = Operator::new()?.run(&["-q"], &line)?;
    ensure!(output.stdout == "[a b][][*][--agent][$HOME][\n]", "{output:?}");
    Ok(())
}

#[test]
fn the_working_folder_is_the_same() -> Result<()> {
    let operator = Operator::new()?;
    let output = operator.shell("pwd")?;
    ensure!(
        output.stdout.trim_end() == operator.home.to_string_lossy(),
        "{output:?}"
    );
    Ok(())
}

#[test]
fn standard_input_streams_both_ways() -> Result<()> {
    let mut command = Operator::new()?.command(&["-q"], &["cat"])?;
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = leash::spawn(command)?;
    let (mut input, mut output) = (
        child.stdin.take().context("stdin")?,
        child.stdout.take().context("stdout")?,
    );
    for word in ["one\n", "two\n"] {
        input.write_all(word.as_bytes())?;
        let mut back = [0; 4];
        output.read_exact(&mut back)?;
        ensure!(back == word.as_bytes(), "{back:?}");
    }
    drop(input);
    ensure!(child.wait()?.code() == Some(0), "cat ends with its input");
    Ok(())
}

#[test]
fn allowed_requests_pass_and_others_do_not_reach_the_server() -> Result<()> {
    let operator = Operator::new()?;
    let output =
        operator.shell("kubectl get namespace default -o name && kubectl delete namespace default")?;
    ensure!(
        output.stdout == "namespace/default\n" && output.code == 1,
        "{output:?}"
    );
    ensure!(output.stderr.contains("no rule allows it"), "{output:?}");
    Ok(())
}

#[test]
fn without_a_policy_only_discovery_is_allowed_and_said() -> Result<()> {
    let operator = Operator::new()?;
    std::fs::write(operator.home.join("policy.yaml"), "")?;
    let mut command = rig::leash::hold(&rig::programs::eks_guard()?)?;
    command.args(["run", "--records", "records", "--user", "nobody", "--"]);
    command
        .arg(operator.cluster.kubectl_program())
        .args(["get", "--raw", "/version"]);
    command
        .current_dir(&operator.home)
        .env_clear()
        .env("HOME", &operator.home);
    let output = rig::command::run(command)?;
    ensure!(
        output.code == 0 && output.stdout.contains("gitVersion"),
        "{output:?}"
    );
    ensure!(output.stderr.contains("only discovery is allowed"), "{output:?}");
    Ok(())
}
