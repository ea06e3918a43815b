//! What the guard itself asks the API server: lists, and watches that go on where they were broken off.
//!
//! It goes the way that agents' requests go (the upstream pool, its credential and its pinned TLS). A client library would
//! bring a second TLS configuration, a second credential cache and a second way out of this process to look after, for
//! three resources of which a handful of fields are read.

mod objects;
mod reflector;

#[cfg(test)]
mod tests;

pub use objects::{EndpointSlice, Metadata, Node, Object, Pod, Service};
pub(crate) use reflector::reflect;

/// What a reflector watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// `/api/v1/pods`
    pub path: &'static str,
    /// Field selector; empty for all.
    pub field_selector: String,
}

impl Resource {
    /// Every object at a path.
    #[must_use]
    pub fn all(path: &'static str) -> Self {
        Self {
            path,
            field_selector: String::new(),
        }
    }

    /// The pods that are bound to a node.
    #[must_use]
    pub fn pods_of(node: &str) -> Self {
        Self {
            path: "/api/v1/pods",
            field_selector: format!("spec.nodeName={node}"),
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
