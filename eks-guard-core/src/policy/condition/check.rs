//! Reads the syntax tree of an expression once, when the policy is read: names that do not exist, what it may cost, which
//! paths it reads; and puts compiled patterns in the place of their text.

use std::collections::BTreeMap;
use std::sync::Arc;

use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, SelectExpr, operators};
use cel::{Context, IdedExpr, Value};

use crate::policy::condition::inputs::Paths;
use crate::policy::condition::library;
use crate::policy::condition::library::opaque::Opaque;
use crate::policy::condition::library::signatures::{self, DURATION, PAIRS, PIECES, Returns, SORTING};
use crate::policy::condition::limits::{
    Body, Cost, Length, Lists, Loop, MAX_GROWTH, MAX_HEIGHT, MAX_NESTING, MAX_NODES, Order, Text,
};
use crate::policy::condition::pattern::Pattern;
use crate::policy::condition::shape::{are_incomparable, callee, growth, is_operator, length, returns};
use crate::yaml::nearest;

/// The variables an expression may read.
pub(super) const VARIABLES: [&str; 5] = ["object", "oldObject", "principal", "request", "time"];

/// Names of types, as `type(x) == string` has them.
const TYPES: [&str; 9] = [
    "bool",
    "bytes",
    "double",
    "int",
    "list",
    "map",
    "null_type",
    "string",
    "uint",
];

/// The beginning of the names under which compiled patterns stand.
pub(super) const PATTERN_PREFIX: &str = "@pattern";

/// What was found.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) reads: BTreeMap<&'static str, Paths>,
    pub(super) patterns: Vec<Opaque<Pattern>>,
    pub(super) cost: Cost,
}

/// A mistake, and the node it is in.
#[derive(Debug)]
pub(super) struct Mistake {
    pub(super) node: u64,
    pub(super) message: String,
}

struct Checker {
    checked: Checked,
    /// Variables of the comprehensions around.
    bound: Vec<String>,
    nodes: usize,
    height: usize,
    depth: u32,
    /// How often what stands here is evaluated.
    around: Length,
}

/// Checks a tree.
pub(super) fn check(root: &mut IdedExpr) -> Result<Checked, Mistake> {
    let mut checker = Checker {
        checked: Checked {
            reads: BTreeMap::new(),
            patterns: Vec::new(),
            cost: Cost::none(),
        },
        bound: Vec::new(),
        nodes: 0,
        height: 0,
        depth: 0,
        around: Length::ONE,
    };
    checker.walk(root)?;
    let node = root.id;
    match returns(&root.expr) {
        Some(Returns::Bool | Returns::Any) | None => Ok(checker.checked),
        Some(Returns::Text) => fail(node, "it is text, and a condition is true or false"),
        Some(Returns::Number) => fail(node, "it is a number, and a condition is true or false"),
        Some(Returns::Other) => fail(node, "it is not true or false, which a condition has to be"),
    }
}

fn no_function(name: &str, arguments: usize) -> String {
    let known = format!("there is no function `{name}` with {arguments} arguments here");
    if let Some(reason) = signatures::left_out(name) {
        return format!("{known}, although Kubernetes has it: {reason}");
    }
    let close = nearest(name, &signatures::names()).filter(|close| *close != name);
    close.map_or(known.clone(), |close| format!("{known}; did you mean `{close}`?"))
}

fn fail<T>(node: u64, message: impl Into<String>) -> Result<T, Mistake> {
    Err(Mistake {
        node,
        message: message.into(),
    })
}

impl Checker {
    fn walk(&mut self, node: &mut IdedExpr) -> Result<(), Mistake> {
        self.height += 1;
        let path = Self::path(&node.expr).map_or(0, |(_, path)| path.len());
        if self.height + path > MAX_HEIGHT {
            return fail(
                node.id,
                format!("it nests or chains more than {MAX_HEIGHT} deep; use several conditions"),
            );
        }
        self.walk_into(node)?;
        self.height -= 1;
        Ok(())
    }

    fn walk_into(&mut self, node: &mut IdedExpr) -> Result<(), Mistake> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return fail(
                node.id,
                format!("it has more than {MAX_NODES} parts; use several conditions"),
            );
        }
        if let Some((variable, path)) = Self::path(&node.expr) {
            return self.read(variable, &path);
        }
        let id = node.id;
        match &mut node.expr {
            Expr::Literal(LiteralValue::String(text)) => {
                self.checked.cost.written.count(text.inner().len(), 0);
                Ok(())
            }
            Expr::Literal(_) => {
                self.checked.cost.written.count(0, 0);
                Ok(())
            }
            Expr::Ident(name) => self.identifier(id, name),
            Expr::Select(select) => self.walk(&mut select.operand),
            Expr::List(list) => {
                self.checked.cost.written.count(0, list.elements.len());
                list.elements.iter_mut().try_for_each(|it| self.walk(it))
            }
            Expr::Map(map) => {
                self.checked.cost.written.count(0, map.entries.len());
                let mut entries = map.entries.iter_mut();
                entries.try_for_each(|entry| match &mut entry.expr {
                    EntryExpr::MapEntry(entry) => {
                        self.walk(&mut entry.key)?;
                        self.walk(&mut entry.value)
                    }
                    EntryExpr::StructField(field) => self.walk(&mut field.value),
                })
            }
            Expr::Comprehension(comprehension) => self.comprehension(id, comprehension),
            Expr::Call(call) => self.call(id, call),
            Expr::Struct(_) | Expr::Unspecified => fail(id, "messages cannot be made here"),
        }
    }

    /// A variable and the members that are selected on it, outermost first.
    fn path(expr: &Expr) -> Option<(&'static str, Vec<String>)> {
        if let Expr::Ident(name) = expr {
            let variable = VARIABLES.into_iter().find(|it| it == name);
            return variable.map(|it| (it, Vec::new()));
        }
        let Expr::Select(SelectExpr { operand, field, .. }) = expr else {
            return None;
        };
        let (variable, mut path) = Self::path(&operand.expr)?;
        path.push(field.clone());
        Some((variable, path))
    }

    fn read(&mut self, variable: &'static str, path: &[String]) -> Result<(), Mistake> {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        self.checked
            .reads
            .entry(variable)
            .or_insert_with(Paths::none)
            .add(&path);
        self.checked.cost.variables += 1;
        if self.depth > 0 {
            self.checked.cost.body = Body::Variables;
        }
        Ok(())
    }

    fn identifier(&self, id: u64, name: &str) -> Result<(), Mistake> {
        if TYPES.contains(&name) || self.bound.iter().any(|it| it == name) {
            return Ok(());
        }
        let mut known: Vec<&str> = VARIABLES.to_vec();
        known.extend(self.bound.iter().map(String::as_str));
        let hint = nearest(name, &known).map_or(String::new(), |close| format!("; did you mean `{close}`?"));
        fail(id, format!("there is no variable `{name}`{hint}"))
    }

    fn call(&mut self, id: u64, call: &mut CallExpr) -> Result<(), Mistake> {
        if is_operator(&call.func_name) {
            if call.func_name == operators::ADD {
                self.join(call);
            }
            if let (operators::EQUALS | operators::NOT_EQUALS, [left, right]) =
                (call.func_name.as_str(), call.args.as_slice())
                && are_incomparable(&left.expr, &right.expr)
            {
                return fail(
                    id,
                    "it compares values that are never equal; make both what the library makes of text",
                );
            }
            return call.args.iter_mut().try_for_each(|it| self.walk(it));
        }
        let (name, style) = callee(call);
        if signatures::find(&name, style, call.args.len()).is_none() {
            return fail(id, no_function(&self.written_name(call), call.args.len()));
        }
        let lists = call
            .args
            .iter()
            .chain(call.target.as_deref())
            .map(|it| length(&it.expr));
        let longest = lists.fold(Length::ONE, Length::or);
        self.charge(&name, longest);
        let is_namespaced = name.len() > call.func_name.len();
        let evaluated = signatures::evaluated(&name, call.args.len());
        if let Some(target) = call.target.as_mut().filter(|_| !is_namespaced) {
            self.walk(target)?;
        }
        if matches!(call.func_name.as_str(), "matches" | "find" | "findAll") {
            self.pattern(id, call)?;
        }
        call.args
            .iter_mut()
            .filter(|it| !is_pattern(&it.expr))
            .try_for_each(|it| self.walk(it))?;
        if let Some(name) = evaluated {
            name.clone_into(&mut call.func_name);
        }
        conversion(id, call)
    }

    /// The name of what is called as it stands there: `ip.f` too, where `ip` is nothing but the beginning of names.
    fn written_name(&self, call: &CallExpr) -> String {
        match call.target.as_ref().map(|it| &it.expr) {
            Some(Expr::Ident(namespace))
                if !VARIABLES.contains(&namespace.as_str()) && !self.bound.contains(namespace) =>
            {
                format!("{namespace}.{}", call.func_name)
            }
            Some(_) | None => call.func_name.clone(),
        }
    }

    /// Counts what `+` may put together: texts, or lists.
    fn join(&mut self, call: &CallExpr) {
        self.checked.cost.joined += 1;
        let is_no_list = |it: &IdedExpr| matches!(returns(&it.expr), Some(Returns::Text | Returns::Number));
        self.checked.cost.chained += u64::from(!call.args.iter().any(is_no_list));
    }

    /// Counts what a function may cost beyond reading its arguments once.
    fn charge(&mut self, name: &str, longest: Length) {
        if PIECES.contains(&name) {
            self.checked.cost.text = Text::Pieces;
            self.goes_through(Length::LIST);
        }
        if PAIRS.contains(&name) {
            self.goes_through(longest);
            self.checked.cost.body = Body::Variables;
        }
        let cost = &mut self.checked.cost;
        if SORTING.contains(&name) {
            cost.order = Order::Sorted;
        }
        if name == "flatten" {
            cost.lists = Lists::Flattened;
        }
    }

    fn goes_through(&mut self, list: Length) {
        self.checked.cost.loops.push(Loop {
            around: self.around,
            whole: self.around.times(list),
        });
    }

    /// Compiles the pattern of a call: one that stands in an object would be compiled for every request.
    fn pattern(&mut self, id: u64, call: &mut CallExpr) -> Result<(), Mistake> {
        let Some(argument) = call.args.first_mut() else {
            return fail(id, "the pattern is missing");
        };
        let Expr::Literal(LiteralValue::String(text)) = &argument.expr else {
            return fail(argument.id, "the pattern has to be written out as text");
        };
        let pattern = match Pattern::compile(text.inner()) {
            Ok(pattern) => pattern,
            Err(error) => return fail(argument.id, format!("the pattern is not taken: {error}")),
        };
        argument.expr = Expr::Ident(format!("{PATTERN_PREFIX}{}", self.checked.patterns.len()));
        self.checked.patterns.push(Opaque(pattern));
        Ok(())
    }

    fn comprehension(&mut self, id: u64, comprehension: &mut ComprehensionExpr) -> Result<(), Mistake> {
        self.walk(&mut comprehension.iter_range)?;
        let range = length(&comprehension.iter_range.expr);
        self.goes_through(range);
        let inside = self.around.times(range);
        let around = std::mem::replace(&mut self.around, inside);
        let names = [Some(&comprehension.iter_var), comprehension.iter_var2.as_ref()];
        for name in names.into_iter().flatten() {
            if VARIABLES.contains(&name.as_str()) || TYPES.contains(&name.as_str()) || name.starts_with('@') {
                return fail(id, format!("`{name}` is taken; give the element another name"));
            }
            self.bound.push(name.clone());
        }
        self.bound.push(comprehension.accu_var.clone());
        self.depth += 1;
        if self.depth > MAX_NESTING {
            return fail(
                id,
                format!("more than {MAX_NESTING} of all, exists, map and filter stand inside each other"),
            );
        }
        let growth = growth(comprehension);
        self.checked.cost.growth = self.checked.cost.growth.saturating_mul(growth);
        if self.checked.cost.growth > MAX_GROWTH {
            return fail(
                id,
                "it makes values that are too much longer than what they are made of",
            );
        }
        for part in [
            &mut comprehension.accu_init,
            &mut comprehension.loop_cond,
            &mut comprehension.loop_step,
            &mut comprehension.result,
        ] {
            self.walk(part)?;
        }
        self.depth -= 1;
        self.around = around;
        self.bound.pop();
        let names = 1 + usize::from(comprehension.iter_var2.is_some());
        self.bound.truncate(self.bound.len() - names);
        Ok(())
    }
}

/// What is converted where it is written out has to be what it is converted to.
fn conversion(id: u64, call: &CallExpr) -> Result<(), Mistake> {
    let wanted = match call.func_name.as_str() {
        DURATION => "a duration, such as 1h30m",
        "timestamp" => "a point in time, such as 2024-02-29T12:30:00Z",
        "int" | "uint" | "double" => "a number that is not too large",
        "bool" => "true or false",
        _ => return Ok(()),
    };
    if !call.args.iter().all(|it| matches!(it.expr, Expr::Literal(_))) {
        return Ok(());
    }
    let node = IdedExpr {
        id,
        expr: Expr::Call(call.clone()),
    };
    let context = Context::with_env(Arc::clone(library::env()));
    match Value::resolve_val(&node, &context) {
        Ok(_) => Ok(()),
        Err(_) => fail(id, format!("it takes {wanted}")),
    }
}

fn is_pattern(expr: &Expr) -> bool {
    matches!(expr, Expr::Ident(name) if name.starts_with(PATTERN_PREFIX))
}
