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

mod choice;

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
        let writer = Writer {
            message,
            field,
            depth,
        };
        if let (Kind::Inline(inner), [(_, value)]) = (field.kind, group) {
            write_members(inner, writer.bytes(*value)?, depth + 1, out)?;
            continue;
        }
        out.push(b',');
        write_str(field.json, out);
        out.push(b':');
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
    let mut values: Vec<(usize, Value<'_>)> = Vec::new();
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        let unknown = ProtobufError::UnknownField {
            message: message.name,
            number,
        };
        // A list has one field again and again.
        let row = match values.last() {
            Some((last, _)) if message.fields[*last].number == number => Some(*last),
            Some(_) | None => message.fields.iter().position(|field| field.number == number),
        };
        values.push((row.ok_or(unknown)?, value));
    }
    values.sort_by_key(|(row, _)| *row);
    Ok(values)
}

/// One field under way, with what an error has to name.
struct Writer<'t> {
    message: &'static Message,
    field: &'t Field,
    depth: usize,
}

impl Writer<'_> {
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
                Some(Value::Varint(_) | Value::Fixed64(_)) | None => return Err(self.bad("map key")),
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
            (Kind::Double, Value::Fixed64(bits)) => self.double(f64::from_bits(bits), out),
            (Kind::ObjectOrBool(message), value @ Value::Bytes(_)) => {
                self.object_or_bool(message, value, out)
            }
            (Kind::ObjectOrObjects(message), Value::Bytes(bytes)) => {
                self.object_or_many(message, Kind::Object(message), bytes, out)
            }
            (Kind::ObjectOrStrings(message), Value::Bytes(bytes)) => {
                self.object_or_many(message, Kind::Str, bytes, out)
            }
            (_, Value::Varint(_) | Value::Fixed64(_) | Value::Bytes(_)) => Err(self.wrong_wire_type()),
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

    fn double(&self, number: f64, out: &mut Vec<u8>) -> Result<(), ProtobufError> {
        if !number.is_finite() {
            return Err(self.bad("number"));
        }
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
        let [seconds, nanos] = self.pick([1, 2], value)?;
        let (seconds, nanos) = (self.int_of(seconds)?, self.int_of(nanos)?);
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
            (0 | 1, Some(Value::Varint(_) | Value::Fixed64(_))) => Err(self.wrong_wire_type()),
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
            [Some(Value::Varint(_) | Value::Fixed64(_))] => return Err(self.wrong_wire_type()),
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
                (number, _) => return Err(self.unknown(number)),
            }
        }
        Writer {
            field: &ITEM,
            ..*self
        }
        .array(&values, out)
    }

    /// The fields with these numbers of a small message, each at most once, and no others.
    fn pick<'a, const N: usize>(
        &self,
        numbers: [u32; N],
        value: Value<'a>,
    ) -> Result<[Option<Value<'a>>; N], ProtobufError> {
        let mut found = [None; N];
        for field in Fields::new(self.bytes(value)?) {
            let (number, value) = field?;
            let Some(index) = numbers.iter().position(|known| *known == number) else {
                return Err(self.unknown(number));
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
            Some(Value::Bytes(_) | Value::Fixed64(_)) => Err(self.wrong_wire_type()),
        }
    }

    const fn bytes<'a>(&self, value: Value<'a>) -> Result<&'a [u8], ProtobufError> {
        match value {
            Value::Bytes(bytes) => Ok(bytes),
            Value::Varint(_) | Value::Fixed64(_) => Err(self.wrong_wire_type()),
        }
    }

    /// The value of a map entry that has none on the wire.
    const fn absent(&self) -> Value<'static> {
        match self.field.kind {
            Kind::Bool | Kind::Int32 | Kind::Int64 => Value::Varint(0),
            Kind::Double => Value::Fixed64(0),
            Kind::Str
            | Kind::Bytes
            | Kind::Object(_)
            | Kind::Time
            | Kind::MicroTime
            | Kind::Quantity
            | Kind::IntOrString
            | Kind::RawJson
            | Kind::Strings
            | Kind::Inline(_)
            | Kind::ObjectOrBool(_)
            | Kind::ObjectOrObjects(_)
            | Kind::ObjectOrStrings(_) => Value::Bytes(b""),
        }
    }

    /// What an error calls the field.
    const fn label(&self) -> &'static str {
        if let Kind::Inline(message) = self.field.kind {
            return message.name;
        }
        self.field.json
    }

    const fn repeated(&self) -> ProtobufError {
        ProtobufError::Repeated {
            message: self.message.name,
            field: self.label(),
        }
    }

    /// A field of the message that this field holds.
    const fn unknown(&self, number: u32) -> ProtobufError {
        ProtobufError::UnknownField {
            message: self.label(),
            number,
        }
    }

    const fn wrong_wire_type(&self) -> ProtobufError {
        ProtobufError::WrongWireType {
            message: self.message.name,
            field: self.label(),
        }
    }

    const fn bad(&self, expected: &'static str) -> ProtobufError {
        ProtobufError::BadValue {
            message: self.message.name,
            field: self.label(),
            expected,
        }
    }
}
