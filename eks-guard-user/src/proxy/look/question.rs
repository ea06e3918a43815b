//! What the guard asks about an object on its own behalf: how it is stored, and what a request would make of it. Bounded in
//! size and time; nothing it asks changes anything.

use std::collections::BTreeSet;

use bytes::Bytes;
use eks_guard_core::body::Pin;
use eks_guard_core::policy::{KnownResource, Look};
use eks_guard_core::reason::{Reason, Refusal};
use eks_guard_core::request_info::{ApiRequest, Method};
use http::{HeaderValue, StatusCode};
use http_body_util::{BodyExt, Limited};
use serde_json::Value;
use tokio::time::timeout;

use crate::proxy::Proxy;
use crate::proxy::reply::{self, ReplyKind};
use crate::proxy::upstream::{Class, OWN_USER_AGENT, Outgoing, PLAIN, unanswered};

/// Longest answer (bytes). etcd takes objects of half that.
const MAX_ANSWER: usize = 3 << 20;
/// Longest part of an error of the API server that is passed on.
const MAX_DETAIL: usize = 1024;

/// An object of the API server, or none.
pub(super) struct Stored {
    pub(super) pin: Pin,
    pub(super) object: Option<Value>,
}

/// What a request would come to.
pub(super) enum Rehearsal {
    /// The object is this one afterwards.
    Comes(Value),
    /// The object that was seen is not there any more.
    Overtaken,
}

/// What the API server says, whole.
pub(super) struct Answer {
    status: StatusCode,
    body: Bytes,
}

/// The object as it is stored.
pub(super) async fn stored(proxy: &Proxy, look: &Look) -> Result<Stored, Refusal> {
    let answer = read(proxy, look.request().object_path()).await?;
    match answer.status {
        StatusCode::OK => {
            let object: Value = answer.json()?;
            let field = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
            let pin = Pin::At {
                uid: field("uid"),
                resource_version: field("resourceVersion"),
            };
            if field("resourceVersion").is_empty() {
                return Err(look.unseen("it has no resourceVersion"));
            }
            Ok(Stored {
                pin,
                object: Some(object),
            })
        }
        StatusCode::NOT_FOUND if look.creates() => Ok(Stored {
            pin: Pin::Absent,
            object: None,
        }),
        StatusCode::NOT_FOUND => Err(Refusal {
            reason: Reason::ObjectNotFound,
            rule: Some(look.rule().to_owned()),
            message: not_found(look.request()),
        }),
        status => Err(answer.fault().unwrap_or_else(|| {
            look.unseen(&format!(
                "the API server answered {} to the guard",
                status.as_u16()
            ))
        })),
    }
}

/// As the API server says it.
fn not_found(request: &ApiRequest) -> String {
    request.info().resource().map_or_else(String::new, |resource| {
        let dot = if resource.group.is_empty() { "" } else { "." };
        format!(
            "{}{dot}{} {:?} not found",
            resource.resource, resource.group, resource.name
        )
    })
}

/// The object as the request would leave it: the same request, as a dry run.
pub(super) async fn rehearse(proxy: &Proxy, look: &Look) -> Result<Rehearsal, Refusal> {
    let request = look.request().rehearsal();
    let method = match request.method() {
        Method::Put => http::Method::PUT,
        Method::Patch => http::Method::PATCH,
        Method::Get | Method::Post | Method::Delete => {
            return Err(look.unseen("such a request cannot be tried out"));
        }
    };
    if !knows_dry_runs(proxy, &request).await? {
        return Err(look.unseen(
            "it is served by another API server behind the first, which may not know what a dry run is",
        ));
    }
    let (content_type, body) = request.body().map_or((None, Bytes::new()), |body| {
        let content_type = HeaderValue::from_static(body.content_type());
        (Some(content_type), Bytes::copy_from_slice(body.json()))
    });
    let answer = ask(
        proxy,
        Outgoing {
            method,
            path: proxy.upstream.path(request.path_and_query())?,
            accept: PLAIN,
            user_agent: HeaderValue::from_static(OWN_USER_AGENT),
            audit_id: None,
            content_type,
            body,
            class: Class::Short,
            may_repeat: true,
        },
    )
    .await?;
    match answer.status {
        StatusCode::OK | StatusCode::CREATED => Ok(Rehearsal::Comes(answer.json()?)),
        StatusCode::CONFLICT => match answer.field_conflict() {
            Some(message) => Err(Refusal::new(Reason::ObjectChanged, message)),
            None => Ok(Rehearsal::Overtaken),
        },
        StatusCode::NOT_FOUND => Ok(Rehearsal::Overtaken),
        StatusCode::FORBIDDEN => Err(look.unseen("the API server would refuse it (403)")),
        _ => Err(answer.fault().unwrap_or_else(|| answer.rejection(look))),
    }
}

/// Whether the API server itself keeps these objects. One that is only behind it might carry a dry run out.
async fn knows_dry_runs(proxy: &Proxy, request: &ApiRequest) -> Result<bool, Refusal> {
    let Some(resource) = request.info().resource() else {
        return Ok(false);
    };
    if KnownResource::find(resource.group, resource.resource).is_some() && resource.group != "metrics.k8s.io"
    {
        return Ok(true);
    }
    let name = format!("{}.{}", resource.version, resource.group);
    let answer = read(
        proxy,
        &format!("/apis/apiregistration.k8s.io/v1/apiservices/{name}"),
    )
    .await?;
    if answer.status != StatusCode::OK {
        return Ok(false);
    }
    let service: Value = answer.json()?;
    let is_it = service["kind"] == "APIService" && service["metadata"]["name"] == name.as_str();
    Ok(is_it && service["spec"].is_object() && service["spec"]["service"].is_null())
}

/// Whether another object is stored by now than this one; not when nobody can say.
pub(super) async fn is_another(proxy: &Proxy, path: &str, pin: &Pin) -> bool {
    let Ok(answer) = read(proxy, path).await else {
        return false;
    };
    match (pin, answer.status) {
        (Pin::Absent, status) => status == StatusCode::OK,
        (Pin::At { .. }, StatusCode::NOT_FOUND) => true,
        (Pin::At { resource_version, .. }, StatusCode::OK) => answer
            .json()
            .is_ok_and(|object| object["metadata"]["resourceVersion"] != resource_version.as_str()),
        (Pin::At { .. }, _) => false,
    }
}

async fn read(proxy: &Proxy, path: &str) -> Result<Answer, Refusal> {
    ask(
        proxy,
        Outgoing {
            method: http::Method::GET,
            path: proxy.upstream.path(path.to_owned())?,
            accept: PLAIN,
            user_agent: HeaderValue::from_static(OWN_USER_AGENT),
            audit_id: None,
            content_type: None,
            body: Bytes::new(),
            class: Class::Short,
            may_repeat: true,
        },
    )
    .await
}

async fn ask(proxy: &Proxy, question: Outgoing) -> Result<Answer, Refusal> {
    let asking = async {
        let (response, mut lease) = proxy.upstream.send(&question).await?;
        if let Some(how) = reply::fault(ReplyKind::Objects, &response) {
            return Err(unreadable(&format!("it came {how}")));
        }
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| unreadable(&error.to_string()))?.to_bytes();
        lease.complete();
        Ok(Answer { status, body })
    };
    let patience = proxy.limits.look;
    timeout(patience, asking).await.unwrap_or_else(|_| {
        let seconds = patience.as_secs();
        let message = format!(
            "The request was not sent: the API server did not show the object it is about within {seconds} s; retry in a moment."
        );
        Err(Refusal::new(Reason::UpstreamUnreachable, message))
    })
}

impl Answer {
    fn json(&self) -> Result<Value, Refusal> {
        let object: Option<Value> = serde_json::from_slice(&self.body).ok().filter(Value::is_object);
        object.ok_or_else(|| unreadable("it is no object"))
    }

    /// What is no word about the request: the API server is busy or broken.
    fn fault(&self) -> Option<Refusal> {
        let passes = self.status == StatusCode::TOO_MANY_REQUESTS || self.status.is_server_error();
        passes.then(|| {
            let message = format!(
                "The request was not sent: the API server answered {} when it was asked for the object; retry in a moment.",
                self.status.as_u16()
            );
            Refusal::new(unanswered(self.status), message)
        })
    }

    /// The conflict of an apply with other managers of fields, as kubectl shows it: names, and no values.
    fn field_conflict(&self) -> Option<String> {
        let status = self.json().ok()?;
        let causes = status["details"]["causes"].as_array()?;
        let is_about_fields = causes
            .iter()
            .any(|cause| cause["reason"] == "FieldManagerConflict");
        let message = status["message"].as_str().filter(|_| is_about_fields)?;
        Some(message.chars().take(MAX_DETAIL).collect())
    }

    /// Why the change would not be made: fields and reasons. The API server's own words may quote objects that the agent may
    /// not read.
    fn rejection(&self, look: &Look) -> Refusal {
        let status = self.json().unwrap_or_default();
        let causes = status["details"]["causes"].as_array();
        let fields: BTreeSet<String> = causes
            .into_iter()
            .flatten()
            .map(|cause| {
                let text = |name: &str| cause[name].as_str().unwrap_or_default();
                format!("{} {}", text("field"), text("reason"))
            })
            .collect();
        let fields = Vec::from_iter(fields);
        let fields: String = match &fields[..] {
            [] => String::new(),
            fields => format!(" ({})", fields.join(", ")),
        };
        let fields: String = fields.chars().take(MAX_DETAIL).collect();
        Refusal {
            reason: Reason::ChangeRejected,
            rule: Some(look.rule().to_owned()),
            message: format!(
                "The API server would not make this change: {} {}{fields}.",
                self.status.as_u16(),
                status["reason"].as_str().unwrap_or("Unknown"),
            ),
        }
    }
}

fn unreadable(why: &str) -> Refusal {
    let message = format!(
        "The request was not sent: the API server's answer about the object it is about cannot be read: {why}."
    );
    Refusal::new(Reason::UpstreamReply, message)
}
