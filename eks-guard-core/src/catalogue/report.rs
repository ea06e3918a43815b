//! What all answers together say: the rows of a report, and whether the boundary holds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::catalogue::kinds::{Boundary, Check};
use crate::catalogue::probe::{Answer, Evidence, Tried, Verdict};
use crate::catalogue::rows;

/// The row that must be redirected, not only blocked: it shows that the guard stands where it should.
const CANARY: &str = "N01";
/// As [`CANARY`], when the API server has no IPv4 address.
const CANARY_V6: &str = "N02";

/// What was found, and on what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Report {
    /// The machine and the programs.
    pub facts: Facts,
    /// What was tried under each profile.
    pub profiles: Vec<ProfileReport>,
}

/// The machine and the programs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Facts {
    /// Release of the kernel, as uname(2) says it.
    pub kernel: String,
    /// Version of eks-guard.
    pub version: String,
    /// Which boundary: `run` or `node`.
    pub boundary: String,
    /// Tags of the kernel programs by name: the first half of the SHA-1 of their instructions, as bpftool(8) shows it.
    pub program_tags: BTreeMap<String, String>,
    /// SHA-256 of what was asked for, hexadecimal: the API server's addresses, context and user.
    pub config_digest: String,
    /// When it began, RFC 3339.
    pub time: String,
    /// What this kernel cannot close, whatever the guard does, one sentence each. It is no failure, but to be known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_closed: Vec<String>,
    /// Layers that did not hold when it began, as the daemon of the node said. Others may hold in their place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<String>,
}

/// What was tried under one profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProfileReport {
    /// The pod, `NAMESPACE/NAME`, where it was a pod's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// Name of the profile.
    pub name: String,
    /// Why it was not tried; such a profile has no rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_offered: Option<String>,
    /// Every row of the catalogue, in its order.
    pub rows: Vec<RowReport>,
}

/// What became of one row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RowReport {
    /// Which row.
    pub id: String,
    /// The route, in words.
    pub route: String,
    /// What closes it.
    pub control: String,
    /// How it was checked.
    pub checked: Checked,
    /// What became of it.
    pub result: Tried,
    /// What that rests on.
    pub evidence: Evidence,
    /// What the same attempt leads to without the boundary, where it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unguarded: Option<Unguarded>,
}

/// The same attempt, made by the same user outside the boundary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unguarded {
    /// What became of it.
    pub result: Tried,
    /// What that rests on.
    pub evidence: Evidence,
}

/// How a row was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Checked {
    /// A process tried it.
    Probe,
    /// It is for somebody to look at.
    Configuration,
    /// A test of the project closes it.
    Elsewhere,
}

impl ProfileReport {
    /// One row for each of the catalogue, from what the probes answered inside and outside. A probe without an answer
    /// could not be run.
    #[must_use]
    pub fn new(boundary: Boundary, name: &str, inside: &[Answer], outside: &[Answer]) -> ProfileReport {
        let rows = rows().map(|row| {
            let closing = row.closing(boundary);
            let (checked, result, evidence, unguarded) = match closing.check {
                Check::Probe => {
                    let unguarded = find(outside, row.id).map(|answer| Unguarded {
                        result: answer.result.clone(),
                        evidence: answer.evidence.clone(),
                    });
                    let (result, evidence) = settle(find(inside, row.id), unguarded.as_ref());
                    (Checked::Probe, result, evidence, unguarded)
                }
                Check::Configuration(look_at) => (
                    Checked::Configuration,
                    not_applicable(look_at),
                    Evidence::default(),
                    None,
                ),
                Check::Elsewhere(test) => {
                    let evidence = Evidence {
                        note: Some(format!("closed by the test {test}")),
                        ..Evidence::default()
                    };
                    let reason = format!("not tried here: the test {test} does");
                    (Checked::Elsewhere, not_applicable(&reason), evidence, None)
                }
            };
            RowReport {
                id: row.id.to_owned(),
                route: row.route.to_owned(),
                control: closing.control.to_owned(),
                checked,
                result,
                evidence,
                unguarded,
            }
        });
        ProfileReport {
            pod: None,
            name: name.to_owned(),
            not_offered: None,
            rows: rows.collect(),
        }
    }

    /// A profile that this boundary does not offer.
    #[must_use]
    pub fn not_offered(name: &str, reason: &str) -> ProfileReport {
        ProfileReport {
            pod: None,
            name: name.to_owned(),
            not_offered: Some(reason.to_owned()),
            rows: Vec::new(),
        }
    }

    /// The same, of this pod.
    #[must_use]
    pub fn of_pod(mut self, pod: &str) -> ProfileReport {
        self.pod = Some(pod.to_owned());
        self
    }

    /// The profile, and the pod where there is one.
    #[must_use]
    pub fn title(&self) -> String {
        match &self.pod {
            Some(pod) => format!("{pod}, {}", self.name),
            None => self.name.clone(),
        }
    }

    /// What speaks against the boundary, one line each.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        if self.not_offered.is_some() {
            return Vec::new();
        }
        let title = self.title();
        let mut problems: Vec<String> = self
            .rows
            .iter()
            .filter_map(|row| match &row.result {
                Tried::NotRun(reason) => Some(format!("{title}: {} could not be run: {reason}", row.id)),
                Tried::Verdict(Verdict::Reached) => {
                    Some(format!("{title}: {} reached: {}", row.id, row.route))
                }
                Tried::Verdict(Verdict::Redirected | Verdict::Blocked | Verdict::NotApplicable(_)) => None,
            })
            .collect();
        let missing = rows().filter(|row| !self.rows.iter().any(|found| found.id == row.id));
        problems.extend(missing.map(|row| format!("{title}: {} is missing", row.id)));
        let redirected = |id: &str| {
            let canary = self.rows.iter().find(|row| row.id == id);
            canary.is_some_and(|row| row.result == Tried::Verdict(Verdict::Redirected))
        };
        if !redirected(CANARY) && !redirected(CANARY_V6) {
            problems.push(format!(
                "{title}: neither {CANARY} nor {CANARY_V6} was redirected: the guard does not stand in the way"
            ));
        }
        problems
    }
}

impl Report {
    /// What speaks against the boundary, one line each; empty when it holds. A report without a profile shows nothing.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let lost = self.facts.lost.iter().map(|layer| format!("layer lost: {layer}"));
        let mut problems: Vec<String> = lost.collect();
        problems.extend(self.profiles.iter().flat_map(ProfileReport::problems));
        if self.profiles.iter().all(|profile| profile.not_offered.is_some()) {
            problems.push("nothing was tried".to_owned());
        }
        problems
    }
}

/// One row or two for each layer: what goes through the guard, what the hooks refuse, what only the packet filter sees, and a
/// connection that only the pod's cable can stop.
pub const CANARIES: [&str; 8] = ["N01", "N02", "N03", "N06", "N10", "N18", "N31", "A01"];

/// What speaks against the boundary in the answers to [`CANARIES`], one line each.
#[must_use]
pub fn canary_problems(boundary: Boundary, answers: &[Answer]) -> Vec<String> {
    let rows = rows().filter(|row| CANARIES.contains(&row.id));
    let tried = rows.filter(|row| row.closing(boundary).check == Check::Probe);
    let mut problems: Vec<String> = tried
        .filter_map(|row| match find(answers, row.id).map(|answer| &answer.result) {
            None => Some(format!("{} could not be run: no answer", row.id)),
            Some(Tried::NotRun(reason)) => Some(format!("{} could not be run: {reason}", row.id)),
            Some(Tried::Verdict(Verdict::Reached)) => Some(format!("{} reached: {}", row.id, row.route)),
            Some(Tried::Verdict(Verdict::Redirected | Verdict::Blocked | Verdict::NotApplicable(_))) => None,
        })
        .collect();
    let redirected = Tried::Verdict(Verdict::Redirected);
    let is_redirected = |id: &str| find(answers, id).is_some_and(|answer| answer.result == redirected);
    if !is_redirected(CANARY) && !is_redirected(CANARY_V6) {
        problems.push(format!("neither {CANARY} nor {CANARY_V6} was redirected"));
    }
    problems
}

fn find<'a>(answers: &'a [Answer], id: &str) -> Option<&'a Answer> {
    answers.iter().find(|answer| answer.id == id)
}

/// A row refused with words that mean "no such thing", outside as well, is no merit of the boundary.
fn settle(inside: Option<&Answer>, outside: Option<&Unguarded>) -> (Tried, Evidence) {
    const UNKNOWN: [&str; 4] = ["EAFNOSUPPORT", "EPROTONOSUPPORT", "ESOCKTNOSUPPORT", "ENOSYS"];
    let Some(inside) = inside else {
        return (
            Tried::NotRun("the probe gave no answer".to_owned()),
            Evidence::default(),
        );
    };
    let errno = outside.and_then(|outside| outside.evidence.errno.as_deref());
    let blocked = Tried::Verdict(Verdict::Blocked);
    let unknown = outside.is_some_and(|outside| outside.result == blocked)
        && errno.is_some_and(|errno| UNKNOWN.contains(&errno));
    match (&inside.result, errno) {
        (Tried::Verdict(Verdict::Blocked), Some(errno)) if unknown => (
            not_applicable(&format!(
                "this kernel does not know it: {errno} without the boundary too"
            )),
            inside.evidence.clone(),
        ),
        (result, _) => (result.clone(), inside.evidence.clone()),
    }
}

fn not_applicable(reason: &str) -> Tried {
    Tried::Verdict(Verdict::NotApplicable(reason.to_owned()))
}
