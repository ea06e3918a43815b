//! The `resources` of a rule: patterns, and the mistakes that would make a rule match nothing or everything.

use serde_saphyr::Location;

use crate::policy::document::check::{Checker, MAX_ENTRIES};
use crate::policy::document::{Effect, Names, Part, ResourcePattern};
use crate::policy::known::{KnownResource, Scope};
use crate::yaml::{At, Field};

/// Checks `resources`, and `subresources` when there are any: then the rule is about every pair.
pub(super) fn patterns(
    checker: &mut Checker<'_>,
    resources: &At<Vec<At<String>>>,
    subresources: &Field<Vec<At<String>>>,
    groups: Option<&Names>,
) -> Option<Box<[ResourcePattern]>> {
    let listed = checker.list(resources, "resources");
    let Some(subresources) = subresources else {
        let found: Vec<Option<ResourcePattern>> = listed?
            .iter()
            .map(|item| pattern(checker, item, groups))
            .collect();
        return found.into_iter().collect();
    };
    let parts = checker.list(subresources, "subresources");
    let (listed, parts) = (listed?, parts?);
    if listed.len() * parts.len() > MAX_ENTRIES {
        return checker.fail(
            subresources.referenced,
            format!("`resources` and `subresources` make more than {MAX_ENTRIES} pairs; split the rule"),
        );
    }
    let resources = plain(checker, listed, groups);
    let parts = if checker.is_star(parts)? {
        Some(vec![Part::Every])
    } else {
        named(checker, parts)
    };
    Some(pairs(&resources?, &parts?))
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
    let resource = plain_name(checker, item.referenced, resource, groups)?;
    Some(ResourcePattern { resource, part })
}

/// `resources` beside `subresources`: names without a slash, or `*`.
fn plain(
    checker: &mut Checker<'_>,
    list: &[At<String>],
    groups: Option<&Names>,
) -> Option<Vec<Option<Box<str>>>> {
    let check = |item: &At<String>| {
        match item.value.split_once('/') {
        None => plain_name(checker, item.referenced, &item.value, groups),
        Some((resource, part)) => checker.fail(
            item.referenced,
            format!(
                "{:?} in a rule that has `subresources`; write `{resource}` here and `{part}` in subresources, or \
                 make two rules of it",
                item.value
            ),
        ),
    }
    };
    let found: Vec<Option<Option<Box<str>>>> = list.iter().map(check).collect();
    found.into_iter().collect()
}

/// `subresources`, unless it is `["*"]`.
fn named(checker: &mut Checker<'_>, list: &[At<String>]) -> Option<Vec<Part>> {
    let check = |item: &At<String>| {
        if is_segment(&item.value) {
            return Some(Part::Named(item.value.as_str().into()));
        }
        checker.fail(
            item.referenced,
            format!("{:?} is not a subresource; write `log` or `scale`", item.value),
        )
    };
    let found: Vec<Option<Part>> = list.iter().map(check).collect();
    found.into_iter().collect()
}

/// Every resource with every part.
fn pairs(resources: &[Option<Box<str>>], parts: &[Part]) -> Box<[ResourcePattern]> {
    let with_parts = |resource: &Option<Box<str>>| {
        let resource = resource.clone();
        parts.iter().map(move |part| ResourcePattern {
            resource: resource.clone(),
            part: part.clone(),
        })
    };
    resources.iter().flat_map(with_parts).collect()
}

/// A resource without its part; the inner `None` is `*`, the outer one a mistake that was noted.
#[allow(
    clippy::option_option,
    reason = "outside: a mistake was noted; inside: any resource"
)]
fn plain_name(
    checker: &mut Checker<'_>,
    at: Location,
    resource: &str,
    groups: Option<&Names>,
) -> Option<Option<Box<str>>> {
    if resource == "*" {
        return Some(None);
    }
    spelling(checker, at, resource)?;
    if let Some(groups) = groups {
        in_some_group(checker, at, resource, groups)?;
    }
    Some(Some(resource.into()))
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
