//! The suggested policy allows what was observed, and of a world around it nothing else.

use std::time::SystemTime;

use crate::policy::operation::{RESOURCE_VERBS, STREAMS};
use crate::policy::tests::info;
use crate::policy::{Answer, Call, Facts, ObjectNames, Snapshot, Suggestion, read_policies, suggest};
use crate::principal::Principal;
use crate::reason::Reason;
use crate::request_info::{RequestInfo, RequestScope, ResourceInfo, Verb};

fn calls(texts: &[&str]) -> Vec<Call> {
    let call = |text: &&str| {
        let info = match text.split_once(" /") {
            None => info(text),
            Some((_, path)) => {
                let path = format!("/{path}");
                RequestInfo::new(Verb::Get, RequestScope::NonResource(&path))
            }
        };
        Call { info, count: 2 }
    };
    texts.iter().map(call).collect()
}

fn suggested(texts: &[&str], names: ObjectNames) -> Suggestion {
    suggest("suggested", "a", &calls(texts), names).unwrap_or_else(|error| panic!("{error}"))
}

fn allows(snapshot: &Snapshot, agent: &str, info: &RequestInfo) -> bool {
    let facts = Facts::at(SystemTime::UNIX_EPOCH);
    let answer = snapshot.explain(&Principal::named(agent), info, &facts).answer;
    matches!(answer, Answer::Allowed { .. })
}

fn snapshot(suggestion: &Suggestion) -> Snapshot {
    let policies = read_policies("s", suggestion.document.as_deref().unwrap()).unwrap();
    assert!(policies.iter().all(|policy| policy.warnings().is_empty()));
    Snapshot::compile(&policies, 1).unwrap()
}

const OBSERVED: [&str; 16] = [
    "get -/pods shop web-0",
    "get -/pods shop web-1",
    "list -/pods shop -",
    "watch -/pods shop -",
    "get -/pods/log shop web-0",
    "get apps/deployments shop web",
    "patch apps/deployments shop web",
    "get apps/deployments prod web",
    "patch apps/deployments/scale shop web",
    "create -/configmaps shop c1",
    "create -/configmaps shop -",
    "list -/events - -",
    "get -/nodes - n1",
    "list -/namespaces - -",
    "get -/namespaces - shop",
    "create example.com/widgets shop w1",
];

/// Whether what was observed is at least as much as this: who may list all namespaces may list one.
fn is_covered(info: &RequestInfo, observed: &[Call]) -> bool {
    observed.iter().any(|call| {
        let (Some(asked), Some(seen)) = (info.resource(), call.info.resource()) else {
            return call.info == *info;
        };
        let kind = |of: ResourceInfo<'_>| [of.group, of.resource, of.subresource].map(str::to_owned);
        let namespace = asked.namespace == seen.namespace || seen.namespace.is_empty();
        let many = matches!(info.verb, Verb::List | Verb::Watch | Verb::Create);
        let name = asked.name == seen.name || (many && seen.name.is_empty());
        info.verb == call.info.verb && kind(asked) == kind(seen) && namespace && name
    })
}

fn world() -> Vec<RequestInfo> {
    let mut world = Vec::new();
    let resources = OBSERVED.map(|text| text.split(' ').nth(1).unwrap().replace('-', ""));
    for resource in resources
        .iter()
        .map(String::as_str)
        .chain(["/secrets", "/pods/status", "/pods/exec"])
    {
        let parts: Vec<&str> = resource.split('/').collect();
        for verb in RESOURCE_VERBS {
            let part = parts.get(2).copied().unwrap_or_default();
            let collection = matches!(verb, Verb::List | Verb::Watch | Verb::DeleteCollection);
            if STREAMS.contains(&part) != (verb == Verb::Connect) || (collection && !part.is_empty()) {
                continue;
            }
            for namespace in ["", "shop", "prod", "other"] {
                let is_cluster = ["nodes", "namespaces"].contains(&parts[1]);
                if is_cluster != namespace.is_empty() && !(collection && namespace.is_empty()) {
                    continue;
                }
                for name in ["", "web-0", "web-1", "web", "c1", "n1", "w1", "shop", "else"] {
                    if name.is_empty() && !collection && verb != Verb::Create {
                        continue;
                    }
                    let or = |text: &str| {
                        if text.is_empty() {
                            "-".to_owned()
                        } else {
                            text.to_owned()
                        }
                    };
                    let words = format!(
                        "{verb} {}/{}/{part} {} {}",
                        or(parts[0]),
                        parts[1],
                        or(namespace),
                        or(name)
                    );
                    world.push(info(words.replace("/ ", " ").as_str()));
                }
            }
        }
    }
    world
}

#[test]
fn it_allows_what_was_observed_and_nothing_beyond() {
    let observed = calls(&OBSERVED);
    let suggestion = suggested(&OBSERVED, ObjectNames::Keep);
    assert!(suggestion.withheld.is_empty(), "{suggestion:#?}");
    let snapshot = snapshot(&suggestion);
    for call in &observed {
        assert!(
            allows(&snapshot, "a", &call.info),
            "{:?}\n{:?}",
            call.info,
            suggestion.document
        );
        assert!(!allows(&snapshot, "b", &call.info));
    }
    let world = world();
    assert!(world.len() > 1000, "{}", world.len());
    for info in world {
        let allowed = allows(&snapshot, "a", &info);
        assert_eq!(
            allowed,
            is_covered(&info, &observed),
            "{info:?}\n{}",
            suggestion.document.as_deref().unwrap()
        );
    }
}

#[test]
fn rules_are_few_and_say_how_many_calls_they_cover() {
    let text = suggested(&OBSERVED, ObjectNames::Keep).document.unwrap();
    assert!(text.matches("effect: allow").count() < OBSERVED.len(), "{text}");
    assert!(text.contains("    # 4 calls\n"), "{text}");
    let counted: u64 = text
        .lines()
        .filter_map(|line| {
            line.trim()
                .strip_prefix("# ")?
                .split(' ')
                .next()?
                .parse::<u64>()
                .ok()
        })
        .sum();
    assert_eq!(counted, 2 * OBSERVED.len() as u64);
    let without = suggested(&["get -/pods shop a1", "get -/pods shop a2"], ObjectNames::Drop);
    assert!(!without.document.unwrap().contains("resourceNames"));
}

#[test]
fn what_is_compiled_in_is_named_and_what_needs_no_rule_is_left_out() {
    let suggestion = suggested(
        &[
            "get /version",
            "get /metrics",
            "get -/pods/exec shop web-0",
            "create -/serviceaccounts/token shop robot",
            "get -/secrets shop db",
        ],
        ObjectNames::Keep,
    );
    assert_eq!(suggestion.needless, 2);
    let reasons: Vec<Reason> = suggestion
        .withheld
        .iter()
        .map(|(_, refusal)| refusal.reason)
        .collect();
    assert_eq!(
        reasons,
        [
            Reason::ConnectRefused,
            Reason::SelfProtection,
            Reason::NoRuleAllows
        ]
    );
    let text = suggestion.document.unwrap();
    assert!(
        text.contains("nonResourceURLs: [/metrics]") && !text.contains("secrets"),
        "{text}"
    );
    assert_eq!(suggested(&["get /version"], ObjectNames::Keep).document, None);
}

#[test]
fn odd_names_do_not_break_the_document() {
    let odd = [
        "get -/pods shop yes",
        "get -/pods shop 1e3",
        "get -/configmaps shop a:b",
        "get -/configmaps shop é\"x",
    ];
    let suggestion = suggested(&odd, ObjectNames::Keep);
    let snapshot = snapshot(&suggestion);
    assert!(calls(&odd).iter().all(|call| allows(&snapshot, "a", &call.info)));
}
