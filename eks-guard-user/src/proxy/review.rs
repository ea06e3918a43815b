//! Answers about the agent's own rights: the API server's, rewritten by the core, because it speaks of the guard's.

use bytes::Bytes;
use eks_guard_core::policy::{Asker, Review};
use eks_guard_core::reason::{Reason, Refusal};
use http_body_util::{BodyExt, Full, Limited};
use tokio::time::timeout;

use crate::proxy::Proxy;
use crate::proxy::reply::{Forwarded, Source};

/// Longest answer (bytes). The list of all rules of a cluster's administrator has a few thousand.
const MAX_ANSWER: usize = 4 << 20;

/// Rewrites a reply that answers such a question. Errors of the API server pass as they are.
pub(crate) async fn answer(
    proxy: &Proxy,
    asker: &Asker<'_>,
    review: Review,
    forwarded: Forwarded,
) -> Result<Forwarded, Refusal> {
    if !forwarded.response.status().is_success() {
        return Ok(forwarded);
    }
    let served = match review {
        Review::Rules => proxy.served.current().await?,
        Review::Access | Review::Subject => proxy.served.known().await?,
    };
    let (head, body) = forwarded.response.into_parts();
    let body = timeout(
        proxy.limits.response_head,
        Limited::new(body, MAX_ANSWER).collect(),
    );
    let body = body.await.map_err(|_| unreadable("it does not end in time"))?;
    let body = body.map_err(|error| unreadable(&error.to_string()))?;
    let answer = asker
        .answer(review, &served, &body.to_bytes())
        .map_err(|error| unreadable(&error.to_string()))?;
    let mut lease = forwarded.lease;
    lease.complete();
    Ok(Forwarded {
        response: http::Response::from_parts(head, Source::Whole(Full::new(Bytes::from(answer)))),
        lease,
        warnings: forwarded.warnings,
    })
}

fn unreadable(why: &str) -> Refusal {
    let message = format!("The API server's answer about the caller's rights cannot be read: {why}.");
    Refusal::new(Reason::UpstreamReply, message)
}
