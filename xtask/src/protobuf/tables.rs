//! Packages to Rust: one file a group, one module a version, one static a message that a kind reaches.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use anyhow::{Context, Result, bail};

use crate::protobuf::golang::{GoField, JsonName, Struct};
use crate::protobuf::proto::{Count, WireField};
use crate::protobuf::{MARKER, Packages};

/// Messages that JSON writes in a form of their own, and the row's kind for each.
const SPECIAL: [(&str, &str); 7] = [
    ("k8s.io.apimachinery.pkg.apis.meta.v1.Time", "Time"),
    ("k8s.io.apimachinery.pkg.apis.meta.v1.MicroTime", "MicroTime"),
    ("k8s.io.apimachinery.pkg.apis.meta.v1.FieldsV1", "RawJson"),
    ("k8s.io.apimachinery.pkg.api.resource.Quantity", "Quantity"),
    ("k8s.io.apimachinery.pkg.util.intstr.IntOrString", "IntOrString"),
    ("k8s.io.apimachinery.pkg.runtime.RawExtension", "RawJson"),
    (
        "k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1.JSON",
        "RawJson",
    ),
];

/// Messages that JSON writes as one of their members, whichever is there, and the row's kind for each.
const EITHER: [(&str, &str); 3] = [
    (
        "k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool",
        "ObjectOrBool",
    ),
    (
        "k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray",
        "ObjectOrObjects",
    ),
    (
        "k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray",
        "ObjectOrStrings",
    ),
];

const SCALAR: [(&str, &str); 6] = [
    ("string", "Str"),
    ("bool", "Bool"),
    ("int32", "Int32"),
    ("int64", "Int64"),
    ("double", "Double"),
    ("bytes", "Bytes"),
];

/// Read by name, under the version of any group.
const DELETE_OPTIONS: &str = "k8s.io.apimachinery.pkg.apis.meta.v1.DeleteOptions";

/// (file below the folder of the protobuf reader, its text)
pub(super) fn write(packages: &Packages) -> Result<Vec<(String, String)>> {
    let mut groups: BTreeMap<Place, BTreeMap<String, String>> = BTreeMap::new();
    let mut done = BTreeSet::new();
    let mut ahead: Vec<String> = packages.kinds.values().cloned().collect();
    ahead.push(DELETE_OPTIONS.to_owned());
    while let Some(message) = ahead.pop() {
        if !done.insert(message.clone()) {
            continue;
        }
        let place = Place::of(&message)?;
        let table = Table {
            packages,
            place: &place,
        };
        let text = table
            .message(&message, &mut ahead)
            .with_context(|| message.clone())?;
        let messages = groups.entry(place).or_default();
        if messages.insert(constant(&message), text).is_some() {
            bail!("two messages of {message}'s package have the same Rust name");
        }
    }
    let mut files = vec![("tables.rs".to_owned(), kinds(packages, &groups)?)];
    for group in groups.keys().map(|place| &place.group).collect::<BTreeSet<_>>() {
        let versions = groups.iter().filter(|(place, _)| place.group == *group);
        files.push((format!("tables/{group}.rs"), group_file(packages, versions)));
    }
    Ok(files)
}

/// Where a message is written: file and module.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    group: String,
    version: String,
}

impl Place {
    /// The last two parts of the package of `k8s.io.api.apps.v1.Deployment`.
    fn of(message: &str) -> Result<Self> {
        let mut parts = message.rsplit('.').skip(1);
        match (parts.next(), parts.next()) {
            (Some(version), Some(group)) => Ok(Self {
                group: group.to_owned(),
                version: version.to_owned(),
            }),
            _ => bail!("{message} names no group"),
        }
    }
}

/// The table of one message under way.
struct Table<'a> {
    packages: &'a Packages,
    place: &'a Place,
}

impl Table<'_> {
    fn message(&self, message: &str, ahead: &mut Vec<String>) -> Result<String> {
        let wire = self.wire(message)?;
        let Some(Struct::Fields(fields)) = self.packages.type_of(message) else {
            bail!("no Go struct");
        };
        if fields.len() != wire.len() {
            bail!("{} fields in Go, {} on the wire", fields.len(), wire.len());
        }
        let name = message.rsplit('.').next().unwrap_or_default();
        let mut text = format!(
            "    pub(crate) static {}: Message = Message {{ name: \"{name}\", fields: &[\n",
            constant(message)
        );
        for go in fields {
            let field = wire.iter().find(|field| field.number == go.number);
            let field = field.with_context(|| format!("no field {} on the wire", go.number))?;
            if let Some(row) = self.row(go, field, ahead)? {
                writeln!(text, "        {row},")?;
            }
        }
        text.push_str("    ] };\n");
        Ok(text)
    }

    fn wire(&self, message: &str) -> Result<&[WireField]> {
        let wire = self.packages.messages.get(message).context("no message")?;
        Ok(wire)
    }

    fn row(&self, go: &GoField, field: &WireField, ahead: &mut Vec<String>) -> Result<Option<String>> {
        let function = match field.count {
            Count::One => "one",
            Count::Many => "many",
            Count::Map => "map",
        };
        let number = field.number;
        match &go.json {
            // A row that is not there refuses the field: JSON could not say it.
            JsonName::Left => Ok(None),
            JsonName::Named(name) if !name.is_empty() => {
                let kind = self.kind(&field.kind, ahead)?;
                Ok(Some(format!("{function}({number}, \"{name}\", {kind})")))
            }
            JsonName::Inline if field.count == Count::One => {
                let kind = self.reference(&field.kind, ahead)?;
                Ok(Some(format!("inline({number}, {kind})")))
            }
            JsonName::Named(_) | JsonName::Inline => bail!("field {number} has no JSON name"),
        }
    }

    /// The kind of a row, as Rust.
    fn kind(&self, kind: &str, ahead: &mut Vec<String>) -> Result<String> {
        let known = |table: &'static [(&'static str, &'static str)]| {
            table.iter().find(|row| row.0 == kind).map(|row| row.1)
        };
        if let Some(word) = known(&SCALAR).or(known(&SPECIAL)) {
            return Ok(word.to_owned());
        }
        if let Some(word) = known(&EITHER) {
            let wire = self.wire(kind)?;
            let object = wire.iter().find(|field| field.kind.contains('.'));
            let object = object.with_context(|| format!("{kind} holds no message"))?;
            return Ok(format!("{word}({})", self.reference(&object.kind, ahead)?));
        }
        match self.packages.type_of(kind) {
            Some(Struct::Strings) => Ok("Strings".to_owned()),
            Some(Struct::Fields(_)) => Ok(format!("Object({})", self.reference(kind, ahead)?)),
            Some(Struct::Same(_)) | None => bail!("the type {kind} is not known"),
        }
    }

    /// `&meta::v1::OBJECT_META`, and takes note that it has to be written too.
    fn reference(&self, message: &str, ahead: &mut Vec<String>) -> Result<String> {
        ahead.push(message.to_owned());
        let place = Place::of(message)?;
        if place == *self.place {
            return Ok(format!("&{}", constant(message)));
        }
        Ok(format!(
            "&{}::{}::{}",
            place.group,
            place.version,
            constant(message)
        ))
    }
}

/// `PodTemplateSpec` → `POD_TEMPLATE_SPEC`, `HTTPGetAction` → `HTTP_GET_ACTION`.
fn constant(message: &str) -> String {
    let letters: Vec<char> = message.rsplit('.').next().unwrap_or_default().chars().collect();
    let mut out = String::new();
    for (at, letter) in letters.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|at| letters.get(at));
        let starts_word = before.is_some_and(|before| !before.is_uppercase())
            || letters.get(at + 1).is_some_and(|after| after.is_lowercase());
        if at > 0 && letter.is_uppercase() && starts_word {
            out.push('_');
        }
        out.push(letter.to_ascii_uppercase());
    }
    out
}

fn group_file<'a>(
    packages: &Packages,
    versions: impl Iterator<Item = (&'a Place, &'a BTreeMap<String, String>)>,
) -> String {
    let mut text = format!(
        "{MARKER} from k8s.io/api {} and its companions; not edited by hand.\n",
        packages.version
    );
    for (place, messages) in versions {
        let body: Vec<&str> = messages.values().map(String::as_str).collect();
        let body = body.join("\n");
        text.push_str(&format!("\npub(super) mod {} {{\n", place.version));
        text.push_str(&imports(&body));
        text.push('\n');
        text.push_str(&body);
        text.push_str("}\n");
    }
    text
}

/// The `use` lines that the tables of a module need.
fn imports(body: &str) -> String {
    let words: BTreeSet<&str> = body
        .split(|letter: char| !letter.is_alphanumeric() && letter != '_' && letter != ':')
        .collect();
    let kinds: BTreeSet<&str> = [SCALAR.as_slice(), &SPECIAL, &EITHER]
        .concat()
        .iter()
        .map(|row| row.1)
        .chain(["Object", "Strings"])
        .filter(|kind| words.contains(kind))
        .collect();
    let functions = ["inline", "many", "map", "one"]
        .into_iter()
        .filter(|function| body.contains(&format!(" {function}(")));
    let groups: BTreeSet<&str> = words
        .iter()
        .filter_map(|word| word.split_once("::").map(|(group, _)| group))
        .collect();
    let list = |words: Vec<&str>| words.join(", ");
    let mut text = String::new();
    if !kinds.is_empty() {
        let kinds = list(kinds.into_iter().collect());
        text.push_str(&format!(
            "    use crate::body::protobuf::schema::Kind::{{{kinds}}};\n"
        ));
    }
    let items = list(["Message"].into_iter().chain(functions).collect());
    text.push_str(&format!("    use crate::body::protobuf::schema::{{{items}}};\n"));
    if !groups.is_empty() {
        let groups = list(groups.into_iter().collect());
        text.push_str(&format!("    use crate::body::protobuf::tables::{{{groups}}};\n"));
    }
    text
}

fn kinds(packages: &Packages, groups: &BTreeMap<Place, BTreeMap<String, String>>) -> Result<String> {
    let mut text = format!(
        "{MARKER} from k8s.io/api {} and its companions; not edited by hand.\n",
        packages.version
    );
    text.push_str("\nuse crate::body::protobuf::schema::Message;\n\n");
    for group in groups.keys().map(|place| &place.group).collect::<BTreeSet<_>>() {
        writeln!(text, "mod {group};")?;
    }
    let reference = |message: &str| -> Result<String> {
        let place = Place::of(message)?;
        Ok(format!(
            "&{}::{}::{}",
            place.group,
            place.version,
            constant(message)
        ))
    };
    writeln!(
        text,
        "\n/// Clients send it under the version of the group they delete from."
    )?;
    writeln!(
        text,
        "pub(super) static DELETE_OPTIONS: &Message = {};",
        reference(DELETE_OPTIONS)?
    )?;
    text.push_str(
        "\n/// (apiVersion, kind, table), sorted.\npub(super) static KINDS: &[(&str, &str, &Message)] = &[\n",
    );
    for ((api_version, kind), message) in &packages.kinds {
        writeln!(
            text,
            "    (\"{api_version}\", \"{kind}\", {}),",
            reference(message)?
        )?;
    }
    text.push_str("];\n");
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_split_where_people_read_a_new_word() {
        for (message, expected) in [
            ("a.v1.PodTemplateSpec", "POD_TEMPLATE_SPEC"),
            ("HTTPGetAction", "HTTP_GET_ACTION"),
            ("CSIDriver", "CSI_DRIVER"),
            ("PodIP", "POD_IP"),
            ("JSONSchemaProps", "JSON_SCHEMA_PROPS"),
        ] {
            assert_eq!(constant(message), expected);
        }
    }
}
