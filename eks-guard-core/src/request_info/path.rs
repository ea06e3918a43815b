//! The path: strict segments, and what kube-apiserver reads out of them.

use crate::reason::{Reason, Refusal};
use crate::request_info::escape::shown;
use crate::request_info::info::{ResourceParts, Span};
use crate::request_info::segment::{self, MAX_SEGMENTS, Segment};
use crate::request_info::{Method, malformed};

/// Room for nearly every path, so that it is allocated once.
const USUAL_PATH: usize = 128;

/// What a path addresses, and its canonical form.
#[derive(Debug)]
pub(super) struct Route {
    /// The canonical path, percent-encoded and generated from the segments, never copied; behind it what is addressed but
    /// does not stand in it as it is.
    pub(super) text: String,
    /// How much of the text is the path.
    pub(super) path_len: usize,
    /// What it addresses.
    pub(super) target: Target,
}

/// What a path addresses before the query has its say.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target {
    /// A resource.
    Resource(ResourceParts),
    /// `/watch/…`: a collection to follow. The name, when there is one, becomes a field selector.
    LegacyWatch(ResourceParts),
    /// Any other path, decoded.
    NonResource(Span),
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
        Ok(match prefix {
            Prefix::Watch => Self::legacy_watch(&address, namespace, parts),
            Prefix::None => Self::resource(&address, namespace, parts),
        })
    }

    fn resource(address: &Address<'_>, namespace: Option<&Segment<'_>>, parts: &[Segment<'_>]) -> Self {
        let (mut text, mut found) = address.base();
        let is_namespace = is_namespaces(parts);
        if !is_namespace {
            found.namespace = push_namespace(&mut text, namespace);
        }
        let mut spans = [Span::default(); 3];
        for (at, part) in parts.iter().enumerate() {
            let span = part.push_to(&mut text);
            if let Some(place) = spans.get_mut(at) {
                *place = span;
            }
        }
        let path_len = text.len();
        [found.resource, found.name, found.subresource] = spans;
        if let Some(name) = parts.get(1).filter(|name| !name.is_unreserved()) {
            found.name = Span::push(&mut text, name.as_str());
        }
        if is_namespace {
            found.namespace = found.name;
        }
        Self {
            text,
            path_len,
            target: Target::Resource(found),
        }
    }

    /// The form that replaces it is the collection; namespaces themselves are at cluster scope there.
    fn legacy_watch(address: &Address<'_>, namespace: Option<&Segment<'_>>, parts: &[Segment<'_>]) -> Self {
        let (mut text, mut found) = address.base();
        if !is_namespaces(parts) {
            found.namespace = push_namespace(&mut text, namespace);
        }
        if let Some(resource) = parts.first() {
            found.resource = resource.push_to(&mut text);
        }
        let path_len = text.len();
        if let Some(name) = parts.get(1) {
            found.name = Span::push(&mut text, name.as_str());
        }
        Self {
            text,
            path_len,
            target: Target::LegacyWatch(found),
        }
    }

    fn plain(segments: &[Segment<'_>]) -> Result<Self, Refusal> {
        if segments.len() > MAX_SEGMENTS {
            return Err(segment::too_many_segments());
        }
        let mut text = String::with_capacity(USUAL_PATH);
        for segment in segments {
            segment.push_to(&mut text);
        }
        if text.is_empty() {
            text.push('/');
        }
        let path_len = text.len();
        let mut decoded = Span::from(0, &text);
        if !segments.iter().all(Segment::is_unreserved) {
            for segment in segments {
                text.push('/');
                text.push_str(segment.as_str());
            }
            decoded = Span::from(path_len, &text);
        }
        Ok(Self {
            text,
            path_len,
            target: Target::NonResource(decoded),
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
    group: Option<&'a Segment<'a>>,
    version: &'a Segment<'a>,
    rest: &'a [Segment<'a>],
}

impl<'a> Address<'a> {
    fn of(segments: &'a [Segment<'a>]) -> Option<Self> {
        let [first, others @ ..] = segments else {
            return None;
        };
        let (group, others) = match (first.as_str(), others) {
            ("api", whole) => (None, whole),
            ("apis", [group, others @ ..]) => (Some(group), others),
            _ => return None,
        };
        match others {
            [version, rest @ ..] if !rest.is_empty() => Some(Self { group, version, rest }),
            _ => None,
        }
    }

    fn check(&self) -> Result<(), Refusal> {
        if let Some(group) = self.group {
            group.check_token("API group")?;
        }
        self.version.check_token("API version")
    }

    fn special_prefix(&self, method: Method) -> Result<(Prefix, &'a [Segment<'a>]), Refusal> {
        let (word, rest) = match self.rest {
            [word, rest @ ..] if matches!(word.as_str(), "watch" | "proxy") => (word, rest),
            whole => return Ok((Prefix::None, whole)),
        };
        if word.as_str() == "proxy" {
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

    /// The path up to the version.
    fn base(&self) -> (String, ResourceParts) {
        let mut path = String::with_capacity(USUAL_PATH);
        let mut found = ResourceParts::default();
        match self.group {
            None => path.push_str("/api"),
            Some(group) => {
                path.push_str("/apis");
                found.group = group.push_to(&mut path);
            }
        }
        found.version = self.version.push_to(&mut path);
        (path, found)
    }
}

/// Splits off `namespaces/{namespace}`, unless the namespace itself is the resource.
fn namespace<'a>(parts: &'a [Segment<'a>]) -> Result<(Option<&'a Segment<'a>>, &'a [Segment<'a>]), Refusal> {
    match parts {
        [first, namespace, rest @ ..] if first.as_str() == "namespaces" => {
            namespace.check_namespace()?;
            match rest.first().map(Segment::as_str) {
                None | Some("status" | "finalize") => Ok((Some(namespace), parts)),
                Some("namespaces") => Err(malformed(
                    "namespaces do not stand inside a namespace; use /namespaces/NAME",
                )),
                Some(_) => Ok((Some(namespace), rest)),
            }
        }
        whole => Ok((None, whole)),
    }
}

/// Whether namespaces are the resource.
fn is_namespaces(parts: &[Segment<'_>]) -> bool {
    parts.first().is_some_and(|part| part.as_str() == "namespaces")
}

/// Refuses what no route of the API server takes, or what only some of its routes would reinterpret.
fn check_parts(
    method: Method,
    prefix: Prefix,
    namespace: Option<&Segment<'_>>,
    parts: &[Segment<'_>],
) -> Result<(), Refusal> {
    let Some(resource) = parts.first() else {
        return Err(malformed("the path names no resource"));
    };
    resource.check_token("resource")?;
    let resource = resource.as_str();
    if prefix == Prefix::Watch {
        if parts.len() > 2 {
            return Err(malformed("a subresource cannot be watched; read it with GET"));
        }
        if namespace.is_none() && (resource == "watch" || resource == "proxy") {
            return Err(malformed(format!("no resource is called {resource}")));
        }
    }
    if let Some(subresource) = parts.get(2) {
        subresource.check_token("subresource")?;
        if parts.len() > 3 && subresource.as_str() != "proxy" {
            return Err(malformed(format!(
                "the path goes on after subresource {}; the API server would ignore the rest",
                shown(subresource.as_str())
            )));
        }
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

fn push_namespace(path: &mut String, namespace: Option<&Segment<'_>>) -> Span {
    namespace.map_or(Span::default(), |namespace| {
        path.push_str("/namespaces");
        namespace.push_to(path)
    })
}
