//! The variables of conditions, made of the evidence: of each, only the paths that an expression reads.

use std::collections::{BTreeMap, HashMap};

use cel::common::types::{CelBool, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelTimestamp};
use cel::common::value::Val;
use serde_json::Value;

use crate::policy::condition::inputs::{Paths, Tally, convert};
use crate::policy::evidence::Evidence;
use crate::policy::facts::Fact;
use crate::policy::operation::{Extent, Operation, PatchKind, Target};
use crate::principal::Principal;
use crate::request_info::{ApiRequest, OptionValue, RequestScope, Verb};

/// The value of a variable, counted; none when it is not known.
pub(super) fn variable<'a>(
    name: &str,
    evidence: &'a Evidence<'_>,
    verb: Verb,
    paths: &Paths,
    tally: &mut Tally,
) -> Option<Box<dyn Val + 'a>> {
    match name {
        "object" => from_fact(evidence.object(), paths, tally),
        "oldObject" => from_fact(evidence.old_object(), paths, tally),
        "principal" => Some(map(read(principal(evidence), paths), tally)),
        "request" => Some(map(read(request(evidence, verb, paths), paths), tally)),
        "time" => time(evidence),
        _ => None,
    }
}

fn from_fact<'v>(fact: Fact<'v>, paths: &Paths, tally: &mut Tally) -> Option<Box<dyn Val + 'v>> {
    match fact {
        Fact::Unknown => None,
        Fact::Absent => Some(Box::new(CelNull)),
        Fact::Present(value) => Some(convert(value, paths, tally)),
    }
}

/// One value of a variable that is not an object.
enum Member<'a> {
    Text(&'a str),
    Bool(bool),
    Number(i64),
    List(Vec<Member<'a>>),
    Map(Vec<(&'a str, Member<'a>)>),
    /// As it stands in a body.
    Json(&'a Value),
}

/// The members that are read.
fn read<'a>(members: Vec<(&'a str, Member<'a>)>, paths: &Paths) -> Vec<(&'a str, Member<'a>)> {
    members
        .into_iter()
        .filter(|(name, _)| paths.reads(name))
        .collect()
}

impl<'a> Member<'a> {
    fn texts(texts: impl IntoIterator<Item = &'a (impl AsRef<str> + ?Sized + 'a)>) -> Self {
        Self::List(texts.into_iter().map(|it| Self::Text(it.as_ref())).collect())
    }

    fn into_val(self, tally: &mut Tally) -> Box<dyn Val + 'a> {
        match self {
            Self::Text(text) => {
                tally.count(text.len(), 0);
                Box::new(CelString::from(text))
            }
            Self::Bool(value) => {
                tally.count(0, 0);
                Box::new(CelBool::from(value))
            }
            Self::Number(value) => {
                tally.count(0, 0);
                Box::new(CelInt::from(value))
            }
            Self::List(items) => {
                tally.count(0, items.len());
                let items: Vec<_> = items.into_iter().map(|it| it.into_val(tally)).collect();
                Box::new(CelList::from(items))
            }
            Self::Map(entries) => map(entries, tally),
            Self::Json(value) => convert(value, &Paths::All, tally),
        }
    }
}

fn map<'a>(entries: Vec<(&'a str, Member<'a>)>, tally: &mut Tally) -> Box<dyn Val + 'a> {
    tally.count(0, entries.len());
    let entries = entries.into_iter().map(|(name, member)| {
        tally.count(name.len(), 0);
        (CelMapKey::String(CelString::from(name)), member.into_val(tally))
    });
    Box::new(CelMap::from(entries.collect::<HashMap<_, _>>()))
}

fn request<'a>(evidence: &'a Evidence<'_>, verb: Verb, paths: &Paths) -> Vec<(&'a str, Member<'a>)> {
    let mut members = vec![("verb", Member::Text(verb.as_str()))];
    let dry_run = evidence.request.is_some_and(ApiRequest::is_dry_run);
    members.push(("dryRun", Member::Bool(dry_run)));
    if let Some(request) = evidence.request.filter(|_| paths.reads("options")) {
        members.push((
            "options",
            Member::Map(options(request, evidence.delete_options())),
        ));
    }
    match evidence.info.scope() {
        RequestScope::NonResource(path) => {
            members.extend([("isResource", Member::Bool(false)), ("path", Member::Text(path))]);
        }
        RequestScope::Resource(resource) => {
            members.extend([
                ("isResource", Member::Bool(true)),
                ("apiGroup", Member::Text(resource.group)),
                ("version", Member::Text(resource.version)),
                ("resource", Member::Text(resource.resource)),
                ("subresource", Member::Text(resource.subresource)),
            ]);
            let name = evidence.request.map_or("", ApiRequest::object_name);
            let operation = Operation::new(evidence.info, name, PatchKind::Existing);
            if let Target::Resource(target) = operation.target {
                members.extend(one(target.namespace).map(|it| ("namespace", it)));
                members.extend(one(target.name).map(|it| ("name", it)));
            }
        }
    }
    members
}

/// What the query says, and the options in the body of a delete, under the names of `DeleteOptions`.
fn options<'a>(request: &'a ApiRequest, in_body: Option<&'a Value>) -> Vec<(&'a str, Member<'a>)> {
    let mut options: BTreeMap<&str, Member<'a>> = BTreeMap::new();
    let mut preconditions = Vec::new();
    let deletes = request.info().verb == Verb::Delete;
    for (name, value) in request.query_options() {
        let value = match value {
            OptionValue::Text(text) => Member::Text(text),
            OptionValue::Switch(on) => Member::Bool(on),
            OptionValue::Number(number) => Member::Number(number),
            OptionValue::Many(texts) => Member::texts(texts),
        };
        if deletes && matches!(name, "uid" | "resourceVersion") {
            preconditions.push((name, value));
        } else {
            options.insert(name, value);
        }
    }
    if !preconditions.is_empty() {
        options.insert("preconditions", Member::Map(preconditions));
    }
    let members = in_body.and_then(Value::as_object).into_iter().flatten();
    let stated = members.filter(|(_, value)| !value.is_null());
    options.extend(stated.map(|(name, value)| (name.as_str(), Member::Json(value))));
    options.into_iter().collect()
}

/// A request that reaches many of them has none to compare with, so asking for it has no answer.
fn one(extent: Extent<'_>) -> Option<Member<'_>> {
    match extent {
        Extent::Nothing => Some(Member::Text("")),
        Extent::One(name) => Some(Member::Text(name)),
        Extent::Many => None,
    }
}

/// What is not proven is not there, so asking for it has no answer.
fn principal<'a>(evidence: &'a Evidence<'_>) -> Vec<(&'a str, Member<'a>)> {
    let mut members = vec![("agent", Member::Text(&evidence.principal.agent))];
    if let Some(pod) = &evidence.principal.pod {
        members.extend([
            ("namespace", Member::Text(&pod.namespace)),
            ("serviceAccount", Member::Text(&pod.service_account)),
            ("pod", Member::Text(&pod.name)),
            ("node", Member::Text(&pod.node)),
        ]);
    }
    let Principal {
        labels,
        container,
        groups,
        claims,
        ..
    } = evidence.principal;
    let labels = labels.as_ref().map(|labels| {
        let entries = labels.iter();
        Member::Map(
            entries
                .map(|(key, value)| (key.as_str(), Member::Text(value)))
                .collect(),
        )
    });
    let claims = claims.as_ref().map(|claims| {
        let entries = claims.iter();
        Member::Map(
            entries
                .map(|(name, values)| (name.as_str(), Member::texts(values)))
                .collect(),
        )
    });
    members.extend(labels.map(|it| ("labels", it)));
    members.extend(container.as_ref().map(|it| ("container", Member::Text(it))));
    members.extend(groups.as_ref().map(|it| ("groups", Member::texts(it))));
    members.extend(claims.map(|it| ("claims", it)));
    members
}

fn time<'v>(evidence: &Evidence<'_>) -> Option<Box<dyn Val + 'v>> {
    let since = evidence
        .facts
        .time
        .duration_since(std::time::SystemTime::UNIX_EPOCH)
        .ok()?;
    let seconds = i64::try_from(since.as_secs()).ok()?;
    let time = chrono::DateTime::from_timestamp(seconds, since.subsec_nanos())?;
    Some(Box::new(CelTimestamp::from(time.fixed_offset())))
}
