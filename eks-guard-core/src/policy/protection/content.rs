//! Compiled-in rules about what a request writes. A new object is judged by itself; a change by what the object is before
//! and after it, so that what was there and stays as it is is nobody's doing. Most changes come nowhere near, which their
//! text shows; for the others the objects are looked at.

mod places;

use crate::body::json::View;
use crate::policy::evidence::Evidence;
use crate::policy::facts::Fact;
use crate::policy::look::Wanted;
use crate::policy::protection::Protection;
use crate::request_info::{ApiRequest, ResourceInfo, Verb};

use places::{Kind, Place};

/// What stands in every label and annotation of the guard.
const GUARD: &str = "eks-guard.dev";
/// Content types of patches that are not merged member by member.
const JSON_PATCH: &str = "application/json-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

/// What is known of what a request writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Nothing that is protected.
    Clean,
    /// Something that no policy allows.
    Refused(Protection),
    /// That depends on objects.
    Open(Protection, Wanted),
}

/// Judges what a request writes, as far as it can be known.
pub(crate) fn of(evidence: &Evidence<'_>) -> Content {
    let Some(resource) = evidence.info.resource() else {
        return Content::Clean;
    };
    let kind = Kind::of(resource);
    match evidence.info.verb {
        Verb::Create => of_new(kind, evidence),
        Verb::Update | Verb::Patch => of_change(kind, resource, evidence),
        Verb::Delete if kind.names_agents && resource.subresource.is_empty() => of_removal(evidence),
        Verb::DeleteCollection if kind.names_agents => Content::Refused(Protection::Label),
        Verb::Get
        | Verb::List
        | Verb::Watch
        | Verb::Delete
        | Verb::DeleteCollection
        | Verb::Post
        | Verb::Put
        | Verb::Connect => Content::Clean,
    }
}

fn of_new(kind: Kind, evidence: &Evidence<'_>) -> Content {
    let Some(request) = evidence.request.filter(|request| request.body().is_some()) else {
        return Content::Clean;
    };
    if kind.places.is_empty() && !mentions_guard(request) {
        return Content::Clean;
    }
    match evidence.object() {
        Fact::Present(object) => verdict(kind.judge(None, object)),
        // A body that is not read is not known to be harmless.
        Fact::Unknown | Fact::Absent => kind.first().map_or(Content::Clean, Content::Refused),
    }
}

fn of_change(kind: Kind, resource: ResourceInfo<'_>, evidence: &Evidence<'_>) -> Content {
    // A Scale holds a number; what else is in it is not kept.
    let Some(request) = evidence.request.filter(|_| resource.subresource != "scale") else {
        return Content::Clean;
    };
    let Some(protection) = near(kind, request) else {
        return Content::Clean;
    };
    match (evidence.old_object(), evidence.object()) {
        (Fact::Present(old), Fact::Present(new)) => verdict(kind.judge(Some(old), new)),
        (Fact::Absent, Fact::Present(new)) => verdict(kind.judge(None, new)),
        (_, _) if evidence.can_be_looked_at() => Content::Open(protection, Wanted::Objects),
        (_, _) => Content::Refused(protection),
    }
}

/// Who removes a Namespace or ServiceAccount can make it anew without its labels.
fn of_removal(evidence: &Evidence<'_>) -> Content {
    match evidence.old_object() {
        Fact::Present(old) if places::guard_members(old).is_empty() => Content::Clean,
        Fact::Present(_) => Content::Refused(Protection::Label),
        Fact::Absent => Content::Clean,
        Fact::Unknown if evidence.request.is_none() => Content::Clean,
        Fact::Unknown => Content::Open(Protection::Label, Wanted::OldObject),
    }
}

fn verdict(found: Option<Protection>) -> Content {
    found.map_or(Content::Clean, Content::Refused)
}

fn mentions_guard(request: &ApiRequest) -> bool {
    // Canonical text escapes nothing that need not be.
    let text = request.body().map_or(&b""[..], |body| body.json());
    std::str::from_utf8(text).is_ok_and(|text| text.contains(GUARD))
}

/// The first protection that a change may come near.
fn near(kind: Kind, request: &ApiRequest) -> Option<Protection> {
    if mentions_guard(request) {
        return Some(Protection::Label);
    }
    let body = request.body()?;
    let (is_whole, view) = (
        request.info().verb == Verb::Update || body.content_type() == APPLY,
        View::of(body.json()),
    );
    let touches = |place: &&Place| match body.content_type() {
        _ if is_whole => true,
        JSON_PATCH => view.items().any(|operation| operates(operation, place)),
        _ => merges(view, place),
    };
    kind.places.iter().find(touches).map(|place| place.protection)
}

/// Whether a merged patch reaches the place. Null and directives reach everything below them.
fn merges(patch: View<'_>, place: &Place) -> bool {
    let mut value = patch;
    for member in place.path {
        if !value.is_object() || is_directed(value) {
            return true;
        }
        match value.get(member) {
            Some(inside) => value = inside,
            None => return false,
        }
    }
    // New labels beside the others take none of the guard's away.
    !place.is_labels() || !value.is_object() || is_directed(value)
}

fn is_directed(value: View<'_>) -> bool {
    value.get("$patch").is_some() || value.get("$retainKeys").is_some()
}

/// Whether an operation of a JSON patch reaches the place: what is in it, or what it is in.
fn operates(operation: View<'_>, place: &Place) -> bool {
    let reaches = |field: &str| {
        let pointer = operation.get(field).and_then(View::text).unwrap_or_default();
        let tokens: Vec<_> = pointer.split('/').skip(1).collect();
        let is_inside = tokens.len() > place.path.len();
        let agrees = place
            .path
            .iter()
            .zip(&tokens)
            .all(|(member, token)| member == token);
        // One label is not the guard's, whose name would have been noticed.
        agrees && !(place.is_labels() && is_inside)
    };
    let is_test = operation.get("op").is_some_and(|op| op.is_text("test"));
    !is_test && (reaches("path") || (operation.get("from").is_some() && reaches("from")))
}
