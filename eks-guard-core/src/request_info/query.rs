//! The query: pairs decoded once, no key twice, allow-listed, normalised, sorted.

use std::borrow::Cow;

use crate::reason::Refusal;
use crate::request_info::allow_list::{AllowList, Key, Kind};
use crate::request_info::class::Class;
use crate::request_info::escape::{self, Place, shown};
use crate::request_info::path::{Route, Target};
use crate::request_info::{Method, Pair, Pairs, labels, malformed, selector, value};

/// Longest query, decoded: selectors and command lines are long, nothing else is.
pub(super) const MAX_QUERY_BYTES: usize = 16 * 1024;

/// Most pairs, dropped ones included.
pub(super) const MAX_QUERY_PAIRS: usize = 128;

/// Most dropped keys that a warning names.
const MAX_NAMED: usize = 8;

/// Most characters of each.
const MAX_NAME_SHOWN: usize = 64;

/// What a query asks for.
#[derive(Debug)]
pub(super) struct Query {
    /// Allow-listed, normalised, sorted by key; values of one key in the order they came.
    pub(super) pairs: Pairs,
    /// The name that the field selector requires, when kube-apiserver would see it as one.
    pub(super) selected_name: Option<String>,
    pub(super) warnings: Vec<String>,
}

impl Query {
    /// Reads a raw query.
    pub(super) fn parse(route: &Route, method: Method, raw: &str) -> Result<Self, Refusal> {
        let mut query = Self {
            pairs: Pairs::new(),
            selected_name: None,
            warnings: Vec::new(),
        };
        if !raw.is_empty() {
            query.read_pairs(&AllowList::of(route, method), raw)?;
        }
        if let Target::LegacyWatch(resource) = &route.target {
            query.rewrite_legacy_watch(resource.name.of(&route.text))?;
        }
        query.read_selectors()?;
        query.pairs.sort_by_key(|(key, _)| *key);
        if query
            .pairs
            .iter()
            .map(|(key, value)| key.len() + value.len())
            .sum::<usize>()
            > MAX_QUERY_BYTES
        {
            return Err(too_long());
        }
        Ok(query)
    }

    /// Whether a switch is there and on.
    pub(super) fn is_on(&self, key: &str) -> bool {
        self.value(key) == Some("true")
    }

    fn value(&self, key: &str) -> Option<&str> {
        self.pairs
            .iter()
            .find(|(name, _)| *name == key)
            .map(|(_, value)| value.as_ref())
    }

    fn read_pairs(&mut self, allowed: &AllowList, raw: &str) -> Result<(), Refusal> {
        // Every byte takes three at most when encoded.
        if raw.len() > 3 * MAX_QUERY_BYTES {
            return Err(too_long());
        }
        let mut dropped: Vec<Cow<'_, str>> = Vec::new();
        let mut rest = Some(raw);
        let mut count = 0;
        while let Some(pairs) = rest {
            let (key, key_class, behind) = escape::cut(pairs, |byte| matches!(byte, b'=' | b'&'));
            let (value, value_class, behind) = match behind.strip_prefix('=') {
                Some(value) => escape::cut(value, |byte| byte == b'&'),
                None => ("", Class::EMPTY, behind),
            };
            let is_empty = behind.len() == pairs.len();
            rest = behind.strip_prefix('&');
            if count == MAX_QUERY_PAIRS {
                return Err(malformed(format!(
                    "the query has more than {MAX_QUERY_PAIRS} parameters"
                )));
            }
            count += 1;
            if is_empty {
                continue;
            }
            let key = text(key, key_class)?;
            let value = text(value, value_class)?;
            match allowed.find(&key) {
                Some(known) => self.add(known, value)?,
                None if dropped.contains(&key) && !is_repeatable(&key) => return Err(twice(&key)),
                None => dropped.push(key),
            }
        }
        if !dropped.is_empty() {
            self.warnings.push(dropped_warning(&dropped));
        }
        Ok(())
    }

    fn add(&mut self, key: &'static Key, value: Cow<'_, str>) -> Result<(), Refusal> {
        let value = value::normalize(key.kind, value)
            .map_err(|error| malformed(format!("query parameter {} {error}", key.name)))?;
        if self.value(key.name).is_some() {
            if !key.kind.repeats() {
                return Err(twice(key.name));
            }
            if key.kind == Kind::DryRun {
                return Ok(());
            }
        }
        self.pairs.push((key.name, value));
        Ok(())
    }

    /// `/watch/` is `?watch=true`, and a name behind it a field selector.
    fn rewrite_legacy_watch(&mut self, name: &str) -> Result<(), Refusal> {
        match self.value("watch") {
            None => self.pairs.push(("watch", Cow::Borrowed("true"))),
            Some("true") => {}
            Some(_) => {
                return Err(malformed(
                    "the path says /watch/ and the query says watch=false; drop one",
                ));
            }
        }
        if name.is_empty() {
            return Ok(());
        }
        match self.value("fieldSelector") {
            None => self
                .pairs
                .push(("fieldSelector", Cow::Owned(selector::of_name(name)))),
            Some(given) if selector::exact_name(given).is_ok_and(|given| given.as_deref() == Some(name)) => {}
            Some(_) => {
                return Err(malformed(
                    "the path names one object and fieldSelector does not; drop the selector",
                ));
            }
        }
        Ok(())
    }

    fn read_selectors(&mut self) -> Result<(), Refusal> {
        if let Some(given) = self.value("labelSelector") {
            labels::check(given)
                .map_err(|error| malformed(format!("query parameter labelSelector {error}")))?;
        }
        let Some(given) = self.value("fieldSelector") else {
            return Ok(());
        };
        let name = selector::exact_name(given)
            .map_err(|error| malformed(format!("query parameter fieldSelector {error}")))?;
        self.selected_name = name.filter(|name| selector::is_path_segment_name(name));
        Ok(())
    }
}

/// Path and query as one request target.
pub(super) fn append_to(path: &str, pairs: &[Pair]) -> String {
    let length: usize = pairs.iter().map(|(key, value)| key.len() + value.len() + 2).sum();
    let mut target = String::with_capacity(path.len() + length + length / 4);
    target.push_str(path);
    let mut divider = '?';
    for (key, value) in pairs {
        target.push(divider);
        target.push_str(key);
        target.push('=');
        escape::push_value(&mut target, value);
        divider = '&';
    }
    target
}

/// A key or a value; nearly all need no decoding.
#[inline]
fn text(raw: &str, class: Class) -> Result<Cow<'_, str>, Refusal> {
    if class.is(Class::UNRESERVED) {
        Ok(Cow::Borrowed(raw))
    } else {
        decode(raw)
    }
}

fn decode(raw: &str) -> Result<Cow<'_, str>, Refusal> {
    if raw.contains(';') {
        return Err(malformed(
            "the query holds `;`, and the API server would ignore the pair around it",
        ));
    }
    escape::decode(raw, Place::Query).map_err(|error| malformed(format!("query text {} {error}", shown(raw))))
}

fn is_repeatable(key: &str) -> bool {
    matches!(key, "command" | "ports" | "dryRun")
}

fn twice(key: &str) -> Refusal {
    malformed(format!(
        "query parameter {} stands twice; the API server would take one of them",
        shown(key)
    ))
}

fn too_long() -> Refusal {
    malformed(format!("the query is longer than {MAX_QUERY_BYTES} bytes"))
}

/// Fits a `Warning` header's quoted string as it is: the keys are the agent's text.
fn dropped_warning(dropped: &[Cow<'_, str>]) -> String {
    let mut warning = String::from("eks-guard: dropped query parameters that this request does not take: ");
    for (at, key) in dropped.iter().take(MAX_NAMED).enumerate() {
        warning.push_str(if at == 0 { "`" } else { ", `" });
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        warning.extend(
            key.chars()
                .take(MAX_NAME_SHOWN)
                .map(|c| if plain(c) { c } else { '?' }),
        );
        warning.push('`');
    }
    match dropped.len().saturating_sub(MAX_NAMED) {
        0 => warning,
        more => warning + &format!(" and {more} more"),
    }
}
