//! Kubernetes protobuf bodies: `k8s\0`, then `runtime.Unknown`, then one object of a kind that the tables describe.
//! What comes out is the JSON a Go client would have sent for the same object. Anything that a protobuf reader would
//! skip, merge or truncate is refused.

use crate::body::json::write_str;
use crate::body::protobuf::emit::write_members;
use crate::body::protobuf::wire::{Fields, Value};

mod emit;
mod kinds;
mod schema;
mod shape;
#[rustfmt::skip]
mod tables;
mod time;
mod wire;

#[cfg(test)]
mod tests;

pub(in crate::body) use kinds::is_built_in;
pub(crate) use shape::Shape;

/// The kind with this lower-case name in an API version; none when no table describes it.
pub(crate) fn kind_named(group: &str, version: &str, singular: &str) -> Option<&'static str> {
    kinds::named(group, version, singular)
}

/// The first bytes of every Kubernetes protobuf body.
const MAGIC: &[u8] = b"k8s\0";

/// Why a protobuf body is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    /// The body does not start as one.
    #[error("the body does not start with the Kubernetes protobuf prefix")]
    NoMagic,
    /// No table describes the kind.
    #[error("the kind `{kind}` of `{api_version}` is not one that is read from protobuf")]
    UnknownKind {
        /// `apps/v1`
        api_version: String,
        /// `Deployment`
        kind: String,
    },
    /// The table of the message has no such field.
    #[error("{message} has no field {number}")]
    UnknownField {
        /// The message.
        message: &'static str,
        /// The field number found.
        number: u32,
    },
    /// The field is encoded as another type.
    #[error("{message}.{field} has another wire type")]
    WrongWireType {
        /// The message.
        message: &'static str,
        /// The field.
        field: &'static str,
    },
    /// The value is outside the range of its type.
    #[error("{message}.{field} is not a valid {expected}")]
    BadValue {
        /// The message.
        message: &'static str,
        /// The field.
        field: &'static str,
        /// The type.
        expected: &'static str,
    },
    /// A field that holds one value stands twice; readers would merge or keep the last.
    #[error("{message}.{field} stands twice")]
    Repeated {
        /// The message.
        message: &'static str,
        /// The field.
        field: &'static str,
    },
    /// The envelope names an encoding of the object inside.
    #[error("the envelope names the encoding `{0}`")]
    Encoded(String),
    /// The bytes end in the middle of a field.
    #[error("the body ends in the middle of a field")]
    Truncated,
    /// A number is longer than it has to be, or than 64 bits.
    #[error("a number is not encoded in its shortest form")]
    BadVarint,
    /// A tag that proto2 without groups does not have.
    #[error("a field tag is not valid")]
    BadTag,
    /// Messages nest too deep.
    #[error("messages are nested too deep")]
    TooDeep,
    /// The object is too large as JSON.
    #[error("the object is larger than the API server takes")]
    TooLarge,
}

/// The JSON text of the object in a protobuf body; not yet checked for keys that stand twice.
///
/// # Errors
/// [`ProtobufError`] for anything that is not exactly one object of a described kind.
pub fn to_json(bytes: &[u8]) -> Result<Vec<u8>, ProtobufError> {
    let envelope = Envelope::read(bytes.strip_prefix(MAGIC).ok_or(ProtobufError::NoMagic)?)?;
    let Some(message) = kinds::find(envelope.api_version, envelope.kind) else {
        return Err(ProtobufError::UnknownKind {
            api_version: envelope.api_version.to_owned(),
            kind: envelope.kind.to_owned(),
        });
    };
    let mut out = Vec::with_capacity(bytes.len() * 2);
    out.extend_from_slice(b"{\"kind\":");
    write_str(envelope.kind, &mut out);
    out.extend_from_slice(b",\"apiVersion\":");
    write_str(envelope.api_version, &mut out);
    write_members(message, envelope.raw, 1, &mut out)?;
    out.push(b'}');
    Ok(out)
}

/// `runtime.Unknown`: what the object is, and its bytes.
struct Envelope<'a> {
    api_version: &'a str,
    kind: &'a str,
    raw: &'a [u8],
}

impl<'a> Envelope<'a> {
    const NAME: &'static str = "runtime.Unknown";
    const TYPE_NAME: &'static str = "runtime.TypeMeta";

    fn read(bytes: &'a [u8]) -> Result<Self, ProtobufError> {
        let [type_meta, raw, encoding, content_type] = split(
            Self::NAME,
            ["typeMeta", "raw", "contentEncoding", "contentType"],
            bytes,
        )?;
        for stated in [encoding, content_type] {
            if !stated.is_empty() {
                return Err(ProtobufError::Encoded(
                    String::from_utf8_lossy(stated).into_owned(),
                ));
            }
        }
        let [api_version, kind] = split(Self::TYPE_NAME, ["apiVersion", "kind"], type_meta)?;
        let text = |field, bytes| {
            let bad = ProtobufError::BadValue {
                message: Self::TYPE_NAME,
                field,
                expected: "string",
            };
            std::str::from_utf8(bytes).map_err(|_| bad)
        };
        Ok(Self {
            api_version: text("apiVersion", api_version)?,
            kind: text("kind", kind)?,
            raw,
        })
    }
}

/// The fields 1 to N of a message that are all length-delimited and stand at most once; empty when absent.
fn split<'a, const N: usize>(
    message: &'static str,
    names: [&'static str; N],
    bytes: &'a [u8],
) -> Result<[&'a [u8]; N], ProtobufError> {
    let mut found: [Option<&[u8]>; N] = [None; N];
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        let index = (number as usize).wrapping_sub(1);
        let Some(slot) = found.get_mut(index) else {
            return Err(ProtobufError::UnknownField { message, number });
        };
        let field = names[index];
        let Value::Bytes(bytes) = value else {
            return Err(ProtobufError::WrongWireType { message, field });
        };
        if slot.replace(bytes).is_some() {
            return Err(ProtobufError::Repeated { message, field });
        }
    }
    Ok(found.map(Option::unwrap_or_default))
}
