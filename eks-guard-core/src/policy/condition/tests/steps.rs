//! Evaluating takes no more steps than the cost says that is fixed when a policy is read. Steps are counted: each part of an
//! expression that is evaluated, and each comparison of two elements.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use cel::common::ast::{CallExpr, Expr};
use cel::common::types::{CelList, CelMap, CelMapKey, CelString, DYN_TYPE, Type};
use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;
use cel::{Context, Env, ExecutionError, IdedExpr, Value};

use crate::policy::condition::check::{Checked, check};
use crate::policy::condition::inputs::Tally;
use crate::policy::condition::library;
use crate::policy::condition::library::opaque::{Named, Opaque};
use crate::policy::condition::shape::callee;
use crate::policy::tests::model::Dice;

/// What every part of an expression is wrapped into.
const TICK: &str = "@tick";
/// Bytes that the cost counts for one value at least.
const VALUE_BYTES: u64 = 32;

thread_local! {
    static EVALUATED: Cell<u64> = const { Cell::new(0) };
    static COMPARED: Cell<u64> = const { Cell::new(0) };
}

static COUNTED: Type = Type::new_unspecified_type("tests.Counted");
static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = library::environment().unwrap();
    env.add_overload(TICK, TICK, vec![DYN_TYPE], tick).unwrap();
    Arc::new(env)
});

fn tick<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    EVALUATED.set(EVALUATED.get() + 1);
    Ok(arguments.into_iter().next().unwrap())
}

/// An element that equals no other, and counts who asks.
#[derive(Clone, Debug)]
struct Counted(usize);

impl Named for Counted {
    const TYPE: &'static Type = &COUNTED;
}

impl PartialEq for Counted {
    fn eq(&self, other: &Self) -> bool {
        COMPARED.set(COMPARED.get() + 1);
        self.0 == other.0
    }
}

/// Lists `a` and `b` of an object.
struct Inputs {
    object: CelMap<'static>,
    tally: Tally,
}

impl Inputs {
    fn of(length: usize) -> Self {
        let mut tally = Tally::default();
        let mut members: HashMap<CelMapKey<'static>, Box<dyn Val>> = HashMap::new();
        tally.count(0, 2);
        for (place, name) in ["a", "b"].into_iter().enumerate() {
            tally.count(name.len(), 0);
            tally.count(0, length);
            let items = (0..length).map(|number| {
                tally.count(0, 0);
                Box::new(Opaque(Counted(place * length + number))) as Box<dyn Val>
            });
            let list = CelList::from(items.collect::<Vec<_>>());
            members.insert(CelMapKey::String(CelString::from(name)), Box::new(list));
        }
        let object = CelMap::from(members);
        Self { object, tally }
    }
}

impl VariableResolver for Inputs {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        (variable == "object").then_some(CowVal::Borrowed(&self.object))
    }
}

/// Wraps the parts of an expression, and says how many there are.
fn wrap(node: &mut IdedExpr) -> u64 {
    let inside = match &mut node.expr {
        // A path is one part; patterns and names stay what they are.
        Expr::Select(_) | Expr::Literal(_) => 0,
        Expr::Ident(name) if name.starts_with('@') => return 0,
        Expr::Call(call) => wrap_call(call),
        Expr::List(list) => list.elements.iter_mut().map(wrap).sum(),
        Expr::Comprehension(it) => {
            let accumulator = it.accu_var.clone();
            wrap(&mut it.iter_range) + wrap_step(&mut it.loop_step, &accumulator)
        }
        Expr::Ident(_) | Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified => 0,
    };
    let whole = std::mem::replace(&mut node.expr, Expr::Unspecified);
    node.expr = Expr::Call(CallExpr {
        func_name: TICK.to_owned(),
        target: None,
        args: vec![IdedExpr {
            id: node.id,
            expr: whole,
        }],
    });
    inside + 1
}

fn wrap_call(call: &mut CallExpr) -> u64 {
    let is_namespaced = callee(call).0.len() > call.func_name.len();
    let target = call.target.as_mut().filter(|_| !is_namespaced);
    target.map_or(0, |it| wrap(it)) + call.args.iter_mut().map(wrap).sum::<u64>()
}

/// The evaluator knows steps that add to a list by their form, which stays.
fn wrap_step(step: &mut IdedExpr, accumulator: &str) -> u64 {
    match &mut step.expr {
        Expr::Ident(name) if name == accumulator => 0,
        Expr::List(list) => list.elements.iter_mut().map(wrap).sum(),
        Expr::Call(call) if call.args.iter().any(|it| mentions(it, accumulator)) => {
            let parts = call.args.iter_mut();
            parts.map(|it| wrap_step(it, accumulator)).sum()
        }
        Expr::Call(_)
        | Expr::Comprehension(_)
        | Expr::Ident(_)
        | Expr::Literal(_)
        | Expr::Map(_)
        | Expr::Select(_)
        | Expr::Struct(_)
        | Expr::Unspecified => wrap(step),
    }
}

fn mentions(node: &IdedExpr, accumulator: &str) -> bool {
    match &node.expr {
        Expr::Ident(name) => name == accumulator,
        Expr::Call(call) => call.args.iter().any(|it| mentions(it, accumulator)),
        Expr::Comprehension(_)
        | Expr::List(_)
        | Expr::Literal(_)
        | Expr::Map(_)
        | Expr::Select(_)
        | Expr::Struct(_)
        | Expr::Unspecified => false,
    }
}

/// An expression that goes through everything: nothing in it ends a search early.
fn thorough(dice: &mut Dice, depth: usize) -> String {
    let list = list(dice, depth);
    let inner = match depth {
        0 => "x == y".replace('y', "object.a"),
        depth => thorough(dice, depth - 1).replace("object.a", dice.pick(&["object.a", "object.b", "[x]"])),
    };
    match dice.below(6) {
        0 => format!("!{list}.exists(x, x == 1 || !({inner}) && x == 2)"),
        1 => format!("{list}.all(x, {inner} || x != 1)"),
        2 => format!("{list}.filter(x, {inner} || true).size() > -1"),
        3 => format!("{list}.map(x, [x, {inner}]).size() > -1"),
        4 => format!("!{list}.exists(x, x in {})", self::list(dice, depth)),
        _ => format!("!sets.contains({list}, {}) || true", self::list(dice, depth)),
    }
}

fn list(dice: &mut Dice, depth: usize) -> String {
    let field = dice.pick(&["object.a", "object.b"]).to_owned();
    let Some(depth) = depth.checked_sub(1) else {
        return field;
    };
    match dice.below(8) {
        0 => format!("({} + {})", list(dice, depth), list(dice, depth)),
        1 => format!("{}.map(e, [e, e]).flatten()", list(dice, depth)),
        2 => format!("{}.distinct()", list(dice, depth)),
        3 => format!("{}.reverse()", list(dice, depth)),
        4 => format!("[{}, {}].flatten()", list(dice, depth), list(dice, depth)),
        5 => format!("{}.filter(e, e != 1)", list(dice, depth)),
        _ => field,
    }
}

fn parsed(source: &str) -> Option<(IdedExpr, Checked)> {
    let mut root = ENV
        .parser()
        .parse(source)
        .unwrap_or_else(|error| panic!("{source}: {error:?}"));
    let checked = check(&mut root).ok()?;
    Some((root, checked))
}

#[test]
fn no_expression_takes_more_steps_than_its_cost_says() {
    let mut dice = Dice(1);
    let (mut measured, mut fullest) = (0, 0.0_f64);
    for _ in 0..400 {
        let depth = dice.below(3);
        let source = thorough(&mut dice, depth);
        let Some((mut root, checked)) = parsed(&source) else {
            continue;
        };
        let parts = wrap(&mut root);
        // The longest lists that it may be asked about, and short ones.
        let lengths = [600, 200, 100, 50, 20, 7, 3, 1, 0].map(Inputs::of);
        let affordable = lengths.iter().filter(|it| checked.cost.affords(it.tally));
        for inputs in affordable.take(2) {
            let mut context = Context::with_env(Arc::clone(&ENV));
            context.set_variable_resolver(inputs);
            EVALUATED.set(0);
            COMPARED.set(0);
            Value::resolve_val(&root, &context).unwrap_or_else(|error| panic!("{source}: {error}"));
            let elements = checked.cost.elements(inputs.tally);
            let comparisons = checked.cost.work(inputs.tally) / VALUE_BYTES;
            let [evaluated, compared] = [EVALUATED.get(), COMPARED.get()];
            assert!(
                evaluated <= parts * (elements + 1),
                "{source}: {evaluated} of {parts} * {elements}"
            );
            assert!(
                compared <= parts * comparisons,
                "{source}: {compared} of {parts} * {comparisons}"
            );
            measured += 1;
            fullest = fullest.max(evaluated as f64 / (parts * elements) as f64);
        }
    }
    println!("{measured} evaluations, up to {fullest} of what the cost says");
    assert!(measured > 300, "{measured} were measured");
}
