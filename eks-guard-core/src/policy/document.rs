//! The `AgentPolicy` document (`eks-guard.dev/v1alpha1`): what it says once it has been read and checked.

use std::fmt;

use crate::policy::operation::VerbSet;
use crate::yaml::Origin;

mod check;
mod read;
mod resources;
mod wire;

pub use read::read_policies;

/// The kind of the documents this program reads.
pub const KIND: &str = "AgentPolicy";

/// One policy: which agents it selects, and its rules. Made by [`read_policies`] only, so it is always valid.
#[derive(Clone, Debug)]
pub struct AgentPolicy {
    pub(crate) name: String,
    pub(crate) agents: Names,
    pub(crate) rules: Vec<Rule>,
    pub(crate) origin: Origin,
}

impl AgentPolicy {
    /// `metadata.name`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many rules it has.
    #[must_use]
    pub fn rule_count(&self) -> usize {
        self.rules.len()
    }
}

/// What a rule does with the requests it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// Refuse.
    Deny,
    /// A person has to approve first.
    RequireApproval,
    /// Allow, with values in the reply masked.
    Mask,
    /// Allow.
    Allow,
}

impl Effect {
    /// Every effect, strongest first.
    pub(crate) const ALL: [Self; 4] = [Self::Deny, Self::RequireApproval, Self::Mask, Self::Allow];

    /// The text that documents use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::RequireApproval => "requireApproval",
            Self::Mask => "mask",
            Self::Allow => "allow",
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A rule, checked.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) name: String,
    pub(crate) effect: Effect,
    pub(crate) verbs: VerbSet,
    pub(crate) scope: RuleScope,
    pub(crate) origin: Origin,
}

/// What a rule is about.
#[derive(Clone, Debug)]
pub(crate) enum RuleScope {
    /// Objects of the API.
    Resources(ResourceScope),
    /// Plain paths.
    Paths(Box<[PathPattern]>),
}

/// The objects a rule is about.
#[derive(Clone, Debug)]
pub(crate) struct ResourceScope {
    pub(crate) groups: Names,
    pub(crate) resources: Box<[ResourcePattern]>,
    pub(crate) namespaces: Names,
    pub(crate) resource_names: Names,
}

/// A set of names: a list, or all there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    /// Every name, also those not known yet.
    Any,
    /// These names, sorted.
    Only(Box<[Box<str>]>),
}

impl Names {
    pub(crate) fn only<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut names: Vec<Box<str>> = names.into_iter().map(Box::from).collect();
        names.sort_unstable();
        Self::Only(names.into_boxed_slice())
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Only(names) => names
                .binary_search_by(|candidate| (**candidate).cmp(name))
                .is_ok(),
        }
    }
}

/// `pods`, `pods/log`, `pods/*`, `*/scale`, `*` or `*/*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResourcePattern {
    /// The resource; `None` for any.
    pub(crate) resource: Option<Box<str>>,
    /// The subresource.
    pub(crate) part: Part,
}

/// The half of a resource pattern behind the slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// No slash: the object itself.
    Object,
    /// This subresource.
    Named(Box<str>),
    /// Any subresource.
    Every,
}

/// `/metrics` or `/logs/*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PathPattern {
    /// This path.
    Exact(Box<str>),
    /// Every path that begins so.
    Prefix(Box<str>),
}
