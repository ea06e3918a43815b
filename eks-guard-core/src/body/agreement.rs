//! Does the body speak about the object that the URL names? The decision is made on the URL, so it has to.

use crate::body::json::{Member, Outline, Shape};
use crate::body::malformed;
use crate::body::media::Media;
use crate::body::protobuf::is_built_in;
use crate::reason::Refusal;
use crate::request_info::{Method, RequestInfo, RequestScope, ResourceInfo};

/// Refuses a body whose shape or identity is not what the request line says.
pub(super) fn check(
    method: Method,
    info: &RequestInfo,
    media: Media,
    outline: &Outline,
) -> Result<(), Refusal> {
    check_shape(media, outline)?;
    if media == Media::JsonPatch {
        return Ok(());
    }
    if media.is_patch() {
        check_nothing_removed(outline)?;
    }
    let RequestScope::Resource(resource) = info.scope() else {
        return Ok(());
    };
    if method == Method::Delete {
        return check_delete_options(outline);
    }
    check_kind(resource, outline)?;
    check_namespace(resource, outline)?;
    check_name(method, resource, outline)
}

fn check_shape(media: Media, outline: &Outline) -> Result<(), Refusal> {
    let (expected, text) = match media {
        Media::JsonPatch => (Shape::Array, "a JSON patch is an array of operations"),
        Media::Json
        | Media::Yaml
        | Media::Protobuf
        | Media::MergePatch
        | Media::StrategicMergePatch
        | Media::ApplyPatch => (Shape::Object, "the body has to be one JSON object"),
    };
    if outline.shape != expected {
        return Err(malformed(text));
    }
    Ok(())
}

/// In a patch, null is an instruction to remove; what the object is cannot be removed.
fn check_nothing_removed(outline: &Outline) -> Result<(), Refusal> {
    for (path, member) in [
        ("apiVersion", &outline.api_version),
        ("kind", &outline.kind),
        ("metadata.name", &outline.name),
        ("metadata.namespace", &outline.namespace),
    ] {
        if *member == Member::Null {
            return Err(malformed(format!(
                "the patch sets `{path}` to null, which would remove it; leave it out"
            )));
        }
    }
    Ok(())
}

/// Clients send delete options under any group version, so only the kind is telling.
fn check_delete_options(outline: &Outline) -> Result<(), Refusal> {
    match outline.kind.as_str() {
        "" | "DeleteOptions" => Ok(()),
        kind => Err(malformed(format!(
            "the body of a DELETE holds DeleteOptions, not `{kind}`"
        ))),
    }
}

fn check_kind(resource: ResourceInfo<'_>, outline: &Outline) -> Result<(), Refusal> {
    if outline.kind.as_str() == "List" {
        return Err(malformed(
            "the body is a List; send each of its items in a request of its own",
        ));
    }
    let expected = group_version(resource);
    let (stated, kind) = (outline.api_version.as_str(), outline.kind.as_str());
    let disagrees = |what: &str, stated: &str, expected: &str| {
        Err(malformed(format!(
            "the body says {what} `{stated}`, the URL says `{expected}`"
        )))
    };
    match Inside::of(resource) {
        Inside::Object => {
            if !stated.is_empty() && stated != expected {
                return disagrees("apiVersion", stated, &expected);
            }
            if !kind.is_empty() && is_built_in(&expected) && plural(kind) != resource.resource {
                return disagrees("kind", kind, resource.resource);
            }
            Ok(())
        }
        Inside::Kind(other) if !kind.is_empty() && kind != other => disagrees("kind", kind, other),
        Inside::Kind(_) | Inside::Unknown => Ok(()),
    }
}

/// What a request on a resource or on a part of it has in its body.
enum Inside {
    /// The object itself.
    Object,
    /// A kind of its own, in a group of its own.
    Kind(&'static str),
    /// What the part's own server says.
    Unknown,
}

impl Inside {
    fn of(resource: ResourceInfo<'_>) -> Self {
        match resource.subresource {
            "" | "status" | "approval" | "finalize" | "ephemeralcontainers" | "resize" => Self::Object,
            "scale" => Self::Kind("Scale"),
            "eviction" => Self::Kind("Eviction"),
            "token" => Self::Kind("TokenRequest"),
            "binding" => Self::Kind("Binding"),
            _ => Self::Unknown,
        }
    }
}

/// The resource of a kind that is built in.
fn plural(kind: &str) -> String {
    let kind = kind.to_ascii_lowercase();
    match kind.as_bytes() {
        b"endpoints" => kind,
        [.., b's'] => kind + "es",
        [stem @ .., b'y'] => format!("{}ies", String::from_utf8_lossy(stem)),
        _ => kind + "s",
    }
}

fn check_namespace(resource: ResourceInfo<'_>, outline: &Outline) -> Result<(), Refusal> {
    let stated = outline.namespace.as_str();
    if stated.is_empty() || stated == resource.namespace {
        return Ok(());
    }
    let url = match resource.namespace {
        "" => "the URL names none".to_owned(),
        namespace => format!("the URL says `{namespace}`"),
    };
    Err(malformed(format!(
        "the body says namespace `{stated}`, {url}; make them the same"
    )))
}

fn check_name(method: Method, resource: ResourceInfo<'_>, outline: &Outline) -> Result<(), Refusal> {
    let stated = outline.name.as_str();
    let url = resource.name;
    if url.is_empty() || stated == url {
        return Ok(());
    }
    let required = method == Method::Put && resource.subresource.is_empty();
    if stated.is_empty() && !required {
        return Ok(());
    }
    Err(malformed(format!(
        "the body says metadata.name `{stated}`, the URL says `{url}`; make them the same"
    )))
}

fn group_version(resource: ResourceInfo<'_>) -> String {
    match resource.group {
        "" => resource.version.to_owned(),
        group => format!("{group}/{}", resource.version),
    }
}
