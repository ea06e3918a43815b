//! Every mistake in a document is found, with its exact place and a hint.

use crate::policy::{CompileError, Snapshot, read_policies};

pub(super) const GOOD: &str = "\
apiVersion: eks-guard.dev/v1alpha1
kind: AgentPolicy
metadata:
  name: shop
spec:
  subjects:
    agents: [a]
  rules:
    - name: read
      effect: allow
      verbs: [get, list]
      apiGroups: [\"\"]
      resources: [pods]
      namespaces: [shop]
";

/// `from` is replaced by `to` in a good document; the errors must begin with `wanted`, one each.
pub(super) fn check(from: &str, to: &str, wanted: &[&str]) {
    let text = GOOD.replacen(from, to, 1);
    assert_ne!(text, GOOD, "{from:?} is not in the document");
    let errors = read_policies("p.yaml", &text).expect_err(&text);
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(errors.len(), wanted.len(), "{to:?}: {errors:#?}");
    for (error, wanted) in errors.iter().zip(wanted) {
        assert!(
            error.starts_with(wanted),
            "{to:?}\n   got {error}\nwanted {wanted}"
        );
    }
}

#[test]
fn good_documents_are_read() {
    let both = format!("{GOOD}---\n{}", GOOD.replace("name: shop", "name: other"));
    let policies = read_policies("p.yaml", &both).unwrap();
    let names: Vec<(&str, usize)> = policies.iter().map(|it| (it.name(), it.rule_count())).collect();
    assert_eq!(names, [("shop", 1), ("other", 1)]);
    for (from, to) in [
        ("[shop]", "[\"*\"]"),
        (
            "name: shop",
            "name: shop\n  labels: {team: web}\n  annotations: {note: \"12\"}",
        ),
        ("[pods]", "[pods, pods/log, pods/*, \"*/scale\", \"*\", \"*/*\"]"),
        (
            "      namespaces: [shop]",
            "      namespaces: [shop]\n      resourceNames: [\"system:node:a\", web-0]",
        ),
        ("[\"\"]", "[\"\", example.com]"),
        ("agents: [a]", "agents: [Claude_4.5]"),
        ("agents: [a]", "agents: [\"*\"]"),
        ("kind: AgentPolicy", "kind: 'AgentPolicy' # a comment"),
        ("[pods]", "[nodes]\n      resourceNames: [n1]"),
        ("namespaces: [shop]", "namespaces: [\"no\"]"),
        (
            "[pods]",
            "[pods, \"*\"]\n      subresources: [log, scale, status]",
        ),
        ("[pods]", "[pods]\n      subresources: [\"*\"]"),
    ] {
        let text = GOOD.replacen(from, to, 1);
        assert!(read_policies("p.yaml", &text).is_ok(), "{text}");
    }
}

#[test]
fn json_is_read() {
    let text = r#"{"apiVersion": "eks-guard.dev/v1alpha1", "kind": "AgentPolicy", "metadata": {"name": "p"},
        "spec": {"subjects": {"agents": ["a"]}, "rules": [{"name": "r", "effect": "deny", "verbs": ["*"],
        "apiGroups": ["*"], "resources": ["*"]}]}}"#;
    assert_eq!(read_policies("p.json", text).unwrap().len(), 1);
}

#[test]
fn fields_are_known_unique_and_of_their_type() {
    check(
        "verbs:",
        "verb:",
        &["p.yaml:11:7: unknown field `verb`; did you mean `verbs`?"],
    );
    check(
        "namespaces:",
        "names:",
        &["p.yaml:14:7: unknown field `names`; write `resourceNames`"],
    );
    check(
        "namespaces:",
        "subresource:",
        &["p.yaml:14:7: unknown field `subresource`; did you mean `subresources`?"],
    );
    check(
        "  name: shop",
        "  name: shop\n  namespace: x",
        &["p.yaml:5:3: unknown field `namespace`; an Agent"],
    );
    check(
        "spec:",
        "spec:\n  modes: Observe",
        &["p.yaml:6:3: unknown field `modes`; did you mean `mode`?"],
    );
    check(
        "effect: allow",
        "effect: allow\n      effect: deny",
        &["p.yaml:11:7: `effect` stands twice"],
    );
    check(
        "kind: AgentPolicy",
        "kind: AgentPolicy\n\"kind\": x",
        &["p.yaml:3:1: `kind` stands twice"],
    );
    check(
        "[get, list]",
        "get",
        &["p.yaml:11:14: expected a list; write `[a, b]`"],
    );
    check(" [get, list]", "", &["p.yaml:11:12: expected a list"]);
    check(
        "[get, list]",
        "[get, {a: b}]",
        &["p.yaml:11:20: expected text, found fields or a list"],
    );
    check("agents: [a]", "agents: {a: b}", &["p.yaml:7:13: expected a list"]);
    check(
        "metadata:\n  name: shop",
        "metadata: shop",
        &["p.yaml:3:11: expected fields (`key: value`)"],
    );
    check(
        "namespaces: [shop]",
        "resourceNames:",
        &["p.yaml:14:20: expected a list"],
    );
}

#[test]
fn missing_and_empty_values_are_told_apart() {
    check(
        "      effect: allow\n",
        "",
        &["p.yaml:9:7: `effect` is missing; write `effect: allow`"],
    );
    check(
        "      verbs: [get, list]\n",
        "",
        &["p.yaml:9:7: `verbs` is missing"],
    );
    check(
        "      apiGroups: [\"\"]\n",
        "",
        &["p.yaml:9:7: `apiGroups` is missing"],
    );
    check(
        "      resources: [pods]\n",
        "",
        &["p.yaml:9:7: `resources` is missing"],
    );
    check(
        "name: read\n      effect",
        "effect",
        &["p.yaml:9:7: `name` is missing"],
    );
    check(
        "  subjects:\n    agents: [a]\n",
        "",
        &["p.yaml:6:3: `subjects` is missing"],
    );
    check(
        "metadata:\n  name: shop\n",
        "",
        &["p.yaml:1:1: `metadata.name` is missing"],
    );
    check(
        "  name: shop",
        "  labels: {}",
        &["p.yaml:4:3: `metadata.name` is missing"],
    );
    check("[get, list]", "[]", &["p.yaml:11:14: `verbs` is empty"]);
    check("[shop]", "[]", &["p.yaml:14:19: `namespaces` is empty"]);
    check("[a]", "[]", &["p.yaml:7:13: `agents` is empty"]);
    check(
        "namespaces: [shop]",
        "namespaces: [shop]\n      resourceNames: []",
        &["p.yaml:15:22: `resourceNames` is empty"],
    );
}

#[test]
fn values_are_checked_and_all_mistakes_reported() {
    check(
        "[get, list]",
        "[gett, read, apply, exec]",
        &[
            "p.yaml:11:15: unknown verb \"gett\"; did you mean `get`? (known: get, list, watch, create",
            "p.yaml:11:21: unknown verb \"read\"; write `get, list, watch`",
            "p.yaml:11:27: unknown verb \"apply\"; write `create, patch`",
            "p.yaml:11:34: unknown verb \"exec\"; write `connect`, and `pods/exec`",
        ],
    );
    check(
        "effect: allow",
        "effect: Allow",
        &["p.yaml:10:15: unknown effect \"Allow\"; did you mean `allow`?"],
    );
    check(
        "name: shop",
        "name: Shop_1",
        &["p.yaml:4:9: name \"Shop_1\" is not a DNS name"],
    );
    check(
        "name: read",
        "name: r/w",
        &["p.yaml:9:13: name \"r/w\" is not usable"],
    );
    check("[a]", "[\"a b\"]", &["p.yaml:7:14: agent \"a b\" is not usable"]);
}

#[test]
fn entries_of_lists_are_checked() {
    check(
        "[shop]",
        "[\"shop-*\"]",
        &["p.yaml:14:20: namespace \"shop-*\" is not usable; it is exact"],
    );
    check(
        "[shop]",
        "[\"*\", shop]",
        &["p.yaml:14:20: `*` already is all of them"],
    );
    check(
        "[get, list]",
        "[get, \"*\"]",
        &["p.yaml:11:20: `*` already is all of them"],
    );
    check(
        "[\"\"]",
        "[apps/v1]",
        &["p.yaml:12:19: apiGroup \"apps/v1\" is not usable; it is without a version"],
    );
    check(
        "[\"\"]",
        "[core]",
        &["p.yaml:12:19: apiGroup \"core\" is not usable; it is written \"\""],
    );
    check(
        "namespaces: [shop]",
        "namespaces: [shop]\n      resourceNames: [\"*\"]",
        &["p.yaml:15:23: resourceNames are exact"],
    );
    let twice =
        "- {name: read, effect: deny, verbs: [get], apiGroups: [\"\"], resources: [pods]}\n    - name: read";
    check(
        "- name: read",
        twice,
        &["p.yaml:10:13: rule name \"read\" stands twice"],
    );
    check(
        "name: read\n      effect: allow",
        "name: R\n      effect: alow",
        &[
            "p.yaml:9:13: name",
            "p.yaml:10:15: unknown effect \"alow\"; did you mean `allow`?",
        ],
    );
}

#[test]
fn yaml_has_no_second_meaning() {
    check(
        "[shop]",
        "&x [shop]",
        &["p.yaml:14:22: anchors (`&name`) are not read"],
    );
    check("[shop]", "*x", &["p.yaml:14:19: aliases (`*name`) are not read"]);
    check(
        "spec:",
        "spec:\n  <<: {rules: []}",
        &["p.yaml:6:3: merge keys (`<<`) are not read"],
    );
    check("[shop]", "!own [shop]", &["p.yaml:14:24: tag !own is not read"]);
    for text in ["no", "on", "yes", "true", "1", "y", "1e3", "0x10", "~", "null"] {
        let at =
            format!("p.yaml:14:20: `{text}` would be read as a number, boolean or null; write \"{text}\"");
        let null = "p.yaml:14:20: there is no value".to_owned();
        let wanted = if text == "~" || text == "null" { null } else { at };
        check("[shop]", &format!("[{text}]"), &[&wanted]);
    }
    check("[shop]", "[shop", &["p.yaml:14:19: unclosed bracket"]);
    check("      verbs", "\tverbs", &["p.yaml:10:"]);
}

#[test]
fn other_documents_are_refused() {
    check(
        "kind: AgentPolicy",
        "kind: Deployment",
        &["p.yaml:2:7: kind \"Deployment\" is not read here"],
    );
    check(
        "v1alpha1",
        "v1",
        &["p.yaml:1:13: apiVersion \"eks-guard.dev/v1\" is not read here"],
    );
    check(
        "kind: AgentPolicy\n",
        "",
        &["p.yaml:1:1: `kind` is missing; write `kind: AgentPolicy`"],
    );
    check(
        "kind: AgentPolicy",
        "kind: AgentPolicy\n---",
        &["p.yaml:4:1: `apiVersion` is missing"],
    );
    for text in ["", "---\n", "# nothing\n", "null\n"] {
        let errors = read_policies("p.yaml", text).unwrap_err();
        assert!(
            errors[0].to_string().starts_with("p.yaml:1:1: no document"),
            "{errors:?}"
        );
    }
    for text in ["text\n", "[]\n", "1\n"] {
        let errors = read_policies("p.yaml", text).unwrap_err();
        assert!(errors[0].to_string().starts_with("p.yaml:1:1: "), "{errors:?}");
    }
}

#[test]
fn sizes_are_bounded() {
    let long = format!("{GOOD}#{}\n", "x".repeat(4 * 1024 * 1024));
    assert!(
        read_policies("p.yaml", &long).unwrap_err()[0]
            .message
            .contains("longer than")
    );
    let many = format!("{GOOD}---\n").repeat(300);
    assert!(
        read_policies("p.yaml", &many).unwrap_err()[0]
            .message
            .contains("more documents")
    );
    assert!(
        read_policies("p.yaml", &"a: {".repeat(40)).unwrap_err()[0]
            .message
            .contains("nested deeper")
    );
    assert!(read_policies("p.yaml", &"[".repeat(100_000)).is_err());
    let names = (0..1001).map(|i| format!("n{i}")).collect::<Vec<_>>().join(", ");
    check(
        "[shop]",
        &format!("[{names}]"),
        &["p.yaml:14:19: `namespaces` has more than 1000 entries"],
    );
}

#[test]
fn two_policies_of_one_name_do_not_compile() {
    let mut policies = read_policies("a.yaml", GOOD).unwrap();
    policies.extend(read_policies("b.yaml", GOOD).unwrap());
    let errors = Snapshot::compile(&policies, 1).unwrap_err();
    assert!(
        matches!(errors[..], [CompileError::DuplicatePolicy { .. }]),
        "{errors:?}"
    );
    let text = errors[0].to_string();
    assert!(
        text.starts_with("b.yaml:1:1: policy \"shop\" is already defined at a.yaml:1:1"),
        "{text}"
    );
}

#[test]
fn documents_in_the_manual_are_good() {
    for (page, text) in [
        ("README.md", include_str!("../../../../README.md")),
        ("docs/policy.md", include_str!("../../../../docs/policy.md")),
    ] {
        let blocks = text
            .split("```yaml\n")
            .skip(1)
            .filter_map(|rest| rest.split("```").next());
        let policies: Vec<_> = blocks
            .flat_map(|block| read_policies(page, block).unwrap())
            .collect();
        assert!(!policies.is_empty(), "{page}");
        assert!(Snapshot::compile(&policies, 1).is_ok());
    }
}

#[test]
fn subjects_and_selectors_are_checked() {
    for (subjects, wanted) in [
        ("{}", "p.yaml:7:"),
        (
            "{namespaces: [Shop]}",
            "namespace \"Shop\" is not usable; it is exact",
        ),
        (
            "{serviceAccounts: [robot]}",
            "serviceAccount \"robot\" is not usable; it is written `namespace/name`",
        ),
        ("{podSelector: {}}", "the selector is empty"),
        (
            "{podSelector: {matchLabels: {team: \"a b\"}}}",
            "\"a b\" is not the value of a label",
        ),
        (
            "{podSelector: {matchLabels: {\"te am\": web}}}",
            "\"te am\" is not the key of a label",
        ),
        (
            "{podSelector: {matchExpressions: [{key: team, operator: in, values: [a]}]}}",
            "unknown operator \"in\"; did you mean `In`?",
        ),
        (
            "{podSelector: {matchExpressions: [{key: team, operator: Exists, values: [a]}]}}",
            "`Exists` takes no values",
        ),
        (
            "{podSelector: {matchExpressions: [{key: team, operator: In}]}}",
            "`values` is missing",
        ),
        ("{claims: [{name: team}]}", "`values` is missing"),
        ("{groups: []}", "`groups` is empty"),
        ("{agents: [a], pods: [b]}", "unknown field `pods`"),
    ] {
        let text = GOOD.replace("\n    agents: [a]", &format!(" {subjects}"));
        let errors = read_policies("p.yaml", &text).expect_err(&text);
        let found = errors.iter().any(|error| error.to_string().contains(wanted));
        assert!(found || subjects == "{}", "{subjects}: {errors:#?}");
    }
}
