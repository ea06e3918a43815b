//! A condition written in CEL: compiled when the policy is read, evaluated on the evidence of one decision.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cel::common::types::{CelBool, CelList, CelMap, CelMapKey, CelNull, CelString, CelTimestamp};
use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;
use cel::{Context, ExecutionError, IdedExpr, Value};

use crate::policy::condition::check::{self, Checked, PATTERN_PREFIX};
use crate::policy::condition::inputs::{Paths, Tally, convert};
use crate::policy::condition::pattern::Pattern;
use crate::policy::condition::{Fault, Predicate, library, limits};
use crate::policy::evidence::Evidence;
use crate::policy::facts::Fact;
use crate::policy::look::Wanted;
use crate::policy::operation::{Extent, Operation, PatchKind, Target};
use crate::principal::{Labels, Principal};
use crate::request_info::{ApiRequest, RequestScope, Verb};

/// A compiled expression.
#[derive(Debug)]
pub(crate) struct Expression {
    root: IdedExpr,
    checked: Checked,
}

/// Why a text is not a condition. Positions count lines and columns of the text, from one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConditionError {
    /// It is longer than what is read.
    #[error("it is longer than {} bytes; use several conditions", limits::MAX_SOURCE)]
    TooLong,
    /// It nests or chains too much to be read.
    #[error("it has too many operators, or brackets inside each other; use several conditions")]
    TooDeep,
    /// It is not CEL, or calls for what is not there.
    #[error("line {line}, column {column}: {message}")]
    Invalid {
        /// Line of the text.
        line: usize,
        /// Column in the line.
        column: usize,
        /// What is wrong.
        message: String,
    },
}

impl Expression {
    /// Compiles a text.
    ///
    /// # Errors
    /// [`ConditionError`] for what is not CEL, for names that do not exist, and for what could cost too much.
    pub(crate) fn compile(source: &str) -> Result<Self, ConditionError> {
        if source.len() > limits::MAX_SOURCE {
            return Err(ConditionError::TooLong);
        }
        if !limits::is_shallow(source) {
            return Err(ConditionError::TooDeep);
        }
        let (mut root, info) = library::env()
            .parser()
            .max_recursion_depth(48)
            .parse_with_source_info(source)
            .map_err(|errors| syntax(&errors))?;
        let checked = check::check(&mut root).map_err(|mistake| {
            let offset = info.offset_for(mistake.node).map_or(0, |(start, _)| start);
            let (line, column) = position(source, usize::try_from(offset).unwrap_or_default());
            ConditionError::Invalid {
                line,
                column,
                message: mistake.message,
            }
        })?;
        Ok(Self { root, checked })
    }

    /// What to look at when an object is not known.
    pub(crate) fn wanted(&self) -> Wanted {
        if self.checked.reads.contains_key("object") {
            Wanted::Objects
        } else {
            Wanted::OldObject
        }
    }
}

impl Predicate for Expression {
    fn holds(&self, evidence: &Evidence<'_>, verb: Verb) -> Result<bool, Fault> {
        let mut tally = Tally::default();
        let scope = Scope::new(self, evidence, verb, &mut tally);
        if !self.checked.cost.affords(tally) {
            return Err(Fault::TooCostly);
        }
        let mut context = Context::with_env(Arc::clone(library::env()));
        context.set_variable_resolver(&scope);
        // A fault of the evaluator is one condition without an answer, not a request without one.
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let value = Value::resolve_val(&self.root, &context);
            value.map(|value| value.as_ref().downcast_ref::<CelBool>().map(|it| *it.inner()))
        }));
        if scope.asked_for_unknown.load(Ordering::Relaxed) {
            return Err(Fault::ObjectUnknown);
        }
        match outcome {
            Ok(Ok(Some(holds))) => Ok(holds),
            Ok(Ok(None)) => Err(Fault::NotBool),
            Ok(Err(error)) => Err(fault(&error)),
            Err(_) => Err(Fault::Evaluator),
        }
    }
}

/// The variables of one evaluation.
struct Scope<'a> {
    patterns: &'a [Pattern],
    values: Vec<(&'static str, Box<dyn Val + 'a>)>,
    /// An object that nobody has looked at was asked for: whatever comes out then is no answer.
    asked_for_unknown: AtomicBool,
}

impl<'a> Scope<'a> {
    fn new(expression: &'a Expression, evidence: &'a Evidence<'_>, verb: Verb, tally: &mut Tally) -> Self {
        let reads = &expression.checked.reads;
        let values = reads.iter().filter_map(|(name, paths)| {
            let value = match *name {
                "object" => from_fact(evidence.object(), paths, tally),
                "oldObject" => from_fact(evidence.old_object(), paths, tally),
                "principal" => Some(members(principal(evidence), paths, tally)),
                "request" => Some(members(request(evidence, verb), paths, tally)),
                "time" => time(evidence),
                _ => None,
            };
            value.map(|value| (*name, value))
        });
        Self {
            values: values.collect(),
            patterns: &expression.checked.patterns,
            asked_for_unknown: AtomicBool::new(false),
        }
    }
}

impl VariableResolver for Scope<'_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        if let Some(number) = variable.strip_prefix(PATTERN_PREFIX) {
            let pattern = self.patterns.get(number.parse::<usize>().ok()?)?;
            return Some(CowVal::Borrowed(pattern));
        }
        let found = self.values.iter().find(|(name, _)| *name == variable);
        if found.is_none() && matches!(variable, "object" | "oldObject") {
            self.asked_for_unknown.store(true, Ordering::Relaxed);
        }
        found.map(|(_, value)| CowVal::Borrowed(value.as_ref()))
    }
}

fn from_fact<'v>(fact: Fact<'v>, paths: &Paths, tally: &mut Tally) -> Option<Box<dyn Val + 'v>> {
    match fact {
        Fact::Unknown => None,
        Fact::Absent => Some(Box::new(CelNull)),
        Fact::Present(value) => Some(convert(value, paths, tally)),
    }
}

/// One member of a variable that is not an object.
enum Member<'a> {
    Text(&'a str),
    Bool(bool),
    Labels(&'a Labels),
    List(&'a [String]),
}

fn members<'a>(
    members: impl IntoIterator<Item = (&'static str, Member<'a>)>,
    paths: &Paths,
    tally: &mut Tally,
) -> Box<dyn Val + 'a> {
    let mut map: HashMap<CelMapKey<'a>, Box<dyn Val + 'a>> = HashMap::new();
    for (name, member) in members.into_iter().filter(|(name, _)| paths.reads(name)) {
        let value: Box<dyn Val + 'a> = match member {
            Member::Text(text) => {
                tally.count(text.len(), 0);
                Box::new(CelString::from(text))
            }
            Member::Bool(value) => Box::new(CelBool::from(value)),
            Member::Labels(labels) => {
                tally.count(0, labels.len());
                let entries = labels.iter().map(|(key, value)| {
                    tally.count(key.len() + value.len(), 0);
                    let value: Box<dyn Val + 'a> = Box::new(CelString::from(value.as_str()));
                    (CelMapKey::String(CelString::from(key.as_str())), value)
                });
                Box::new(CelMap::from(entries.collect::<HashMap<_, _>>()))
            }
            Member::List(texts) => {
                tally.count(0, texts.len());
                let items = texts.iter().map(|text| {
                    tally.count(text.len(), 0);
                    Box::new(CelString::from(text.as_str())) as Box<dyn Val + 'a>
                });
                Box::new(CelList::from(items.collect::<Vec<_>>()))
            }
        };
        map.insert(CelMapKey::String(CelString::from(name)), value);
    }
    Box::new(CelMap::from(map))
}

fn request<'a>(evidence: &'a Evidence<'_>, verb: Verb) -> Vec<(&'static str, Member<'a>)> {
    let mut members = vec![("verb", Member::Text(verb.as_str()))];
    let dry_run = evidence.request.is_some_and(ApiRequest::is_dry_run);
    members.push(("dryRun", Member::Bool(dry_run)));
    match &evidence.info.scope {
        RequestScope::NonResource(path) => {
            members.extend([("isResource", Member::Bool(false)), ("path", Member::Text(path))]);
        }
        RequestScope::Resource(resource) => {
            members.extend([
                ("isResource", Member::Bool(true)),
                ("apiGroup", Member::Text(&resource.group)),
                ("version", Member::Text(&resource.version)),
                ("resource", Member::Text(&resource.resource)),
                ("subresource", Member::Text(&resource.subresource)),
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

/// A request that reaches many of them has none to compare with, so asking for it has no answer.
fn one(extent: Extent<'_>) -> Option<Member<'_>> {
    match extent {
        Extent::Nothing => Some(Member::Text("")),
        Extent::One(name) => Some(Member::Text(name)),
        Extent::Many => None,
    }
}

/// What is not proven is not there, so asking for it has no answer.
fn principal<'a>(evidence: &'a Evidence<'_>) -> Vec<(&'static str, Member<'a>)> {
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
        ..
    } = evidence.principal;
    members.extend(labels.as_ref().map(|it| ("labels", Member::Labels(it))));
    members.extend(container.as_ref().map(|it| ("container", Member::Text(it))));
    members.extend(groups.as_ref().map(|it| ("groups", Member::List(it))));
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

/// What went wrong, without the values: they stand in objects that messages must not show.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the crate adds kinds, and all others are about types"
)]
fn fault(error: &ExecutionError) -> Fault {
    match error {
        ExecutionError::NoSuchKey(_) | ExecutionError::IndexOutOfBounds(_) => Fault::Missing,
        ExecutionError::DivisionByZero(_)
        | ExecutionError::RemainderByZero(_)
        | ExecutionError::Overflow(..) => Fault::Arithmetic,
        ExecutionError::FunctionError { .. } => Fault::Rejected,
        _ => Fault::Type,
    }
}

fn syntax(errors: &cel::ParseErrors) -> ConditionError {
    let (position, message) = errors
        .errors
        .first()
        .map_or(((1, 1), "it is not CEL"), |first| (first.pos, first.msg.as_str()));
    let [line, column] = [position.0, position.1].map(|it| usize::try_from(it).unwrap_or(1).max(1));
    ConditionError::Invalid {
        line,
        column,
        message: message.lines().next().unwrap_or_default().to_owned(),
    }
}

/// Line and column of a byte.
fn position(source: &str, offset: usize) -> (usize, usize) {
    let before = source.get(..offset).unwrap_or(source);
    let line = before.rsplit('\n').next().unwrap_or(before);
    (before.matches('\n').count() + 1, line.chars().count() + 1)
}
