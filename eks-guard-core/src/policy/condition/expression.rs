//! A condition written in CEL: compiled when the policy is read, evaluated on the evidence of one decision.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cel::common::types::CelBool;
use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;
use cel::{Context, ExecutionError, IdedExpr, Value};

use crate::policy::condition::check::{self, Checked, PATTERN_PREFIX};
use crate::policy::condition::fields::{self, Schema};
use crate::policy::condition::inputs::Tally;
use crate::policy::condition::library::opaque::Opaque;
use crate::policy::condition::pattern::Pattern;
use crate::policy::condition::variables::variable;
use crate::policy::condition::{Fault, Predicate, library, limits};
use crate::policy::evidence::Evidence;
use crate::policy::look::Wanted;
use crate::request_info::Verb;

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
    /// [`ConditionError`] for what is not CEL, for names and fields that do not exist, and for what could cost too much.
    pub(crate) fn compile(source: &str, schema: &Schema) -> Result<Self, ConditionError> {
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
        let checked = check::check(&mut root);
        let checked = checked.and_then(|checked| fields::check(&root, schema).map(|()| checked));
        let checked = checked.map_err(|mistake| {
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

    /// The objects it reads fields of, of those that are not described.
    pub(crate) fn unchecked(&self, schema: &Schema) -> Box<[&'static str]> {
        let described = [("object", &schema.object), ("oldObject", &schema.old_object)];
        let unchecked = described
            .into_iter()
            .filter(|(name, shapes)| shapes.is_none() && self.checked.reads.contains_key(name));
        unchecked.map(|(name, _)| name).collect()
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
    patterns: &'a [Opaque<Pattern>],
    values: Vec<(&'static str, Box<dyn Val + 'a>)>,
    /// An object that nobody has looked at was asked for: whatever comes out then is no answer.
    asked_for_unknown: AtomicBool,
}

impl<'a> Scope<'a> {
    fn new(expression: &'a Expression, evidence: &'a Evidence<'_>, verb: Verb, tally: &mut Tally) -> Self {
        let reads = &expression.checked.reads;
        let values = reads.iter().filter_map(|(name, paths)| {
            let value = variable(name, evidence, verb, paths, tally);
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
