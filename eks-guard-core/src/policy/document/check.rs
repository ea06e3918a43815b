//! From the YAML shape to a policy: every value checked, every mistake collected.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_saphyr::Location;

use crate::policy::document::wire::{Document, Rule as WireRule, Spec};
use crate::policy::document::{
    AgentPolicy, Effect, Names, PathPattern, ResourceScope, Rule, RuleScope, resources,
};
use crate::policy::operation::{PATH_VERBS, RESOURCE_VERBS, VerbSet};
use crate::request_info::Verb;
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
    let (agents, rules) = match &document.value.spec {
        None => (checker.missing(at, "spec", "spec: {subjects: …, rules: …}"), None),
        Some(spec) => (checker.agents(spec), checker.rules(spec)),
    };
    match (name, agents, rules) {
        (Some(name), Some(agents), Some(rules)) if checker.errors.is_empty() => Ok(AgentPolicy {
            name,
            agents,
            rules,
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

    fn missing<T>(&mut self, at: Location, field: &str, example: &str) -> Option<T> {
        self.fail(at, format!("`{field}` is missing; write `{example}`"))
    }

    fn agents(&mut self, spec: &At<Spec>) -> Option<Names> {
        const EXAMPLE: &str = "agents: [my-agent]";
        let Some(subjects) = &spec.value.subjects else {
            return self.missing(spec.referenced, "subjects", &format!("subjects: {{{EXAMPLE}}}"));
        };
        let agents = self.required_list(&subjects.value.agents, subjects.referenced, "agents", EXAMPLE)?;
        self.names(agents, "agent", |name| {
            let inside = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            (name.len() <= 253
                && name.starts_with(|c: char| c.is_ascii_alphanumeric())
                && name.chars().all(inside))
            .then_some(())
            .ok_or("letters, digits, `-`, `_` and `.`, at most 253, beginning with a letter or digit")
        })
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

    fn rule(&mut self, rule: &At<WireRule>) -> Option<Rule> {
        let at = rule.referenced;
        let name = match &rule.value.name {
            None => self.missing(at, "name", "name: what-it-is-for"),
            Some(name) => self.label(name),
        };
        let effect = self.effect(rule);
        let scope = match effect {
            None => None,
            Some(effect) => self.scope(&rule.value, effect, at),
        };
        let verbs = self.verbs(rule, scope.as_ref());
        Some(Rule {
            name: name?,
            effect: effect?,
            verbs: verbs?,
            scope: scope?,
            origin: Origin::at(self.file, at),
        })
    }

    fn effect(&mut self, rule: &At<WireRule>) -> Option<Effect> {
        let known = Effect::ALL.map(Effect::as_str);
        let Some(effect) = &rule.value.effect else {
            return self.missing(rule.referenced, "effect", "effect: allow");
        };
        let found = Effect::ALL.into_iter().find(|it| it.as_str() == effect.value);
        found.or_else(|| {
            let hint = nearest(&effect.value, &known)
                .map(|it| format!("; did you mean `{it}`?"))
                .unwrap_or_default();
            let known = known.join(", ");
            self.fail(
                effect.referenced,
                format!("unknown effect {:?}{hint} (known: {known})", effect.value),
            )
        })
    }

    fn verbs(&mut self, rule: &At<WireRule>, scope: Option<&RuleScope>) -> Option<VerbSet> {
        let verbs = self.required_list(
            &rule.value.verbs,
            rule.referenced,
            "verbs",
            "verbs: [get, list, watch]",
        )?;
        let known: &[Verb] = match scope {
            None | Some(RuleScope::Resources(_)) => &RESOURCE_VERBS,
            Some(RuleScope::Paths(_)) => &PATH_VERBS,
        };
        if self.is_star(verbs)? {
            return Some(VerbSet::ALL);
        }
        let found: Vec<Option<Verb>> = verbs.iter().map(|verb| self.verb(verb, known)).collect();
        found.into_iter().collect::<Option<Vec<Verb>>>().map(VerbSet::of)
    }

    fn verb(&mut self, text: &At<String>, known: &[Verb]) -> Option<Verb> {
        if let Some(verb) = known.iter().find(|verb| verb.as_str() == text.value) {
            return Some(*verb);
        }
        let names: Vec<&str> = known.iter().map(|verb| verb.as_str()).collect();
        let hint = match text.value.as_str() {
            "read" => "; write `get, list, watch`".to_owned(),
            "write" => "; write `create, update, patch, delete`".to_owned(),
            "apply" | "edit" => "; write `create, patch`".to_owned(),
            "exec" | "attach" | "connect" => {
                "; streams into pods cannot be allowed in this version".to_owned()
            }
            other => nearest(other, &names)
                .map(|it| format!("; did you mean `{it}`?"))
                .unwrap_or_default(),
        };
        let names = names.join(", ");
        self.fail(
            text.referenced,
            format!("unknown verb {:?}{hint} (known: {names})", text.value),
        )
    }

    fn scope(&mut self, rule: &WireRule, effect: Effect, at: Location) -> Option<RuleScope> {
        match (&rule.non_resource_urls, &rule.resources) {
            (Some(urls), Some(_)) => self.fail(
                urls.referenced,
                "a rule has either `resources` or `nonResourceURLs`; make two rules of it",
            ),
            (None, None) => self.missing(at, "resources", "resources: [pods]"),
            (Some(urls), None) => {
                let fields = [
                    &rule.api_groups,
                    &rule.subresources,
                    &rule.namespaces,
                    &rule.resource_names,
                ];
                for field in fields.into_iter().flatten() {
                    self.fail::<()>(
                        field.referenced,
                        "a rule on nonResourceURLs has no apiGroups, subresources, namespaces or resourceNames",
                    );
                }
                self.paths(urls).map(RuleScope::Paths)
            }
            (None, Some(listed)) => {
                let groups = self.groups(rule, at);
                let patterns = resources::patterns(self, listed, &rule.subresources, groups.as_ref());
                let names = rule.resource_names.as_ref().map(|names| self.object_names(names));
                let names = names.unwrap_or(Some(Names::Any));
                let namespaces = match &rule.namespaces {
                    Some(namespaces) => self.namespaces(namespaces),
                    None => resources::everywhere(self, effect, listed, groups.as_ref()),
                };
                Some(RuleScope::Resources(ResourceScope {
                    groups: groups?,
                    resources: patterns?,
                    namespaces: namespaces?,
                    resource_names: names?,
                }))
            }
        }
    }

    fn groups(&mut self, rule: &WireRule, at: Location) -> Option<Names> {
        let groups = self.required_list(
            &rule.api_groups,
            at,
            "apiGroups",
            "apiGroups: [\"\"]` for the core group, `[apps]",
        )?;
        self.names(groups, "apiGroup", |group| {
            let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
            if group.contains('/') {
                return Err("without a version, `apps` instead of `apps/v1`");
            }
            if group == "core" {
                return Err("written \"\" for the core group");
            }
            (group.len() <= 253 && group.chars().all(inside))
                .then_some(())
                .ok_or("a lower-case DNS name, or \"\"")
        })
    }

    fn namespaces(&mut self, namespaces: &At<Vec<At<String>>>) -> Option<Names> {
        let namespaces = self.list(namespaces, "namespaces")?;
        self.names(namespaces, "namespace", |name| {
            dns_label(name)
                .then_some(())
                .ok_or("exact: lower-case letters, digits and `-`; patterns are not read")
        })
    }

    fn object_names(&mut self, names: &At<Vec<At<String>>>) -> Option<Names> {
        let names = self.list(names, "resourceNames")?;
        if let Some(star) = names.iter().find(|name| name.value.contains('*')) {
            return self.fail(
                star.referenced,
                "resourceNames are exact; leave `resourceNames` out for every name",
            );
        }
        self.names(names, "resourceName", |name| {
            let good = !name.is_empty() && name.len() <= 253 && name != "." && name != "..";
            let inside = |c: char| !c.is_control() && c != '/' && c != '%';
            (good && name.chars().all(inside))
                .then_some(())
                .ok_or("an object's name, without `/` and `%`")
        })
    }

    fn paths(&mut self, urls: &At<Vec<At<String>>>) -> Option<Box<[PathPattern]>> {
        let urls = self.list(urls, "nonResourceURLs")?;
        let found: Vec<Option<PathPattern>> = urls.iter().map(|url| self.path(url)).collect();
        found.into_iter().collect()
    }

    fn path(&mut self, url: &At<String>) -> Option<PathPattern> {
        let (body, prefix) = match url.value.strip_suffix('*') {
            Some(body) => (body, true),
            None => (url.value.as_str(), false),
        };
        let rooted = body.starts_with('/') || (prefix && body.is_empty());
        if !rooted || body.contains('*') || body.contains(|c: char| c.is_control() || c == '?') {
            let text = &url.value;
            return self.fail(
                url.referenced,
                format!("{text:?} is not a path; write `/metrics` or `/logs/*`"),
            );
        }
        Some(if prefix {
            PathPattern::Prefix(body.into())
        } else {
            PathPattern::Exact(body.into())
        })
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

    fn label(&mut self, name: &At<String>) -> Option<String> {
        if dns_label(&name.value) {
            return Some(name.value.clone());
        }
        let text = &name.value;
        self.fail(
            name.referenced,
            format!("rule name {text:?} is not usable; use at most 63 lower-case letters, digits and `-`"),
        )
    }

    /// Names in a list that may be `["*"]`.
    fn names(
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

    fn required_list<'f, T>(
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

fn dns_label(text: &str) -> bool {
    let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&text.len())
        && text.chars().all(inside)
        && !text.starts_with('-')
        && !text.ends_with('-')
}
