//! Every row in every profile, decided by the code that decides.

use std::collections::BTreeSet;
use std::time::SystemTime;

use eks_guard_core::policy::{Decision, Facts, Snapshot};

use super::{Default, PROFILES, Profile, Verdict, rows};

/// The rows there have to be, from the survey of leaks and escalations.
const SURVEY: [&str; 40] = [
    "access-rules",
    "admission",
    "admission-configuration",
    "aggregation",
    "api-definitions",
    "aws-rights",
    "bootstrap-tokens",
    "certificate-requests",
    "certificates",
    "cluster-state",
    "configmaps",
    "deputies",
    "discovery",
    "environment",
    "errors-that-echo",
    "events",
    "guard-itself",
    "helm-releases",
    "impersonation",
    "isolation",
    "last-applied",
    "logs",
    "placement",
    "pods-with-credentials",
    "proxies",
    "removal",
    "removal-of-many",
    "reviews",
    "secrets-read",
    "secrets-replies-of-writes",
    "selectors",
    "server-internals",
    "streams",
    "synced-secrets",
    "system-configmaps",
    "tables-and-watches",
    "token-minting",
    "traffic",
    "workloads",
    "workloads-node-access",
];

fn compiled(profile: &Profile) -> Snapshot {
    profile
        .compile()
        .unwrap_or_else(|error| panic!("{}: {error}", profile.name))
}

#[test]
fn every_row_of_the_survey_has_a_case() {
    let rows = rows();
    let ids: BTreeSet<&str> = rows.iter().map(|row| row.id).collect();
    assert_eq!(ids, BTreeSet::from(SURVEY));
    assert_eq!(rows.len(), ids.len(), "a row stands twice");
    for row in &rows {
        assert_ne!(row.asks.is_empty(), row.elsewhere.is_none(), "{}", row.id);
        // Whoever has no grant is not allowed what the default withholds.
        let withheld = |ask: &super::Ask| ask.expect[..3].iter().all(Result::is_err);
        if row.elsewhere.is_none() && row.default != Default::Allow {
            assert!(row.asks.iter().any(withheld), "{}", row.id);
        } else if row.default == Default::Allow {
            assert!(row.asks.iter().any(|ask| ask.expect[0].is_ok()), "{}", row.id);
        }
    }
}

#[test]
fn every_profile_decides_every_row_as_the_survey_says() {
    let mut wrong = Vec::new();
    for (position, profile) in PROFILES.iter().enumerate() {
        let snapshot = compiled(profile);
        for row in rows() {
            for ask in &row.asks {
                let decision = profile.decide(&snapshot, ask, &Facts::at(SystemTime::UNIX_EPOCH));
                let decision = decision.unwrap_or_else(|error| panic!("{}: {error}", row.id));
                let (found, rule) = verdict(decision);
                let named = ask.rule.map(|rule| format!("{}/{rule}", profile.name));
                // A rule that withholds decides in the profiles that have it.
                let other = found.is_err() && (1..3).contains(&position) && named.is_some() && named != rule;
                if found != ask.expect[position] || other {
                    wrong.push(format!(
                        "{} {}: {} {}: {found:?} by {rule:?}, not {:?}",
                        row.id, profile.name, ask.line, ask.body, ask.expect[position]
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

fn verdict(decision: Decision) -> (Verdict, Option<String>) {
    match decision {
        Decision::Permit(permit) => (Ok(()), Some(permit.rule().to_owned())),
        Decision::Refuse(_, refusal) => (Err(refusal.reason), refusal.rule),
        Decision::Look(look) => {
            let (_, refusal) = look.refuse();
            (Err(refusal.reason), refusal.rule)
        }
    }
}

#[test]
fn what_restricts_is_the_same_in_the_profiles_that_write() {
    let [developer, operator] = [PROFILES[1], PROFILES[2]].map(|profile| {
        let (_, restricting) = profile
            .document
            .split_once("# What follows is the same in namespace-developer and operator.")
            .unwrap();
        restricting
    });
    assert!(developer == operator, "the rules that restrict differ");
    assert!(!developer.contains("effect: allow"));
}
