//! What policies cannot be compared without: whether conditions hold, and which labels namespaces have. Neither is known, so
//! every combination is gone through; a condition is one question, in whichever rule of whichever policy it stands.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::policy::compile::Snapshot;
use crate::policy::condition::Condition;
use crate::policy::diff::DiffError;
use crate::policy::diff::principals::{describe_labels, label_sets};
use crate::policy::diff::universe::Place;
use crate::policy::document::{AgentPolicy, NamespaceScope, Rule, RuleScope};
use crate::policy::matching::{Clause, Dimension, Reach};
use crate::policy::operation::{Operation, PatchKind};
use crate::policy::selector::{LabelSelector, Namespaces, Operator};
use crate::principal::Labels;

/// The most conditions that meet at one resource.
const MAX_MEETING: usize = 8;

/// What becomes of the conditions of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum State {
    Hold,
    Fail,
    /// They have no answer, which speaks against the request.
    Unanswered,
}

/// The conditions of a rule together.
struct Question {
    /// The expressions, which make it the same question in another rule.
    sources: Vec<String>,
    label: String,
    /// What it can come to, as far as rules tell that apart.
    states: Vec<State>,
}

/// A rule, as far as it says where policies differ.
struct Stance {
    side: Side,
    clause: Clause,
    question: Option<usize>,
    /// Everything it says, and of whom.
    says: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Old,
    New,
}

pub(super) struct Circumstances<'a> {
    old: &'a [AgentPolicy],
    new: &'a [AgentPolicy],
    stances: Vec<Stance>,
    questions: Vec<Question>,
    /// Labels that selectors of rules tell apart, each with its name in reports.
    labels: Vec<(String, Labels)>,
    namespaces: Vec<String>,
    compiled: HashMap<(Vec<State>, usize), (Snapshot, Snapshot)>,
}

/// Both sets of policies where nothing is open any more.
pub(super) struct Settled<'a> {
    pub(super) old: &'a Snapshot,
    pub(super) new: &'a Snapshot,
    pub(super) conditions: String,
    pub(super) labels: String,
}

impl<'a> Circumstances<'a> {
    pub(super) fn new(
        old: &'a [AgentPolicy],
        new: &'a [AgentPolicy],
        namespaces: Vec<String>,
    ) -> Result<Self, DiffError> {
        let mut questions: Vec<Question> = Vec::new();
        let mut reaches: Vec<BTreeSet<bool>> = Vec::new();
        let mut selectors: Vec<&LabelSelector> = Vec::new();
        for (policy, rule) in rules(old).chain(rules(new)) {
            if let RuleScope::Resources(scope) = &rule.scope
                && let NamespaceScope::Selected(selector) = &scope.namespaces
            {
                selectors.push(selector);
            }
            let sources = sources(rule);
            if sources.is_empty() {
                continue;
            }
            let at = position(&questions, &sources).unwrap_or_else(|| {
                questions.push(Question {
                    label: label_of(policy, rule),
                    sources,
                    states: vec![State::Hold, State::Fail],
                });
                reaches.push(BTreeSet::new());
                questions.len() - 1
            });
            if let Some(set) = reaches.get_mut(at) {
                set.insert(Reach::of(rule.effect) == Reach::Covers);
            }
        }
        // In rules of one kind, no answer is the same as one of the two.
        for (question, reaches) in questions.iter_mut().zip(&reaches) {
            if reaches.len() > 1 {
                question.states.push(State::Unanswered);
            }
        }
        let stance = |side| {
            let questions = &questions;
            move |(policy, rule): (&AgentPolicy, &Rule)| Stance {
                side,
                clause: Clause::new(rule.verbs, rule.scope.clone(), rule.effect),
                question: position(questions, &sources(rule)),
                says: says(policy, rule),
            }
        };
        let stances = rules(old)
            .map(stance(Side::Old))
            .chain(rules(new).map(stance(Side::New)))
            .collect();
        let labels = label_sets(&selectors)?
            .into_iter()
            .map(|labels| (describe_labels(&labels), labels))
            .collect();
        Ok(Self {
            old,
            new,
            stances,
            questions,
            labels,
            namespaces,
            compiled: HashMap::new(),
        })
    }

    /// The questions that rules ask about this resource or path; none when both sets of policies say the same about it.
    pub(super) fn relevant(&self, place: &Place) -> Result<Option<Vec<usize>>, DiffError> {
        let info = place.any_request();
        let operation = Operation::new(&info, "", PatchKind::Existing);
        let is_about = |stance: &&Stance| {
            let mut mismatches = stance.clause.mismatches(&operation);
            !mismatches.any(|dimension| match dimension {
                Dimension::Kind | Dimension::Group | Dimension::Resource | Dimension::Path => true,
                Dimension::Verb | Dimension::Namespace | Dimension::Name => false,
            })
        };
        let about: Vec<&Stance> = self.stances.iter().filter(is_about).collect();
        let said = |side| -> BTreeSet<&str> {
            let of_side = about.iter().filter(|stance| stance.side == side);
            of_side.map(|stance| stance.says.as_str()).collect()
        };
        if said(Side::Old) == said(Side::New) {
            return Ok(None);
        }
        let relevant: BTreeSet<usize> = about.iter().filter_map(|stance| stance.question).collect();
        if relevant.len() > MAX_MEETING {
            return Err(DiffError::TooMany("conditions"));
        }
        Ok(Some(relevant.into_iter().collect()))
    }

    /// Both sets of policies, once for every combination of answers to these questions, and of labels.
    pub(super) fn settle(&mut self, relevant: &[usize]) -> Result<Vec<Settled<'_>>, DiffError> {
        let mut wanted = Vec::new();
        for states in self.combinations(relevant) {
            for labels in 0..self.labels.len() {
                let key = (states.clone(), labels);
                if !self.compiled.contains_key(&key) {
                    let pair = self.compile(&states, labels)?;
                    self.compiled.insert(key.clone(), pair);
                }
                wanted.push(key);
            }
        }
        let this: &Self = self;
        let settled = wanted.iter().filter_map(|key| {
            let (old, new) = this.compiled.get(key)?;
            let (labels, _) = this.labels.get(key.1)?;
            Some(Settled {
                old,
                new,
                conditions: this.describe(relevant, &key.0),
                labels: labels.clone(),
            })
        });
        Ok(settled.collect())
    }

    /// Every description of answers to these questions.
    pub(super) fn conditions(&self, relevant: &[usize]) -> BTreeSet<String> {
        let all = self.combinations(relevant);
        all.iter().map(|states| self.describe(relevant, states)).collect()
    }

    /// Every description of labels.
    pub(super) fn labels(&self) -> BTreeSet<String> {
        self.labels.iter().map(|(label, _)| label.clone()).collect()
    }

    /// Every combination of states; questions that do not matter fail.
    fn combinations(&self, relevant: &[usize]) -> Vec<Vec<State>> {
        let mut combinations = vec![vec![State::Fail; self.questions.len()]];
        for at in relevant {
            let states = self
                .questions
                .get(*at)
                .map_or(&[][..], |question| &question.states);
            let with = |combination: &Vec<State>| {
                let combination = combination.clone();
                states.iter().map(move |state| {
                    let mut combination = combination.clone();
                    if let Some(place) = combination.get_mut(*at) {
                        *place = *state;
                    }
                    combination
                })
            };
            combinations = combinations.iter().flat_map(with).collect();
        }
        combinations
    }

    fn describe(&self, relevant: &[usize], states: &[State]) -> String {
        let one = |at: &usize| {
            let (question, state) = (self.questions.get(*at)?, states.get(*at)?);
            let label = &question.label;
            Some(match state {
                State::Hold => format!("if {label}"),
                State::Fail => format!("unless {label}"),
                State::Unanswered => format!("where nobody can say {label}"),
            })
        };
        let parts: Vec<String> = relevant.iter().filter_map(one).collect();
        if parts.is_empty() {
            "*".to_owned()
        } else {
            parts.join(" and ")
        }
    }

    fn compile(&self, states: &[State], labels: usize) -> Result<(Snapshot, Snapshot), DiffError> {
        let labels = self.labels.get(labels).map(|(_, labels)| labels.clone());
        let namespaces: Namespaces = self
            .namespaces
            .iter()
            .map(|name| (name.clone(), labels.clone().unwrap_or_default()))
            .collect();
        let compile = |policies: &[AgentPolicy]| -> Result<Snapshot, DiffError> {
            let settled: Vec<AgentPolicy> = policies
                .iter()
                .map(|policy| self.settled(policy, states))
                .collect();
            let snapshot = Snapshot::compile(&settled, 1).map_err(DiffError::Conflicts)?;
            Ok(snapshot.knowing(namespaces.clone().into()))
        };
        Ok((compile(self.old)?, compile(self.new)?))
    }

    /// The policy with rules that have no conditions any more.
    fn settled(&self, policy: &AgentPolicy, states: &[State]) -> AgentPolicy {
        let mut policy = policy.clone();
        policy.rules.retain_mut(|rule| {
            let sources = sources(rule);
            if sources.is_empty() {
                return true;
            }
            let at = position(&self.questions, &sources);
            let state = at.and_then(|at| states.get(at)).copied();
            rule.conditions = Box::default();
            match (state, Reach::of(rule.effect)) {
                (Some(State::Hold), _) | (Some(State::Unanswered) | None, Reach::Touches) => true,
                (Some(State::Fail), _) | (Some(State::Unanswered) | None, Reach::Covers) => false,
            }
        });
        policy
    }
}

fn rules(policies: &[AgentPolicy]) -> impl Iterator<Item = (&AgentPolicy, &Rule)> {
    policies
        .iter()
        .flat_map(|policy| policy.rules.iter().map(move |rule| (policy, rule)))
}

fn position(questions: &[Question], sources: &[String]) -> Option<usize> {
    questions.iter().position(|question| question.sources == sources)
}

fn says(policy: &AgentPolicy, rule: &Rule) -> String {
    let AgentPolicy {
        subjects,
        mode,
        just_in_time,
        ..
    } = policy;
    let Rule {
        effect,
        verbs,
        scope,
        masking,
        ..
    } = rule;
    let conditions = sources(rule);
    format!(
        "{subjects:?} {mode:?} {just_in_time:?} {effect:?} {verbs:?} {scope:?} {masking:?} {conditions:?}"
    )
}

fn sources(rule: &Rule) -> Vec<String> {
    let mut sources: Vec<String> = rule
        .conditions
        .iter()
        .map(|condition| condition.source.to_string())
        .collect();
    sources.sort_unstable();
    sources.dedup();
    sources
}

/// `policy/rule.condition (expression)`, shortened.
fn label_of(policy: &AgentPolicy, rule: &Rule) -> String {
    let one = |condition: &Condition| {
        let words: Vec<&str> = condition.source.split_whitespace().collect();
        let source = words.join(" ");
        let short: String = source.chars().take(80).collect();
        let dots = if short.len() < source.len() { "…" } else { "" };
        format!("{}/{}.{} ({short}{dots})", policy.name, rule.name, condition.name)
    };
    let parts: Vec<String> = rule.conditions.iter().map(one).collect();
    parts.join(" and ")
}

/// Labels as a set of selectors takes them apart: what each selects is one of these.
pub(super) fn by_key(selectors: &[&LabelSelector]) -> BTreeMap<String, BTreeSet<Option<String>>> {
    let mut values: BTreeMap<String, BTreeSet<Option<String>>> = BTreeMap::new();
    for requirement in selectors.iter().flat_map(|selector| selector.0.iter()) {
        let of_key = values.entry(requirement.key.to_string()).or_default();
        of_key.extend([None, Some("any-other".to_owned())]);
        match &requirement.operator {
            Operator::In(them) | Operator::NotIn(them) => {
                of_key.extend(them.iter().map(|value| Some(value.to_string())));
            }
            Operator::Exists | Operator::DoesNotExist => {}
        }
    }
    values
}
