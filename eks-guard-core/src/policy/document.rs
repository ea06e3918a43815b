//! The `AgentPolicy` document (`eks-guard.dev/v1alpha1`): what it says once it has been read and checked.

use std::fmt;

use crate::policy::condition::Condition;
use crate::policy::operation::VerbSet;
use crate::policy::selector::LabelSelector;
use crate::policy::subjects::Subjects;
use crate::yaml::{DocumentError, Origin};

mod check;
mod objects;
mod read;
mod resources;
mod rule;
mod schema;
mod selectors;
mod subjects;
mod wire;

pub use read::{read_policies, read_policies_or_refuse};
pub use schema::custom_resource_definition;

/// The kind of the documents this program reads.
pub const KIND: &str = "AgentPolicy";

/// One policy: which agents it selects, and its rules. Made by [`read_policies`] only, so it is always valid.
#[derive(Clone, Debug)]
pub struct AgentPolicy {
    pub(crate) name: String,
    pub(crate) subjects: Subjects,
    pub(crate) mode: Mode,
    pub(crate) just_in_time: JustInTime,
    pub(crate) rules: Vec<Rule>,
    pub(crate) origin: Origin,
}

/// A policy that cannot be used: whom it is about is refused everything until it is mended.
#[derive(Clone, Debug)]
pub struct InvalidPolicy {
    /// Its name, or that of its file.
    pub(crate) name: String,
    /// Whom it is about; everybody when that cannot be read either.
    pub(crate) subjects: Subjects,
    /// What is wrong.
    pub(crate) errors: Vec<DocumentError>,
}

impl InvalidPolicy {
    /// What is wrong with it, one mistake each.
    #[must_use]
    pub fn errors(&self) -> &[DocumentError] {
        &self.errors
    }
}

/// Whether a policy decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It does.
    #[default]
    Enforce,
    /// It only says what it would have done.
    Observe,
}

/// Whether what a policy allows needs a grant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum JustInTime {
    /// It is allowed at any time.
    #[default]
    Never,
    /// It is allowed inside an active grant only.
    Required,
}

/// Whether a rule that allows lets replies of masked kinds through as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Masking {
    /// What is to be masked is masked.
    #[default]
    Kept,
    /// `masking: None`: in clear.
    None,
}

impl AgentPolicy {
    /// `metadata.name`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What an operator should know before using it, although it is valid.
    #[must_use]
    pub fn warnings(&self) -> Vec<DocumentError> {
        let mut warnings = Vec::new();
        let mut warn = |origin: &Origin, message: String| {
            let origin = origin.clone();
            warnings.push(DocumentError { origin, message });
        };
        for rule in self.rules.iter().filter(|rule| rule.masking == Masking::None) {
            let text = "`masking: None` lets values of Secrets and of other masked kinds through in clear";
            warn(&rule.origin, format!("rule {:?}: {text}", rule.name));
        }
        for rule in &self.rules {
            for condition in rule.conditions.iter().filter(|it| !it.unchecked.is_empty()) {
                let objects = condition.unchecked.join(" and ");
                let text = format!(
                    "nobody has checked the fields of {objects}: the rule is about kinds that are not Kubernetes' own; \
                     try it with `eks-guard policy test`"
                );
                let (rule_name, name) = (&rule.name, &condition.name);
                warn(
                    &rule.origin,
                    format!("rule {rule_name:?}, condition {name:?}: {text}"),
                );
            }
        }
        if self.subjects.need_identity() {
            let text = "containers, groups and claims are not proven by this version: the rules of this policy that restrict \
                        apply to every agent that its other subjects select, those that allow to none";
            warn(&self.origin, text.to_owned());
        }
        if self.just_in_time == JustInTime::Required {
            let text =
                "`justInTime: Required`: this version gives no grants, so what this policy allows is refused";
            warn(&self.origin, text.to_owned());
        }
        warnings
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
    pub(crate) masking: Masking,
    /// All of them have to hold.
    pub(crate) conditions: Box<[Condition]>,
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
    pub(crate) namespaces: NamespaceScope,
    pub(crate) resource_names: Names,
}

/// Namespaces, by name or by their labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NamespaceScope {
    /// These; with [`Names::Any`] objects in no namespace too.
    Named(Names),
    /// Those with these labels.
    Selected(LabelSelector),
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
