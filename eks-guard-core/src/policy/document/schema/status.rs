//! `status`: what became of a policy. It is bounded whatever the number of nodes: it counts them, and names none.

use serde_json::{Value, json};

use crate::policy::document::schema::MAX_LABEL;
use crate::policy::document::schema::shape::{any_text, at_most, map_list, object, text, word};

/// Longest message and longest reason of a condition, as in Kubernetes.
const MAX_MESSAGE: usize = 32_768;
const MAX_REASON: usize = 1_024;
const REASON: &str = "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$";

pub(super) fn status() -> Value {
    let generation = |description: &str| json!({"type": "integer", "format": "int64", "minimum": 0, "description": description});
    let reason = || text("A word for programs.", MAX_REASON, REASON);
    let message = || any_text("A sentence for people.", MAX_MESSAGE, "");
    let since = json!({
        "type": "string", "format": "date-time", "description": "Since when the status is what it is.",
    });
    let condition = object(
        "One aspect of the policy's state.",
        &["type", "status", "lastTransitionTime", "reason", "message"],
        &[
            (
                "type",
                word(
                    "Accepted: it can be used. Programmed: every node decides by it.",
                    &["Accepted", "Programmed"],
                ),
            ),
            ("status", word("Whether it is so.", &["True", "False", "Unknown"])),
            ("observedGeneration", generation("The generation it is about.")),
            ("lastTransitionTime", since),
            ("reason", reason()),
            ("message", message()),
        ],
    );
    let rule = object(
        "A rule that cannot be used, and why.",
        &["name", "reason", "message"],
        &[
            ("name", text("The rule.", MAX_LABEL, "")),
            ("reason", reason()),
            ("message", message()),
        ],
    );
    object(
        "What became of the policy.",
        &[],
        &[
            (
                "observedGeneration",
                generation("The generation that the status is about."),
            ),
            (
                "conditions",
                at_most(8, map_list("What is so, and why.", "type", condition)),
            ),
            ("rules", map_list("Rules that cannot be used.", "name", rule)),
            (
                "nodes",
                any_text(
                    "How many nodes decide by the observed generation, of how many: 2/3.",
                    32,
                    "",
                ),
            ),
        ],
    )
}
