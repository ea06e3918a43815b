//! Quantities as Kubernetes writes them, exactly: `1.5Gi`, `100m`, `2e3`.

use std::cmp::Ordering;

use cel::common::functions::Function;
use cel::common::types::{CelInt, INT_TYPE, STRING_TYPE, Type};
use cel::common::value::CowVal;
use cel::{DeclarationError, Env, ExecutionError};

use crate::policy::condition::library::opaque::Named;
use crate::policy::condition::library::{Answer, Arguments, argument, found, number, rejected, text, truth};

static QUANTITY: Type = Type::new_unspecified_type("kubernetes.Quantity");

/// Billionths: Kubernetes keeps no smaller part.
const SCALE: i128 = 1_000_000_000;
/// Kubernetes cuts larger ones off; here they have no value.
const MAX: i128 = i64::MAX as i128 * SCALE;

/// A quantity, in billionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Quantity(i128);

impl Named for Quantity {
    const TYPE: &'static Type = &QUANTITY;
}

impl Quantity {
    fn parse(text: &str) -> Option<Self> {
        let negative = text.starts_with('-');
        let (number, suffix) = parts(text);
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        let digits = whole.len() + part.len();
        // More digits than an i128 holds are refused rather than rounded.
        if digits == 0 || digits > 28 || part.contains('.') {
            return None;
        }
        let mantissa: i128 = format!("{whole}{part}").parse().ok()?;
        let (multiplier, exponent) = scale(suffix)?;
        let exponent = exponent
            .checked_sub(i32::try_from(part.len()).ok()?)?
            .checked_add(9)?;
        let scaled = mantissa.checked_mul(multiplier)?;
        let value = match u32::try_from(exponent) {
            Ok(_) if scaled == 0 => 0,
            Ok(up) => scaled.checked_mul(10_i128.checked_pow(up)?)?,
            // Kubernetes rounds away from zero.
            Err(_) => match 10_i128.checked_pow(exponent.unsigned_abs()) {
                Some(divisor) => scaled.checked_add(divisor - 1)? / divisor,
                None => i128::from(scaled != 0),
            },
        };
        (value <= MAX).then_some(Self(if negative { -value } else { value }))
    }
}

/// The number without its sign, and what stands behind it.
fn parts(text: &str) -> (&str, &str) {
    let rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
    rest.split_at(end.unwrap_or(rest.len()))
}

/// Whether Kubernetes takes a text for a quantity: no answer for those that it takes and that have no value here, which
/// are too large, too exact, or a sign and a suffix without a number.
fn is_quantity(text: &str) -> Option<bool> {
    let (number, suffix) = parts(text);
    let is_written_so = !text.is_empty() && number.matches('.').count() < 2 && scale(suffix).is_some();
    match (Quantity::parse(text), is_written_so) {
        (Some(_), _) => Some(true),
        (None, true) => None,
        (None, false) => Some(false),
    }
}

/// What a suffix multiplies by, and the power of ten beside it.
fn scale(suffix: &str) -> Option<(i128, i32)> {
    let binary = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"]
        .iter()
        .position(|it| *it == suffix);
    if let Some(position) = binary {
        return Some((1_i128 << (10 * (position + 1)), 0));
    }
    let decimal = match suffix {
        "n" => -9,
        "u" => -6,
        "m" => -3,
        "" => 0,
        "k" => 3,
        "M" => 6,
        "G" => 9,
        "T" => 12,
        "P" => 15,
        "E" => 18,
        _ => {
            let digits = suffix.strip_prefix(['e', 'E'])?;
            let bare = digits.strip_prefix(['+', '-']).unwrap_or(digits);
            if bare.is_empty() || bare.len() > 3 || !bare.bytes().all(|it| it.is_ascii_digit()) {
                return None;
            }
            digits.parse().ok()?
        }
    };
    Some((1, decimal))
}

/// Declares the functions. `isInteger` and `asInteger` are left out: in Kubernetes they depend on how a quantity is
/// written (`1000m` is no integer), not on what it is.
pub(super) fn declare(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_type(QUANTITY.to_owned())?;
    env.add_overload(
        "quantity",
        "quantity",
        vec![STRING_TYPE.to_owned()],
        |arguments| found(Quantity::parse(text(&arguments, 0)?), "quantity"),
    )?;
    env.add_overload(
        "isQuantity",
        "isQuantity",
        vec![STRING_TYPE.to_owned()],
        |arguments| match is_quantity(text(&arguments, 0)?) {
            Some(answer) => truth(answer),
            None => Err(rejected("isQuantity")),
        },
    )?;
    on(env, "sign", None, |arguments| {
        let sign = argument::<Quantity>(&arguments, 0)?.cmp(&Quantity(0));
        number(sign as i64)
    })?;
    on(env, "isLessThan", Some(&QUANTITY), |arguments| {
        truth(compare(&arguments)?.is_lt())
    })?;
    on(env, "isGreaterThan", Some(&QUANTITY), |arguments| {
        truth(compare(&arguments)?.is_gt())
    })?;
    on(env, "compareTo", Some(&QUANTITY), |arguments| {
        number(compare(&arguments)? as i64)
    })?;
    on(env, "add", Some(&QUANTITY), add)?;
    on(env, "add", Some(&INT_TYPE), add)?;
    on(env, "sub", Some(&QUANTITY), subtract)?;
    on(env, "sub", Some(&INT_TYPE), subtract)
}

fn on(env: &mut Env, name: &str, with: Option<&Type>, run: Function) -> Result<(), DeclarationError> {
    let id = format!("{name} {}", with.map_or("", Type::name));
    env.add_member_overload(
        name,
        &id,
        QUANTITY.to_owned(),
        with.map(Type::to_owned).into_iter().collect(),
        run,
    )
}

fn compare(arguments: &[CowVal<'_, '_>]) -> Result<Ordering, ExecutionError> {
    Ok(argument::<Quantity>(arguments, 0)?.cmp(argument::<Quantity>(arguments, 1)?))
}

fn add<'b, 'v>(arguments: Arguments<'b, 'v>) -> Answer<'b, 'v> {
    let sum = argument::<Quantity>(&arguments, 0)?
        .0
        .checked_add(operand(&arguments)?);
    bounded(sum, "add")
}

fn subtract<'b, 'v>(arguments: Arguments<'b, 'v>) -> Answer<'b, 'v> {
    let difference = argument::<Quantity>(&arguments, 0)?
        .0
        .checked_sub(operand(&arguments)?);
    bounded(difference, "sub")
}

/// The second argument: a quantity, or a whole number.
fn operand(arguments: &[CowVal<'_, '_>]) -> Result<i128, ExecutionError> {
    let number = arguments
        .get(1)
        .and_then(|it| it.as_ref().downcast_ref::<CelInt>());
    match number {
        Some(number) => Ok(i128::from(*number.inner()) * SCALE),
        None => argument::<Quantity>(arguments, 1).map(|quantity| quantity.0),
    }
}

fn bounded<'b, 'v>(value: Option<i128>, function: &str) -> Answer<'b, 'v> {
    found(value.filter(|value| value.abs() <= MAX).map(Quantity), function)
}
