//! Documents to one immutable snapshot: rules in the order in which they decide, found by resource.

use std::collections::HashMap;
use std::sync::Arc;

use crate::policy::condition::Condition;
use crate::policy::document::{
    AgentPolicy, Effect, InvalidPolicy, JustInTime, Masking, Mode, Names, RuleScope,
};
use crate::policy::matching::{Clause, Reach};
use crate::policy::operation::{Operation, Target};
use crate::policy::protection::allowed_to_everyone;
use crate::policy::selector::{Known, Namespaces};
use crate::policy::sieve::Sieve;
use crate::policy::subjects::Subjects;
use crate::principal::Principal;
use crate::yaml::{DocumentError, Origin};

/// Rules of all policies together: more would no longer be decided on in microseconds.
pub const MAX_RULES: usize = 10_000;

/// Policies that do not go together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// Two documents with one name: which of them is meant cannot be known.
    #[error(
        "{second}: policy \"{name}\" is already defined at {first}; give each policy its own metadata.name"
    )]
    DuplicatePolicy {
        /// `metadata.name` of both.
        name: String,
        /// Where the first stands.
        first: Origin,
        /// Where the second stands.
        second: Origin,
    },
    /// More than [`MAX_RULES`].
    #[error("the policies have {count} rules together, more than {MAX_RULES}; remove some")]
    TooManyRules {
        /// How many there are.
        count: usize,
    },
}

/// All policies, compiled. Immutable: a change of policy is another snapshot.
#[derive(Debug)]
pub struct Snapshot {
    generation: u64,
    policies: Box<[PolicyEntry]>,
    invalid: Box<[InvalidPolicy]>,
    namespaces: Arc<Namespaces>,
    /// Sorted: strongest effect first.
    rules: Box<[RuleEntry]>,
    /// Where the allow rules begin.
    first_allow: usize,
    index: Index,
    /// Of each rule, in the same order.
    sieves: Box<[Sieve]>,
}

/// A policy, as far as deciding needs it.
#[derive(Debug)]
pub(crate) struct PolicyEntry {
    pub(crate) name: String,
    pub(crate) mode: Mode,
    subjects: Subjects,
}

/// A rule, as far as deciding needs it.
#[derive(Debug)]
pub(crate) struct RuleEntry {
    /// `policy/rule`, or `builtin:…`.
    pub(crate) label: Arc<str>,
    pub(crate) effect: Effect,
    pub(crate) clause: Clause,
    pub(crate) masking: Masking,
    /// Whether its policy decides or only observes.
    pub(crate) mode: Mode,
    /// Whether what it allows needs a grant.
    pub(crate) just_in_time: JustInTime,
    /// All of them have to hold.
    pub(crate) conditions: Box<[Condition]>,
    /// `None` for compiled-in rules.
    pub(crate) origin: Option<Origin>,
    /// Position in [`Snapshot::policies`]; `None` for compiled-in rules, which select every agent.
    policy: Option<usize>,
}

/// Positions of rules, ascending, by what a request is about.
#[derive(Debug, Default)]
struct Index {
    by_resource: HashMap<Box<str>, Vec<usize>>,
    any_resource: Vec<usize>,
    paths: Vec<usize>,
}

impl Snapshot {
    /// Compiles policies. The order of policies and of rules does not matter: the strongest effect decides.
    ///
    /// # Errors
    /// Every conflict between policies.
    pub fn compile(policies: &[AgentPolicy], generation: u64) -> Result<Snapshot, Vec<CompileError>> {
        let mut sorted: Vec<&AgentPolicy> = policies.iter().collect();
        sorted.sort_by(|a, b| a.name.cmp(&b.name));
        let errors = conflicts(&sorted);
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Self::assemble(&sorted, Vec::new(), generation))
    }

    /// Compiles what can be used. Whom the rest is about is refused everything; policies that do not go together count to
    /// the rest.
    #[must_use]
    pub fn compile_or_refuse(
        policies: &[AgentPolicy],
        mut invalid: Vec<InvalidPolicy>,
        generation: u64,
    ) -> Snapshot {
        let mut sorted: Vec<&AgentPolicy> = policies.iter().collect();
        sorted.sort_by(|a, b| a.name.cmp(&b.name));
        for conflict in conflicts(&sorted) {
            match &conflict {
                CompileError::DuplicatePolicy { name, .. } => {
                    let twice = sorted.extract_if(.., |policy| policy.name == *name);
                    invalid.extend(twice.map(|policy| refused(policy, &conflict)));
                }
                CompileError::TooManyRules { .. } => {
                    invalid.extend(sorted.drain(..).map(|policy| refused(policy, &conflict)));
                }
            }
        }
        Self::assemble(&sorted, invalid, generation)
    }

    fn assemble(sorted: &[&AgentPolicy], invalid: Vec<InvalidPolicy>, generation: u64) -> Snapshot {
        let rules = ordered_rules(sorted);
        let index = Index::of(&rules);
        let first_allow = rules.partition_point(|rule| rule.effect != Effect::Allow);
        let policies: Box<[PolicyEntry]> = sorted.iter().map(|policy| PolicyEntry::of(policy)).collect();
        let sieves = rules.iter().map(|rule| {
            let policy = rule.policy.and_then(|position| policies.get(position));
            Sieve::of_rule(
                &rule.clause,
                policy.map_or(&Names::Any, |policy| &policy.subjects.agents),
            )
        });
        Snapshot {
            sieves: sieves.collect(),
            generation,
            policies,
            invalid: invalid.into_boxed_slice(),
            namespaces: Arc::default(),
            rules: rules.into_boxed_slice(),
            first_allow,
            index,
        }
    }

    /// The same policies, with what is known of the labels of namespaces.
    #[must_use]
    pub fn knowing(mut self, namespaces: Arc<Namespaces>) -> Self {
        self.namespaces = namespaces;
        self
    }

    /// Every mistake of policies that cannot be used.
    pub fn mistakes(&self) -> impl Iterator<Item = &DocumentError> {
        self.invalid.iter().flat_map(|policy| policy.errors())
    }

    /// What is known of the labels of namespaces.
    pub(crate) fn namespaces(&self) -> &Namespaces {
        &self.namespaces
    }

    /// A policy that cannot be used and may be about the principal.
    pub(crate) fn invalid_for(&self, principal: &Principal) -> Option<&InvalidPolicy> {
        self.invalid
            .iter()
            .find(|policy| policy.subjects.select(principal) != Known::No)
    }

    /// Whether a policy in mode Observe may be about the principal.
    pub(crate) fn observes(&self, principal: &Principal) -> bool {
        let observing = self.policies.iter().filter(|policy| policy.mode == Mode::Observe);
        observing
            .into_iter()
            .any(|policy| policy.subjects.select(principal) != Known::No)
    }

    /// Adds a condition to a rule, for the tests of deciding in stages.
    #[cfg(test)]
    pub(crate) fn add_condition(&mut self, label: &str, condition: Condition) {
        let rule = self.rules.iter_mut().find(|rule| &*rule.label == label).unwrap();
        let conditions = std::mem::take(&mut rule.conditions).into_vec();
        rule.conditions = conditions.into_iter().chain([condition]).collect();
    }

    /// The number this snapshot was compiled with.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Every rule, compiled-in ones too, in the order in which they decide.
    pub(crate) fn rules(&self) -> &[RuleEntry] {
        &self.rules
    }

    /// The rules of this reach that may match, in the order in which they decide.
    pub(crate) fn candidates<'a>(
        &'a self,
        principal: &Principal,
        operation: &Operation<'_>,
        reach: Reach,
    ) -> impl Iterator<Item = &'a RuleEntry> {
        let request = Sieve::of_request(operation, &principal.agent, reach);
        let [keyed, any] = self.index.positions(operation).map(|list| {
            let first_allow = list.partition_point(|position| *position < self.first_allow);
            let (restricting, allowing) = list.split_at(first_allow);
            let list = match reach {
                Reach::Touches => restricting,
                Reach::Covers => allowing,
            };
            let meets =
                move |position: &usize| self.sieves.get(*position).is_some_and(|it| it.meets(&request));
            list.iter().copied().filter(meets)
        });
        merge(keyed, any).filter_map(|position| self.rules.get(position))
    }

    /// Whether the policy of a rule selects the principal, as far as its rule needs that to be known.
    pub(crate) fn selects(&self, rule: &RuleEntry, principal: &Principal) -> bool {
        match rule.policy {
            None => true,
            Some(position) => self
                .policies
                .get(position)
                .is_some_and(|policy| policy.subjects.select(principal).suffices(rule.clause.reach)),
        }
    }

    /// Every policy that selects the principal for sure.
    pub(crate) fn selected_by(&self, principal: &Principal) -> impl Iterator<Item = &PolicyEntry> {
        self.policies
            .iter()
            .filter(|policy| policy.subjects.select(principal) == Known::Yes)
    }
}

impl PolicyEntry {
    fn of(policy: &AgentPolicy) -> Self {
        Self {
            name: policy.name.clone(),
            mode: policy.mode,
            subjects: policy.subjects.clone(),
        }
    }
}

/// A policy that conflicts with others, as one that cannot be used.
fn refused(policy: &AgentPolicy, conflict: &CompileError) -> InvalidPolicy {
    let error = DocumentError {
        origin: policy.origin.clone(),
        message: conflict.to_string(),
    };
    InvalidPolicy {
        name: policy.name.clone(),
        subjects: policy.subjects.clone(),
        errors: vec![error],
    }
}

fn conflicts(sorted: &[&AgentPolicy]) -> Vec<CompileError> {
    let mut errors: Vec<CompileError> = sorted
        .windows(2)
        .filter_map(|pair| match pair {
            [first, second] if first.name == second.name => Some(CompileError::DuplicatePolicy {
                name: second.name.clone(),
                first: first.origin.clone(),
                second: second.origin.clone(),
            }),
            _ => None,
        })
        .collect();
    let count = sorted.iter().map(|policy| policy.rules.len()).sum();
    if count > MAX_RULES {
        errors.push(CompileError::TooManyRules { count });
    }
    errors
}

/// Strongest effect first, then by name, so that the rule that is named as deciding never depends on order.
fn ordered_rules(sorted: &[&AgentPolicy]) -> Vec<RuleEntry> {
    let builtin = allowed_to_everyone()
        .into_iter()
        .map(|(label, clause)| RuleEntry {
            label: label.into(),
            effect: Effect::Allow,
            clause,
            masking: Masking::Kept,
            mode: Mode::Enforce,
            just_in_time: JustInTime::Never,
            conditions: Box::default(),
            origin: None,
            policy: None,
        });
    let written = sorted.iter().enumerate().flat_map(|(position, policy)| {
        policy.rules.iter().map(move |rule| RuleEntry {
            label: format!("{}/{}", policy.name, rule.name).into(),
            effect: rule.effect,
            clause: Clause::new(rule.verbs, rule.scope.clone(), rule.effect),
            masking: rule.masking,
            mode: policy.mode,
            just_in_time: policy.just_in_time,
            conditions: rule.conditions.clone(),
            origin: Some(rule.origin.clone()),
            policy: Some(position),
        })
    });
    let mut rules: Vec<RuleEntry> = builtin.chain(written).collect();
    rules.sort_by(|a, b| (a.effect, a.policy, &a.label).cmp(&(b.effect, b.policy, &b.label)));
    rules
}

impl Index {
    fn of(rules: &[RuleEntry]) -> Self {
        let mut index = Self::default();
        for (position, rule) in rules.iter().enumerate() {
            match &rule.clause.scope {
                RuleScope::Paths(_) => index.paths.push(position),
                RuleScope::Resources(scope) => match scope.resource_keys() {
                    None => index.any_resource.push(position),
                    Some(resources) => resources.for_each(|resource| index.insert(resource, position)),
                },
            }
        }
        index
    }

    fn positions(&self, operation: &Operation<'_>) -> [&[usize]; 2] {
        match &operation.target {
            Target::Resource(target) => {
                let keyed = self
                    .by_resource
                    .get(target.resource)
                    .map_or(&[][..], Vec::as_slice);
                [keyed, &self.any_resource]
            }
            Target::Path(_) => [&self.paths, &[]],
        }
    }

    fn insert(&mut self, resource: &str, position: usize) {
        let positions = self.by_resource.entry(resource.into()).or_default();
        if positions.last() != Some(&position) {
            positions.push(position);
        }
    }
}

/// Two ascending sequences without common elements as one.
fn merge(
    left: impl Iterator<Item = usize>,
    right: impl Iterator<Item = usize>,
) -> impl Iterator<Item = usize> {
    let (mut left, mut right) = (left.peekable(), right.peekable());
    std::iter::from_fn(move || match (left.peek(), right.peek()) {
        (Some(a), Some(b)) if b < a => right.next(),
        (Some(_), _) => left.next(),
        (None, _) => right.next(),
    })
}
