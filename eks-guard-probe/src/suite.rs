//! All routes, some at a time, each in a process of its own: a crash or a hang costs one answer, not all.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use eks_guard_core::catalogue::probe::{Answer, Evidence, Plan, Tried};
use eks_guard_core::catalogue::{Check, Row, rows};

use crate::{exit_code, print};

/// How long one route may take, its forms and their waits together.
const DEADLINE: Duration = Duration::from_secs(300);

/// Routes that are tried at the same time. Most of their time is waiting for answers that must not come, and none depends on
/// what another finds: the profiles of one pod are tried beside each other as well.
const AT_ONCE: usize = 4;

/// Tries all that a process can try in this boundary, and prints an answer for each, in the order of the catalogue.
pub(crate) fn run(plan: &Plan, line: &str) -> io::Result<ExitCode> {
    let is_wanted = |id: &str| plan.only.is_empty() || plan.only.iter().any(|only| only == id);
    let is_tried = |row: &Row| row.closing(plan.boundary).check == Check::Probe && is_wanted(row.id);
    let wanted: Vec<&str> = rows().filter(|row| is_tried(row)).map(|row| row.id).collect();
    let next = AtomicUsize::new(0);
    let (answer_tx, answer_rx) = mpsc::channel();
    let work = |answer_tx: &mpsc::Sender<(usize, Answer)>| {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(id) = wanted.get(at) else { return };
            let answer = attempt(id, line).unwrap_or_else(|error| not_run(id, error.to_string()));
            if answer_tx.send((at, answer)).is_err() {
                // Nobody reads the answers any more.
                return;
            }
        }
    };
    let mut worst = 0;
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            let (work, answer_tx) = (&work, answer_tx.clone());
            scope.spawn(move || work(&answer_tx));
        }
        drop(answer_tx);
        in_order(answer_rx, |answer| {
            worst = worst.max(exit_code(&answer.result));
            print(&answer)
        })
    })?;
    Ok(ExitCode::from(worst))
}

/// Takes what comes with its place in the order once all before it have come.
fn in_order<T>(
    arriving: impl IntoIterator<Item = (usize, T)>,
    mut take: impl FnMut(T) -> io::Result<()>,
) -> io::Result<()> {
    let mut early = BTreeMap::new();
    let mut due = 0;
    for (at, one) in arriving {
        early.insert(at, one);
        while let Some(one) = early.remove(&due) {
            take(one)?;
            due += 1;
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::in_order;

    #[test]
    fn answers_are_in_the_order_of_the_catalogue_whichever_comes_first() {
        let mut taken = Vec::new();
        let arriving = [(2, "c"), (0, "a"), (3, "d"), (1, "b")];
        in_order(arriving, |one| {
            taken.push(one);
            Ok(())
        })
        .unwrap();
        assert_eq!(taken, ["a", "b", "c", "d"]);
    }
}
