//! Messages of which JSON has one member only, without its name: a schema, or what may stand in its place.

use crate::body::protobuf::ProtobufError;
use crate::body::protobuf::emit::Writer;
use crate::body::protobuf::schema::{Kind, Message, many};
use crate::body::protobuf::wire::{Fields, Value};

impl Writer<'_> {
    /// Go writes the object when there is one, whatever the boolean says.
    pub(super) fn object_or_bool(
        &self,
        message: &'static Message,
        value: Value<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), ProtobufError> {
        match self.pick([1, 2], value)? {
            [None, None] => self.bool(0, out),
            [Some(Value::Varint(allows)), None] => self.bool(allows, out),
            [None | Some(Value::Varint(0 | 1)), Some(Value::Bytes(bytes))] => {
                self.object(message, bytes, out)
            }
            _ => Err(self.wrong_wire_type()),
        }
    }

    /// Both at once, or neither, is what JSON cannot say.
    pub(super) fn object_or_many(
        &self,
        message: &'static Message,
        item: Kind,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), ProtobufError> {
        let mut single = None;
        let mut items = Vec::new();
        for field in Fields::new(bytes) {
            match field? {
                (1, value) if single.replace(value).is_some() => return Err(self.repeated()),
                (1, _) => {}
                (2, value) => items.push((0, value)),
                (number, _) => return Err(self.unknown(number)),
            }
        }
        match (single, items.as_slice()) {
            (Some(value), []) => self.object(message, self.bytes(value)?, out),
            (None, [_, ..]) => Writer {
                field: &many(2, self.field.json, item),
                ..*self
            }
            .array(&items, out),
            (Some(_), [_, ..]) | (None, []) => Err(self.bad("choice of one or many")),
        }
    }
}
