//! The functions that conditions may call, beside those that the CEL crate brings: the Kubernetes libraries.

use std::sync::{Arc, LazyLock};

use cel::common::functions::Function;
use cel::common::types::{CelBool, CelInt, CelList, CelString, INT_TYPE, STRING_TYPE};
use cel::common::value::{CowVal, Val};
use cel::{DeclarationError, Env, ExecutionError};

use crate::policy::condition::library::opaque::{Named, Opaque};
use crate::policy::condition::library::signatures::MATCHES;
use crate::policy::condition::pattern::Pattern;

mod duration;
mod format;
mod lists;
mod network;
pub(super) mod opaque;
mod quantity;
mod semver;
pub(super) mod signatures;
mod texts;
mod url;

static ENV: LazyLock<Arc<Env>> =
    LazyLock::new(|| Arc::new(environment().expect("no function is declared twice")));

/// What every condition is compiled with and evaluated in.
pub(super) fn env() -> &'static Arc<Env> {
    &ENV
}

pub(super) fn environment() -> Result<Env, DeclarationError> {
    let mut env = Env::stdlib();
    for extension in [
        cel::extensions::strings,
        cel::extensions::lists,
        duration::declare,
        format::declare,
        lists::declare,
        network::declare,
        quantity::declare,
        semver::declare,
        texts::declare,
        url::declare,
    ] {
        env.add_extension(extension)?;
    }
    for (name, id, arguments, run) in [
        (
            MATCHES,
            "matches",
            vec![Pattern::TYPE.to_owned()],
            matches as Function,
        ),
        ("find", "find", vec![Pattern::TYPE.to_owned()], find_first),
        ("findAll", "findAll", vec![Pattern::TYPE.to_owned()], find_all),
        (
            "findAll",
            "findAll some",
            vec![Pattern::TYPE.to_owned(), INT_TYPE.to_owned()],
            find_all,
        ),
    ] {
        env.add_member_overload(name, id, STRING_TYPE.to_owned(), arguments, run)?;
    }
    Ok(env)
}

type Arguments<'b, 'v> = Vec<CowVal<'b, 'v>>;
type Answer<'b, 'v> = Result<CowVal<'b, 'v>, ExecutionError>;

/// The argument at a position, which the overload has made sure of.
fn argument<'b, T: Named>(arguments: &'b [CowVal<'_, '_>], position: usize) -> Result<&'b T, ExecutionError> {
    let argument = arguments.get(position).and_then(|it| it.as_ref().as_any());
    let opaque = argument.and_then(|it| it.downcast_ref::<Opaque<T>>());
    opaque.map(|it| &it.0).ok_or_else(no_overload)
}

fn text<'b>(arguments: &'b [CowVal<'_, '_>], position: usize) -> Result<&'b str, ExecutionError> {
    let value = arguments
        .get(position)
        .and_then(|it| it.as_ref().downcast_ref::<CelString<'_>>());
    value.map(CelString::inner).ok_or_else(no_overload)
}

fn no_overload() -> ExecutionError {
    ExecutionError::missing_argument_or_target()
}

/// A function was given a value that it has no answer for.
fn rejected(function: &str) -> ExecutionError {
    ExecutionError::function_error(function, "the value is not taken")
}

fn value<'b, 'v, T: Named>(value: T) -> CowVal<'b, 'v> {
    CowVal::owned(Opaque(value))
}

fn found<'b, 'v, T: Named>(found: Option<T>, function: &str) -> Answer<'b, 'v> {
    found.map(value).ok_or_else(|| rejected(function))
}

fn truth<'b, 'v>(value: bool) -> Answer<'b, 'v> {
    Ok(CowVal::owned(CelBool::from(value)))
}

fn number<'b, 'v>(value: i64) -> Answer<'b, 'v> {
    Ok(CowVal::owned(CelInt::from(value)))
}

fn string<'b, 'v>(value: String) -> Answer<'b, 'v> {
    Ok(CowVal::owned(CelString::from(value)))
}

fn matches<'b, 'v>(arguments: Arguments<'b, 'v>) -> Answer<'b, 'v> {
    let found = argument::<Pattern>(&arguments, 1)?
        .0
        .is_match(text(&arguments, 0)?);
    truth(found)
}

fn find_first<'b, 'v>(arguments: Arguments<'b, 'v>) -> Answer<'b, 'v> {
    let found = argument::<Pattern>(&arguments, 1)?.0.find(text(&arguments, 0)?);
    string(found.map_or("", |found| found.as_str()).to_owned())
}

fn find_all<'b, 'v>(arguments: Arguments<'b, 'v>) -> Answer<'b, 'v> {
    let limit = match arguments
        .get(2)
        .and_then(|it| it.as_ref().downcast_ref::<CelInt>())
    {
        None => usize::MAX,
        // A negative number means all of them.
        Some(limit) => usize::try_from(*limit.inner()).unwrap_or(usize::MAX),
    };
    let pattern = argument::<Pattern>(&arguments, 1)?;
    let found = pattern.0.find_iter(text(&arguments, 0)?).take(limit);
    let found: Vec<Box<dyn Val + 'v>> = found
        .map(|it| Box::new(CelString::from(it.as_str().to_owned())) as Box<dyn Val + 'v>)
        .collect();
    Ok(CowVal::owned(CelList::from(found)))
}
