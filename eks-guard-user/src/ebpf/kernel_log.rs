//! Refusals of a run's kernel programs as log lines. A caller in a loop makes many events, but few lines.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use aya::maps::{MapData, RingBuf};
use eks_guard_ebpf::refusal::{Hook, Refusal};
use tokio_util::sync::CancellationToken;

use crate::ebpf::events::{Events, NodeEvent};

/// Lines of one second; the counters go on.
const LINES_PER_SECOND: u32 = 16;

/// What the programs have refused and nobody has read.
pub struct KernelLog {
    ring: RingBuf<MapData>,
}

impl KernelLog {
    pub(crate) fn of(ring: RingBuf<MapData>) -> Self {
        Self { ring }
    }

    /// Writes lines until `stop` is cancelled, then what is left. The caller owns the task.
    ///
    /// # Errors
    /// The ring buffer cannot be watched.
    pub async fn forward(self, stop: CancellationToken) -> io::Result<()> {
        let mut events = Events::of(self.ring)?;
        let mut budget = Budget::default();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                event = events.next() => budget.spend(&event?),
            }
        }
        while let Some(event) = events.waiting() {
            budget.spend(&event);
        }
        Ok(())
    }
}

/// What is left of the present second.
#[derive(Default)]
struct Budget {
    since: Option<Instant>,
    lines: u32,
}

impl Budget {
    fn spend(&mut self, event: &NodeEvent) {
        if self
            .since
            .is_none_or(|since| since.elapsed() >= Duration::from_secs(1))
        {
            *self = Self {
                since: Some(Instant::now()),
                lines: 0,
            };
        }
        self.lines = self.lines.saturating_add(1);
        if self.lines <= LINES_PER_SECOND {
            write(event);
        }
    }
}

fn write(event: &NodeEvent) {
    let line = Line(event);
    if event.refusal.is_failure() {
        tracing::error!(target: "eks_guard::kernel", "{line}");
    } else if event.refusal == Refusal::NotTcp {
        // Every resolver does it: it connects a datagram socket to each address of a name to see which way it goes.
        tracing::info!(target: "eks_guard::kernel", "{line}");
    } else {
        tracing::warn!(target: "eks_guard::kernel", "{line}");
    }
}

/// An event in words. The name of a process is its own choice, and is quoted.
struct Line<'a>(&'a NodeEvent);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let event = self.0;
        let why = why(event.refusal);
        let (to, pid) = (event.destination, event.pid.unwrap_or_default());
        match event.hook {
            Hook::Connect | Hook::Send => {
                write!(f, "refused {to} to process {pid} ({:?}): {why}", event.comm)
            }
            Hook::Create => write!(
                f,
                "refused a socket of protocol {} to process {pid} ({:?}): {why}",
                event.protocol, event.comm
            ),
            Hook::Packet | Hook::Wire => write!(f, "dropped a packet to {}: {why}", to.ip()),
            Hook::Flow => write!(f, "closed a connection of process {pid} to {to}: {why}"),
        }
    }
}

fn why(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Abi => "maps of another version",
        Refusal::Unclassified => "cgroup not on record",
        Refusal::NoListener => "no listener",
        Refusal::UnknownClass => "unknown class",
        Refusal::OtherPort => "not the port of the API server",
        Refusal::NotTcp => "not TCP",
        Refusal::Storage => "no socket storage",
        Refusal::FlowTable => "the flow map is full",
        Refusal::SocketKind => "its destinations would not be seen",
        Refusal::NotRedirected => "it was not redirected",
        Refusal::RoutingHeader => "routing header",
        Refusal::Unreadable => "its port cannot be read",
        Refusal::NotAllowed => "not on the allow list",
        Refusal::Infrastructure => "infrastructure that the allow list does not open",
        Refusal::Martian => "no wire leads there",
        Refusal::UnknownProtocol => "not a protocol of this wire",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(hook: Hook, refusal: Refusal) -> NodeEvent {
        NodeEvent {
            time: 1,
            cgroup: Some(7),
            netns: None,
            pid: Some(9),
            comm: "curl\n".to_owned(),
            ifindex: None,
            destination: "10.0.0.1:443".parse().unwrap(),
            protocol: 17,
            hook,
            refusal,
        }
    }

    #[test]
    fn a_line_says_what_was_refused_to_whom_and_why() {
        for (hook, refusal, expected) in [
            (
                Hook::Connect,
                Refusal::OtherPort,
                r#"refused 10.0.0.1:443 to process 9 ("curl\n"): not the port of the API server"#,
            ),
            (
                Hook::Create,
                Refusal::SocketKind,
                r#"refused a socket of protocol 17 to process 9 ("curl\n"): its destinations would not be seen"#,
            ),
            (
                Hook::Packet,
                Refusal::NotRedirected,
                "dropped a packet to 10.0.0.1: it was not redirected",
            ),
            (
                Hook::Flow,
                Refusal::FlowTable,
                "closed a connection of process 9 to 10.0.0.1:443: the flow map is full",
            ),
        ] {
            assert_eq!(Line(&event(hook, refusal)).to_string(), expected);
        }
    }
}
