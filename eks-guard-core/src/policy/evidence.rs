//! What conditions are evaluated on: the request, its caller, the facts, and what these together say about objects.

use std::sync::OnceLock;

use serde_json::{Map, Value};

use crate::policy::facts::{Fact, Facts};
use crate::policy::known::KnownResource;
use crate::principal::Principal;
use crate::request_info::{ApiRequest, Method, RequestInfo, RequestScope, ResourceInfo, Verb};

/// Everything one decision may look at. Nothing is read before a condition asks for it.
pub(crate) struct Evidence<'a> {
    pub(crate) principal: &'a Principal,
    pub(crate) info: &'a RequestInfo,
    /// `None` when a request is known by its RequestInfo only.
    pub(crate) request: Option<&'a ApiRequest>,
    pub(crate) facts: &'a Facts<'a>,
    /// The object in the body of a create.
    created: OnceLock<Option<Value>>,
    /// The options in the body of a delete.
    delete_options: OnceLock<Option<Value>>,
}

impl<'a> Evidence<'a> {
    pub(crate) fn new(
        principal: &'a Principal,
        info: &'a RequestInfo,
        request: Option<&'a ApiRequest>,
        facts: &'a Facts<'a>,
    ) -> Self {
        Self {
            principal,
            info,
            request,
            facts,
            created: OnceLock::new(),
            delete_options: OnceLock::new(),
        }
    }

    /// The object as it would be stored.
    pub(crate) fn object(&self) -> Fact<'_> {
        match (self.facts.object, self.info.verb) {
            (Fact::Unknown, Verb::Create) => match self.created.get_or_init(|| self.read_body()) {
                Some(object) => Fact::Present(object),
                None => Fact::Unknown,
            },
            (Fact::Unknown, Verb::Delete) => Fact::Absent,
            (known, _) => known,
        }
    }

    /// The object as it is stored.
    pub(crate) fn old_object(&self) -> Fact<'_> {
        match (self.facts.old_object, self.info.verb) {
            (Fact::Unknown, Verb::Create)
                if self.info.resource().is_none_or(|it| it.subresource.is_empty()) =>
            {
                Fact::Absent
            }
            (known, _) => known,
        }
    }

    /// The options in the body of a delete; none without one.
    pub(crate) fn delete_options(&self) -> Option<&Value> {
        let read = || {
            let request = self.request.filter(|it| it.method() == Method::Delete)?;
            serde_json::from_slice(request.body()?.json()).ok()
        };
        self.delete_options.get_or_init(read).as_ref()
    }

    /// Whether the API server can be asked about the one object of this request.
    pub(crate) fn can_be_looked_at(&self) -> bool {
        let RequestScope::Resource(resource) = self.info.scope() else {
            return false;
        };
        match self.info.verb {
            Verb::Update | Verb::Patch | Verb::Delete => !resource.name.is_empty(),
            // Of what is sent to a part of an object, these two take a precondition about it.
            Verb::Create => {
                !resource.name.is_empty() && matches!(resource.subresource, "eviction" | "binding")
            }
            Verb::Get
            | Verb::List
            | Verb::Watch
            | Verb::DeleteCollection
            | Verb::Post
            | Verb::Put
            | Verb::Connect => false,
        }
    }

    /// The object of a create, with what the API server takes from the URL where the body leaves it out.
    fn read_body(&self) -> Option<Value> {
        let RequestScope::Resource(resource) = self.info.scope() else {
            return None;
        };
        let body = self.request?.body()?;
        let Ok(Value::Object(mut object)) = serde_json::from_slice(body.json()) else {
            return None;
        };
        complete(&mut object, resource);
        Some(Value::Object(object))
    }
}

fn complete(object: &mut Map<String, Value>, resource: ResourceInfo<'_>) {
    if resource.subresource.is_empty() {
        let version = match resource.group {
            "" => resource.version.to_owned(),
            group => format!("{group}/{}", resource.version),
        };
        fill(object, "apiVersion", &version);
        let known = KnownResource::find(resource.group, resource.resource);
        if let Some(kind) = known.and_then(|known| known.kind(resource.version)) {
            fill(object, "kind", kind);
        }
    }
    let metadata = object
        .entry("metadata")
        .or_insert_with(|| Value::Object(Map::new()));
    if metadata.is_null() {
        *metadata = Value::Object(Map::new());
    }
    if let Value::Object(metadata) = metadata {
        fill(metadata, "namespace", resource.namespace);
        fill(metadata, "name", resource.name);
    }
}

/// Absent, null and empty are one to the API server.
fn fill(object: &mut Map<String, Value>, key: &str, text: &str) {
    let empty = match object.get(key) {
        None | Some(Value::Null) => true,
        Some(Value::String(there)) => there.is_empty(),
        Some(_) => false,
    };
    if empty && !text.is_empty() {
        object.insert(key.to_owned(), Value::String(text.to_owned()));
    }
}
