//! What the guard itself asks the API server: lists, and watches that go on where they were broken off.
//!
//! It goes the way that agents' requests go (the upstream pool, its credential and its pinned TLS). A client library would
//! bring a second TLS configuration, a second credential cache and a second way out of this process to look after, for
//! a few resources of which a handful of fields are read.

mod objects;
mod reflector;

#[cfg(test)]
mod tests;

pub use objects::{AgentPolicy, EndpointSlice, Metadata, Namespace, Node, Object, Pod, Service};
pub(crate) use reflector::reflect;

/// What a reflector watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// `/api/v1/pods`
    pub path: &'static str,
    /// Field selector; empty for all.
    pub field_selector: String,
    /// How much of each object.
    pub form: Form,
}

/// How much of an object is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// All of it.
    Whole,
    /// `metadata` only.
    Metadata,
}

impl Resource {
    /// Every object at a path.
    #[must_use]
    pub fn all(path: &'static str) -> Self {
        Self {
            path,
            field_selector: String::new(),
            form: Form::Whole,
        }
    }

    /// The metadata of every object at a path.
    #[must_use]
    pub fn metadata(path: &'static str) -> Self {
        Self {
            form: Form::Metadata,
            ..Self::all(path)
        }
    }

    /// The pods that are bound to a node.
    #[must_use]
    pub fn pods_of(node: &str) -> Self {
        Self {
            field_selector: format!("spec.nodeName={node}"),
            ..Self::all("/api/v1/pods")
        }
    }
}

/// What has changed, in the order in which the API server says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change<T> {
    /// These are all there are; whatever is not among them is gone.
    Listed(Vec<T>),
    /// Created or changed.
    Set(T),
    /// Removed.
    Gone(T),
}
