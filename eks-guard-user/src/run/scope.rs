//! Landlock scopes: the command connects to abstract sockets, and signals processes, of its own tree only.
//! Abstract sockets have no file that could be covered (X11, session buses, runtimes' shims). Linux 6.12 (Landlock ABI 6);
//! before that, eBPF programs refuse abstract names (`ebpf/abstract_names`).

use std::io;

use landlock::{
    CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreated, RulesetError, RulesetStatus, Scope,
};
use serde::{Deserialize, Serialize};

/// Whether the tree is scoped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scopes {
    /// The kernel can: the command is not started unless it is.
    Required,
    /// The kernel cannot: the operator has been told.
    Unsupported,
}

impl Scopes {
    /// What this kernel can do.
    #[must_use]
    pub fn of_kernel() -> Scopes {
        match asked() {
            Ok(_) => Scopes::Required,
            Err(_) => Scopes::Unsupported,
        }
    }

    /// What stays open where they are missing, in a sentence.
    #[must_use]
    pub fn gap(self) -> Option<&'static str> {
        match self {
            Scopes::Required => None,
            Scopes::Unsupported => Some(
                "this kernel cannot keep the command from signalling programs outside that are in its process group: it is \
                 older than 6.12, or Landlock is off",
            ),
        }
    }

    /// Scopes the calling thread and whatever it becomes and starts, for good.
    ///
    /// # Errors
    /// The kernel could when it was asked, and refuses now.
    pub fn enter(self) -> io::Result<()> {
        match self {
            Scopes::Required => {
                let restricted = asked()
                    .and_then(Ruleset::create)
                    .and_then(RulesetCreated::restrict_self);
                let status = restricted.map_err(io::Error::other)?.ruleset;
                if status == RulesetStatus::FullyEnforced {
                    Ok(())
                } else {
                    Err(io::Error::other("the kernel scopes in part only"))
                }
            }
            Scopes::Unsupported => Ok(()),
        }
    }
}

/// An error says that this kernel does not know the scopes.
fn asked() -> Result<Ruleset, RulesetError> {
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .scope(Scope::AbstractUnixSocket | Scope::Signal)
}
