//! The path: strict segments, and what kube-apiserver reads out of them.

use std::borrow::Cow;

use crate::reason::{Reason, Refusal};
use crate::request_info::escape::{self, shown};
use crate::request_info::segment::{self, MAX_SEGMENTS, check_namespace, check_token};
use crate::request_info::{Method, ResourceInfo, malformed};

/// What a path addresses, and its canonical form.
#[derive(Debug)]
pub(super) struct Route {
    /// Canonical, percent-encoded; generated from `target`, never copied.
    pub(super) path: String,
    /// What it addresses.
    pub(super) target: Target,
}

/// What a path addresses before the query has its say.
#[derive(Debug)]
pub(super) enum Target {
    /// A resource.
    Resource(ResourceInfo),
    /// `/watch/…`: a collection to follow. The name, when there is one, becomes a field selector.
    LegacyWatch(ResourceInfo),
    /// Any other path, decoded.
    NonResource(String),
}

impl Route {
    /// Reads a raw path.
    pub(super) fn parse(method: Method, raw: &str) -> Result<Self, Refusal> {
        let segments = segment::split(raw)?;
        let Some(address) = Address::of(&segments) else {
            return Self::plain(&segments);
        };
        address.check()?;
        let (prefix, parts) = address.special_prefix(method)?;
        let (namespace, parts) = namespace(parts)?;
        check_parts(method, prefix, namespace, parts)?;

        let part = |at: usize| parts.get(at).map_or("", AsRef::as_ref).to_owned();
        let resource = ResourceInfo {
            group: address.group.to_owned(),
            version: address.version.to_owned(),
            namespace: namespace.to_owned(),
            resource: part(0),
            name: part(1),
            subresource: part(2),
        };
        let mut path = address.base();
        if prefix == Prefix::Watch {
            // The form that replaces it is the collection; namespaces themselves are at cluster scope there.
            let mut resource = resource;
            if resource.resource == "namespaces" {
                resource.namespace.clear();
            }
            push_namespace(&mut path, &resource.namespace);
            escape::push_segment(&mut path, &resource.resource);
            return Ok(Self {
                path,
                target: Target::LegacyWatch(resource),
            });
        }
        if resource.resource != "namespaces" {
            push_namespace(&mut path, namespace);
        }
        for part in parts {
            escape::push_segment(&mut path, part);
        }
        Ok(Self {
            path,
            target: Target::Resource(resource),
        })
    }

    fn plain(segments: &[Cow<'_, str>]) -> Result<Self, Refusal> {
        if segments.len() > MAX_SEGMENTS {
            return Err(segment::too_many_segments());
        }
        let mut path = String::new();
        for segment in segments {
            escape::push_segment(&mut path, segment);
        }
        if path.is_empty() {
            path.push('/');
        }
        Ok(Self {
            path,
            target: Target::NonResource(format!("/{}", segments.join("/"))),
        })
    }
}

/// Special words that may stand between the version and the resource.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Prefix {
    None,
    Watch,
}

/// A path under `/api/{version}` or `/apis/{group}/{version}`; `rest` is never empty.
struct Address<'a> {
    group: &'a str,
    version: &'a str,
    rest: &'a [Cow<'a, str>],
}

impl<'a> Address<'a> {
    fn of(segments: &'a [Cow<'a, str>]) -> Option<Self> {
        let [first, others @ ..] = segments else {
            return None;
        };
        match (first.as_ref(), others) {
            ("api", [version, rest @ ..]) if !rest.is_empty() => Some(Self {
                group: "",
                version,
                rest,
            }),
            ("apis", [group, version, rest @ ..]) if !rest.is_empty() => Some(Self { group, version, rest }),
            _ => None,
        }
    }

    fn check(&self) -> Result<(), Refusal> {
        if !self.group.is_empty() {
            check_token(self.group, "API group")?;
        }
        check_token(self.version, "API version")
    }

    fn special_prefix(&self, method: Method) -> Result<(Prefix, &'a [Cow<'a, str>]), Refusal> {
        let (word, rest) = match self.rest {
            [word, rest @ ..] if word == "watch" || word == "proxy" => (word, rest),
            whole => return Ok((Prefix::None, whole)),
        };
        if word == "proxy" {
            return Err(malformed(
                "the /proxy/ path prefix is not served; address the resource itself",
            ));
        }
        if rest.is_empty() {
            return Err(malformed(
                "the path ends after /watch; name the resource to watch",
            ));
        }
        if method != Method::Get {
            return Err(Refusal::new(
                Reason::MethodNotAllowed,
                format!("a /watch/ path takes GET only, not {method}"),
            ));
        }
        Ok((Prefix::Watch, rest))
    }

    fn base(&self) -> String {
        let mut path = String::with_capacity(128);
        path.push_str(if self.group.is_empty() { "/api" } else { "/apis" });
        if !self.group.is_empty() {
            escape::push_token(&mut path, self.group);
        }
        escape::push_token(&mut path, self.version);
        path
    }
}

/// Splits off `namespaces/{namespace}`, unless the namespace itself is the resource.
fn namespace<'a>(parts: &'a [Cow<'a, str>]) -> Result<(&'a str, &'a [Cow<'a, str>]), Refusal> {
    match parts {
        [first, namespace, rest @ ..] if first == "namespaces" => {
            check_namespace(namespace)?;
            match rest {
                [] => Ok((namespace, parts)),
                [next, ..] if next == "status" || next == "finalize" => Ok((namespace, parts)),
                [next, ..] if next == "namespaces" => Err(malformed(
                    "namespaces do not stand inside a namespace; use /namespaces/NAME",
                )),
                inside => Ok((namespace, inside)),
            }
        }
        whole => Ok(("", whole)),
    }
}

/// Refuses what no route of the API server takes, or what only some of its routes would reinterpret.
fn check_parts(
    method: Method,
    prefix: Prefix,
    namespace: &str,
    parts: &[Cow<'_, str>],
) -> Result<(), Refusal> {
    let resource = parts.first().map_or("", AsRef::as_ref);
    check_token(resource, "resource")?;
    if prefix == Prefix::Watch {
        if parts.len() > 2 {
            return Err(malformed("a subresource cannot be watched; read it with GET"));
        }
        if namespace.is_empty() && (resource == "watch" || resource == "proxy") {
            return Err(malformed(format!("no resource is called {resource}")));
        }
    }
    let subresource = parts.get(2).map_or("", AsRef::as_ref);
    if !subresource.is_empty() {
        check_token(subresource, "subresource")?;
    }
    if parts.len() > 3 && subresource != "proxy" {
        return Err(malformed(format!(
            "the path goes on after subresource {}; the API server would ignore the rest",
            shown(subresource)
        )));
    }
    let takes = match method {
        Method::Get | Method::Delete => true,
        // Custom resources would be created under the body's name, whatever the URL says.
        Method::Post => parts.len() != 2,
        Method::Put | Method::Patch => parts.len() >= 2,
    };
    if takes {
        return Ok(());
    }
    Err(Refusal::new(
        Reason::MethodNotAllowed,
        match method {
            Method::Post => "POST goes to the collection; leave the object's name out of the path".to_owned(),
            Method::Get | Method::Put | Method::Patch | Method::Delete => {
                format!("{method} needs the object's name at the end of the path")
            }
        },
    ))
}

fn push_namespace(path: &mut String, namespace: &str) {
    if !namespace.is_empty() {
        path.push_str("/namespaces");
        escape::push_token(path, namespace);
    }
}
