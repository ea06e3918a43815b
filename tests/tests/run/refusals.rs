//! Starts that are refused: one clear line, the documented exit code, nothing started.

use std::fs;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;

use anyhow::{Result, ensure};
use rig::command::{self, Output};
use rig::kubeconfig::Credential;
use rig::pki::Authority;

use crate::support::Operator;

/// The command was not started, the exit code is `code`, and one line says all of `words`.
fn refused(output: &Output, code: i32, words: &[&str]) -> Result<()> {
    ensure!(output.code == code, "exit code {code} expected: {output:?}");
    ensure!(
        !output.stdout.contains("started"),
        "the command was started: {output:?}"
    );
    let one_line = output
        .stderr
        .lines()
        .filter(|line| line.starts_with("eks-guard: "))
        .count()
        == 1;
    ensure!(
        one_line && output.stderr.lines().count() == 1,
        "one line expected: {output:?}"
    );
    for word in words {
        ensure!(output.stderr.contains(word), "{word:?} is missing: {output:?}");
    }
    Ok(())
}

fn run(operator: &Operator, flags: &[&str]) -> Result<Output> {
    operator.run(flags, &["echo", "started"])
}

#[test]
fn configuration() -> Result<()> {
    let operator = Operator::new()?;
    refused(
        &run(&operator, &["--kubeconfig", "missing.yaml"])?,
        2,
        &["missing.yaml"],
    )?;
    refused(
        &run(&operator, &["--context", "nowhere"])?,
        2,
        &["nowhere", "rig"],
    )?;
    refused(
        &run(&operator, &["--policy", "missing.yaml"])?,
        2,
        &["missing.yaml"],
    )?;
    fs::write(
        operator.home.join("bad.yaml"),
        "apiVersion: eks-guard.dev/v1alpha1\nkind: AgentPolicy\nspecs: {}\n",
    )?;
    refused(&run(&operator, &["--policy", "bad.yaml"])?, 2, &["bad.yaml:3:1"])?;
    fs::write(&operator.kubeconfig, "clusters: [")?;
    refused(&run(&operator, &[])?, 2, &["config", "not a valid kubeconfig"])?;
    Ok(())
}

#[test]
fn users() -> Result<()> {
    let operator = Operator::new()?;
    let as_user = |user| command::run(operator.command_as(user, &[], &["echo", "started"])?);
    refused(&as_user(None)?, 2, &["--user"])?;
    refused(&as_user(Some("0"))?, 2, &["--user root"])?;
    refused(&as_user(Some("no-such-user"))?, 2, &["no-such-user"])?;
    Ok(())
}

#[test]
fn no_root() -> Result<()> {
    let operator = Operator::new()?;
    let mut command = operator.command(&[], &["echo", "started"])?;
    command.uid(65534).gid(65534);
    refused(&command::run(command)?, 3, &["root", "sudo"])
}

#[test]
fn an_api_server_that_cannot_be_used() -> Result<()> {
    let cluster = Operator::new()?.cluster;
    let text = fs::read_to_string(Operator::new()?.kubeconfig)?;
    let free = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let operator = Operator::with(&text.replace(&cluster.server().to_string(), &free))?;
    refused(&run(&operator, &["-q"])?, 4, &["cannot reach", &free])?;

    let mut kubeconfig = cluster.kubeconfig(Credential::Token("no-such-token".to_owned()));
    refused(
        &run(&Operator::with(&kubeconfig.render())?, &["-q"])?,
        4,
        &["cannot log in"],
    )?;
    kubeconfig.ca = Authority::generate("somebody else")?.pem();
    refused(
        &run(&Operator::with(&kubeconfig.render())?, &["-q"])?,
        4,
        &["cannot trust"],
    )?;
    Ok(())
}
