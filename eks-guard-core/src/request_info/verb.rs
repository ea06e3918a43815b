//! HTTP methods and Kubernetes verbs.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::reason::{Reason, Refusal};
use crate::request_info::escape;

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
    /// A stream into a pod, service or node (exec, attach, port-forward, proxy), whatever its method: what policies call it.
    /// A request itself never has this verb.
    Connect,
}

impl Verb {
    /// Every verb.
    pub const ALL: [Self; 11] = [
        Self::Get,
        Self::List,
        Self::Watch,
        Self::Create,
        Self::Update,
        Self::Patch,
        Self::Delete,
        Self::DeleteCollection,
        Self::Post,
        Self::Put,
        Self::Connect,
    ];

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
            Self::Connect => "connect",
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
            | Self::Put
            | Self::Connect => true,
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

impl Method {
    /// Reads a method as it stands on the wire; the case counts.
    pub(super) fn parse(text: &str) -> Result<Self, Refusal> {
        match text {
            "GET" => Ok(Self::Get),
            "POST" => Ok(Self::Post),
            "PUT" => Ok(Self::Put),
            "PATCH" => Ok(Self::Patch),
            "DELETE" => Ok(Self::Delete),
            _ => Err(Refusal::new(
                Reason::MethodNotAllowed,
                format!(
                    "method {} is not taken; use GET, POST, PUT, PATCH or DELETE",
                    escape::shown(text)
                ),
            )),
        }
    }

    /// The method as it stands on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    /// The verb on a resource, before a missing name makes it one on a collection.
    pub(super) const fn resource_verb(self) -> Verb {
        match self {
            Self::Get => Verb::Get,
            Self::Post => Verb::Create,
            Self::Put => Verb::Update,
            Self::Patch => Verb::Patch,
            Self::Delete => Verb::Delete,
        }
    }

    /// The verb on a plain path: the method itself.
    pub(super) const fn plain_verb(self) -> Verb {
        match self {
            Self::Get => Verb::Get,
            Self::Post => Verb::Post,
            Self::Put => Verb::Put,
            Self::Patch => Verb::Patch,
            Self::Delete => Verb::Delete,
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
