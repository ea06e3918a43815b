//! What the tables say about the JSON of a kind: which members an object may have, and what they hold.

use crate::body::protobuf::kinds;
use crate::body::protobuf::schema::{Count, Field, Kind, Message};

/// What a value is.
#[derive(Clone, Debug)]
pub(crate) enum Shape {
    /// An object with these members and no others.
    Object(Fields),
    /// An object with any members, which all hold this.
    Map(Box<Shape>),
    /// An array.
    List(Box<Shape>),
    /// A string.
    Text,
    /// A number.
    Number,
    /// true or false.
    Bool,
    /// Any of these, or nothing is known.
    Any,
}

/// The members of an object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields(&'static Message);

impl Shape {
    /// Of a kind with this lower-case name, in each version of a group.
    pub(crate) fn of_kind(group: &str, singular: &str) -> Vec<Self> {
        let messages = kinds::in_group(group, singular);
        messages.map(|message| Self::Object(Fields(message))).collect()
    }

    /// Whether both are known to be one and the same.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Object(one), Self::Object(other)) => std::ptr::eq(one.0, other.0),
            (Self::Map(one), Self::Map(other)) | (Self::List(one), Self::List(other)) => one.is_same(other),
            (Self::Text, Self::Text) | (Self::Number, Self::Number) | (Self::Bool, Self::Bool) => true,
            _ => false,
        }
    }

    fn of(kind: Kind) -> Self {
        match kind {
            Kind::Str | Kind::Bytes | Kind::Time | Kind::MicroTime => Self::Text,
            Kind::Bool => Self::Bool,
            Kind::Int32 | Kind::Int64 | Kind::Double => Self::Number,
            Kind::Object(message) => Self::Object(Fields(message)),
            Kind::Strings => Self::List(Box::new(Self::Text)),
            Kind::Quantity
            | Kind::IntOrString
            | Kind::RawJson
            | Kind::Inline(_)
            | Kind::ObjectOrBool(_)
            | Kind::ObjectOrObjects(_)
            | Kind::ObjectOrStrings(_) => Self::Any,
        }
    }
}

impl Fields {
    /// The name of the type, as in Kubernetes' own code: `DeploymentSpec`.
    pub(crate) fn type_name(self) -> &'static str {
        self.0.name
    }

    /// What a member holds; none when there is no such member.
    pub(crate) fn get(self, name: &str) -> Option<Shape> {
        let mut fields = self.all();
        if let Some(field) = fields.find(|field| field.json == name) {
            let one = Shape::of(field.kind);
            return Some(match field.count {
                Count::One => one,
                Count::Many => Shape::List(Box::new(one)),
                Count::Map => Shape::Map(Box::new(one)),
            });
        }
        (self.is_whole() && matches!(name, "kind" | "apiVersion")).then_some(Shape::Text)
    }

    /// The names of all members.
    pub(crate) fn names(self) -> Vec<&'static str> {
        self.all().map(|field| field.json).collect()
    }

    /// Whether it says its own kind and version.
    fn is_whole(self) -> bool {
        self.0.fields.iter().any(|field| field.json == "metadata")
    }

    fn all(self) -> Box<dyn Iterator<Item = &'static Field>> {
        Box::new(self.0.fields.iter().flat_map(|field| {
            let Kind::Inline(message) = field.kind else {
                let alone: Box<dyn Iterator<Item = &'static Field>> = Box::new(std::iter::once(field));
                return alone;
            };
            Self(message).all()
        }))
    }
}
