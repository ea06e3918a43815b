//! What a row of the catalogue says.

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
