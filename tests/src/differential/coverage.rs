//! The cells that have to be tried: every verb of every resource and subresource in every encoding, by the API server's discovery.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::differential::surface::{Resource, Subresource};

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Encoding {
    /// There is none.
    None,
    /// `application/json`
    Json,
    /// `application/yaml`
    Yaml,
    /// `application/vnd.kubernetes.protobuf`
    Protobuf,
    /// `application/merge-patch+json`
    MergePatch,
    /// `application/strategic-merge-patch+json`
    StrategicMergePatch,
    /// `application/json-patch+json`
    JsonPatch,
    /// `application/apply-patch+yaml`
    ApplyPatch,
}

impl Encoding {
    /// Of objects.
    pub const OBJECTS: [Self; 3] = [Self::Json, Self::Yaml, Self::Protobuf];
    /// Of patches.
    pub const PATCHES: [Self; 4] = [
        Self::MergePatch,
        Self::StrategicMergePatch,
        Self::JsonPatch,
        Self::ApplyPatch,
    ];

    /// The content type.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => "application/vnd.kubernetes.protobuf",
            Self::MergePatch => "application/merge-patch+json",
            Self::StrategicMergePatch => "application/strategic-merge-patch+json",
            Self::JsonPatch => "application/json-patch+json",
            Self::ApplyPatch => "application/apply-patch+yaml",
        }
    }
}

/// One way to use one resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Cell {
    /// `apps/v1`
    pub api_version: String,
    /// `deployments`, `deployments/scale`
    pub resource: String,
    /// Kubernetes verb.
    pub verb: String,
    /// Of its body.
    pub encoding: Encoding,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} {} {:?}",
            self.verb, self.api_version, self.resource, self.encoding
        )
    }
}

/// A cell with what it takes to make a request for it.
#[derive(Clone, Copy, Debug)]
pub struct Task<'a> {
    /// The resource.
    pub resource: &'a Resource,
    /// Its part.
    pub part: Option<&'a Subresource>,
    /// Kubernetes verb.
    pub verb: &'a str,
    /// Of its body.
    pub encoding: Encoding,
}

impl Task<'_> {
    /// Its cell.
    #[must_use]
    pub fn cell(&self) -> Cell {
        Cell {
            api_version: self.resource.api_version(),
            resource: match self.part {
                Some(part) => format!("{}/{}", self.resource.name, part.name),
                None => self.resource.name.clone(),
            },
            verb: self.verb.to_owned(),
            encoding: self.encoding,
        }
    }
}

/// Every cell.
#[must_use]
pub fn tasks(resources: &[Resource]) -> Vec<Task<'_>> {
    let mut tasks = Vec::new();
    for resource in resources {
        let whole = std::iter::once((None, &resource.verbs));
        let parts = resource.subresources.iter().map(|part| (Some(part), &part.verbs));
        for (part, verbs) in whole.chain(parts) {
            for verb in verbs {
                for encoding in encodings(verb) {
                    tasks.push(Task {
                        resource,
                        part,
                        verb,
                        encoding: *encoding,
                    });
                }
            }
        }
    }
    tasks
}

/// How the body of a request with this verb may be written.
fn encodings(verb: &str) -> &'static [Encoding] {
    match verb {
        "create" | "update" => &Encoding::OBJECTS,
        "patch" => &Encoding::PATCHES,
        "delete" | "deletecollection" => {
            &[Encoding::None, Encoding::Json, Encoding::Yaml, Encoding::Protobuf]
        }
        _ => &[Encoding::None],
    }
}
