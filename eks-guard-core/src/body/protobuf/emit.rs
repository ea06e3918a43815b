//! One message of the wire to the members of one JSON object, driven by its table.
//!
//! Every field that is on the wire is written, defaults included: for a Go field without a pointer the default means
//! the same as nothing, and for one with a pointer it does not.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::body::MAX_BODY;
use crate::body::json::{self, MAX_DEPTH, write_str};
use crate::body::protobuf::ProtobufError;
use crate::body::protobuf::schema::{Count, Field, Kind, Message, one};
use crate::body::protobuf::time::{self, Precision};
use crate::body::protobuf::wire::{Fields, Value};

/// Writes the members of `message`, each after a comma, from its encoded `bytes`.
pub(super) fn write_members(
    message: &'static Message,
    bytes: &[u8],
    depth: usize,
    out: &mut Vec<u8>,
) -> Result<(), ProtobufError> {
    if depth > MAX_DEPTH {
        return Err(ProtobufError::TooDeep);
    }
    let values = collect(message, bytes)?;
    for group in values.chunk_by(|left, right| left.0 == right.0) {
        let field = &message.fields[group[0].0];
        out.push(b',');
        write_str(field.json, out);
        out.push(b':');
        let writer = Writer {
            message,
            field,
            depth,
        };
        match (field.count, group) {
            (Count::One, [(_, value)]) => writer.value(*value, out)?,
            (Count::One, _) => return Err(writer.repeated()),
            (Count::Many, group) => writer.array(group, out)?,
            (Count::Map, group) => writer.map(group, out)?,
        }
        if out.len() > MAX_BODY {
            return Err(ProtobufError::TooLarge);
        }
    }
    Ok(())
}

/// The values of a message with the row each belongs to, in the order of the rows, then of the wire.
fn collect<'a>(message: &'static Message, bytes: &'a [u8]) -> Result<Vec<(usize, Value<'a>)>, ProtobufError> {
    let mut values = Vec::new();
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        let row = message.fields.iter().position(|field| field.number == number);
        let unknown = ProtobufError::UnknownField {
            message: message.name,
            number,
        };
        values.push((row.ok_or(unknown)?, value));
    }
    values.sort_by_key(|(row, _)| *row);
    Ok(values)
}

/// One field under way, with what an error has to name.
struct Writer {
    message: &'static Message,
    field: &'static Field,
    depth: usize,
}

impl Writer {
    fn array(&self, group: &[(usize, Value<'_>)], out: &mut Vec<u8>) -> Result<(), ProtobufError> {
        out.push(b'[');
        for (index, (_, value)) in group.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            self.value(*value, out)?;
            if out.len() > MAX_BODY {
                return Err(ProtobufError::TooLarge);
            }
        }
        out.push(b']');
        Ok(())
    }

    fn map(&self, group: &[(usize, Value<'_>)], out: &mut Vec<u8>) -> Result<(), ProtobufError> {
        out.push(b'{');
        for (index, (_, entry)) in group.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            let [key, value] = self.pick([1, 2], *entry)?;
            match key {
                Some(Value::Bytes(key)) => write_str(self.text(key)?, out),
                Some(Value::Varint(_)) | None => return Err(self.bad("map key")),
            }
            out.push(b':');
            self.value(value.unwrap_or(self.absent()), out)?;
            if out.len() > MAX_BODY {
                return Err(ProtobufError::TooLarge);
            }
        }
        out.push(b'}');
        Ok(())
    }

    fn value(&self, value: Value<'_>, out: &mut Vec<u8>) -> Result<(), ProtobufError> {
        match (self.field.kind, value) {
            (Kind::Bool, Value::Varint(number)) => self.bool(number, out),
            (Kind::Int32, Value::Varint(number)) => self.number(i64::from(self.int32(number)?), out),
            (Kind::Int64, Value::Varint(number)) => self.number(number.cast_signed(), out),
            (Kind::Str, Value::Bytes(bytes)) => {
                write_str(self.text(bytes)?, out);
                Ok(())
            }
            (Kind::Bytes, Value::Bytes(bytes)) => {
                write_str(&STANDARD.encode(bytes), out);
                Ok(())
            }
            (Kind::Object(message), Value::Bytes(bytes)) => self.object(message, bytes, out),
            (Kind::Time, value @ Value::Bytes(_)) => self.time(value, Precision::Seconds, out),
            (Kind::MicroTime, value @ Value::Bytes(_)) => self.time(value, Precision::Microseconds, out),
            (Kind::Quantity, value @ Value::Bytes(_)) => self.quantity(value, out),
            (Kind::IntOrString, value @ Value::Bytes(_)) => self.int_or_string(value, out),
            (Kind::RawJson, value @ Value::Bytes(_)) => self.raw_json(value, out),
            (Kind::Strings, Value::Bytes(bytes)) => self.strings(bytes, out),
            (Kind::Bool | Kind::Int32 | Kind::Int64, Value::Bytes(_)) => Err(self.wrong_wire_type()),
            (
                Kind::Str
                | Kind::Bytes
                | Kind::Object(_)
                | Kind::Time
                | Kind::MicroTime
                | Kind::Quantity
                | Kind::IntOrString
                | Kind::RawJson
                | Kind::Strings,
                Value::Varint(_),
            ) => Err(self.wrong_wire_type()),
        }
    }

    fn object(
        &self,
        message: &'static Message,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), ProtobufError> {
        let start = out.len();
        write_members(message, bytes, self.depth + 1, out)?;
        match out.get_mut(start) {
            Some(comma) => *comma = b'{',
            None => out.push(b'{'),
        }
        out.push(b'}');
        Ok(())
    }

    fn bool(&self, number: u64, out: &mut Vec<u8>) -> Result<(), ProtobufError> {
        match number {
            0 => out.extend_from_slice(b"false"),
            1 => out.extend_from_slice(b"true"),
            _ => return Err(self.bad("boolean")),
        }
        Ok(())
    }

    fn number(&self, number: i64, out: &mut Vec<u8>) -> Result<(), ProtobufError> {
        out.extend_from_slice(number.to_string().as_bytes());
        Ok(())
    }

    fn int32(&self, number: u64) -> Result<i32, ProtobufError> {
        i32::try_from(number.cast_signed()).map_err(|_| self.bad("32-bit number"))
    }

    fn text<'a>(&self, bytes: &'a [u8]) -> Result<&'a str, ProtobufError> {
        std::str::from_utf8(bytes).map_err(|_| self.bad("string"))
    }

    /// An empty message is the zero moment, which Go writes as null.
    fn time(&self, value: Value<'_>, precision: Precision, out: &mut Vec<u8>) -> Result<(), ProtobufError> {
        if value == Value::Bytes(b"") {
            out.extend_from_slice(b"null");
            return Ok(());
        }
        let (seconds, nanos) = match self.pick([1, 2], value)? {
            [seconds, nanos] => (self.int_of(seconds)?, self.int_of(nanos)?),
        };
        time::write(seconds, nanos, precision, out).ok_or(self.bad("moment"))
    }

    /// An empty message is the zero quantity.
    fn quantity(&self, value: Value<'_>, out: &mut Vec<u8>) -> Result<(), ProtobufError> {
        match self.pick([1], value)? {
            [None] => write_str("0", out),
            [Some(Value::Bytes(text))] if !text.is_empty() => write_str(self.text(text)?, out),
            [Some(_)] => return Err(self.bad("quantity")),
        }
        Ok(())
    }

    /// The first field says which of the other two counts.
    fn int_or_string(&self, value: Value<'_>, out: &mut Vec<u8>) -> Result<(), ProtobufError> {
        let [which, number, text] = self.pick([1, 2, 3], value)?;
        let number = self.int_of(number)?;
        match (self.int_of(which)?, text) {
            (0, Some(Value::Varint(_))) | (1, Some(Value::Varint(_))) => Err(self.wrong_wire_type()),
            (0, _) => {
                let number = i32::try_from(number).map_err(|_| self.bad("32-bit number"))?;
                self.number(i64::from(number), out)
            }
            (1, Some(Value::Bytes(text))) => {
                write_str(self.text(text)?, out);
                Ok(())
            }
            (1, None) => {
                write_str("", out);
                Ok(())
            }
            _ => Err(self.bad("number or string")),
        }
    }

    fn raw_json(&self, value: Value<'_>, out: &mut Vec<u8>) -> Result<(), ProtobufError> {
        let raw = match self.pick([1], value)? {
            [None | Some(Value::Bytes(b""))] => b"null",
            [Some(Value::Bytes(raw))] => raw,
            [Some(Value::Varint(_))] => return Err(self.wrong_wire_type()),
        };
        let canonical = json::canonical(raw).map_err(|_| self.bad("JSON text"))?;
        out.extend_from_slice(&canonical.text);
        Ok(())
    }

    fn strings(&self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), ProtobufError> {
        static ITEM: Field = one(1, "items", Kind::Str);
        let mut values = Vec::new();
        for field in Fields::new(bytes) {
            match field? {
                (1, value) => values.push((0, value)),
                (number, _) => {
                    return Err(ProtobufError::UnknownField {
                        message: self.message.name,
                        number,
                    });
                }
            }
        }
        Writer {
            message: self.message,
            field: &ITEM,
            depth: self.depth + 1,
        }
        .array(&values, out)
    }

    /// The fields with these numbers of a small message, each at most once, and no others.
    fn pick<'a, const N: usize>(
        &self,
        numbers: [u32; N],
        value: Value<'a>,
    ) -> Result<[Option<Value<'a>>; N], ProtobufError> {
        let Value::Bytes(bytes) = value else {
            return Err(self.wrong_wire_type());
        };
        let mut found = [None; N];
        for field in Fields::new(bytes) {
            let (number, value) = field?;
            let Some(index) = numbers.iter().position(|known| *known == number) else {
                return Err(ProtobufError::UnknownField {
                    message: self.field.json,
                    number,
                });
            };
            if found[index].replace(value).is_some() {
                return Err(self.repeated());
            }
        }
        Ok(found)
    }

    fn int_of(&self, value: Option<Value<'_>>) -> Result<i64, ProtobufError> {
        match value {
            None => Ok(0),
            Some(Value::Varint(number)) => Ok(number.cast_signed()),
            Some(Value::Bytes(_)) => Err(self.wrong_wire_type()),
        }
    }

    /// The value of a map entry that has none on the wire.
    const fn absent(&self) -> Value<'static> {
        match self.field.kind {
            Kind::Bool | Kind::Int32 | Kind::Int64 => Value::Varint(0),
            Kind::Str
            | Kind::Bytes
            | Kind::Object(_)
            | Kind::Time
            | Kind::MicroTime
            | Kind::Quantity
            | Kind::IntOrString
            | Kind::RawJson
            | Kind::Strings => Value::Bytes(b""),
        }
    }

    const fn repeated(&self) -> ProtobufError {
        ProtobufError::Repeated {
            message: self.message.name,
            field: self.field.json,
        }
    }

    const fn wrong_wire_type(&self) -> ProtobufError {
        ProtobufError::WrongWireType {
            message: self.message.name,
            field: self.field.json,
        }
    }

    const fn bad(&self, expected: &'static str) -> ProtobufError {
        ProtobufError::BadValue {
            message: self.message.name,
            field: self.field.json,
            expected,
        }
    }
}
