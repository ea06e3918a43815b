//! What the API server serves, as its aggregated discovery tells (KEP-3352, `apidiscovery.k8s.io/v2`): a request for
//! anything else is refused, so that a new CustomResourceDefinition or APIService opens nothing unseen.

use crate::reason::{Reason, Refusal};
use crate::request_info::{RequestInfo, ResourceInfo, Verb};

#[cfg(test)]
mod tests;

/// The `Accept` with which `/api` and `/apis` answer in this form.
pub const ACCEPT: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// The paths to ask: the core group stands apart.
pub const PATHS: [&str; 2] = ["/api", "/apis"];

/// Every resource of one API server at one moment. Immutable: what is served later is another one.
#[derive(Debug, Default)]
pub struct Discovery {
    /// Sorted by what [`Served::key`] says.
    served: Box<[Served]>,
}

/// One resource, or one of its subresources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// API group; empty for the core group.
    pub group: Box<str>,
    /// API version, `v1`.
    pub version: Box<str>,
    /// Plural name.
    pub resource: Box<str>,
    /// Subresource; empty for the object itself.
    pub subresource: Box<str>,
    /// Whether its objects are in namespaces.
    pub is_namespaced: bool,
    /// What it can be asked to do; verbs that no request has are left out.
    pub verbs: Box<[Verb]>,
}

impl Served {
    fn key(&self) -> [&str; 4] {
        [&self.group, &self.version, &self.resource, &self.subresource]
    }
}

/// The API server's answer is not a list of what it serves.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// Not the JSON that was asked for.
    #[error("reading the API server's discovery: {0}")]
    Json(#[from] serde_json::Error),
    /// JSON of another kind: an API server before Kubernetes 1.26 answers with group names only.
    #[error(
        "the API server answered with a {0:?}, not with an APIGroupDiscoveryList; Kubernetes 1.26 or newer is needed"
    )]
    Kind(String),
}

impl Discovery {
    /// Joins the answers to [`PATHS`].
    ///
    /// # Errors
    /// An answer that is not an `APIGroupDiscoveryList`.
    pub fn read<'a>(answers: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, DiscoveryError> {
        let mut served = Vec::new();
        for answer in answers {
            let list: wire::List = serde_json::from_slice(answer)?;
            if list.kind != "APIGroupDiscoveryList" {
                return Err(DiscoveryError::Kind(list.kind));
            }
            list.items
                .into_iter()
                .for_each(|group| add_group(group, &mut served));
        }
        served.sort_by(|a: &Served, b| a.key().cmp(&b.key()));
        served.dedup_by(|a, b| a.key() == b.key());
        Ok(Self {
            served: served.into_boxed_slice(),
        })
    }

    /// Every resource and subresource.
    #[must_use]
    pub fn served(&self) -> &[Served] {
        &self.served
    }

    /// Refuses requests for what is not served. Plain paths are none of its business. Allocates nothing when it is.
    ///
    /// # Errors
    /// [`Reason::ResourceUnknown`].
    pub fn check(&self, info: &RequestInfo) -> Result<(), Refusal> {
        let Some(resource) = info.resource() else {
            return Ok(());
        };
        let Some(served) = self.find(resource) else {
            return Err(unknown(resource, "does not serve it"));
        };
        // The name of a Namespace stands where a namespace does.
        let is_namespace = resource.group.is_empty() && resource.resource == "namespaces";
        if !served.is_namespaced && !resource.namespace.is_empty() && !is_namespace {
            return Err(unknown(resource, "has it in no namespace"));
        }
        Ok(())
    }

    fn find(&self, asked: ResourceInfo<'_>) -> Option<&Served> {
        let key = [asked.group, asked.version, asked.resource, asked.subresource];
        let index = self
            .served
            .binary_search_by(|served| served.key().cmp(&key))
            .ok()?;
        self.served.get(index)
    }
}

fn unknown(resource: ResourceInfo<'_>, what: &str) -> Refusal {
    let ResourceInfo {
        group,
        version,
        resource,
        subresource,
        ..
    } = resource;
    let slash = if subresource.is_empty() { "" } else { "/" };
    let group = if group.is_empty() { "the core group" } else { group };
    Refusal::new(
        Reason::ResourceUnknown,
        format!(
            "the API server {what}: resource \"{resource}{slash}{subresource}\", version \"{version}\", of {group}; \
             `kubectl api-resources` lists what there is"
        ),
    )
}

fn add_group(group: wire::Group, served: &mut Vec<Served>) {
    for version in group.versions {
        for resource in version.resources {
            // Without a scope an entry only carries subresources of what another group serves.
            let is_namespaced = resource.scope.as_deref() == Some("Namespaced");
            let add = |subresource: &str, verbs: &[String]| Served {
                group: group.metadata.name.as_str().into(),
                version: version.version.as_str().into(),
                resource: resource.resource.as_str().into(),
                subresource: subresource.into(),
                is_namespaced,
                verbs: known_verbs(verbs),
            };
            served.push(add("", &resource.verbs));
            served.extend(
                resource
                    .subresources
                    .iter()
                    .map(|it| add(&it.subresource, &it.verbs)),
            );
        }
    }
}

fn known_verbs(verbs: &[String]) -> Box<[Verb]> {
    Verb::ALL
        .into_iter()
        .filter(|verb| verbs.iter().any(|text| text == verb.as_str()))
        .collect()
}

/// The JSON, as far as it is read.
mod wire {
    use serde::Deserialize;

    #[derive(Deserialize)]
    pub(super) struct List {
        pub(super) kind: String,
        #[serde(default)]
        pub(super) items: Vec<Group>,
    }

    #[derive(Deserialize)]
    pub(super) struct Group {
        #[serde(default)]
        pub(super) metadata: Metadata,
        #[serde(default)]
        pub(super) versions: Vec<Version>,
    }

    /// The core group has no name.
    #[derive(Default, Deserialize)]
    pub(super) struct Metadata {
        #[serde(default)]
        pub(super) name: String,
    }

    #[derive(Deserialize)]
    pub(super) struct Version {
        pub(super) version: String,
        #[serde(default)]
        pub(super) resources: Vec<Resource>,
    }

    #[derive(Deserialize)]
    pub(super) struct Resource {
        pub(super) resource: String,
        pub(super) scope: Option<String>,
        #[serde(default)]
        pub(super) verbs: Vec<String>,
        #[serde(default)]
        pub(super) subresources: Vec<Subresource>,
    }

    #[derive(Deserialize)]
    pub(super) struct Subresource {
        pub(super) subresource: String,
        #[serde(default)]
        pub(super) verbs: Vec<String>,
    }
}
