//! Semantic versions.

use std::cmp::Ordering;

use cel::common::functions::Function;
use cel::common::types::{BOOL_TYPE, CelBool, STRING_TYPE, Type};
use cel::common::value::CowVal;
use cel::{DeclarationError, Env, ExecutionError};

use crate::policy::condition::library::opaque::Named;
use crate::policy::condition::library::{argument, found, number, rejected, text, truth};

static SEMVER: Type = Type::new_unspecified_type("kubernetes.Semver");

#[derive(Clone, Debug)]
struct Semver(semver::Version);

impl Named for Semver {
    const TYPE: &'static Type = &SEMVER;
}

/// Build metadata do not count.
impl PartialEq for Semver {
    fn eq(&self, other: &Self) -> bool {
        self.0.cmp_precedence(&other.0).is_eq()
    }
}

impl Semver {
    fn parse(text: &str) -> Option<Self> {
        let version = semver::Version::parse(text).ok()?;
        let mut identifiers = version.pre.split('.');
        // Kubernetes keeps each number in 64 bits.
        let fits = identifiers.all(|it| {
            it.bytes().any(|byte| !byte.is_ascii_digit()) || it.is_empty() || it.parse::<u64>().is_ok()
        });
        fits.then_some(Self(version))
    }

    /// Without a leading `v`, without leading zeros, and with zeros for what is missing.
    fn parse_normalized(text: &str) -> Option<Self> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let mut parts: Vec<String> = text.splitn(3, '.').map(without_zeros).collect();
        if parts.len() < 3 && parts.last()?.contains(['+', '-']) {
            return None;
        }
        parts.resize(3, "0".to_owned());
        Self::parse(&parts.join("."))
    }
}

fn without_zeros(part: &str) -> String {
    match part.trim_start_matches('0') {
        _ if part.len() < 2 => part.to_owned(),
        rest if rest.starts_with(|char: char| char.is_ascii_digit()) => rest.to_owned(),
        rest => format!("0{rest}"),
    }
}

pub(super) fn declare(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_type(SEMVER.to_owned())?;
    let from_text: [(&str, Function); 2] = [
        ("semver", |it| found(read(&it)?, "semver")),
        ("isSemver", |it| truth(read(&it)?.is_some())),
    ];
    for (name, run) in from_text {
        env.add_overload(name, name, vec![STRING_TYPE.to_owned()], run)?;
        let arguments = vec![STRING_TYPE.to_owned(), BOOL_TYPE.to_owned()];
        env.add_overload(name, &format!("{name} normalized"), arguments, run)?;
    }
    let parts: [(&str, Function); 3] = [
        ("major", |it| part(argument::<Semver>(&it, 0)?.0.major)),
        ("minor", |it| part(argument::<Semver>(&it, 0)?.0.minor)),
        ("patch", |it| part(argument::<Semver>(&it, 0)?.0.patch)),
    ];
    for (name, run) in parts {
        env.add_member_overload(name, name, SEMVER.to_owned(), Vec::new(), run)?;
    }
    let comparisons: [(&str, Function); 3] = [
        ("isLessThan", |it| truth(compare(&it)?.is_lt())),
        ("isGreaterThan", |it| truth(compare(&it)?.is_gt())),
        ("compareTo", |it| number(compare(&it)? as i64)),
    ];
    for (name, run) in comparisons {
        let id = format!("{name} {}", SEMVER.name());
        env.add_member_overload(name, &id, SEMVER.to_owned(), vec![SEMVER.to_owned()], run)?;
    }
    Ok(())
}

/// The version of a text; the second argument says whether to normalize it.
fn read(arguments: &[CowVal<'_, '_>]) -> Result<Option<Semver>, ExecutionError> {
    let normalize = arguments
        .get(1)
        .and_then(|it| it.as_ref().downcast_ref::<CelBool>());
    let text = text(arguments, 0)?;
    Ok(match normalize {
        Some(normalize) if *normalize.inner() => Semver::parse_normalized(text),
        Some(_) | None => Semver::parse(text),
    })
}

fn part<'b, 'v>(value: u64) -> Result<CowVal<'b, 'v>, ExecutionError> {
    number(i64::try_from(value).map_err(|_| rejected("semver"))?)
}

fn compare(arguments: &[CowVal<'_, '_>]) -> Result<Ordering, ExecutionError> {
    let [left, right] = [0, 1].map(|position| argument::<Semver>(arguments, position));
    Ok(left?.0.cmp_precedence(&right?.0))
}
