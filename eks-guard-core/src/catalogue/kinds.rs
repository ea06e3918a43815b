//! What a row of the catalogue says.

use serde::{Deserialize, Serialize};

use crate::catalogue::pod;

/// One route around the boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Stable name: a family letter and a number.
    pub id: &'static str,
    /// The route.
    pub route: &'static str,
    /// What closes it in the boundary of `eks-guard run`.
    pub control: &'static str,
    /// How that is checked there.
    pub check: Check,
}

/// What closes a route in one boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closing {
    /// In words.
    pub control: &'static str,
    /// How that is checked.
    pub check: Check,
}

/// Whose boundary is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Boundary {
    /// That of `eks-guard run`.
    Run,
    /// That of an agent's pod on a guarded node, in a network of its own.
    Pod,
    /// The same for a pod in the node's network, which has no cable that could be guarded.
    HostNetworkPod,
}

impl Closing {
    pub(crate) const fn new(control: &'static str, check: Check) -> Closing {
        Closing { control, check }
    }
}

/// How it is checked that a route is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// A process inside the boundary tries it.
    Probe,
    /// No process can try it, or this boundary has no layer for it: what to look at, or to set up, instead.
    Configuration(&'static str),
    /// A test of the project closes it: `suite test_name`.
    Elsewhere(&'static str),
}

impl Row {
    /// What closes the route in this boundary. A row that says nothing about it is one that could not be tried.
    #[must_use]
    pub fn closing(&self, boundary: Boundary) -> Closing {
        let closing = match boundary {
            Boundary::Run => Some(Closing::new(self.control, self.check)),
            Boundary::Pod => pod::closing(self.id),
            Boundary::HostNetworkPod => pod::closing_in_the_nodes_network(self.id),
        };
        closing.unwrap_or(Closing::new("nothing", Check::Probe))
    }

    /// A row that a process tries.
    pub(crate) const fn probe(id: &'static str, route: &'static str, control: &'static str) -> Row {
        Row {
            id,
            route,
            control,
            check: Check::Probe,
        }
    }

    /// A row that no process tries here.
    pub(crate) const fn configuration(
        id: &'static str,
        route: &'static str,
        control: &'static str,
        look_at: &'static str,
    ) -> Row {
        Row {
            id,
            route,
            control,
            check: Check::Configuration(look_at),
        }
    }

    /// A row that a test of the project tries.
    pub(crate) const fn elsewhere(
        id: &'static str,
        route: &'static str,
        control: &'static str,
        test: &'static str,
    ) -> Row {
        Row {
            id,
            route,
            control,
            check: Check::Elsewhere(test),
        }
    }
}
