//! The catalogue is complete, and a report says what its answers say.

use std::collections::BTreeSet;

use crate::catalogue::probe::{Answer, Evidence, Tried, Verdict};
use crate::catalogue::report::{CANARIES, Facts, ProfileReport, Report, canary_problems};
use crate::catalogue::{Boundary, Check, Row, row, rows};

/// How many rows each family has. A row is never taken out; it may only be closed.
const FAMILIES: [(char, usize); 6] = [('N', 35), ('P', 21), ('L', 17), ('K', 11), ('A', 6), ('X', 8)];

fn answer(id: &str, result: Tried, errno: Option<&str>) -> Answer {
    Answer {
        id: id.to_owned(),
        result,
        evidence: Evidence {
            errno: errno.map(str::to_owned),
            ..Evidence::default()
        },
    }
}

/// The answers of a boundary that holds.
fn closed() -> Vec<Answer> {
    let is_tried = |row: &Row, boundary| row.closing(boundary).check == Check::Probe;
    let probes = rows().filter(|row| is_tried(row, Boundary::Run) || is_tried(row, Boundary::Pod));
    probes
        .map(|row| {
            let verdict = if row.id == "N01" {
                Verdict::Redirected
            } else {
                Verdict::Blocked
            };
            answer(row.id, Tried::Verdict(verdict), None)
        })
        .collect()
}

fn problems(answers: &[Answer]) -> Vec<String> {
    ProfileReport::new(Boundary::Run, "p", answers, &[]).problems()
}

#[test]
fn every_row_is_there_once_and_in_order() {
    let expected = FAMILIES
        .iter()
        .flat_map(|(letter, count)| (1..=*count).map(move |number| format!("{letter}{number:02}")));
    assert!(rows().map(|row| row.id.to_owned()).eq(expected));
    let routes: BTreeSet<&str> = rows().map(|row| row.route).collect();
    assert_eq!(routes.len(), rows().count(), "each row is a route of its own");
    assert!(row("N01").is_some() && row("N99").is_none());
}

#[test]
fn a_report_has_every_row_and_says_how_it_was_checked() {
    let report = ProfileReport::new(Boundary::Run, "p", &closed(), &[]);
    assert!(
        rows()
            .map(|row| row.id)
            .eq(report.rows.iter().map(|row| row.id.as_str()))
    );
    assert_eq!(report.problems(), Vec::<String>::new());
}

#[test]
fn what_is_reached_not_run_or_silent_speaks_against_the_boundary() {
    let with = |result: Tried| {
        let mut answers = closed();
        answers.retain(|answer| answer.id != "P01");
        answers.push(answer("P01", result, None));
        problems(&answers)
    };
    assert_eq!(with(Tried::Verdict(Verdict::Reached)).len(), 1);
    assert_eq!(
        with(Tried::NotRun("a crash".to_owned())),
        ["p: P01 could not be run: a crash"]
    );
    let mut silent = closed();
    silent.retain(|answer| answer.id != "P01");
    assert_eq!(
        problems(&silent),
        ["p: P01 could not be run: the probe gave no answer"]
    );
    let mut cut = ProfileReport::new(Boundary::Run, "p", &closed(), &[]);
    cut.rows.retain(|row| row.id != "X08");
    assert_eq!(cut.problems(), ["p: X08 is missing"]);
}

#[test]
fn a_guard_that_answers_nobody_does_not_pass() {
    let mut answers = closed();
    answers[0].result = Tried::Verdict(Verdict::Blocked);
    assert_eq!(problems(&answers).len(), 1);
    answers[1].result = Tried::Verdict(Verdict::Redirected);
    assert_eq!(answers[1].id, "N02");
    assert_eq!(problems(&answers), Vec::<String>::new());
}

#[test]
fn a_report_of_nothing_does_not_pass() {
    let nothing = Report {
        facts: Facts::default(),
        profiles: vec![ProfileReport::not_offered("p", "no such thing")],
    };
    assert_eq!(nothing.problems(), ["nothing was tried"]);
}

#[test]
fn a_layer_that_is_gone_does_not_pass_although_others_hold() {
    let mut report = Report {
        facts: Facts::default(),
        profiles: vec![ProfileReport::new(Boundary::Pod, "p", &closed(), &[])],
    };
    assert_eq!(report.problems(), [""; 0]);
    report.facts.not_closed.push("of another kernel".to_owned());
    assert_eq!(report.problems(), [""; 0], "it is no failure");
    report.facts.lost.push("program egress is detached".to_owned());
    assert_eq!(report.problems(), ["layer lost: program egress is detached"]);
}

#[test]
fn what_the_kernel_does_not_know_is_not_the_boundarys_merit() {
    let blocked = |errno| [answer("N12", Tried::Verdict(Verdict::Blocked), Some(errno))];
    let result = |outside: &[Answer]| {
        let report = ProfileReport::new(Boundary::Run, "p", &blocked("EPROTONOSUPPORT"), outside);
        let row = report.rows.into_iter().find(|row| row.id == "N12");
        row.map(|row| row.result.word())
    };
    assert_eq!(result(&blocked("EPROTONOSUPPORT")), Some("N/A"));
    assert_eq!(result(&blocked("EPERM")), Some("BLOCKED"));
    let reached = [answer(
        "N12",
        Tried::Verdict(Verdict::Reached),
        Some("EPROTONOSUPPORT"),
    )];
    assert_eq!(result(&reached), Some("BLOCKED"));
}

#[test]
fn canaries_must_all_sing() {
    let of = |answers: &[Answer]| canary_problems(Boundary::Pod, answers);
    assert_eq!(of(&closed()), [""; 0]);
    assert_eq!(of(&[]).len(), CANARIES.len() + 1);
    let mut answers = closed();
    answers.retain(|answer| answer.id != "N18");
    answers.push(answer("N18", Tried::Verdict(Verdict::Reached), None));
    assert_eq!(of(&answers).len(), 1);
    let in_the_nodes_network = canary_problems(Boundary::HostNetworkPod, &answers);
    assert_eq!(in_the_nodes_network, [""; 0], "no cable");
}

#[test]
fn every_row_says_what_closes_it_for_a_pod() {
    for row in rows() {
        for boundary in [Boundary::Pod, Boundary::HostNetworkPod] {
            assert_ne!(row.closing(boundary).control, "nothing", "{}", row.id);
        }
    }
}
