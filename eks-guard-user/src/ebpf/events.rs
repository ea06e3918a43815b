//! What the programs tell of refusals as they happen. Whatever is lost here is counted in the statistics all the same.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use aya::maps::{MapData, RingBuf};
use eks_guard_ebpf::refusal::{Hook, Refusal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Bytes of one event in the ring buffer.
const EVENT_BYTES: usize = size_of::<eks_guard_ebpf::Event>();

/// Something was refused. What the hook cannot know is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeEvent {
    /// Nanoseconds since boot, without suspend.
    pub time: u64,
    /// Cgroup of the caller, or of the packet's socket.
    pub cgroup: Option<u64>,
    /// Network namespace cookie of the socket.
    pub netns: Option<u64>,
    /// Process that asked, in the initial PID namespace.
    pub pid: Option<u32>,
    /// Name of the thread that asked; its bytes are its own choice.
    pub comm: String,
    /// Interface a frame came in through.
    pub ifindex: Option<u32>,
    /// Where it was to go; IPv4 as such. Port 0 where there is none.
    pub destination: SocketAddr,
    /// IP protocol; 0 where it is not known.
    pub protocol: u16,
    /// Where it was refused.
    pub hook: Hook,
    /// Why.
    pub refusal: Refusal,
}

/// Reads the events, one after the other. There is one reader: the ring buffer gives each event once.
pub struct Events {
    ring: AsyncFd<RingBuf<MapData>>,
}

impl Events {
    /// Watches the ring buffer; call it on a runtime.
    #[expect(
        unsafe_code,
        reason = "tokio asks for a word that the descriptor stays the same"
    )]
    pub(crate) fn of(ring: RingBuf<MapData>) -> io::Result<Self> {
        // SAFETY: the ring buffer owns its descriptor, never replaces it, and is owned by the `AsyncFd`.
        let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }?;
        Ok(Self { ring })
    }

    /// The next event. Records that are not events of this ABI are passed over. Safe to cancel: nothing is taken then.
    ///
    /// # Errors
    /// The ring buffer cannot be watched.
    pub async fn next(&mut self) -> io::Result<NodeEvent> {
        loop {
            let mut ready = self.ring.readable_mut().await?;
            while let Some(record) = ready.get_inner_mut().next() {
                if let Some(event) = parse(&record) {
                    return Ok(event);
                }
            }
            ready.clear_ready();
        }
    }

    /// The next event, if there is one already.
    pub(crate) fn waiting(&mut self) -> Option<NodeEvent> {
        while let Some(record) = self.ring.get_mut().next() {
            if let Some(event) = parse(&record) {
                return Some(event);
            }
        }
        None
    }
}

fn parse(record: &[u8]) -> Option<NodeEvent> {
    let record: &[u8; EVENT_BYTES] = record.get(..EVENT_BYTES)?.try_into().ok()?;
    let mut at = Cursor(record);
    let time = u64::from_ne_bytes(at.take()?);
    let cgroup = u64::from_ne_bytes(at.take()?);
    let netns = u64::from_ne_bytes(at.take()?);
    let comm: [u8; 16] = at.take()?;
    let addr: [u8; 16] = at.take()?;
    let pid = u32::from_ne_bytes(at.take()?);
    let ifindex = u32::from_ne_bytes(at.take()?);
    let port = u16::from_ne_bytes(at.take()?);
    let protocol = u16::from_ne_bytes(at.take()?);
    let hook = Hook::from_number(u16::from_ne_bytes(at.take()?))?;
    let refusal = Refusal::from_number(u16::from_ne_bytes(at.take()?))?;
    let addr = IpAddr::V6(Ipv6Addr::from(addr)).to_canonical();
    let name = comm.split(|byte| *byte == 0).next().unwrap_or_default();
    Some(NodeEvent {
        time,
        cgroup: (cgroup != 0).then_some(cgroup),
        netns: (netns != 0).then_some(netns),
        pid: (pid != 0).then_some(pid),
        comm: String::from_utf8_lossy(name).into_owned(),
        ifindex: (ifindex != 0).then_some(ifindex),
        destination: SocketAddr::new(addr, port),
        protocol,
        hook,
        refusal,
    })
}

struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(hook: u16) -> Vec<u8> {
        let mut bytes = Vec::new();
        for word in [5_u64, 77, 0] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(*b"curl\0left-over\0\0");
        bytes.extend(
            "10.0.0.1"
                .parse::<std::net::Ipv4Addr>()
                .unwrap()
                .to_ipv6_mapped()
                .octets(),
        );
        bytes.extend(9_u32.to_ne_bytes());
        bytes.extend(0_u32.to_ne_bytes());
        for half in [443, 6, hook, Refusal::NotAllowed as u16] {
            bytes.extend(half.to_ne_bytes());
        }
        bytes
    }

    #[test]
    fn reads_what_the_programs_write() {
        let event = parse(&record(Hook::Connect as u16)).unwrap();
        assert_eq!(
            event,
            NodeEvent {
                time: 5,
                cgroup: Some(77),
                netns: None,
                pid: Some(9),
                comm: "curl".to_owned(),
                ifindex: None,
                destination: "10.0.0.1:443".parse().unwrap(),
                protocol: 6,
                hook: Hook::Connect,
                refusal: Refusal::NotAllowed,
            }
        );
    }

    #[test]
    fn what_is_no_event_is_passed_over() {
        assert_eq!(parse(&record(99)), None);
        assert_eq!(parse(&record(0)[..EVENT_BYTES - 1]), None);
    }
}
