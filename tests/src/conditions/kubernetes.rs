//! What Kubernetes says of expressions: `cel-oracle` is built from its own libraries, `cel-conformance.jsonl` holds the
//! tests of CEL's specification as it printed them.

use std::ffi::OsStr;
use std::fs;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::conditions::situation::Situation;
use crate::workdir::Workdir;
use crate::{command, leash, programs};

/// What Kubernetes says of one expression.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Answer {
    /// The value, as an expression that has it.
    pub value: Option<String>,
    /// The name of its type.
    #[serde(rename = "type")]
    pub type_name: Option<String>,
    /// Why there is none.
    pub error: Option<String>,
}

impl Answer {
    /// There may be a value, but none that an expression can be compared with.
    #[must_use]
    pub fn is_unwritten(&self) -> bool {
        let error = self.error.as_deref();
        error.is_some_and(|error| error.contains("cannot be written down"))
    }
}

/// One of the specification's own tests.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct ConformanceTest {
    /// What is evaluated.
    pub expression: String,
    /// What it has to come to; none where it has to fail, or comes to a message.
    pub value: Option<String>,
}

/// Those that need no variables.
pub fn conformance() -> Result<Vec<ConformanceTest>> {
    let file = programs::server("cel-conformance.jsonl")?;
    let lines = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    read_lines(&lines)
}

/// Asks about each expression.
pub fn answers(expressions: &[String], situation: &Situation) -> Result<Vec<Answer>> {
    let folder = Workdir::create()?;
    let mut lines = situation.variables().to_string() + "\n";
    for expression in expressions {
        lines += &(serde_json::to_string(expression)? + "\n");
    }
    let questions = folder.write("questions", &lines)?;
    let mut oracle = leash::hold(&programs::server("cel-oracle")?)?;
    oracle.args([OsStr::new("answer"), questions.as_os_str()]);
    let answers: Vec<Answer> = read_lines(&command::run(oracle)?.ok()?)?;
    let (asked, answered) = (expressions.len(), answers.len());
    ensure!(answered == asked, "{answered} answers to {asked} questions");
    Ok(answers)
}

fn read_lines<T: for<'de> Deserialize<'de>>(lines: &str) -> Result<Vec<T>> {
    let values = lines.lines().map(serde_json::from_str);
    values
        .collect::<Result<_, _>>()
        .context("reading what the oracle says")
}
