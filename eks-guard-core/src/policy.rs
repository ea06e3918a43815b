//! Scope: which requests an agent may make. Default deny; documents are compiled once into an immutable snapshot.
//! Rules that restrict match whatever a request could touch, rules that allow only what they cover completely
//! (docs/policy.md).

mod boxes;
mod compile;
mod condition;
mod decide;
mod diff;
mod document;
mod evidence;
mod explain;
mod facts;
mod judge;
mod known;
mod look;
mod matching;
mod message;
mod notation;
mod observe;
mod operation;
mod permit;
mod protection;
mod review;
mod selector;
mod sieve;
mod subjects;
mod suggest;

#[cfg(test)]
mod tests;

pub use compile::{CompileError, MAX_RULES, Snapshot};
pub use condition::ConditionError;
pub use decide::Decision;
pub use diff::{Diff, DiffError, Difference, Level, diff};
pub use document::{
    AgentPolicy, Effect, InvalidPolicy, KIND, custom_resource_definition, read_policies,
    read_policies_or_refuse,
};
pub use explain::{Answer, Explanation, Finding, RuleExplanation};
pub use facts::{Fact, Facts};
pub use known::{KnownResource, Scope};
pub use look::{Look, Wanted};
pub use observe::Observation;
pub use operation::{PATH_VERBS, RESOURCE_VERBS};
pub use permit::Permit;
pub use review::{Asker, Review, ReviewError};
pub use selector::Namespaces;
pub use suggest::{Call, ObjectNames, SuggestError, Suggestion, suggest};

pub use crate::yaml::{API_VERSION, DocumentError, Origin};
