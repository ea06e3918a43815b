//! The `resources` of a rule: patterns, and the mistakes that would make a rule match nothing or everything.

use serde_saphyr::Location;

use crate::policy::document::check::Checker;
use crate::policy::document::wire::At;
use crate::policy::document::{Effect, Names, Part, ResourcePattern};
use crate::policy::known::{KnownResource, Scope};

/// Checks every entry of `resources`.
pub(super) fn patterns(
    checker: &mut Checker<'_>,
    list: &[At<String>],
    groups: Option<&Names>,
) -> Option<Box<[ResourcePattern]>> {
    let found: Vec<Option<ResourcePattern>> =
        list.iter().map(|item| pattern(checker, item, groups)).collect();
    found.into_iter().collect()
}

fn pattern(checker: &mut Checker<'_>, item: &At<String>, groups: Option<&Names>) -> Option<ResourcePattern> {
    let (resource, part) = match item.value.split_once('/') {
        None => (item.value.as_str(), Part::Object),
        Some((resource, "*")) => (resource, Part::Every),
        Some((resource, subresource)) => (resource, Part::Named(subresource.into())),
    };
    if let Part::Named(subresource) = &part
        && !is_segment(subresource)
    {
        let text = &item.value;
        return checker.fail(
            item.referenced,
            format!("{text:?} is not a resource; write `pods/log` or `pods/*`"),
        );
    }
    if resource == "*" {
        return Some(ResourcePattern { resource: None, part });
    }
    spelling(checker, item.referenced, resource)?;
    if let Some(groups) = groups {
        in_some_group(checker, item.referenced, resource, groups)?;
    }
    Some(ResourcePattern {
        resource: Some(resource.into()),
        part,
    })
}

/// The plural name in lower case, and not one of the other names that kubectl takes.
fn spelling(checker: &mut Checker<'_>, at: Location, resource: &str) -> Option<()> {
    let lower = resource.to_ascii_lowercase();
    if let Some((plural, group)) = lower.split_once('.')
        && is_segment(plural)
    {
        let message =
            format!("resource {resource:?} carries its group; write `{plural}`, and {group:?} in apiGroups");
        return checker.fail(at, message);
    }
    let known = KnownResource::named(&lower).filter(|known| known.resource != resource);
    if let Some(known) = known
        && KnownResource::groups_of(resource).next().is_none()
    {
        return checker.fail(
            at,
            format!(
                "resource {resource:?} is not a plural name; write `{}`",
                known.resource
            ),
        );
    }
    if !is_segment(resource) {
        return checker.fail(
            at,
            format!("{resource:?} is not a resource; write its plural name, as in `pods`"),
        );
    }
    Some(())
}

/// A resource of kube-apiserver that none of the groups has: the rule would never match it.
fn in_some_group(checker: &mut Checker<'_>, at: Location, resource: &str, groups: &Names) -> Option<()> {
    let Names::Only(listed) = groups else {
        return Some(());
    };
    let mut homes = KnownResource::groups_of(resource).peekable();
    let Some(first) = homes.peek().copied() else {
        return Some(());
    };
    let closed = listed.iter().all(|group| KnownResource::owns_group(group));
    if !closed || homes.any(|home| groups.contains(home)) {
        return Some(());
    }
    checker.fail(
        at,
        format!("resource {resource:?} is in apiGroup {first:?}; add that to apiGroups"),
    )
}

/// A rule without `namespaces` is about everywhere. An allow rule must say so itself, unless nothing else is possible.
pub(super) fn everywhere(
    checker: &mut Checker<'_>,
    effect: Effect,
    resources: &At<Vec<At<String>>>,
    groups: Option<&Names>,
) -> Option<Names> {
    if effect != Effect::Allow {
        return Some(Names::Any);
    }
    let groups = groups?;
    let namespaced = resources
        .value
        .iter()
        .find(|item| !is_cluster_scoped(&item.value, groups));
    match namespaced {
        None => Some(Names::Any),
        Some(item) => checker.fail(
            item.referenced,
            format!(
                "`namespaces` is missing, and {:?} may be in any; write `namespaces: [my-namespace]`, \
                 or `namespaces: [\"*\"]` for all of them and for objects in none",
                item.value
            ),
        ),
    }
}

fn is_cluster_scoped(text: &str, groups: &Names) -> bool {
    let resource = text.split_once('/').map_or(text, |(resource, _)| resource);
    let Names::Only(groups) = groups else { return false };
    let mut scopes = groups
        .iter()
        .filter(|group| !group.is_empty() || KnownResource::find("", resource).is_some());
    let known = scopes.all(|group| match KnownResource::find(group, resource) {
        Some(known) => known.scope == Scope::Cluster,
        None => KnownResource::owns_group(group),
    });
    known
        && groups
            .iter()
            .any(|group| KnownResource::find(group, resource).is_some())
}

fn is_segment(text: &str) -> bool {
    let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
    text.starts_with(|c: char| c.is_ascii_lowercase()) && text.len() <= 253 && text.chars().all(inside)
}
