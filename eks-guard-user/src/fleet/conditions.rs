//! What the status of a policy should be: conditions with reasons, the rules that cannot be used, and how many nodes decide by it.

use std::fmt::Display;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::fleet::nodes::Standing;
use crate::fleet::{Policy, Verdict};
use crate::kubeapi::condition::{self, Condition};

/// Most nodes and mistakes that a message names, and most characters of what is said of each mistake.
const MAX_NAMED: usize = 5;
const MAX_MESSAGE: usize = 512;

/// The status that a policy should have.
pub(super) fn status(policy: &Policy, standing: &Standing, now: Timestamp) -> Value {
    let now = condition::time(now);
    let condition = |condition: Condition| {
        let mut fields = condition.fields(&policy.status, &now);
        fields.insert("observedGeneration".to_owned(), json!(policy.generation));
        fields
    };
    let mut status = json!({
        "observedGeneration": policy.generation,
        "conditions": [condition(accepted(&policy.verdict)), condition(programmed(policy.generation, standing))],
        "nodes": format!("{}/{}", standing.current, standing.total()),
    });
    let rules = rules(&policy.verdict);
    if !rules.is_empty() {
        status["rules"] = json!(rules);
    }
    status
}

/// One entry a rule: its first mistake.
fn rules(verdict: &Verdict) -> Vec<Value> {
    let Verdict::Invalid(mistakes) = verdict else {
        return Vec::new();
    };
    let rules = mistakes.told.iter().filter_map(|mistake| {
        let rule = mistake.rule.as_ref()?;
        Some(json!({"name": rule, "reason": "Invalid", "message": cut(&mistake.message)}))
    });
    rules.collect()
}

fn accepted(verdict: &Verdict) -> Condition {
    let (status, reason, message) = match verdict {
        Verdict::Accepted => ("True", "Valid", "the policy can be used".to_owned()),
        Verdict::TooMany => (
            "False",
            "TooManyPolicies",
            "there are more policies than nodes take, or they are too long together; those before stay in force: remove some"
                .to_owned(),
        ),
        Verdict::Invalid(mistakes) => {
            let said = mistakes.told.iter().take(MAX_NAMED).map(|mistake| match &mistake.rule {
                Some(rule) => format!("rule {rule}: {}", cut(&mistake.message)),
                None => cut(&mistake.message),
            });
            let mut said: Vec<String> = said.collect();
            let more = mistakes.count.saturating_sub(said.len());
            if more > 0 {
                said.push(format!("and {more} more"));
            }
            let text = format!("agents that it is about are refused everything: {}", said.join("; "));
            ("False", "Invalid", text)
        }
    };
    Condition {
        kind: "Accepted",
        status,
        reason,
        message,
    }
}

fn programmed(generation: u64, standing: &Standing) -> Condition {
    let (current, total) = (standing.current, standing.total());
    let count = format!("{current} of {total} nodes decide by generation {generation}");
    let (status, reason, message) = if standing.is_cut {
        (
            "Unknown",
            "TooManyNodes",
            format!("{count}, and there are more than are counted"),
        )
    } else if total == 0 {
        ("Unknown", "NoNodes", "no node says what it decides by".to_owned())
    } else if !standing.behind.is_empty() {
        (
            "False",
            "NodesBehind",
            format!("{count}; not yet: {}", some_of(&standing.behind)),
        )
    } else if !standing.silent.is_empty() {
        (
            "Unknown",
            "NodesSilent",
            format!("{count}; silent: {}", some_of(&standing.silent)),
        )
    } else {
        ("True", "Programmed", count)
    };
    Condition {
        kind: "Programmed",
        status,
        reason,
        message,
    }
}

/// The first of them, and how many more there are.
pub(crate) fn some_of<T: Display>(all: impl IntoIterator<Item = T>) -> String {
    let mut all = all.into_iter();
    let mut named: Vec<String> = all.by_ref().take(MAX_NAMED).map(|one| one.to_string()).collect();
    let more = all.count();
    if more > 0 {
        named.push(format!("and {more} more"));
    }
    named.join(", ")
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_MESSAGE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{MAX_TOLD, Mistake, Mistakes};

    fn policy(verdict: Verdict, status: Value) -> Policy {
        Policy {
            name: "a".to_owned(),
            uid: "u".to_owned(),
            generation: 2,
            version: "7".to_owned(),
            status,
            verdict,
        }
    }

    fn standing(current: usize, behind: usize, silent: usize) -> Standing {
        let nodes = |count: usize| (0..count).map(|number| format!("n{number}")).collect();
        Standing {
            current,
            behind: nodes(behind),
            silent: nodes(silent),
            is_cut: false,
        }
    }

    fn mistake(rule: Option<&str>, message: &str) -> Mistake {
        Mistake {
            rule: rule.map(str::to_owned),
            message: message.to_owned(),
        }
    }

    #[test]
    fn a_policy_is_programmed_when_every_node_says_so() {
        let said = |standing: &Standing| {
            let status = status(
                &policy(Verdict::Accepted, Value::Null),
                standing,
                Timestamp::UNIX_EPOCH,
            );
            let condition = &status["conditions"][1];
            assert_eq!(
                (&condition["type"], &condition["observedGeneration"]),
                (&json!("Programmed"), &json!(2))
            );
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            [
                text(&condition["status"]),
                text(&condition["reason"]),
                text(&status["nodes"]),
                text(&condition["message"]),
            ]
        };
        let begins = |standing: &Standing, wanted: [&str; 3]| assert_eq!(said(standing)[..3], wanted);
        begins(&standing(0, 0, 0), ["Unknown", "NoNodes", "0/0"]);
        begins(&standing(3, 0, 0), ["True", "Programmed", "3/3"]);
        begins(&standing(2, 1, 1), ["False", "NodesBehind", "2/4"]);
        begins(&standing(2, 0, 1), ["Unknown", "NodesSilent", "2/3"]);
        let mut cut = standing(3, 0, 0);
        cut.is_cut = true;
        begins(&cut, ["Unknown", "TooManyNodes", "3/3"]);
        let [.., many] = said(&standing(0, 7, 0));
        assert!(many.ends_with("n4, and 2 more"), "{many}");
    }

    #[test]
    fn mistakes_name_their_rules_and_times_stay_while_nothing_changes() {
        let mistakes = [
            mistake(Some("r"), "no verb"),
            mistake(Some("r"), "no group"),
            mistake(None, "no mode"),
            mistake(Some(""), "no name"),
            mistake(Some(&"r".repeat(64)), "a long name"),
        ];
        let broken = |before| policy(Verdict::Invalid(Mistakes::of(mistakes.clone())), before);
        let one = standing(1, 0, 0);
        let first = status(&broken(Value::Null), &one, Timestamp::UNIX_EPOCH);
        let accepted = &first["conditions"][0];
        assert_eq!(
            (&accepted["status"], &accepted["reason"]),
            (&json!("False"), &json!("Invalid"))
        );
        let message = accepted["message"].as_str().unwrap();
        assert!(
            message.contains("rule r: no verb; no mode; no name; a long name; and 1 more"),
            "{message}"
        );
        assert_eq!(
            first["rules"],
            json!([{"name": "r", "reason": "Invalid", "message": "no verb"}])
        );
        let later: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(status(&broken(first.clone()), &one, later), first);
        let mended = status(&policy(Verdict::Accepted, first.clone()), &one, later);
        assert_eq!(
            mended["conditions"][0]["lastTransitionTime"],
            "2026-01-01T00:00:00Z"
        );
        assert_eq!(mended["conditions"][1], first["conditions"][1]);
        assert!(mended["rules"].is_null());
        // Whatever somebody else has written there.
        for odd in [
            json!([]),
            json!({"conditions": {}}),
            json!({"conditions": [7]}),
            json!("x"),
        ] {
            status(&policy(Verdict::TooMany, odd), &one, later);
        }
    }

    #[test]
    fn a_status_is_short_whatever_is_wrong() {
        let mistakes = (0..1_000).map(|number| mistake(Some(&format!("r{number}")), &"x".repeat(100_000)));
        let broken = policy(Verdict::Invalid(Mistakes::of(mistakes)), Value::Null);
        let status = status(&broken, &standing(0, 10_000, 10_000), Timestamp::UNIX_EPOCH);
        assert!(status.to_string().len() < 32 << 10);
        assert_eq!(status["rules"].as_array().unwrap().len(), MAX_TOLD);
    }
}
