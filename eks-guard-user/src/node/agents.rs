//! The agents of this node: each has a listener in its network namespace and a record, and the proxy process is handed both.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::ebpf::netns_cookie;
use crate::ebpf::node::ListenerPlace;
use crate::netlink::{Family, Socket, sockets};
use crate::node::cgroup::processes::{Netns, sandbox_netns};
use crate::node::cgroup::{PodCgroup, PodUid, ids_below};
use crate::node::kernel::{Kernel, KernelError};
use crate::node::listener::{bind_in, in_netns};
use crate::node::older::Owner;
use crate::node::pods::ClassifiedPod;
use crate::node::proxy_process::{ProxyLink, Resident, Session, ToProxy};
use crate::proxy::Sockets;
use crate::recording::RecordError;
use crate::recording::writer::SessionFacts;

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
    /// The proxy cannot be told of it: the next one will be.
    #[error("handing {pod} to the proxy")]
    Proxy {
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
    session: Session,
    /// The network namespace of its sandbox, when last looked at.
    netns: Option<Netns>,
    at_proxy: AtProxy,
}

/// What the present proxy knows of an agent, or of the node.
#[derive(Default)]
struct AtProxy {
    is_known: bool,
    door: Option<Door>,
}

/// A listener that is served.
struct Door {
    listener: u32,
    place: ListenerPlace,
    /// How many sockets it has.
    sockets: usize,
    /// Inode of the network namespace that it is in.
    netns: u64,
}

impl Door {
    /// Whether one of its sockets does not listen any more. Only the kernel knows: the proxy holds them.
    fn is_dead(&self, netns: Option<&Netns>) -> bool {
        let Some(netns) = netns.filter(|netns| netns.inode == self.netns) else {
            return false;
        };
        let listening = in_netns(netns.file.as_fd(), || {
            sockets::listening(&mut Socket::open(Family::Sockets)?)
        });
        match listening {
            Ok(found) => {
                let is_own =
                    |local: &&SocketAddr| local.ip().is_loopback() && local.port() == self.place.port;
                found.iter().filter(is_own).count() < self.sockets
            }
            Err(error) => {
                tracing::warn!(%error, "whether agents' listeners listen is not known");
                false
            }
        }
    }
}

/// All agents.
pub struct Agents {
    link: Arc<dyn ProxyLink>,
    records: PathBuf,
    seats: BTreeMap<PodUid, Seat>,
    /// The node's own network namespace, which is no pod's sandbox.
    node_netns: Option<u64>,
    /// The record of connections that nobody vouches for in the node's own network namespace, and the listener in there, for
    /// agents that use it.
    node: (Session, AtProxy),
    /// The proxy that was told of them.
    incarnation: Option<u64>,
    listeners: u32,
    ending: TaskTracker,
}

impl Agents {
    /// No agents yet.
    pub(crate) fn new(link: Arc<dyn ProxyLink>, records: &Path, node: Session) -> Self {
        Self {
            link,
            records: records.to_owned(),
            seats: BTreeMap::new(),
            node_netns: None,
            node: (node, AtProxy::default()),
            incarnation: None,
            listeners: 0,
            ending: TaskTracker::new(),
        }
    }

    /// The way to the proxy that serves them.
    pub(crate) fn link(&self) -> &Arc<dyn ProxyLink> {
        &self.link
    }

    /// Takes note of another proxy, or of none: what was told to the one before is not known any more.
    pub fn follow_proxy(&mut self) {
        let incarnation = self.link.incarnation();
        if incarnation != self.incarnation {
            self.incarnation = incarnation;
            self.node.1 = AtProxy::default();
            self.seats
                .values_mut()
                .for_each(|seat| seat.at_proxy = AtProxy::default());
        }
    }

    /// Whether the node's own record is being written.
    #[must_use]
    pub fn is_node_record_healthy(&self) -> bool {
        self.node.0.is_healthy()
    }

    /// From now on this is the node's own network namespace: no pod with a network of its own is in it.
    pub(crate) fn set_node_netns(&mut self, netns: &Netns) {
        self.node_netns = Some(netns.inode);
    }

    /// Serves an agent: opens its record and its listener if they are missing, and moves the listener when its sandbox has
    /// another network namespace. Where the listener is; nowhere while the pod has no process to find its namespace by, or
    /// while there is no proxy.
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
    ) -> Result<Option<ListenerPlace>, AgentError> {
        if self.seats.get(uid).is_none_or(|seat| seat.cgroup != cgroup.id) {
            let seat = self.open(pod, agent, cgroup)?;
            if let Some(before) = self.seats.insert(uid.clone(), seat) {
                self.let_go(before, "the pod has another cgroup");
            }
        }
        let name = name_of(pod);
        let Some(seat) = self.seats.get_mut(uid) else {
            return Ok(None);
        };
        if !pod.host_network
            && let Some(netns) = sandbox_netns(cgroup).map_err(listening(&name))?
            // A runtime puts the first process into the pod's cgroup before it puts it into the pod's network.
            && Some(netns.inode) != self.node_netns
        {
            seat.netns = Some(netns);
        }
        if self.incarnation.is_none() {
            return Ok(None);
        }
        let resident = Resident::Agent(cgroup.id);
        introduce(&self.link, resident, &seat.session, &mut seat.at_proxy).map_err(telling(&name))?;
        if pod.host_network {
            return self.serve_host(kernel).map(Some);
        }
        let Some(netns) = &seat.netns else {
            return Ok(None);
        };
        let door = seat.at_proxy.door.as_ref();
        if let Some(door) = door.filter(|door| door.netns == netns.inode) {
            return Ok(Some(door.place));
        }
        let sockets = bind_in(netns).map_err(listening(&name))?;
        self.listeners += 1;
        let opened = open_door(
            &self.link,
            self.listeners,
            (resident, netns),
            &sockets,
            kernel,
            &name,
        )?;
        let place = opened.place;
        if let Some(before) = seat.at_proxy.door.replace(opened) {
            close(&self.link, &before);
        }
        Ok(Some(place))
    }

    /// Lets go of agents whose cgroup is gone, and ends their records.
    pub fn keep_only(&mut self, keep: impl Fn(&PodUid) -> bool) {
        let gone: Vec<PodUid> = self.seats.keys().filter(|uid| !keep(uid)).cloned().collect();
        for uid in &gone {
            if let Some(seat) = self.seats.remove(uid) {
                self.let_go(seat, "the pod is gone");
            }
        }
    }

    /// The network that an agent uses, and whose it is, when it is known.
    #[must_use]
    pub fn network_of(&self, uid: &PodUid, cgroup: &PodCgroup) -> Option<(Netns, Owner)> {
        let own = Netns::open(Path::new("/proc/self/ns/net")).ok()?;
        let sandbox = self.seats.get(uid)?.netns.as_ref();
        match sandbox.filter(|sandbox| sandbox.inode != own.inode) {
            Some(sandbox) => {
                let file = sandbox.file.try_clone().ok()?;
                let inode = sandbox.inode;
                Some((Netns { file, inode }, Owner::Pod))
            }
            None => Some((own, Owner::Shared(ids_below(&cgroup.path)))),
        }
    }

    /// Lets go of listeners that somebody ended in the network they are in, one sentence each: the next [`Agents::serve`]
    /// makes new ones. Until then connections are refused.
    pub fn drop_dead_listeners(&mut self) -> Vec<String> {
        let mut dropped = Vec::new();
        // With a proxy that is gone, all of its listeners are.
        if self.link.incarnation() != self.incarnation {
            return dropped;
        }
        for (uid, seat) in &mut self.seats {
            let netns = seat.netns.as_ref();
            if let Some(door) = seat.at_proxy.door.take_if(|door| door.is_dead(netns)) {
                close(&self.link, &door);
                dropped.push(format!("the listener of pod {uid} was ended"));
            }
        }
        let own = Netns::open(Path::new("/proc/self/ns/net")).ok();
        if let Some(door) = self.node.1.door.take_if(|door| door.is_dead(own.as_ref())) {
            close(&self.link, &door);
            dropped.push("the listener of the node was ended".to_owned());
        }
        dropped
    }

    /// Ends every record. The proxy has ended before.
    pub async fn end(mut self) {
        let seats = std::mem::take(&mut self.seats);
        let sessions = seats.into_values().map(|seat| seat.session).chain([self.node.0]);
        for session in sessions {
            self.ending.spawn(session.end("the guard was stopped"));
        }
        self.ending.close();
        self.ending.wait().await;
    }

    fn let_go(&self, seat: Seat, why: &'static str) {
        if let Some(door) = &seat.at_proxy.door {
            close(&self.link, door);
        }
        if seat.at_proxy.is_known
            && self
                .link
                .tell(&ToProxy::Gone(Resident::Agent(seat.cgroup)), &[])
                .is_err()
        {
            tracing::debug!("the proxy that served an agent is gone before it");
        }
        self.ending.spawn(seat.session.end(why));
    }

    fn open(&self, pod: &ClassifiedPod, agent: &str, cgroup: &PodCgroup) -> Result<Seat, AgentError> {
        let facts = SessionFacts {
            session: Uuid::now_v7().to_string(),
            agent: agent.to_owned(),
            model_claimed: None,
            pod: Some(pod.identity.clone()),
            labels: pod.labels.clone(),
            command: None,
        };
        let session = Session::open(&self.records, facts).map_err(|source| AgentError::Record {
            pod: name_of(pod),
            source,
        })?;
        Ok(Seat {
            cgroup: cgroup.id,
            session,
            netns: None,
            at_proxy: AtProxy::default(),
        })
    }

    fn serve_host(&mut self, kernel: &dyn Kernel) -> Result<ListenerPlace, AgentError> {
        let name = "the node";
        let (session, at_proxy) = &mut self.node;
        introduce(&self.link, Resident::Node, session, at_proxy).map_err(telling(name))?;
        if let Some(door) = &at_proxy.door {
            return Ok(door.place);
        }
        let netns = Netns::open(Path::new("/proc/self/ns/net")).map_err(listening(name))?;
        let sockets = Sockets::bind().map_err(listening(name))?;
        self.listeners += 1;
        let place = (Resident::Node, &netns);
        let door = open_door(&self.link, self.listeners, place, &sockets, kernel, name)?;
        Ok(at_proxy.door.insert(door).place)
    }
}

/// Tells the proxy whose connections may come, once.
fn introduce(
    link: &Arc<dyn ProxyLink>,
    resident: Resident,
    session: &Session,
    at_proxy: &mut AtProxy,
) -> io::Result<()> {
    if !at_proxy.is_known {
        let record = session.writer()?;
        link.tell(&ToProxy::Workload(resident, session.facts()), &[record.as_fd()])?;
        at_proxy.is_known = true;
    }
    Ok(())
}

/// Hands the proxy a listener. This process keeps no copy: when the proxy is gone, so is whoever could answer.
fn open_door(
    link: &Arc<dyn ProxyLink>,
    listener: u32,
    (resident, netns): (Resident, &Netns),
    sockets: &Sockets,
    kernel: &dyn Kernel,
    name: &str,
) -> Result<Door, AgentError> {
    let place = ListenerPlace {
        port: sockets.port().map_err(listening(name))?,
        netns: netns_cookie(sockets).map_err(listening(name))?,
    };
    let flows = kernel
        .flows(sockets.as_fd())
        .map_err(|source| AgentError::Flows {
            pod: name.to_owned(),
            source,
        })?;
    // Known before the first connection asks.
    link.flows().insert(listener, flows);
    let door = Door {
        listener,
        place,
        sockets: sockets.descriptors().len(),
        netns: netns.inode,
    };
    let listen = ToProxy::Listen { listener, resident };
    let told = link.tell(&listen, &sockets.descriptors());
    told.inspect_err(|_| link.flows().remove(listener))
        .map_err(telling(name))?;
    Ok(door)
}

/// Connections that were accepted have asked for their flow; those that were not find nobody.
fn close(link: &Arc<dyn ProxyLink>, door: &Door) {
    link.flows().remove(door.listener);
    if link.tell(&ToProxy::Close(door.listener), &[]).is_err() {
        tracing::debug!("the proxy that served a listener is gone before it");
    }
}

fn listening(name: &str) -> impl FnOnce(io::Error) -> AgentError {
    let pod = name.to_owned();
    move |source| AgentError::Listen { pod, source }
}

fn telling(name: &str) -> impl FnOnce(io::Error) -> AgentError {
    let pod = name.to_owned();
    move |source| AgentError::Proxy { pod, source }
}

fn name_of(pod: &ClassifiedPod) -> String {
    format!("pod {}/{}", pod.identity.namespace, pod.identity.name)
}
