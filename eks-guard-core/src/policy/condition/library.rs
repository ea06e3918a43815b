//! The functions that conditions may call: those of CEL, and of the Kubernetes libraries for it. What is not in the table
//! is an error when the policy is read, so a function that this version lacks never means anything else.

use std::sync::{Arc, LazyLock};

use cel::common::functions::Function;
use cel::common::types::{CelBool, CelInt, CelList, CelString, INT_TYPE, STRING_TYPE};
use cel::common::value::{CowVal, StaticVal, Val};
use cel::{DeclarationError, Env, ExecutionError};

use crate::policy::condition::pattern::{PATTERN, Pattern};

mod network;
mod quantity;

/// What a call returns, as far as it matters when a policy is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Returns {
    Bool,
    Text,
    Number,
    /// Anything else.
    Other,
}

/// One function: its name, whether it is called on a value, how many arguments it takes, what it returns.
struct Signature(&'static str, Call, &'static [usize], Returns);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// `f(x)`
    Plain,
    /// `x.f()`
    On,
}

use Call::{On, Plain};
use Returns::{Bool, Number, Other, Text};

/// Functions of CEL and of the libraries, without operators.
const SIGNATURES: &[Signature] = &[
    Signature("size", Plain, &[1], Number),
    Signature("size", On, &[0], Number),
    Signature("type", Plain, &[1], Other),
    Signature("dyn", Plain, &[1], Other),
    Signature("int", Plain, &[1], Number),
    Signature("uint", Plain, &[1], Number),
    Signature("double", Plain, &[1], Number),
    Signature("string", Plain, &[1], Text),
    Signature("bool", Plain, &[1], Bool),
    Signature("timestamp", Plain, &[1], Other),
    Signature("duration", Plain, &[1], Other),
    Signature("contains", On, &[1], Bool),
    Signature("startsWith", On, &[1], Bool),
    Signature("endsWith", On, &[1], Bool),
    Signature("matches", On, &[1], Bool),
    Signature("find", On, &[1], Text),
    Signature("findAll", On, &[1, 2], Other),
    Signature("getFullYear", On, &[0, 1], Number),
    Signature("getMonth", On, &[0, 1], Number),
    Signature("getDate", On, &[0, 1], Number),
    Signature("getDayOfMonth", On, &[0, 1], Number),
    Signature("getDayOfWeek", On, &[0, 1], Number),
    Signature("getDayOfYear", On, &[0, 1], Number),
    Signature("getHours", On, &[0, 1], Number),
    Signature("getMinutes", On, &[0, 1], Number),
    Signature("getSeconds", On, &[0, 1], Number),
    Signature("getMilliseconds", On, &[0, 1], Number),
    Signature("optional.of", Plain, &[1], Other),
    Signature("optional.none", Plain, &[0], Other),
    Signature("hasValue", On, &[0], Bool),
    Signature("value", On, &[0], Other),
    Signature("orValue", On, &[1], Other),
    Signature("charAt", On, &[1], Text),
    Signature("indexOf", On, &[1, 2], Number),
    Signature("lastIndexOf", On, &[1, 2], Number),
    Signature("lowerAscii", On, &[0], Text),
    Signature("upperAscii", On, &[0], Text),
    Signature("substring", On, &[1, 2], Text),
    Signature("split", On, &[1, 2], Other),
    Signature("trim", On, &[0], Text),
    Signature("quantity", Plain, &[1], Other),
    Signature("isQuantity", Plain, &[1], Bool),
    Signature("sign", On, &[0], Number),
    Signature("add", On, &[1], Other),
    Signature("sub", On, &[1], Other),
    Signature("isLessThan", On, &[1], Bool),
    Signature("isGreaterThan", On, &[1], Bool),
    Signature("compareTo", On, &[1], Number),
    Signature("ip", Plain, &[1], Other),
    Signature("ip", On, &[0], Other),
    Signature("isIP", Plain, &[1], Bool),
    Signature("ip.isCanonical", Plain, &[1], Bool),
    Signature("family", On, &[0], Number),
    Signature("isUnspecified", On, &[0], Bool),
    Signature("isLoopback", On, &[0], Bool),
    Signature("isLinkLocalMulticast", On, &[0], Bool),
    Signature("isLinkLocalUnicast", On, &[0], Bool),
    Signature("isGlobalUnicast", On, &[0], Bool),
    Signature("cidr", Plain, &[1], Other),
    Signature("isCIDR", Plain, &[1], Bool),
    Signature("containsIP", On, &[1], Bool),
    Signature("containsCIDR", On, &[1], Bool),
    Signature("masked", On, &[0], Other),
    Signature("prefixLength", On, &[0], Number),
];

/// Functions that make a list of a text, or compare another one at each place of it.
pub(super) const PIECES: [&str; 4] = ["findAll", "indexOf", "lastIndexOf", "split"];

/// The name under which a compiled pattern is matched.
pub(super) const MATCHES: &str = "@matches";

static ENV: LazyLock<Arc<Env>> =
    LazyLock::new(|| Arc::new(environment().expect("no function is declared twice")));

/// What every condition is compiled with and evaluated in.
pub(super) fn env() -> &'static Arc<Env> {
    &ENV
}

/// What a call returns; none when there is no such function.
pub(super) fn find(name: &str, call: Call, arguments: usize) -> Option<Returns> {
    let found = SIGNATURES
        .iter()
        .find(|it| it.0 == name && it.1 == call && it.2.contains(&arguments));
    found.map(|it| it.3)
}

/// Every name, for the nearest one to what was written.
pub(super) fn names() -> Vec<&'static str> {
    SIGNATURES.iter().map(|it| it.0).collect()
}

fn environment() -> Result<Env, DeclarationError> {
    let mut env = Env::stdlib();
    env.add_extension(cel::extensions::strings)?;
    env.add_extension(quantity::declare)?;
    env.add_extension(network::declare)?;
    for (name, id, arguments, run) in [
        (MATCHES, "matches", vec![PATTERN.to_owned()], matches as Function),
        ("find", "find", vec![PATTERN.to_owned()], find_first),
        ("findAll", "findAll", vec![PATTERN.to_owned()], find_all),
        (
            "findAll",
            "findAll some",
            vec![PATTERN.to_owned(), INT_TYPE.to_owned()],
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
fn argument<'b, T: StaticVal>(
    arguments: &'b [CowVal<'_, '_>],
    position: usize,
) -> Result<&'b T, ExecutionError> {
    let value = arguments.get(position).and_then(|it| it.as_ref().as_any());
    value
        .and_then(|it| it.downcast_ref::<T>())
        .ok_or_else(no_overload)
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

fn matches<'b, 'v>(arguments: Arguments<'b, 'v>) -> Answer<'b, 'v> {
    let found = argument::<Pattern>(&arguments, 1)?
        .0
        .is_match(text(&arguments, 0)?);
    Ok(CowVal::owned(CelBool::from(found)))
}

fn find_first<'b, 'v>(arguments: Arguments<'b, 'v>) -> Answer<'b, 'v> {
    let found = argument::<Pattern>(&arguments, 1)?.0.find(text(&arguments, 0)?);
    let found = found.map_or("", |found| found.as_str()).to_owned();
    Ok(CowVal::owned(CelString::from(found)))
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
