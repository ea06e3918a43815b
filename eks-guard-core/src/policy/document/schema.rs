//! The `AgentPolicy` CustomResourceDefinition: the same fields, words and limits as the reader of documents, as a structural
//! schema. What a schema cannot say, such as which resources there are, the reader says.

mod shape;
mod status;

#[cfg(test)]
mod tests;

use serde_json::{Value, json};

use crate::policy::condition::MAX_SOURCE;
use crate::policy::document::check::MAX_ENTRIES;
use crate::policy::document::rule::{MAX_CONDITIONS, MAX_PATH, MAX_VERBS};
use crate::policy::document::schema::shape::{
    any_text, at_most, check, list, map_list, object, set, star_alone, text, word, word_or,
};
use crate::policy::document::selectors::MAX_REQUIREMENTS;
use crate::policy::document::subjects::MAX_TEXT;
use crate::policy::document::{Effect, KIND};
use crate::policy::operation::{PATH_VERBS, RESOURCE_VERBS};
use crate::request_info::Verb;
use crate::yaml::API_VERSION;

/// Plural name of the kind.
const PLURAL: &str = "agentpolicies";
/// Longest label of DNS, longest name, and longest key of a label.
const MAX_LABEL: usize = 63;
const MAX_NAME: usize = 253;
const MAX_KEY: usize = MAX_NAME + 1 + MAX_LABEL;

const AGENT: &str = r"^(\*|[A-Za-z0-9][A-Za-z0-9_.-]*)$";
const ACCOUNT: &str = r"^(\*|[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?/[a-z0-9.-]{1,253})$";
const DNS_LABEL: &str = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$";
const DNS_LABEL_OR_ALL: &str = r"^(\*|[a-z0-9]([a-z0-9-]*[a-z0-9])?)$";
const GROUP: &str = r"^(\*|[a-z0-9.-]*)$";
const LABEL_KEY: &str = "^([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$";
const LABEL_VALUE: &str = "^([A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?)?$";
const OBJECT_NAME: &str = "^[^/%*]+$";
const PART: &str = r"^(\*|[a-z][a-z0-9.-]*)$";
const PATH: &str = r"^(\*|/[^*?]*\*?)$";
const RESOURCE: &str = r"^(\*|[a-z][a-z0-9-]{0,252})(/(\*|[a-z][a-z0-9.-]{0,252}))?$";

/// The CustomResourceDefinition, ready to be applied.
#[must_use]
pub fn custom_resource_definition() -> Value {
    let (group, version_name) = API_VERSION.split_once('/').unwrap_or((API_VERSION, ""));
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{PLURAL}.{group}")},
        "spec": {
            "group": group,
            "scope": "Cluster",
            "names": {
                "kind": KIND,
                "listKind": format!("{KIND}List"),
                "plural": PLURAL,
                "singular": KIND.to_ascii_lowercase(),
                "shortNames": ["agentpol"],
                "categories": ["eks-guard"],
            },
            "versions": [version(version_name)],
        },
    })
}

fn version(name: &str) -> Value {
    let column = |name: &str, path: &str, text: &str| {
        let kind = if name == "AGE" { "date" } else { "string" };
        json!({"name": name, "type": kind, "jsonPath": path, "description": text})
    };
    let condition = |kind: &str, field: &str| format!(".status.conditions[?(@.type==\"{kind}\")].{field}");
    json!({
        "name": name,
        "served": true,
        "storage": true,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [
            column("SUBJECTS", ".spec.subjects", "Whom the policy is about."),
            column("MODE", ".spec.mode", "Whether it decides or observes."),
            column("ACCEPTED", &condition("Accepted", "status"), "Whether it can be used."),
            column("REASON", &condition("Accepted", "reason"), "Why."),
            column("PROGRAMMED", &condition("Programmed", "status"), "Whether every node decides by it."),
            column("NODES", ".status.nodes", "How many nodes decide by it, of how many."),
            column("AGE", ".metadata.creationTimestamp", "How old it is."),
        ],
        "schema": {"openAPIV3Schema": document()},
    })
}

fn document() -> Value {
    let document = object(
        "Which requests agents may make. Whatever no rule allows is refused; the strongest effect decides.",
        &["spec"],
        &[
            ("apiVersion", json!({"type": "string"})),
            ("kind", json!({"type": "string"})),
            ("metadata", json!({"type": "object"})),
            ("spec", spec()),
            ("status", status::status()),
        ],
    );
    let rule = format!("!self.metadata.name.matches('[^.]{{{}}}')", MAX_LABEL + 1);
    let message = format!("a part of metadata.name is longer than {MAX_LABEL} characters");
    check(document, &[(&rule, &message)])
}

fn spec() -> Value {
    let modes = word(
        "Enforce: the rules decide. Observe: the record says what they would have changed.",
        &["Enforce", "Observe"],
    );
    let grants = word(
        "Required: what the policy allows is allowed inside a grant only.",
        &["Never", "Required"],
    );
    let rules = map_list("What is restricted and what is allowed.", "name", rule());
    object(
        "What the policy says.",
        &["subjects", "rules"],
        &[
            ("subjects", subjects()),
            ("mode", set(modes, "default", json!("Enforce"))),
            ("justInTime", set(grants, "default", json!("Never"))),
            ("rules", set(rules, "minItems", json!(1))),
        ],
    )
}

fn subjects() -> Value {
    let names = |description: &str, longest: usize, pattern: &str| {
        star_alone(list(description, &text("", longest, pattern)))
    };
    let claim = object(
        "Values of which the claim must have one.",
        &["name", "values"],
        &[
            ("name", text("Name of the claim.", MAX_TEXT, "")),
            ("values", names("Its values, exact, or \"*\".", MAX_TEXT, "")),
        ],
    );
    let subjects = object(
        "Whom the policy is about: all kinds that are given must agree, inside a kind one entry is enough.",
        &[],
        &[
            (
                "agents",
                names("Names of agents, exact, or \"*\".", MAX_NAME, AGENT),
            ),
            (
                "podSelector",
                selector("Labels that the agent's pod had when its node first saw it."),
            ),
            (
                "namespaces",
                names(
                    "Namespaces of the agent's pod, exact, or \"*\".",
                    MAX_LABEL,
                    DNS_LABEL_OR_ALL,
                ),
            ),
            (
                "serviceAccounts",
                names(
                    "ServiceAccounts of the agent's pod: namespace/name, or \"*\".",
                    MAX_LABEL + 1 + MAX_NAME,
                    ACCOUNT,
                ),
            ),
            (
                "containers",
                names(
                    "Containers of the agent's pod, exact, or \"*\".",
                    MAX_LABEL,
                    DNS_LABEL_OR_ALL,
                ),
            ),
            (
                "groups",
                names("Groups of an external identity, exact, or \"*\".", MAX_TEXT, ""),
            ),
            (
                "claims",
                list("Claims of an external identity, all of them.", &claim),
            ),
        ],
    );
    set(subjects, "minProperties", json!(1))
}

fn rule() -> Value {
    let effects = Effect::ALL.map(Effect::as_str);
    let rule = object(
        "One rule.",
        &["name", "effect", "verbs"],
        &[
            (
                "name",
                text("Names the rule in refusals and records.", MAX_LABEL, DNS_LABEL),
            ),
            (
                "effect",
                word("What becomes of the requests it matches.", &effects),
            ),
            ("verbs", verbs()),
            (
                "apiGroups",
                star_alone(list(
                    "API groups, \"\" for the core group, or \"*\".",
                    &any_text("", MAX_NAME, GROUP),
                )),
            ),
            (
                "resources",
                list(
                    "Plural names: pods, pods/log, pods/*, */scale, *, */*.",
                    &text("", 2 * MAX_NAME + 1, RESOURCE),
                ),
            ),
            (
                "subresources",
                star_alone(list(
                    "Subresources of the resources, or \"*\".",
                    &text("", MAX_NAME, PART),
                )),
            ),
            (
                "namespaces",
                star_alone(list(
                    "Namespaces, exact, or \"*\".",
                    &text("", MAX_LABEL, DNS_LABEL_OR_ALL),
                )),
            ),
            ("namespaceSelector", selector("Namespaces with these labels.")),
            (
                "resourceNames",
                list("Names of objects, exact.", &text("", MAX_NAME, OBJECT_NAME)),
            ),
            (
                "nonResourceURLs",
                list("Paths, or a beginning followed by *.", &text("", MAX_PATH, PATH)),
            ),
            (
                "masking",
                word("None: replies of masked kinds pass in clear.", &["None"]),
            ),
            ("conditions", conditions()),
        ],
    );
    check(rule, &rule_checks())
}

fn verbs() -> Value {
    let verbs: Vec<Verb> = RESOURCE_VERBS.into_iter().chain(PATH_VERBS).collect();
    let verb = word_or(
        "*",
        "",
        &verbs.iter().map(|verb| verb.as_str()).collect::<Vec<_>>(),
    );
    star_alone(at_most(
        MAX_VERBS,
        list("Kubernetes verbs, connect, or \"*\".", &verb),
    ))
}

fn conditions() -> Value {
    let condition = object(
        "A CEL expression that must hold.",
        &["name", "expression"],
        &[
            ("name", text("What it checks.", MAX_LABEL, DNS_LABEL)),
            ("expression", text("The expression.", MAX_SOURCE, "")),
        ],
    );
    let conditions = map_list("Conditions that must all hold.", "name", condition);
    at_most(MAX_CONDITIONS, set(conditions, "minItems", json!(1)))
}

/// What must agree between the fields of a rule, in CEL, with what to say if it does not.
fn rule_checks() -> Vec<(String, String)> {
    let of_paths = PATH_VERBS.map(Verb::as_str);
    let of_resources = RESOURCE_VERBS.map(Verb::as_str);
    let among = |field: &str, verbs: &[&str]| {
        let verbs = verbs.join("', '");
        format!("!has(self.{field}) || self.verbs.all(verb, verb in ['*', '{verbs}'])")
    };
    [
        (
            "has(self.resources) != has(self.nonResourceURLs)".to_owned(),
            "a rule has either resources or nonResourceURLs".to_owned(),
        ),
        (
            "!has(self.nonResourceURLs) || !(has(self.apiGroups) || has(self.subresources) || \
             has(self.namespaces) || has(self.namespaceSelector) || has(self.resourceNames))"
                .to_owned(),
            "a rule on nonResourceURLs has no apiGroups, subresources, namespaces or resourceNames"
                .to_owned(),
        ),
        (
            "!has(self.resources) || has(self.apiGroups)".to_owned(),
            "a rule on resources names their apiGroups; write [\"\"] for the core group".to_owned(),
        ),
        (
            among("resources", &of_resources),
            format!("verbs of resources are {}", of_resources.join(", ")),
        ),
        (
            among("nonResourceURLs", &of_paths),
            format!("verbs of nonResourceURLs are {}", of_paths.join(", ")),
        ),
        (
            format!(
                "!has(self.resources) || !has(self.subresources) || \
                 self.resources.size() * self.subresources.size() <= {MAX_ENTRIES}"
            ),
            format!("resources and subresources make more than {MAX_ENTRIES} pairs; split the rule"),
        ),
        (
            "!(has(self.namespaces) && has(self.namespaceSelector))".to_owned(),
            "a rule has either namespaces or namespaceSelector".to_owned(),
        ),
        (
            format!("!has(self.masking) || self.effect == '{}'", Effect::Allow),
            "masking belongs to rules with effect allow".to_owned(),
        ),
    ]
    .into()
}

fn selector(description: &str) -> Value {
    let value = any_text("", MAX_LABEL, LABEL_VALUE);
    let requirement = object(
        "What one label must be.",
        &["key", "operator"],
        &[
            ("key", text("Key of the label.", MAX_KEY, LABEL_KEY)),
            (
                "operator",
                word("How it is compared.", &["In", "NotIn", "Exists", "DoesNotExist"]),
            ),
            ("values", list("Its values, with In and NotIn.", &value)),
        ],
    );
    let requirement = check(
        requirement,
        &[(
            "has(self.values) == (self.operator in ['In', 'NotIn'])",
            "In and NotIn take values, Exists and DoesNotExist take none",
        )],
    );
    let labels = json!({
        "type": "object",
        "description": "Labels with their values.",
        "maxProperties": MAX_REQUIREMENTS,
        "additionalProperties": value,
    });
    let requirements = list("Requirements on labels.", &requirement);
    let selector = object(
        description,
        &[],
        &[
            ("matchLabels", labels),
            ("matchExpressions", at_most(MAX_REQUIREMENTS, requirements)),
        ],
    );
    check(
        selector,
        &[(
            "(has(self.matchLabels) && self.matchLabels.size() > 0) || has(self.matchExpressions)",
            "the selector is empty, which would select everything",
        )],
    )
}
