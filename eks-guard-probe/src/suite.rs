//! All routes, some at a time, each in a process of its own: a crash or a hang costs one answer, not all. The processes are forks
//! of this one, which has one thread: where programs are slow to start, the starts would be most of the time.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use eks_guard_core::catalogue::probe::{Answer, Evidence, Plan, Tried};
use eks_guard_core::catalogue::{Check, Row, rows};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::stdio::{dup2_stdin, dup2_stdout};

use crate::{NOT_RUN, exit_code, print, sys, try_one};

/// How long one route may take, its forms and their waits together.
const DEADLINE: Duration = Duration::from_secs(300);

/// Routes that are tried at the same time. Most of their time is waiting for answers that must not come, and none depends on
/// what another finds: the profiles of one pod are tried beside each other as well.
const AT_ONCE: usize = 4;

/// Tries all that a process can try in this boundary, and prints an answer for each, in the order of the catalogue.
pub(crate) fn run(plan: &Plan) -> io::Result<ExitCode> {
    let is_wanted = |id: &str| plan.only.is_empty() || plan.only.iter().any(|only| only == id);
    let is_tried = |row: &Row| row.closing(plan.boundary).check == Check::Probe && is_wanted(row.id);
    let wanted = rows().filter(|row| is_tried(row)).map(|row| row.id);
    let trials = Trials {
        plan,
        to_come: wanted.enumerate(),
        under_way: Vec::new(),
    };
    let mut worst = 0;
    in_order(trials, |answer| {
        worst = worst.max(exit_code(&answer.result));
        print(&answer)
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

/// The routes, with their places in the order; an answer comes when it is there.
struct Trials<'a, I> {
    plan: &'a Plan,
    to_come: I,
    under_way: Vec<Trial>,
}

/// A process that tries one route.
struct Trial {
    at: usize,
    id: &'static str,
    process: Pid,
    /// What it prints.
    output: File,
    printed: Vec<u8>,
    deadline: Instant,
}

impl<I: Iterator<Item = (usize, &'static str)>> Iterator for Trials<'_, I> {
    type Item = (usize, Answer);

    fn next(&mut self) -> Option<Self::Item> {
        while self.under_way.len() < AT_ONCE
            && let Some((at, id)) = self.to_come.next()
        {
            match Trial::start(at, id, self.plan) {
                Ok(trial) => self.under_way.push(trial),
                Err(error) => return Some((at, not_run(id, error.to_string()))),
            }
        }
        while !self.under_way.is_empty() {
            let answered = match hear(&mut self.under_way) {
                Ok(None) => continue,
                Ok(Some(ended)) => {
                    let trial = self.under_way.swap_remove(ended);
                    (trial.at, trial.answer(), trial.id)
                }
                // Whatever stands in the way of hearing one, stands in the way of all: each is not run, none goes on unseen.
                Err(error) => {
                    let trial = self.under_way.swap_remove(0);
                    kill(trial.process, Signal::SIGKILL).ok();
                    (trial.at, Err(error), trial.id)
                }
            };
            let (at, answer, id) = answered;
            return Some((at, answer.unwrap_or_else(|error| not_run(id, error.to_string()))));
        }
        None
    }
}

/// Takes what the processes have printed since; the place of one that has ended, or was ended because it takes too long.
fn hear(trials: &mut [Trial]) -> io::Result<Option<usize>> {
    let next = trials.iter().map(|trial| trial.deadline).min();
    let patience = next.map_or(Duration::ZERO, |next| {
        next.saturating_duration_since(Instant::now())
    });
    let timeout = Timespec::try_from(patience).map_err(io::Error::other)?;
    let outputs = trials
        .iter()
        .map(|trial| PollFd::new(&trial.output, PollFlags::IN));
    let mut polled: Vec<PollFd<'_>> = outputs.collect();
    poll(&mut polled, Some(&timeout))?;
    let is_ready: Vec<bool> = polled.iter().map(|fd| !fd.revents().is_empty()).collect();
    for (at, (trial, is_ready)) in trials.iter_mut().zip(is_ready).enumerate() {
        let mut bytes = [0; 4096];
        if is_ready {
            let length = trial.output.read(&mut bytes)?;
            trial
                .printed
                .extend_from_slice(bytes.get(..length).unwrap_or_default());
            if length == 0 {
                return Ok(Some(at));
            }
        }
        if trial.deadline <= Instant::now() {
            kill(trial.process, Signal::SIGKILL)?;
            return Ok(Some(at));
        }
    }
    Ok(None)
}

impl Trial {
    fn start(at: usize, id: &'static str, plan: &Plan) -> io::Result<Self> {
        let (output, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
        let Some(process) = sys::fork()? else {
            let told = tell_only(&theirs);
            drop((output, theirs));
            std::process::exit(told.map_or(NOT_RUN, |()| try_one(id, plan)).into());
        };
        Ok(Self {
            at,
            id,
            process,
            output: output.into(),
            printed: Vec::new(),
            deadline: Instant::now() + DEADLINE,
        })
    }

    fn answer(&self) -> io::Result<Answer> {
        let status = waitpid(self.process, None)?;
        let id = self.id;
        let Ok(answer) = serde_json::from_slice::<Answer>(&self.printed) else {
            return Ok(not_run(id, format!("the probe said nothing ({status:?})")));
        };
        let expected = WaitStatus::Exited(self.process, exit_code(&answer.result).into());
        if answer.id != id || status != expected {
            return Ok(not_run(
                id,
                format!("the probe's answer does not go with {status:?}"),
            ));
        }
        Ok(answer)
    }
}

/// Nothing more to be read, and whoever started the suite sees nothing of what is printed.
fn tell_only(output: &OwnedFd) -> io::Result<()> {
    dup2_stdin(File::open("/dev/null")?)?;
    Ok(dup2_stdout(output)?)
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
