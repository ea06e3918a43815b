//! What the kernel programs refused, by pod: all of it counted, and told of in a number that a flood does not raise. Pure: the
//! time is an argument.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::ebpf::{Hook, Refusal, Stats};

/// In so much time, so many events of one pod are told; the rest is counted, and told as a number.
const WINDOW: Duration = Duration::from_secs(10);
const TOLD: u32 = 8;
/// Pods that are counted apart.
const PODS: usize = 8192;

/// What one event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Somebody asked for what they may not have.
    Refused,
    /// A frame for what is closed to its agent. Who uses sockets of the pod is refused before there is a frame, so this is
    /// none of them: a packet socket, or a socket that came from elsewhere.
    BypassAttempted,
}

impl Kind {
    /// What a refusal is.
    #[must_use]
    pub fn of(hook: Hook, refusal: Refusal) -> Self {
        match (hook, refusal) {
            (
                Hook::Wire,
                Refusal::NotRedirected | Refusal::Infrastructure | Refusal::RoutingHeader | Refusal::Martian,
            ) => Self::BypassAttempted,
            _ => Self::Refused,
        }
    }

    /// The reason, as records have it.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Refused => "KernelRefused",
            Self::BypassAttempted => "BypassAttempted",
        }
    }
}

/// Attempts to get past the guard, as the programs have counted them: all, whoever read the events.
#[must_use]
pub fn bypass_attempts(stats: &Stats) -> u64 {
    let attempts = stats.refusals.iter();
    let attempts = attempts.filter(|(hook, refusal, _)| Kind::of(*hook, *refusal) == Kind::BypassAttempted);
    attempts.map(|(_, _, count)| count).sum()
}

/// What is to be done with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It is told.
    Apart,
    /// It is told later, with others, as a number.
    AsNumber,
}

/// Events that were not told one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Cgroup of the pod; none: of no known agent.
    pub pod: Option<u64>,
    /// What they were.
    pub kind: Kind,
    /// How many.
    pub count: u64,
}

/// What was counted of one pod, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All refusals.
    pub refused: u64,
    /// Of those, attempts to get past the guard.
    pub bypass_attempts: u64,
}

/// The counts of all pods.
#[derive(Debug, Default)]
pub struct Tally {
    counts: BTreeMap<Option<u64>, Counts>,
    windows: BTreeMap<(Option<u64>, Kind), Window>,
}

#[derive(Debug)]
struct Window {
    since: Instant,
    told: u32,
    left_out: u64,
}

impl Tally {
    /// Counts an event of a pod, by the pod's cgroup.
    pub fn take(&mut self, pod: Option<u64>, kind: Kind, now: Instant) -> Told {
        // Whoever makes pods without end is one pod at last.
        let pod = pod.filter(|_| self.counts.len() < PODS || self.counts.contains_key(&pod));
        let counts = self.counts.entry(pod).or_default();
        counts.refused += 1;
        counts.bypass_attempts += u64::from(kind == Kind::BypassAttempted);
        let window = self.windows.entry((pod, kind)).or_insert(Window {
            since: now,
            told: 0,
            left_out: 0,
        });
        if window.told < TOLD {
            window.told += 1;
            return Told::Apart;
        }
        window.left_out += 1;
        Told::AsNumber
    }

    /// What was left out of windows that are over.
    pub fn left_out(&mut self, now: Instant) -> Vec<LeftOut> {
        let is_over = |window: &Window| now.saturating_duration_since(window.since) >= WINDOW;
        let over = self.windows.iter().filter(|(_, window)| is_over(window));
        let left_out = over.filter(|(_, window)| window.left_out > 0);
        let left_out = left_out.map(|((pod, kind), window)| LeftOut {
            pod: *pod,
            kind: *kind,
            count: window.left_out,
        });
        let left_out = left_out.collect();
        self.windows.retain(|_, window| !is_over(window));
        left_out
    }

    /// What was counted of a pod since the start.
    #[must_use]
    pub fn of(&self, pod: u64) -> Counts {
        self.counts.get(&Some(pod)).copied().unwrap_or_default()
    }

    /// Forgets pods that are gone.
    pub fn keep_only(&mut self, keep: impl Fn(u64) -> bool) {
        self.counts.retain(|pod, _| pod.is_none_or(&keep));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_for_the_api_server_is_an_attempt_to_get_past_the_guard() {
        let kind = Kind::of;
        assert_eq!(kind(Hook::Wire, Refusal::NotRedirected), Kind::BypassAttempted);
        assert_eq!(kind(Hook::Wire, Refusal::Infrastructure), Kind::BypassAttempted);
        // What a kernel says by itself may be on no list.
        assert_eq!(kind(Hook::Wire, Refusal::NotAllowed), Kind::Refused);
        assert_eq!(kind(Hook::Connect, Refusal::Infrastructure), Kind::Refused);
        assert_eq!(kind(Hook::Packet, Refusal::NotRedirected), Kind::Refused);
        let stats = Stats {
            refusals: vec![
                (Hook::Wire, Refusal::NotRedirected, 3),
                (Hook::Wire, Refusal::NotAllowed, 4),
                (Hook::Packet, Refusal::NotRedirected, 5),
                (Hook::Wire, Refusal::Martian, 6),
            ],
            ..Stats::default()
        };
        assert_eq!(bypass_attempts(&stats), 9);
    }

    #[test]
    fn what_is_left_out_is_counted_exactly() {
        let (mut tally, start) = (Tally::default(), Instant::now());
        let mut told = 0_u64;
        for _ in 0..1000 {
            told += u64::from(tally.take(Some(7), Kind::Refused, start) == Told::Apart);
        }
        // A flood of one kind hides nothing of another, nor of another pod.
        assert_eq!(tally.take(Some(7), Kind::BypassAttempted, start), Told::Apart);
        assert_eq!(tally.take(Some(8), Kind::Refused, start), Told::Apart);
        assert_eq!(tally.left_out(start), []);
        let left_out = LeftOut {
            pod: Some(7),
            kind: Kind::Refused,
            count: 1000 - told,
        };
        assert_eq!(told, u64::from(TOLD));
        assert_eq!(tally.left_out(start + WINDOW), [left_out]);
        assert_eq!(tally.left_out(start + WINDOW * 2), []);
        assert_eq!(tally.take(Some(7), Kind::Refused, start + WINDOW), Told::Apart);
        let counts = tally.of(7);
        assert_eq!((counts.refused, counts.bypass_attempts), (1002, 1));
    }

    #[test]
    fn pods_that_are_gone_are_forgotten() {
        let (mut tally, now) = (Tally::default(), Instant::now());
        for pod in [Some(7), Some(8), None] {
            tally.take(pod, Kind::BypassAttempted, now);
        }
        tally.keep_only(|pod| pod == 8);
        assert_eq!((tally.of(7), tally.of(8).bypass_attempts), (Counts::default(), 1));
        assert_eq!(tally.counts.len(), 2);
    }
}
