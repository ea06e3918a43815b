//! Messages say the smallest change; explanations agree with decisions.

use std::time::SystemTime;

use crate::policy::tests::{decide, info, policy, principal, refusal, request, snapshot, snapshot_of};
use crate::policy::{Answer, Decision, Explanation, Facts, Finding, Snapshot};
use crate::request_info::RequestInfo;

fn explain(rules: &Snapshot, info: &RequestInfo) -> Explanation {
    rules.explain(&principal("a"), info, &Facts::at(SystemTime::UNIX_EPOCH))
}

const READ: &str = r#"name: read, effect: allow, verbs: [get, list, watch], apiGroups: ["", apps], resources: [pods, deployments], namespaces: [shop]"#;

#[test]
fn refusals_say_what_and_the_smallest_change() {
    let rules = snapshot(&[READ]);
    for (line, wanted) in [
        (
            "DELETE /api/v1/namespaces/shop/pods/web-0",
            "agent \"a\" may not delete pods \"web-0\" in namespace \"shop\": no rule allows it; an allow rule for \
             {verbs: [delete], apiGroups: [\"\"], resources: [pods], namespaces: [shop], resourceNames: [web-0]} would; \
             closest is rule \"p/read\", but verb delete is not in [get, list, watch]",
        ),
        (
            "GET /api/v1/pods",
            "agent \"a\" may not list pods in all namespaces: no rule allows it; an allow rule for {verbs: [list], \
             apiGroups: [\"\"], resources: [pods], namespaces: [\"*\"]} would; closest is rule \"p/read\", but the \
             request is not limited to one namespace, and the rule is limited to [shop]",
        ),
        (
            "GET /apis/apps/v1/namespaces/shop/deployments/web/scale",
            "agent \"a\" may not get deployments.apps/scale \"web\" in namespace \"shop\": no rule allows it; an \
             allow rule for {verbs: [get], apiGroups: [apps], resources: [deployments/scale], namespaces: [shop], \
             resourceNames: [web]} would; closest is rule \"p/read\", but resource deployments.apps/scale is not in \
             [pods, deployments]",
        ),
        (
            "GET /api/v1/nodes/n1",
            "agent \"a\" may not get nodes \"n1\": no rule allows it; an allow rule for {verbs: [get], apiGroups: \
             [\"\"], resources: [nodes], resourceNames: [n1]} would",
        ),
        (
            "GET /metrics",
            "agent \"a\" may not get path \"/metrics\": no rule allows it; an allow rule for {verbs: [get], \
             nonResourceURLs: [/metrics]} would",
        ),
        (
            "GET /apis/example.com/v1/namespaces/123/widgets/true",
            "agent \"a\" may not get widgets.example.com \"true\" in namespace \"123\": no rule allows it; an allow \
             rule for {verbs: [get], apiGroups: [example.com], resources: [widgets], namespaces: [\"123\"], \
             resourceNames: [\"true\"]} would",
        ),
    ] {
        assert_eq!(refusal(&rules, "a", line).message, wanted);
    }
}

#[test]
fn unselected_agents_are_named() {
    let message = refusal(&snapshot(&[READ]), "bot", "GET /api/v1/namespaces/shop/pods").message;
    assert!(
        message.contains("no policy selects agent \"bot\"; list it in spec.subjects.agents"),
        "{message}"
    );
    assert!(message.contains("{verbs: [list], apiGroups: [\"\"], resources: [pods], namespaces: [shop]}"));
}

#[test]
fn suggested_rules_allow_what_was_refused() {
    let rules = snapshot(&[READ]);
    for line in [
        "DELETE /api/v1/namespaces/shop/pods/web-0",
        "GET /api/v1/pods",
        "GET /api/v1/nodes",
        "GET /api/v1/namespaces/x/configmaps?fieldSelector=metadata.name%3Dno",
        "DELETE /api/v1/namespaces/x/configmaps",
        "GET /apis/example.com/v1/widgets",
        "GET /apis/example.com/v1/widgets/system:x",
        "PUT /api/v1/namespaces/x/pods/y/status",
        "GET /api/v1/namespaces",
        "GET /api/v1/namespaces/x",
        "POST /api/v1/namespaces/x/pods",
        "GET /logs/a.b_c",
    ] {
        let message = refusal(&rules, "a", line).message;
        let start = message.find("{verbs").expect("a rule is suggested");
        let end = start + message[start..].find('}').expect("and closed");
        let suggested = format!("name: new, effect: allow, {}", &message[start + 1..end]);
        match decide(&snapshot(&[&suggested]), &principal("a"), request(line)) {
            Decision::Permit(permit) => assert_eq!(permit.rule(), "p/new", "{line}"),
            decision @ (Decision::Refuse(..) | Decision::Look(_)) => {
                panic!("{line}: {suggested}: {decision:?}")
            }
        }
    }
}

#[test]
fn restrictions_say_how_to_stay_clear_of_them() {
    let all =
        r#"name: all, effect: allow, verbs: ["*"], apiGroups: ["*"], resources: ["*"], namespaces: ["*"]"#;
    let deny = r#"name: block, effect: deny, verbs: [get], apiGroups: [""], resources: [configmaps], namespaces: [prod]"#;
    let rules = snapshot(&[all, deny]);
    for (line, wanted) in [
        (
            "GET /api/v1/configmaps",
            "agent \"a\" may not list configmaps in all namespaces: it is denied by rule \"p/block\" (a list also does \
             what [get] does; the request reaches namespace [prod] among others); ask for one namespace that the \
             rule does not restrict",
        ),
        (
            "GET /api/v1/namespaces/prod/configmaps/x",
            "agent \"a\" may not get configmaps \"x\" in namespace \"prod\": it is denied by rule \"p/block\"; only a \
             change of that rule can allow it",
        ),
        (
            "PATCH /api/v1/namespaces/prod/configmaps/x",
            "agent \"a\" may not patch configmaps \"x\" in namespace \"prod\": it is denied by rule \"p/block\" (a patch \
             also does what [get] does); only a change of that rule can allow it",
        ),
    ] {
        let refusal = refusal(&rules, "a", line);
        assert_eq!(refusal.message, wanted);
        assert_eq!(refusal.rule.as_deref(), Some("p/block"));
    }
    let approval = deny.replace("deny", "requireApproval");
    let message = refusal(
        &snapshot(&[all, &approval]),
        "a",
        "GET /api/v1/namespaces/prod/configmaps/x",
    )
    .message;
    assert!(
        message.contains("needs approval, which this version cannot give, because of rule \"p/block\""),
        "{message}"
    );
}

#[test]
fn explanations_agree_with_decisions_and_show_every_rule() {
    let other = policy("other", &[READ]).replace("[a]", "[b]");
    let deny =
        r#"name: block, effect: deny, verbs: [get], apiGroups: [""], resources: [pods], namespaces: [prod]"#;
    let rules = snapshot_of(&[policy("p", &[READ, deny]), other]);
    let explanation = explain(&rules, &info("delete -/pods shop web-0"));
    assert_eq!(explanation.request, "delete pods \"web-0\" in namespace \"shop\"");
    assert_eq!(explanation.policies, ["p"]);
    assert!(matches!(&explanation.answer, Answer::Refused(refusal) if refusal.rule.is_none()));
    let of = |rule: &str| explanation.rules.iter().find(|it| it.rule == rule).unwrap();
    assert_eq!(of("p/read").finding, Finding::Differs);
    assert_eq!(of("p/read").because, ["verb delete is not in [get, list, watch]"]);
    assert_eq!(of("p/read").origin.as_ref().unwrap().to_string(), "p.yaml:7:7");
    assert_eq!(of("p/block").because, ["namespace \"shop\" is not in [prod]"]);
    assert_eq!(of("other/read").finding, Finding::NotSelected);
    assert_eq!(of("builtin:no-connect").finding, Finding::Differs);

    let explanation = explain(&rules, &info("list -/pods shop -"));
    assert_eq!(
        explanation.answer,
        Answer::Allowed {
            rule: "p/read".into()
        }
    );
    assert_eq!(
        explanation
            .rules
            .iter()
            .filter(|it| it.finding == Finding::Decides)
            .count(),
        1
    );

    let explanation = explain(&rules, &info("create -/pods/exec shop web-0"));
    let decides: Vec<&str> = explanation
        .rules
        .iter()
        .filter(|it| it.finding == Finding::Decides)
        .map(|it| it.rule.as_str())
        .collect();
    assert_eq!(decides, ["builtin:no-connect"]);
}

#[test]
fn text_of_the_agent_cannot_break_a_message() {
    let message = refusal(&snapshot(&[READ]), "a\"\n; rule", "GET /api/v1/nodes/n%22%C3%A9").message;
    assert!(
        message.contains(r#"agent "a\"\n; rule" may not get nodes "n\"é""#),
        "{message}"
    );
    assert!(!message.contains('\n'));
}
