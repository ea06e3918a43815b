//! `cargo xtask tidy`: the house rules as tests. Rules on the text are functions in `tidy/`; the rest are cargo's own tools.

mod documents;
mod graph;
mod manifests;
mod sources;
mod text;

use anyhow::Result;

use crate::console::paint;
use crate::tidy::text::Workspace;
use crate::{crd, paths, process, setup, test::count::Count};

/// What a rule found. Findings of level `Stop` fail the rule; the others are shown.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    level: Level,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Warn,
    Stop,
}

impl Finding {
    fn stop(text: impl Into<String>) -> Self {
        Self {
            level: Level::Stop,
            text: text.into(),
        }
    }

    fn warn(text: impl Into<String>) -> Self {
        Self {
            level: Level::Warn,
            text: text.into(),
        }
    }
}

/// A name that reads as a sentence, and the rule.
type Rule = (&'static str, fn(&Workspace) -> Vec<Finding>);

const RULES: &[Rule] = &[
    ("files_are_short", sources::files_are_short),
    (
        "files_open_with_their_purpose",
        sources::files_open_with_their_purpose,
    ),
    ("no_mod_rs", sources::no_mod_rs),
    ("unsafe_in_named_places", sources::unsafe_in_named_places),
    ("no_glob_imports", sources::no_glob_imports),
    ("no_imports_from_super", sources::no_imports_from_super),
    ("macros_in_tests_only", sources::macros_in_tests_only),
    ("members_inherit", manifests::members_inherit),
    ("imports_point_down", graph::imports_point_down),
    ("documents_are_there", documents::are_there),
    ("links_lead_somewhere", documents::links_lead_somewhere),
    ("named_tests_exist", documents::named_tests_exist),
    ("no_machine_paths", documents::no_machine_paths),
];

pub(crate) fn run() -> Result<Count> {
    let workspace = Workspace::read(paths::workspace())?;
    let mut count = Count::default();
    println!("{}", graph::draw(&workspace));
    for (name, rule) in RULES {
        let findings = rule(&workspace);
        for finding in &findings {
            let mark = if finding.level == Level::Stop {
                paint("31", "stop")
            } else {
                paint("33", "warn")
            };
            println!("  {mark}: {}", finding.text);
        }
        let stopped = findings.iter().any(|finding| finding.level == Level::Stop);
        report(name, !stopped, &mut count);
    }
    for (name, command) in commands()? {
        let outcome = process::run_quiet(command, name);
        if let Err(error) = &outcome {
            println!("  {error:#}");
        }
        report(name, outcome.is_ok(), &mut count);
    }
    Ok(count)
}

fn report(name: &str, passed: bool, total: &mut Count) {
    let name = format!("tidy::{name}");
    let word = if passed {
        paint("32", "ok")
    } else {
        paint("31", "FAILED")
    };
    println!("test {name} ... {word}");
    total.add(&name, passed);
}

fn commands() -> Result<Vec<(&'static str, std::process::Command)>> {
    let mut doc = process::cargo(&[
        "doc",
        "--locked",
        "--workspace",
        "--no-deps",
        "--document-private-items",
    ]);
    doc.env("RUSTDOCFLAGS", "-D warnings");
    let mut deny = std::process::Command::new(setup::cargo_deny()?);
    deny.current_dir(paths::workspace())
        .args(["check", "bans", "licenses", "sources"]);
    // Workspaces of their own, which nothing else builds as a matter of course.
    let lock =
        |manifest: &str| process::cargo(&["update", "--workspace", "--locked", "--manifest-path", manifest]);
    Ok(vec![
        ("lock_of_the_bench_is_in_step", lock("tests/decision/Cargo.toml")),
        (
            "lock_of_the_fuzz_targets_is_in_step",
            lock("tests/fuzz/Cargo.toml"),
        ),
        ("cargo_fmt", process::cargo(&["fmt", "--all", "--check"])),
        (
            "cargo_clippy",
            process::cargo(&[
                "clippy",
                "--locked",
                "--workspace",
                "--all-targets",
                "--",
                "-D",
                "warnings",
            ]),
        ),
        ("cargo_doc", doc),
        ("crd_is_built", crd::build()),
        ("crd_is_what_stands_in_deploy", crd::check()),
        ("cargo_deny", deny),
    ])
}
