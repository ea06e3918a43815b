//! The same rules in the words of two policy engines, and the same question put to them.

use std::str::FromStr;

use anyhow::{Context as _, Result, anyhow};
use cedar_policy::{
    Authorizer, Context, Decision, Entities, EntityUid, PolicySet, Request, RestrictedExpression,
};
use regorus::{Engine, Value};

use crate::{RULES, policy_of, team};

pub(crate) struct Cedar {
    authorizer: Authorizer,
    policies: PolicySet,
    entities: Entities,
    agent: EntityUid,
    get: EntityUid,
    api: EntityUid,
}

impl Cedar {
    pub(crate) fn new() -> Result<Self> {
        let rule = |rule: usize| {
            format!(
                "permit(principal, action in [Action::\"get\", Action::\"list\"], resource) when {{ \
                 [Agent::\"agent\", Agent::\"agent-{}\"].contains(principal) && context.group == \"\" && \
                 context.resource == \"pods\" && context.namespace == \"{}\" }};\n",
                policy_of(rule),
                team(rule)
            )
        };
        let text: String = (0..RULES).map(rule).collect();
        Ok(Self {
            authorizer: Authorizer::new(),
            policies: PolicySet::from_str(&text)?,
            entities: Entities::empty(),
            agent: EntityUid::from_str("Agent::\"agent\"")?,
            get: EntityUid::from_str("Action::\"get\"")?,
            api: EntityUid::from_str("Api::\"cluster\"")?,
        })
    }

    pub(crate) fn decides(&self, number: usize) -> Result<bool> {
        let text =
            |key: &str, value: &str| (key.to_owned(), RestrictedExpression::new_string(value.to_owned()));
        let context = Context::from_pairs([
            text("group", ""),
            text("resource", "pods"),
            text("namespace", &team(number)),
            text("name", "web-0"),
        ])?;
        let request = Request::new(
            self.agent.clone(),
            self.get.clone(),
            self.api.clone(),
            context,
            None,
        )?;
        let answer = self
            .authorizer
            .is_authorized(&request, &self.policies, &self.entities);
        Ok(answer.decision() == Decision::Allow)
    }
}

pub(crate) struct Rego {
    engine: Engine,
}

impl Rego {
    pub(crate) fn new() -> Result<Self> {
        let rules: Vec<serde_json::Value> = (0..RULES)
            .map(|rule| {
                serde_json::json!({
                    "agents": ["agent", format!("agent-{}", policy_of(rule))], "verbs": ["get", "list"], "groups": [""],
                    "resources": ["pods"], "namespaces": [team(rule)],
                })
            })
            .collect();
        let mut engine = Engine::new();
        let policy = "package guard\nimport rego.v1\ndefault allow := false\nallow if {\n  some rule in data.rules\n  \
                      input.namespace in rule.namespaces\n  input.agent in rule.agents\n  input.verb in rule.verbs\n  \
                      input.group in rule.groups\n  input.resource in rule.resources\n}\n";
        engine.add_policy("guard.rego".to_owned(), policy.to_owned())?;
        engine.add_data(Value::from_json_str(
            &serde_json::json!({"rules": rules}).to_string(),
        )?)?;
        Ok(Self { engine })
    }

    pub(crate) fn decides(&mut self, number: usize) -> Result<bool> {
        let input = serde_json::json!({
            "agent": "agent", "verb": "get", "group": "", "resource": "pods", "namespace": team(number), "name": "web-0",
        });
        self.engine.set_input(Value::from_json_str(&input.to_string())?);
        let allowed = self.engine.eval_rule("data.guard.allow".to_owned())?;
        allowed
            .as_bool()
            .copied()
            .map_err(|error| anyhow!("{error}"))
            .context("Rego's answer")
    }
}
