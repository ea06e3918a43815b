//! The kernel matrix: suite `netns` once more, in guests with the oldest and a middle kernel, BPF LSM on and off.
//! A test harness of its own: each test of a guest counts as a test here, and one more for each guest itself.
#![expect(clippy::print_stdout, reason = "what a test harness prints is its result")]

#[path = "kernels/columns.rs"]
mod columns;

use std::collections::BTreeMap;
use std::env;
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use rig::vm::machine::{End, Machine};
use rig::vm::report::{Line, Verdict};
use rig::vm::{BpfLsm, Kernel, image};
use rig::workdir::Workdir;

/// The oldest kernel that is supported, and one between it and today's.
const SERIES: [&str; 2] = ["6.1", "6.12"];
/// What runs without the BPF LSM as well. The boundary does not lean on it, so one test of each layer is enough, and a
/// second run of all would double the time.
const WITHOUT_BPF_LSM: [&str; 9] = [
    "abstract_names::abstract_names_are_refused_to_the_tree_and_to_nobody_else",
    "redirects_every_address_of_a_local_api_server",
    "redirects_a_remote_api_server_in_every_disguise",
    "refuses_other_ports_and_protocols_of_a_remote_api_server",
    "a_killed_guard_leaves_its_cgroup_closed_until_the_next_start_removes_it",
    "node::infrastructure_is_refused_to_agents_whatever_their_mode",
    "packets::nothing_at_all_reaches_the_address_of_a_remote_api_server",
    "sockets::sockets_that_do_not_say_where_they_go_are_refused_to_root_too",
    "wire::a_forged_frame_reaches_the_api_server_until_the_wire_is_guarded",
];

/// Most guests of one kernel that run all tests between them: each of them boots.
const MOST_PARTS: usize = 4;

fn main() -> ExitCode {
    match Arguments::read().and_then(|arguments| run(&arguments)) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            println!("suite kernels cannot run: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What the harness is asked for.
struct Arguments {
    /// A part of a name.
    filter: Option<String>,
    /// In how many guests of one kernel all tests run (`--parts N`).
    parts: usize,
}

impl Arguments {
    /// Test harnesses are given options that this one has no use for. Every processor gets a guest: where there are more of
    /// them than kernels, each kernel has several.
    fn read() -> Result<Self> {
        let processors = thread::available_parallelism().context("counting the processors")?;
        let mut read = Self {
            filter: None,
            parts: (processors.get() / SERIES.len()).clamp(1, MOST_PARTS),
        };
        let mut arguments = env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--color" => drop(arguments.next()),
                "--parts" => {
                    let parts = arguments.next().context("--parts needs a number")?;
                    read.parts = parts.parse::<NonZeroUsize>().context("reading --parts")?.get();
                }
                option if option.starts_with("--") => {}
                _ => read.filter = Some(argument),
            }
        }
        Ok(read)
    }
}

/// How many tests failed.
fn run(arguments: &Arguments) -> Result<usize> {
    let payload = image::payload()?;
    let tests = tests_of(&payload)?;
    let guests = guests(&tests, arguments)?;
    let outcomes = side_by_side(&guests, &payload)?;
    let mut failed: usize = outcomes.iter().map(Outcome::failures).sum();
    let mut all: usize = outcomes.iter().map(|outcome| outcome.verdicts.len()).sum();
    let expected = guests.iter().map(|guest| columns::expected(&guest.tests)).sum();
    if expected > 0 {
        let columns: Vec<String> = outcomes.into_iter().flat_map(|outcome| outcome.columns).collect();
        let verdict = match columns::check(&columns, expected) {
            Ok(()) => Verdict::Passed,
            Err(error) => {
                println!("\n{error:#}");
                Verdict::Failed
            }
        };
        println!("test matrix ... {}", word(verdict));
        all += 1;
        failed += usize::from(verdict == Verdict::Failed);
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {word}. {} passed; {failed} failed; 0 ignored",
        all - failed
    );
    Ok(failed)
}

/// The guests that have something to run, those with the most first.
fn guests<'a>(tests: &'a [String], arguments: &Arguments) -> Result<Vec<Guest<'a>>> {
    let mut guests = Vec::new();
    for lsm in [BpfLsm::On, BpfLsm::Off] {
        let parts = match lsm {
            BpfLsm::On => arguments.parts,
            BpfLsm::Off => 1,
        };
        for series in SERIES {
            let name = format!("{series}/{}", lsm.word());
            let mut tests = chosen(tests, lsm)?;
            let filter = arguments.filter.as_deref();
            tests.retain(|test| filter.is_none_or(|part| format!("{name}/{test}").contains(part)));
            for part in 0..parts {
                let tests: Vec<&str> = tests.iter().copied().skip(part).step_by(parts).collect();
                if !tests.is_empty() {
                    guests.push(Guest {
                        name: name.clone(),
                        series,
                        lsm,
                        tests,
                    });
                }
            }
        }
    }
    Ok(guests)
}

/// As many guests at once as there are processors: each keeps one busy.
fn side_by_side(guests: &[Guest<'_>], payload: &Path) -> Result<Vec<Outcome>> {
    let at_once = thread::available_parallelism().context("counting the processors")?;
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<Outcome>> {
        let mut outcomes = Vec::new();
        while let Some(guest) = guests.get(next.fetch_add(1, Ordering::Relaxed)) {
            outcomes.push(guest.run(payload)?);
        }
        Ok(outcomes)
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..at_once.get()).map(|_| scope.spawn(work)).collect();
        let mut outcomes = Vec::new();
        for worker in workers {
            outcomes.extend(worker.join().expect("a worker returns its errors")?);
        }
        Ok(outcomes)
    })
}

/// The tests for a guest.
fn chosen(tests: &[String], lsm: BpfLsm) -> Result<Vec<&str>> {
    let all = tests.iter().map(String::as_str);
    match lsm {
        BpfLsm::On => Ok(all.collect()),
        BpfLsm::Off => {
            let some: Vec<&str> = all.filter(|test| WITHOUT_BPF_LSM.contains(test)).collect();
            ensure!(
                some.len() == WITHOUT_BPF_LSM.len(),
                "there are only {some:?} of {WITHOUT_BPF_LSM:?}"
            );
            Ok(some)
        }
    }
}

/// Names of the tests in a test binary that are not started by other tests.
fn tests_of(payload: &Path) -> Result<Vec<String>> {
    let list = |more: &[&str]| -> Result<Vec<String>> {
        let output = Command::new(payload)
            .args(["--list", "--format", "terse"])
            .args(more)
            .output()
            .with_context(|| format!("starting {}", payload.display()))?;
        ensure!(
            output.status.success(),
            "{} does not list its tests",
            payload.display()
        );
        let text = String::from_utf8(output.stdout).context("reading names of tests")?;
        let names = text.lines().filter_map(|line| line.strip_suffix(": test"));
        Ok(names.map(str::to_owned).collect())
    };
    let ignored = list(&["--ignored"])?;
    let mut tests = list(&[])?;
    tests.retain(|test| !ignored.contains(test));
    ensure!(!tests.is_empty(), "{} holds no test", payload.display());
    Ok(tests)
}

/// A machine with one kernel, and the tests it is to run.
struct Guest<'a> {
    /// Its name, which begins the names of its tests.
    name: String,
    series: &'static str,
    lsm: BpfLsm,
    tests: Vec<&'a str>,
}

/// What came out of one guest.
struct Outcome {
    /// Of each test that was to run, and of the guest.
    verdicts: BTreeMap<String, Verdict>,
    /// Columns of the matrix.
    columns: Vec<String>,
}

impl Guest<'_> {
    fn run(&self, payload: &Path) -> Result<Outcome> {
        let Self {
            name,
            series,
            lsm,
            tests,
        } = self;
        let begin = Instant::now();
        let kernel = Kernel::find(series)?;
        let folder = Workdir::create()?;
        let initramfs = folder.path().join("initramfs");
        image::write(&initramfs, &kernel, payload, tests)?;
        let bootable = kernel.image(folder.path())?;
        println!("\nguest {name}: tests: {}", tests.len());
        let machine = Machine {
            kernel: &bootable,
            lsm: *lsm,
            initramfs: &initramfs,
            console: &folder.path().join("console"),
        };
        let (heard, end) = attempt(&machine, name)?;
        let mut faults = heard.faults(series, *lsm);
        let used = match end {
            End::Done(used) => format!(", {:.1} s of a processor", used.as_secs_f32()),
            End::Lost(why) => {
                faults.push(why);
                String::new()
            }
        };
        let mut verdicts = heard.verdicts;
        for test in tests {
            // A test that said nothing has not passed.
            if !verdicts.contains_key(*test) {
                verdicts.insert((*test).to_owned(), Verdict::Failed);
                println!("test {name}/{test} ... FAILED (it said nothing)");
            }
        }
        let whole = if faults.is_empty() {
            Verdict::Passed
        } else {
            Verdict::Failed
        };
        println!(
            "test {name} ... {} ({:.1} s{used})",
            word(whole),
            begin.elapsed().as_secs_f32()
        );
        verdicts.insert(String::new(), whole);
        let outcome = Outcome {
            verdicts,
            columns: heard.columns,
        };
        if outcome.failures() > 0 {
            // Results are counted once, at the end.
            let said: Vec<&str> = heard.text.iter().map(String::as_str).collect();
            let said = said.into_iter().filter(|line| !line.contains("test result:"));
            let said = said.collect::<Vec<_>>().join("\n");
            // In one piece: other guests speak at the same time.
            println!("\n{name} said:\n{said}\n\n{}", faults.join("\n"));
        }
        Ok(outcome)
    }
}

impl Outcome {
    fn failures(&self) -> usize {
        let failed = |verdict: &&Verdict| **verdict == Verdict::Failed;
        self.verdicts.values().filter(failed).count()
    }
}

/// An emulated kernel dies now and then in the middle of its work, of what no real one would: a guest that is lost before any
/// of its tests has failed is started once more.
fn attempt(machine: &Machine<'_>, name: &str) -> Result<(Heard, End)> {
    let mut heard = Heard::default();
    let end = machine.run(|text, line| heard.hear(name, text, line))?;
    match &end {
        End::Lost(why) if heard.failed() == 0 => println!("\nguest {name} is started once more: {why}"),
        End::Lost(_) | End::Done(_) => return Ok((heard, end)),
    }
    let mut heard = Heard::default();
    let end = machine.run(|text, line| heard.hear(name, text, line))?;
    Ok((heard, end))
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "ok",
        Verdict::Failed => "FAILED",
    }
}

/// Everything a guest has said.
#[derive(Default)]
struct Heard {
    text: Vec<String>,
    verdicts: BTreeMap<String, Verdict>,
    release: String,
    lsm: String,
    columns: Vec<String>,
    ended: String,
}

impl Heard {
    fn hear(&mut self, guest: &str, text: &str, line: &Line) {
        if !matches!(line, Line::Column(_)) {
            self.text.push(text.to_owned());
        }
        match line {
            Line::Test(test, verdict) => {
                println!("test {guest}/{test} ... {}", word(*verdict));
                self.verdicts.insert(test.clone(), *verdict);
            }
            Line::Release(release) => self.release.clone_from(release),
            Line::Lsm(lsm) => self.lsm.clone_from(lsm),
            Line::Column(column) => self.columns.push(column.clone()),
            Line::Ended(how) => self.ended.clone_from(how),
            Line::Up | Line::Failed(_) | Line::Other => {}
        }
    }

    fn failed(&self) -> usize {
        let failed = |verdict: &&Verdict| **verdict == Verdict::Failed;
        self.verdicts.values().filter(failed).count()
    }

    /// What is wrong with the guest itself. A binary with failed tests ends with code 101, which its tests account for.
    fn faults(&self, series: &str, lsm: BpfLsm) -> Vec<String> {
        let mut faults = Vec::new();
        if !self.release.starts_with(&format!("{series}.")) {
            faults.push(format!("its kernel is {:?}, not {series}", self.release));
        }
        let active = if self.lsm.split(',').any(|module| module == "bpf") {
            BpfLsm::On
        } else {
            BpfLsm::Off
        };
        if active != lsm {
            faults.push(format!("its security modules are {:?}", self.lsm));
        }
        if self.ended != if self.failed() > 0 { "code 101" } else { "code 0" } {
            faults.push(format!("its test binary ended with {:?}", self.ended));
        }
        faults
    }
}
