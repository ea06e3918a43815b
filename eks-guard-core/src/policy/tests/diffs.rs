//! What a change newly reaches, held against asking the code that decides about every request of a small world.

use crate::policy::diff::{Difference, Level, diff, level_of};
use crate::policy::operation::{Operation, PatchKind, RESOURCE_VERBS, STREAMS};
use crate::policy::tests::model::Dice;
use crate::policy::tests::{policy, with_evidence};
use crate::policy::{AgentPolicy, Snapshot, read_policies};
use crate::principal::Principal;
use crate::request_info::{RequestInfo, RequestScope, ResourceInfo, Verb};

fn policies(files: &[String]) -> Vec<AgentPolicy> {
    let read =
        |text: &String| read_policies("p.yaml", text).unwrap_or_else(|errors| panic!("{errors:#?}\n{text}"));
    files.iter().flat_map(read).collect()
}

/// Group, resource and subresource, and whether objects are in namespaces; `None`: nobody can know.
const RESOURCES: [(&str, &str, &str, Option<bool>); 13] = [
    ("", "pods", "", Some(true)),
    ("", "pods", "log", Some(true)),
    ("", "pods", "eviction", Some(true)),
    ("", "pods", "exec", Some(true)),
    ("", "configmaps", "", Some(true)),
    ("", "secrets", "", Some(true)),
    ("", "nodes", "", Some(false)),
    ("", "namespaces", "", Some(false)),
    ("apps", "deployments", "", Some(true)),
    ("apps", "deployments", "scale", Some(true)),
    ("apps", "statefulsets", "scale", Some(true)),
    ("example.com", "widgets", "", None),
    ("other.example.com", "gadgets", "status", None),
];
const PATHS: [&str; 7] = [
    "/metrics",
    "/metrics/slis",
    "/logs",
    "/logs/a",
    "/version",
    "/healthz/etcd",
    "/else",
];

/// Every request of the world.
fn world() -> Vec<RequestInfo> {
    let mut world = Vec::new();
    for (group, resource, subresource, namespaced) in RESOURCES {
        for verb in RESOURCE_VERBS {
            let collection = matches!(verb, Verb::List | Verb::Watch | Verb::DeleteCollection);
            let stream = STREAMS.contains(&subresource);
            if stream != (verb == Verb::Connect) || (collection && !subresource.is_empty()) {
                continue;
            }
            for namespace in ["", "shop", "prod", "else"] {
                let fits = match namespaced {
                    Some(true) => !namespace.is_empty() || collection,
                    Some(false) => namespace.is_empty(),
                    None => true,
                };
                for name in ["", "web", "db", "shop", "else"] {
                    let may_be_left_out = collection || (verb == Verb::Create && subresource.is_empty());
                    let named = !name.is_empty() && verb != Verb::DeleteCollection;
                    if fits && (named || (name.is_empty() && may_be_left_out)) {
                        let scope = RequestScope::Resource(ResourceInfo {
                            group,
                            version: "v1",
                            namespace,
                            resource,
                            subresource,
                            name,
                        });
                        world.push(RequestInfo::new(verb, scope));
                    }
                }
            }
        }
    }
    for path in PATHS {
        world.extend(
            [Verb::Get, Verb::Post].map(|verb| RequestInfo::new(verb, RequestScope::NonResource(path))),
        );
    }
    world
}

fn level(snapshot: &Snapshot, who: &Principal, info: &RequestInfo) -> Level {
    let operation = Operation::new(info, "", PatchKind::Existing);
    with_evidence(who, |evidence| level_of(snapshot.judge(&operation, evidence)))
}

/// What a report's list says about a value: the value itself counts most, then what is left out, then `*`.
fn in_list(list: &[String], value: &str) -> bool {
    let says = |text: &str| list.iter().any(|item| item == text);
    let (object, part) = value.split_once('/').unwrap_or((value, ""));
    if says(value) {
        return true;
    }
    let wider = if part.is_empty() || value.starts_with('/') {
        vec!["*".to_owned()]
    } else {
        vec![format!("{object}/*"), format!("*/{part}"), "*/*".to_owned()]
    };
    for wide in wider {
        if says(&format!("!{value}")) || says(&format!("!{wide}")) {
            return false;
        }
        if says(&wide) {
            return true;
        }
    }
    false
}

/// A path is in a list when it is named, or when the longest beginning of it that any list of this diff names is.
fn path_in_list(list: &[String], path: &str, all: &[String]) -> bool {
    if list.iter().any(|item| item == path) {
        return true;
    }
    if all.iter().any(|item| item == path) {
        return false;
    }
    let beginnings = all.iter().filter_map(|item| item.strip_suffix('*'));
    let longest = beginnings
        .filter(|beginning| path.starts_with(beginning))
        .max_by_key(|beginning| beginning.len());
    longest.is_some_and(|it| list.contains(&format!("{it}*")))
}

fn holds(difference: &Difference, who: &str, info: &RequestInfo, paths: &[String]) -> bool {
    let whom = in_list(&difference.subjects, who);
    let verb = in_list(&difference.verbs, info.verb.as_str());
    whom && verb
        && match info.scope() {
            RequestScope::NonResource(path) => {
                difference.api_groups.is_empty() && path_in_list(&difference.resources, path, paths)
            }
            RequestScope::Resource(it) => {
                let slash = if it.subresource.is_empty() { "" } else { "/" };
                let resource = format!("{}{slash}{}", it.resource, it.subresource);
                in_list(&difference.api_groups, it.group)
                    && in_list(&difference.resources, &resource)
                    && in_list(&difference.namespaces, it.namespace)
                    && in_list(&difference.names, it.name)
            }
        }
}

/// Twenty changes: what they are called, the rules before and after.
const CHANGES: [(&str, &[&str], &[&str]); 20] = [
    ("nothing", &[PODS], &[PODS]),
    ("a first rule", &[], &[PODS]),
    ("a rule taken away", &[PODS], &[]),
    (
        "another verb",
        &[PODS],
        &[
            "name: r, effect: allow, verbs: [get, list, delete], apiGroups: [''], resources: [pods], namespaces: [shop]",
        ],
    ),
    (
        "another namespace",
        &[PODS],
        &[
            "name: r, effect: allow, verbs: [get, list], apiGroups: [''], resources: [pods], namespaces: [shop, prod]",
        ],
    ),
    (
        "every namespace",
        &[PODS],
        &[
            "name: r, effect: allow, verbs: [get, list], apiGroups: [''], resources: [pods], namespaces: ['*']",
        ],
    ),
    (
        "every resource",
        &[PODS],
        &[
            "name: r, effect: allow, verbs: [get, list], apiGroups: [''], resources: ['*'], namespaces: [shop]",
        ],
    ),
    (
        "every group",
        &[PODS],
        &[
            "name: r, effect: allow, verbs: [get, list], apiGroups: ['*'], resources: ['*'], namespaces: ['*']",
        ],
    ),
    (
        "every subresource",
        &[PODS],
        &[
            PODS,
            "name: s, effect: allow, verbs: ['*'], apiGroups: ['*'], resources: ['*/*'], namespaces: ['*']",
        ],
    ),
    (
        "names fall away",
        &[
            "name: r, effect: allow, verbs: [get, patch], apiGroups: [apps], resources: [deployments], namespaces: [shop], resourceNames: [web]",
        ],
        &[
            "name: r, effect: allow, verbs: [get, patch], apiGroups: [apps], resources: [deployments], namespaces: [shop]",
        ],
    ),
    (
        "a deny comes",
        &[PODS],
        &[
            PODS,
            "name: d, effect: deny, verbs: [get], apiGroups: [''], resources: [pods], namespaces: [shop], resourceNames: [db]",
        ],
    ),
    (
        "a deny goes",
        &[
            PODS,
            "name: d, effect: deny, verbs: ['*'], apiGroups: ['*'], resources: ['*'], namespaces: [prod, shop]",
        ],
        &[PODS],
    ),
    (
        "a deny gets narrower",
        &[
            ALL,
            "name: d, effect: deny, verbs: ['*'], apiGroups: [''], resources: ['*'], namespaces: [prod]",
        ],
        &[
            ALL,
            "name: d, effect: deny, verbs: ['*'], apiGroups: [''], resources: ['*'], namespaces: [prod], resourceNames: [db]",
        ],
    ),
    (
        "an approval is lifted",
        &[
            ALL,
            "name: a, effect: requireApproval, verbs: [delete], apiGroups: [apps], resources: [deployments]",
        ],
        &[ALL],
    ),
    (
        "a deny becomes an approval",
        &[
            ALL,
            "name: a, effect: deny, verbs: [delete], apiGroups: ['*'], resources: ['*']",
        ],
        &[
            ALL,
            "name: a, effect: requireApproval, verbs: [delete], apiGroups: ['*'], resources: ['*']",
        ],
    ),
    (
        "a mask is lifted",
        &[
            ALL,
            "name: m, effect: mask, verbs: [get], apiGroups: [''], resources: [configmaps, pods]",
        ],
        &[
            ALL,
            "name: m, effect: mask, verbs: [get], apiGroups: [''], resources: [configmaps]",
        ],
    ),
    (
        "Secrets in clear",
        &[ALL],
        &[
            ALL,
            "name: c, effect: allow, verbs: [get], apiGroups: [''], resources: [secrets], namespaces: [shop], resourceNames: [db], masking: None",
        ],
    ),
    (
        "a path",
        &[PODS],
        &[
            PODS,
            "name: p, effect: allow, verbs: [get], nonResourceURLs: [/metrics, '/logs/*']",
        ],
    ),
    (
        "paths are denied",
        &["name: p, effect: allow, verbs: ['*'], nonResourceURLs: ['*']"],
        &[
            "name: p, effect: allow, verbs: ['*'], nonResourceURLs: ['*']",
            "name: q, effect: deny, verbs: ['*'], nonResourceURLs: ['/metrics*', '/healthz/*']",
        ],
    ),
    (
        "custom resources",
        &[PODS],
        &[
            PODS,
            "name: w, effect: allow, verbs: [get, create, list], apiGroups: [example.com], resources: [widgets], namespaces: [shop]",
        ],
    ),
];
const PODS: &str =
    "name: r, effect: allow, verbs: [get, list], apiGroups: [''], resources: [pods], namespaces: [shop]";
const ALL: &str =
    "name: all, effect: allow, verbs: ['*'], apiGroups: ['*'], resources: ['*', '*/*'], namespaces: ['*']";

/// Holds a diff against every request of the world, for the agent that policies name and for another.
fn equals_brute_force(what: &str, old: &[AgentPolicy], new: &[AgentPolicy]) {
    let found = diff(old, new).unwrap();
    let [before, after] = [old, new].map(|it| Snapshot::compile(it, 1).unwrap());
    let all: Vec<&Difference> = found.gained.iter().chain(&found.lost).collect();
    let paths: Vec<String> = crate::policy::diff::paths_named(old, new);
    for who in ["a", "somebody"] {
        let principal = Principal::named(who);
        for info in world() {
            let levels = [&before, &after].map(|it| level(it, &principal, &info));
            let holding: Vec<&&Difference> = all.iter().filter(|it| holds(it, who, &info, &paths)).collect();
            let expected = usize::from(levels[0] != levels[1]);
            assert_eq!(
                holding.len(),
                expected,
                "{what}: {who} {info:?} {levels:?}\n{found:#?}"
            );
            for difference in holding {
                assert_eq!([difference.before, difference.after], levels, "{what}: {info:?}");
            }
        }
    }
    let up = |it: &&Difference| it.after > it.before;
    assert!(
        found.gained.iter().all(|it| up(&it)) && !found.lost.iter().any(|it| up(&it)),
        "{what}"
    );
}

#[test]
fn twenty_changes_reach_what_brute_force_says() {
    for (what, old, new) in CHANGES {
        let [old, new] = [old, new].map(|rules| {
            let files: Vec<String> = (!rules.is_empty())
                .then(|| policy("p", rules))
                .into_iter()
                .collect();
            policies(&files)
        });
        equals_brute_force(what, &old, &new);
        equals_brute_force(what, &new, &old);
    }
}

/// What follows is about agents that several policies select at once, each for another reason.
#[test]
fn who_is_in_two_groups_or_has_two_claims_is_told_apart_from_who_has_one() {
    let of = |name: &str, subjects: &str, effect: &str| {
        format!(
            "apiVersion: eks-guard.dev/v1alpha1\nkind: AgentPolicy\nmetadata: {{name: {name}}}\nspec:\n  subjects: {{agents: \
             [\"*\"], {subjects}}}\n  rules:\n    - {{name: r, effect: {effect}, verbs: [get], apiGroups: [\"\"], resources: \
             [pods], namespaces: [shop]}}\n"
        )
    };
    let cases = [
        (
            "groups: [readers]",
            "groups: [guests]",
            "group guests, group readers",
        ),
        (
            "claims: [{name: team, values: [web]}]",
            "claims: [{name: team, values: [night]}]",
            "claim team=night, claim team=web",
        ),
        (
            "claims: [{name: team, values: [web]}]",
            "claims: [{name: shift, values: [night]}]",
            "claim shift=night, claim team=web",
        ),
    ];
    for (allowed, denied, both) in cases {
        let (allow, deny) = (of("a", allowed, "allow"), of("d", denied, "deny"));
        let found = diff(&policies(&[allow.clone(), deny]), &policies(&[allow])).unwrap();
        let gained: Vec<&String> = found.gained.iter().flat_map(|it| &it.subjects).collect();
        assert!(
            !gained.is_empty(),
            "{allowed} and {denied}: nothing is newly reached"
        );
        assert!(gained.iter().all(|who| who.contains(both)), "{gained:?}");
        assert_eq!(found.lost, []);
    }
}

#[test]
fn the_report_is_short_and_names_what_it_can() {
    let shown = |old: &[&str], new: &[&str]| {
        let [old, new] = [old, new].map(|rules| policies(&[policy("p", rules)]));
        let found = diff(&old, &new).unwrap();
        let line = |it: &Difference| {
            let lists = [
                &it.verbs,
                &it.api_groups,
                &it.resources,
                &it.namespaces,
                &it.names,
                &it.conditions,
            ];
            let lists = lists.map(|list| list.join(","));
            format!(
                "{}→{} {}",
                it.before.as_str(),
                it.after.as_str(),
                lists.join(" | ")
            )
        };
        found.gained.iter().map(line).collect::<Vec<_>>()
    };
    assert_eq!(shown(&[PODS], &[PODS]), [""; 0]);
    assert_eq!(
        shown(&[PODS], CHANGES[4].2),
        ["refused→allowed get,list |  | pods | prod | * | *"]
    );
    let everything =
        "name: e, effect: allow, verbs: [get], apiGroups: [\"*\"], resources: [\"*\"], namespaces: [shop]";
    let found = shown(&[PODS], &[PODS, everything]);
    let groups_without_names = "!storagemigration.k8s.io,* | * | shop | * | *";
    assert!(
        found.iter().any(|it| it.ends_with(groups_without_names)),
        "{found:#?}"
    );
    let few = "name: c, effect: allow, verbs: [create], apiGroups: [apps], resources: [deployments], namespaces: [shop], \
               conditions: [{name: few, expression: object.spec.replicas < 3}]";
    let more = few.replace("< 3", "< 9");
    assert_eq!(
        shown(&[few], &[&more]),
        [
            "refused→allowed create | apps | deployments | shop | * | unless p/c.few (object.spec.replicas < 3) and if p/c.few \
             (object.spec.replicas < 9)"
        ]
    );
    let without = few.split(", conditions").next().unwrap();
    let found = shown(&[few], &[without]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].ends_with("| unless p/c.few (object.spec.replicas < 3)"),
        "{found:?}"
    );
    assert!(shown(&[few], &[few]).is_empty());
}

/// Rules by chance.
fn some_rules(dice: &mut Dice) -> Vec<String> {
    let effects = ["allow", "allow", "allow", "deny", "requireApproval", "mask"];
    let verbs = [
        "['*']",
        "[get, list]",
        "[get]",
        "[create, patch]",
        "[delete, list, watch]",
    ];
    let about = [
        "apiGroups: [''], resources: [pods, pods/log]",
        "apiGroups: ['*'], resources: ['*']",
        "apiGroups: ['*'], resources: ['*/*']",
        "apiGroups: [apps], resources: [deployments, deployments/scale]",
        "apiGroups: [apps], resources: ['*/scale']",
        "apiGroups: [example.com], resources: [widgets]",
        "apiGroups: [''], resources: [secrets, namespaces, configmaps]",
        "apiGroups: ['', apps, example.com], resources: ['*', '*/*']",
    ];
    let namespaces = ["['*']", "[shop]", "[shop, prod]"];
    let names = ["", "", ", resourceNames: [web]", ", resourceNames: [web, db]"];
    (0..1 + dice.below(4))
        .map(|number| {
            format!(
                "name: r{number}, effect: {}, verbs: {}, {}, namespaces: {}{}",
                dice.pick(&effects),
                dice.pick(&verbs),
                dice.pick(&about),
                dice.pick(&namespaces),
                dice.pick(&names)
            )
        })
        .collect()
}

#[test]
fn any_two_policies_differ_as_brute_force_says() {
    let mut dice = Dice(11);
    for round in 0..24 {
        let [old, new] = [(), ()].map(|()| {
            let rules = some_rules(&mut dice);
            let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
            policy("p", &rules)
        });
        let what = format!("round {round}\n{old}\n{new}");
        equals_brute_force(&what, &policies(&[old]), &policies(&[new]));
    }
}
