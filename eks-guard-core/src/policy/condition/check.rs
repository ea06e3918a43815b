//! Reads the syntax tree of an expression once, when the policy is read: names that do not exist, what it may cost, which
//! paths it reads; and puts compiled patterns in the place of their text.

use std::collections::BTreeMap;

use cel::IdedExpr;
use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, SelectExpr, operators};

use crate::policy::condition::inputs::Paths;
use crate::policy::condition::library::{self, Call, MATCHES, Returns};
use crate::policy::condition::limits::{Body, Cost, MAX_GROWTH, MAX_HEIGHT, MAX_NESTING, MAX_NODES, Text};
use crate::policy::condition::pattern::Pattern;
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
    pub(super) patterns: Vec<Pattern>,
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
}

/// Checks a tree.
pub(super) fn check(root: &mut IdedExpr) -> Result<Checked, Mistake> {
    let mut checker = Checker {
        checked: Checked {
            reads: BTreeMap::new(),
            patterns: Vec::new(),
            cost: Cost {
                nesting: 0,
                variables: 0,
                growth: 1,
                body: Body::Element,
                text: Text::Whole,
                joined: 1,
            },
        },
        bound: Vec::new(),
        nodes: 0,
        height: 0,
        depth: 0,
    };
    checker.walk(root)?;
    let node = root.id;
    match returns(&root.expr) {
        Some(Returns::Bool) | None => Ok(checker.checked),
        Some(Returns::Text) => fail(node, "it is text, and a condition is true or false"),
        Some(Returns::Number) => fail(node, "it is a number, and a condition is true or false"),
        Some(Returns::Other) => fail(node, "it is not true or false, which a condition has to be"),
    }
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
            Expr::Literal(_) => Ok(()),
            Expr::Ident(name) => self.identifier(id, name),
            Expr::Select(select) => self.walk(&mut select.operand),
            Expr::List(list) => list.elements.iter_mut().try_for_each(|it| self.walk(it)),
            Expr::Map(map) => map
                .entries
                .iter_mut()
                .try_for_each(|entry| match &mut entry.expr {
                    EntryExpr::MapEntry(entry) => {
                        self.walk(&mut entry.key)?;
                        self.walk(&mut entry.value)
                    }
                    EntryExpr::StructField(field) => self.walk(&mut field.value),
                }),
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
            self.checked.cost.joined += u64::from(call.func_name == operators::ADD);
            return call.args.iter_mut().try_for_each(|it| self.walk(it));
        }
        // `ip.isCanonical(x)` is read as a call of `isCanonical` on `ip`.
        if let Some(target) = &call.target
            && let Expr::Ident(namespace) = &target.expr
            && library::find(
                &format!("{namespace}.{}", call.func_name),
                Call::Plain,
                call.args.len(),
            )
            .is_some()
        {
            return call.args.iter_mut().try_for_each(|it| self.walk(it));
        }
        let style = if call.target.is_some() {
            Call::On
        } else {
            Call::Plain
        };
        if library::find(&call.func_name, style, call.args.len()).is_none() {
            let name = &call.func_name;
            let hint = nearest(name, &library::names())
                .filter(|close| close != name)
                .map_or(String::new(), |close| format!("; did you mean `{close}`?"));
            let arguments = call.args.len();
            return fail(
                id,
                format!("there is no function `{name}` with {arguments} arguments here{hint}"),
            );
        }
        if let Some(target) = &mut call.target {
            self.walk(target)?;
        }
        if library::PIECES.contains(&call.func_name.as_str()) {
            self.checked.cost.text = Text::Pieces;
        }
        if matches!(call.func_name.as_str(), "matches" | "find" | "findAll") {
            self.pattern(id, call)?;
        }
        call.args
            .iter_mut()
            .filter(|it| !is_pattern(&it.expr))
            .try_for_each(|it| self.walk(it))
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
        self.checked.patterns.push(pattern);
        if call.func_name == "matches" {
            MATCHES.clone_into(&mut call.func_name);
        }
        Ok(())
    }

    fn comprehension(&mut self, id: u64, comprehension: &mut ComprehensionExpr) -> Result<(), Mistake> {
        self.walk(&mut comprehension.iter_range)?;
        let names = [Some(&comprehension.iter_var), comprehension.iter_var2.as_ref()];
        for name in names.into_iter().flatten() {
            if VARIABLES.contains(&name.as_str()) || TYPES.contains(&name.as_str()) || name.starts_with('@') {
                return fail(id, format!("`{name}` is taken; give the element another name"));
            }
            self.bound.push(name.clone());
        }
        self.bound.push(comprehension.accu_var.clone());
        self.depth += 1;
        self.checked.cost.nesting = self.checked.cost.nesting.max(self.depth);
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
        self.bound.pop();
        let names = 1 + usize::from(comprehension.iter_var2.is_some());
        self.bound.truncate(self.bound.len() - names);
        Ok(())
    }
}

/// How often the element stands in what a step makes: `xs.map(x, x + x)` doubles.
fn growth(comprehension: &ComprehensionExpr) -> u64 {
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

fn is_pattern(expr: &Expr) -> bool {
    matches!(expr, Expr::Ident(name) if name.starts_with(PATTERN_PREFIX))
}

fn is_operator(name: &str) -> bool {
    name.starts_with(['_', '!', '-', '@'])
}

/// What an expression comes out as, where that is certain.
fn returns(expr: &Expr) -> Option<Returns> {
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
            // What these return is what stands inside.
            "value" | "orValue" | "dyn" => None,
            name => {
                let style = if call.target.is_some() {
                    Call::On
                } else {
                    Call::Plain
                };
                library::find(name, style, call.args.len())
            }
        },
        // exists_one ends in a comparison.
        Expr::Comprehension(it) if matches!(it.result.expr, Expr::Call(_)) => Some(Returns::Bool),
        Expr::Comprehension(it) => returns(&it.accu_init.expr),
        Expr::Select(_) | Expr::Ident(_) | Expr::Unspecified => None,
    }
}
