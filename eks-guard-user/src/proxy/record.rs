//! The record of one request: filled step by step, written exactly once, however the request ends.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use eks_guard_core::body::Pin;
use eks_guard_core::policy::{Observation, Permit};
use eks_guard_core::reason::{Reason, Refusal};
use eks_guard_core::record::{Caller, DecidedOn, Event, Observed, Outcome, Stage};
use eks_guard_core::request_info::{ApiRequest, RequestScope};
use http::StatusCode;
use uuid::Uuid;

use crate::masking::{End, Ending};
use crate::metrics::ConnectionOutcome;
use crate::proxy::context::Connection;
use crate::proxy::{Proxy, Workload};
use crate::recording::event_time;

/// Longest claimed User-Agent that is kept.
const USER_AGENT_LIMIT: usize = 256;

/// Connection events per second beyond which connections nobody vouches for are only counted: anybody on the machine can
/// make them.
const CONNECTION_EVENTS_PER_SECOND: u32 = 20;

/// The event of a request under way. Dropping it writes what is known, so that no request goes unrecorded.
pub(crate) struct RequestRecord {
    proxy: Arc<Proxy>,
    workload: Arc<Workload>,
    started: Instant,
    verb: &'static str,
    /// In one piece on the heap: a reply carries it through several hands.
    event: Option<Box<Event>>,
}

impl RequestRecord {
    /// Opens the record of a request; until a permit says otherwise it is the record of a refusal.
    pub(crate) fn open(proxy: Arc<Proxy>, connection: &Connection, user_agent: Option<&str>) -> Self {
        let workload = Arc::clone(&connection.workload);
        let mut event = blank_event(&proxy, &workload, Stage::Outcome);
        event.caller = Some(connection.caller.clone());
        event.original_destination = Some(connection.original_destination.clone());
        event.user_agent_claimed = user_agent.map(|text| text.chars().take(USER_AGENT_LIMIT).collect());
        Self {
            started: Instant::now(),
            verb: "",
            event: Some(Box::new(event)),
            workload,
            proxy,
        }
    }

    /// The record id, sent upstream as `Audit-ID`.
    pub(crate) fn id(&self) -> &str {
        self.event.as_ref().map_or("", |event| event.id.as_str())
    }

    /// The event as filled so far.
    pub(crate) fn event(&self) -> Option<&Event> {
        self.event.as_deref()
    }

    /// Says what the request is.
    pub(crate) fn describe(&mut self, request: &ApiRequest) {
        let Some(event) = &mut self.event else { return };
        let info = request.info();
        self.verb = info.verb.as_str();
        event.verb = self.verb.to_owned();
        match info.scope() {
            RequestScope::Resource(resource) => {
                resource.group.clone_into(&mut event.group);
                resource.version.clone_into(&mut event.version);
                resource.resource.clone_into(&mut event.resource);
                resource.subresource.clone_into(&mut event.subresource);
                resource.namespace.clone_into(&mut event.namespace);
                event.name = request.object_name().to_owned();
            }
            RequestScope::NonResource(path) => path.clone_into(&mut event.path),
        }
    }

    /// Says what policies in mode Observe would have changed, if anything.
    pub(crate) fn observed(&mut self, observation: Option<Observation>) {
        if let Some(event) = &mut self.event {
            event.observed = observation.map(|observation| Observed {
                decision: match observation.reason {
                    Some(_) => Outcome::Refuse,
                    None => Outcome::Allow,
                },
                reason: observation.reason.map(|reason| reason.as_str().to_owned()),
                rule: observation.rule,
            });
        }
    }

    /// Says which object was looked at.
    pub(crate) fn decided_on(&mut self, pin: &Pin) {
        if let Some(event) = &mut self.event {
            event.decided_on = Some(match pin {
                Pin::At {
                    uid,
                    resource_version,
                } => DecidedOn {
                    uid: uid.clone(),
                    resource_version: resource_version.clone(),
                },
                Pin::Absent => DecidedOn::default(),
            });
        }
    }

    /// What was decided is void: the object is another one.
    pub(crate) fn undecided(&mut self) {
        if let Some(event) = &mut self.event {
            event.decision = Outcome::Refuse;
            event.rule = None;
        }
    }

    /// Says what an object is called whose name stands in the body only.
    pub(crate) fn name(&mut self, request: &ApiRequest) {
        if let Some(event) = self.event.as_mut().filter(|event| event.name.is_empty()) {
            request.object_name().clone_into(&mut event.name);
        }
    }

    /// Writes the intent of a mutating request to disk. Without it nothing may be forwarded.
    pub(crate) async fn intent(&mut self, permit: &Permit) -> Result<(), Refusal> {
        if let Some(event) = &mut self.event {
            event.rule = Some(permit.rule().to_owned());
            event.policy_generation = Some(permit.generation());
        }
        if permit.request().info().verb.is_mutating() {
            let intent = self
                .event
                .as_ref()
                .filter(|_| self.workload.recorder.healthy())
                .map(|event| Event {
                    stage: Stage::Intent,
                    time: now(&self.proxy),
                    decision: Outcome::Allow,
                    ..Event::clone(event)
                });
            let intent = intent.ok_or_else(|| record_unavailable("the record is not being written"))?;
            let written = self.workload.recorder.durable(intent).await;
            written.map_err(|error| record_unavailable(&error.message))?;
        }
        if let Some(event) = &mut self.event {
            event.decision = Outcome::Allow;
        }
        Ok(())
    }

    /// The request was refused: closes the record.
    pub(crate) fn refused(&mut self, refusal: &Refusal, status: StatusCode, bytes: usize) {
        self.proxy.metrics.refusal(refusal.reason);
        if let Some(event) = &mut self.event {
            event.reason = Some(refusal.reason.as_str().to_owned());
            event.message = Some(refusal.message.clone());
            event.rule = event.rule.take().or_else(|| refusal.rule.clone());
        }
        self.replied(status);
        self.close(End {
            bytes: u64::try_from(bytes).unwrap_or(u64::MAX),
            ending: Ending::Complete,
        });
    }

    /// The status that goes to the agent.
    pub(crate) fn replied(&mut self, status: StatusCode) {
        if let Some(event) = &mut self.event {
            event.status = Some(status.as_u16());
        }
    }

    /// The reply ended: writes the outcome.
    pub(crate) fn close(&mut self, end: End) {
        let Some(mut event) = self.event.take() else {
            return;
        };
        event.time = now(&self.proxy);
        event.bytes = Some(end.bytes);
        event.duration_us = Some(u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX));
        match end.ending {
            Ending::Complete => {}
            Ending::Broken => event.message = Some("the API server broke the reply off".to_owned()),
            Ending::Abandoned => event.message = Some("the caller went away before the end".to_owned()),
        }
        self.proxy.metrics.request(self.verb, event.decision);
        append(&self.proxy, &self.workload, *event);
    }
}

impl Drop for RequestRecord {
    fn drop(&mut self) {
        self.close(End {
            bytes: 0,
            ending: Ending::Abandoned,
        });
    }
}

fn record_unavailable(cause: &str) -> Refusal {
    let message = format!(
        "The request was not sent: it changes something, and it could not be recorded first ({cause}). Reads still work; retry once the record can be written again."
    );
    Refusal::new(Reason::RecordUnavailable, message)
}

/// Limits how many connection events one second may bring.
#[derive(Debug, Default)]
pub(crate) struct ConnectionLog {
    window: Mutex<Option<(Instant, u32)>>,
}

impl ConnectionLog {
    fn admits(&self, now: Instant) -> bool {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *window {
            Some((since, count)) if now.duration_since(*since).as_secs() == 0 => {
                *count = count.saturating_add(1);
                *count <= CONNECTION_EVENTS_PER_SECOND
            }
            Some(_) | None => {
                *window = Some((now, 1));
                true
            }
        }
    }
}

/// Counts and records a connection that never became a request, or that was cut.
pub(crate) fn connection_refused(
    proxy: &Proxy,
    workload: &Workload,
    outcome: ConnectionOutcome,
    reason: &str,
    message: String,
    caller: Option<&Caller>,
) {
    proxy.metrics.connection(outcome);
    tracing::debug!(reason, %message, "connection refused");
    if caller.is_none() && !proxy.connection_log.admits(Instant::now()) {
        proxy.metrics.connection_events_suppressed.inc();
        return;
    }
    let mut event = blank_event(proxy, workload, Stage::Connection);
    event.caller = caller.cloned();
    event.reason = Some(reason.to_owned());
    event.message = Some(message);
    append(proxy, workload, event);
}

fn append(proxy: &Proxy, workload: &Workload, event: Event) {
    if let Err(error) = workload.recorder.append(event) {
        proxy.metrics.events_lost.inc();
        tracing::error!(%error, "an event was not recorded");
    }
}

/// A point in time, as it stands in events.
fn now(proxy: &Proxy) -> String {
    event_time((proxy.clock)())
}

fn blank_event(proxy: &Proxy, workload: &Workload, stage: Stage) -> Event {
    let principal = &workload.principal;
    Event {
        id: Uuid::now_v7().to_string(),
        time: now(proxy),
        model_claimed: principal.model_claimed.clone(),
        pod: principal.pod.clone(),
        ..Event::new(stage, workload.session.as_str(), principal.agent.as_str())
    }
}
