//! What a request is: the strict grammar, and RequestInfo exactly as kube-apiserver derives it
//! (k8s.io/apiserver pkg/endpoints/request/requestinfo.go, 1.36).

mod allow_list;
mod class;
mod escape;
mod info;
mod labels;
mod options;
mod path;
mod query;
mod segment;
mod selector;
#[cfg(test)]
mod tests;
mod value;
mod verb;

use std::borrow::Cow;

use smallvec::SmallVec;

use crate::body::json::View;
use crate::body::{Body, Pin, PinError};
use crate::reason::{Reason, Refusal};
use crate::request_info::info::{Parts, ResourceParts, Span};

pub use info::{RequestInfo, RequestScope, ResourceInfo};
pub(crate) use options::OptionValue;
pub use verb::{Method, Verb};

/// How the reply flows: which upstream connections carry it, and whether it has a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Streaming {
    /// One reply, within the API server's own deadline.
    Short,
    /// Events until either side ends it.
    Watch,
    /// Log lines, for as long as the container writes them.
    Log,
}

/// One parsed request: what it is, and the request line that will be generated from it.
///
/// The agent's own bytes are gone after parsing; [`ApiRequest::path_and_query`] is what goes upstream.
#[derive(Clone, Debug)]
pub struct ApiRequest {
    method: Method,
    info: RequestInfo,
    /// How much of the text of `info` is the canonical path.
    path_len: usize,
    query: Pairs,
    warnings: Vec<String>,
    body: Option<Body>,
}

/// Two are equal when they go upstream alike.
impl PartialEq for ApiRequest {
    fn eq(&self, other: &Self) -> bool {
        (self.method, self.path()) == (other.method, other.path())
            && self.info == other.info
            && self.query == other.query
            && self.warnings == other.warnings
            && self.body == other.body
    }
}

/// One allow-listed query parameter, its value normalised.
type Pair = (&'static str, Cow<'static, str>);

/// The parameters of one query, which are few.
type Pairs = SmallVec<[Pair; 2]>;

impl ApiRequest {
    /// Reads a request line: `method` as on the wire, raw `path`, raw `query` without its `?`.
    ///
    /// # Errors
    /// [`Reason::MethodNotAllowed`] for a method that the guard or the path does not take,
    /// [`Reason::RequestMalformed`] for everything else outside the grammar.
    pub fn parse(method: &str, path: &str, query: Option<&str>) -> Result<Self, Refusal> {
        let method = Method::parse(method)?;
        let route = path::Route::parse(method, path)?;
        let parsed = query::Query::parse(&route, method, query.unwrap_or_default())?;
        let path_len = route.path_len;
        Ok(Self {
            method,
            info: classify(method, route, &parsed),
            path_len,
            query: parsed.pairs,
            warnings: parsed.warnings,
            body: None,
        })
    }

    /// The HTTP method.
    #[must_use]
    pub fn method(&self) -> Method {
        self.method
    }

    /// What is asked for.
    #[must_use]
    pub fn info(&self) -> &RequestInfo {
        &self.info
    }

    /// Canonical path, percent-encoded.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.info.text[..self.path_len]
    }

    /// Canonical path and query: allow-listed parameters only, normalised, sorted, percent-encoded.
    #[must_use]
    pub fn path_and_query(&self) -> String {
        query::append_to(self.path(), &self.query)
    }

    /// Canonical path of the object whose part is asked for, or of the object itself.
    #[must_use]
    pub fn object_path(&self) -> &str {
        let Some(resource) = self.info.resource() else {
            return self.path();
        };
        let part = self.path().strip_suffix(resource.subresource);
        part.and_then(|path| path.strip_suffix('/'))
            .unwrap_or(self.path())
    }

    /// The same as a dry run: what it would come to, without coming to it.
    #[must_use]
    pub fn rehearsal(&self) -> Self {
        const DRY_RUN: Pair = ("dryRun", Cow::Borrowed("All"));
        let mut rehearsal = self.clone();
        rehearsal.query.retain(|(key, _)| *key != DRY_RUN.0);
        let place = rehearsal.query.partition_point(|(key, _)| *key < DRY_RUN.0);
        rehearsal.query.insert(place, DRY_RUN);
        rehearsal
    }

    /// The same with a precondition: carried out on the object that was looked at, or not at all.
    ///
    /// # Errors
    /// [`PinError`], also when the agent's own precondition is another one.
    pub fn pinned(&self, pin: &Pin) -> Result<Self, PinError> {
        let mut pinned = self.clone();
        if pinned.body.is_none() && self.method == Method::Delete {
            let with_options = pinned.with_body(Body::delete_options());
            pinned =
                with_options.map_err(|_| PinError::Impossible("its delete options contradict each other"))?;
        }
        let part = self.info.resource().map_or("", |resource| resource.subresource);
        let body = pinned
            .body
            .as_ref()
            .ok_or(PinError::Impossible("it has no body"))?;
        pinned.body = Some(body.pinned(self.method, part, pin)?);
        Ok(pinned)
    }

    /// Values of an allow-listed query parameter, decoded, in the order they were given.
    pub fn query_values<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.query
            .iter()
            .filter(move |(name, _)| *name == key)
            .map(|(_, value)| value.as_ref())
    }

    /// What the caller should be told although the request goes on; each fits the quoted string
    /// of a `Warning` header as it is.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// How the reply flows.
    #[must_use]
    pub fn streaming(&self) -> Streaming {
        if self.info.verb == Verb::Watch {
            return Streaming::Watch;
        }
        match self.info.resource() {
            Some(resource) if resource.subresource == "log" => Streaming::Log,
            Some(_) | None => Streaming::Short,
        }
    }

    /// Adds the body, whose agreement with the URL reading it has shown. An empty one adds nothing. Delete options of the
    /// query move into it.
    ///
    /// # Errors
    /// [`Reason::RequestMalformed`] for a body on GET, [`Reason::BodyMalformed`] for delete options that say one thing in it
    /// and another in the query.
    pub fn with_body(mut self, body: Body) -> Result<Self, Refusal> {
        if body.json().is_empty() {
            return Ok(self);
        }
        let body = match self.method {
            Method::Get => return Err(malformed("a GET request has no body; send it without one")),
            Method::Delete => {
                let verb = self.info.verb;
                let is_option = |pair: &Pair| allow_list::is_delete_option(verb, pair.0);
                let options = self.query.iter().filter(|pair| is_option(pair));
                let body = body.with_delete_options(options.map(|(key, value)| (*key, value.as_ref())))?;
                self.query.retain(|pair| !is_option(pair));
                body
            }
            Method::Post | Method::Put | Method::Patch => body,
        };
        self.body = Some(body);
        Ok(self)
    }

    /// The body, once added; none when it is empty.
    #[must_use]
    pub fn body(&self) -> Option<&Body> {
        self.body.as_ref()
    }

    /// Whether nothing is to be stored: the query says so, or the delete options in the body.
    #[must_use]
    pub fn is_dry_run(&self) -> bool {
        let options = self.body.as_ref().filter(|_| self.method == Method::Delete);
        let in_body = options.and_then(|body| View::of(body.json()).get("dryRun"));
        self.query_values("dryRun").next().is_some()
            || in_body.is_some_and(|values| values.items().next().is_some())
    }

    /// Name in the URL; for a create without one, `metadata.name` of the object in the body; else empty.
    #[must_use]
    pub fn object_name(&self) -> &str {
        match self.info.resource() {
            Some(resource) if !resource.name.is_empty() => resource.name,
            Some(_) if self.info.verb == Verb::Create => {
                self.body.as_ref().and_then(Body::object_name).unwrap_or_default()
            }
            Some(_) | None => "",
        }
    }
}

/// Settles verb and name, where the query has a say in them.
fn classify(method: Method, route: path::Route, query: &query::Query) -> RequestInfo {
    let path::Route { mut text, target, .. } = route;
    let mut resource = match target {
        path::Target::NonResource(plain) => {
            return RequestInfo {
                verb: method.plain_verb(),
                text,
                parts: Parts::NonResource(plain),
            };
        }
        path::Target::Resource(resource) => resource,
        path::Target::LegacyWatch(resource) => ResourceParts {
            name: Span::default(),
            ..resource
        },
    };
    let mut verb = method.resource_verb();
    if resource.name.is_empty() {
        match verb {
            Verb::Get => {
                verb = if query.is_on("watch") {
                    Verb::Watch
                } else {
                    Verb::List
                };
                if let Some(name) = &query.selected_name {
                    resource.name = Span::push(&mut text, name);
                }
            }
            Verb::Delete => verb = Verb::DeleteCollection,
            Verb::List
            | Verb::Watch
            | Verb::Create
            | Verb::Update
            | Verb::Patch
            | Verb::DeleteCollection
            | Verb::Post
            | Verb::Put
            | Verb::Connect => {}
        }
    }
    RequestInfo {
        verb,
        text,
        parts: Parts::Resource(resource),
    }
}

/// A refusal for text outside the grammar.
fn malformed(message: impl Into<String>) -> Refusal {
    Refusal::new(Reason::RequestMalformed, message)
}
