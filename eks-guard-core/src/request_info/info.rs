//! RequestInfo: what a request asks for, in the terms that kube-apiserver authorizes on. Its parts are pieces of one owned
//! text, which for a request from the wire is the path it goes upstream with.

use std::fmt;
use std::hash::{Hash, Hasher};

use crate::request_info::Verb;

/// A request as kube-apiserver would understand it. Two are equal when verb and scope are.
#[derive(Clone)]
pub struct RequestInfo {
    /// The Kubernetes verb.
    pub verb: Verb,
    /// What `parts` are pieces of.
    pub(super) text: String,
    pub(super) parts: Parts,
}

/// Resource request or plain path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RequestScope<'a> {
    /// A path under `/api/{version}` or `/apis/{group}/{version}`.
    Resource(ResourceInfo<'a>),
    /// Any other path, decoded: `/version`, `/openapi/v3`.
    NonResource(&'a str),
}

/// The resource that a request is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ResourceInfo<'a> {
    /// API group; empty for the core group.
    pub group: &'a str,
    /// API version, `v1`.
    pub version: &'a str,
    /// Namespace; empty for cluster scope and for all namespaces.
    pub namespace: &'a str,
    /// Plural resource name, `pods`.
    pub resource: &'a str,
    /// Subresource, `log`; empty when there is none.
    pub subresource: &'a str,
    /// Object name; empty for collections and creates. Taken from a `metadata.name` field selector too.
    pub name: &'a str,
}

impl RequestInfo {
    /// A request that nobody sent, known by its terms only.
    #[must_use]
    pub fn new(verb: Verb, scope: RequestScope<'_>) -> Self {
        let mut text = String::new();
        let mut part = |part| Span::push(&mut text, part);
        let parts = match scope {
            RequestScope::NonResource(path) => Parts::NonResource(part(path)),
            RequestScope::Resource(resource) => Parts::Resource(ResourceParts {
                group: part(resource.group),
                version: part(resource.version),
                namespace: part(resource.namespace),
                resource: part(resource.resource),
                subresource: part(resource.subresource),
                name: part(resource.name),
            }),
        };
        Self { verb, text, parts }
    }

    /// What it is about.
    #[must_use]
    pub fn scope(&self) -> RequestScope<'_> {
        match self.parts {
            Parts::Resource(parts) => RequestScope::Resource(parts.of(&self.text)),
            Parts::NonResource(path) => RequestScope::NonResource(path.of(&self.text)),
        }
    }

    /// The resource asked for; `None` for a plain path.
    #[must_use]
    pub fn resource(&self) -> Option<ResourceInfo<'_>> {
        match self.scope() {
            RequestScope::Resource(resource) => Some(resource),
            RequestScope::NonResource(_) => None,
        }
    }
}

impl PartialEq for RequestInfo {
    fn eq(&self, other: &Self) -> bool {
        (self.verb, self.scope()) == (other.verb, other.scope())
    }
}

impl Eq for RequestInfo {}

impl Hash for RequestInfo {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.verb, self.scope()).hash(state);
    }
}

impl fmt::Debug for RequestInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut info = f.debug_struct("RequestInfo");
        info.field("verb", &self.verb);
        info.field("scope", &self.scope()).finish()
    }
}

/// A piece of a text.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    start: usize,
    end: usize,
}

impl Span {
    /// Everything from `start` on, of a text of which this is the end so far.
    pub(super) fn from(start: usize, text: &str) -> Self {
        Self {
            start,
            end: text.len(),
        }
    }

    /// Puts a piece behind a text.
    pub(super) fn push(text: &mut String, piece: &str) -> Self {
        let start = text.len();
        text.push_str(piece);
        Self::from(start, text)
    }

    pub(super) const fn is_empty(self) -> bool {
        self.start == self.end
    }

    pub(super) fn of(self, text: &str) -> &str {
        &text[self.start..self.end]
    }
}

/// Where the scope of a request stands in a text.
#[derive(Clone, Copy, Debug)]
pub(super) enum Parts {
    Resource(ResourceParts),
    NonResource(Span),
}

/// Where each part of a [`ResourceInfo`] stands in a text.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ResourceParts {
    pub(super) group: Span,
    pub(super) version: Span,
    pub(super) namespace: Span,
    pub(super) resource: Span,
    pub(super) subresource: Span,
    pub(super) name: Span,
}

impl ResourceParts {
    fn of(self, text: &str) -> ResourceInfo<'_> {
        ResourceInfo {
            group: self.group.of(text),
            version: self.version.of(text),
            namespace: self.namespace.of(text),
            resource: self.resource.of(text),
            subresource: self.subresource.of(text),
            name: self.name.of(text),
        }
    }
}
