//! Checks what an expression reads of objects against the kinds that its rule is about: a member that none of them has
//! is a mistake, and so is a comparison of what can never be equal.

use std::collections::BTreeMap;

use cel::IdedExpr;
use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, SelectExpr, operators};

use crate::body::protobuf::Shape;
use crate::policy::condition::check::Mistake;
use crate::policy::condition::library::signatures::{self, Returns};
use crate::policy::condition::shape::callee;
use crate::yaml::nearest;

/// What the objects of a rule look like.
#[derive(Clone, Debug, Default)]
pub(crate) struct Schema {
    /// Each kind that `object` may have; none when not all of them are known.
    pub(crate) object: Option<Vec<Shape>>,
    /// Each kind that `oldObject` may have.
    pub(crate) old_object: Option<Vec<Shape>>,
}

/// Finds the first member that no kind has.
pub(super) fn check(root: &IdedExpr, schema: &Schema) -> Result<(), Mistake> {
    for (variable, shapes) in [("object", &schema.object), ("oldObject", &schema.old_object)] {
        let Some(shapes) = shapes.as_deref().filter(|shapes| !shapes.is_empty()) else {
            continue;
        };
        let mut common: Option<BTreeMap<u64, String>> = None;
        for shape in shapes {
            let mut reader = Reader {
                bound: vec![(variable.to_owned(), shape.clone())],
                mistakes: BTreeMap::new(),
            };
            reader.shape(root);
            let found = reader.mistakes;
            common = Some(match common {
                None => found,
                Some(before) => before
                    .into_iter()
                    .filter(|(node, _)| found.contains_key(node))
                    .collect(),
            });
        }
        if let Some((node, message)) = common.into_iter().flatten().next() {
            return Err(Mistake { node, message });
        }
    }
    Ok(())
}

/// Reads an expression with one kind for one variable.
struct Reader {
    /// Names and what they hold, innermost last.
    bound: Vec<(String, Shape)>,
    mistakes: BTreeMap<u64, String>,
}

impl Reader {
    /// What an expression comes out as, as far as that is known.
    fn shape(&mut self, node: &IdedExpr) -> Shape {
        match &node.expr {
            Expr::Literal(LiteralValue::String(_)) => Shape::Text,
            Expr::Literal(LiteralValue::Int(_) | LiteralValue::UInt(_) | LiteralValue::Double(_)) => {
                Shape::Number
            }
            Expr::Literal(LiteralValue::Boolean(_)) => Shape::Bool,
            Expr::Literal(_) | Expr::Struct(_) | Expr::Unspecified => Shape::Any,
            Expr::Ident(name) => {
                let found = self.bound.iter().rfind(|(bound, _)| bound == name);
                found.map_or(Shape::Any, |(_, shape)| shape.clone())
            }
            Expr::Select(select) => self.selected(node.id, select),
            Expr::List(list) => {
                let items: Vec<Shape> = list.elements.iter().map(|it| self.shape(it)).collect();
                let item = items.into_iter().reduce(|left, right| either(left, &right));
                Shape::List(Box::new(item.unwrap_or(Shape::Any)))
            }
            Expr::Map(map) => {
                for entry in &map.entries {
                    match &entry.expr {
                        EntryExpr::MapEntry(entry) => {
                            self.shape(&entry.key);
                            self.shape(&entry.value);
                        }
                        EntryExpr::StructField(field) => {
                            self.shape(&field.value);
                        }
                    }
                }
                Shape::Any
            }
            Expr::Call(call) => self.called(node.id, call),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
        }
    }

    fn selected(&mut self, node: u64, select: &SelectExpr) -> Shape {
        let operand = self.shape(&select.operand);
        let member = self.member(node, operand, &select.field);
        if select.test { Shape::Bool } else { member }
    }

    fn member(&mut self, node: u64, of: Shape, name: &str) -> Shape {
        let message = match of {
            Shape::Any => return Shape::Any,
            Shape::Map(value) => return *value,
            Shape::Object(fields) => match fields.get(name) {
                Some(shape) => return shape,
                None => {
                    let hint = nearest(name, &fields.names())
                        .map_or(String::new(), |close| format!("; did you mean `{close}`?"));
                    format!("{} has no field `{name}`{hint}", fields.type_name())
                }
            },
            Shape::List(_) => format!("a list has no field `{name}`; go through it with `all` or `exists`"),
            Shape::Text | Shape::Number | Shape::Bool => {
                format!("{} has no field `{name}`", describe(&of))
            }
        };
        self.mistakes.insert(node, message);
        Shape::Any
    }

    fn called(&mut self, node: u64, call: &CallExpr) -> Shape {
        let target = call.target.as_ref().map(|it| self.shape(it));
        let arguments: Vec<Shape> = call.args.iter().map(|it| self.shape(it)).collect();
        let mut arguments = arguments.into_iter();
        let (first, second, third) = (arguments.next(), arguments.next(), arguments.next());
        match (call.func_name.as_str(), first, second) {
            // A key in brackets may be one that this version does not know.
            (operators::INDEX | operators::OPT_INDEX, Some(Shape::List(item) | Shape::Map(item)), _) => *item,
            (operators::OPT_SELECT, Some(of), _) => match call.args.get(1).map(|it| &it.expr) {
                Some(Expr::Literal(LiteralValue::String(name))) => self.member(node, of, name.inner()),
                Some(_) | None => Shape::Any,
            },
            (operators::CONDITIONAL, _, Some(then)) => third.map_or(Shape::Any, |other| either(then, &other)),
            (operators::ADD, Some(left), Some(right)) => sum(left, right),
            (name, Some(left), Some(right)) if is_comparison(name) => {
                if can_never_meet(&left, &right) {
                    let (left, right) = (describe(&left), describe(&right));
                    self.mistakes
                        .insert(node, format!("it compares {left} with {right}"));
                }
                Shape::Bool
            }
            ("orValue" | "value", _, _) => target.unwrap_or(Shape::Any),
            _ => returned(call),
        }
    }

    fn comprehension(&mut self, comprehension: &ComprehensionExpr) -> Shape {
        let item = match self.shape(&comprehension.iter_range) {
            Shape::List(item) => *item,
            Shape::Map(_) | Shape::Object(_) => Shape::Text,
            Shape::Text | Shape::Number | Shape::Bool | Shape::Any => Shape::Any,
        };
        let start = self.shape(&comprehension.accu_init);
        let depth = self.bound.len();
        self.bound.push((comprehension.iter_var.clone(), item));
        self.bound.push((comprehension.accu_var.clone(), start));
        self.shape(&comprehension.loop_cond);
        let step = self.step(comprehension);
        if let Some(accumulator) = self.bound.last_mut() {
            accumulator.1 = step;
        }
        let result = self.shape(&comprehension.result);
        self.bound.truncate(depth);
        result
    }

    /// What one step makes of what there was: `filter` adds the element to it, or leaves it.
    fn step(&mut self, comprehension: &ComprehensionExpr) -> Shape {
        let step = &comprehension.loop_step;
        if let Expr::Call(call) = &step.expr
            && let [test, added, left] = call.args.as_slice()
            && matches!(&left.expr, Expr::Ident(name) if *name == comprehension.accu_var)
        {
            self.shape(test);
            return self.shape(added);
        }
        self.shape(step)
    }
}

/// What is one or the other.
fn either(left: Shape, right: &Shape) -> Shape {
    match (left, right) {
        (Shape::List(left), Shape::List(right)) => Shape::List(Box::new(either(*left, right))),
        (left, right) if left.is_same(right) => left,
        _ => Shape::Any,
    }
}

/// What `+` makes: `map` and `filter` begin with an empty list.
fn sum(left: Shape, right: Shape) -> Shape {
    match (left, right) {
        (Shape::List(left), Shape::List(right)) if matches!(*left, Shape::Any) => Shape::List(right),
        (left @ Shape::List(_), right @ Shape::List(_)) => either(left, &right),
        (Shape::Text, _) | (_, Shape::Text) => Shape::Text,
        _ => Shape::Any,
    }
}

fn returned(call: &CallExpr) -> Shape {
    let (name, style) = callee(call);
    match signatures::find(&name, style, call.args.len()) {
        Some(Returns::Text) => Shape::Text,
        Some(Returns::Number) => Shape::Number,
        Some(Returns::Bool) => Shape::Bool,
        Some(Returns::Other | Returns::Any) | None => Shape::Any,
    }
}

fn is_comparison(name: &str) -> bool {
    matches!(
        name,
        operators::EQUALS
            | operators::NOT_EQUALS
            | operators::LESS
            | operators::LESS_EQUALS
            | operators::GREATER
            | operators::GREATER_EQUALS
    )
}

fn can_never_meet(left: &Shape, right: &Shape) -> bool {
    let is_known = |shape: &Shape| !matches!(shape, Shape::Any);
    is_known(left) && is_known(right) && describe(left) != describe(right)
}

fn describe(shape: &Shape) -> &'static str {
    match shape {
        Shape::Object(_) | Shape::Map(_) => "an object",
        Shape::List(_) => "a list",
        Shape::Text => "text",
        Shape::Number => "a number",
        Shape::Bool => "true or false",
        Shape::Any => "anything",
    }
}
