//! Conditions in CEL, asked of the guard and of the evaluator that Kubernetes has. Where Kubernetes has a value, the guard
//! has the same or none; where Kubernetes has none, the guard has none.

pub mod generate;
pub mod guard;
pub mod known;
pub mod kubernetes;
pub mod situation;

use std::collections::BTreeMap;
use std::fmt;

use anyhow::Result;

use crate::conditions::guard::{Outcome, ask};
use crate::conditions::known::{Exception, Reason};
use crate::conditions::kubernetes::Answer;
use crate::conditions::situation::Situation;

/// Names of types that an expression can compare with.
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

/// What both say of one expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// Both have the same value.
    Same,
    /// Neither has one, or it cannot be written down.
    Neither,
    /// Kubernetes has a value, and the guard none: why.
    OnlyKubernetes(String),
    /// The guard has a value, and Kubernetes none: why.
    OnlyGuard(String),
    /// Both have one, and not the same.
    Differs(String),
}

/// How many expressions went how.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// The same value.
    pub same: usize,
    /// No value.
    pub neither: usize,
    /// The guard alone has none, by what the documentation says of it.
    pub refused: BTreeMap<&'static str, usize>,
    /// The guard alone has one, by why that is right.
    pub excepted: BTreeMap<&'static str, usize>,
    /// What must not be: the expression and why.
    pub disagreements: Vec<String>,
}

impl Tally {
    /// Counts one.
    pub fn count(&mut self, expression: &str, agreement: &Agreement) {
        let disagreement = match agreement {
            Agreement::Same => {
                self.same += 1;
                return;
            }
            Agreement::Neither => {
                self.neither += 1;
                return;
            }
            Agreement::OnlyKubernetes(words) => match Reason::of(words, expression) {
                Some(reason) => {
                    *self.refused.entry(reason.documented).or_default() += 1;
                    return;
                }
                None => format!("Kubernetes has a value, and the guard none for no known reason: {words}"),
            },
            Agreement::OnlyGuard(error) => match Exception::of(error, expression) {
                Some(exception) => {
                    *self.excepted.entry(exception.because).or_default() += 1;
                    return;
                }
                None => format!("the guard has a value, and Kubernetes none: {error}"),
            },
            Agreement::Differs(why) => why.clone(),
        };
        self.disagreements
            .push(format!("{expression}\n    {disagreement}"));
    }

    /// So many expressions.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.same + self.neither + self.refused() + self.excepted() + self.disagreements.len()
    }

    /// So many that the guard alone has no answer to.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.refused.values().sum()
    }

    /// So many that the guard alone has an answer to.
    #[must_use]
    pub fn excepted(&self) -> usize {
        self.excepted.values().sum()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = [
            self.same,
            self.neither,
            self.refused(),
            self.excepted(),
            self.disagreements.len(),
        ];
        let [same, neither, refused, excepted, disagreements] = counts;
        writeln!(
            f,
            "{} expressions: {same} with the same value, {neither} with none, {refused} with one in Kubernetes alone, \
             {excepted} here alone, {disagreements} disagreements",
            self.asked()
        )?;
        for (reason, count) in &self.refused {
            writeln!(f, "{count:6} not here: {reason}")?;
        }
        for (reason, count) in &self.excepted {
            writeln!(f, "{count:6} not in Kubernetes: {reason}")?;
        }
        for disagreement in self.disagreements.iter().take(20) {
            writeln!(f, "DISAGREEMENT {disagreement}")?;
        }
        Ok(())
    }
}

/// Asks both about each expression.
pub fn compare(expressions: &[String]) -> Result<Tally> {
    let situation = Situation::new();
    let answers = kubernetes::answers(expressions, &situation)?;
    let mut tally = Tally::default();
    for (expression, answer) in expressions.iter().zip(&answers) {
        tally.count(expression, &agreement(expression, answer, &situation)?);
    }
    Ok(tally)
}

fn agreement(expression: &str, answer: &Answer, situation: &Situation) -> Result<Agreement> {
    let Some(value) = &answer.value else {
        // A list of it has a size wherever it has a value.
        let is_there = ask(&format!("[{expression}].size() == 1"), situation)?;
        return Ok(match is_there {
            Outcome::Holds if !answer.is_unwritten() => {
                Agreement::OnlyGuard(answer.error.clone().unwrap_or_default())
            }
            Outcome::Holds | Outcome::DoesNotHold | Outcome::NoAnswer(_) => Agreement::Neither,
        });
    };
    let agreement = is(expression, value, situation)?;
    match &answer.type_name {
        Some(name) if agreement == Agreement::Same && TYPES.contains(&name.as_str()) => {
            is(&format!("type({expression}) == {name}"), "true", situation)
        }
        Some(_) | None => Ok(agreement),
    }
}

/// Whether an expression has this value for the guard.
pub fn is(expression: &str, value: &str, situation: &Situation) -> Result<Agreement> {
    let (asked, wanted) = match value {
        "true" => (expression.to_owned(), Outcome::Holds),
        "false" => (expression.to_owned(), Outcome::DoesNotHold),
        value => (format!("({expression}) == ({value})"), Outcome::Holds),
    };
    let found = ask(&asked, situation)?;
    if found == wanted {
        return Ok(Agreement::Same);
    }
    Ok(match found {
        Outcome::NoAnswer(why) => Agreement::OnlyKubernetes(why),
        Outcome::Holds | Outcome::DoesNotHold => Agreement::Differs(format!("{found:?}: {asked}")),
    })
}
