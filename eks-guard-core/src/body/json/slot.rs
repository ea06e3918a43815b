//! The well-known members of a top-level object, found by their place while the text is scanned.

use crate::body::json::JsonError;

/// A well-known member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    ApiVersion,
    Kind,
    Metadata,
    Name,
    GenerateName,
    Namespace,
}

/// The members of the top-level object itself.
pub(super) const TOP: [Slot; 3] = [Slot::ApiVersion, Slot::Kind, Slot::Metadata];

/// The members of its `metadata`.
pub(super) const METADATA: [Slot; 3] = [Slot::Name, Slot::GenerateName, Slot::Namespace];

impl Slot {
    /// Which of `slots` the key `name` (canonical, without quotes) starts.
    ///
    /// kube-apiserver finds apiVersion and kind with a reader that ignores letter case and everything else with
    /// one that does not, so another spelling of a well-known key has two meanings.
    pub(super) fn find(slots: [Self; 3], name: &[u8]) -> Result<Option<Self>, JsonError> {
        if let Some(slot) = slots.into_iter().find(|slot| slot.key().as_bytes() == name) {
            return Ok(Some(slot));
        }
        let folded = fold(name);
        match slots
            .into_iter()
            .find(|slot| slot.key().eq_ignore_ascii_case(&folded))
        {
            Some(slot) => Err(JsonError::LookAlike {
                expected: slot.path(),
            }),
            None => Ok(None),
        }
    }

    /// Refuses a value, known by its first byte, that the member cannot hold.
    pub(super) fn check(self, first: Option<u8>) -> Result<(), JsonError> {
        let (opening, expected) = match self {
            Self::Metadata => (b'{', "an object"),
            Self::ApiVersion | Self::Kind | Self::Name | Self::GenerateName | Self::Namespace => {
                (b'"', "a string")
            }
        };
        match first {
            None | Some(b'n') => Ok(()),
            Some(byte) if byte == opening => Ok(()),
            Some(_) => Err(JsonError::WrongType {
                path: self.path(),
                expected,
            }),
        }
    }

    const fn key(self) -> &'static str {
        match self {
            Self::ApiVersion => "apiVersion",
            Self::Kind => "kind",
            Self::Metadata => "metadata",
            Self::Name => "name",
            Self::GenerateName => "generateName",
            Self::Namespace => "namespace",
        }
    }

    const fn path(self) -> &'static str {
        match self {
            Self::ApiVersion => "apiVersion",
            Self::Kind => "kind",
            Self::Metadata => "metadata",
            Self::Name => "metadata.name",
            Self::GenerateName => "metadata.generateName",
            Self::Namespace => "metadata.namespace",
        }
    }
}

/// A key as a reader that ignores letter case compares it; Go folds two characters outside ASCII to letters.
fn fold(name: &[u8]) -> String {
    String::from_utf8_lossy(name)
        .replace('\u{17f}', "s")
        .replace('\u{212a}', "k")
}
