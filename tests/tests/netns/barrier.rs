//! What closes the node's end of an agent's wire on this kernel: the program on the interface, or on kernels without tcx the
//! table of the packet filter, as the daemon chooses.

use std::time::Instant;

use eks_guard::ebpf::Refusal;
use eks_guard::node::filter::{Filter, Raw};

use crate::filter::{TABLE, wanted};
use crate::node_world::{Layer, Node};
use crate::wire::wire_count;
use crate::witness::{Witness, api};
use crate::world::PATIENCE;

/// A closed wire.
pub(crate) enum Barrier {
    /// It knows the agent's allow list, and counts by reason.
    Program,
    /// It knows the classes only, and counts packets. Gone with the network of the node.
    Table(Box<Filter>),
}

impl Barrier {
    /// Closes the node's end of the wire to what the agent must not reach.
    pub(crate) fn close(node: &Node) -> Self {
        if node.guard_wire() == Layer::Present {
            return Self::Program;
        }
        let wanted = wanted(node.ifindex());
        let filter = node.far.run(|| {
            let mut filter = Filter::open(TABLE, Raw::Judged).unwrap();
            filter.close(&wanted).unwrap();
            filter
        });
        Self::Table(Box::new(filter))
    }

    /// So many packets have been stopped for these reasons, and nothing has arrived at a socket of the far end. One that has
    /// been sent is not always looked at yet. The table does not tell reasons apart.
    pub(crate) fn assert_stopped(&mut self, node: &Node, expected: &[(Refusal, u64)]) {
        let wanted: u64 = expected.iter().map(|(_, count)| count).sum();
        let deadline = Instant::now() + PATIENCE;
        while self.stopped(node, expected) < wanted {
            assert!(Instant::now() < deadline, "{expected:?} is not counted");
            std::thread::yield_now();
        }
        match self {
            Self::Program => {
                let counted = expected
                    .iter()
                    .map(|(reason, _)| (*reason, wire_count(node, *reason)));
                assert_eq!(counted.collect::<Vec<_>>(), expected);
            }
            Self::Table(_) => assert_eq!(self.stopped(node, expected), wanted, "{expected:?}"),
        }
        node.far.assert_untouched("what is closed");
    }

    /// No packet to the API server has come through, nor will any of those that were sent.
    pub(crate) fn assert_api_untouched(&mut self, node: &Node, witness: &Witness, what: &str) {
        match self {
            Self::Program => witness.assert_api_untouched(what),
            // The witness stands before the table, which must have dropped what was seen.
            Self::Table(_) => {
                let all = witness.all();
                let is_seen = api().iter().any(|api| all.contains(api));
                let deadline = Instant::now() + PATIENCE;
                while is_seen && self.stopped(node, &[]) == 0 {
                    assert!(Instant::now() < deadline, "{what}: nothing is dropped");
                    std::thread::yield_now();
                }
            }
        }
    }

    /// Whether it is the program.
    pub(crate) fn is_program(&self) -> bool {
        matches!(self, Self::Program)
    }

    fn stopped(&mut self, node: &Node, reasons: &[(Refusal, u64)]) -> u64 {
        match self {
            Self::Program => reasons.iter().map(|(reason, _)| wire_count(node, *reason)).sum(),
            Self::Table(filter) => {
                assert_eq!(filter.fault().unwrap(), None);
                filter.dropped()
            }
        }
    }
}
