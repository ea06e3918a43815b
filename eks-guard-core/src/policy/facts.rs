//! What a decision may depend on beside the request and the policies. The core has no clock and no connection: whoever
//! asks for a decision says what it knows.

use std::fmt;
use std::time::SystemTime;

use serde_json::Value;

/// Facts of the moment, for one decision. What is not known stays [`Fact::Unknown`], which never opens anything.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// When the request is decided on.
    pub time: SystemTime,
    /// The object as it is stored.
    pub old_object: Fact<'a>,
    /// The object as the request would leave it.
    pub object: Fact<'a>,
}

impl Facts<'_> {
    /// Nothing is known but the time.
    #[must_use]
    pub const fn at(time: SystemTime) -> Self {
        Self {
            time,
            old_object: Fact::Unknown,
            object: Fact::Unknown,
        }
    }
}

/// What is known of one object.
#[derive(Clone, Copy, Default)]
pub enum Fact<'a> {
    /// Nobody has looked.
    #[default]
    Unknown,
    /// There is none: before a create, after a delete.
    Absent,
    /// This one.
    Present(&'a Value),
}

/// Says what is known, never what is in it: objects hold values that logs must not.
impl fmt::Debug for Fact<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "Unknown",
            Self::Absent => "Absent",
            Self::Present(_) => "Present",
        })
    }
}
