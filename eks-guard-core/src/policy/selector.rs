//! Label selectors, as Kubernetes has them, and what is known of the labels of namespaces.

use std::collections::BTreeMap;

use crate::policy::matching::Reach;
use crate::principal::Labels;

/// What is known about whether something is so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    Yes,
    No,
    Unknown,
}

impl Known {
    pub(crate) const fn of(so: bool) -> Self {
        if so { Self::Yes } else { Self::No }
    }

    /// Both.
    pub(crate) const fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Yes, Self::Yes) => Self::Yes,
            (Self::Unknown, Self::Yes | Self::Unknown) | (Self::Yes, Self::Unknown) => Self::Unknown,
        }
    }

    /// What that comes to for a rule: one that allows needs proof, one that restricts applies unless disproved.
    pub(crate) const fn suffices(self, reach: Reach) -> bool {
        match (self, reach) {
            (Self::Yes, _) | (Self::Unknown, Reach::Touches) => true,
            (Self::No, _) | (Self::Unknown, Reach::Covers) => false,
        }
    }
}

/// Labels that an object must have: all requirements together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LabelSelector(pub(crate) Box<[Requirement]>);

/// One requirement on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Requirement {
    pub(crate) key: Box<str>,
    pub(crate) operator: Operator,
}

/// What the value of a label must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    /// One of these.
    In(Box<[Box<str>]>),
    /// None of these, or there is no such label.
    NotIn(Box<[Box<str>]>),
    /// Anything.
    Exists,
    /// There is no such label.
    DoesNotExist,
}

impl LabelSelector {
    /// Whether an object with these labels is selected.
    pub(crate) fn selects(&self, labels: &Labels) -> bool {
        self.0.iter().all(|requirement| requirement.holds(labels))
    }
}

impl Requirement {
    fn holds(&self, labels: &Labels) -> bool {
        let value = labels.get(&*self.key);
        let is_in = |values: &[Box<str>]| value.is_some_and(|it| values.iter().any(|value| **value == **it));
        match &self.operator {
            Operator::In(values) => is_in(values),
            Operator::NotIn(values) => !is_in(values),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

/// The labels of the namespaces that are known. Of any other nothing is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespaces(BTreeMap<String, Labels>);

impl Namespaces {
    /// The labels of a namespace.
    pub(crate) fn labels(&self, namespace: &str) -> Option<&Labels> {
        self.0.get(namespace)
    }
}

impl FromIterator<(String, Labels)> for Namespaces {
    fn from_iter<I: IntoIterator<Item = (String, Labels)>>(namespaces: I) -> Self {
        Self(namespaces.into_iter().collect())
    }
}
