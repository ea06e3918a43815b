//! The exit code says what a report says.

use clap::Parser;
use eks_guard_core::catalogue::probe::{Answer, Evidence, Tried, Verdict};
use eks_guard_core::catalogue::report::{Facts, ProfileReport, Report};
use eks_guard_core::catalogue::{Boundary, Check, rows};
use jiff::Timestamp;

use crate::cli::{Cli, Command};
use crate::config::Surroundings;
use crate::verify::envelope::{Statement, sign};
use crate::verify::key::SigningKey;

/// Signs a report in which this row came to `verdict` and the others are closed, and checks it: exit code and output.
fn checked(id: &str, verdict: &Verdict) -> (u8, String) {
    let answers: Vec<Answer> = rows()
        .filter(|row| row.check == Check::Probe)
        .map(|row| {
            let otherwise = if row.id == "N01" {
                Verdict::Redirected
            } else {
                Verdict::Blocked
            };
            Answer {
                id: row.id.to_owned(),
                result: Tried::Verdict(if row.id == id { verdict.clone() } else { otherwise }),
                evidence: Evidence::default(),
            }
        })
        .collect();
    let report = Report {
        facts: Facts::default(),
        profiles: vec![ProfileReport::new(
            Boundary::Run,
            "restricted",
            &answers,
            &answers,
        )],
    };
    let folder = tempfile::tempdir().unwrap();
    let key = SigningKey::open(folder.path()).unwrap();
    let file = folder.path().join("report");
    std::fs::write(
        &file,
        sign(&Statement::new(report, Vec::new(), &key), &key).unwrap(),
    )
    .unwrap();
    let file = file.to_str().unwrap();
    let cli = Cli::try_parse_from(["eks-guard", "verify", "--check", file, "--key", &key.public()]).unwrap();
    let Command::Verify(args) = cli.command else {
        panic!("not verify")
    };
    let mut out = Vec::new();
    let code = args
        .run(&Surroundings::take(), &mut out, Timestamp::UNIX_EPOCH)
        .unwrap();
    (code, String::from_utf8(out).unwrap())
}

#[test]
fn a_closed_boundary_ends_with_0_and_an_open_one_with_1() {
    let (code, text) = checked("P01", &Verdict::Blocked);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("\nN01   REDIRECTED  REDIRECTED"), "{text}");
    let (code, text) = checked("P01", &Verdict::Reached);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("\nP01   REACHED"), "{text}");
    assert_eq!(checked("N01", &Verdict::Blocked).0, 1, "the guard answers nobody");
}

#[test]
fn what_to_do_must_be_said_once() {
    for line in [
        &["verify"][..],
        &["verify", "--run", "--check", "x"],
        &["verify", "--run", "--key", "x"],
        &["verify", "--run", "--node"],
        &["verify", "--run", "--pod", "a/b"],
        &["verify", "--node", "--user", "x"],
        &["verify", "--check", "x", "--report", "y"],
    ] {
        let words = ["eks-guard"].iter().chain(line);
        assert!(Cli::try_parse_from(words).is_err(), "{line:?}");
    }
}
