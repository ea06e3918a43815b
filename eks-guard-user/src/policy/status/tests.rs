//! What is said of policies, from what the API server says.

use http::{Method, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::fleet::{Leases, NodeLease, read_lease};
use crate::policy::status::report::Report;
use crate::proxy::upstream::CallError;

fn policy(name: &str, generation: u64, conditions: &[(&str, &str, &str, u64)]) -> Value {
    let conditions = conditions.iter().map(|(kind, status, reason, observed)| {
        json!({
            "type": kind, "status": status, "reason": reason, "observedGeneration": observed,
            "message": format!("{reason}\u{1b}[31m said"),
        })
    });
    json!({
        "metadata": {"name": name, "uid": format!("{name}-0123456789"), "generation": generation},
        "status": {"conditions": conditions.collect::<Vec<_>>(), "nodes": "1/2"},
    })
}

fn node(name: &str, renewed: &str, said: &str) -> NodeLease {
    let lease = json!({
        "metadata": {"name": format!("node-{name}"), "annotations": {"eks-guard.dev/policies": said}},
        "spec": {"renewTime": renewed},
    });
    read_lease(&lease).unwrap()
}

fn report(policies: &[Value], nodes: Vec<NodeLease>) -> (Report, String) {
    let now: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
    let leases = Ok(Leases { nodes, is_cut: false });
    let report = Report::of(policies, &leases, now);
    let text = wide(&report);
    (report, text)
}

fn wide(report: &Report) -> String {
    let mut text = Vec::new();
    report.wide(&mut text).unwrap();
    String::from_utf8(text).unwrap()
}

const FRESH: &str = "2026-01-01T11:59:50.000000Z";
const OLD: &str = "2026-01-01T09:00:00.000000Z";
const GOOD: [(&str, &str, &str, u64); 2] = [
    ("Accepted", "True", "Valid", 2),
    ("Programmed", "True", "Programmed", 2),
];

#[test]
fn a_policy_that_all_nodes_decide_by_is_ready() {
    let (report, text) = report(
        &[policy("shopfloor", 2, &GOOD)],
        vec![node("a", FRESH, "shopfloo:2")],
    );
    assert!(report.is_ready(), "{text}");
    assert_eq!(
        text,
        "POLICY     GENERATION  ACCEPTED  PROGRAMMED  NODES\n\
         shopfloor  2           True      True        1/1\n\
         \n\
         POLICY     NODE  STATE    GENERATION  SAID\n\
         shopfloor  a     Current  2           10s\n"
    );
}

#[test]
fn what_is_wrong_is_said_with_what_to_do() {
    let behind_and_silent = vec![
        node("a", FRESH, "shopfloo:2"),
        node("b", FRESH, "shopfloo:1"),
        node("c", FRESH, ""),
        node("d", OLD, "shopfloo:2"),
        node("e", "never", "shopfloo:2"),
    ];
    let (said, text) = report(&[policy("shopfloor", 2, &GOOD)], behind_and_silent);
    assert!(!said.is_ready());
    for part in [
        "1/5",
        "not every node decides by it: b (generation 1), c (none of it)",
        "nodes have said nothing for 60 s: d (3h ago), e (never)",
        "kubectl delete lease -n eks-guard node-d",
        "e     Silent   2           never",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    for (conditions, cell, next) in [
        (vec![], "Unknown (NotSaid)", "policySource: cluster"),
        (
            GOOD.map(|(kind, status, reason, _)| (kind, status, reason, 1))
                .to_vec(),
            "Unknown (NotSaidYet)",
            "wait a moment",
        ),
        (
            vec![("Accepted", "False", "Invalid", 2), GOOD[1]],
            "False (Invalid)",
            "policy check FILE",
        ),
        (
            vec![("Accepted", "False", "TooManyPolicies", 2), GOOD[1]],
            "(TooManyPolicies)",
            "remove policies",
        ),
        (
            vec![GOOD[0], ("Programmed", "Unknown", "NoNodes", 2)],
            "Unknown (NoNodes)",
            "kubectl get leases",
        ),
    ] {
        let (said, text) = report(&[policy("shopfloor", 2, &conditions)], vec![]);
        assert!(
            !said.is_ready() && text.contains(cell) && text.contains(next),
            "{conditions:?}: {text}"
        );
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }
}

#[test]
fn without_the_leases_the_conditions_are_the_answer() {
    let status = StatusCode::FORBIDDEN;
    let refused = CallError::Status {
        method: Method::GET,
        path: "/leases".to_owned(),
        status,
    };
    let report = Report::of(
        &[policy("shopfloor", 2, &GOOD)],
        &Err(refused),
        Timestamp::UNIX_EPOCH,
    );
    let text = wide(&report);
    assert!(report.is_ready() && text.contains("1/2"), "{text}");
    assert!(
        text.contains("WARNING nodes are not shown: you must be allowed to list leases"),
        "{text}"
    );
    let (none, text) = self::report(&[], vec![]);
    assert!(
        none.is_ready() && text.contains("there are no policies"),
        "{text}"
    );
}

#[test]
fn whatever_stands_there_is_shown() {
    for odd in [
        json!(null),
        json!({"metadata": [], "status": 3}),
        json!({"status": {"conditions": [[]]}}),
    ] {
        let (report, _) = report(&[odd], vec![node("a", FRESH, "shopfloo:2")]);
        assert!(!report.is_ready());
    }
}
