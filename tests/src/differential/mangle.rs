//! What nobody sends by accident: the same request with one thing about it changed, in the path, the query, the head or the body.

use crate::differential::random::Random;
use crate::differential::sample::Sample;

/// Changes one thing.
pub(super) fn mangle(sample: &mut Sample, random: &mut Random) {
    match random.below(if sample.body.is_empty() { 65 } else { 100 }) {
        0..30 => path(sample, random),
        30..55 => query(sample, random),
        55..65 => head(sample, random),
        _ => body(sample, random),
    }
}

fn split(target: &str) -> (String, Option<String>) {
    match target.split_once('?') {
        Some((path, query)) => (path.to_owned(), Some(query.to_owned())),
        None => (target.to_owned(), None),
    }
}

fn join(path: &str, query: Option<&str>) -> String {
    query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"))
}

fn path(sample: &mut Sample, random: &mut Random) {
    let (path, query) = split(&sample.target);
    let mut segments: Vec<String> = path.split('/').skip(1).map(str::to_owned).collect();
    let at = random.below(segments.len());
    let last = segments.len().saturating_sub(1);
    match random.below(22) {
        0 | 1 => segments[at] = escaped(&segments[at], random),
        2 => segments.insert(at, String::new()),
        3 => segments.push(String::new()),
        4 => segments.extend([String::new(), String::new()]),
        5 => segments.insert(at, random.pick(&[".", "..", "%2e", "%2E%2e", "..;"]).to_owned()),
        6 => segments[at]
            .push_str(random.pick(&["%2F", "%2f..", "%252F", "%5C", "%00", "%20", "%0a", "%7f", "%"])),
        7 => segments[at] = segments[at].to_uppercase(),
        8 => segments.insert(
            2.min(last),
            random.pick(&["watch", "proxy", "namespaces"]).to_owned(),
        ),
        9 => segments.insert(3.min(last), random.pick(&["watch", "proxy", "pods"]).to_owned()),
        10 => segments.push(
            random
                .pick(&[
                    "status", "scale", "log", "finalize", "proxy", "eviction", "nothing",
                ])
                .to_owned(),
        ),
        11 => segments.extend(["status", "status", "more"].map(str::to_owned)),
        12 => drop(segments.remove(at)),
        13 => segments[at]
            .push_str(random.pick(&[";a=b", "?", "#x", "%23", "%3F", "+", "&", "=", "'", "\"", "|"])),
        14 => {
            segments[at] = random
                .pick(&["ü", "%C3%BC", "%ff", "%c0%af", "%EF%BC%8F", "☃"])
                .to_owned()
        }
        15 => segments[at] = "x".repeat(random.below(3000)),
        16 => {
            segments[last] = random
                .pick(&["status", "finalize", "watch", "namespaces", "proxy"])
                .to_owned()
        }
        17 => segments.swap(at, last),
        18 => segments = segments.join("%2F").split('/').map(str::to_owned).collect(),
        19 => {
            segments[at] = format!(
                "%{:02x}{}",
                segments[at].bytes().next().unwrap_or(b'a'),
                segments[at].get(1..).unwrap_or_default()
            )
        }
        20 => segments.insert(0, random.pick(&["api", "apis", "", "http:"]).to_owned()),
        _ => segments[at].push('-'),
    }
    sample.target = join(&format!("/{}", segments.join("/")), query.as_deref());
}

fn escaped(segment: &str, random: &mut Random) -> String {
    segment
        .bytes()
        .map(|byte| match random.below(3) {
            0 => format!("%{byte:02X}"),
            1 => format!("%{byte:02x}"),
            _ => char::from(byte).to_string(),
        })
        .collect()
}

/// Pairs that clients do not send, and values that are not what they should be.
const ODD_PAIRS: &[&str] = &[
    "watch",
    "watch=false",
    "watch=true",
    "watch=0",
    "watch=f",
    "watch=%74rue",
    "Watch=true",
    "wat%63h=true",
    "watch=true;x",
    "a=%zz",
    "%zz=a",
    "a;b=c",
    "=",
    "=x",
    "&&",
    "a=b=c",
    "%00=x",
    "x=%00",
    "x=%ff",
    "x=\u{fc}",
    "a[]=b",
    "a.b=c",
    "watch=FALSE",
    "fieldSelector=metadata.name%3Da",
    "fieldSelector=metadata.name%3Db",
    "fieldSelector=metadata.name%3D%3Da%2Cx",
    "fieldSelector=metadata.name%20%3D%20a",
    "fieldSelector=metadata.name%3Da%5C",
    "fieldSelector=%2Cmetadata.name%3Da%2C",
    "fieldSelector=metadata.name!%3Da%2Cmetadata.name%3Db",
    "fieldSelector=metadata.name=a,metadata.name=b",
    "limit=abc",
    "limit=-1",
    "limit=",
    "limit=99999999999999999999",
    "limit=+1",
    "limit=0x1",
    "timeoutSeconds=x",
    "timeout=",
    "dryRun=All",
    "dryRun=all",
    "dryRun=",
    "dryRun=All&dryRun=None",
    "DryRun=All",
    "pretty=maybe",
    "pretty=T",
    "resourceVersion=x",
    "labelSelector=a%3Db%3Dc",
    "labelSelector=%21%21a",
    "labelSelector=a%20in%20()",
    "labelSelector=a%0a%3Db",
    "continue=x",
    "allowWatchBookmarks=x",
    "sendInitialEvents=true",
    "resourceVersionMatch=Any",
    "shardSelector=x",
    "gracePeriodSeconds=-1",
    "propagationPolicy=Nothing",
    "force=x",
    "fieldManager=a%0ab",
    "fieldValidation=strict",
    "includeObject=Object",
    "as=x",
];

fn query(sample: &mut Sample, random: &mut Random) {
    let (path, query) = split(&sample.target);
    let mut pairs: Vec<String> = query
        .iter()
        .flat_map(|query| query.split('&'))
        .map(str::to_owned)
        .collect();
    let at = random.below(pairs.len() + 1);
    match random.below(6) {
        0 if !pairs.is_empty() => {
            let twice = pairs[at.min(pairs.len() - 1)].clone();
            pairs.push(twice);
        }
        1 if !pairs.is_empty() => {
            let at = at.min(pairs.len() - 1);
            pairs[at] = escaped(&pairs[at].replace('%', ""), random);
        }
        2 if pairs.len() > 1 => pairs.swap(0, at.min(1)),
        _ => pairs.insert(at, random.pick(ODD_PAIRS).to_owned()),
    }
    sample.target = join(&path, Some(&pairs.join("&")));
}

fn head(sample: &mut Sample, random: &mut Random) {
    let methods = [
        "get", "HEAD", "OPTIONS", "TRACE", "GET", "POST", "PUT", "PATCH", "DELETE", "PROPFIND", "Post",
    ];
    let types = [
        "application/json; charset=utf-8",
        "APPLICATION/JSON",
        "text/plain",
        "application/json;",
        "application/xml",
        "",
        "application/yaml",
        "application/cbor",
        "application/x-www-form-urlencoded",
        "application/json, text/plain",
        "*/*",
        "application/merge-patch+json",
        "application/apply-patch+yaml",
        "application/vnd.kubernetes.protobuf; charset=x",
    ];
    let headers = [
        ("X-HTTP-Method-Override", "DELETE"),
        ("Impersonate-User", "system:admin"),
        ("Impersonate-Group", "system:masters"),
        ("Authorization", "Bearer nothing"),
        ("X-Remote-User", "admin"),
        ("X-Forwarded-For", "192.0.2.1"),
        ("Content-Encoding", "gzip"),
        ("Connection", "Impersonate-User"),
        ("Upgrade", "websocket"),
        ("Audit-ID", "mine-NUMBER"),
        ("Accept", "application/yaml"),
        ("Accept", "text/html"),
        ("Accept-Encoding", "gzip"),
        ("TE", "trailers"),
        ("Range", "bytes=0-1"),
        ("Cookie", "a=b"),
        ("X-Original-URL", "/api/v1/secrets"),
        ("X-Rewrite-URL", "/api/v1/secrets"),
        ("Origin", "https://elsewhere.test"),
    ];
    match random.below(3) {
        0 => sample.method = random.pick(&methods).to_owned(),
        1 => {
            sample.headers.retain(|(name, _)| name != "Content-Type");
            sample
                .headers
                .push(("Content-Type".to_owned(), random.pick(&types).to_owned()));
        }
        _ => {
            let (name, value) = headers[random.below(headers.len())];
            let value = value.replace("NUMBER", &sample.number.to_string());
            sample.headers.push((name.to_owned(), value));
        }
    }
}

fn body(sample: &mut Sample, random: &mut Random) {
    let text = String::from_utf8_lossy(&sample.body).into_owned();
    let replaced = |from: &str, to: &str| text.replacen(from, to, 1).into_bytes();
    sample.body = match random.below(22) {
        0 => replaced("{", r#"{"metadata":{"name":"other"},"#),
        1 => replaced("{", r#"{"kind":"Secret","apiVersion":"v1","#),
        2 => replaced("\"metadata\":{", r#""metadata":{"namespace":"other","#),
        3 => replaced("\"metadata\":{", r#""metadata":{"name":"first","#),
        4 => replaced("\"metadata\":{", r#""Metadata":{"name":"second"},"metadata":{"#),
        5 => replaced("\"spec\":{", r#""spec":{"hostPID":true},"spec":{"#),
        6 => replaced(
            "\"spec\":{",
            r#""spec":{"hostPID":true,"HostNetwork":true,"unknown":1,"#,
        ),
        7 => replaced("\"name\"", r#""n\u0061me""#),
        8 => replaced("\"name\"", r#""Name""#),
        9 => [b"\xef\xbb\xbf", &sample.body[..]].concat(),
        10 => [&sample.body[..], b" {}"].concat(),
        11 => [&sample.body[..], b"\n---\nkind: Secret\n"].concat(),
        12 => replaced("\":\"", "\":\"\u{fffd}\\ud800"),
        13 => [&sample.body[..], &[0xff]].concat(),
        14 => replaced(
            "{",
            &format!(r#"{{"deep":{}{},"#, "[".repeat(200), "]".repeat(200)),
        ),
        15 => replaced("{", r#"{"number":1e999,"other":-0,"third":0123,"#),
        16 => replaced("{", r#"{"metadata":null,"#),
        17 => format!("[{text}]").into_bytes(),
        18 => sample.body[..random.below(sample.body.len())].to_vec(),
        19 => replaced("{", "{\"a\":1,\"a\":1,"),
        20 => flip(&sample.body, random),
        _ => replaced("\"", "'"),
    };
}

fn flip(body: &[u8], random: &mut Random) -> Vec<u8> {
    let mut body = body.to_vec();
    let at = random.below(body.len());
    if let Some(byte) = body.get_mut(at) {
        *byte ^= 1 << random.below(8);
    }
    body
}
