//! Ends: signals, what the command leaves running, the guard killed, two guards at once, what stays behind.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};
use rig::kubeconfig::Credential;
use rig::{leash, records};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Operator, cgroup, cgroup_folder, eventually, processes, state_folder};

/// A guarded shell script that is running; its standard output is read line by line.
pub(crate) struct Running {
    pub(crate) guard: Child,
    lines: BufReader<ChildStdout>,
}

impl Running {
    pub(crate) fn start(operator: &Operator, script: &str) -> Result<Running> {
        Running::of(operator.command(&["-q"], &["/bin/sh", "-c", script])?)
    }

    pub(crate) fn of(mut command: Command) -> Result<Running> {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut guard = leash::spawn(command)?;
        let lines = BufReader::new(guard.stdout.take().context("stdout")?);
        Ok(Running { guard, lines })
    }

    pub(crate) fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(
            self.lines.read_line(&mut line)? > 0,
            "the command has closed its output"
        );
        Ok(line.trim_end().to_owned())
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(Pid::from_child(&self.guard), signal)?)
    }

    pub(crate) fn code(&mut self) -> Result<Option<i32>> {
        Ok(self.guard.wait()?.code())
    }
}

/// A number of seconds to sleep that names a test's processes.
fn mark(number: u32) -> String {
    format!("sleep 9{}.{number}", std::process::id())
}

#[test]
fn signals_to_the_guard_reach_the_command_once() -> Result<()> {
    let script = "trap 'echo term' TERM; trap 'echo usr1' USR1; trap 'echo hup; exit 9' HUP; echo ready; \
                  while :; do read word || sleep 0.05; done";
    let mut running = Running::start(&Operator::new()?, script)?;
    ensure!(running.line()? == "ready");
    for (signal, word) in [
        (Signal::TERM, "term"),
        (Signal::USR1, "usr1"),
        (Signal::TERM, "term"),
        (Signal::HUP, "hup"),
    ] {
        running.signal(signal)?;
        // A shell runs a trap when its current command is over.
        running.guard.stdin.as_mut().context("stdin")?.write_all(b"\n")?;
        let line = running.line()?;
        ensure!(line == word, "{line} instead of {word}");
    }
    ensure!(running.code()? == Some(9), "the exit code of the trap");
    Ok(())
}

#[test]
fn everything_the_command_started_ends_with_it() -> Result<()> {
    let sleep = mark(1);
    let script = format!("(setsid {sleep} &) ; (trap '' HUP TERM; {sleep}) & exit 4");
    let output = Operator::new()?.shell(&script)?;
    ensure!(output.code == 4, "{output:?}");
    ensure!(processes(&sleep).is_empty(), "processes are left");
    Ok(())
}

#[test]
fn nothing_is_left_behind() -> Result<()> {
    let operator = Operator::new()?;
    let mut running = Running::start(&operator, "cat /proc/self/cgroup; read word")?;
    let name = loop {
        if let Some(name) = running.line()?.strip_prefix("0::") {
            break name.to_owned();
        }
    };
    ensure!(
        cgroup_folder(&name)?.is_dir() && state_folder(&name).is_dir(),
        "a run has a cgroup and a state folder"
    );
    drop(running.guard.stdin.take());
    running.code()?;
    ensure!(
        !cgroup_folder(&name)?.exists() && !state_folder(&name).exists(),
        "both are gone after it"
    );
    Ok(())
}

#[test]
fn a_killed_guard_is_a_closed_door_and_the_next_start_cleans_up() -> Result<()> {
    let operator = Operator::new()?;
    let (address, sleep) = (operator.cluster.server(), mark(2));
    let script = format!(
        "echo up; read word; kubectl get namespace default 2>&1 | tr '\\n' ' '; echo; \
         curl -sk --max-time 5 https://{address}/version; echo curl=$?; {sleep}"
    );
    let mut running = Running::start(&operator, &script)?;
    ensure!(running.line()? == "up");
    let mut stdin = running.guard.stdin.take().context("stdin")?;
    // Every start cleans up, those of the tests beside this one too; the lock under which they do it keeps them waiting.
    let gate = File::open("/run/eks-guard/gate")?;
    gate.lock()?;
    running.signal(Signal::KILL)?;
    running.code()?;
    stdin.write_all(b"\n")?;
    let refused = running.line()?;
    ensure!(refused.contains("refused"), "{refused}");
    let curl = running.line()?;
    ensure!(curl == "curl=7", "connection refused, nothing of a reply: {curl}");
    let pid = eventually("the tree's last command", || processes(&sleep).pop_last())?;
    let name = cgroup(pid)?;
    ensure!(
        name.starts_with("/eks-guard/"),
        "the tree lives on, in its cgroup: {name}"
    );

    drop(gate);
    operator.shell("true")?.ok()?;
    eventually("the end of the orphaned tree", || {
        processes(&sleep).is_empty().then_some(())
    })?;
    ensure!(
        !cgroup_folder(&name)?.exists() && !state_folder(&name).exists(),
        "the next start removed both"
    );
    Ok(())
}

#[test]
fn a_start_does_not_touch_a_living_run() -> Result<()> {
    let operator = Operator::new()?;
    let mut first = Running::start(
        &operator,
        "echo up; read word; kubectl get namespace default -o name; exit 3",
    )?;
    ensure!(first.line()? == "up");
    operator.shell("true")?.ok()?;
    first.guard.stdin.as_mut().context("stdin")?.write_all(b"\n")?;
    ensure!(
        first.line()? == "namespace/default" && first.code()? == Some(3),
        "the first run goes on"
    );
    Ok(())
}

#[test]
fn a_start_can_be_called_off() -> Result<()> {
    // An API server that accepts and says nothing keeps the start waiting.
    let silent = std::net::TcpListener::bind("127.0.0.1:0")?;
    let cluster = Operator::new()?.cluster;
    let text = fs::read_to_string(Operator::new()?.kubeconfig)?;
    let operator =
        Operator::with(&text.replace(&cluster.server().to_string(), &silent.local_addr()?.to_string()))?;
    silent.set_nonblocking(true)?;
    let mut running = Running::start(&operator, "echo never")?;
    let _waiting = eventually("the guard's connection", || silent.accept().ok())?;
    running.signal(Signal::TERM)?;
    ensure!(running.code()? == Some(143), "as a shell says it");
    ensure!(running.line().is_err(), "nothing was started");
    Ok(())
}

/// While the API server does not answer. The session has begun by then, and its record says how it ended.
#[test]
fn a_start_that_is_called_off_is_recorded_as_such() -> Result<()> {
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let operator = Operator::new()?;
    let mut kubeconfig = operator.cluster.kubeconfig(Credential::Token("t".to_owned()));
    kubeconfig.server = format!("https://{}", silent.local_addr()?);
    fs::write(&operator.kubeconfig, kubeconfig.render())?;
    let mut running = Running::start(&operator, "echo started")?;
    let (_asked, _) = silent.accept()?;
    running.signal(Signal::INT)?;
    ensure!(running.code()? == Some(130));
    let events = records::read(&operator.home.join("records"))?;
    let last = events.last().context("a record of the session")?;
    let message = records::text(last, "message");
    ensure!(
        message == "not started: called off by SIGINT before the command was started",
        "{last}"
    );
    Ok(())
}
