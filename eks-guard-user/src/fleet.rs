//! The nodes together: each says by a Lease which policies it decides by, and the one that is elected writes into the status
//! of each policy what became of it.
//!
//! A Lease a node, as the kubelet has one, keeps the objects of policies small and unwritten however many nodes there are: a
//! policy's status counts nodes, and is written only when it becomes another. Nothing here decides: a node whose word does
//! not get out, or that is lied to, decides by the policies all the same.

mod conditions;
mod election;
mod lease;
mod nodes;
#[cfg(test)]
mod tests;
mod writer;

use std::error::Error;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

pub(crate) use crate::fleet::conditions::some_of;
use crate::fleet::election::Election;
use crate::fleet::lease::OwnLease;
pub(crate) use crate::fleet::lease::{NodeLease, Programmed, name_of};
pub(crate) use crate::fleet::nodes::Leases;
use crate::fleet::nodes::Nodes;
use crate::fleet::writer::Writer;
use crate::proxy::upstream::{CallError, UpstreamPool};
use crate::telemetry::chain;

/// Where the API server has the policies.
pub(crate) const AGENT_POLICIES: &str = "/apis/eks-guard.dev/v1alpha1/agentpolicies";
/// Where the Leases are. Agents write nothing there, whatever a policy says.
pub(crate) const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/eks-guard/leases";
/// How often a node says that it is there, up to a quarter more, and when it counts as silent.
const RENEWAL: Duration = Duration::from_secs(15);
pub(crate) const SILENCE: Duration = Duration::from_secs(60);
/// Pause after a failure; doubled with each that follows, up to what it is without.
const RETRY: Duration = Duration::from_secs(2);
/// How often the elected one renews its Lease and looks at the other nodes, and the pause before it looks because of a change.
const LOOK: Duration = Duration::from_secs(5);
const CHANGES: Duration = Duration::from_secs(1);
/// How often others look whether there still is an elected one; up to a quarter is added. Two looks at the same Lease are
/// longer apart than it lasts.
const CANDIDACY: Duration = Duration::from_secs(20);
/// How long one that must not write looks on: until all others have looked.
const ASIDE: Duration = Duration::from_secs(40);
/// Most mistakes of a policy that are told, and the longest name of a rule; what is longer is none.
const MAX_TOLD: usize = 20;
const MAX_NAME: usize = 63;
/// How long giving the election up may take.
const ENDING: Duration = Duration::from_secs(5);

/// What the elected node has to know of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    /// Its name.
    pub(crate) name: String,
    /// Never used twice.
    pub(crate) uid: String,
    /// Counts the changes of what it says.
    pub(crate) generation: u64,
    /// Version of the object, which its status counts for, too.
    pub(crate) version: String,
    /// Its status, as the API server has it.
    pub(crate) status: Value,
    /// What became of it.
    pub(crate) verdict: Verdict,
}

/// What became of a generation of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It can be used.
    Accepted,
    /// Whom it is about is refused everything, because of these.
    Invalid(Mistakes),
    /// It is not in force: nodes take no more.
    TooMany,
}

/// A mistake, and the rule that it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// Name of the rule.
    pub(crate) rule: Option<String>,
    /// What is wrong.
    pub(crate) message: String,
}

/// The mistakes of a policy, of which as many are told as its status has room for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mistakes {
    /// The first of each rule, and those that are in none.
    pub(crate) told: Vec<Mistake>,
    /// How many there are.
    pub(crate) count: usize,
}

impl Mistakes {
    pub(crate) fn of(all: impl IntoIterator<Item = Mistake>) -> Self {
        let mut mistakes = Self::default();
        for mut mistake in all {
            mistakes.count += 1;
            if mistakes.told.len() == MAX_TOLD {
                continue;
            }
            mistake.rule = mistake.rule.filter(|rule| is_name(rule));
            let is_told = |told: &Mistake| told.rule.is_some() && told.rule == mistake.rule;
            if !mistakes.told.iter().any(is_told) {
                mistakes.told.push(mistake);
            }
        }
        mistakes
    }
}

/// Whether a status may name a rule so.
fn is_name(rule: &str) -> bool {
    !rule.is_empty() && rule.chars().count() <= MAX_NAME
}

/// What this node knows of the policies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Knowledge {
    /// Every policy.
    pub(crate) policies: Vec<Policy>,
    /// Those that this node decides by.
    pub(crate) programmed: Vec<Programmed>,
}

/// Why what became of policies is not written.
#[derive(Debug, thiserror::Error)]
enum FleetError {
    /// The API server did not do it.
    #[error(transparent)]
    Call(#[from] CallError),
    /// Being elected ended before the first write did.
    #[error("the API server takes so long that the time to write is over")]
    Late,
    /// Its changes are not told here.
    #[error("the API server has a newer version of agentpolicies/{0} than its watch tells this node of")]
    Behind(String),
}

/// A node's Lease by itself.
#[cfg(test)]
pub(crate) fn read_lease(lease: &Value) -> Option<NodeLease> {
    lease::Reader::default().read(lease)
}

type Known = watch::Receiver<Option<Arc<Knowledge>>>;

/// This node's part.
pub(crate) struct Fleet {
    known: watch::Sender<Option<Arc<Knowledge>>>,
    problems: [watch::Receiver<Option<String>>; 2],
    ending: CancellationToken,
    tasks: TaskTracker,
}

impl Fleet {
    /// Begins. Until something is known of the policies nothing is said.
    pub(crate) fn join(upstream: &Arc<UpstreamPool>, node: &str) -> Self {
        let (known_tx, known) = watch::channel(None);
        let (tasks, ending) = (TaskTracker::new(), CancellationToken::new());
        let (saying_tx, saying) = watch::channel(None);
        let (writing_tx, writing) = watch::channel(None);
        let member = Member {
            own: OwnLease::of(upstream, node),
            known: known.clone(),
            problem: saying_tx,
        };
        let candidate = Candidate {
            election: Election::of(upstream, node),
            nodes: Nodes::default(),
            writer: Writer::of(upstream),
            upstream: Arc::clone(upstream),
            known,
            problem: writing_tx,
        };
        tasks.spawn(ending.clone().run_until_cancelled_owned(member.speak()));
        tasks.spawn(candidate.stand_until(ending.clone()));
        tasks.close();
        Self {
            known: known_tx,
            problems: [saying, writing],
            ending,
            tasks,
        }
    }

    /// What is known of the policies has changed.
    pub(crate) fn tell(&self, knowledge: Knowledge) {
        self.known.send_replace(Some(Arc::new(knowledge)));
    }

    /// What cannot be said.
    pub(crate) fn problems(&self) -> impl Iterator<Item = String> {
        self.problems
            .iter()
            .filter_map(|problem| problem.borrow().clone())
    }

    /// Gives the election up, so that another node need not wait.
    pub(crate) async fn leave(self) {
        self.ending.cancel();
        if timeout(ENDING, self.tasks.wait()).await.is_err() {
            tracing::warn!("the Lease of the election is not given back; another node waits for its end");
        }
    }
}

/// A node that says which policies it decides by.
struct Member {
    own: OwnLease,
    known: Known,
    problem: watch::Sender<Option<String>>,
}

impl Member {
    /// Says it when it becomes another, and again and again.
    async fn speak(mut self) {
        let mut retry = RETRY;
        loop {
            let Ok(knowledge) = self
                .known
                .wait_for(Option::is_some)
                .await
                .map(|known| known.clone())
            else {
                return;
            };
            let knowledge = knowledge.unwrap_or_default();
            let said = &knowledge.programmed;
            let outcome = self.own.renew(said).await;
            let pause;
            (pause, retry) = match outcome {
                Ok(()) => (RENEWAL, RETRY),
                Err(_) => (retry, (retry * 2).min(RENEWAL)),
            };
            let doing = "which policies this node decides by is not told; the guard must be allowed to get, create and update leases in the namespace eks-guard, which must exist";
            note(&self.problem, doing, &outcome);
            let is_news =
                |now: &Option<Arc<Knowledge>>| now.as_ref().is_some_and(|now| now.programmed != *said);
            let news = timeout(jittered(pause), self.known.wait_for(is_news)).await;
            if matches!(news, Ok(Err(_))) {
                return;
            }
        }
    }
}

/// A node that may be elected.
struct Candidate {
    election: Election,
    nodes: Nodes,
    writer: Writer,
    upstream: Arc<UpstreamPool>,
    known: Known,
    problem: watch::Sender<Option<String>>,
}

/// What a round came to.
enum Round {
    /// Another node writes.
    Candidate,
    /// This one did.
    Elected,
}

impl Candidate {
    /// Stands for election, writes while elected, and gives the Lease back at the end.
    async fn stand_until(mut self, ending: CancellationToken) {
        ending.run_until_cancelled(self.stand()).await;
        self.election.give_up().await;
    }

    async fn stand(&mut self) {
        // Who knows nothing has nothing to write.
        if self.known.wait_for(Option::is_some).await.is_err() {
            return;
        }
        loop {
            let round = self.round().await;
            let doing = "what became of the policies is not told; the guard must be allowed to get, list, create and update leases in the namespace eks-guard, and to update agentpolicies/status";
            note(&self.problem, doing, &round);
            let pause = match round {
                // A change is seen sooner, with those that come right behind it.
                Ok(Round::Elected) => match timeout(LOOK, self.known.changed()).await {
                    Ok(_) => CHANGES,
                    Err(_) => Duration::ZERO,
                },
                Ok(Round::Candidate) => {
                    self.writer.forget();
                    jittered(CANDIDACY)
                }
                Err(FleetError::Behind(_)) => {
                    self.election.give_up().await;
                    self.writer.forget();
                    ASIDE
                }
                Err(_) if self.election.remaining(Instant::now()).is_some() => LOOK,
                Err(_) => jittered(CANDIDACY),
            };
            let ended = self.known.wait_for(|_| false);
            if matches!(timeout(pause, ended).await, Ok(Err(_))) {
                return;
            }
        }
    }

    async fn round(&mut self) -> Result<Round, FleetError> {
        if !self.election.stand().await? {
            return Ok(Round::Candidate);
        }
        // Pages of Leases may take longer than this node's own Lease lasts.
        let listing = Leases::list(&self.upstream);
        let Some(leases) = while_elected(&mut self.election, LOOK, listing).await? else {
            return Ok(Round::Candidate);
        };
        self.nodes.take(leases?, Instant::now(), Timestamp::now());
        let knowledge = self.known.borrow_and_update().clone().unwrap_or_default();
        let remaining = |now| self.election.remaining(now);
        self.writer
            .write(remaining, &knowledge.policies, &self.nodes)
            .await?;
        Ok(Round::Elected)
    }
}

/// Does what may take long, and renews the Lease meanwhile; none: another node was elected.
async fn while_elected<T>(
    election: &mut Election,
    pause: Duration,
    doing: impl Future<Output = T>,
) -> Result<Option<T>, CallError> {
    let mut doing = pin!(doing);
    loop {
        match timeout(pause, &mut doing).await {
            Ok(done) => return Ok(Some(done)),
            Err(_) if election.stand().await? => {}
            Err(_) => return Ok(None),
        }
    }
}

/// Says a failure once, and keeps it for the status until it is over.
fn note<T, E: Error + 'static>(problem: &watch::Sender<Option<String>>, doing: &str, outcome: &Result<T, E>) {
    let error = outcome.as_ref().err();
    let text = error.map(|error| format!("{doing}: {}", chain(error)));
    problem.send_if_modified(|known| {
        if *known == text {
            return false;
        }
        if let Some(text) = &text {
            tracing::warn!("{text}");
        }
        *known = text;
        true
    });
}

/// Nodes that were started together do not stay so.
fn jittered(pause: Duration) -> Duration {
    let [.., random] = *Uuid::now_v7().as_bytes();
    pause + pause * u32::from(random) / (4 * u32::from(u8::MAX))
}
