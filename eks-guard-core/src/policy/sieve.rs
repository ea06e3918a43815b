//! Bits that tell most rules apart from a request before any text is compared. A sieve lets too much through, never
//! too little: whatever passes is matched in full.

use crate::policy::document::{Names, NamespaceScope, Part, RuleScope};
use crate::policy::matching::{Clause, Reach, groups_within};
use crate::policy::operation::{Extent, Operation, Target, VerbSet};

/// Everything there is.
const ALL: u64 = u64::MAX;
/// What only [`Names::Any`] has: no name falls on this bit.
const UNNAMED: u64 = 1 << 63;

/// Verbs, agent, group, subresource, namespace, name: each a set of names that share 63 bits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sieve([u64; 6]);

impl Sieve {
    /// What a rule may match at most.
    pub(crate) fn of_rule(clause: &Clause, agents: &Names) -> Self {
        let agents = names(agents);
        match &clause.scope {
            RuleScope::Paths(_) => Self([clause.verbs.bits(), agents, ALL, ALL, ALL, ALL]),
            RuleScope::Resources(scope) => {
                let parts = scope.resources.iter().map(|it| part(&it.part, clause.reach));
                let verbs = match clause.reach {
                    Reach::Covers => clause.verbs.bits(),
                    Reach::Touches => clause.actions.bits(),
                };
                Self([
                    verbs,
                    agents,
                    names(&scope.groups),
                    parts.fold(0, |bits, part| bits | part),
                    namespaces(&scope.namespaces),
                    names(&scope.resource_names),
                ])
            }
        }
    }

    /// What a rule with this reach must have to match.
    pub(crate) fn of_request(operation: &Operation<'_>, agent: &str, reach: Reach) -> Self {
        let (verb, agent) = (VerbSet::of([operation.verb]).bits(), bit(agent) | UNNAMED);
        match &operation.target {
            Target::Path(_) => Self([verb, agent, ALL, ALL, ALL, ALL]),
            Target::Resource(target) => {
                let verbs = match reach {
                    Reach::Covers => verb,
                    Reach::Touches => operation.actions.bits(),
                };
                let groups = groups_within(target, reach);
                Self([
                    verbs,
                    agent,
                    groups.fold(0, |bits, group| bits | bit(group)),
                    bit(target.subresource),
                    extent(target.namespace, reach),
                    extent(target.name, reach),
                ])
            }
        }
    }

    /// Whether the rule may match the request.
    pub(crate) fn meets(&self, request: &Self) -> bool {
        let pairs = self.0.iter().zip(&request.0);
        // Without branches: cheaper than stopping at the first difference.
        pairs.fold(true, |meets, (rule, request)| meets & (rule & request != 0))
    }
}

fn names(names: &Names) -> u64 {
    match names {
        Names::Any => ALL,
        Names::Only(names) => names.iter().fold(0, |bits, name| bits | bit(name)),
    }
}

fn namespaces(namespaces: &NamespaceScope) -> u64 {
    match namespaces {
        NamespaceScope::Named(list) => names(list),
        NamespaceScope::Selected(_) => ALL,
    }
}

fn part(part: &Part, reach: Reach) -> u64 {
    match (part, reach) {
        (Part::Object, Reach::Covers) => bit(""),
        (Part::Named(subresource), Reach::Covers | Reach::Touches) => bit(subresource),
        (Part::Object, Reach::Touches) | (Part::Every, Reach::Covers | Reach::Touches) => ALL,
    }
}

fn extent(extent: Extent<'_>, reach: Reach) -> u64 {
    match (extent, reach) {
        (Extent::One(name), Reach::Covers | Reach::Touches) => bit(name),
        (Extent::Many, Reach::Touches) => ALL,
        (Extent::Many, Reach::Covers) | (Extent::Nothing, Reach::Covers | Reach::Touches) => UNNAMED,
    }
}

/// The bit of a name, by FNV-1a: names that collide cost time only.
fn bit(name: &str) -> u64 {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    1 << (hash % 63)
}
