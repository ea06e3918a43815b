//! `eks-guard-probe ID`: tries one route of the bypass catalogue and prints one JSON line; `eks-guard-probe suite` tries all,
//! each in a process of its own. What it needs to know is the first line of its standard input (`catalogue::probe::Plan`).
//! Exit code 0: nothing reached; 1: reached; 2: something could not be run.

mod answer;
mod found;
mod suite;
mod sys;
mod tries;

use std::io::{self, BufRead, Write};
use std::process::ExitCode;

use eks_guard_core::catalogue::probe::{Answer, Plan, Tried, Verdict};

/// Something could not be run.
const NOT_RUN: u8 = 2;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(what), None) = (arguments.next(), arguments.next()) else {
        return failed(
            "usage: eks-guard-probe ID|suite, with the plan as one line of JSON on standard input",
        );
    };
    let mut line = String::new();
    if let Err(error) = io::stdin().lock().read_line(&mut line) {
        return failed(&format!("cannot read the plan: {error}"));
    }
    let plan: Plan = match serde_json::from_str(&line) {
        Ok(plan) => plan,
        Err(error) => return failed(&format!("cannot read the plan: {error}")),
    };
    if what == "suite" {
        return suite::run(&plan).unwrap_or_else(|error| failed(&format!("cannot try the routes: {error}")));
    }
    ExitCode::from(try_one(&what, &plan))
}

/// Tries one route in this process, and prints what was found; the exit code.
fn try_one(id: &str, plan: &Plan) -> u8 {
    let Some(attempt) = tries::find(id) else {
        say(&format!("no route that a process can try is named {id}"));
        return NOT_RUN;
    };
    let found = attempt(plan);
    let answer = Answer {
        id: id.to_owned(),
        result: found.result,
        evidence: found.evidence,
    };
    match print(&answer) {
        Ok(()) => exit_code(&answer.result),
        Err(error) => {
            say(&format!("cannot print the answer: {error}"));
            NOT_RUN
        }
    }
}

fn print(answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&line)?;
    out.flush()
}

/// Says that a connection older than the boundary is open.
fn ready() -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(b"ready\n")?;
    out.flush()
}

/// Never 0 when the route leads out.
fn exit_code(result: &Tried) -> u8 {
    match result {
        Tried::Verdict(Verdict::Reached) => 1,
        Tried::NotRun(_) => NOT_RUN,
        Tried::Verdict(Verdict::Redirected | Verdict::Blocked | Verdict::NotApplicable(_)) => 0,
    }
}

fn failed(message: &str) -> ExitCode {
    say(message);
    ExitCode::from(NOT_RUN)
}

fn say(message: &str) {
    // Whoever closed standard error reads the exit code.
    writeln!(io::stderr(), "eks-guard-probe: {message}").ok();
}
