//! Content negotiation: what the API server is asked to answer with. JSON on every resource request, so that
//! every object that comes back can be read.

#[cfg(test)]
mod tests;

use crate::reason::{Reason, Refusal};
use crate::request_info::{ApiRequest, RequestScope};

/// Longest `Accept` value.
const MAX_ACCEPT_BYTES: usize = 4096;

/// The only thing a client on a resource path can get.
const JSON: &str = "application/json";

/// Ways in which the API server can shape an object, besides as it is.
const SHAPES: [&str; 3] = ["Table", "PartialObjectMetadata", "PartialObjectMetadataList"];

/// The `Accept` value to send upstream, given the caller's.
///
/// Plain paths and container logs carry no objects, so the caller's value passes. On every other path only
/// JSON passes, with the parameters that ask for a table or for metadata; a caller who would also take JSON
/// gets it.
///
/// # Errors
/// [`Reason::NotAcceptable`] when the caller takes nothing that the guard could read, or the value is no
/// `Accept` header.
pub fn accept(request: &ApiRequest, accept: Option<&str>) -> Result<String, Refusal> {
    let accept = accept.unwrap_or_default().trim();
    if accept.len() > MAX_ACCEPT_BYTES {
        return Err(not_acceptable(format!(
            "the Accept header is longer than {MAX_ACCEPT_BYTES} bytes"
        )));
    }
    if !accept
        .bytes()
        .all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte))
    {
        return Err(not_acceptable(
            "the Accept header holds characters other than visible ASCII",
        ));
    }
    if carries_no_objects(request) {
        return Ok(if accept.is_empty() { "*/*" } else { accept }.to_owned());
    }
    if accept.is_empty() {
        return Ok(JSON.to_owned());
    }
    let mut clauses: Vec<Clause<'_>> = accept.split(',').filter_map(Clause::parse).collect();
    // kube-apiserver tries the best quality first, and equal ones in the order given.
    clauses.sort_by_key(|clause| std::cmp::Reverse(clause.quality));
    rewrite(&clauses)
        .ok_or_else(|| not_acceptable("only application/json can be given here; add it to the Accept header"))
}

fn carries_no_objects(request: &ApiRequest) -> bool {
    match request.info().scope() {
        RequestScope::NonResource(_) => true,
        RequestScope::Resource(resource) => {
            resource.group.is_empty() && resource.resource == "pods" && resource.subresource == "log"
        }
    }
}

fn rewrite(clauses: &[Clause<'_>]) -> Option<String> {
    let mut kept: Vec<String> = Vec::new();
    let mut json_will_do = false;
    for clause in clauses {
        match clause.upstream() {
            Some(text) if kept.contains(&text) => {}
            Some(text) => kept.push(text),
            None => json_will_do |= clause.covers_json(),
        }
    }
    if json_will_do && !kept.iter().any(|clause| clause == JSON) {
        kept.push(JSON.to_owned());
    }
    if kept.is_empty() {
        None
    } else {
        Some(kept.join(","))
    }
}

/// One alternative of an `Accept` header.
struct Clause<'a> {
    media_type: String,
    parameters: Vec<(String, &'a str)>,
    /// In thousandths.
    quality: u16,
}

impl<'a> Clause<'a> {
    /// `None` for what is no media type.
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let media_type = parts.next()?.to_ascii_lowercase();
        media_type.split_once('/')?;
        let mut clause = Self {
            media_type,
            parameters: Vec::new(),
            quality: 1000,
        };
        for parameter in parts {
            let (key, value) = parameter.split_once('=')?;
            let (key, value) = (key.trim_end().to_ascii_lowercase(), value.trim_start());
            if key == "q" {
                clause.quality = quality(value)?;
            } else {
                clause.parameters.push((key, value));
            }
        }
        Some(clause)
    }

    /// What goes upstream in place of the clause, when it asks for JSON in a shape the guard knows.
    fn upstream(&self) -> Option<String> {
        if self.media_type != JSON {
            return None;
        }
        let Some(shape) = self.parameter("as").ok()? else {
            let shapeless = self.parameter("g").ok()?.is_none() && self.parameter("v").ok()?.is_none();
            return shapeless.then(|| JSON.to_owned());
        };
        let group = self.parameter("g").ok()??;
        let version = self.parameter("v").ok()??;
        let known = SHAPES.contains(&shape) && group == "meta.k8s.io" && matches!(version, "v1" | "v1beta1");
        known.then(|| format!("{JSON};as={shape};v={version};g={group}"))
    }

    /// Whether a caller who wrote the clause can be given JSON.
    fn covers_json(&self) -> bool {
        matches!(
            self.media_type.as_str(),
            "*/*"
                | "application/*"
                | JSON
                | "application/vnd.kubernetes.protobuf"
                | "application/cbor"
                | "application/cbor-seq"
        )
    }

    /// A parameter's value; an error when it stands twice.
    fn parameter(&self, name: &str) -> Result<Option<&'a str>, Twice> {
        let mut values = self
            .parameters
            .iter()
            .filter(|(key, _)| key == name)
            .map(|(_, value)| *value);
        let value = values.next();
        if values.next().is_some() {
            Err(Twice)
        } else {
            Ok(value)
        }
    }
}

/// A parameter that stands twice.
struct Twice;

/// RFC 9110 `qvalue`, in thousandths.
fn quality(text: &str) -> Option<u16> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !matches!(whole, "0" | "1")
        || fraction.len() > 3
        || !fraction.bytes().all(|byte| byte.is_ascii_digit())
    {
        return None;
    }
    let thousandths: u16 = format!("{fraction:0<3}").parse().ok()?;
    let quality = if whole == "1" { 1000 } else { 0 } + thousandths;
    (quality <= 1000).then_some(quality)
}

fn not_acceptable(message: impl Into<String>) -> Refusal {
    Refusal::new(Reason::NotAcceptable, message)
}
