//! Whether a rule matches a request. Rules that restrict match whatever the request could touch;
//! rules that allow match only what they cover completely.

use crate::policy::document::{
    Effect, Names, NamespaceScope, Part, PathPattern, ResourcePattern, ResourceScope, RuleScope,
};
use crate::policy::operation::{ActionSet, Extent, Operation, ResourceTarget, Target, VerbSet};
use crate::policy::selector::Known;

/// How far a rule reaches beyond what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// All of the request must be inside the rule: `allow`.
    Covers,
    /// Any of the request may be inside the rule: `deny`, `requireApproval`, `mask`.
    Touches,
}

impl Reach {
    pub(crate) const fn of(effect: Effect) -> Self {
        match effect {
            Effect::Allow => Self::Covers,
            Effect::Deny | Effect::RequireApproval | Effect::Mask => Self::Touches,
        }
    }
}

/// One thing in which a rule and a request may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dimension {
    /// One is about objects, the other about a plain path.
    Kind,
    Verb,
    Group,
    Resource,
    Namespace,
    Name,
    Path,
}

impl Dimension {
    /// In the order in which people read them.
    const ALL: [Self; 7] = [
        Self::Kind,
        Self::Verb,
        Self::Group,
        Self::Resource,
        Self::Namespace,
        Self::Name,
        Self::Path,
    ];

    /// The same, in the order in which they tell rules apart soonest; candidates are found by resource.
    const SOONEST: [Self; 7] = [
        Self::Kind,
        Self::Verb,
        Self::Namespace,
        Self::Name,
        Self::Group,
        Self::Resource,
        Self::Path,
    ];

    /// What messages call it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Kind => "kind of request",
            Self::Verb => "verb",
            Self::Group => "apiGroup",
            Self::Resource => "resource",
            Self::Namespace => "namespace",
            Self::Name => "resourceName",
            Self::Path => "path",
        }
    }
}

/// The half of a rule that is matched on.
#[derive(Clone, Debug)]
pub(crate) struct Clause {
    pub(crate) verbs: VerbSet,
    pub(crate) scope: RuleScope,
    pub(crate) reach: Reach,
    pub(crate) actions: ActionSet,
}

impl Clause {
    pub(crate) fn new(verbs: VerbSet, scope: RuleScope, effect: Effect) -> Self {
        Self {
            verbs,
            scope,
            reach: Reach::of(effect),
            actions: ActionSet::restricted_by(verbs),
        }
    }

    /// Whether the rule matches.
    pub(crate) fn matches(&self, operation: &Operation<'_>) -> bool {
        Dimension::SOONEST
            .iter()
            .all(|dimension| self.agrees(*dimension, operation, self.reach))
    }

    /// Every dimension in which it does not, lazily.
    pub(crate) fn mismatches(&self, operation: &Operation<'_>) -> impl Iterator<Item = Dimension> {
        Dimension::ALL
            .into_iter()
            .filter(move |dimension| !self.agrees(*dimension, operation, self.reach))
    }

    /// Dimensions in which the request is only partly inside a rule that matched: what to narrow.
    pub(crate) fn partly(&self, operation: &Operation<'_>) -> impl Iterator<Item = Dimension> {
        Dimension::ALL
            .into_iter()
            .filter(move |dimension| !self.agrees(*dimension, operation, Reach::Covers))
    }

    fn agrees(&self, dimension: Dimension, operation: &Operation<'_>, reach: Reach) -> bool {
        match (&self.scope, &operation.target) {
            (RuleScope::Resources(scope), Target::Resource(target)) => match dimension {
                Dimension::Verb => self.verb_agrees(operation, reach),
                Dimension::Group => group_agrees(&scope.groups, target, reach),
                Dimension::Resource => scope
                    .resources
                    .iter()
                    .any(|it| resource_agrees(it, target, reach)),
                Dimension::Namespace => namespace_agrees(&scope.namespaces, target, reach),
                Dimension::Name => extent_agrees(&scope.resource_names, target.name, reach),
                Dimension::Kind | Dimension::Path => true,
            },
            (RuleScope::Paths(patterns), Target::Path(path)) => match dimension {
                Dimension::Verb => self.verbs.contains(operation.verb),
                Dimension::Path => patterns.iter().any(|pattern| path_agrees(pattern, path)),
                Dimension::Kind
                | Dimension::Group
                | Dimension::Resource
                | Dimension::Namespace
                | Dimension::Name => true,
            },
            (RuleScope::Resources(_), Target::Path(_)) | (RuleScope::Paths(_), Target::Resource(_)) => {
                dimension != Dimension::Kind
            }
        }
    }

    fn verb_agrees(&self, operation: &Operation<'_>, reach: Reach) -> bool {
        match reach {
            Reach::Covers => self.verbs.contains(operation.verb),
            Reach::Touches => self.actions.intersects(operation.actions),
        }
    }
}

impl ResourceScope {
    /// Resources that requests must be about to match; `None` when any may.
    pub(crate) fn resource_keys(&self) -> Option<impl Iterator<Item = &str>> {
        let keyed = self.resources.iter().all(|pattern| pattern.resource.is_some());
        keyed.then(|| {
            self.resources
                .iter()
                .filter_map(|pattern| pattern.resource.as_deref())
        })
    }
}

fn group_agrees(groups: &Names, target: &ResourceTarget<'_>, reach: Reach) -> bool {
    groups_within(target, reach).any(|group| groups.contains(group))
}

/// The groups in which a rule may have the objects: Events are the same in the core group and in `events.k8s.io`.
pub(crate) fn groups_within<'a>(target: &ResourceTarget<'a>, reach: Reach) -> impl Iterator<Item = &'a str> {
    let twin = match (reach, target.group, target.resource) {
        (Reach::Touches, "", "events") => Some("events.k8s.io"),
        (Reach::Touches, "events.k8s.io", "events") => Some(""),
        (Reach::Covers | Reach::Touches, _, _) => None,
    };
    [Some(target.group), twin].into_iter().flatten()
}

/// Subresources show and change the object they belong to, so a rule that restricts the object restricts them.
fn resource_agrees(pattern: &ResourcePattern, target: &ResourceTarget<'_>, reach: Reach) -> bool {
    let part = match (&pattern.part, reach) {
        (Part::Object, Reach::Covers) => target.subresource.is_empty(),
        (Part::Object, Reach::Touches) => true,
        (Part::Named(subresource), Reach::Covers | Reach::Touches) => **subresource == *target.subresource,
        (Part::Every, Reach::Covers | Reach::Touches) => !target.subresource.is_empty(),
    };
    part && pattern
        .resource
        .as_deref()
        .is_none_or(|resource| resource == target.resource)
}

fn extent_agrees(names: &Names, extent: Extent<'_>, reach: Reach) -> bool {
    match (extent, names) {
        (Extent::Nothing | Extent::One(_) | Extent::Many, Names::Any) => true,
        (Extent::Nothing, Names::Only(_)) => false,
        (Extent::One(name), Names::Only(_)) => names.contains(name),
        (Extent::Many, Names::Only(_)) => reach == Reach::Touches,
    }
}

/// A selector is about objects in namespaces; what is not known of a namespace's labels does not help to allow.
fn namespace_agrees(namespaces: &NamespaceScope, target: &ResourceTarget<'_>, reach: Reach) -> bool {
    let selector = match namespaces {
        NamespaceScope::Named(names) => return extent_agrees(names, target.namespace, reach),
        NamespaceScope::Selected(selector) => selector,
    };
    let selected = match (target.namespace, target.namespace_labels) {
        (Extent::Nothing, _) => Known::No,
        (Extent::One(_), Some(labels)) => Known::of(selector.selects(labels)),
        (Extent::One(_), None) | (Extent::Many, _) => Known::Unknown,
    };
    selected.suffices(reach)
}

fn path_agrees(pattern: &PathPattern, path: &str) -> bool {
    match pattern {
        PathPattern::Exact(exact) => **exact == *path,
        PathPattern::Prefix(prefix) => path.starts_with(&**prefix),
    }
}
