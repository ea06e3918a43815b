//! Looks at the objects that a decision depends on, and holds the request to what was seen. The guard asks on its own
//! behalf, bounded in size, time and number; nothing it asks changes anything.
//!
//! What is decided on is what happens: the request goes out with a precondition on the object that was seen.

mod question;

use eks_guard_core::body::Pin;
use eks_guard_core::policy::{Asker, Decision, Fact, Facts, Look, Permit, Wanted};
use eks_guard_core::reason::{Reason, Refusal};
use eks_guard_core::request_info::ApiRequest;
use http::StatusCode;
use tokio::sync::SemaphorePermit;
use tokio::time::timeout;

use crate::proxy::Proxy;
use crate::proxy::forward::{Onward, Outward};
use crate::proxy::record::RequestRecord;
use crate::proxy::reply::Forwarded;

use question::{Rehearsal, Stored, is_another, rehearse, stored};

/// How often an object that changes under the guard's eyes is looked at again.
const RETRIES: usize = 3;

/// A request that may be forwarded.
struct Decided {
    permit: Permit,
    /// What it was decided on, when that had to be looked at.
    sight: Option<Sight>,
}

/// The object that a request was decided on, and the request as the agent sent it.
struct Sight {
    pin: Pin,
    path: String,
    request: ApiRequest,
}

/// Decides, records the intent, and forwards; again when the object is another one by then.
pub(crate) async fn carry_out(
    proxy: &Proxy,
    asker: &Asker<'_>,
    request: ApiRequest,
    outward: &Outward<'_>,
    record: &mut RequestRecord,
) -> Result<Forwarded, Refusal> {
    let (mut request, mut retries) = (request, RETRIES);
    loop {
        let Decided { permit, sight } = decide(proxy, asker, request, record).await?;

        // Intent, on disk before anything mutating leaves.
        record.intent(&permit).await?;
        let onward = Onward {
            outward,
            record_id: record.id(),
        };
        let forwarded = proxy.forward(permit, onward).await?;
        match sight {
            Some(Sight {
                pin,
                path,
                request: again,
            }) if retries > 0
                && forwarded.response.status() == StatusCode::CONFLICT
                && is_another(proxy, &path, &pin).await =>
            {
                retries -= 1;
                record.undecided();
                request = again;
            }
            Some(_) | None => return Ok(forwarded),
        }
    }
}

async fn decide(
    proxy: &Proxy,
    asker: &Asker<'_>,
    request: ApiRequest,
    record: &mut RequestRecord,
) -> Result<Decided, Refusal> {
    let look = match settle(asker, request, asker.facts, record)? {
        Ok(permit) => return Ok(Decided { permit, sight: None }),
        Err(look) => look,
    };
    let _slot = slot(proxy).await?;
    for _ in 0..=RETRIES {
        if let Some(decided) = look_and_decide(proxy, asker, &look, record).await? {
            return Ok(decided);
        }
    }
    let message = "The object changed whenever it had been looked at; try again when it has come to rest.";
    Err(Refusal::new(Reason::ObjectChanged, message))
}

/// One look, and the decision on what was seen; none when the object changed meanwhile.
async fn look_and_decide(
    proxy: &Proxy,
    asker: &Asker<'_>,
    look: &Look,
    record: &mut RequestRecord,
) -> Result<Option<Decided>, Refusal> {
    let Stored { pin, object } = stored(proxy, look).await?;
    let request = look.pinned(&pin)?;
    record.decided_on(&pin);
    let seen = Facts {
        old_object: object.as_ref().map_or(Fact::Absent, Fact::Present),
        ..*asker.facts
    };
    let sight = Sight {
        pin,
        path: look.request().object_path().to_owned(),
        request: look.request().clone(),
    };
    let open = match settle(asker, request, &seen, record)? {
        Ok(permit) => {
            let sight = Some(sight);
            return Ok(Some(Decided { permit, sight }));
        }
        Err(open) => open,
    };
    if open.wanted() != Wanted::Objects {
        return Err(open.unseen("what is stored does not answer it"));
    }
    let becomes = match rehearse(proxy, &open).await? {
        Rehearsal::Comes(object) => object,
        Rehearsal::Overtaken => return Ok(None),
    };
    let seen = Facts {
        object: Fact::Present(&becomes),
        ..seen
    };
    match settle(asker, open.into_request(), &seen, record)? {
        Ok(permit) => {
            let sight = Some(sight);
            Ok(Some(Decided { permit, sight }))
        }
        Err(open) => Err(open.unseen("what it would become does not answer it")),
    }
}

/// Decides on these facts; says on the record what policies in mode Observe make of them.
fn settle(
    asker: &Asker<'_>,
    request: ApiRequest,
    facts: &Facts<'_>,
    record: &mut RequestRecord,
) -> Result<Result<Permit, Look>, Refusal> {
    record.observed(asker.snapshot.observe(asker.principal, &request, facts));
    match asker.snapshot.decide(asker.principal, request, facts) {
        Decision::Permit(permit) => Ok(Ok(permit)),
        Decision::Look(look) => Ok(Err(look)),
        Decision::Refuse(_, refusal) => Err(refusal),
    }
}

/// Waits for its turn: objects are held in memory.
async fn slot(proxy: &Proxy) -> Result<SemaphorePermit<'_>, Refusal> {
    let slot = timeout(proxy.limits.look, proxy.look_slots.acquire()).await;
    slot.ok().and_then(Result::ok).ok_or_else(|| {
        let message = "The request was not sent: too many objects are being looked at; retry in a moment.";
        Refusal::new(Reason::Overloaded, message)
    })
}
