//! The guard's own word about an expression: by a rule that allows under it, and by one that allows under its opposite.

use anyhow::{Context, Result, anyhow, bail};
use eks_guard_core::policy::{Decision, Snapshot, read_policies};

use crate::conditions::situation::Situation;

/// What a condition comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It holds.
    Holds,
    /// It does not hold.
    DoesNotHold,
    /// It is not taken, or has no answer: why.
    NoAnswer(String),
}

/// What one rule says.
enum Word {
    Allowed,
    Refused(String),
}

/// Asks about one expression.
pub fn ask(expression: &str, situation: &Situation) -> Result<Outcome> {
    let straight = allow_under(expression, situation)?;
    let opposite = allow_under(&format!("!({expression})"), situation)?;
    match (straight, opposite) {
        (Word::Allowed, Word::Refused(_)) => Ok(Outcome::Holds),
        (Word::Refused(_), Word::Allowed) => Ok(Outcome::DoesNotHold),
        (Word::Refused(why), Word::Refused(_)) => Ok(Outcome::NoAnswer(why)),
        (Word::Allowed, Word::Allowed) => bail!("{expression} holds, and so does its opposite"),
    }
}

fn allow_under(expression: &str, situation: &Situation) -> Result<Word> {
    let quoted = quoted(expression);
    let document = format!(
        r#"apiVersion: eks-guard.dev/v1alpha1
kind: AgentPolicy
metadata: {{name: asked}}
spec:
  subjects: {{agents: [agent]}}
  rules:
    - name: asked
      effect: allow
      verbs: [update]
      apiGroups: [example.com]
      resources: [widgets]
      namespaces: ["*"]
      conditions:
        - name: asked
          expression: {quoted}
"#
    );
    let policies = match read_policies("asked.yaml", &document) {
        Ok(policies) => policies,
        Err(errors) => {
            let messages: Vec<String> = errors.into_iter().map(|error| error.message).collect();
            return Ok(Word::Refused(messages.join("; ")));
        }
    };
    let rules = Snapshot::compile(&policies, 1).map_err(|errors| anyhow!("{errors:?}"))?;
    match rules.decide(&situation.principal(), situation.request()?, &situation.facts()) {
        Decision::Permit(_) => Ok(Word::Allowed),
        Decision::Refuse(_, refusal) => {
            let why = refusal.message.split_once("its condition \"asked\" ");
            let why = why
                .with_context(|| format!("{expression}: refused for something else: {}", refusal.message))?;
            Ok(Word::Refused(why.1.to_owned()))
        }
        Decision::Look(_) => bail!("{expression} asks for objects that are known"),
    }
}

/// YAML has fewer characters than CEL.
fn quoted(text: &str) -> String {
    let written = text.chars().map(|char| match char {
        ' '..='~' if !matches!(char, '"' | '\\') => char.to_string(),
        other => format!("\\U{:08x}", u32::from(other)),
    });
    format!("\"{}\"", written.collect::<String>())
}
