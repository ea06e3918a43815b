//! `SelfSubjectRulesReview`: the cluster's rules for the guard's credential, with what the guard refuses taken out.
//! Rules of two authorities have no common form in which to subtract, so each resource that is served is asked about.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::discovery::{Discovery, Served};
use crate::policy::compile::RuleEntry;
use crate::policy::document::{Effect, JustInTime, Mode, Names, PathPattern, RuleScope};
use crate::policy::operation::{PATH_VERBS, RESOURCE_VERBS};
use crate::policy::review::access::{judge_path, judge_resource};
use crate::policy::review::{Asker, ReviewError};
use crate::request_info::{ResourceInfo, Verb};

/// Names of objects that are asked about one by one; with more the list says that it is incomplete.
const MAX_NAMES: usize = 200;

/// Verbs by what they may be done to.
type Allowed<Key> = BTreeMap<Key, BTreeSet<&'static str>>;

pub(super) fn status(asker: &Asker<'_>, served: &Discovery, answer: &Value) -> Result<Value, ReviewError> {
    let upstream = answer.get("status").ok_or(ReviewError("status"))?;
    let namespace = answer["spec"]["namespace"].as_str().unwrap_or_default();
    let question = Question {
        asker,
        served,
        namespace,
    };
    let cluster_rules = list(upstream, "resourceRules");
    let mut is_complete = upstream["incomplete"].as_bool() != Some(true);
    let mut allowed = Allowed::new();
    for resource in served.served() {
        let rules: Vec<&Value> = cluster_rules
            .iter()
            .filter(|rule| is_about(rule, resource))
            .collect();
        let mut names = question.names(resource, &rules);
        is_complete &= names.len() <= MAX_NAMES;
        names.truncate(MAX_NAMES);
        question.resource(resource, &rules, &names, &mut allowed);
    }
    Ok(json!({
        "resourceRules": resource_rules(allowed),
        "nonResourceRules": path_rules(&question.paths(list(upstream, "nonResourceRules"))),
        "incomplete": !is_complete,
    }))
}

/// Group, resource with its subresource, and name; no name means every one.
type ResourceKey = (String, String, Option<String>);

struct Question<'a> {
    asker: &'a Asker<'a>,
    served: &'a Discovery,
    namespace: &'a str,
}

impl<'a> Question<'a> {
    /// Rules of policies that allow this agent something.
    fn allow_rules(&self) -> impl Iterator<Item = &'a RuleEntry> {
        let Asker {
            snapshot, principal, ..
        } = *self.asker;
        snapshot
            .rules()
            .iter()
            .filter(move |rule| is_given(rule) && snapshot.selects(rule, principal))
    }

    /// Names that the rules of either authority single out.
    fn names(&self, resource: &Served, cluster_rules: &[&Value]) -> Vec<String> {
        let cluster = cluster_rules.iter().flat_map(|rule| texts(rule, "resourceNames"));
        let own = self
            .allow_rules()
            .filter_map(|rule| match &rule.clause.scope {
                RuleScope::Resources(scope) => Some(scope),
                RuleScope::Paths(_) => None,
            })
            .filter(|scope| {
                scope
                    .resource_keys()
                    .is_none_or(|mut keys| keys.any(|key| key == &*resource.resource))
            })
            .flat_map(|scope| match &scope.resource_names {
                Names::Any => [].iter(),
                Names::Only(names) => names.iter(),
            });
        let names: BTreeSet<&str> = cluster.chain(own.map(|name| &**name)).collect();
        names.into_iter().map(str::to_owned).collect()
    }

    fn resource(
        &self,
        resource: &Served,
        cluster_rules: &[&Value],
        names: &[String],
        allowed: &mut Allowed<ResourceKey>,
    ) {
        let slash = if resource.subresource.is_empty() { "" } else { "/" };
        let shown = format!("{}{slash}{}", resource.resource, resource.subresource);
        let mut info = ResourceInfo {
            group: &resource.group,
            version: "",
            namespace: if resource.is_namespaced {
                self.namespace
            } else {
                ""
            },
            resource: &resource.resource,
            subresource: &resource.subresource,
            name: "",
        };
        for name in std::iter::once(None).chain(names.iter().map(Some)) {
            info.name = name.map_or("", String::as_str);
            for verb in RESOURCE_VERBS
                .into_iter()
                .filter(|verb| resource.verbs.contains(verb))
            {
                let every = (info.group.to_owned(), shown.clone(), None);
                let is_known = allowed
                    .get(&every)
                    .is_some_and(|verbs| verbs.contains(verb.as_str()));
                let in_cluster = cluster_rules
                    .iter()
                    .any(|rule| has(rule, "verbs", verb.as_str()) && has_name(rule, name));
                let may = || judge_resource(self.asker, self.served, verb, info, |_, _, _, _| ()).is_ok();
                if !is_known && in_cluster && may() {
                    let key = (info.group.to_owned(), shown.clone(), name.cloned());
                    allowed.entry(key).or_default().insert(verb.as_str());
                }
            }
        }
    }

    /// Paths that both authorities allow; a pattern that the guard restricts anywhere is left out whole.
    fn paths(&self, cluster_rules: &[Value]) -> Allowed<String> {
        let mut allowed = Allowed::new();
        for rule in cluster_rules {
            for verb in PATH_VERBS
                .into_iter()
                .filter(|verb| has(rule, "verbs", verb.as_str()))
            {
                for pattern in texts(rule, "nonResourceURLs").flat_map(|pattern| self.within(pattern)) {
                    if self.may(verb, &pattern) {
                        allowed
                            .entry(written(&pattern))
                            .or_default()
                            .insert(verb.as_str());
                    }
                }
            }
        }
        allowed
    }

    /// The parts of a pattern of the cluster's that some pattern of the guard's covers.
    fn within(&self, pattern: &str) -> Vec<PathPattern> {
        let Some(prefix) = pattern.strip_suffix('*') else {
            return vec![PathPattern::Exact(pattern.into())];
        };
        let patterns = self.allow_rules().filter_map(|rule| match &rule.clause.scope {
            RuleScope::Paths(patterns) => Some(patterns.iter()),
            RuleScope::Resources(_) => None,
        });
        patterns
            .flatten()
            .filter_map(|own| match own {
                PathPattern::Exact(path) => path.starts_with(prefix).then(|| own.clone()),
                PathPattern::Prefix(start) if start.starts_with(prefix) => Some(own.clone()),
                PathPattern::Prefix(start) => prefix
                    .starts_with(&**start)
                    .then(|| PathPattern::Prefix(prefix.into())),
            })
            .collect()
    }

    fn may(&self, verb: Verb, pattern: &PathPattern) -> bool {
        let (PathPattern::Exact(path) | PathPattern::Prefix(path)) = pattern;
        let restricts = |rule: &RuleEntry| match &rule.clause.scope {
            RuleScope::Paths(patterns) => {
                rule.effect != Effect::Allow
                    && decides(rule)
                    && rule.clause.verbs.contains(verb)
                    && patterns.iter().any(|other| meets(other, pattern))
            }
            RuleScope::Resources(_) => false,
        };
        let Asker {
            snapshot, principal, ..
        } = *self.asker;
        let is_restricted = snapshot
            .rules()
            .iter()
            .any(|rule| restricts(rule) && snapshot.selects(rule, principal));
        !is_restricted && judge_path(self.asker, verb, path, |_, _, _, _| ()).is_ok()
    }
}

/// Whether a rule allows at any time what it covers.
fn is_given(rule: &RuleEntry) -> bool {
    rule.effect == Effect::Allow && decides(rule) && rule.just_in_time == JustInTime::Never
}

fn decides(rule: &RuleEntry) -> bool {
    rule.mode == Mode::Enforce
}

/// Whether a path is in both patterns.
fn meets(one: &PathPattern, other: &PathPattern) -> bool {
    match (one, other) {
        (PathPattern::Exact(one), PathPattern::Exact(other)) => one == other,
        (PathPattern::Prefix(start), PathPattern::Exact(path))
        | (PathPattern::Exact(path), PathPattern::Prefix(start)) => path.starts_with(&**start),
        (PathPattern::Prefix(one), PathPattern::Prefix(other)) => {
            one.starts_with(&**other) || other.starts_with(&**one)
        }
    }
}

fn written(pattern: &PathPattern) -> String {
    match pattern {
        PathPattern::Exact(path) => path.to_string(),
        PathPattern::Prefix(start) => format!("{start}*"),
    }
}

/// Whether a rule of the cluster's (RBAC `PolicyRule`) is about a resource.
fn is_about(rule: &Value, resource: &Served) -> bool {
    let (name, part) = (&*resource.resource, &*resource.subresource);
    let whole = if part.is_empty() {
        name.to_owned()
    } else {
        format!("{name}/{part}")
    };
    let is_any_part = !part.is_empty() && texts(rule, "resources").any(|text| text == format!("*/{part}"));
    has(rule, "apiGroups", &resource.group) && (has(rule, "resources", &whole) || is_any_part)
}

/// Without names a rule is about all of them.
fn has_name(rule: &Value, name: Option<&String>) -> bool {
    let mut names = texts(rule, "resourceNames").peekable();
    names.peek().is_none() || name.is_some_and(|name| names.any(|it| it == name))
}

fn has(rule: &Value, key: &str, text: &str) -> bool {
    texts(rule, key).any(|it| it == "*" || it == text)
}

fn texts<'a>(rule: &'a Value, key: &str) -> impl Iterator<Item = &'a str> {
    list(rule, key).iter().filter_map(Value::as_str)
}

fn list<'a>(object: &'a Value, key: &str) -> &'a [Value] {
    object[key].as_array().map_or(&[], Vec::as_slice)
}

/// One rule for all resources of a group with the same verbs and name.
fn resource_rules(allowed: Allowed<ResourceKey>) -> Vec<Value> {
    let mut grouped: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for ((group, resource, name), verbs) in allowed {
        grouped.entry((group, name, verbs)).or_default().push(resource);
    }
    let rules = grouped.into_iter().map(|((group, name, verbs), resources)| {
        let mut rule = json!({"verbs": verbs, "apiGroups": [group], "resources": resources});
        if let Some(name) = name {
            rule["resourceNames"] = json!([name]);
        }
        rule
    });
    rules.collect()
}

fn path_rules(allowed: &Allowed<String>) -> Vec<Value> {
    let mut grouped: BTreeMap<Vec<&str>, Vec<&str>> = BTreeMap::new();
    for (path, verbs) in allowed {
        let verbs = verbs.iter().copied().collect();
        grouped.entry(verbs).or_default().push(path);
    }
    let rule = |(verbs, paths)| json!({"verbs": verbs, "nonResourceURLs": paths});
    grouped.into_iter().map(rule).collect()
}
