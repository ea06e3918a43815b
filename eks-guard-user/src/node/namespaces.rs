//! The labels of the cluster's namespaces, by which rules with `namespaceSelector` match. Of a namespace that the API server
//! has not told of, or that there is no room for, nothing is known.

use std::collections::{BTreeMap, BTreeSet};

use eks_guard_core::principal::Labels;

use crate::node::kube::{Change, Metadata, Namespace};

/// Bytes of all names and labels together: what a proxy can be told in one message is four times that.
const MAX_BYTES: usize = 16 << 20;
/// What a name or a label takes beside its own length.
const OVERHEAD: usize = 8;

/// What is known now.
#[derive(Debug, Default)]
pub(crate) struct NamespaceLabels {
    known: BTreeMap<String, Labels>,
    bytes: usize,
    /// Those that there was no room for.
    left_out: BTreeSet<String>,
    is_changed: bool,
}

impl NamespaceLabels {
    /// The API server tells of namespaces.
    pub(crate) fn take(&mut self, change: Change<Namespace>) {
        match change {
            Change::Listed(all) => {
                let before = std::mem::take(self);
                all.into_iter().for_each(|namespace| self.set(namespace.metadata));
                self.is_changed = before.is_changed || before.known != self.known;
            }
            Change::Set(namespace) => self.set(namespace.metadata),
            Change::Gone(namespace) => self.is_changed |= self.remove(&namespace.metadata.name).is_some(),
        }
    }

    /// What is known, if that is something else than was taken last.
    pub(crate) fn take_changed(&mut self) -> Option<BTreeMap<String, Labels>> {
        std::mem::take(&mut self.is_changed).then(|| self.known.clone())
    }

    /// What is wrong.
    pub(crate) fn problem(&self) -> Option<String> {
        (!self.left_out.is_empty()).then(|| {
            let count = self.left_out.len();
            format!("the labels of {count} namespaces are too many: no rule with namespaceSelector allows anything there")
        })
    }

    fn set(&mut self, metadata: Metadata) {
        let Metadata { name, labels, .. } = metadata;
        let old = self.remove(&name);
        let bytes = size(&name, &labels);
        if self.bytes + bytes > MAX_BYTES {
            self.left_out.insert(name);
            self.is_changed |= old.is_some();
            return;
        }
        self.is_changed |= old.as_ref() != Some(&labels);
        self.bytes += bytes;
        self.known.insert(name, labels);
    }

    fn remove(&mut self, name: &str) -> Option<Labels> {
        self.left_out.remove(name);
        let old = self.known.remove(name)?;
        self.bytes -= size(name, &old);
        Some(old)
    }
}

fn size(name: &str, labels: &Labels) -> usize {
    let labels: usize = labels
        .iter()
        .map(|(key, value)| key.len() + value.len() + OVERHEAD)
        .sum();
    name.len() + labels + OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(name: &str, label: &str) -> Namespace {
        Namespace {
            metadata: Metadata {
                name: name.to_owned(),
                labels: Labels::from([("env".to_owned(), label.to_owned())]),
                ..Metadata::default()
            },
        }
    }

    #[test]
    fn labels_are_known_as_they_are_told_and_only_changes_count() {
        let mut labels = NamespaceLabels::default();
        assert_eq!(labels.take_changed(), None);
        labels.take(Change::Listed(vec![namespace("a", "dev"), namespace("b", "dev")]));
        assert_eq!(labels.take_changed().unwrap().len(), 2);
        labels.take(Change::Set(namespace("a", "dev")));
        labels.take(Change::Listed(vec![namespace("b", "dev"), namespace("a", "dev")]));
        assert_eq!(labels.take_changed(), None);
        labels.take(Change::Set(namespace("a", "prod")));
        assert_eq!(labels.take_changed().unwrap()["a"]["env"], "prod");
        labels.take(Change::Gone(namespace("a", "prod")));
        labels.take(Change::Gone(namespace("a", "prod")));
        assert_eq!(labels.take_changed().unwrap().len(), 1);
        labels.take(Change::Listed(Vec::new()));
        assert_eq!(labels.take_changed(), Some(BTreeMap::new()));
        assert_eq!(labels.bytes, 0);
    }

    #[test]
    fn what_there_is_no_room_for_is_not_known() {
        let mut labels = NamespaceLabels::default();
        labels.take(Change::Set(namespace("a", "dev")));
        labels.take(Change::Set(namespace("b", &"x".repeat(MAX_BYTES))));
        let known = labels.take_changed().unwrap();
        assert_eq!(known.keys().collect::<Vec<_>>(), ["a"]);
        assert!(labels.problem().unwrap().contains("of 1 namespaces"));
        // One that has become too large is not known by its old labels.
        labels.take(Change::Set(namespace("a", &"x".repeat(MAX_BYTES))));
        assert_eq!(labels.take_changed(), Some(BTreeMap::new()));
        labels.take(Change::Listed(vec![namespace("a", "dev")]));
        assert_eq!(
            (labels.take_changed().unwrap().len(), labels.problem()),
            (1, None)
        );
    }
}
