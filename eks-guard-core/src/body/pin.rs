//! Preconditions in a body: the API server carries the request out on exactly the object that was looked at, or not at all.
//!
//! Objects, merge, strategic and apply patches say it in `metadata`, a JSON patch in an operation of its own, deletes and
//! evictions in their delete options. A resource version is never given twice, so that one is enough; where a request
//! creates what is not there, the UID says that it must be there (k8s.io/apiserver pkg/registry/generic/registry/store.go).

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use crate::body::Body;
use crate::body::json::{View, edit};
use crate::body::media::Media;
use crate::request_info::Method;

/// A resource version that no object has: etcd counts from 1, which is its empty state. The API server compares it with
/// that of the object it finds, and not at all where it finds none.
const NO_VERSION: &str = "1";

/// What a request has to find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pin {
    /// This object, in this state.
    At {
        /// `metadata.uid`
        uid: String,
        /// `metadata.resourceVersion`
        resource_version: String,
    },
    /// No object.
    Absent,
}

/// Why a body cannot hold a precondition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    /// It names another state of the object than the one that is stored.
    #[error(
        "the object has been modified: the request is about another resourceVersion or uid than the one that is stored"
    )]
    Changed,
    /// There is no place for one.
    #[error("{0}")]
    Impossible(&'static str),
}

/// What the members of one place say, and are made to say.
struct Stated<'a> {
    uid: &'a str,
    resource_version: &'a str,
}

/// Where the precondition of an object stands.
const METADATA: &str = "metadata";
/// Where that of its removal stands.
const PRECONDITIONS: &str = "preconditions";

impl Body {
    /// The same body, with the precondition. `subresource` is the part of the object it is sent to.
    ///
    /// # Errors
    /// [`PinError`]
    pub(crate) fn pinned(&self, method: Method, subresource: &str, pin: &Pin) -> Result<Self, PinError> {
        let stated = match pin {
            Pin::At {
                uid,
                resource_version,
            } => Stated {
                uid,
                resource_version,
            },
            Pin::Absent => Stated {
                uid: "",
                resource_version: NO_VERSION,
            },
        };
        let root = View::of(&self.json);
        let json = match (method, self.media, subresource) {
            (Method::Delete, _, _) => stated.at(root, &[PRECONDITIONS], pin)?,
            (Method::Post, _, "eviction") => stated.at(root, &["deleteOptions", PRECONDITIONS], pin)?,
            (Method::Post, _, "binding") | (Method::Put, _, _) => stated.at(root, &[METADATA], pin)?,
            (Method::Patch, Media::JsonPatch, _) => stated.behind(root)?,
            (Method::Patch, Media::StrategicMergePatch, _) => {
                check_merged(Some(root))?;
                check_merged(root.get(METADATA))?;
                stated.at(root, &[METADATA], pin)?
            }
            (Method::Patch, _, _) => stated.at(root, &[METADATA], pin)?,
            (Method::Get | Method::Post, _, _) => {
                return Err(PinError::Impossible("such a request cannot have a precondition"));
            }
        };
        Ok(Self { json, ..self.clone() })
    }
}

impl Stated<'_> {
    /// The object with the precondition in the member at `path`.
    fn at(&self, object: View<'_>, path: &[&str], pin: &Pin) -> Result<Vec<u8>, PinError> {
        let Some((first, rest)) = path.split_first() else {
            return Ok(object.raw().to_vec());
        };
        let inner = object.get(first).filter(|inner| inner.raw() != b"null");
        let inner = inner.unwrap_or(View::of(b"{}"));
        if !inner.is_object() {
            return Err(PinError::Impossible("the body has no place for a precondition"));
        }
        let inner = if rest.is_empty() {
            if *pin != Pin::Absent {
                self.agrees(
                    inner,
                    if *first == METADATA {
                        &is_any_version
                    } else {
                        &|_| false
                    },
                )?;
            }
            self.members(inner)
        } else {
            self.at(inner, rest, pin)?
        };
        Ok(edit::set_member(object, first, &inner))
    }

    fn members(&self, holder: View<'_>) -> Vec<u8> {
        let version = edit::string(self.resource_version);
        let held = edit::set_member(holder, "resourceVersion", &version);
        if self.uid.is_empty() {
            return held;
        }
        edit::set_member(View::of(&held), "uid", &edit::string(self.uid))
    }

    /// The JSON patch, which in the end makes the object say what it was found to say.
    fn behind(&self, patch: View<'_>) -> Result<Vec<u8>, PinError> {
        for operation in patch.items() {
            if operation.get("op").is_some_and(|op| op.is_text("test")) {
                continue;
            }
            // No operation is about metadata as a whole: reading the patch has shown it.
            if operation
                .get("path")
                .is_some_and(|path| path.is_text("/metadata/resourceVersion"))
            {
                agree(operation.get("value"), self.resource_version, &is_any_version)?;
            }
        }
        let mut operation = br#"{"op":"add","path":"/metadata/resourceVersion","value":"#.to_vec();
        operation.extend(edit::string(self.resource_version));
        operation.push(b'}');
        Ok(edit::push_item(patch, &operation))
    }

    /// Whether what the agent says itself is what was found. The API server would say so too, but about the object as it
    /// is then, which nobody has looked at.
    fn agrees(&self, holder: View<'_>, is_any: &dyn Fn(&str) -> bool) -> Result<(), PinError> {
        agree(holder.get("resourceVersion"), self.resource_version, is_any)?;
        agree(holder.get("uid"), self.uid, &str::is_empty)
    }
}

/// Nothing, and zero in whatever form, is any version of an object to the API server.
fn is_any_version(said: &str) -> bool {
    said.bytes().all(|byte| byte == b'0')
}

fn agree(said: Option<View<'_>>, found: &str, is_any: &dyn Fn(&str) -> bool) -> Result<(), PinError> {
    let Some(said) = said.filter(|said| said.raw() != b"null") else {
        return Ok(());
    };
    let said = said.text().unwrap_or(Cow::Borrowed("another"));
    if said == found || is_any(&said) {
        return Ok(());
    }
    Err(PinError::Changed)
}

/// Directives that say what of the members stays would take the precondition away again.
fn check_merged(holder: Option<View<'_>>) -> Result<(), PinError> {
    let Some(holder) = holder else { return Ok(()) };
    let replaces = |directive: View<'_>| !directive.is_text("merge");
    if holder.get("$retainKeys").is_some() || holder.get("$patch").is_some_and(replaces) {
        return Err(PinError::Impossible(
            "the patch replaces the object or its metadata as a whole",
        ));
    }
    Ok(())
}
