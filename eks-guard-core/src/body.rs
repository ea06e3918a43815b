//! Request bodies: read exactly, refused when ambiguous, re-emitted as canonical JSON.

pub mod json;
pub mod protobuf;
