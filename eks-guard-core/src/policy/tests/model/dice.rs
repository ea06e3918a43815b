//! Rules and policies at random, the same in every run.

use crate::policy::document::Effect;
use crate::policy::operation::RESOURCE_VERBS;
use crate::policy::tests::model::{Frame, Sketch, Whom};
use crate::request_info::Verb;

/// Numbers that look random and are the same in every run.
pub(in crate::policy) struct Dice(pub(in crate::policy) u64);

impl Dice {
    pub(in crate::policy) fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }

    pub(in crate::policy) fn pick<T: Clone>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())].clone()
    }

    fn some_verbs(&mut self) -> Vec<Verb> {
        let verbs = RESOURCE_VERBS.into_iter().filter(|verb| *verb != Verb::Connect);
        let verbs: Vec<Verb> = verbs.filter(|_| self.below(3) == 0).collect();
        if verbs.is_empty() { vec![Verb::Get] } else { verbs }
    }

    pub(super) fn frame(&mut self, number: usize) -> Frame {
        Frame {
            name: format!("p{number}"),
            whom: self.pick(&Whom::ALL),
            observes: self.below(4) == 0,
            needs_grant: self.below(4) == 0,
        }
    }

    pub(super) fn rule(&mut self, number: usize, policies: &[Frame]) -> Sketch {
        let sets = [None, None, Some(vec!["a"]), Some(vec!["b"]), Some(vec!["a", "b"])];
        let subresources = self.pick(&[
            None,
            None,
            None,
            Some(vec!["status"]),
            Some(vec!["eviction", "log"]),
            Some(vec!["*"]),
        ]);
        let slashes: [&[&str]; 8] = [
            &["*"],
            &["pods"],
            &["pods", "pods/status"],
            &["*/*", "namespaces"],
            &["nodes", "widgets"],
            &["deployments/*", "pods/eviction"],
            &["*/status"],
            &["namespaces", "deployments", "widgets"],
        ];
        let plain: [&[&str]; 4] = [
            &["*"],
            &["pods"],
            &["nodes", "widgets", "pods"],
            &["namespaces", "deployments"],
        ];
        let resources = if subresources.is_some() {
            self.pick(&plain)
        } else {
            self.pick(&slashes)
        };
        let effects = [
            Effect::Allow,
            Effect::Allow,
            Effect::Deny,
            Effect::RequireApproval,
            Effect::Mask,
        ];
        let effect = self.pick(&effects);
        Sketch {
            name: format!("r{number}"),
            effect,
            verbs: self.some_verbs(),
            groups: self.pick(&[
                None,
                None,
                Some(vec!["", "apps", "example.com"]),
                Some(vec!["example.com"]),
            ]),
            resources: resources.to_vec(),
            subresources,
            namespaces: self.pick(&sets),
            is_selected: self.below(4) == 0,
            names: self.pick(&sets),
            in_clear: effect == Effect::Allow && self.below(2) == 0,
            policy: self.pick(policies),
        }
    }

    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            let other = self.below(end + 1);
            items.swap(end, other);
        }
    }
}
