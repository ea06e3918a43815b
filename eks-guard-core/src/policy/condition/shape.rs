//! What the form of an expression says: what it comes out as, how long lists are, and how much longer values become.

use std::borrow::Cow;

use cel::IdedExpr;
use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, operators};

use crate::policy::condition::check::VARIABLES;
use crate::policy::condition::library::signatures::{self, Call, DURATION, REVERSE, Returns, SORT_BY};
use crate::policy::condition::limits::Length;

/// Whether a name is that of an operator, or of what a macro makes of one.
pub(super) fn is_operator(name: &str) -> bool {
    name.starts_with(['_', '!', '-']) || matches!(name, operators::IN | operators::NOT_STRICTLY_FALSE)
}

/// The whole name of what is called, and how. `ip.isCanonical(x)` is read as a call of `isCanonical` on `ip`.
pub(super) fn callee(call: &CallExpr) -> (Cow<'_, str>, Call) {
    let Some(target) = &call.target else {
        return (Cow::Borrowed(&call.func_name), Call::Plain);
    };
    if let Expr::Ident(namespace) = &target.expr {
        let whole = format!("{namespace}.{}", call.func_name);
        if signatures::is_name(&whole) {
            return (Cow::Owned(whole), Call::Plain);
        }
    }
    (Cow::Borrowed(&call.func_name), Call::On)
}

/// How long the list may be that an expression comes out as.
pub(super) fn length(expr: &Expr) -> Length {
    match expr {
        Expr::List(list) => Length::written(list.elements.len()),
        Expr::Map(map) => Length::written(map.entries.len()),
        // `map` and `filter` make a list of at most as many.
        Expr::Comprehension(it) if matches!(it.accu_init.expr, Expr::List(_)) => length(&it.iter_range.expr),
        Expr::Call(call) => {
            let of = |position: usize| call.args.get(position).map_or(Length::ONE, |it| length(&it.expr));
            let target = || call.target.as_ref().map_or(Length::MADE, |it| length(&it.expr));
            match call.func_name.as_str() {
                operators::CONDITIONAL => of(1).or(of(2)),
                operators::ADD => of(0).plus(of(1)),
                "orValue" => target().or(of(0)),
                "distinct" | "reverse" | REVERSE | "slice" | "sort" | SORT_BY => target(),
                "findAll" | "getQuery" | "split" => Length::LIST,
                _ if is_read(expr) => Length::LIST,
                _ => Length::MADE,
            }
        }
        _ if is_read(expr) => Length::LIST,
        Expr::Comprehension(_)
        | Expr::Ident(_)
        | Expr::Literal(_)
        | Expr::Select(_)
        | Expr::Struct(_)
        | Expr::Unspecified => Length::MADE,
    }
}

/// Whether a value stands so in a variable.
fn is_read(expr: &Expr) -> bool {
    match expr {
        Expr::Ident(name) => VARIABLES.contains(&name.as_str()),
        Expr::Select(select) => is_read(&select.operand.expr),
        Expr::Call(call) => {
            let selects = [operators::INDEX, operators::OPT_INDEX, operators::OPT_SELECT];
            selects.contains(&call.func_name.as_str())
                && call.args.first().is_some_and(|it| is_read(&it.expr))
        }
        Expr::Comprehension(_)
        | Expr::List(_)
        | Expr::Literal(_)
        | Expr::Map(_)
        | Expr::Struct(_)
        | Expr::Unspecified => false,
    }
}

/// How often the element stands in what a step makes: `xs.map(x, x + x)` doubles.
pub(super) fn growth(comprehension: &ComprehensionExpr) -> u64 {
    fn count(node: &IdedExpr, name: &str) -> u64 {
        match &node.expr {
            Expr::Ident(it) => u64::from(it == name),
            Expr::Select(select) => count(&select.operand, name),
            Expr::Call(call) => {
                let arguments = call.args.iter().chain(call.target.as_deref());
                arguments.map(|it| count(it, name)).sum()
            }
            Expr::List(list) => list.elements.iter().map(|it| count(it, name)).sum(),
            Expr::Map(map) => {
                let entries = map.entries.iter().map(|entry| match &entry.expr {
                    EntryExpr::MapEntry(entry) => count(&entry.key, name) + count(&entry.value, name),
                    EntryExpr::StructField(field) => count(&field.value, name),
                });
                entries.sum()
            }
            Expr::Comprehension(inner) => {
                let parts = [
                    &inner.iter_range,
                    &inner.loop_step,
                    &inner.accu_init,
                    &inner.result,
                ];
                parts.into_iter().map(|it| count(it, name)).sum()
            }
            Expr::Literal(_) | Expr::Struct(_) | Expr::Unspecified => 0,
        }
    }
    // optMap gives a value a name, and goes through nothing.
    if matches!(&comprehension.iter_range.expr, Expr::List(list) if list.elements.is_empty()) {
        return count(&comprehension.result, &comprehension.accu_var).max(1);
    }
    // all, exists and exists_one keep a truth value or a number.
    if matches!(comprehension.accu_init.expr, Expr::Literal(_)) {
        return 1;
    }
    // What filter asks of an element makes nothing.
    let step = match &comprehension.loop_step.expr {
        Expr::Call(call) if call.func_name == operators::CONDITIONAL => call.args.get(1),
        Expr::Call(_)
        | Expr::Comprehension(_)
        | Expr::Ident(_)
        | Expr::List(_)
        | Expr::Literal(_)
        | Expr::Map(_)
        | Expr::Select(_)
        | Expr::Struct(_)
        | Expr::Unspecified => None,
    };
    count(step.unwrap_or(&comprehension.loop_step), &comprehension.iter_var).max(1)
}

/// Whether two values are of different types for certain, at least one of them of a library: Kubernetes does not compare
/// them.
pub(super) fn are_incomparable(left: &Expr, right: &Expr) -> bool {
    match (library_type(left), library_type(right)) {
        (None, Some(_)) => is_of_cel(left),
        (Some(_), None) => is_of_cel(right),
        (left, right) => left != right,
    }
}

/// What the libraries make of texts, as far as the form tells.
fn library_type(expr: &Expr) -> Option<&'static str> {
    let Expr::Call(call) = expr else { return None };
    let (name, style) = callee(call);
    match (&*name, style) {
        ("quantity", Call::Plain) | ("add" | "sub", Call::On) => Some("quantity"),
        ("ip", _) => Some("ip"),
        ("cidr", Call::Plain) | ("masked", Call::On) => Some("cidr"),
        ("semver", Call::Plain) => Some("semver"),
        ("url", Call::Plain) => Some("url"),
        ("dyn", Call::Plain) => call.args.first().and_then(|it| library_type(&it.expr)),
        (name, Call::Plain) if name.starts_with("format.") && name != "format.named" => Some("format"),
        _ => None,
    }
}

/// Whether a value is of one of CEL's own types for certain.
fn is_of_cel(expr: &Expr) -> bool {
    if let Expr::Call(call) = expr {
        match (call.func_name.as_str(), call.args.first()) {
            ("dyn", Some(argument)) if call.target.is_none() => return is_of_cel(&argument.expr),
            ("duration" | DURATION | "timestamp", Some(_)) => return true,
            (operators::SUBSTRACT | operators::MULTIPLY | operators::DIVIDE | operators::MODULO, _) => {
                return true;
            }
            _ => {}
        }
    }
    matches!(expr, Expr::Literal(_) | Expr::List(_) | Expr::Map(_))
        || is_read(expr)
        || matches!(
            returns(expr),
            Some(Returns::Bool | Returns::Number | Returns::Text)
        )
}

/// What an expression comes out as, where that is certain.
pub(super) fn returns(expr: &Expr) -> Option<Returns> {
    match expr {
        Expr::Literal(LiteralValue::Boolean(_)) => Some(Returns::Bool),
        Expr::Literal(LiteralValue::String(_)) => Some(Returns::Text),
        Expr::Literal(LiteralValue::Int(_) | LiteralValue::UInt(_) | LiteralValue::Double(_)) => {
            Some(Returns::Number)
        }
        Expr::Literal(_) | Expr::List(_) | Expr::Map(_) | Expr::Struct(_) => Some(Returns::Other),
        Expr::Select(select) if select.test => Some(Returns::Bool),
        Expr::Call(call) => match call.func_name.as_str() {
            operators::CONDITIONAL => call.args.get(1).and_then(|it| returns(&it.expr)),
            operators::ADD | operators::INDEX => None,
            operators::SUBSTRACT | operators::MULTIPLY | operators::DIVIDE | operators::MODULO => None,
            operators::NEGATE => Some(Returns::Number),
            operators::OPT_INDEX | operators::OPT_SELECT => Some(Returns::Other),
            name if is_operator(name) => Some(Returns::Bool),
            _ => {
                let (name, style) = callee(call);
                signatures::find(&name, style, call.args.len())
            }
        },
        // exists_one ends in a comparison.
        Expr::Comprehension(it) if matches!(it.result.expr, Expr::Call(_)) => Some(Returns::Bool),
        Expr::Comprehension(it) => returns(&it.accu_init.expr),
        Expr::Select(_) | Expr::Ident(_) | Expr::Unspecified => None,
    }
}
