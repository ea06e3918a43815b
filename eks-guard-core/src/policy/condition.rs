//! Conditions of rules: what stands beside the structural match, and what its outcome means for a rule of either kind.

mod check;
mod expression;
mod fields;
mod inputs;
mod library;
mod limits;
mod pattern;
mod shape;
mod variables;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::policy::evidence::Evidence;
use crate::policy::look::Wanted;
use crate::policy::matching::Reach;
use crate::policy::notation::Quoted;
use crate::policy::operation::Operation;
use crate::request_info::Verb;

pub use expression::ConditionError;
use expression::Expression;
pub(crate) use fields::Schema;
pub(crate) use limits::MAX_SOURCE;

/// One condition of a rule.
#[derive(Clone, Debug)]
pub(crate) struct Condition {
    /// The name it has in the document.
    pub(crate) name: Box<str>,
    /// What is written there.
    pub(crate) source: Box<str>,
    /// What to look at when the evidence does not answer it.
    pub(crate) wanted: Wanted,
    /// Objects that it reads fields of, although nobody knows which they have.
    pub(crate) unchecked: Box<[&'static str]>,
    pub(crate) predicate: Arc<dyn Predicate>,
}

impl Condition {
    /// Compiles a condition that is written in CEL, on objects that look so.
    ///
    /// # Errors
    /// [`ConditionError`] for text that is not one, and for fields that the objects do not have.
    pub(crate) fn compile(name: &str, source: &str, schema: &Schema) -> Result<Self, ConditionError> {
        let expression = Expression::compile(source, schema)?;
        Ok(Self {
            name: name.into(),
            source: source.into(),
            wanted: expression.wanted(),
            unchecked: expression.unchecked(schema),
            predicate: Arc::new(expression),
        })
    }
}

/// A question about the evidence. Evaluating has neither side effects nor a clock, and an end.
pub(crate) trait Predicate: std::fmt::Debug + Send + Sync {
    /// Whether it holds for a request that counts as `verb`.
    ///
    /// # Errors
    /// [`Fault`] when there is no answer.
    fn holds(&self, evidence: &Evidence<'_>, verb: Verb) -> Result<bool, Fault>;
}

/// Why a condition has no answer. Says nothing of what stands in objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// An object it asks for is not known.
    #[error("the object is not known")]
    ObjectUnknown,
    /// The objects are too large for what it does with them.
    #[error("the object is too large for it")]
    TooCostly,
    /// It asks for a field or an element that is not there.
    #[error("a field or an element that it asks for is not there")]
    Missing,
    /// A value is not of the type that an operator or a function takes.
    #[error("a value is of another type than it takes")]
    Type,
    /// A number is out of range.
    #[error("a number is out of range, or divided by zero")]
    Arithmetic,
    /// A function does not take a value.
    #[error("a function that it calls does not take the value")]
    Rejected,
    /// It comes out as something else than true or false.
    #[error("it is neither true nor false")]
    NotBool,
    /// The evaluator failed.
    #[error("the evaluator failed")]
    Evaluator,
}

/// What the conditions of one rule say together; sorted by how much they speak for a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// The rule does not match.
    Differs,
    /// It depends on objects that can be looked at.
    Open(Wanted),
    /// The rule matches.
    Matches,
}

/// Asks all conditions of a rule that matches structurally; each has to hold.
///
/// A request that may do two things is asked about as either: a rule that restricts matches when one of them is
/// inside. A rule that allows is asked once for each, by the caller.
pub(crate) fn outcome(
    conditions: &[Condition],
    reach: Reach,
    operation: &Operation<'_>,
    evidence: &Evidence<'_>,
) -> Outcome {
    let implied = match reach {
        Reach::Touches => operation.implied,
        Reach::Covers => None,
    };
    let verbs = [Some(operation.verb), implied].into_iter().flatten();
    let outcomes = verbs.map(|verb| outcome_of(conditions, reach, verb, evidence));
    outcomes.max().unwrap_or(Outcome::Matches)
}

/// One that has no answer counts against the request: it holds in a rule that restricts, and not in one that allows.
fn outcome_of(conditions: &[Condition], reach: Reach, verb: Verb, evidence: &Evidence<'_>) -> Outcome {
    let mut open = None;
    for condition in conditions {
        match (condition.predicate.holds(evidence, verb), reach) {
            (Ok(true), _) => {}
            (Ok(false), _) => return Outcome::Differs,
            (Err(Fault::ObjectUnknown), _) if evidence.can_be_looked_at() => {
                open = open.max(Some(condition.wanted));
            }
            (Err(_), Reach::Touches) => {}
            (Err(_), Reach::Covers) => return Outcome::Differs,
        }
    }
    open.map_or(Outcome::Matches, Outcome::Open)
}

/// The conditions of a rule that do not hold or have no answer, in words.
pub(crate) fn shortcomings(conditions: &[Condition], verb: Verb, evidence: &Evidence<'_>) -> Vec<String> {
    let describe = |condition: &Condition| {
        let name = Quoted(&condition.name);
        match condition.predicate.holds(evidence, verb) {
            Ok(true) => None,
            Ok(false) => Some(format!("its condition {name} does not hold")),
            Err(fault) => Some(format!("its condition {name} has no answer: {fault}")),
        }
    };
    conditions.iter().filter_map(describe).collect()
}
