//! Reads what the tables need from the Go files of one API package: struct tags, registered kinds, and in which release
//! a kind is no longer served.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// One Go package.
#[derive(Debug, Default)]
pub(super) struct Source {
    /// `apps`, `rbac.authorization.k8s.io`, or nothing for the core group.
    pub(super) group: String,
    /// What it registers under its version.
    pub(super) kinds: BTreeSet<String>,
    /// Kind → minor release that no longer serves it.
    pub(super) removed: BTreeMap<String, u32>,
    pub(super) structs: BTreeMap<String, Struct>,
}

/// A Go type that is a message on the wire.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Struct {
    /// Fields, in the order in which Go writes them as JSON.
    Fields(Vec<GoField>),
    /// `type Name []string`
    Strings,
    /// `type Name v1.Other`: the fields of `Other` in version `v1` of the group.
    Same(String),
}

/// A field that has a wire number.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct GoField {
    pub(super) number: u32,
    pub(super) json: JsonName,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum JsonName {
    Named(String),
    /// The members of the field are members of what holds it.
    Inline,
    /// JSON does not hold it.
    Left,
}

pub(super) fn read(folder: &Path) -> Result<Source> {
    let mut source = Source::default();
    for entry in fs::read_dir(folder).context("listing the package")? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if !name.ends_with(".go") || name.ends_with("_test.go") || name.ends_with(".pb.go") {
            continue;
        }
        let text = fs::read_to_string(&path).with_context(|| format!("reading {name}"))?;
        match name.as_str() {
            "register.go" => registered(&text, &mut source),
            "zz_generated.prerelease-lifecycle.go" => removed(&text, &mut source),
            _ => structs(&text, &mut source),
        }
    }
    Ok(source)
}

/// `const GroupName = "…"`, and every `&Kind{}` between `AddKnownTypes(` and its `)`.
fn registered(text: &str, source: &mut Source) {
    for line in text.lines() {
        if let Some(value) = line.trim().strip_prefix("const GroupName = ") {
            value.trim_matches('"').clone_into(&mut source.group);
        }
    }
    for call in text.split("AddKnownTypes(").skip(1) {
        let arguments = call.split("\n\t)").next().unwrap_or_default();
        for argument in arguments.split(',') {
            if let Some(kind) = argument.trim().strip_prefix('&')
                && let Some(kind) = kind.split('{').next()
                && !kind.contains('.')
            {
                source.kinds.insert(kind.to_owned());
            }
        }
    }
}

/// `func (in *Kind) APILifecycleRemoved() (major, minor int) {`, then `return 1, MINOR`.
fn removed(text: &str, source: &mut Source) {
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let kind = line
            .strip_prefix("func (in *")
            .and_then(|rest| rest.split_once(") APILifecycleRemoved()"));
        if let Some((kind, _)) = kind
            && let Some(result) = lines.next()
            && let Some(minor) = result.trim().strip_prefix("return 1, ")
            && let Ok(minor) = minor.parse()
        {
            source.removed.insert(kind.to_owned(), minor);
        }
    }
}

fn structs(text: &str, source: &mut Source) {
    let mut open: Option<(String, Vec<GoField>)> = None;
    for line in text.lines() {
        if let Some(declared) = line.strip_prefix("type ") {
            if let Some((name, rest)) = declared.split_once(' ') {
                match rest {
                    "struct {" => open = Some((name.to_owned(), Vec::new())),
                    "struct{}" | "struct {}" => {
                        let empty = Struct::Fields(Vec::new());
                        source.structs.insert(name.to_owned(), empty);
                    }
                    "[]string" => {
                        source.structs.insert(name.to_owned(), Struct::Strings);
                    }
                    other => {
                        if other.starts_with("v1.") {
                            source
                                .structs
                                .insert(name.to_owned(), Struct::Same(other.to_owned()));
                        }
                    }
                }
            }
        } else if line == "}" {
            if let Some((name, fields)) = open.take() {
                source.structs.insert(name, Struct::Fields(fields));
            }
        } else if let Some((_, fields)) = &mut open {
            fields.extend(field(line));
        }
    }
}

/// `Name Type \`json:"name,omitempty" protobuf:"bytes,1,opt,name=name"\``; none for what is not on the wire.
fn field(line: &str) -> Option<GoField> {
    if line.trim_start().starts_with("//") {
        return None;
    }
    let (_, tags) = line.split_once('`')?;
    let tag = |key: &str| {
        let (_, rest) = tags.split_once(&format!("{key}:\""))?;
        rest.split_once('"').map(|(value, _)| value)
    };
    let number = tag("protobuf")?.split(',').nth(1)?.parse().ok()?;
    let mut json = tag("json")?.split(',');
    let name = json.next().unwrap_or_default();
    let json = match name {
        "-" => JsonName::Left,
        "" if json.any(|option| option == "inline") => JsonName::Inline,
        // Go would take the name of the field; no API type relies on it, and the tables refuse an empty name.
        name => JsonName::Named(name.to_owned()),
    };
    Some(GoField { number, json })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_tags_kinds_and_releases() {
        let mut source = Source::default();
        structs(
            "type A struct {\n\tTypeMeta `json:\",inline\"`\n\t// B *B `json:\"b\" protobuf:\"bytes,9,opt,name=b\"`\n\
             \tName string `json:\"realName,omitempty\" protobuf:\"bytes,2,opt,name=name\"`\n\
             \tSource `json:\",inline\" protobuf:\"bytes,1,req\"`\n\
             \tNo string `json:\"-\" protobuf:\"bytes,3,opt,name=no\"`\n}\ntype Extra []string\n\
             type None struct{}\ntype M v1.M\ntype S string\n",
            &mut source,
        );
        let named = JsonName::Named("realName".to_owned());
        let field = |number, json| GoField { number, json };
        let expected = vec![
            field(2, named),
            field(1, JsonName::Inline),
            field(3, JsonName::Left),
        ];
        assert_eq!(source.structs["A"], Struct::Fields(expected));
        assert_eq!(source.structs["Extra"], Struct::Strings);
        assert_eq!(source.structs["None"], Struct::Fields(Vec::new()));
        assert_eq!(source.structs["M"], Struct::Same("v1.M".to_owned()));
        assert_eq!(source.structs.len(), 4);
        registered(
            "const GroupName = \"a.b\"\n\tscheme.AddKnownTypes(V,\n\t\t&A{},\n\t\t&BList{},\n\t)\n\ts.AddKnownTypes(V, &m.Status{})\n",
            &mut source,
        );
        assert_eq!(source.group, "a.b");
        assert_eq!(source.kinds.iter().collect::<Vec<_>>(), ["A", "BList"]);
        removed(
            "func (in *A) APILifecycleRemoved() (major, minor int) {\n\treturn 1, 22\n}\n",
            &mut source,
        );
        assert_eq!(source.removed["A"], 22);
    }
}
