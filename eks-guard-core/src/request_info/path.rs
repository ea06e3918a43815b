//! The path: strict segments, and what kube-apiserver reads out of them.

use std::borrow::Cow;

use crate::reason::{Reason, Refusal};
use crate::request_info::escape::{self, Place, shown};
use crate::request_info::{Method, ResourceInfo, malformed};

/// Longest path, decoded.
pub(super) const MAX_PATH_BYTES: usize = 2048;

/// Most segments of a path: `/apis/GROUP/VERSION/namespaces/NAMESPACE/RESOURCE/NAME/SUBRESOURCE`.
pub(super) const MAX_SEGMENTS: usize = 8;

/// Most segments where the rest of the path belongs to what is behind a `proxy` subresource.
pub(super) const MAX_PROXY_SEGMENTS: usize = 64;

/// Longest DNS-1123 label.
const MAX_LABEL: usize = 63;

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
        let segments = split(raw)?;
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
            return Err(too_many_segments());
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
            escape::push_segment(&mut path, self.group);
        }
        escape::push_segment(&mut path, self.version);
        path
    }
}

/// Raw path to decoded segments. One trailing slash is dropped, as kube-apiserver would.
fn split(raw: &str) -> Result<Vec<Cow<'_, str>>, Refusal> {
    // Every byte takes three at most when encoded.
    if raw.len() > 3 * MAX_PATH_BYTES {
        return Err(too_long());
    }
    let Some(inner) = raw.strip_prefix('/') else {
        return Err(malformed(format!(
            "the path {} does not begin with /",
            shown(raw)
        )));
    };
    let mut segments = Vec::with_capacity(MAX_SEGMENTS);
    if inner.is_empty() {
        return Ok(segments);
    }
    let mut length = 0;
    for raw_segment in inner.strip_suffix('/').unwrap_or(inner).split('/') {
        let segment = decode_segment(raw_segment)?;
        length += 1 + segment.len();
        if segments.len() == MAX_PROXY_SEGMENTS {
            return Err(too_many_segments());
        }
        segments.push(segment);
    }
    if length > MAX_PATH_BYTES {
        return Err(too_long());
    }
    Ok(segments)
}

fn decode_segment(raw: &str) -> Result<Cow<'_, str>, Refusal> {
    let segment = escape::decode(raw, Place::Segment)
        .map_err(|error| malformed(format!("path segment {} {error}", shown(raw))))?;
    let why = match segment.as_ref() {
        "" => "is empty: two slashes stand side by side",
        "." | ".." => "is a relative path, which nothing here resolves",
        text if text.contains(['/', '%', '\\']) => "holds `/`, `%` or `\\` when decoded",
        _ if raw.contains(['?', '#']) => "holds `?` or `#`, which must be percent-encoded",
        text if text.contains(char::is_control) => "holds a control character",
        _ => return Ok(segment),
    };
    Err(malformed(format!("path segment {} {why}", shown(raw))))
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
        escape::push_segment(path, namespace);
    }
}

/// `[a-z0-9][a-z0-9.-]*`
fn check_token(text: &str, what: &str) -> Result<(), Refusal> {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let begins = bytes.first().is_some_and(|&byte| inner(byte));
    if begins
        && bytes
            .iter()
            .all(|&byte| inner(byte) || byte == b'.' || byte == b'-')
    {
        return Ok(());
    }
    Err(malformed(format!(
        "{} is no {what}: lower-case letters, digits, `.` and `-` only, a letter or digit first",
        shown(text)
    )))
}

/// A DNS-1123 label.
fn check_namespace(text: &str) -> Result<(), Refusal> {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = |byte: Option<&u8>| byte.is_some_and(|&byte| inner(byte));
    let bytes = text.as_bytes();
    if bytes.len() <= MAX_LABEL
        && ends(bytes.first())
        && ends(bytes.last())
        && bytes.iter().all(|&byte| inner(byte) || byte == b'-')
    {
        return Ok(());
    }
    Err(malformed(format!(
        "{} is no namespace: at most {MAX_LABEL} lower-case letters, digits and `-`, none of them `-` at an end",
        shown(text)
    )))
}

fn too_long() -> Refusal {
    malformed(format!("the path is longer than {MAX_PATH_BYTES} bytes"))
}

fn too_many_segments() -> Refusal {
    malformed(format!("the path has more than {MAX_SEGMENTS} segments"))
}
