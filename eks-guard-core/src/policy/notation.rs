//! Parts of rules and requests written the way a policy file writes them.

use std::fmt;

use crate::policy::document::{Names, NamespaceScope, Part, PathPattern, ResourcePattern, RuleScope};
use crate::policy::operation::{PATH_VERBS, RESOURCE_VERBS, ResourceTarget, VerbSet};
use crate::policy::selector::{LabelSelector, Operator, Requirement};

/// Text in double quotes, with control characters and quotes escaped.
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// A list item: quoted only where YAML would read something else.
pub(crate) fn item(text: &str) -> String {
    let starts_plainly = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    let plain = text
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "-./_".contains(c));
    let word = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
        .iter()
        .any(|word| text.eq_ignore_ascii_case(word));
    if starts_plainly && plain && !word {
        text.to_owned()
    } else {
        Quoted(text).to_string()
    }
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

/// `[get, list]`
pub(crate) fn verbs(verbs: VerbSet, scope: &RuleScope) -> String {
    if verbs == VerbSet::ALL || verbs == VerbSet::ALL_BUT_CONNECT {
        return "[\"*\"]".to_owned();
    }
    let known: &[_] = match scope {
        RuleScope::Resources(_) => &RESOURCE_VERBS,
        RuleScope::Paths(_) => &PATH_VERBS,
    };
    list(
        known
            .iter()
            .filter(|verb| verbs.contains(**verb))
            .map(ToString::to_string),
    )
}

/// `["", apps]`
pub(crate) fn names(names: &Names) -> String {
    match names {
        Names::Any => "[\"*\"]".to_owned(),
        Names::Only(names) => list(names.iter().map(|name| item(name))),
    }
}

/// `[shop, web]`, or the requirements of a selector: `team in [web], !prod`.
pub(crate) fn namespaces(namespaces: &NamespaceScope) -> String {
    match namespaces {
        NamespaceScope::Named(list) => names(list),
        NamespaceScope::Selected(selector) => format!("those with {}", labels(selector)),
    }
}

fn labels(selector: &LabelSelector) -> String {
    let requirement = |it: &Requirement| {
        let values = |values: &[Box<str>]| list(values.iter().map(|value| item(value)));
        match &it.operator {
            Operator::In(them) => format!("{} in {}", it.key, values(them)),
            Operator::NotIn(them) => format!("{} not in {}", it.key, values(them)),
            Operator::Exists => it.key.to_string(),
            Operator::DoesNotExist => format!("no {}", it.key),
        }
    };
    selector.0.iter().map(requirement).collect::<Vec<_>>().join(", ")
}

/// `[pods, pods/log]`
pub(crate) fn patterns(patterns: &[ResourcePattern]) -> String {
    list(patterns.iter().map(|pattern| {
        let resource = pattern.resource.as_deref().unwrap_or("*");
        match &pattern.part {
            Part::Object => item(resource),
            Part::Named(subresource) => item(&format!("{resource}/{subresource}")),
            Part::Every => item(&format!("{resource}/*")),
        }
    }))
}

/// `[/metrics, "/logs/*"]`
pub(crate) fn paths(patterns: &[PathPattern]) -> String {
    list(patterns.iter().map(|pattern| match pattern {
        PathPattern::Exact(path) => item(path),
        PathPattern::Prefix(prefix) => item(&format!("{prefix}*")),
    }))
}

/// `deployments.apps/scale`
pub(crate) fn resource(target: &ResourceTarget<'_>) -> String {
    let dot = if target.group.is_empty() { "" } else { "." };
    let slash = if target.subresource.is_empty() { "" } else { "/" };
    format!(
        "{}{dot}{}{slash}{}",
        target.resource, target.group, target.subresource
    )
}
