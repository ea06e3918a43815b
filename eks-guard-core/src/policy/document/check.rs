//! From the YAML shape to a policy: every value checked, every mistake collected.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_saphyr::Location;

use crate::policy::document::wire::{self, Document, Spec};
use crate::policy::document::{AgentPolicy, JustInTime, Mode, Names, Rule};
use crate::policy::subjects::Subjects;
use crate::yaml::{At, DocumentError, Field, Origin, nearest};

/// Most rules in one policy, and most entries in one list.
pub(super) const MAX_ENTRIES: usize = 1_000;

/// Checks one document.
pub(super) fn check(file: &Arc<str>, document: &At<Document>) -> Result<AgentPolicy, Vec<DocumentError>> {
    let mut checker = Checker {
        file,
        errors: Vec::new(),
    };
    let at = document.referenced;
    let name = match &document.value.metadata {
        None => checker.missing(at, "metadata.name", "metadata: {name: my-policy}"),
        Some(metadata) => match &metadata.value.name {
            None => checker.missing(metadata.referenced, "metadata.name", "name: my-policy"),
            Some(name) => checker.object_name(name),
        },
    };
    let spec = match &document.value.spec {
        None => checker.missing(at, "spec", "spec: {subjects: …, rules: …}"),
        Some(spec) => checker.spec(spec),
    };
    match (name, spec) {
        (Some(name), Some(spec)) if checker.errors.is_empty() => Ok(AgentPolicy {
            name,
            subjects: spec.subjects,
            mode: spec.mode,
            just_in_time: spec.just_in_time,
            rules: spec.rules,
            origin: Origin::at(file, at),
        }),
        _ => {
            // A check that fails without saying why must still fail.
            if checker.errors.is_empty() {
                checker.fail::<()>(at, "the policy cannot be read");
            }
            Err(checker.errors)
        }
    }
}

/// Whom a policy is about, when that much of it can be read.
pub(super) fn check_subjects(file: &Arc<str>, subjects: &Field<wire::Subjects>) -> Option<Subjects> {
    let mut checker = Checker {
        file,
        errors: Vec::new(),
    };
    let subjects = subjects.as_ref()?;
    checker.subjects(subjects).filter(|_| checker.errors.is_empty())
}

/// `spec`, checked.
struct CheckedSpec {
    subjects: Subjects,
    mode: Mode,
    just_in_time: JustInTime,
    rules: Vec<Rule>,
}

/// Collects mistakes. A check that fails notes why and gives `None`.
pub(super) struct Checker<'a> {
    file: &'a Arc<str>,
    errors: Vec<DocumentError>,
}

impl Checker<'_> {
    pub(super) fn fail<T>(&mut self, at: Location, message: impl Into<String>) -> Option<T> {
        self.errors.push(DocumentError {
            origin: Origin::at(self.file, at),
            message: message.into(),
        });
        None
    }

    pub(super) fn origin(&self, at: Location) -> Origin {
        Origin::at(self.file, at)
    }

    pub(super) fn missing<T>(&mut self, at: Location, field: &str, example: &str) -> Option<T> {
        self.fail(at, format!("`{field}` is missing; write `{example}`"))
    }

    fn spec(&mut self, spec: &At<Spec>) -> Option<CheckedSpec> {
        let at = spec.referenced;
        let subjects = match &spec.value.subjects {
            None => self.missing(at, "subjects", "subjects: {agents: [my-agent]}"),
            Some(subjects) => self.subjects(subjects),
        };
        let modes = [("Enforce", Mode::Enforce), ("Observe", Mode::Observe)];
        let mode = self.word(&spec.value.mode, "mode", &modes);
        let just_in_time = [("Never", JustInTime::Never), ("Required", JustInTime::Required)];
        let just_in_time = self.word(&spec.value.just_in_time, "justInTime", &just_in_time);
        let rules = self.rules(spec);
        Some(CheckedSpec {
            subjects: subjects?,
            mode: mode?,
            just_in_time: just_in_time?,
            rules: rules?,
        })
    }

    /// One of a few words; left out, the default.
    pub(super) fn word<T: Copy + Default>(
        &mut self,
        field: &Field<String>,
        what: &str,
        known: &[(&str, T)],
    ) -> Option<T> {
        let Some(text) = field else {
            return Some(T::default());
        };
        let found = known.iter().find(|(word, _)| *word == text.value);
        if let Some((_, value)) = found {
            return Some(*value);
        }
        let words: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
        self.unknown_word(text, what, &words)
    }

    /// A word that is none of the known ones, with the nearest of them.
    pub(super) fn unknown_word<T>(&mut self, text: &At<String>, what: &str, known: &[&str]) -> Option<T> {
        let hint = nearest(&text.value, known)
            .map(|it| format!("; did you mean `{it}`?"))
            .unwrap_or_default();
        let known = known.join(", ");
        let word = &text.value;
        self.fail(
            text.referenced,
            format!("unknown {what} {word:?}{hint} (known: {known})"),
        )
    }

    fn rules(&mut self, spec: &At<Spec>) -> Option<Vec<Rule>> {
        let rules = self.required_list(
            &spec.value.rules,
            spec.referenced,
            "rules",
            "rules: [{name: …, effect: …}]",
        )?;
        let mut names = BTreeSet::new();
        for name in rules.iter().filter_map(|rule| rule.value.name.as_ref()) {
            if !names.insert(name.value.as_str()) {
                self.fail::<()>(
                    name.referenced,
                    format!(
                        "rule name {:?} stands twice in this policy; give each rule its own",
                        name.value
                    ),
                );
            }
        }
        let checked: Vec<Option<Rule>> = rules.iter().map(|rule| self.rule(rule)).collect();
        checked.into_iter().collect()
    }

    fn object_name(&mut self, name: &At<String>) -> Option<String> {
        let labels = name.value.split('.').all(dns_label);
        if labels && name.value.len() <= 253 {
            return Some(name.value.clone());
        }
        let text = &name.value;
        self.fail(
            name.referenced,
            format!("name {text:?} is not a DNS name; use lower-case letters, digits and `-`"),
        )
    }

    pub(super) fn label(&mut self, name: &At<String>) -> Option<String> {
        if dns_label(&name.value) {
            return Some(name.value.clone());
        }
        let text = &name.value;
        self.fail(
            name.referenced,
            format!("name {text:?} is not usable; use at most 63 lower-case letters, digits and `-`"),
        )
    }

    /// Names in a list that may be `["*"]`.
    pub(super) fn names(
        &mut self,
        list: &[At<String>],
        what: &str,
        check: impl Fn(&str) -> Result<(), &'static str>,
    ) -> Option<Names> {
        if self.is_star(list)? {
            return Some(Names::Any);
        }
        let before = self.errors.len();
        for item in list {
            if let Err(wanted) = check(&item.value) {
                self.fail::<()>(
                    item.referenced,
                    format!("{what} {:?} is not usable; it is {wanted}", item.value),
                );
            }
        }
        (self.errors.len() == before).then(|| Names::only(list.iter().map(|item| item.value.as_str())))
    }

    /// Whether the list is `["*"]`; `*` beside other entries is a mistake.
    pub(super) fn is_star(&mut self, list: &[At<String>]) -> Option<bool> {
        match list.iter().find(|item| item.value == "*") {
            None => Some(false),
            Some(_) if list.len() == 1 => Some(true),
            Some(star) => self.fail(
                star.referenced,
                "`*` already is all of them; remove it or the other entries",
            ),
        }
    }

    pub(super) fn required_list<'f, T>(
        &mut self,
        field: &'f Field<Vec<At<T>>>,
        at: Location,
        name: &str,
        example: &str,
    ) -> Option<&'f [At<T>]> {
        match field {
            None => self.missing(at, name, example),
            Some(list) => self.list(list, name),
        }
    }

    pub(super) fn list<'f, T>(&mut self, list: &'f At<Vec<At<T>>>, name: &str) -> Option<&'f [At<T>]> {
        match list.value.len() {
            0 => self.fail(
                list.referenced,
                format!("`{name}` is empty, which would match nothing; list something"),
            ),
            1..=MAX_ENTRIES => Some(&list.value),
            _ => self.fail(
                list.referenced,
                format!("`{name}` has more than {MAX_ENTRIES} entries; split it"),
            ),
        }
    }
}

/// A name as Kubernetes takes it for namespaces.
pub(super) fn dns_label(text: &str) -> bool {
    let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&text.len())
        && text.chars().all(inside)
        && !text.starts_with('-')
        && !text.ends_with('-')
}
