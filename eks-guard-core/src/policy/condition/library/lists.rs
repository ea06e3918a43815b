//! What lists can be asked, also as sets.

use std::cmp::Ordering;

use cel::common::functions::Function;
use cel::common::types::{
    CelList, CelOptional, DOUBLE_TYPE, DURATION_TYPE, DYN_TYPE, INT_TYPE, LIST_TYPE, UINT_TYPE,
};
use cel::common::value::{CowVal, Val};
use cel::{DeclarationError, Env, ExecutionError};

use crate::policy::condition::library::signatures::REVERSE;
use crate::policy::condition::library::{Answer, Arguments, no_overload, number, rejected, truth};

pub(super) fn declare(env: &mut Env) -> Result<(), DeclarationError> {
    let of_one: [(&str, Function); 8] = [
        ("isSorted", is_sorted),
        ("sum", sum),
        ("min", |it| outermost(&it, Ordering::Less, "min")),
        ("max", |it| outermost(&it, Ordering::Greater, "max")),
        ("first", |it| optional(items(&it, 0)?.first().copied())),
        ("last", |it| optional(items(&it, 0)?.last().copied())),
        ("unwrapOpt", unwrap),
        (REVERSE, reverse),
    ];
    for (name, run) in of_one {
        env.add_member_overload(name, &format!("list {name}"), LIST_TYPE, Vec::new(), run)?;
    }
    env.add_overload("optional.unwrap", "optional.unwrap", vec![LIST_TYPE], unwrap)?;
    let places: [(&str, Function); 2] = [
        ("indexOf", |it| {
            let (items, wanted) = (items(&it, 0)?, item(&it, 1)?);
            place(items.iter().position(|item| item.equals(wanted)))
        }),
        ("lastIndexOf", |it| {
            let (items, wanted) = (items(&it, 0)?, item(&it, 1)?);
            place(items.iter().rposition(|item| item.equals(wanted)))
        }),
    ];
    for (name, run) in places {
        env.add_member_overload(name, &format!("list {name}"), LIST_TYPE, vec![DYN_TYPE], run)?;
    }
    let of_two: [(&str, Function); 3] = [
        ("sets.contains", |it| {
            truth(contains(&items(&it, 0)?, &items(&it, 1)?))
        }),
        ("sets.equivalent", |it| {
            let (left, right) = (items(&it, 0)?, items(&it, 1)?);
            truth(contains(&left, &right) && contains(&right, &left))
        }),
        ("sets.intersects", |it| {
            let (left, right) = (items(&it, 0)?, items(&it, 1)?);
            truth(left.iter().any(|item| contains(&right, &[*item])))
        }),
    ];
    for (name, run) in of_two {
        env.add_overload(name, name, vec![LIST_TYPE, LIST_TYPE], run)?;
    }
    Ok(())
}

fn item<'a, 'v>(
    arguments: &'a [CowVal<'_, 'v>],
    position: usize,
) -> Result<&'a (dyn Val + 'v), ExecutionError> {
    arguments.get(position).map(AsRef::as_ref).ok_or_else(no_overload)
}

fn items<'a, 'v>(
    arguments: &'a [CowVal<'_, 'v>],
    position: usize,
) -> Result<Vec<&'a (dyn Val + 'v)>, ExecutionError> {
    let list = item(arguments, position)?.as_iterable().ok_or_else(no_overload)?;
    let mut iterator = list.iter();
    Ok(std::iter::from_fn(|| iterator.next()).collect())
}

fn place<'b, 'v>(position: Option<usize>) -> Answer<'b, 'v> {
    number(position.map_or(-1, |it| i64::try_from(it).unwrap_or(i64::MAX)))
}

fn contains(list: &[&dyn Val], wanted: &[&dyn Val]) -> bool {
    let mut wanted = wanted.iter();
    wanted.all(|wanted| list.iter().any(|item| item.equals(*wanted)))
}

fn compare(left: &dyn Val, right: &dyn Val) -> Result<Ordering, ExecutionError> {
    left.as_comparer().ok_or_else(no_overload)?.compare(right)
}

fn optional<'b, 'v>(item: Option<&(dyn Val + 'v)>) -> Answer<'b, 'v> {
    let optional = item.map_or_else(CelOptional::none, |item| CelOptional::of(item.clone_as_boxed()));
    Ok(CowVal::owned(optional))
}

fn is_sorted<'b, 'v>(arguments: Arguments<'b, 'v>) -> Answer<'b, 'v> {
    let mut sorted = true;
    for pair in items(&arguments, 0)?.windows(2) {
        if let [left, right] = pair {
            sorted &= compare(*left, *right)?.is_le();
        }
    }
    truth(sorted)
}

/// The sum of numbers or durations of one type; of nothing it is the number 0.
fn sum<'b, 'v>(arguments: Arguments<'b, 'v>) -> Answer<'b, 'v> {
    let items = items(&arguments, 0)?;
    let Some((first, rest)) = items.split_first() else {
        return number(0);
    };
    let of_one_type = rest.iter().all(|item| item.get_type() == first.get_type());
    if !of_one_type || ![INT_TYPE, UINT_TYPE, DOUBLE_TYPE, DURATION_TYPE].contains(first.get_type()) {
        return Err(rejected("sum"));
    }
    let mut total = first.clone_as_boxed();
    for item in rest {
        let next = total.as_adder().ok_or_else(no_overload)?.add(*item)?.into_owned();
        total = next;
    }
    Ok(CowVal::Owned(total))
}

/// The first of the least or of the greatest.
fn outermost<'b, 'v>(arguments: &[CowVal<'_, 'v>], wanted: Ordering, function: &str) -> Answer<'b, 'v> {
    let items = items(arguments, 0)?;
    let (first, rest) = items.split_first().ok_or_else(|| rejected(function))?;
    let mut found = *first;
    for item in rest {
        if compare(*item, found)? == wanted {
            found = *item;
        }
    }
    Ok(CowVal::Owned(found.clone_as_boxed()))
}

/// Of a list alone: Kubernetes does not reverse texts.
fn reverse<'b, 'v>(arguments: Arguments<'b, 'v>) -> Answer<'b, 'v> {
    let items = items(&arguments, 0)?.into_iter().rev();
    let reversed: Vec<Box<dyn Val + 'v>> = items.map(Val::clone_as_boxed).collect();
    Ok(CowVal::owned(CelList::from(reversed)))
}

/// What the optional values of a list hold.
fn unwrap<'b, 'v>(arguments: Arguments<'b, 'v>) -> Answer<'b, 'v> {
    let mut held: Vec<Box<dyn Val + 'v>> = Vec::new();
    for item in items(&arguments, 0)? {
        let optional = item.downcast_ref::<CelOptional<'v>>().ok_or_else(no_overload)?;
        held.extend(optional.option().map(Val::clone_as_boxed));
    }
    Ok(CowVal::owned(CelList::from(held)))
}
