//! All routes, one after the other, each in a process of its own: a crash or a hang costs one answer, not all.

use std::io::{self, Read, Write};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use eks_guard_core::catalogue::probe::{Answer, Evidence, Plan, Tried};
use eks_guard_core::catalogue::{Check, rows};

use crate::{exit_code, print};

/// How long one route may take, its forms and their waits together.
const DEADLINE: Duration = Duration::from_secs(300);

/// Tries all that a process can try in this boundary, and prints an answer for each.
pub(crate) fn run(plan: &Plan, line: &str) -> io::Result<ExitCode> {
    let mut worst = 0;
    for row in rows().filter(|row| row.closing(plan.boundary).check == Check::Probe) {
        let answer = attempt(row.id, line).unwrap_or_else(|error| not_run(row.id, error.to_string()));
        print(&answer)?;
        worst = worst.max(exit_code(&answer.result));
    }
    Ok(ExitCode::from(worst))
}

fn attempt(id: &str, plan: &str) -> io::Result<Answer> {
    let mut child = Command::new("/proc/self/exe")
        .arg(id)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(plan.as_bytes())?;
    }
    let text = said(&mut child)?;
    let status = child.wait()?;
    let Ok(answer) = serde_json::from_str::<Answer>(&text) else {
        return Ok(not_run(id, format!("the probe said nothing ({status})")));
    };
    if answer.id != id || status.code() != Some(exit_code(&answer.result).into()) {
        return Ok(not_run(
            id,
            format!("the probe's answer does not go with {status}"),
        ));
    }
    Ok(answer)
}

/// Everything it prints, or nothing when it takes too long.
fn said(child: &mut Child) -> io::Result<String> {
    let Some(mut stdout) = child.stdout.take() else {
        return Ok(String::new());
    };
    let (text_tx, text_rx) = mpsc::channel();
    thread::spawn(move || {
        let mut text = String::new();
        let read = stdout.read_to_string(&mut text).map(|_| text);
        // Nobody waits for it any more after the deadline.
        text_tx.send(read).ok();
    });
    match text_rx.recv_timeout(DEADLINE) {
        Ok(text) => text,
        Err(_) => child.kill().map(|()| String::new()),
    }
}

fn not_run(id: &str, reason: String) -> Answer {
    Answer {
        id: id.to_owned(),
        result: Tried::NotRun(reason),
        evidence: Evidence::default(),
    }
}
