//! What the programs have counted: by hook and reason, and in sum.

use std::borrow::Borrow;

use aya::maps::{MapData, MapError, PerCpuArray};
use eks_guard_ebpf::refusal::{Hook, Refusal};
use eks_guard_ebpf::stat;

/// What the programs have counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// connect() calls redirected.
    pub redirected: u64,
    /// Flow entries written.
    pub flows: u64,
    /// Events that nobody will read; what they told of is counted all the same.
    pub events_lost: u64,
    /// What was refused, where and why; what never happened is not in it.
    pub refusals: Vec<(Hook, Refusal, u64)>,
}

impl Stats {
    /// Reads all counters of the `stats` map.
    pub(crate) fn of<T: Borrow<MapData>>(counters: &PerCpuArray<T, u64>) -> Result<Self, MapError> {
        Self::read(|index| counters.get(&index, 0).map(|slots| slots.iter().sum()))
    }

    /// Reads all counters.
    pub(crate) fn read<E>(counter: impl Fn(u32) -> Result<u64, E>) -> Result<Self, E> {
        let mut refusals = Vec::new();
        for hook in Hook::ALL {
            for refusal in Refusal::ALL {
                let count = counter(stat::refused(hook, refusal))?;
                if count > 0 {
                    refusals.push((hook, refusal, count));
                }
            }
        }
        Ok(Self {
            redirected: counter(stat::REDIRECTED)?,
            flows: counter(stat::FLOWS)?,
            events_lost: counter(stat::EVENTS_LOST)?,
            refusals,
        })
    }

    /// Destinations, sockets and packets refused.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.sum(|hook, _| hook != Hook::Flow)
    }

    /// Of those and of flows: because the guard failed.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.sum(|_, refusal| refusal.is_failure())
    }

    /// What one hook refused for one reason.
    #[must_use]
    pub fn refused_by(&self, hook: Hook, refusal: Refusal) -> u64 {
        self.sum(|found, reason| (found, reason) == (hook, refusal))
    }

    fn sum(&self, counts: impl Fn(Hook, Refusal) -> bool) -> u64 {
        let counted = self
            .refusals
            .iter()
            .filter(|(hook, refusal, _)| counts(*hook, *refusal));
        counted.map(|(_, _, count)| count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_by_hook_and_reason() {
        let counts = [
            (stat::REDIRECTED, 7),
            (stat::FLOWS, 6),
            (stat::refused(Hook::Connect, Refusal::OtherPort), 3),
            (stat::refused(Hook::Packet, Refusal::Unclassified), 2),
            (stat::refused(Hook::Flow, Refusal::FlowTable), 1),
        ];
        let read = |index| {
            let found = counts.iter().find(|(counter, _)| *counter == index);
            Ok::<_, ()>(found.map_or(0, |(_, count)| *count))
        };
        let stats = Stats::read(read).unwrap();
        assert_eq!((stats.redirected, stats.flows), (7, 6));
        assert_eq!((stats.refused(), stats.failed()), (5, 3));
        assert_eq!(stats.refused_by(Hook::Packet, Refusal::Unclassified), 2);
        assert_eq!(stats.refused_by(Hook::Packet, Refusal::NotRedirected), 0);
        assert_eq!(stats.refusals.len(), 3);
    }
}
