//! What a request is: the strict grammar, and RequestInfo exactly as kube-apiserver derives it
//! (k8s.io/apiserver pkg/endpoints/request/requestinfo.go, 1.36).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::reason::Refusal;

/// The Kubernetes verb of a request (not its HTTP method).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// Read one object, or a non-resource path.
    Get,
    /// Read a collection.
    List,
    /// Follow a collection or one object.
    Watch,
    /// Create an object (POST).
    Create,
    /// Replace an object (PUT).
    Update,
    /// Change an object (PATCH), server-side apply included.
    Patch,
    /// Remove one object.
    Delete,
    /// Remove a collection.
    DeleteCollection,
    /// A non-resource path with a method other than GET.
    Post,
    /// A non-resource path with PUT.
    Put,
}

impl Verb {
    /// The text that policies, records and kube-apiserver's audit log use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
            Self::Post => "post",
            Self::Put => "put",
        }
    }

    /// Whether the request may change state, so that its intent is recorded before it is forwarded.
    #[must_use]
    pub const fn is_mutating(self) -> bool {
        match self {
            Self::Get | Self::List | Self::Watch => false,
            Self::Create
            | Self::Update
            | Self::Patch
            | Self::Delete
            | Self::DeleteCollection
            | Self::Post
            | Self::Put => true,
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The HTTP methods the guard takes; any other is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// GET
    Get,
    /// POST
    Post,
    /// PUT
    Put,
    /// PATCH
    Patch,
    /// DELETE
    Delete,
}

/// What a request asks for, in the terms that kube-apiserver authorizes on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ResourceInfo {
    /// API group; empty for the core group.
    pub group: String,
    /// API version, `v1`.
    pub version: String,
    /// Namespace; empty for cluster scope and for all namespaces.
    pub namespace: String,
    /// Plural resource name, `pods`.
    pub resource: String,
    /// Subresource, `log`; empty when there is none.
    pub subresource: String,
    /// Object name; empty for collections and creates. Taken from a `metadata.name` field selector too.
    pub name: String,
}

/// Resource request or plain path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RequestScope {
    /// A path under `/api/{version}` or `/apis/{group}/{version}`.
    Resource(ResourceInfo),
    /// Any other path, canonical: `/version`, `/openapi/v3`.
    NonResource(String),
}

/// A request as kube-apiserver would understand it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestInfo {
    /// The Kubernetes verb.
    pub verb: Verb,
    /// What it is about.
    pub scope: RequestScope,
}

/// One parsed request: what it is, and the request line that will be generated from it.
///
/// The agent's own bytes are gone after parsing; [`ApiRequest::path_and_query`] is what goes upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiRequest {
    method: Method,
    info: RequestInfo,
    path: String,
    query: Vec<(String, String)>,
    warnings: Vec<String>,
}

impl ApiRequest {
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
}
