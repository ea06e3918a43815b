//! What the API server serves, as this proxy knows it: read when a request first needs it, and again when one asks for
//! something that is not in it. So what was only just defined is found, and nobody has to watch for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use eks_guard_core::discovery::{self, Discovery};
use eks_guard_core::reason::{Reason, Refusal};
use eks_guard_core::request_info::RequestInfo;
use http::{HeaderValue, StatusCode};
use http_body_util::{BodyExt, Limited};
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use crate::proxy::upstream::{Class, UpstreamPool, unanswered};

/// The API server is asked at most so often, however many requests are for what it does not serve; they wait for it.
const PAUSE: Duration = Duration::from_secs(1);
/// Time for both answers.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longest answer (bytes): some hundred for each resource.
const MAX_ANSWER: usize = 32 << 20;

/// The discovery in force, and how it was last asked for.
pub(crate) struct Served {
    upstream: Arc<UpstreamPool>,
    known: ArcSwapOption<Discovery>,
    asking: Mutex<Asking>,
}

#[derive(Default)]
struct Asking {
    /// When the API server was last asked, whether or not somebody waited for the answer.
    tried: Option<Instant>,
    answered: Option<Answered>,
}

/// An answer, good for everybody who wanted to know before it was asked for.
struct Answered {
    asked: Instant,
    refusal: Option<Refusal>,
}

impl Served {
    pub(crate) fn new(upstream: Arc<UpstreamPool>) -> Self {
        Self {
            upstream,
            known: ArcSwapOption::empty(),
            asking: Mutex::default(),
        }
    }

    /// Refuses requests for what the API server does not serve.
    pub(crate) async fn check(&self, info: &RequestInfo) -> Result<(), Refusal> {
        let known = self.known.load().as_ref().map(|known| known.check(info));
        match known {
            Some(Ok(())) => Ok(()),
            Some(Err(_)) | None if info.resource().is_some() => self.current().await?.check(info),
            Some(Err(_)) | None => Ok(()),
        }
    }

    /// What is served as far as it is known; asked for only when nothing is.
    pub(crate) async fn known(&self) -> Result<Arc<Discovery>, Refusal> {
        match self.known.load_full() {
            Some(known) => Ok(known),
            None => self.current().await,
        }
    }

    /// What is served now: asked for after this call, or an older one when the API server does not answer.
    pub(crate) async fn current(&self) -> Result<Arc<Discovery>, Refusal> {
        let called = Instant::now();
        let mut asking = self.asking.lock().await;
        if asking
            .answered
            .as_ref()
            .is_none_or(|answer| answer.asked < called)
        {
            if let Some(tried) = asking.tried {
                sleep(PAUSE.saturating_sub(tried.elapsed())).await;
            }
            let asked = Instant::now();
            asking.tried = Some(asked);
            let refusal = self.ask_again().await.err();
            asking.answered = Some(Answered { asked, refusal });
        }
        let refusal = asking.answered.as_ref().and_then(|answer| answer.refusal.clone());
        self.known
            .load_full()
            .ok_or_else(|| refusal.unwrap_or_else(|| unknown("it was not asked".to_owned())))
    }

    async fn ask_again(&self) -> Result<(), Refusal> {
        let answer = timeout(PATIENCE, self.ask()).await.unwrap_or_else(|_| {
            let seconds = PATIENCE.as_secs();
            Err(unknown(format!("it did not answer within {seconds} s")))
        });
        answer
            .map(|discovery| self.learn(discovery))
            .inspect_err(|refusal| tracing::warn!(%refusal, "the API server's discovery could not be read"))
    }

    /// Puts another discovery in force.
    pub(crate) fn learn(&self, discovery: Discovery) {
        self.known.store(Some(Arc::new(discovery)));
    }

    async fn ask(&self) -> Result<Discovery, Refusal> {
        let mut answers = Vec::with_capacity(discovery::PATHS.len());
        for path in discovery::PATHS {
            answers.push(self.answer(path).await?);
        }
        Discovery::read(answers.iter().map(Bytes::as_ref)).map_err(|error| unknown(error.to_string()))
    }

    async fn answer(&self, path: &str) -> Result<Bytes, Refusal> {
        let accept = HeaderValue::from_static(discovery::ACCEPT);
        let (response, mut lease) = self.upstream.get(path.to_owned(), Class::Short, accept).await?;
        let status = response.status();
        if status != StatusCode::OK {
            return Err(Refusal {
                reason: unanswered(status),
                ..unknown(format!("it answered {} to {path}", status.as_u16()))
            });
        }
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let bytes = body.map_err(|error| unknown(format!("its answer to {path} broke off: {error}")))?;
        lease.complete();
        Ok(bytes.to_bytes())
    }
}

fn unknown(why: String) -> Refusal {
    let message = format!(
        "The request was not sent: what the API server serves is not known, because {why}; retry in a moment."
    );
    Refusal::new(Reason::UpstreamUnreachable, message)
}
