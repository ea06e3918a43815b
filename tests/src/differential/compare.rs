//! Do both sides say the same about one request?

use std::fmt;

use eks_guard_core::record::{Event, Outcome};
use eks_guard_core::request_info::{ApiRequest, RequestScope};
use serde_json::{Value, json};

use crate::audit::ObjectRef;
use crate::differential::exchange::Answer;
use crate::differential::logs::Seen;
use crate::differential::sample::Sample;

/// What one side understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Understood {
    verb: String,
    object: ObjectRef,
    path: String,
}

impl fmt::Display for Understood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ObjectRef {
            api_group,
            api_version,
            resource,
            subresource,
            namespace,
            name,
        } = &self.object;
        write!(
            f,
            "{} group={api_group:?} version={api_version:?} resource={resource:?} subresource={subresource:?} \
             namespace={namespace:?} name={name:?} path={:?}",
            self.verb, self.path
        )
    }
}

impl Understood {
    /// By the guard, as its record has it.
    #[must_use]
    pub fn recorded(event: &Event) -> Self {
        Self {
            verb: event.verb.clone(),
            object: ObjectRef {
                api_group: event.group.clone(),
                api_version: event.version.clone(),
                resource: event.resource.clone(),
                subresource: event.subresource.clone(),
                namespace: event.namespace.clone(),
                name: event.name.clone(),
            },
            path: event.path.clone(),
        }
    }

    /// By the guard's own code, from the request line alone.
    #[must_use]
    pub fn parsed(sample: &Sample) -> Option<Self> {
        // As the proxy is given it.
        let uri: http::Uri = sample.target.parse().ok().filter(|_| sample.is_http())?;
        let request = ApiRequest::parse(&sample.method, uri.path(), uri.query()).ok()?;
        let (object, path) = match request.info().scope() {
            RequestScope::NonResource(path) => (ObjectRef::default(), path.to_owned()),
            RequestScope::Resource(resource) => (
                ObjectRef {
                    api_group: resource.group.to_owned(),
                    api_version: resource.version.to_owned(),
                    resource: resource.resource.to_owned(),
                    subresource: resource.subresource.to_owned(),
                    namespace: resource.namespace.to_owned(),
                    name: resource.name.to_owned(),
                },
                String::new(),
            ),
        };
        Some(Self {
            verb: request.info().verb.as_str().to_owned(),
            object,
            path,
        })
    }

    /// By the API server.
    #[must_use]
    pub fn audited(seen: &Seen) -> Self {
        let path = match &seen.object {
            Some(_) => String::new(),
            None => decoded(seen.uri.split('?').next().unwrap_or_default()),
        };
        Self {
            verb: seen.verb.clone(),
            object: seen.object.clone().unwrap_or_default(),
            path,
        }
    }

    /// Of a direct request: what the guard makes another request of, with the same meaning.
    #[must_use]
    pub fn as_forwarded(mut self) -> Self {
        // One trailing slash is dropped.
        if self.path.len() > 1 && self.path.ends_with('/') {
            self.path.pop();
        }
        // `/watch/namespaces/x` is asked for as a list with a selector, which is in no namespace.
        if self.verb == "watch" && self.object.resource == "namespaces" {
            self.object.namespace.clear();
        }
        self
    }
}

fn decoded(path: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
        let plain = if byte == b'%' {
            digit()
                .zip(digit())
                .and_then(|(high, low)| u8::try_from(high * 16 + low).ok())
        } else {
            Some(byte)
        };
        bytes.extend(plain);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What the guard did with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It went upstream.
    Forwarded,
    /// It did not.
    Refused,
}

/// One request through the guard: what became of it, or what does not agree.
///
/// # Errors
/// A disagreement, in words.
pub fn guarded(event: &Event, seen: Option<&Seen>, answer: &Answer) -> Result<Fate, String> {
    match (event.decision, seen) {
        (Outcome::Refuse, None) => match answer.status {
            Ok(status) if status >= 400 => Ok(Fate::Refused),
            Ok(status) => Err(format!("it was refused, and the caller was told {status}")),
            Err(_) => Ok(Fate::Refused),
        },
        // Its precondition did not hold any more, and it was decided on again: nothing was done with it.
        (Outcome::Refuse, Some(seen)) if seen.code == Some(409) && is_pinned(seen) => Ok(Fate::Refused),
        (Outcome::Refuse, Some(seen)) => Err(format!("it was refused, and reached the API server: {seen:?}")),
        (Outcome::Allow, None) => Err(format!(
            "it was forwarded, and the audit log has no such id: {event:?}"
        )),
        (Outcome::Allow, Some(seen)) => {
            let (mut guard, server) = (Understood::recorded(event), Understood::audited(seen));
            // A body that the API server could not read has no name there, and makes nothing.
            if seen.verb == "create" && seen.body.is_none() && server.object.name.is_empty() {
                guard.object.name.clear();
            }
            if guard == server {
                return Ok(Fate::Forwarded);
            }
            Err(format!("guard:  {guard}\n    server: {server}"))
        }
    }
}

/// Whether the body says which version of the object it is about, as it does when the guard has looked at the object.
fn is_pinned(seen: &Seen) -> bool {
    let Some(body) = &seen.body else { return false };
    let mut operations = body.as_array().into_iter().flatten();
    operations.any(|operation| operation["path"] == "/metadata/resourceVersion")
        || ["metadata", "preconditions"]
            .iter()
            .any(|place| body[place]["resourceVersion"].is_string())
}

/// The same request without a guard: whatever the guard accepts is the same to the API server.
///
/// # Errors
/// A disagreement, in words.
pub fn direct(sample: &Sample, seen: Option<&Seen>) -> Result<(), String> {
    let Some(mut guard) = Understood::parsed(sample) else {
        return Ok(());
    };
    let Some(seen) = seen else {
        return Err(format!("guard:  {guard}\n    server: took it for no request"));
    };
    let mut server = Understood::audited(seen).as_forwarded();
    // A selector on a `/watch/` path is not looked at there; forwarded as `?watch=true` it narrows the same watch.
    if server.verb == "watch" && server.object.name.is_empty() && decoded(sample.path()).contains("/watch/") {
        guard.object.name.clear();
    }
    // What everybody may create is created, and its name is read from the body.
    if guard.verb == "create" && guard.object.name.is_empty() {
        server.object.name.clear();
    }
    // So is the namespace for the audit log where the URL names none. The guard refuses such bodies.
    if !decoded(sample.path()).contains("/namespaces") {
        server.object.namespace.clear();
    }
    if guard == server {
        return Ok(());
    }
    Err(format!("guard:  {guard}\n    direct: {server}"))
}

/// How two replies to one write go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replies {
    /// They are equal.
    Equal,
    /// The API server refuses this spelling of the body, and takes the guard's spelling of the same value.
    Respelled,
    /// One of them says only that the API server had no time.
    Busy,
}

/// The same write both ways: the body is read alike, and what would be stored is the same.
///
/// # Errors
/// A disagreement, in words.
pub fn stored(guarded: (&Seen, &Answer), twin: (&Seen, &Answer)) -> Result<Replies, String> {
    let unread = twin.1.status == Ok(400) && twin.0.body.is_none();
    if unread
        || (matches!(twin.1.status, Ok(400 | 422)) && matches!(guarded.1.status, Ok(200..400 | 404 | 409)))
    {
        return Ok(Replies::Respelled);
    }
    // Who has no time answers nothing about the request.
    let is_busy = |answer: &Answer| matches!(answer.status, Ok(429 | 500..));
    if is_busy(guarded.1) || is_busy(twin.1) {
        return Ok(Replies::Busy);
    }
    let (ours, theirs) = (unpinned(read(guarded.0)), unpinned(read(twin.0)));
    // With a precondition, the delete options of the query stand in the body.
    let are_moved = theirs.is_null() && ours["kind"] == "DeleteOptions";
    if ours != theirs && !are_moved && twin.0.complete {
        return Err(format!(
            "body read through the guard: {ours}\n    body read directly: {theirs}\n    {:?} and {:?}",
            guarded.1.status, twin.1.status
        ));
    }
    let (ours, theirs) = (reply(guarded.1)?, reply(twin.1)?);
    if ours != theirs {
        return Err(format!(
            "reply through the guard: {ours}\n    reply directly: {theirs}"
        ));
    }
    Ok(Replies::Equal)
}

fn read(seen: &Seen) -> Value {
    comparable(seen.body.clone().unwrap_or_default())
}

/// Without the precondition by which the guard holds a request to the object that it has looked at.
fn unpinned(mut body: Value) -> Value {
    let is_pin = |it: &Value| it["op"] == "add" && it["path"] == "/metadata/resourceVersion";
    match &mut body {
        Value::Array(operations) => operations.retain(|operation| !is_pin(operation)),
        Value::Object(members) => {
            members.retain(|key, value| {
                !(["metadata", "preconditions"].contains(&key.as_str()) && *value == json!({}))
            });
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    body
}

/// The object of a success, the reason of a failure.
fn reply(answer: &Answer) -> Result<Value, String> {
    let status = answer.status.clone()?;
    let body: Value = serde_json::from_slice(&answer.bytes()).unwrap_or_default();
    if status < 300 {
        return Ok(comparable(body));
    }
    Ok(json!({"status": status, "reason": body["reason"]}))
}

/// Without what no two objects share: identity, times, and names that the API server makes up.
fn comparable(mut object: Value) -> Value {
    let own = [
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "deletionTimestamp",
        "lastPhaseTransitionTime",
        "timeAdded",
        "managedFields",
        "batch.kubernetes.io/controller-uid",
        "controller-uid",
        "batch.kubernetes.io/job-name",
        "job-name",
        // Who asks is told about itself, in any order.
        "userInfo",
        "nonResourceRules",
        "resourceRules",
    ];
    match &mut object {
        Value::Object(members) => {
            let is_named_by_server = members.get("generateName").is_some_and(|prefix| prefix != "");
            members.retain(|key, _| !(own.contains(&key.as_str()) || is_named_by_server && key == "name"));
            for member in members.values_mut() {
                *member = comparable(member.take());
            }
        }
        Value::Array(items) => {
            for item in items {
                *item = comparable(item.take());
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(uri: &str, verb: &str, name: &str) -> Seen {
        Seen {
            verb: verb.to_owned(),
            uri: uri.to_owned(),
            object: Some(ObjectRef {
                api_version: "v1".to_owned(),
                resource: "pods".to_owned(),
                name: name.to_owned(),
                ..ObjectRef::default()
            }),
            ..Seen::default()
        }
    }

    fn sample(target: &str) -> Sample {
        Sample {
            method: "GET".to_owned(),
            target: target.to_owned(),
            ..Sample::default()
        }
    }

    #[test]
    fn another_name_or_verb_is_a_disagreement() {
        let target = "/api/v1/pods?fieldSelector=metadata.name%3Dx";
        assert_eq!(direct(&sample(target), Some(&seen(target, "list", "x"))), Ok(()));
        assert!(direct(&sample(target), Some(&seen(target, "list", ""))).is_err());
        assert!(direct(&sample(target), Some(&seen(target, "watch", "x"))).is_err());
        assert!(direct(&sample(target), None).is_err());
    }

    #[test]
    fn a_namespace_of_the_url_counts_and_one_of_the_body_alone_does_not() {
        for (target, agrees) in [("/api/v1/pods", true), ("/api/v1/namespaces/b/pods", false)] {
            let mut seen = seen(target, "list", "");
            seen.object.as_mut().unwrap().namespace = "a".to_owned();
            assert_eq!(direct(&sample(target), Some(&seen)).is_ok(), agrees, "{target}");
        }
    }

    #[test]
    fn what_the_guard_does_not_accept_may_mean_anything() {
        assert_eq!(
            direct(&sample("/api/v1//pods"), Some(&seen("/api/v1//pods", "list", ""))),
            Ok(())
        );
    }
}
