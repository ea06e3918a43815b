//! What refusals say: what was refused, by which rule, and the smallest change that would allow it.

use crate::policy::compile::{RuleEntry, Snapshot};
use crate::policy::condition;
use crate::policy::document::{Effect, Mode, NamespaceScope, RuleScope};
use crate::policy::evidence::Evidence;
use crate::policy::judge::Ground;
use crate::policy::known::{KnownResource, Scope};
use crate::policy::matching::Dimension;
use crate::policy::notation::{self, Quoted};
use crate::policy::operation::{Extent, Operation, ResourceTarget, Target};
use crate::policy::protection::{SECRETS_LABEL, is_secret};
use crate::reason::Reason;
use crate::request_info::Verb;

/// Reason code and rule of a refusal.
pub(crate) fn reason(ground: Ground<'_>) -> (Reason, Option<String>) {
    match ground {
        Ground::Protected(protection) => (protection.reason(), Some(protection.label().to_owned())),
        Ground::Restricted(rule) => {
            let reason = match rule.effect {
                Effect::RequireApproval => Reason::ApprovalRequired,
                Effect::Mask => Reason::MaskingRequired,
                // An allow rule never restricts; were it to come here, no is the answer.
                Effect::Deny | Effect::Allow => Reason::DeniedByRule,
            };
            (reason, Some(rule.label.to_string()))
        }
        Ground::Secret(_) => (Reason::MaskingRequired, Some(SECRETS_LABEL.to_owned())),
        Ground::Invalid(_) => (Reason::PolicyInvalid, None),
        Ground::Ungranted(rule) => (Reason::GrantRequired, Some(rule.label.to_string())),
        Ground::NothingAllows(_) => (Reason::NoRuleAllows, None),
    }
}

/// The sentence that goes with it.
pub(crate) fn sentence(
    snapshot: &Snapshot,
    operation: &Operation<'_>,
    evidence: &Evidence<'_>,
    ground: Ground<'_>,
) -> String {
    let request = describe(operation);
    let agent = Quoted(&evidence.principal.agent);
    match ground {
        Ground::Protected(protection) => {
            format!("agent {agent} may not {request}: {}", protection.remedy())
        }
        Ground::Restricted(rule) => {
            let what = match rule.effect {
                Effect::Deny | Effect::Allow => "is denied by",
                Effect::RequireApproval => "needs approval, which this version cannot give, because of",
                Effect::Mask => "needs values in the reply masked, which this version cannot do, because of",
            };
            let way_out = way_out(rule, operation);
            let faults = condition::shortcomings(&rule.conditions, operation.verb, evidence);
            let faults = if faults.is_empty() {
                String::new()
            } else {
                format!(" ({})", faults.join("; "))
            };
            format!(
                "agent {agent} may not {request}: it {what} rule {}{faults}{way_out}",
                Quoted(&rule.label)
            )
        }
        Ground::Secret(rule) => format!(
            "agent {agent} may not {request}: rule {} allows it, but replies carry values of Secrets, \
             and this version cannot mask them; only an allow rule with `masking: None` lets them through",
            Quoted(&rule.label)
        ),
        Ground::Invalid(policy) => {
            // Mistakes in a policy may quote it, and it may be about others too.
            let name = Quoted(&policy.name);
            format!(
                "agent {agent} may not {request}: policy {name}, which is about it, cannot be used; an operator finds its \
                 mistakes with `eks-guard policy check`, and everything is refused until they are mended"
            )
        }
        Ground::Ungranted(rule) => format!(
            "agent {agent} may not {request}: rule {} allows it inside a grant only, and there is none; this version \
             cannot give grants",
            Quoted(&rule.label)
        ),
        Ground::NothingAllows(verb) => nothing_allows(snapshot, operation, evidence, verb),
    }
}

/// `delete pods "web-0" in namespace "shop"`.
pub(crate) fn describe(operation: &Operation<'_>) -> String {
    let verb = operation.verb;
    match &operation.target {
        Target::Path(path) => format!("{verb} path {}", Quoted(path)),
        Target::Resource(target) => {
            let name = match target.name {
                Extent::One(name) => format!(" {}", Quoted(name)),
                Extent::Nothing | Extent::Many => String::new(),
            };
            format!("{verb} {}{name}{}", notation::resource(target), location(target))
        }
    }
}

fn location(target: &ResourceTarget<'_>) -> String {
    // A Namespace object belongs to its own namespace: saying it twice helps nobody.
    if target.group.is_empty() && target.resource == "namespaces" {
        return String::new();
    }
    match target.namespace {
        Extent::Nothing => String::new(),
        Extent::One(namespace) => format!(" in namespace {}", Quoted(namespace)),
        Extent::Many => " in all namespaces".to_owned(),
    }
}

/// How to stay clear of a rule that matched: a narrower request, when the request is only partly inside the rule.
fn way_out(rule: &RuleEntry, operation: &Operation<'_>) -> String {
    let notes = breadth(rule, operation);
    let narrower: Vec<&str> = rule
        .clause
        .partly(operation)
        .filter_map(|dimension| match dimension {
            Dimension::Namespace => Some("one namespace"),
            Dimension::Name => Some("one name"),
            Dimension::Kind | Dimension::Verb | Dimension::Group | Dimension::Resource | Dimension::Path => {
                None
            }
        })
        .collect();
    let notes = if notes.is_empty() {
        String::new()
    } else {
        format!(" ({})", notes.join("; "))
    };
    if narrower.is_empty() {
        format!("{notes}; only a change of that rule can allow it")
    } else {
        format!(
            "{notes}; ask for {} that the rule does not restrict",
            narrower.join(" and ")
        )
    }
}

/// Why a rule that restricts matches a request that does not look like it.
pub(crate) fn breadth(rule: &RuleEntry, operation: &Operation<'_>) -> Vec<String> {
    let Target::Resource(target) = &operation.target else {
        return Vec::new();
    };
    let RuleScope::Resources(scope) = &rule.clause.scope else {
        return Vec::new();
    };
    let verb = operation.verb;
    let explain = |dimension| match dimension {
        Dimension::Verb => Some(format!(
            "a {verb} also does what {} does",
            notation::verbs(rule.clause.verbs, &rule.clause.scope)
        )),
        Dimension::Group => Some("the same objects are in another apiGroup too".to_owned()),
        Dimension::Resource => Some(format!(
            "{} is part of {}",
            notation::resource(target),
            notation::patterns(&scope.resources)
        )),
        Dimension::Namespace => Some(format!(
            "the request reaches namespace {} among others",
            notation::namespaces(&scope.namespaces)
        )),
        Dimension::Name => Some(format!(
            "the request may reach name {} among others",
            notation::names(&scope.resource_names)
        )),
        Dimension::Kind | Dimension::Path => None,
    };
    rule.clause.partly(operation).filter_map(explain).collect()
}

fn nothing_allows(
    snapshot: &Snapshot,
    operation: &Operation<'_>,
    evidence: &Evidence<'_>,
    verb: Verb,
) -> String {
    let principal = evidence.principal;
    let agent = Quoted(&principal.agent);
    let request = describe(operation);
    if is_secret(operation) {
        return format!(
            "agent {agent} may not {request}: no rule allows it: replies carry values of Secrets, this version cannot mask \
             them, and only an allow rule with `masking: None` lets them through"
        );
    }
    let needed = Operation { verb, ..*operation };
    let rule = smallest_rule(&needed);
    let because = if verb == operation.verb {
        String::new()
    } else {
        format!(" with verb {verb}, which it needs because it creates the object when there is none")
    };
    if snapshot.selected_by(principal).next().is_none() {
        return format!(
            "agent {agent} may not {request}: no policy selects agent {agent}; list it in spec.subjects.agents of a \
             policy with an allow rule for {rule}"
        );
    }
    let closest = closest_rule(snapshot, &needed, evidence).map_or(String::new(), |(rule, difference)| {
        format!("; closest is rule {}, but {difference}", Quoted(&rule.label))
    });
    format!(
        "agent {agent} may not {request}: no rule allows it{because}; an allow rule for {rule} would{closest}"
    )
}

/// The narrowest rule that covers the request, ready to be pasted.
pub(crate) fn smallest_rule(operation: &Operation<'_>) -> String {
    let verb = operation.verb;
    let target = match &operation.target {
        Target::Path(path) => {
            return format!("{{verbs: [{verb}], nonResourceURLs: [{}]}}", notation::item(path));
        }
        Target::Resource(target) => target,
    };
    let part = if target.subresource.is_empty() { "" } else { "/" };
    let resource = format!("{}{part}{}", target.resource, target.subresource);
    let mut rule = format!(
        "{{verbs: [{verb}], apiGroups: [{}], resources: [{}]",
        notation::item(target.group),
        notation::item(&resource)
    );
    let known_cluster =
        KnownResource::find(target.group, target.resource).is_some_and(|known| known.scope == Scope::Cluster);
    match target.namespace {
        Extent::One(namespace) => rule += &format!(", namespaces: [{}]", notation::item(namespace)),
        Extent::Nothing | Extent::Many if known_cluster => {}
        Extent::Nothing | Extent::Many => rule += ", namespaces: [\"*\"]",
    }
    if let Extent::One(name) = target.name {
        rule += &format!(", resourceNames: [{}]", notation::item(name));
    }
    rule + "}"
}

/// An allow rule for this agent that differs in one thing only, or in its conditions.
fn closest_rule<'a>(
    snapshot: &'a Snapshot,
    operation: &Operation<'_>,
    evidence: &Evidence<'_>,
) -> Option<(&'a RuleEntry, String)> {
    let allowing = snapshot
        .rules()
        .iter()
        .filter(|rule| rule.effect == Effect::Allow && rule.origin.is_some() && rule.mode == Mode::Enforce);
    allowing
        .filter(|rule| snapshot.selects(rule, evidence.principal))
        .find_map(|rule| {
            let mut mismatches = rule.clause.mismatches(operation);
            match (mismatches.next(), mismatches.next()) {
                (Some(Dimension::Kind), _) => None,
                (Some(only), None) => Some((rule, difference(rule, only, operation))),
                (None, _) if !rule.conditions.is_empty() => {
                    let conditions = condition::shortcomings(&rule.conditions, operation.verb, evidence);
                    Some((rule, conditions.join("; ")))
                }
                (Some(_) | None, _) => None,
            }
        })
}

/// One difference between a rule and a request, in words.
pub(crate) fn difference(rule: &RuleEntry, dimension: Dimension, operation: &Operation<'_>) -> String {
    let what = dimension.as_str();
    if dimension == Dimension::Verb {
        let verbs = notation::verbs(rule.clause.verbs, &rule.clause.scope);
        return format!("{what} {} is not in {verbs}", operation.verb);
    }
    match (&rule.clause.scope, &operation.target) {
        (RuleScope::Resources(scope), Target::Resource(target)) => match dimension {
            Dimension::Group => {
                format!(
                    "{what} {} is not in {}",
                    Quoted(target.group),
                    notation::names(&scope.groups)
                )
            }
            Dimension::Resource => {
                let patterns = notation::patterns(&scope.resources);
                format!("{what} {} is not in {patterns}", notation::resource(target))
            }
            Dimension::Namespace => {
                let unknown = match (&scope.namespaces, target.namespace, target.namespace_labels) {
                    (NamespaceScope::Selected(_), Extent::One(_), None) => ", as far as its labels are known",
                    (_, _, _) => "",
                };
                let namespaces = notation::namespaces(&scope.namespaces);
                format!("{}{unknown}", outside(what, target.namespace, &namespaces))
            }
            Dimension::Name => outside(what, target.name, &notation::names(&scope.resource_names)),
            Dimension::Kind | Dimension::Verb | Dimension::Path => format!("the {what} differs"),
        },
        (RuleScope::Paths(patterns), Target::Path(path)) => {
            format!("{what} {} is not in {}", Quoted(path), notation::paths(patterns))
        }
        (RuleScope::Resources(_), Target::Path(_)) => "the rule is about objects, not paths".to_owned(),
        (RuleScope::Paths(_), Target::Resource(_)) => "the rule is about paths, not objects".to_owned(),
    }
}

fn outside(what: &str, extent: Extent<'_>, names: &str) -> String {
    match extent {
        Extent::Nothing => format!("the object is in no {what}, and the rule is limited to {names}"),
        Extent::One(name) => format!("{what} {} is not in {names}", Quoted(name)),
        Extent::Many => {
            format!("the request is not limited to one {what}, and the rule is limited to {names}")
        }
    }
}
