//! The `subjects` of a document: whom it is about.

use crate::policy::document::Names;
use crate::policy::document::check::{Checker, dns_label};
use crate::policy::document::wire::{Claim as WireClaim, Subjects as Wire};
use crate::policy::subjects::{Claim, Subjects};
use crate::yaml::{At, Field};

/// Longest group, name or value of a claim.
pub(super) const MAX_TEXT: usize = 1_024;

type List = Field<Vec<At<String>>>;

impl Checker<'_> {
    pub(super) fn subjects(&mut self, subjects: &At<Wire>) -> Option<Subjects> {
        let wire = &subjects.value;
        let pod_selector = wire.pod_selector.as_ref().map(|it| self.selector(it));
        let namespaces = self.some_names(&wire.namespaces, "namespaces", namespace);
        let service_accounts = self.some_names(&wire.service_accounts, "serviceAccounts", account);
        let containers = self.some_names(&wire.containers, "containers", namespace);
        let groups = self.some_names(&wire.groups, "groups", plain_text);
        let claims = wire.claims.as_ref().map(|claims| self.claims(claims));
        let agents = self.some_names(&wire.agents, "agents", agent);
        let is_restricted = pod_selector.is_some()
            || namespaces.is_some()
            || service_accounts.is_some()
            || containers.is_some()
            || groups.is_some()
            || claims.is_some();
        let agents = match agents {
            Some(agents) => agents,
            None if is_restricted => Some(Names::Any),
            None => self.missing(subjects.referenced, "agents", "agents: [my-agent]"),
        };
        Some(Subjects {
            agents: agents?,
            pod_selector: all(pod_selector)?,
            namespaces: all(namespaces)?,
            service_accounts: all(service_accounts)?,
            containers: all(containers)?,
            groups: all(groups)?,
            claims: claims.unwrap_or_else(|| Some(Box::default()))?,
        })
    }

    /// The inner `None` is a mistake that was noted.
    #[allow(
        clippy::option_option,
        reason = "outside: the field is left out; inside: a mistake was noted"
    )]
    fn some_names(
        &mut self,
        field: &List,
        what: &str,
        check: impl Fn(&str) -> Result<(), &'static str>,
    ) -> Option<Option<Names>> {
        let list = field.as_ref()?;
        let names = self.list(list, what);
        let one = what.strip_suffix('s').unwrap_or(what);
        Some(names.and_then(|names| self.names(names, one, check)))
    }

    fn claims(&mut self, claims: &At<Vec<At<WireClaim>>>) -> Option<Box<[Claim]>> {
        let claims = self.list(claims, "claims")?;
        let found: Vec<Option<Claim>> = claims.iter().map(|claim| self.claim(claim)).collect();
        found.into_iter().collect()
    }

    fn claim(&mut self, claim: &At<WireClaim>) -> Option<Claim> {
        let at = claim.referenced;
        let name = match &claim.value.name {
            None => self.missing(at, "name", "name: team"),
            Some(name) if plain_text(&name.value).is_ok() => Some(name.value.as_str().into()),
            Some(name) => self.fail(
                name.referenced,
                "the name of a claim is text without control characters",
            ),
        };
        let values = self
            .required_list(&claim.value.values, at, "values", "values: [web]")
            .and_then(|values| self.names(values, "value", plain_text));
        Some(Claim {
            name: name?,
            values: values?,
        })
    }
}

/// Turns "left out, or checked, or wrong" around: the outer `None` is a mistake.
#[allow(
    clippy::option_option,
    reason = "outside: a mistake was noted; inside: the field is left out"
)]
fn all<T>(field: Option<Option<T>>) -> Option<Option<T>> {
    match field {
        None => Some(None),
        Some(checked) => checked.map(Some),
    }
}

fn agent(name: &str) -> Result<(), &'static str> {
    let inside = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    (name.len() <= 253 && begins && name.chars().all(inside))
        .then_some(())
        .ok_or("letters, digits, `-`, `_` and `.`, at most 253, beginning with a letter or digit")
}

fn namespace(name: &str) -> Result<(), &'static str> {
    dns_label(name)
        .then_some(())
        .ok_or("exact: lower-case letters, digits and `-`; patterns are not read")
}

fn account(name: &str) -> Result<(), &'static str> {
    let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
    let good = |(namespace, account): (&str, &str)| {
        dns_label(namespace) && (1..=253).contains(&account.len()) && account.chars().all(inside)
    };
    name.split_once('/')
        .is_some_and(good)
        .then_some(())
        .ok_or("written `namespace/name`")
}

fn plain_text(text: &str) -> Result<(), &'static str> {
    let good = (1..=MAX_TEXT).contains(&text.len()) && !text.chars().any(char::is_control);
    good.then_some(()).ok_or("exact text without control characters")
}
