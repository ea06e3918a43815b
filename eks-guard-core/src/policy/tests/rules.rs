//! What a rule may say: resources, subresources, namespaces and what stands beside them.

use crate::policy::operation::{Operation, PatchKind};
use crate::policy::tests::documents::{GOOD, check};
use crate::policy::{Snapshot, read_policies};
use crate::request_info::Verb;

#[test]
fn resources_that_would_never_match_are_mistakes() {
    check(
        "[pods]",
        "[pod]",
        &["p.yaml:13:19: resource \"pod\" is not a plural name; write `pods`"],
    );
    check(
        "[pods]",
        "[Deployment]",
        &["p.yaml:13:19: resource \"Deployment\" is not a plural name; write `deployments`"],
    );
    check(
        "[pods]",
        "[po/log]",
        &["p.yaml:13:19: resource \"po\" is not a plural name; write `pods`"],
    );
    check(
        "[pods]",
        "[pods, deployments]",
        &["p.yaml:13:25: resource \"deployments\" is in apiGroup \"apps\""],
    );
    check(
        "[pods]",
        "[deployments.apps]",
        &["p.yaml:13:19: resource \"deployments.apps\" carries its group"],
    );
    check(
        "[pods]",
        "[pods/a/b]",
        &["p.yaml:13:19: \"pods/a/b\" is not a resource"],
    );
    check(
        "[pods]",
        "[\"a b\"]",
        &["p.yaml:13:19: \"a b\" is not a resource"],
    );
    check(
        "      resources: [pods]\n      namespaces: [shop]",
        "      nonResourceURLs: [/metrics, logs, \"/a*b\"]",
        &[
            "p.yaml:12:18: a rule on nonResourceURLs has no apiGroups, subresources, namespaces or resourceNames",
            "p.yaml:13:35: \"logs\" is not a path; write `/metrics`",
            "p.yaml:13:41: \"/a*b\" is not a path",
        ],
    );
    check(
        "[pods]",
        "[pods]\n      nonResourceURLs: [/a]",
        &["p.yaml:14:24: a rule has either `resources` or"],
    );
}

#[test]
fn subresources_stand_in_one_place() {
    check(
        "[pods]",
        "[pods/log, pods, \"*/scale\"]\n      subresources: [status]",
        &[
            "p.yaml:13:19: \"pods/log\" in a rule that has `subresources`; write `pods` here and `log` in \
             subresources, or make two rules of it",
            "p.yaml:13:35: \"*/scale\" in a rule that has `subresources`; write `*` here and `scale` in",
        ],
    );
    check(
        "[pods]",
        "[pod]\n      subresources: [pods/log, \"\", Log]",
        &[
            "p.yaml:13:19: resource \"pod\" is not a plural name; write `pods`",
            "p.yaml:14:22: \"pods/log\" is not a subresource; write `log`",
            "p.yaml:14:32: \"\" is not a subresource",
            "p.yaml:14:36: \"Log\" is not a subresource",
        ],
    );
    check(
        "[pods]",
        "[pods]\n      subresources: [\"*\", log]",
        &["p.yaml:14:22: `*` already is all of them"],
    );
    check(
        "[pods]",
        "[pods]\n      subresources: []",
        &["p.yaml:14:21: `subresources` is empty"],
    );
    check(
        "resources: [pods]",
        "subresources: [log]",
        &["p.yaml:9:7: `resources` is missing"],
    );
    check(
        "      resources: [pods]\n      namespaces: [shop]",
        "      subresources: [log]\n      nonResourceURLs: [/a]",
        &[
            "p.yaml:12:18: a rule on nonResourceURLs has no",
            "p.yaml:13:21: a rule on nonResourceURLs has no",
            "p.yaml:11:20: unknown verb \"list\"",
        ],
    );
    let many = |count: usize| (0..count).map(|i| format!("x{i}")).collect::<Vec<_>>().join(", ");
    let (groups, pods) = (
        "[\"\"]\n      resources: [pods]",
        "[example.com]\n      resources: ",
    );
    check(
        groups,
        &format!("{pods}[{}]\n      subresources: [{}]", many(30), many(40)),
        &["p.yaml:14:21: `resources` and `subresources` make more than 1000 pairs; split the rule"],
    );
}

#[test]
fn allow_rules_say_where() {
    let missing = "`namespaces` is missing";
    check(
        "      namespaces: [shop]\n",
        "",
        &[&format!("p.yaml:13:19: {missing}, and \"pods\" may be in any")],
    );
    check(
        "[pods]\n      namespaces: [shop]",
        "[nodes, \"*\"]",
        &[&format!("p.yaml:13:26: {missing}, and \"*\"")],
    );
    check(
        "[\"\"]\n      resources: [pods]\n      namespaces: [shop]",
        "[example.com]\n      resources: [widgets]",
        &[&format!("p.yaml:13:19: {missing}, and \"widgets\"")],
    );
    check(
        "[\"\"]\n      resources: [pods]\n      namespaces: [shop]",
        "[\"*\"]\n      resources: [nodes]",
        &[&format!("p.yaml:13:19: {missing}, and \"nodes\"")],
    );
    for restricting in ["deny", "requireApproval", "mask"] {
        let text = GOOD
            .replace("allow", restricting)
            .replace("      namespaces: [shop]\n", "");
        assert!(read_policies("p.yaml", &text).is_ok(), "{restricting}");
    }
}

/// The table "also catches" in docs/policy.md, against the code.
#[test]
fn table_of_caught_verbs_is_true() {
    let page = include_str!("../../../../docs/policy.md");
    for (named, caught) in [
        (
            "`get`",
            "`list`, `watch`, `update`, `patch`, `delete`, `deletecollection`",
        ),
        ("`list`", "`watch`, `deletecollection`"),
    ] {
        assert!(page.contains(&format!("| {named} | {caught} |")));
        let all = crate::policy::operation::RESOURCE_VERBS;
        let verb = |text: &str| *all.iter().find(|it| text.contains(&format!("`{it}`"))).unwrap();
        let rule = verb(named).as_str();
        let text = GOOD
            .replace("[get, list]", &format!("[{rule}]"))
            .replace("allow", "deny");
        let snapshot = Snapshot::compile(&read_policies("p.yaml", &text).unwrap(), 1).unwrap();
        for verb in all.into_iter().filter(|verb| *verb != Verb::Connect) {
            let info = crate::policy::tests::info(&format!("{verb} -/pods shop x"));
            let operation = Operation::new(&info, "", PatchKind::Existing);
            let denied = crate::policy::tests::judged(&snapshot, &operation).1.is_some();
            assert_eq!(
                denied,
                verb.as_str() == rule || caught.contains(&format!("`{verb}`")),
                "{named} {verb}"
            );
        }
    }
}

#[test]
fn what_rules_say_beside_their_reach_is_checked() {
    check(
        "spec:",
        "spec:\n  mode: observe",
        &["p.yaml:6:9: unknown mode \"observe\"; did you mean `Observe`? (known: Enforce, Observe)"],
    );
    check(
        "spec:",
        "spec:\n  justInTime: Always",
        &["p.yaml:6:15: unknown justInTime \"Always\" (known: Never, Required)"],
    );
    check(
        "effect: allow",
        "effect: deny\n      masking: None",
        &["p.yaml:11:16: `masking` belongs to rules with `effect: allow`"],
    );
    check(
        "effect: allow",
        "effect: allow\n      masking: All",
        &["p.yaml:11:16: unknown masking \"All\" (known: None)"],
    );
    check(
        "namespaces: [shop]",
        "namespaces: [shop]\n      namespaceSelector: {matchLabels: {team: web}}",
        &["p.yaml:15:26: a rule has either `namespaces` or `namespaceSelector`"],
    );
    check(
        "[get, list]",
        "[get, connect]",
        &["p.yaml:11:20: `connect` is about streams"],
    );
}
