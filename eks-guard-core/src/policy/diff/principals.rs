//! The principals that two sets of policies can tell apart: one of every class, by which policies select it.

use std::collections::{BTreeMap, BTreeSet};

use crate::policy::diff::DiffError;
use crate::policy::diff::circumstances::by_key;
use crate::policy::document::{AgentPolicy, Names};
use crate::policy::selector::{Known, LabelSelector};
use crate::policy::subjects::Subjects;
use crate::principal::{Labels, PodIdentity, Principal};

/// The most principals, and the most labels, that are gone through.
const MAX_CANDIDATES: usize = 50_000;
/// The most groups, and the most claims, whose every combination is gone through: one principal may have several.
const MAX_TOGETHER: usize = 12;
const OTHER: &str = "eks-guard-any-other";

/// Principals that are selected by the same policies.
#[derive(Clone, Debug)]
pub(super) struct Class {
    /// The agent's name or `*` for those that no policy names, and what else tells it apart.
    pub(super) label: String,
    /// One of them.
    pub(super) principal: Principal,
}

/// One principal of every class.
pub(super) fn classes(policies: &[&AgentPolicy]) -> Result<Vec<Class>, DiffError> {
    let subjects: Vec<&Subjects> = policies.iter().map(|policy| &policy.subjects).collect();
    let mut agents: BTreeSet<String> = BTreeSet::from([OTHER.to_owned()]);
    for names in subjects.iter().map(|subjects| &subjects.agents) {
        agents.extend(listed(Some(names)));
    }
    let surroundings = surroundings(&subjects)?;
    if agents.len().saturating_mul(surroundings.len()) > MAX_CANDIDATES {
        return Err(DiffError::TooMany("subjects"));
    }
    let mut classes = Vec::new();
    for agent in agents {
        // Of one agent, each class once, with the least that makes it one.
        let mut found: BTreeMap<Vec<u8>, Principal> = BTreeMap::new();
        for around in &surroundings {
            let principal = Principal {
                agent: agent.clone(),
                ..around.clone()
            };
            let selected = subjects
                .iter()
                .map(|subjects| match subjects.select(&principal) {
                    Known::No => 0,
                    Known::Yes => 1,
                    Known::Unknown => 2,
                })
                .collect();
            found.entry(selected).or_insert(principal);
        }
        let is_alone = found.len() == 1;
        classes.extend(found.into_values().map(|principal| Class {
            label: label(&principal, is_alone),
            principal,
        }));
    }
    Ok(classes)
}

fn listed(names: Option<&Names>) -> Vec<String> {
    match names {
        Some(Names::Only(names)) => names.iter().map(|name| name.to_string()).collect(),
        Some(Names::Any) | None => Vec::new(),
    }
}

/// Everything that tells principals of one name apart.
fn surroundings(subjects: &[&Subjects]) -> Result<Vec<Principal>, DiffError> {
    let mut namespaces = BTreeSet::from([OTHER.to_owned()]);
    let mut accounts = BTreeSet::from([OTHER.to_owned()]);
    let mut containers: BTreeSet<Option<String>> = BTreeSet::from([None]);
    let mut groups: BTreeSet<String> = BTreeSet::new();
    let mut claims: BTreeSet<(String, String)> = BTreeSet::new();
    let mut selectors = Vec::new();
    for subjects in subjects {
        namespaces.extend(listed(subjects.namespaces.as_ref()));
        for account in listed(subjects.service_accounts.as_ref()) {
            if let Some((namespace, account)) = account.split_once('/') {
                namespaces.insert(namespace.to_owned());
                accounts.insert(account.to_owned());
            }
        }
        containers.extend(listed(subjects.containers.as_ref()).into_iter().map(Some));
        if subjects.containers.is_some() {
            containers.insert(Some(OTHER.to_owned()));
        }
        groups.extend(told_apart(subjects.groups.as_ref()));
        for claim in &subjects.claims {
            let values = told_apart(Some(&claim.values));
            claims.extend(values.into_iter().map(|value| (claim.name.to_string(), value)));
        }
        selectors.extend(subjects.pod_selector.as_ref());
    }
    let labels = label_sets(&selectors)?;
    let (groups, claims) = (sets(groups, "groups")?, sets(claims, "claims")?);
    let factors = [
        namespaces.len(),
        accounts.len(),
        containers.len(),
        groups.len() + 1,
        claims.len() + 1,
        labels.len(),
    ];
    if factors.into_iter().fold(1, usize::saturating_mul) > MAX_CANDIDATES {
        return Err(DiffError::TooMany("subjects"));
    }
    let mut pods = vec![Principal::default()];
    for namespace in &namespaces {
        for service_account in &accounts {
            for container in &containers {
                pods.extend(labels.iter().map(|labels| Principal {
                    pod: Some(PodIdentity {
                        namespace: namespace.clone(),
                        name: String::new(),
                        uid: String::new(),
                        service_account: service_account.clone(),
                        node: String::new(),
                    }),
                    labels: Some(labels.clone()),
                    container: container.clone(),
                    ..Principal::default()
                }));
            }
        }
    }
    Ok(with_identities(&pods, &groups, &claims))
}

/// The values that a list tells apart, and one that is in none where any value will do.
fn told_apart(names: Option<&Names>) -> Vec<String> {
    match names {
        Some(Names::Any) => vec![OTHER.to_owned()],
        listed_or_none => listed(listed_or_none),
    }
}

/// Every set of these, the smallest first; none at all when there is nothing to tell apart.
fn sets<T: Clone>(all: BTreeSet<T>, what: &'static str) -> Result<Vec<Vec<T>>, DiffError> {
    let all: Vec<T> = all.into_iter().collect();
    if all.is_empty() {
        return Ok(Vec::new());
    }
    if all.len() > MAX_TOGETHER {
        return Err(DiffError::TooMany(what));
    }
    let mut masks: Vec<u32> = (0..1 << all.len()).collect();
    masks.sort_by_key(|mask| mask.count_ones());
    let chosen = |mask: u32| {
        let kept = all.iter().enumerate().filter(move |(at, _)| mask >> at & 1 == 1);
        kept.map(|(_, one)| one.clone()).collect()
    };
    Ok(masks.into_iter().map(chosen).collect())
}

/// Each of them without an external identity, and with every one.
fn with_identities(
    pods: &[Principal],
    groups: &[Vec<String>],
    claims: &[Vec<(String, String)>],
) -> Vec<Principal> {
    let mut all = Vec::new();
    for pod in pods {
        for groups in std::iter::once(None).chain(groups.iter().map(Some)) {
            for claims in std::iter::once(None).chain(claims.iter().map(Some)) {
                all.push(Principal {
                    groups: groups.cloned(),
                    claims: claims.map(|pairs| by_name(pairs)),
                    ..pod.clone()
                });
            }
        }
    }
    all
}

fn by_name(pairs: &[(String, String)]) -> BTreeMap<String, Vec<String>> {
    let mut claims: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in pairs {
        claims.entry(name.clone()).or_default().push(value.clone());
    }
    claims
}

/// `my-agent`, and in brackets what tells this class of its agents apart.
fn label(principal: &Principal, is_alone: bool) -> String {
    let agent = if principal.agent == OTHER {
        "*"
    } else {
        &principal.agent
    };
    if is_alone {
        return agent.to_owned();
    }
    let other = |text: &str| {
        if text == OTHER {
            "any other".to_owned()
        } else {
            text.to_owned()
        }
    };
    let mut facts = Vec::new();
    match &principal.pod {
        None => facts.push("outside Kubernetes".to_owned()),
        Some(pod) => {
            facts.push(format!("namespace {}", other(&pod.namespace)));
            facts.push(format!("ServiceAccount {}", other(&pod.service_account)));
        }
    }
    if let Some(labels) = principal.labels.as_ref().filter(|labels| !labels.is_empty()) {
        facts.push(describe_labels(labels));
    }
    facts.extend(
        principal
            .container
            .as_ref()
            .map(|it| format!("container {}", other(it))),
    );
    if let Some(groups) = &principal.groups {
        facts.extend(groups.iter().map(|it| format!("group {}", other(it))));
        facts.extend(groups.is_empty().then(|| "no such group".to_owned()));
    }
    if let Some(claims) = &principal.claims {
        let values = claims
            .iter()
            .flat_map(|(name, values)| values.iter().map(move |it| (name, it)));
        facts.extend(values.map(|(name, it)| format!("claim {name}={}", other(it))));
        facts.extend(claims.is_empty().then(|| "no such claim".to_owned()));
    }
    format!("{agent} ({})", facts.join(", "))
}

/// One set of labels for everything that these selectors can tell apart.
pub(super) fn label_sets(selectors: &[&LabelSelector]) -> Result<Vec<Labels>, DiffError> {
    let by_key = by_key(selectors);
    let factors = by_key.values().map(BTreeSet::len);
    if factors.fold(1, usize::saturating_mul) > MAX_CANDIDATES {
        return Err(DiffError::TooMany("labels"));
    }
    let mut sets = vec![Labels::new()];
    for (key, values) in &by_key {
        let with = |labels: &Labels| {
            let labels = labels.clone();
            values.iter().map(move |value| {
                let mut labels = labels.clone();
                if let Some(value) = value {
                    labels.insert(key.clone(), value.clone());
                }
                labels
            })
        };
        sets = sets.iter().flat_map(with).collect();
    }
    let mut found: BTreeMap<Vec<bool>, Labels> = BTreeMap::new();
    for labels in sets {
        let selected = selectors
            .iter()
            .map(|selector| selector.selects(&labels))
            .collect();
        found.entry(selected).or_insert(labels);
    }
    Ok(found.into_values().collect())
}

/// `labels team=x, env=test`
pub(super) fn describe_labels(labels: &Labels) -> String {
    if labels.is_empty() {
        return "no such labels".to_owned();
    }
    let pairs: Vec<String> = labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    format!("labels {}", pairs.join(", "))
}
