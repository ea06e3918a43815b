//! The origin of a connection is asked for across the process boundary: one packet there, one back with the flow, and one with
//! the caller once `/proc` has been read. The loader looks flows up in the network namespace of the listener that is named, so
//! nothing that is asked gives a connection a flow that the kernel did not write for that listener.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use eks_guard_core::record::Caller;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use serde::{Deserialize, Serialize};
use tokio::net::UnixDatagram;
use tokio::sync::{Mutex as AsyncMutex, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::ebpf::original_dst::{Downstream, Flow, FlowTable};
use crate::identity::Callers;
use crate::proxy::{Origin, OriginFuture, Origins};

/// Longest packet: a command line and a path, as JSON writes their strangest bytes.
const MAX_PACKET: usize = 64 << 10;
/// How long the loader may take.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Serialize, Deserialize)]
struct Question {
    id: u64,
    listener: u32,
    downstream: Downstream,
}

#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Flow(u64, Option<Flow>),
    Caller(u64, Caller),
}

/// Both ends of the socket: packets, and an end when the other side is gone.
///
/// # Errors
/// No descriptor is free.
pub(super) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        flags,
        None,
    )?)
}

/// A packet socket has no type of its own in the library; that of datagrams makes the same calls.
pub(super) fn watched(socket: OwnedFd) -> io::Result<UnixDatagram> {
    UnixDatagram::from_std(std::os::unix::net::UnixDatagram::from(socket))
}

/// The flows that a proxy may ask for, by listener.
#[derive(Default)]
pub(crate) struct FlowTables {
    by_listener: Mutex<HashMap<u32, Arc<dyn FlowTable>>>,
}

impl FlowTables {
    /// From now on the flows of this listener's network namespace may be asked for.
    pub(crate) fn insert(&self, listener: u32, flows: Arc<dyn FlowTable>) {
        lock(&self.by_listener).insert(listener, flows);
    }

    /// From now on they may not.
    pub(crate) fn remove(&self, listener: u32) {
        lock(&self.by_listener).remove(&listener);
    }

    /// From now on none may.
    pub(crate) fn clear(&self) {
        lock(&self.by_listener).clear();
    }

    fn take(&self, question: &Question) -> Option<Flow> {
        let flows = lock(&self.by_listener).get(&question.listener).map(Arc::clone);
        flows?.take(question.downstream)
    }
}

/// The loader's side: answers until the proxy is gone. A question that cannot be read ends it too: nobody honest sends one.
pub(super) async fn answer(socket: UnixDatagram, flows: &FlowTables) -> io::Result<()> {
    let (socket, callers) = (Arc::new(socket), Callers::default());
    let mut looking = JoinSet::new();
    let mut packet = vec![0; MAX_PACKET];
    loop {
        let length = socket.recv(&mut packet).await?;
        if length == 0 {
            return Ok(());
        }
        let question: Question = serde_json::from_slice(packet.get(..length).unwrap_or_default())?;
        let flow = flows.take(&question);
        send(&socket, &Answer::Flow(question.id, flow)).await?;
        if let Some(flow) = flow {
            let (socket, callers) = (Arc::clone(&socket), callers.clone());
            looking.spawn(async move {
                let caller = callers.caller(flow.pid).await;
                send(&socket, &Answer::Caller(question.id, caller)).await
            });
        }
        while looking.try_join_next().is_some() {}
    }
}

async fn send<T: Serialize>(socket: &UnixDatagram, packet: &T) -> io::Result<()> {
    socket.send(&serde_json::to_vec(packet)?).await.map(drop)
}

/// The proxy's side: asks, and hands the answers to whoever waits for them.
pub(super) struct Asker {
    socket: UnixDatagram,
    /// One at a time waits for room: all who wait would be woken for each packet that left.
    turn: AsyncMutex<()>,
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, Waiting>>,
}

struct Waiting {
    flow: Option<oneshot::Sender<Option<Flow>>>,
    caller: oneshot::Sender<Caller>,
}

impl Asker {
    pub(super) fn on(socket: OwnedFd) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            socket: watched(socket)?,
            turn: AsyncMutex::new(()),
            next: AtomicU64::new(0),
            waiting: Mutex::default(),
        }))
    }

    /// Hears answers until the loader is gone.
    pub(super) async fn hear(&self) -> io::Result<()> {
        let mut packet = vec![0; MAX_PACKET];
        loop {
            let length = self.socket.recv(&mut packet).await?;
            if length == 0 {
                return Ok(());
            }
            self.deliver(serde_json::from_slice(packet.get(..length).unwrap_or_default())?);
        }
    }

    fn deliver(&self, answer: Answer) {
        let mut waiting = lock(&self.waiting);
        // Whoever asked may have given up meanwhile.
        match answer {
            Answer::Flow(id, None) => {
                let asked = waiting.remove(&id).and_then(|asked| asked.flow);
                asked.map(|flow| flow.send(None));
            }
            Answer::Flow(id, flow) => {
                let asked = waiting.get_mut(&id).and_then(|asked| asked.flow.take());
                asked.map(|asked| asked.send(flow));
            }
            Answer::Caller(id, caller) => {
                waiting.remove(&id).map(|asked| asked.caller.send(caller));
            }
        }
    }

    async fn ask(&self, listener: u32, downstream: Downstream) -> Option<Origin> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (flow_tx, flow_rx) = oneshot::channel();
        let (caller_tx, caller_rx) = oneshot::channel();
        let asked = Waiting {
            flow: Some(flow_tx),
            caller: caller_tx,
        };
        lock(&self.waiting).insert(id, asked);
        let question = Question {
            id,
            listener,
            downstream,
        };
        let answered = timeout(PATIENCE, async {
            let turn = self.turn.lock().await;
            send(&self.socket, &question).await.ok()?;
            drop(turn);
            flow_rx.await.ok()?
        });
        let Some(flow) = answered.await.ok().flatten() else {
            lock(&self.waiting).remove(&id);
            return None;
        };
        let caller = async move {
            let unknown = Caller {
                pid: flow.pid,
                ..Caller::default()
            };
            let told = timeout(PATIENCE, caller_rx).await;
            told.ok().and_then(Result::ok).unwrap_or(unknown)
        };
        Some(Origin {
            flow,
            caller: Box::pin(caller),
        })
    }
}

/// The origins of one listener's connections.
pub(super) struct RemoteOrigins {
    asker: Arc<Asker>,
    listener: u32,
}

impl RemoteOrigins {
    pub(super) fn of(asker: Arc<Asker>, listener: u32) -> Arc<Self> {
        Arc::new(Self { asker, listener })
    }
}

impl Origins for RemoteOrigins {
    fn take(&self, downstream: Downstream) -> OriginFuture<'_> {
        Box::pin(self.asker.ask(self.listener, downstream))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ebpf::original_dst::OriginalDstAddr;
    use crate::testing::eventually;

    /// Knows the connections of its own namespace: those from this port on, by their port.
    struct From(u16);

    impl FlowTable for From {
        fn take(&self, downstream: Downstream) -> Option<Flow> {
            let port = downstream.addr.port();
            (port >= self.0).then(|| Flow {
                original_dst: OriginalDstAddr("10.0.0.1:443".parse().unwrap()),
                cgroup: u64::from(port),
                pid: std::process::id(),
            })
        }
    }

    fn from(port: u16) -> Downstream {
        Downstream {
            addr: ([127, 0, 0, 1], port).into(),
            isn: 0,
        }
    }

    struct Both {
        flows: Arc<FlowTables>,
        asker: Arc<Asker>,
        tasks: JoinSet<io::Result<()>>,
    }

    fn both() -> Both {
        let (ours, theirs) = pair().unwrap();
        let (flows, asker) = (Arc::new(FlowTables::default()), Asker::on(theirs).unwrap());
        let mut tasks = JoinSet::new();
        let (socket, answered, heard) = (watched(ours).unwrap(), Arc::clone(&flows), Arc::clone(&asker));
        tasks.spawn(async move { answer(socket, &answered).await });
        tasks.spawn(async move { heard.hear().await });
        Both { flows, asker, tasks }
    }

    #[tokio::test]
    async fn a_flow_is_taken_where_its_listener_is_and_nowhere_else() {
        let both = both();
        both.flows.insert(1, Arc::new(From(100)));
        both.flows.insert(2, Arc::new(From(200)));
        let (first, second) = (
            RemoteOrigins::of(Arc::clone(&both.asker), 1),
            RemoteOrigins::of(Arc::clone(&both.asker), 2),
        );
        let origin = first.take(from(150)).await.unwrap();
        assert_eq!(origin.flow.cgroup, 150);
        let caller = origin.caller.await;
        assert!(
            caller.pid == std::process::id() && caller.executable.starts_with('/'),
            "{caller:?}"
        );
        assert!(second.take(from(150)).await.is_none());
        both.flows.remove(1);
        assert!(first.take(from(150)).await.is_none(), "the listener is closed");
        assert!(lock(&both.asker.waiting).is_empty());
    }

    #[tokio::test]
    async fn many_at_once_get_each_their_own() {
        let both = both();
        both.flows.insert(1, Arc::new(From(0)));
        let mut asking = JoinSet::new();
        for port in 1..=500 {
            let origins = RemoteOrigins::of(Arc::clone(&both.asker), 1);
            asking.spawn(async move {
                (
                    port,
                    origins.take(from(port)).await.map(|origin| origin.flow.cgroup),
                )
            });
        }
        while let Some(asked) = asking.join_next().await {
            let (port, cgroup) = asked.unwrap();
            assert_eq!(cgroup, Some(u64::from(port)));
        }
    }

    #[tokio::test]
    async fn what_is_no_question_ends_it() {
        let mut both = both();
        both.asker.socket.send(b"which cgroup am I to be?").await.unwrap();
        let ended = eventually("the loader stops answering", both.tasks.join_next()).await;
        assert!(ended.unwrap().unwrap().is_err());
    }
}
