//! The agents of this node: each has a listener in its network namespace, a record, and a place in the table that tells
//! whose a connection is.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use eks_guard_core::principal::Principal;
use rustix::net::sockopt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::ebpf::original_dst::Flow;
use crate::node::cables::Cables;
use crate::node::cgroup::processes::{Netns, sandbox_netns};
use crate::node::cgroup::{PodCgroup, PodUid};
use crate::node::kernel::{Kernel, KernelError};
use crate::node::listener::bind_in;
use crate::node::pods::ClassifiedPod;
use crate::proxy::{Limits, Listener, Place, Proxy, Sockets, Workload, Workloads};
use crate::recording::RecordError;
use crate::recording::writer::{DiskRecorder, SessionEnd, SessionFacts};
use crate::telemetry::chain;

/// Whose a connection is, by the cgroup in its flow entry.
#[derive(Default)]
pub struct ByCgroup {
    workloads: ArcSwap<HashMap<u64, Arc<Workload>>>,
}

impl Workloads for ByCgroup {
    fn of(&self, flow: &Flow) -> Option<Arc<Workload>> {
        self.workloads.load().get(&flow.cgroup).map(Arc::clone)
    }
}

/// Why an agent has no listener, or nobody to serve it.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Its record cannot be opened: its connections are closed.
    #[error("opening the record of {pod}")]
    Record {
        /// Namespace and name.
        pod: String,
        /// Why.
        #[source]
        source: RecordError,
    },
    /// Its network namespace cannot be entered, or its loopback is down.
    #[error("listening in the network namespace of {pod}")]
    Listen {
        /// Namespace and name.
        pod: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel does not name the flows there.
    #[error("serving {pod}")]
    Flows {
        /// Namespace and name.
        pod: String,
        /// Why.
        #[source]
        source: KernelError,
    },
}

/// One agent.
struct Seat {
    cgroup: u64,
    workload: Arc<Workload>,
    recorder: Arc<DiskRecorder>,
    door: Option<Door>,
}

/// A listener that is served. Stops accepting when dropped.
struct Door {
    netns: Netns,
    port: u16,
    /// Its sockets once more, to be asked whether they listen.
    listening: Vec<OwnedFd>,
    drain: CancellationToken,
}

impl Door {
    /// Whether somebody in the pod's network has ended a listening socket.
    fn is_dead(&self) -> bool {
        let listens = |socket: &OwnedFd| sockopt::socket_acceptconn(socket).is_ok_and(|listens| listens);
        !self.listening.iter().all(listens)
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.drain.cancel();
    }
}

/// All agents.
pub struct Agents {
    proxy: Arc<Proxy>,
    limits: Limits,
    records: PathBuf,
    node: Arc<Workload>,
    by_cgroup: Arc<ByCgroup>,
    seats: BTreeMap<PodUid, Seat>,
    /// The listener of the node's own network namespace, for agents that use it.
    host: Option<Door>,
    tasks: TaskTracker,
}

impl Agents {
    /// No agents yet. `node` takes the connections that nobody vouches for in the node's own namespace.
    #[must_use]
    pub fn new(proxy: Arc<Proxy>, limits: Limits, records: &Path, node: Arc<Workload>) -> Self {
        Self {
            proxy,
            limits,
            records: records.to_owned(),
            node,
            by_cgroup: Arc::default(),
            seats: BTreeMap::new(),
            host: None,
            tasks: TaskTracker::new(),
        }
    }

    /// Serves an agent: opens its record and its listener if they are missing, and moves the listener when its sandbox has
    /// another network namespace. The port of the listener; none while the pod has no process to find its namespace by.
    ///
    /// # Errors
    /// What is missing; the agent reaches nothing until the next try.
    pub fn serve(
        &mut self,
        uid: &PodUid,
        pod: &ClassifiedPod,
        agent: &str,
        cgroup: &PodCgroup,
        kernel: &dyn Kernel,
    ) -> Result<Option<u16>, AgentError> {
        if self.seats.get(uid).is_none_or(|seat| seat.cgroup != cgroup.id) {
            let seat = self.open(pod, agent, cgroup)?;
            self.seats.insert(uid.clone(), seat);
            self.publish();
        }
        if pod.host_network {
            return self.serve_host(kernel).map(Some);
        }
        let name = name_of(pod);
        let listen = |source| AgentError::Listen {
            pod: name.clone(),
            source,
        };
        let netns = sandbox_netns(cgroup).map_err(listen)?;
        let Some(seat) = self.seats.get_mut(uid) else {
            return Ok(None);
        };
        let Some(netns) = netns else {
            return Ok(seat.door.as_ref().map(|door| door.port));
        };
        if let Some(door) = seat.door.as_ref().filter(|door| door.netns.inode == netns.inode) {
            return Ok(Some(door.port));
        }
        let resident = Arc::clone(&seat.workload);
        let sockets = bind_in(&netns).map_err(listen)?;
        let door = self.open_door(sockets, netns, resident, &name, kernel)?;
        let port = door.port;
        if let Some(seat) = self.seats.get_mut(uid) {
            seat.door = Some(door);
        }
        Ok(Some(port))
    }

    /// Lets go of agents whose cgroup is gone, and ends their records.
    pub fn keep_only(&mut self, keep: impl Fn(&PodUid) -> bool) {
        let gone: Vec<PodUid> = self.seats.keys().filter(|uid| !keep(uid)).cloned().collect();
        for uid in &gone {
            if let Some(seat) = self.seats.remove(uid) {
                let recorder = seat.recorder;
                self.tasks
                    .spawn(async move { end(&recorder, "the pod is gone").await });
            }
        }
        if !gone.is_empty() {
            self.publish();
        }
    }

    /// Lets go of listeners that listen no more, one sentence each: the next [`Agents::serve`] makes new ones. Until then
    /// connections are refused.
    pub fn drop_dead_listeners(&mut self) -> Vec<String> {
        let mut dropped = Vec::new();
        for (uid, seat) in &mut self.seats {
            if seat.door.take_if(|door| door.is_dead()).is_some() {
                dropped.push(format!("the listener of pod {} was ended", uid.as_str()));
            }
        }
        if self.host.take_if(|door| door.is_dead()).is_some() {
            dropped.push("the listener of the node was ended".to_owned());
        }
        dropped
    }

    /// The node's ends of the agents' cables, each with the cgroup of its agent. Agents in the node's own network have none.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn cables(&self) -> io::Result<BTreeMap<u32, u64>> {
        let mut all = Cables::list()?;
        let mut cables = BTreeMap::new();
        for seat in self.seats.values() {
            if let Some(door) = &seat.door {
                let own = all.leading_into(door.netns.file.as_fd())?;
                cables.extend(own.into_iter().map(|interface| (interface, seat.cgroup)));
            }
        }
        Ok(cables)
    }

    /// Lets requests under way finish, and ends every record.
    pub async fn drain(mut self) {
        self.host = None;
        let seats = std::mem::take(&mut self.seats);
        let recorders: Vec<Arc<DiskRecorder>> = seats.into_values().map(|seat| seat.recorder).collect();
        self.tasks.close();
        self.tasks.wait().await;
        for recorder in recorders {
            end(&recorder, "the guard was stopped").await;
        }
    }

    fn open(&self, pod: &ClassifiedPod, agent: &str, cgroup: &PodCgroup) -> Result<Seat, AgentError> {
        let session = Uuid::now_v7().to_string();
        let facts = SessionFacts {
            session: session.clone(),
            agent: agent.to_owned(),
            model_claimed: None,
            pod: Some(pod.identity.clone()),
            command: None,
        };
        let recorder = DiskRecorder::open(&self.records, facts).map_err(|source| AgentError::Record {
            pod: name_of(pod),
            source,
        })?;
        let recorder = Arc::new(recorder);
        let principal = Principal {
            agent: agent.to_owned(),
            model_claimed: None,
            pod: Some(pod.identity.clone()),
        };
        Ok(Seat {
            cgroup: cgroup.id,
            workload: Workload::new(principal, session, Arc::clone(&recorder) as _, &self.limits),
            recorder,
            door: None,
        })
    }

    fn serve_host(&mut self, kernel: &dyn Kernel) -> Result<u16, AgentError> {
        if let Some(door) = &self.host {
            return Ok(door.port);
        }
        let name = "the node".to_owned();
        let listen = |source| AgentError::Listen {
            pod: name.clone(),
            source,
        };
        let netns = Netns::open(Path::new("/proc/self/ns/net")).map_err(listen)?;
        let sockets = Sockets::bind().map_err(listen)?;
        let door = self.open_door(sockets, netns, Arc::clone(&self.node), &name, kernel)?;
        let port = door.port;
        self.host = Some(door);
        Ok(port)
    }

    fn open_door(
        &self,
        sockets: Sockets,
        netns: Netns,
        resident: Arc<Workload>,
        name: &str,
        kernel: &dyn Kernel,
    ) -> Result<Door, AgentError> {
        let listen = |source| AgentError::Listen {
            pod: name.to_owned(),
            source,
        };
        let flows = kernel
            .flows(sockets.as_fd())
            .map_err(|source| AgentError::Flows {
                pod: name.to_owned(),
                source,
            })?;
        let place = Place {
            flows,
            workloads: Arc::clone(&self.by_cgroup) as _,
            resident,
        };
        let listening = sockets.copies().map_err(listen)?;
        let listener = Listener::of(sockets).map_err(listen)?;
        let door = Door {
            netns,
            port: listener.port(),
            listening,
            drain: CancellationToken::new(),
        };
        self.tasks
            .spawn(listener.serve(Arc::clone(&self.proxy), place, door.drain.clone()));
        Ok(door)
    }

    fn publish(&self) {
        let workloads = self
            .seats
            .values()
            .map(|seat| (seat.cgroup, Arc::clone(&seat.workload)))
            .collect();
        self.by_cgroup.workloads.store(Arc::new(workloads));
    }
}

async fn end(recorder: &DiskRecorder, why: &str) {
    let ended = recorder.end(SessionEnd {
        exit_code: None,
        message: Some(why.to_owned()),
    });
    if let Err(error) = ended.await {
        tracing::warn!(error = %chain(&error), "the end of a session is not in the record");
    }
}

fn name_of(pod: &ClassifiedPod) -> String {
    format!("pod {}/{}", pod.identity.namespace, pod.identity.name)
}
