//! Rules against a brute-force model: requests and rules as sets of single operations over a small universe.
//! Restricting rules must match whenever the sets meet, allow rules only when everything is inside.

use std::collections::BTreeSet;

use crate::policy::document::Effect;
use crate::policy::judge::Judgement;
use crate::policy::matching::Reach;
use crate::policy::operation::{Operation, PatchKind, RESOURCE_VERBS};
use crate::policy::tests::{judge, label, principal, snapshot_of};
use crate::request_info::{RequestInfo, RequestScope, ResourceInfo, Verb};

/// Namespaces and names there are; `c` is in no rule, so it stands for all that rules do not know.
const WORLD: [&str; 3] = ["a", "b", "c"];
/// Group, resource, and whether its objects are in namespaces; `None`: the guard cannot know.
const RESOURCES: [(&str, &str, Option<bool>); 5] = [
    ("", "pods", Some(true)),
    ("apps", "deployments", Some(true)),
    ("", "nodes", Some(false)),
    ("", "namespaces", Some(false)),
    ("example.com", "widgets", None),
];
const SUBRESOURCES: [&str; 3] = ["", "status", "eviction"];

/// One thing done to one object: action, group, resource, subresource, namespace, name.
type Single<'a> = (
    &'static str,
    &'a str,
    &'a str,
    &'a str,
    Option<&'static str>,
    &'static str,
);

/// A rule as data, from which both the document and the model are made.
#[derive(Clone, Debug)]
struct Sketch {
    name: String,
    effect: Effect,
    verbs: Vec<Verb>,
    groups: Option<Vec<&'static str>>,
    resources: Vec<&'static str>,
    subresources: Option<Vec<&'static str>>,
    namespaces: Option<Vec<&'static str>>,
    names: Option<Vec<&'static str>>,
}

#[derive(Clone, Debug)]
struct Ask {
    info: RequestInfo,
    object_name: &'static str,
    patch: PatchKind,
}

impl Sketch {
    fn document(&self) -> String {
        let list = |items: &[&str]| {
            items
                .iter()
                .map(|item| format!("{item:?}"))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let verbs: Vec<&str> = self.verbs.iter().map(|verb| verb.as_str()).collect();
        let mut text = format!(
            "    - {{name: {}, effect: {}, verbs: [{}], apiGroups: [{}], resources: [{}]",
            self.name,
            self.effect,
            list(&verbs),
            list(self.groups.as_deref().unwrap_or(&["*"])),
            list(&self.resources)
        );
        if let Some(subresources) = &self.subresources {
            text += &format!(", subresources: [{}]", list(subresources));
        }
        text += &format!(
            ", namespaces: [{}]",
            list(self.namespaces.as_deref().unwrap_or(&["*"]))
        );
        if let Some(names) = &self.names {
            text += &format!(", resourceNames: [{}]", list(names));
        }
        text + "}\n"
    }

    /// Whether a single operation on an object is what the rule describes; verbs apart.
    fn describes(&self, single: &Single<'_>) -> bool {
        let (_, group, resource, subresource, namespace, name) = single;
        let part_matches = |part: Option<&str>| match part {
            None => subresource.is_empty() || self.effect != Effect::Allow,
            Some("*") => !subresource.is_empty(),
            Some(part) => part == *subresource,
        };
        let resource_matches = self.resources.iter().any(|pattern| {
            let (wanted, part) = pattern
                .split_once('/')
                .map_or((*pattern, None), |(r, p)| (r, Some(p)));
            (wanted == "*" || wanted == *resource)
                && match &self.subresources {
                    None => part_matches(part),
                    Some(parts) => parts.iter().any(|part| part_matches(Some(part))),
                }
        });
        resource_matches
            && self.groups.as_ref().is_none_or(|groups| groups.contains(group))
            && self
                .namespaces
                .as_ref()
                .is_none_or(|them| namespace.is_some_and(|it| them.contains(&it)))
            && self.names.as_ref().is_none_or(|names| names.contains(name))
    }
}

fn actions_named(verb: Verb) -> &'static str {
    match verb {
        Verb::Get => "read",
        Verb::List => "enumerate",
        Verb::Watch => "follow",
        Verb::Create => "create",
        Verb::Update | Verb::Patch => "change",
        Verb::Delete => "remove",
        Verb::DeleteCollection => "remove many",
        Verb::Post | Verb::Put => "none",
    }
}

impl Ask {
    fn resource(&self) -> &ResourceInfo {
        self.info.resource().unwrap()
    }

    /// Verbs that the API server itself may turn the request into.
    fn verbs(&self) -> Vec<Verb> {
        let mut verbs = vec![self.info.verb];
        if self.info.verb == Verb::Patch
            && self.patch == PatchKind::Apply
            && self.resource().subresource.is_empty()
        {
            verbs.push(Verb::Create);
        }
        verbs
    }

    fn actions(&self) -> BTreeSet<&'static str> {
        let mut actions: BTreeSet<&str> = match self.info.verb {
            Verb::Get => ["read"].into(),
            Verb::List => ["read", "enumerate"].into(),
            Verb::Watch => ["read", "enumerate", "follow"].into(),
            Verb::Create => ["create"].into(),
            Verb::Update | Verb::Patch => ["change", "read"].into(),
            Verb::Delete => ["remove", "read"].into(),
            Verb::DeleteCollection => ["remove", "remove many", "read", "enumerate"].into(),
            Verb::Post | Verb::Put => BTreeSet::new(),
        };
        if self.verbs().contains(&Verb::Create) {
            actions.insert("create");
        }
        if self.info.verb == Verb::Create {
            match self.resource().subresource.as_str() {
                "" => {}
                "eviction" => actions.extend(["remove"]),
                _ => actions.extend(["change", "read"]),
            }
        }
        actions
    }

    /// Every object that may be meant.
    fn objects(&self) -> Vec<(Option<&'static str>, &'static str)> {
        let resource = self.resource();
        let known = |name: &str| {
            WORLD
                .into_iter()
                .filter(move |it| *it == name)
                .collect::<Vec<_>>()
        };
        let name = if self.object_name.is_empty() {
            resource.name.as_str()
        } else {
            self.object_name
        };
        let names = if name.is_empty() {
            WORLD.to_vec()
        } else {
            known(name)
        };
        if resource.resource == "namespaces" && resource.namespace.is_empty() {
            return names.into_iter().map(|name| (Some(name), name)).collect();
        }
        let scope = RESOURCES.iter().find(|it| it.1 == resource.resource).unwrap().2;
        let collection = matches!(self.info.verb, Verb::List | Verb::Watch | Verb::DeleteCollection);
        let mut namespaces: Vec<Option<&str>> = known(&resource.namespace).into_iter().map(Some).collect();
        if resource.namespace.is_empty() {
            if scope != Some(true) || !collection {
                namespaces.push(None);
            }
            if scope != Some(false) && collection {
                namespaces.extend(WORLD.map(Some));
            }
        }
        namespaces
            .iter()
            .flat_map(|namespace| names.iter().map(|name| (*namespace, *name)))
            .collect()
    }

    fn singles(&self) -> Vec<Single<'_>> {
        let it = self.resource();
        let (group, resource, part) = (it.group.as_str(), it.resource.as_str(), it.subresource.as_str());
        let objects = self.objects();
        let single = |action| {
            objects
                .iter()
                .map(move |(namespace, name)| (action, group, resource, part, *namespace, *name))
        };
        self.actions().into_iter().flat_map(single).collect()
    }
}

fn touches(rule: &Sketch, singles: &[Single<'_>]) -> bool {
    let restricted: Vec<&str> = rule.verbs.iter().map(|verb| actions_named(*verb)).collect();
    singles
        .iter()
        .any(|single| restricted.contains(&single.0) && rule.describes(single))
}

/// Whether allow rules together cover everything, each verb for itself.
fn cover(rules: &[Sketch], verbs: &[Verb], singles: &[Single<'_>]) -> bool {
    let covers = |verb: &Verb, single: &Single<'_>| {
        let allowing = rules
            .iter()
            .filter(|rule| rule.effect == Effect::Allow && rule.verbs.contains(verb));
        allowing.into_iter().any(|rule| rule.describes(single))
    };
    verbs
        .iter()
        .all(|verb| singles.iter().all(|single| covers(verb, single)))
}

/// What the model says: the strongest effect.
fn expected(rules: &[Sketch], verbs: &[Verb], singles: &[Single<'_>]) -> Option<Effect> {
    let restricts = |effect| {
        rules
            .iter()
            .any(|rule| rule.effect == effect && touches(rule, singles))
    };
    [Effect::Deny, Effect::RequireApproval, Effect::Mask]
        .into_iter()
        .find(|effect| restricts(*effect))
        .or_else(|| cover(rules, verbs, singles).then_some(Effect::Allow))
}

/// Every request of the universe.
fn asks() -> Vec<Ask> {
    let mut asks = Vec::new();
    for (group, resource, namespaced) in RESOURCES {
        for subresource in SUBRESOURCES {
            for verb in RESOURCE_VERBS {
                for namespace in ["", "a", "b", "c"] {
                    for name in ["", "a", "b", "c"] {
                        let own = resource == "namespaces" && namespace == name;
                        if !namespace.is_empty() && namespaced == Some(false) && !own {
                            continue;
                        }
                        let by_body = verb == Verb::Create && subresource.is_empty();
                        let info = RequestInfo {
                            verb,
                            scope: RequestScope::Resource(ResourceInfo {
                                group: group.into(),
                                version: "v1".into(),
                                namespace: if by_body && own {
                                    String::new()
                                } else {
                                    namespace.into()
                                },
                                resource: resource.into(),
                                subresource: subresource.into(),
                                name: if by_body { String::new() } else { name.into() },
                            }),
                        };
                        let object_name = if by_body { name } else { "" };
                        let all = [PatchKind::Existing, PatchKind::Apply];
                        let patches = if verb == Verb::Patch { &all[..] } else { &all[..1] };
                        for patch in patches.iter().copied() {
                            asks.push(Ask {
                                info: info.clone(),
                                object_name,
                                patch,
                            });
                        }
                    }
                }
            }
        }
    }
    asks
}

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }

    fn pick<T: Clone>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())].clone()
    }

    fn some_verbs(&mut self) -> Vec<Verb> {
        let verbs: Vec<Verb> = RESOURCE_VERBS
            .into_iter()
            .filter(|_| self.below(3) == 0)
            .collect();
        if verbs.is_empty() { vec![Verb::Get] } else { verbs }
    }

    fn rule(&mut self, number: usize) -> Sketch {
        let sets = [None, None, Some(vec!["a"]), Some(vec!["b"]), Some(vec!["a", "b"])];
        let subresources = self.pick(&[
            None,
            None,
            None,
            Some(vec!["status"]),
            Some(vec!["eviction", "log"]),
            Some(vec!["*"]),
        ]);
        let slashes: [&[&str]; 8] = [
            &["*"],
            &["pods"],
            &["pods", "pods/status"],
            &["*/*", "namespaces"],
            &["nodes", "widgets"],
            &["deployments/*", "pods/eviction"],
            &["*/status"],
            &["namespaces", "deployments", "widgets"],
        ];
        let plain: [&[&str]; 4] = [
            &["*"],
            &["pods"],
            &["nodes", "widgets", "pods"],
            &["namespaces", "deployments"],
        ];
        let resources = if subresources.is_some() {
            self.pick(&plain)
        } else {
            self.pick(&slashes)
        };
        let effects = [
            Effect::Allow,
            Effect::Allow,
            Effect::Deny,
            Effect::RequireApproval,
            Effect::Mask,
        ];
        Sketch {
            name: format!("r{number}"),
            effect: self.pick(&effects),
            verbs: self.some_verbs(),
            groups: self.pick(&[
                None,
                None,
                Some(vec!["", "apps", "example.com"]),
                Some(vec!["example.com"]),
            ]),
            resources: resources.to_vec(),
            subresources,
            namespaces: self.pick(&sets),
            names: self.pick(&sets),
        }
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            let other = self.below(end + 1);
            items.swap(end, other);
        }
    }
}

/// The rules dealt out over policies that all select agent `a`.
fn documents(rules: &[Sketch], policies: usize) -> Vec<String> {
    (0..policies)
        .filter_map(|policy| {
            let mine = rules
                .iter()
                .enumerate()
                .filter(|(number, _)| number % policies == policy);
            let mine: String = mine.map(|(_, rule)| rule.document()).collect();
            let head = crate::policy::tests::policy(&format!("p{policy}"), &[]);
            (!mine.is_empty()).then(|| head + &mine)
        })
        .collect()
}

fn effect_of(judgement: Judgement<'_>) -> Option<Effect> {
    use crate::policy::judge::Ground;
    match judgement {
        Judgement::Allow(_) => Some(Effect::Allow),
        Judgement::Refuse(Ground::Restricted(rule)) => Some(rule.effect),
        Judgement::Refuse(Ground::NothingAllows(_)) => None,
        Judgement::Open(..) | Judgement::Refuse(Ground::Protected(_) | Ground::Secret(_)) => {
            panic!("outside the universe")
        }
    }
}

#[test]
fn decisions_equal_the_model() {
    let asks: Vec<Ask> = asks().into_iter().filter(|ask| !is_guarded(ask)).collect();
    let prepared: Vec<_> = asks.iter().map(|ask| (ask, ask.verbs(), ask.singles())).collect();
    let mut dice = Dice(1);
    for round in 0..100 {
        let rules: Vec<Sketch> = (0..1 + round % 5).map(|number| dice.rule(number)).collect();
        let snapshot = snapshot_of(&documents(&rules, 1 + round % 2));
        for (ask, verbs, singles) in &prepared {
            let operation = Operation::new(&ask.info, ask.object_name, ask.patch);
            let found = effect_of(judge(&snapshot, &operation));
            let expected = expected(&rules, verbs, singles);
            // A list of Namespace objects is a set of (namespace, name) pairs that are equal: a rule that restricts
            // namespace a and name b is taken to touch it, which is too strict and therefore right.
            let pairs = ask.resource().resource == "namespaces" && operation_is_broad(ask);
            let agrees = found == expected || (pairs && stricter(found, expected));
            assert!(agrees, "found {found:?}, model {expected:?}\n{ask:?}\n{rules:#?}");
        }
    }
}

fn operation_is_broad(ask: &Ask) -> bool {
    ask.objects().len() > 1
}

fn stricter(found: Option<Effect>, expected: Option<Effect>) -> bool {
    let strength = |effect: Option<Effect>| match effect {
        Some(Effect::Deny) => 0,
        Some(Effect::RequireApproval) => 1,
        Some(Effect::Mask) => 2,
        None => 3,
        Some(Effect::Allow) => 4,
    };
    strength(found) < strength(expected)
}

/// Writes that reach all namespaces reach the guard's own: protection decides, not rules.
fn is_guarded(ask: &Ask) -> bool {
    crate::policy::protection::Protection::of(&Operation::new(&ask.info, ask.object_name, ask.patch))
        .is_some()
}

#[test]
fn order_of_policies_and_rules_does_not_matter_and_the_index_leaves_nothing_out() {
    let asks: Vec<Ask> = asks().into_iter().step_by(7).collect();
    let (mut dice, agent) = (Dice(2), principal("a"));
    for _ in 0..40 {
        let mut rules: Vec<Sketch> = (0..6).map(|number| dice.rule(number)).collect();
        let mut files = documents(&rules, 2);
        let before = snapshot_of(&files);
        dice.shuffle(&mut files);
        let policies = snapshot_of(&files);
        dice.shuffle(&mut rules);
        let single = snapshot_of(&documents(&rules, 1));
        rules.reverse();
        let reversed = snapshot_of(&documents(&rules, 1));
        for ask in &asks {
            let operation = Operation::new(&ask.info, ask.object_name, ask.patch);
            let judge = |it: &crate::policy::Snapshot| label(judge(it, &operation));
            assert_eq!(judge(&before), judge(&policies));
            assert_eq!(judge(&single), judge(&reversed));
            assert_eq!(
                effect_or_protection(&before, &operation),
                effect_or_protection(&single, &operation)
            );
            for step in operation.each_verb() {
                let found = [Reach::Touches, Reach::Covers]
                    .into_iter()
                    .flat_map(|reach| single.candidates(&agent, &step, reach));
                let indexed = found.filter(|rule| rule.clause.matches(&step));
                let all = single.rules().iter().filter(|rule| rule.clause.matches(&step));
                assert!(
                    indexed.map(|rule| &rule.label).eq(all.map(|rule| &rule.label)),
                    "{ask:?}"
                );
            }
        }
    }
}

fn effect_or_protection(snapshot: &crate::policy::Snapshot, operation: &Operation<'_>) -> String {
    let text = label(judge(snapshot, operation));
    text.split(' ').next().unwrap_or_default().to_owned()
}
