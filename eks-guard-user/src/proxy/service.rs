//! The table of contents of a request: one call per step, in the order of docs/life-of-a-request.md.

use std::sync::Arc;

use eks_guard_core::negotiation;
use eks_guard_core::policy::{Asker, Facts, Review};
use eks_guard_core::reason::{Reason, Refusal};
use eks_guard_core::request_info::ApiRequest;
use http::header::{ACCEPT, USER_AGENT};
use http::{HeaderMap, HeaderName, Request, Response};
use hyper::body::Incoming;

use crate::proxy::Proxy;
use crate::proxy::admission::admit;
use crate::proxy::body::{self, WithBody};
use crate::proxy::context::Connection;
use crate::proxy::forward::Outward;
use crate::proxy::headers;
use crate::proxy::look;
use crate::proxy::record::RequestRecord;
use crate::proxy::reply::{self, OnBreak, ReplyBody};
use crate::proxy::respond;
use crate::proxy::review;
use crate::proxy::strict_http1;

/// Answers one request, whatever it is. Every way out of here is recorded.
pub(crate) async fn handle(
    proxy: Arc<Proxy>,
    connection: Arc<Connection>,
    request: Request<Incoming>,
) -> Response<ReplyBody> {
    let (method, version) = (request.method().clone(), request.version());
    let user_agent = request
        .headers()
        .get(USER_AGENT)
        .and_then(|value| value.to_str().ok());
    let mut record = RequestRecord::open(Arc::clone(&proxy), &connection, user_agent);
    match steps(&proxy, &connection, request, &mut record).await {
        Ok(reply) => reply::stream(reply, record),
        Err(refusal) => respond::refusal(&mut record, &refusal, &method, version),
    }
}

async fn steps(
    proxy: &Proxy,
    connection: &Connection,
    request: Request<Incoming>,
    record: &mut RequestRecord,
) -> Result<reply::Reply, Refusal> {
    let (head, body) = request.into_parts();

    // Grammar: what remains afterwards is what was understood.
    strict_http1::check(&head.method)?;
    headers::check(proxy, connection, &head)?;
    let request = ApiRequest::parse(head.method.as_str(), head.uri.path(), head.uri.query())?;
    record.describe(&request);
    headers::check_upgrade(&head.headers, &request)?;
    let slot = admit(proxy, connection, &request)?;
    let on_break = OnBreak::of(&request, head.version);
    proxy.served.check(request.info()).await?;

    // Body, and what the agent can read as an answer.
    let WithBody { request, memory } =
        body::read(proxy, &connection.workload, request, &head.headers, body).await?;
    record.name(&request);
    let accept = negotiation::accept(&request, text(&head.headers, &ACCEPT)?)?;

    // Identity is the workload's, proven by the flow entry. Decision: from here on there is a permit or nothing. Intent, on
    // disk before anything mutating leaves. Forward, and hand the reply to the place where it is masked; its end is the outcome.
    let (snapshot, principal) = (proxy.snapshot.load_full(), &connection.workload.principal);
    let asker = Asker {
        snapshot: &snapshot,
        principal,
        facts: &Facts::at((proxy.clock)().into()),
    };
    let review = Review::of(request.info());
    let outward = Outward {
        accept: &accept,
        user_agent: head.headers.get(USER_AGENT),
    };
    let mut forwarded = look::carry_out(proxy, &asker, request, &outward, record).await?;
    // The body is gone; how slowly the agent reads the reply is not for it to wait for.
    drop(memory);

    // What is asked about the agent's own rights is answered about those, not about the guard's.
    if let Some(review) = review {
        forwarded = review::answer(proxy, &asker, review, forwarded).await?;
    }
    Ok(reply::Reply {
        forwarded,
        on_break,
        slot,
    })
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Refusal> {
    let value = headers.get(name).map(|value| value.to_str()).transpose();
    value.map_err(|_| {
        Refusal::new(
            Reason::RequestMalformed,
            format!("The request was refused: its {name} header is not ASCII."),
        )
    })
}
