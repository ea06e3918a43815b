//! One rule: what it says, and the mistakes that would make it say something else than was meant.

use std::collections::HashSet;

use serde_saphyr::Location;

use crate::policy::condition::{Condition, Schema};
use crate::policy::document::check::{Checker, dns_label};
use crate::policy::document::wire::{Condition as WireCondition, Rule as WireRule};
use crate::policy::document::{
    Effect, Masking, Names, NamespaceScope, Part, PathPattern, ResourcePattern, ResourceScope, Rule,
    RuleScope, objects, resources,
};
use crate::policy::operation::{PATH_VERBS, RESOURCE_VERBS, STREAMS, VerbSet};
use crate::request_info::Verb;
use crate::yaml::{At, Field, nearest};

/// The most conditions of one rule.
pub(super) const MAX_CONDITIONS: usize = 16;
/// The most verbs of one rule; there are fewer.
pub(super) const MAX_VERBS: usize = 16;
/// The longest path.
pub(super) const MAX_PATH: usize = 1_024;

impl Checker<'_> {
    pub(super) fn rule(&mut self, rule: &At<WireRule>) -> Option<Rule> {
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
        let verbs = self.verbs(rule, effect, scope.as_ref());
        let masking = self.masking(&rule.value.masking, effect);
        let schema = match (effect, &scope) {
            (Some(effect), Some(scope)) => objects::schema(effect, scope),
            (None, _) | (_, None) => Schema::default(),
        };
        let conditions = self.conditions(&rule.value.conditions, &schema);
        Some(Rule {
            name: name?,
            effect: effect?,
            verbs: verbs?,
            scope: scope?,
            masking: masking?,
            conditions: conditions?,
            origin: self.origin(at),
        })
    }

    fn effect(&mut self, rule: &At<WireRule>) -> Option<Effect> {
        let known = Effect::ALL.map(Effect::as_str);
        let Some(effect) = &rule.value.effect else {
            return self.missing(rule.referenced, "effect", "effect: allow");
        };
        let found = Effect::ALL.into_iter().find(|it| it.as_str() == effect.value);
        found.or_else(|| self.unknown_word(effect, "effect", &known))
    }

    fn verbs(
        &mut self,
        rule: &At<WireRule>,
        effect: Option<Effect>,
        scope: Option<&RuleScope>,
    ) -> Option<VerbSet> {
        let verbs = self.required_list(
            &rule.value.verbs,
            rule.referenced,
            "verbs",
            "verbs: [get, list, watch]",
        )?;
        if verbs.len() > MAX_VERBS {
            let at = rule
                .value
                .verbs
                .as_ref()
                .map_or(rule.referenced, |verbs| verbs.referenced);
            return self.fail(
                at,
                format!("`verbs` has more than {MAX_VERBS} entries; list each verb once"),
            );
        }
        let known: &[Verb] = match scope {
            None | Some(RuleScope::Resources(_)) => &RESOURCE_VERBS,
            Some(RuleScope::Paths(_)) => &PATH_VERBS,
        };
        if self.is_star(verbs)? {
            return Some(match effect {
                Some(Effect::Allow) => VerbSet::ALL_BUT_CONNECT,
                Some(Effect::Deny | Effect::RequireApproval | Effect::Mask) | None => VerbSet::ALL,
            });
        }
        if let (Some(Effect::Allow), Some(RuleScope::Resources(scope))) = (effect, scope) {
            self.streams_are_named(verbs, scope);
        }
        let found: Vec<Option<Verb>> = verbs.iter().map(|verb| self.verb(verb, known)).collect();
        found.into_iter().collect::<Option<Vec<Verb>>>().map(VerbSet::of)
    }

    /// Streams are subresources: a rule that allows `connect` to objects only would never match.
    fn streams_are_named(&mut self, verbs: &[At<String>], scope: &ResourceScope) {
        let Some(connect) = verbs.iter().find(|verb| verb.value == Verb::Connect.as_str()) else {
            return;
        };
        let is_stream = |pattern: &ResourcePattern| match &pattern.part {
            Part::Object => false,
            Part::Named(part) => STREAMS.contains(&&**part),
            Part::Every => true,
        };
        if !scope.resources.iter().any(is_stream) {
            self.fail::<()>(
                connect.referenced,
                "`connect` is about streams, and no resource of the rule is one; write `resources: [pods/exec]`",
            );
        }
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
            "exec" | "attach" | "portforward" | "proxy" => {
                format!("; write `connect`, and `pods/{}` in resources", text.value)
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
                let selector = rule.namespace_selector.as_ref().map(|it| it.referenced);
                for at in fields
                    .into_iter()
                    .flatten()
                    .map(|it| it.referenced)
                    .chain(selector)
                {
                    self.fail::<()>(
                        at,
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
                let namespaces = match (&rule.namespaces, &rule.namespace_selector) {
                    (Some(_), Some(selector)) => self.fail(
                        selector.referenced,
                        "a rule has either `namespaces` or `namespaceSelector`; make two rules of it",
                    ),
                    (Some(namespaces), None) => self.namespaces(namespaces).map(NamespaceScope::Named),
                    (None, Some(selector)) => self.selector(selector).map(NamespaceScope::Selected),
                    (None, None) => resources::everywhere(self, effect, listed, groups.as_ref())
                        .map(NamespaceScope::Named),
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

    fn masking(&mut self, field: &Field<String>, effect: Option<Effect>) -> Option<Masking> {
        let masking = self.word(field, "masking", &[("None", Masking::None)])?;
        match (field, effect) {
            (Some(text), Some(Effect::Deny | Effect::RequireApproval | Effect::Mask)) => self.fail(
                text.referenced,
                "`masking` belongs to rules with `effect: allow`; remove it here",
            ),
            (Some(_) | None, Some(Effect::Allow) | None) | (None, Some(_)) => Some(masking),
        }
    }

    fn conditions(
        &mut self,
        conditions: &Field<Vec<At<WireCondition>>>,
        schema: &Schema,
    ) -> Option<Box<[Condition]>> {
        let Some(conditions) = conditions else {
            return Some(Box::default());
        };
        let list = self.list(conditions, "conditions")?;
        if list.len() > MAX_CONDITIONS {
            let message = format!("a rule has at most {MAX_CONDITIONS} conditions");
            return self.fail(conditions.referenced, message);
        }
        let mut names = HashSet::new();
        let mut compiled = Vec::new();
        for condition in list {
            let name = match &condition.value.name {
                None => self.missing(condition.referenced, "name", "name: what-it-checks"),
                Some(name) if !names.insert(name.value.as_str()) => self.fail(
                    name.referenced,
                    format!("another condition is called {:?}", name.value),
                ),
                Some(name) => self.label(name),
            };
            compiled.push(self.condition(condition, name, schema));
        }
        compiled.into_iter().collect()
    }

    fn condition(
        &mut self,
        condition: &At<WireCondition>,
        name: Option<String>,
        schema: &Schema,
    ) -> Option<Condition> {
        let Some(expression) = &condition.value.expression else {
            let example = "expression: object.spec.replicas <= 10";
            return self.missing(condition.referenced, "expression", example);
        };
        let compiled = Condition::compile(name.as_deref().unwrap_or_default(), &expression.value, schema);
        match compiled {
            Ok(compiled) => name.is_some().then_some(compiled),
            Err(error) => self.fail(expression.referenced, format!("expression: {error}")),
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
        let is_long = url.value.chars().count() > MAX_PATH;
        let rooted = body.starts_with('/') || (prefix && body.is_empty());
        if is_long {
            let message =
                format!("the path is longer than {MAX_PATH} characters; write a beginning followed by `*`");
            return self.fail(url.referenced, message);
        }
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
}
