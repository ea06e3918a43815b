//! Label selectors in a document: every requirement checked as the API server checks it.

use crate::policy::document::check::Checker;
use crate::policy::document::wire::{Requirement as WireRequirement, Selector};
use crate::policy::selector::{LabelSelector, Operator, Requirement};
use crate::yaml::At;

/// Most labels of one selector, and most requirements.
pub(super) const MAX_REQUIREMENTS: usize = 32;
/// Longest name or value of a label.
const MAX_LABEL: usize = 63;

impl Checker<'_> {
    pub(super) fn selector(&mut self, selector: &At<Selector>) -> Option<LabelSelector> {
        let labels = &selector.value.match_labels;
        let expressions = selector.value.match_expressions.as_ref();
        let longest = labels.len().max(expressions.map_or(0, |list| list.value.len()));
        if longest > MAX_REQUIREMENTS {
            let message =
                format!("the selector has more than {MAX_REQUIREMENTS} requirements; split the policy");
            return self.fail(selector.referenced, message);
        }
        let mut requirements: Vec<Option<Requirement>> = labels
            .iter()
            .map(|(key, value)| {
                let key = self.label_key(key, value);
                let value = self.label_value(value);
                Some(Requirement {
                    key: key?,
                    operator: Operator::In([value?].into()),
                })
            })
            .collect();
        if let Some(expressions) = expressions {
            for expression in self.list(expressions, "matchExpressions")? {
                requirements.push(self.requirement(expression));
            }
        }
        if requirements.is_empty() {
            return self.fail(
                selector.referenced,
                "the selector is empty, which would select everything; write `matchLabels: {team: web}`",
            );
        }
        requirements.into_iter().collect::<Option<_>>().map(LabelSelector)
    }

    fn requirement(&mut self, expression: &At<WireRequirement>) -> Option<Requirement> {
        let at = expression.referenced;
        let key = match &expression.value.key {
            None => self.missing(at, "key", "key: team"),
            Some(key) => self.label_key(&key.value, key),
        };
        let operator = match &expression.value.operator {
            None => self.missing(at, "operator", "operator: In"),
            Some(operator) => self.operator(operator, expression),
        };
        Some(Requirement {
            key: key?,
            operator: operator?,
        })
    }

    fn operator(&mut self, operator: &At<String>, expression: &At<WireRequirement>) -> Option<Operator> {
        let values = &expression.value.values;
        match (operator.value.as_str(), values) {
            ("Exists", None) => Some(Operator::Exists),
            ("DoesNotExist", None) => Some(Operator::DoesNotExist),
            ("Exists" | "DoesNotExist", Some(values)) => self.fail(
                values.referenced,
                format!("`{}` takes no values; remove them", operator.value),
            ),
            ("In" | "NotIn", None) => self.missing(expression.referenced, "values", "values: [web]"),
            ("In", Some(_)) => self.values(expression).map(Operator::In),
            ("NotIn", Some(_)) => self.values(expression).map(Operator::NotIn),
            (_, _) => self.unknown_word(operator, "operator", &["In", "NotIn", "Exists", "DoesNotExist"]),
        }
    }

    fn values(&mut self, expression: &At<WireRequirement>) -> Option<Box<[Box<str>]>> {
        let values = self.list(expression.value.values.as_ref()?, "values")?;
        let found: Vec<Option<Box<str>>> = values.iter().map(|value| self.label_value(value)).collect();
        found.into_iter().collect()
    }

    /// `name` or `prefix/name`; `at` is what stands nearest to it.
    fn label_key(&mut self, key: &str, at: &At<String>) -> Option<Box<str>> {
        let (prefix, name) = key
            .split_once('/')
            .map_or((None, key), |(prefix, name)| (Some(prefix), name));
        let prefix_is_good = prefix.is_none_or(|prefix| {
            let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
            (1..=253).contains(&prefix.len()) && prefix.chars().all(inside)
        });
        if prefix_is_good && !name.is_empty() && is_label_text(name) {
            return Some(key.into());
        }
        self.fail(at.referenced, format!("{key:?} is not the key of a label"))
    }

    fn label_value(&mut self, value: &At<String>) -> Option<Box<str>> {
        if is_label_text(&value.value) {
            return Some(value.value.as_str().into());
        }
        let text = &value.value;
        self.fail(
            value.referenced,
            format!("{text:?} is not the value of a label; values are exact, patterns are not read"),
        )
    }
}

fn is_label_text(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    let inside = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    text.len() <= MAX_LABEL
        && text.chars().all(inside)
        && edge(text.chars().next())
        && edge(text.chars().next_back())
}
