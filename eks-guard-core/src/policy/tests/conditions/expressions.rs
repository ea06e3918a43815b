//! Conditions in CEL, from the document to the decision: what they read of requests and objects.

use std::time::{Duration, SystemTime};

use crate::policy::condition::{Condition, Schema};
use crate::policy::tests::conditions::{ALLOW, CREATE, DELETE, DELETE_ALL, PATCH, SMALL, decided, nothing};
use crate::policy::tests::{policy, snapshot};
use crate::policy::{Facts, Snapshot, read_policies};

#[test]
fn a_condition_in_cel_decides() {
    let block = ALLOW.replace("may", "block").replace("allow", "deny");
    let mut rules = snapshot(&[ALLOW, &block]);
    let source =
        "object.metadata.namespace == 'shop' && object.spec.replicas > 3 && object.kind == 'Deployment'";
    rules.add_condition(
        "p/block",
        Condition::compile("large", source, &Schema::default()).unwrap(),
    );
    assert_eq!(decided(&rules, CREATE, &nothing()), "DeniedByRule");
    assert_eq!(decided(&rules, SMALL, &nothing()), "permit");
    assert_eq!(decided(&rules, PATCH, &nothing()), "look Objects");
    let unsure = r#"POST /apis/apps/v1/namespaces/shop/deployments {"metadata":{"name":"web"},"spec":{}}"#;
    assert_eq!(decided(&rules, unsure, &nothing()), "DeniedByRule");
    let mut rules = snapshot(&[ALLOW]);
    rules.add_condition(
        "p/may",
        Condition::compile("new", "oldObject == null", &Schema::default()).unwrap(),
    );
    assert_eq!(decided(&rules, DELETE, &nothing()), "look OldObject");
}

#[test]
fn documents_carry_conditions() {
    let condition = |text: &str| format!("{ALLOW}, conditions: [{text}]");
    let small = condition(
        "{name: small, expression: object.spec.replicas <= 3}, {name: daytime, expression: time.getHours() < 1}",
    );
    let rules = snapshot(&[&small]);
    assert_eq!(decided(&rules, SMALL, &nothing()), "permit");
    assert_eq!(decided(&rules, CREATE, &nothing()), "NoRuleAllows");
    let night = Facts::at(SystemTime::UNIX_EPOCH + Duration::from_secs(7200));
    assert_eq!(decided(&rules, SMALL, &night), "NoRuleAllows");
    for (text, wanted) in [
        (
            "{name: a, expression: objekt.x == 1}",
            "there is no variable `objekt`; did you mean `object`?",
        ),
        (
            "{name: a, expression: object.x ==}",
            "expression: line 1, column ",
        ),
        (
            "{name: a, expression: \"'x'\"}",
            "it is text, and a condition is true or false",
        ),
        ("{name: a}", "`expression` is missing"),
        ("{expression: true == true}", "`name` is missing"),
        (
            "{name: a, expression: 1 == 1}, {name: a, expression: 1 == 1}",
            "another condition is called \"a\"",
        ),
    ] {
        let file = policy("p", &[&condition(text)]);
        let errors = read_policies("p.yaml", &file).unwrap_err();
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert!(texts.iter().any(|it| it.contains(wanted)), "{text}: {texts:#?}");
    }
}

/// What stands in a document, and what nothing in a request can make of it.
fn with_expression(rule: &str, expression: &str) -> Snapshot {
    snapshot(&[
        ALLOW,
        &format!(
            r#"name: block, effect: deny, verbs: ["*"], apiGroups: ["", apps], resources: [pods, deployments, namespaces], {rule}
               conditions: [{{name: c, expression: "{expression}"}}]"#
        ),
    ])
}

#[test]
fn a_request_for_many_has_no_name_to_compare_with() {
    let by_name = with_expression("", "request.name.startsWith('prod')");
    let by_namespace = with_expression("", "request.namespace == 'prod'");
    for (rules, line, wanted) in [
        (
            &by_name,
            "GET /apis/apps/v1/namespaces/shop/deployments/web",
            "permit",
        ),
        (
            &by_name,
            "GET /apis/apps/v1/namespaces/shop/deployments/prod-1",
            "DeniedByRule",
        ),
        (
            &by_name,
            "GET /apis/apps/v1/namespaces/shop/deployments",
            "DeniedByRule",
        ),
        (
            &by_name,
            "GET /apis/apps/v1/namespaces/shop/deployments?fieldSelector=metadata.name%3Dweb",
            "permit",
        ),
        (&by_name, DELETE_ALL, "DeniedByRule"),
        (
            &by_name,
            r#"POST /api/v1/namespaces/shop/pods {"metadata":{"generateName":"prod-"}}"#,
            "DeniedByRule",
        ),
        (
            &by_name,
            r#"POST /api/v1/namespaces/shop/pods {"metadata":{"name":"web"}}"#,
            "permit",
        ),
        (
            &by_namespace,
            "GET /apis/apps/v1/namespaces/shop/deployments",
            "permit",
        ),
        (
            &by_namespace,
            "GET /apis/apps/v1/namespaces/prod/deployments",
            "DeniedByRule",
        ),
        (&by_namespace, "GET /apis/apps/v1/deployments", "DeniedByRule"),
        (
            &by_namespace,
            "GET /apis/apps/v1/deployments?watch=1",
            "DeniedByRule",
        ),
        (&by_namespace, "GET /api/v1/namespaces", "DeniedByRule"),
        (
            &by_namespace,
            r#"POST /api/v1/namespaces {"metadata":{"name":"prod"}}"#,
            "DeniedByRule",
        ),
    ] {
        assert_eq!(decided(rules, line, &nothing()), wanted, "{line}");
    }
    // An object in no namespace is known to be in none.
    let nodes = snapshot(&[
        r#"name: may, effect: allow, verbs: [get, list], apiGroups: [""], resources: [nodes],
           conditions: [{name: c, expression: "request.namespace == ''"}]"#,
    ]);
    for line in ["GET /api/v1/nodes", "GET /api/v1/nodes/n"] {
        assert_eq!(decided(&nodes, line, &nothing()), "permit", "{line}");
    }
}

#[test]
fn an_object_is_read_as_the_api_server_reads_it() {
    let rules = snapshot(&[
        r#"name: may, effect: allow, verbs: [create], apiGroups: [""], resources: [pods], namespaces: [shop],
           conditions: [{name: c, expression: "object.spec.securityContext.runAsNonRoot == true"}]"#,
    ]);
    let pod = |context: &str| {
        format!(
            r#"POST /api/v1/namespaces/shop/pods {{"metadata":{{"name":"p"}},"spec":{{"securityContext":{context}}}}}"#
        )
    };
    for (context, wanted) in [
        (r#"{"runAsNonRoot":true}"#, "permit"),
        (r#"{"runAsNonRoot":"true"}"#, "NoRuleAllows"),
        (r#"{"runAsNonRoot":1}"#, "NoRuleAllows"),
        (r#"{"RunAsNonRoot":true}"#, "NoRuleAllows"),
        (r#"{"runAsNonRoot":null}"#, "NoRuleAllows"),
        (r#"[{"runAsNonRoot":true}]"#, "NoRuleAllows"),
        // Keys with which serde_json, in some of its configurations, stands for text that it reads in their place.
        (
            r#"{"$serde_json::private::RawValue":"{\"runAsNonRoot\":true}"}"#,
            "NoRuleAllows",
        ),
        (
            r#"{"runAsNonRoot":{"$serde_json::private::RawValue":"true"}}"#,
            "NoRuleAllows",
        ),
    ] {
        assert_eq!(decided(&rules, &pod(context), &nothing()), wanted, "{context}");
    }
}

#[test]
fn a_dry_run_is_one_wherever_it_says_so() {
    let rules = snapshot(&[
        r#"name: may, effect: allow, verbs: [delete], apiGroups: [""], resources: [pods], namespaces: [shop],
           conditions: [{name: c, expression: "request.dryRun"}]"#,
    ]);
    for (line, wanted) in [
        ("DELETE /api/v1/namespaces/shop/pods/p", "NoRuleAllows"),
        ("DELETE /api/v1/namespaces/shop/pods/p?dryRun=All", "permit"),
        (
            "DELETE /api/v1/namespaces/shop/pods/p?dryRun=All {\"gracePeriodSeconds\":0}",
            "permit",
        ),
        (
            "DELETE /api/v1/namespaces/shop/pods/p {\"dryRun\":[\"All\"]}",
            "permit",
        ),
        (
            "DELETE /api/v1/namespaces/shop/pods/p {\"dryRun\":[]}",
            "NoRuleAllows",
        ),
        (
            "DELETE /api/v1/namespaces/shop/pods/p {\"dryRun\":null}",
            "NoRuleAllows",
        ),
        (
            "DELETE /api/v1/namespaces/shop/pods/p {\"preconditions\":{\"dryRun\":[\"All\"]}}",
            "NoRuleAllows",
        ),
    ] {
        assert_eq!(decided(&rules, line, &nothing()), wanted, "{line}");
    }
}
