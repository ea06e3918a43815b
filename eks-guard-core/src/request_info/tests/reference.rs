//! A second reading of kube-apiserver's algorithm, to check the first one against: the whole path decoded and
//! split as Go does it, nothing refused that kube-apiserver would take.

use std::collections::BTreeMap;

use crate::request_info::ApiRequest;
use crate::request_info::RequestScope;

/// The fields of Go's `RequestInfo` that authorization reads.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Info {
    pub(super) is_resource: bool,
    pub(super) path: String,
    pub(super) verb: String,
    pub(super) group: String,
    pub(super) version: String,
    pub(super) namespace: String,
    pub(super) resource: String,
    pub(super) subresource: String,
    pub(super) name: String,
}

/// Go's `url.Values`.
pub(super) type Values = BTreeMap<String, Vec<String>>;

/// What the guard made of a request, in the same form. The path counts for plain requests only.
pub(super) fn of_request(request: &ApiRequest) -> Info {
    let info = request.info();
    let verb = info.verb.as_str().to_owned();
    match info.scope() {
        RequestScope::NonResource(path) => Info {
            path: path.to_owned(),
            verb,
            ..Info::default()
        },
        RequestScope::Resource(resource) => Info {
            is_resource: true,
            path: String::new(),
            verb,
            group: resource.group.to_owned(),
            version: resource.version.to_owned(),
            namespace: resource.namespace.to_owned(),
            resource: resource.resource.to_owned(),
            subresource: resource.subresource.to_owned(),
            name: resource.name.to_owned(),
        },
    }
}

/// `RequestInfoFactory.NewRequestInfo`; `None` where Go's HTTP server or the factory gives an error.
pub(super) fn new_request_info(method: &str, raw_path: &str, raw_query: &str) -> Option<Info> {
    let path = unescape(raw_path, false)?;
    let query = values(raw_query);
    let trimmed = path.trim_matches('/');
    let mut parts: Vec<&str> = if trimmed.is_empty() {
        Vec::new()
    } else {
        trimmed.split('/').collect()
    };
    let mut info = Info {
        path: path.to_owned(),
        verb: method.to_lowercase(),
        ..Info::default()
    };
    if parts.len() < 3 || !["api", "apis"].contains(&parts[0]) {
        return Some(info);
    }
    if parts.remove(0) == "apis" {
        if parts.len() < 3 {
            return Some(info);
        }
        info.group = parts.remove(0).to_owned();
    }
    info.is_resource = true;
    info.path.clear();
    info.version = parts.remove(0).to_owned();
    if ["watch", "proxy"].contains(&parts[0]) {
        if parts.len() < 2 {
            return None;
        }
        info.verb = parts.remove(0).to_owned();
    } else {
        info.verb = match method {
            "POST" => "create",
            "GET" | "HEAD" => "get",
            "PUT" => "update",
            "PATCH" => "patch",
            "DELETE" => "delete",
            _ => "",
        }
        .to_owned();
    }
    if parts[0] == "namespaces" && parts.len() > 1 {
        info.namespace = parts[1].to_owned();
        if parts.len() > 2 && !["status", "finalize"].contains(&parts[2]) {
            parts.drain(..2);
        }
    }
    if parts.len() >= 3 && info.verb != "proxy" {
        info.subresource = parts[2].to_owned();
    }
    if parts.len() >= 2 {
        info.name = parts[1].to_owned();
    }
    info.resource = parts[0].to_owned();
    if info.name.is_empty() && info.verb == "get" {
        let watch = query.get("watch").is_some_and(|values| on(&values[0]));
        info.verb = if watch { "watch" } else { "list" }.to_owned();
        if let Some(name) = query
            .get("fieldSelector")
            .and_then(|values| first_exact_name(&values[0]))
        {
            let legal = name != "." && name != ".." && !name.contains('/') && !name.contains('%');
            info.name = if legal { name } else { String::new() };
        }
    }
    if info.name.is_empty() && info.verb == "delete" {
        info.verb = "deletecollection".to_owned();
    }
    Some(info)
}

/// `Convert_Slice_string_To_bool`.
pub(super) fn on(value: &str) -> bool {
    !(value == "0" || value.eq_ignore_ascii_case("false"))
}

/// `url.ParseQuery`, its errors ignored as `URL.Query` does.
pub(super) fn values(raw: &str) -> Values {
    let mut values = Values::new();
    for pair in raw
        .split('&')
        .filter(|pair| !pair.is_empty() && !pair.contains(';'))
    {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if let (Some(key), Some(value)) = (unescape(key, true), unescape(value, true)) {
            values.entry(key).or_default().push(value);
        }
    }
    values
}

fn unescape(raw: &str, plus_is_space: bool) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = raw.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first == b'%' {
            let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
            if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return None;
            }
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &rest[2..];
        } else if first == b'+' && plus_is_space {
            bytes.push(b' ');
        } else {
            bytes.push(first);
        }
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// `fields.ParseSelector` and `RequiresExactMatch("metadata.name")`; terms are sorted before the first one wins.
fn first_exact_name(selector: &str) -> Option<String> {
    let (mut terms, mut term, mut in_slash) = (Vec::new(), String::new(), false);
    for c in selector.chars() {
        if !in_slash && c == ',' {
            terms.push(std::mem::take(&mut term));
            continue;
        }
        in_slash = !in_slash && c == '\\';
        term.push(c);
    }
    terms.push(term);
    terms.sort();
    let mut found = None;
    for term in terms.iter().filter(|term| !term.is_empty()) {
        let at = (0..term.len()).find(|&at| term.as_bytes()[at] == b'=' || term[at..].starts_with("!="))?;
        let (field, operator) = term.split_at(at);
        let value = operator.trim_start_matches('!');
        let value = value.strip_prefix("==").or_else(|| value.strip_prefix('='))?;
        let value = unescape_value(value)?;
        if field == "metadata.name" && !operator.starts_with('!') && found.is_none() {
            found = Some(value);
        }
    }
    found
}

fn unescape_value(raw: &str) -> Option<String> {
    let (mut value, mut in_slash) = (String::new(), false);
    for c in raw.chars() {
        match (in_slash, c) {
            (true, '\\' | ',' | '=') | (false, _) if in_slash || !matches!(c, '\\' | ',' | '=') => {
                value.push(c);
                in_slash = false;
            }
            (false, '\\') => in_slash = true,
            _ => return None,
        }
    }
    (!in_slash).then_some(value)
}
