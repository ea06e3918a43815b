//! The least policy that would have allowed what was observed: rules whose products of verbs, resources, namespaces and names
//! hold exactly the calls, written as a document and checked by the code that decides.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use crate::policy::boxes::{Product, join_all};
use crate::policy::compile::Snapshot;
use crate::policy::document::read_policies;
use crate::policy::explain::Answer;
use crate::policy::facts::Facts;
use crate::policy::known::{KnownResource, Scope};
use crate::policy::notation::item;
use crate::policy::operation::{Extent, Operation, PatchKind, ResourceTarget, Target};
use crate::principal::Principal;
use crate::reason::{Reason, Refusal};
use crate::request_info::RequestInfo;

/// Calls of one kind, as a record has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// What was asked for.
    pub info: RequestInfo,
    /// How often.
    pub count: u64,
}

/// Whether rules name the objects that were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectNames {
    /// They do.
    Keep,
    /// Every name is allowed: for objects whose names are made up anew.
    Drop,
}

/// What a record comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suggestion {
    /// The policy, as a document; none when no rule is needed.
    pub document: Option<String>,
    /// Calls that every agent may make: no rule is needed for them.
    pub needless: u64,
    /// Calls that no rule of it allows, each with the reason.
    pub withheld: Vec<(Call, Refusal)>,
}

/// Why there is no suggestion.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SuggestError {
    /// The document does not say what was meant; a fault of this program.
    #[error("the suggested policy does not allow {request:?}; please report it")]
    NotAllowed {
        /// A request that it should allow.
        request: Box<RequestInfo>,
    },
    /// The document has mistakes; a fault of this program, or of a name in the record.
    #[error("the suggested policy has a mistake: {0}")]
    Invalid(String),
}

/// Verbs, group, resource, namespaces, names; in the order in which they are joined: names first.
const NAMES: usize = 0;
const VERBS: usize = 1;
const RESOURCES: usize = 2;
const NAMESPACES: usize = 3;
const GROUP: usize = 4;
/// Everything, where a rule leaves a field out or says `*`. No name has this character.
const ANY: &str = "*";
/// In no namespace, of a resource that is known to be in none.
const CLUSTER: &str = "";

/// Suggests a policy for one agent.
///
/// # Errors
/// Only for faults of this program.
pub fn suggest(
    name: &str,
    agent: &str,
    calls: &[Call],
    names: ObjectNames,
) -> Result<Suggestion, SuggestError> {
    let mut suggestion = Suggestion {
        document: None,
        needless: 0,
        withheld: Vec::new(),
    };
    let nothing = Snapshot::compile(&[], 1).map_err(|errors| SuggestError::Invalid(format!("{errors:?}")))?;
    let (mut wanted, mut withheld) = (Vec::new(), Vec::new());
    for call in calls {
        match answer(&nothing, agent, &call.info) {
            Answer::Allowed { .. } => suggestion.needless += call.count,
            Answer::Refused(refusal) if is_final(&call.info, &refusal) => {
                withheld.push((call.clone(), refusal));
            }
            Answer::Refused(_) => wanted.push(call.clone()),
        }
    }
    suggestion.withheld = withheld;
    if wanted.is_empty() {
        return Ok(suggestion);
    }
    let text = document(name, agent, &wanted, names);
    let policies = read_policies("suggested", &text)
        .map_err(|errors| SuggestError::Invalid(format!("{errors:?}\n{text}")))?;
    let snapshot =
        Snapshot::compile(&policies, 1).map_err(|errors| SuggestError::Invalid(format!("{errors:?}")))?;
    for call in wanted {
        match answer(&snapshot, agent, &call.info) {
            Answer::Allowed { .. } => {}
            // What a rule allows and something compiled in still withholds.
            Answer::Refused(refusal) if refusal.reason != Reason::NoRuleAllows => {
                suggestion.withheld.push((call, refusal));
            }
            Answer::Refused(_) => {
                let request = Box::new(call.info);
                return Err(SuggestError::NotAllowed { request });
            }
        }
    }
    suggestion.document = Some(text);
    Ok(suggestion)
}

fn answer(snapshot: &Snapshot, agent: &str, info: &RequestInfo) -> Answer {
    snapshot
        .explain(&Principal::named(agent), info, &Facts::at(SystemTime::UNIX_EPOCH))
        .answer
}

/// Whether no rule would help; values of Secrets are let through by hand only.
fn is_final(info: &RequestInfo, refusal: &Refusal) -> bool {
    let is_secret = info
        .resource()
        .is_some_and(|it| it.group.is_empty() && it.resource == "secrets");
    refusal.reason != Reason::NoRuleAllows || is_secret
}

/// A rule about objects, and how many calls it is for.
struct Rule {
    product: Product<5>,
    count: u64,
}

fn document(name: &str, agent: &str, calls: &[Call], names: ObjectNames) -> String {
    let mut cells: BTreeMap<[String; 5], u64> = BTreeMap::new();
    let mut paths: BTreeMap<&'static str, BTreeMap<String, u64>> = BTreeMap::new();
    for call in calls {
        let operation = Operation::new(&call.info, "", PatchKind::Existing);
        match &operation.target {
            Target::Path(path) => {
                *paths
                    .entry(operation.verb.as_str())
                    .or_default()
                    .entry((*path).to_owned())
                    .or_default() += call.count;
            }
            Target::Resource(target) => {
                let cell = cell(operation.verb.as_str(), target, names);
                *cells.entry(cell).or_default() += call.count;
            }
        }
    }
    let products = join_all(
        cells
            .keys()
            .map(|cell| cell.clone().map(|part| BTreeSet::from([part])))
            .collect(),
    );
    let count = |product: &Product<5>| {
        let inside = |cell: &[String; 5]| product.iter().zip(cell).all(|(set, part)| set.contains(part));
        cells
            .iter()
            .filter(|(cell, _)| inside(cell))
            .map(|(_, count)| count)
            .sum::<u64>()
    };
    let mut rules: Vec<Rule> = products
        .into_iter()
        .map(|product| Rule {
            count: count(&product),
            product,
        })
        .collect();
    rules.sort_by(|a, b| {
        (&a.product[GROUP], &a.product[RESOURCES]).cmp(&(&b.product[GROUP], &b.product[RESOURCES]))
    });
    let mut text = format!(
        "apiVersion: eks-guard.dev/v1alpha1\nkind: AgentPolicy\nmetadata:\n  name: {}\nspec:\n  subjects:\n    \
         agents: [{}]\n  rules:\n",
        item(name),
        item(agent)
    );
    let mut taken = BTreeSet::new();
    for rule in &rules {
        write_rule(&mut text, rule, &mut taken);
    }
    for (verb, paths) in &paths {
        let count = paths.values().sum();
        let name = free_name(&mut taken, &format!("{verb}-paths"));
        let paths: Vec<String> = paths.keys().map(|path| item(path)).collect();
        head(&mut text, count, &name);
        text += &format!(
            "      verbs: [{verb}]\n      nonResourceURLs: [{}]\n",
            paths.join(", ")
        );
    }
    text
}

/// One call as a tuple. What reaches many namespaces or names needs a rule that does not name them.
fn cell(verb: &str, target: &ResourceTarget<'_>, names: ObjectNames) -> [String; 5] {
    let part = if target.subresource.is_empty() { "" } else { "/" };
    let known = KnownResource::find(target.group, target.resource).map(|known| known.scope);
    let own = target.group.is_empty() && target.resource == "namespaces";
    let namespace = match (target.namespace, known) {
        (Extent::One(namespace), _) => namespace,
        (Extent::Nothing | Extent::Many, Some(Scope::Cluster)) if !own => CLUSTER,
        (Extent::Nothing | Extent::Many, _) => ANY,
    };
    let name = match (target.name, names) {
        (Extent::One(name), ObjectNames::Keep) => name,
        (Extent::One(_), ObjectNames::Drop) | (Extent::Nothing | Extent::Many, _) => ANY,
    };
    let resource = format!("{}{part}{}", target.resource, target.subresource);
    [name, verb, &resource, namespace, target.group].map(str::to_owned)
}

fn write_rule(text: &mut String, rule: &Rule, taken: &mut BTreeSet<String>) {
    let product = &rule.product;
    let first = |along: usize| {
        product
            .get(along)
            .and_then(BTreeSet::first)
            .map_or("", String::as_str)
    };
    let list = |along: usize| {
        let items = product.get(along).into_iter().flatten().map(|it| item(it));
        items.collect::<Vec<_>>().join(", ")
    };
    let name = free_name(taken, &format!("{}-{}", first(VERBS), first(RESOURCES)));
    head(text, rule.count, &name);
    *text += &format!("      verbs: [{}]\n", list(VERBS));
    *text += &format!("      apiGroups: [{}]\n", list(GROUP));
    *text += &format!("      resources: [{}]\n", list(RESOURCES));
    if product[NAMESPACES].contains(ANY) {
        *text += "      namespaces: [\"*\"]\n";
    } else if !product[NAMESPACES].contains(CLUSTER) {
        *text += &format!("      namespaces: [{}]\n", list(NAMESPACES));
    }
    if !product[NAMES].contains(ANY) {
        *text += &format!("      resourceNames: [{}]\n", list(NAMES));
    }
}

fn head(text: &mut String, count: u64, name: &str) {
    let calls = if count == 1 { "call" } else { "calls" };
    *text += &format!("    # {count} {calls}\n    - name: {name}\n      effect: allow\n");
}

/// A name for a rule that no other has, of characters that names of rules may have.
fn free_name(taken: &mut BTreeSet<String>, wish: &str) -> String {
    let inside = |c: char| {
        if c.is_ascii_lowercase() || c.is_ascii_digit() {
            c
        } else {
            '-'
        }
    };
    let wish: String = wish.chars().map(inside).take(50).collect();
    let wish = wish.trim_matches('-');
    let mut name = wish.to_owned();
    let mut number = 1;
    while !taken.insert(name.clone()) {
        number += 1;
        name = format!("{wish}-{number}");
    }
    name
}
