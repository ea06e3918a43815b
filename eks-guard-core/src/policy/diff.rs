//! What a change of policies newly reaches, and what it takes away: both sets of policies are asked, by the code that decides,
//! about one request of every class that their rules can tell apart, and the answers are put together again.

mod circumstances;
mod principals;
mod universe;

use std::collections::BTreeSet;
use std::time::SystemTime;

use crate::policy::boxes::{Product, join};
use crate::policy::compile::{CompileError, Snapshot};
use crate::policy::diff::circumstances::{Circumstances, Settled};
use crate::policy::diff::principals::Class;
use crate::policy::diff::universe::{Atom, PATHS, Place, Universe};
use crate::policy::document::{AgentPolicy, Effect};
use crate::policy::evidence::Evidence;
use crate::policy::facts::Facts;
use crate::policy::judge::{Ground, Judgement};
use crate::policy::operation::{Operation, PatchKind};
use crate::request_info::RequestInfo;

/// How far a request gets, from not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// It is refused.
    Refused,
    /// Somebody has to approve it.
    Approved,
    /// It is allowed inside a grant.
    Granted,
    /// It is allowed with values masked.
    Masked,
    /// It is allowed.
    Allowed,
}

impl Level {
    const ALL: [Self; 5] = [
        Self::Refused,
        Self::Approved,
        Self::Granted,
        Self::Masked,
        Self::Allowed,
    ];

    /// The text that reports use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Approved => "approved",
            Self::Granted => "granted",
            Self::Masked => "masked",
            Self::Allowed => "allowed",
        }
    }
}

/// What a change does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// What gets further than before.
    pub gained: Vec<Difference>,
    /// What does not get as far any more.
    pub lost: Vec<Difference>,
}

/// Requests whose fate changes in one way: every combination of what the lists name. A list is names, or `*` and, each after a
/// `!`, the names that are not meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// How far they got.
    pub before: Level,
    /// How far they get.
    pub after: Level,
    /// Whose requests: agents, and what else policies go by.
    pub subjects: Vec<String>,
    /// Which conditions hold, and which do not.
    pub conditions: Vec<String>,
    /// Labels of namespaces that rules select by.
    pub namespace_labels: Vec<String>,
    /// Verbs.
    pub verbs: Vec<String>,
    /// API groups; empty for paths.
    pub api_groups: Vec<String>,
    /// Resources, with subresources as in `pods/log`, or paths.
    pub resources: Vec<String>,
    /// Namespaces; empty text: all of them at once.
    pub namespaces: Vec<String>,
    /// Names of objects; empty text: the whole collection, or a name that the API server makes up.
    pub names: Vec<String>,
}

/// Why two sets of policies cannot be compared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiffError {
    /// One of them does not go together.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Conflicts(Vec<CompileError>),
    /// There are too many cases to ask about each.
    #[error("too many {0} meet to compare every combination; compare fewer policies at a time")]
    TooMany(&'static str),
}

const NAMES: usize = 0;
const NAMESPACES: usize = 1;
const VERBS: usize = 2;
const RESOURCES: usize = 3;
const GROUPS: usize = 4;
const SUBJECTS: usize = 5;
const CONDITIONS: usize = 6;
const LABELS: usize = 7;

/// What is joined: the dimensions above, and at last how far requests got and get.
type Cells = Vec<Product<9>>;

/// Compares two sets of policies.
///
/// # Errors
/// Policies that do not go together, or more cases than can be asked about.
pub fn diff(old: &[AgentPolicy], new: &[AgentPolicy]) -> Result<Diff, DiffError> {
    let both: Vec<&AgentPolicy> = old.iter().chain(new).collect();
    let universe = Universe::of(&both);
    let classes = principals::classes(&both)?;
    let mut circumstances = Circumstances::new(old, new, universe.namespaces())?;
    let mut cells = Cells::new();
    for place in universe.places() {
        let Some(relevant) = circumstances.relevant(&place)? else {
            continue;
        };
        let mut here = Cells::new();
        for settled in circumstances.settle(&relevant)? {
            for class in &classes {
                here.extend(changes(&universe, &place, class, &settled));
            }
        }
        cells.extend(simplified_place(here, &classes, &circumstances, &relevant));
    }
    Ok(report(&universe, cells))
}

/// What changes at one resource or path, for one class of principals: joined over names, namespaces and verbs.
fn changes(universe: &Universe, place: &Place, class: &Class, settled: &Settled<'_>) -> Cells {
    let mut cells = Cells::new();
    for verb in universe.verbs(place) {
        let mut of_verb = Cells::new();
        let namespaces = universe.namespaces_of(place, *verb);
        for namespace in &namespaces {
            let names = universe.names_of(place, *verb);
            let mut of_namespace = Cells::new();
            for name in &names {
                let Some(info) = universe.request(place, *verb, namespace, name) else {
                    continue;
                };
                let (before, after) = (level(settled.old, class, &info), level(settled.new, class, &info));
                if before != after {
                    let levels = format!("{} {}", before.as_str(), after.as_str());
                    of_namespace.push(
                        [
                            &*name.label,
                            &*namespace.label,
                            verb.as_str(),
                            &place.resource,
                            &place.group,
                            &class.label,
                            &settled.conditions,
                            &settled.labels,
                            &levels,
                        ]
                        .map(|part| BTreeSet::from([part.to_owned()])),
                    );
                }
            }
            of_verb.extend(condensed(of_namespace, NAMES, &labels(&names)));
        }
        cells.extend(condensed(of_verb, NAMESPACES, &labels(&namespaces)));
    }
    join(cells, VERBS)
}

fn labels(atoms: &[Atom]) -> BTreeSet<String> {
    atoms.iter().map(|atom| atom.label.clone()).collect()
}

/// Joins along one dimension, and says `*` for all there are, `*` and `!x` for all but x.
fn condensed(cells: Cells, along: usize, all: &BTreeSet<String>) -> Cells {
    let mut cells = join(cells, along);
    for cell in &mut cells {
        if let Some(set) = cell.get_mut(along) {
            *set = condense(set, all);
        }
    }
    cells
}

fn condense(set: &BTreeSet<String>, all: &BTreeSet<String>) -> BTreeSet<String> {
    if set == all {
        return BTreeSet::from(["*".to_owned()]);
    }
    if !set.contains("*") {
        return set.clone();
    }
    let but = all.difference(set).map(|it| format!("!{it}"));
    but.chain(["*".to_owned()]).collect()
}

/// Joins over principals and over what settles conditions and labels.
fn simplified_place(
    cells: Cells,
    classes: &[Class],
    circumstances: &Circumstances<'_>,
    relevant: &[usize],
) -> Cells {
    let subjects = classes.iter().map(|class| class.label.clone()).collect();
    let cells = condensed(cells, SUBJECTS, &subjects);
    let cells = condensed(cells, CONDITIONS, &circumstances.conditions(relevant));
    condensed(cells, LABELS, &circumstances.labels())
}

/// Joins over resources and groups, and sorts by what is gained and lost.
fn report(universe: &Universe, cells: Cells) -> Diff {
    let mut joined = Cells::new();
    for group in universe.groups() {
        let of_group = cells
            .iter()
            .filter(|cell| cell.get(GROUPS).is_some_and(|set| set.contains(&group)))
            .cloned()
            .collect();
        let mut of_group = join(of_group, RESOURCES);
        for cell in &mut of_group {
            if let Some(set) = cell.get_mut(RESOURCES) {
                *set = universe.condense_resources(&group, set);
            }
        }
        joined.extend(of_group);
    }
    let all = universe.groups().filter(|group| group != PATHS).collect();
    let joined = condensed(joined, GROUPS, &all);
    let joined = join(join(joined, VERBS), RESOURCES);
    let mut diff = Diff::default();
    for cell in joined {
        let difference = difference(cell);
        if difference.after > difference.before {
            diff.gained.push(difference);
        } else {
            diff.lost.push(difference);
        }
    }
    diff
}

fn difference(cell: Product<9>) -> Difference {
    let [
        names,
        namespaces,
        verbs,
        resources,
        api_groups,
        subjects,
        conditions,
        namespace_labels,
        levels,
    ] = cell.map(|set| set.into_iter().collect::<Vec<String>>());
    let [api_groups, namespaces, names] = if api_groups == [PATHS] {
        [const { Vec::new() }; 3]
    } else {
        [api_groups, namespaces, names]
    };
    let mut levels = levels.iter().flat_map(|text| text.split(' ')).map(|text| {
        let found = Level::ALL.into_iter().find(|level| level.as_str() == text);
        found.unwrap_or(Level::Refused)
    });
    let (before, after) = (
        levels.next().unwrap_or(Level::Refused),
        levels.next().unwrap_or(Level::Refused),
    );
    Difference {
        before,
        after,
        subjects,
        conditions,
        namespace_labels,
        verbs,
        api_groups,
        resources,
        namespaces,
        names,
    }
}

/// Every path, and every beginning of paths, that is told apart.
#[cfg(test)]
pub(crate) fn paths_named(old: &[AgentPolicy], new: &[AgentPolicy]) -> Vec<String> {
    let both: Vec<&AgentPolicy> = old.iter().chain(new).collect();
    let universe = Universe::of(&both);
    let paths = universe.places().filter(|place| place.group == PATHS);
    paths.map(|place| place.resource).collect()
}

/// How far a request of a principal gets, with conditions settled.
fn level(snapshot: &Snapshot, class: &Class, info: &RequestInfo) -> Level {
    let facts = Facts::at(SystemTime::UNIX_EPOCH);
    let operation = Operation::new(info, "", PatchKind::Existing).knowing(snapshot.namespaces());
    let evidence = Evidence::new(&class.principal, info, None, &facts);
    level_of(snapshot.judge(&operation, &evidence))
}

/// What a judgement comes to once masking, approvals and grants can be had.
pub(crate) fn level_of(judgement: Judgement<'_>) -> Level {
    match judgement {
        Judgement::Allow(_) => Level::Allowed,
        Judgement::Refuse(Ground::Restricted(rule)) => match rule.effect {
            Effect::RequireApproval => Level::Approved,
            Effect::Mask => Level::Masked,
            Effect::Deny | Effect::Allow => Level::Refused,
        },
        Judgement::Refuse(Ground::Secret(_)) => Level::Masked,
        Judgement::Refuse(Ground::Ungranted(_)) => Level::Granted,
        Judgement::Open(..)
        | Judgement::Refuse(Ground::Protected(_) | Ground::Invalid(_) | Ground::NothingAllows(_)) => {
            Level::Refused
        }
    }
}
