//! The node's ends of agents' cables: which they are, and that they are closed.

use std::collections::BTreeMap;

use crate::node::cables::Cables;
use crate::node::controller::Controller;
use crate::node::kernel::{Interfaces, Others, Standing};
use crate::node::status::PodStatus;
use crate::telemetry::chain;

impl Controller {
    /// Closes the node's ends of agents' cables, after the kernel knows whose they are. The rows get what is closed.
    pub(super) fn wire_agents(&mut self, mut rows: Vec<PodStatus>) -> Vec<PodStatus> {
        if std::mem::take(&mut self.look_at_wires) {
            self.wire_problems.clear();
            match Cables::list() {
                Ok(cables) => {
                    let cables = self.agents_cables(cables);
                    self.change_wires(&cables);
                }
                Err(error) => self
                    .wire_problems
                    .push(format!("looking for the interfaces of agents: {}", chain(&error))),
            }
        }
        for row in &mut rows {
            let own = self.wires.iter().filter(|(_, cgroup)| **cgroup == row.cgroup);
            row.interfaces = own.map(|(interface, _)| *interface).collect();
        }
        rows
    }

    /// The node's ends of agents' cables, each with the cgroup of its agent. Agents in the node's own network have none. What
    /// was an agent's cable stays its as long as both are there: a socket sends where it was made, and no process of the pod
    /// has to be there any more.
    pub(super) fn agents_cables(&mut self, mut cables: Cables) -> BTreeMap<u32, u64> {
        let mut own = self.wires.clone();
        own.retain(|interface, cgroup| cables.has(*interface) && self.residents.contains_key(cgroup));
        for (cgroup, resident) in &self.residents {
            match cables.of_pod(&resident.path) {
                Ok(found) => own.extend(found.into_iter().map(|interface| (interface, *cgroup))),
                // The pod has ended meanwhile.
                Err(_) if !resident.path.exists() => {}
                Err(error) => self.wire_problems.push(format!(
                    "looking for the interfaces of pod {}/{}: {}",
                    resident.identity.namespace,
                    resident.identity.name,
                    chain(&error)
                )),
            }
        }
        own
    }

    pub(super) fn change_wires(&mut self, cables: &BTreeMap<u32, u64>) {
        let kernel = &mut self.parts.kernel;
        // The cable of an agent without listener is not known to be one.
        let others = if self.waits { Others::Stay } else { Others::Open };
        let opens = |cgroup: &u64| match self.standings.get(cgroup) {
            Some(Standing::Agent { allow, .. }) => allow.iter().any(|allow| allow.opens.is_some()),
            Some(Standing::System | Standing::Ordinary) | None => false,
        };
        let (opened, closed) = cables
            .iter()
            .partition::<BTreeMap<_, _>, _>(|(_, cgroup)| opens(cgroup));
        let interfaces = Interfaces {
            closed: closed.into_keys().collect(),
            opened: opened.into_keys().collect(),
        };
        if let Err(error) = kernel.guard_forwarding(&interfaces, others) {
            self.wire_problems.push(chain(&error));
        }
        for (&interface, &cgroup) in cables {
            if self.wires.get(&interface) == Some(&cgroup) {
                continue;
            }
            match kernel.guard_interface(interface, cgroup) {
                Ok(()) => _ = self.wires.insert(interface, cgroup),
                Err(error) => self.wire_problems.push(chain(&error)),
            }
        }
        if others == Others::Stay {
            return;
        }
        let gone: Vec<u32> = self
            .wires
            .keys()
            .filter(|wire| !cables.contains_key(wire))
            .copied()
            .collect();
        for interface in gone {
            match kernel.unguard_interface(interface) {
                Ok(()) => _ = self.wires.remove(&interface),
                Err(error) => self.wire_problems.push(chain(&error)),
            }
        }
    }
}
