//! Reads what the kernel programs tell of refusals, says whose they were, and puts them into the node's record.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use eks_guard_core::principal::PodIdentity;
use eks_guard_core::record::{Event, Stage};
use jiff::Timestamp;
use tokio::task::{JoinSet, block_in_place};
use tokio::time::interval;
use uuid::Uuid;

use crate::ebpf::node::{Events, NodeEvent};
use crate::node::cgroup::ids_below;
use crate::node::daemon::NODE_SESSION;
use crate::node::refusals::{Kind, LeftOut, Tally, Told};
use crate::recording::writer::{DiskRecorder, SessionEnd};
use crate::recording::{Recorder, event_time};

/// How often windows that are over are looked for, and the cgroups of pods at most.
const PAUSE: Duration = Duration::from_secs(1);

/// An agent as events name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentPod {
    /// Its pod's cgroup.
    pub path: PathBuf,
    /// Its name.
    pub agent: String,
    /// Its pod.
    pub identity: PodIdentity,
}

/// Who is on the node.
#[derive(Debug, Default)]
pub struct Directory {
    /// Agents, by the id of their pod's cgroup.
    pub agents: BTreeMap<u64, AgentPod>,
    /// Guarded interfaces, with the cgroups of their agents.
    pub interfaces: BTreeMap<u32, u64>,
}

/// What is counted, and where it is told.
pub(super) struct Watch {
    pub(super) directory: ArcSwap<Directory>,
    pub(super) tally: Mutex<Tally>,
    record: DiskRecorder,
}

impl Watch {
    /// Reads the events, if this is who reads them, as long as the tasks live.
    pub(super) fn start(events: Option<Events>, record: DiskRecorder, tasks: &mut JoinSet<()>) -> Arc<Self> {
        let watch = Arc::new(Self {
            directory: ArcSwap::default(),
            tally: Mutex::default(),
            record,
        });
        if let Some(events) = events {
            tasks.spawn(Arc::clone(&watch).run(events));
        }
        watch
    }

    /// Reads until the kernel has nothing more to say.
    async fn run(self: Arc<Self>, mut events: Events) {
        let mut pause = interval(PAUSE);
        let mut index = Index::default();
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Ok(event) => self.take(&event, &mut index),
                    Err(error) => {
                        tracing::error!(%error, "the kernel's events are not read any more; they are counted");
                        return;
                    }
                },
                _ = pause.tick() => {
                    let left_out = self.tally().left_out(Instant::now());
                    left_out.into_iter().for_each(|left_out| self.tell_left_out(left_out));
                }
            }
        }
    }

    /// Ends the record.
    pub(super) async fn end(&self) {
        let end = SessionEnd {
            exit_code: None,
            message: Some("the guard was stopped".to_owned()),
        };
        if let Err(error) = self.record.end(end).await {
            tracing::warn!(%error, "the end of what the kernel told is not in its record");
        }
    }

    pub(super) fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts something into the node's record that concerns no pod.
    pub(super) fn tell(&self, reason: &str, message: String) {
        let mut event = self.event(None);
        event.reason = Some(reason.to_owned());
        event.message = Some(message);
        self.append(event);
    }

    fn take(&self, event: &NodeEvent, index: &mut Index) {
        let directory = self.directory.load();
        let pod = match event.ifindex {
            Some(interface) => directory.interfaces.get(&interface).copied(),
            None => event.cgroup.and_then(|cgroup| index.pod_of(cgroup, &directory)),
        };
        let kind = Kind::of(event.hook, event.refusal);
        if self.tally().take(pod, kind, Instant::now()) == Told::AsNumber {
            return;
        }
        let message = describe(event);
        match kind {
            Kind::BypassAttempted => tracing::error!(pod, "bypass attempted: {message}"),
            Kind::Refused => tracing::info!(pod, "{message}"),
        }
        let mut told = self.event(pod);
        told.reason = Some(kind.reason().to_owned());
        told.message = Some(message);
        told.original_destination = Some(event.destination.to_string());
        self.append(told);
    }

    /// Puts into the node's record how many refusals nobody could read of.
    pub(super) fn tell_lost(&self, count: u64) {
        tracing::warn!("{count} refusals came faster than they were read; they are counted");
        let mut event = self.event(None);
        event.reason = Some(Kind::Refused.reason().to_owned());
        event.message = Some("came faster than they were read; the status counts them by hook".to_owned());
        event.lost = Some(count);
        self.append(event);
    }

    fn tell_left_out(&self, left_out: LeftOut) {
        let mut event = self.event(left_out.pod);
        event.reason = Some(left_out.kind.reason().to_owned());
        event.message = Some("more of the same, not told one by one".to_owned());
        event.lost = Some(left_out.count);
        self.append(event);
    }

    fn event(&self, pod: Option<u64>) -> Event {
        let directory = self.directory.load();
        let resident = pod.and_then(|pod| directory.agents.get(&pod));
        let agent = resident.map_or(NODE_SESSION, |resident| resident.agent.as_str());
        Event {
            id: Uuid::now_v7().to_string(),
            time: event_time(Timestamp::now()),
            pod: resident.map(|resident| resident.identity.clone()),
            ..Event::new(Stage::Kernel, self.record.session(), agent)
        }
    }

    fn append(&self, event: Event) {
        if let Err(error) = self.record.append(event) {
            tracing::error!(%error, "an event was not recorded");
        }
    }
}

fn describe(event: &NodeEvent) -> String {
    let by = match (event.pid, event.ifindex) {
        (Some(pid), _) => format!("process {pid} ({})", event.comm.escape_debug()),
        (None, Some(interface)) => format!("interface {interface}"),
        (None, None) => "a socket".to_owned(),
    };
    format!(
        "{:?} by {by}: {:?}, protocol {}",
        event.hook, event.refusal, event.protocol
    )
}

/// Which pod a cgroup is of: that of a container, mostly. Ids are never used twice.
#[derive(Default)]
struct Index {
    pods: HashMap<u64, u64>,
    looked: Option<Instant>,
}

impl Index {
    fn pod_of(&mut self, cgroup: u64, directory: &Directory) -> Option<u64> {
        let is_due = self.looked.is_none_or(|looked| looked.elapsed() >= PAUSE);
        if !self.pods.contains_key(&cgroup) && is_due {
            self.looked = Some(Instant::now());
            self.pods = block_in_place(|| {
                let own = |(pod, resident): (&u64, &AgentPod)| {
                    ids_below(&resident.path)
                        .into_iter()
                        .map(|id| (id, *pod))
                        .collect::<Vec<_>>()
                };
                directory.agents.iter().flat_map(own).collect()
            });
        }
        self.pods.get(&cgroup).copied()
    }
}
