//! Whom a policy is about, what it does to whom when it cannot be used, and what it only observes.

use std::time::SystemTime;

use crate::policy::tests::{decide, info, policy, reason, request, snapshot, snapshot_of};
use crate::policy::{
    Answer, Decision, Facts, Finding, Namespaces, Observation, Snapshot, read_policies,
    read_policies_or_refuse,
};
use crate::principal::{Labels, PodIdentity, Principal};
use crate::reason::Reason;

const LINE: &str = "GET /api/v1/namespaces/shop/pods/web-0";
const ALLOW: &str =
    r#"name: read, effect: allow, verbs: [get], apiGroups: [""], resources: [pods], namespaces: ["*"]"#;
const DENY: &str = r#"name: block, effect: deny, verbs: [get], apiGroups: [""], resources: [pods]"#;

fn about(name: &str, subjects: &str, rule: &str) -> String {
    policy(name, &[rule]).replace("{agents: [a]}", subjects)
}

fn labels(labels: &[(&str, &str)]) -> Labels {
    labels
        .iter()
        .map(|(key, value)| ((*key).into(), (*value).into()))
        .collect()
}

fn pod(namespace: &str, with: Option<Labels>) -> Principal {
    Principal {
        pod: Some(PodIdentity {
            namespace: namespace.into(),
            name: "agent-0".into(),
            uid: "1".into(),
            service_account: "robot".into(),
            node: "n".into(),
        }),
        labels: with,
        ..Principal::named("a")
    }
}

fn decided(snapshot: &Snapshot, who: &Principal) -> Option<Reason> {
    match decide(snapshot, who, request(LINE)) {
        Decision::Permit(_) => None,
        Decision::Refuse(_, refusal) => Some(refusal.reason),
        Decision::Look(look) => panic!("{} wants to look", look.rule()),
    }
}

fn observed(snapshot: &Snapshot, who: &Principal, line: &str) -> Option<Observation> {
    snapshot.observe(who, &request(line), &Facts::at(SystemTime::UNIX_EPOCH))
}

#[test]
fn kinds_of_subjects_all_agree_and_inside_a_kind_one_is_enough() {
    let shop = pod("shop", Some(labels(&[("team", "web"), ("tier", "1")])));
    for (subjects, selects) in [
        ("{agents: [b, a]}", true),
        ("{agents: [b]}", false),
        ("{namespaces: [shop, web]}", true),
        ("{namespaces: [web]}", false),
        ("{agents: [b], namespaces: [shop]}", false),
        ("{agents: [a], namespaces: [web]}", false),
        ("{serviceAccounts: [web/robot, shop/robot]}", true),
        ("{serviceAccounts: [shop/other, web/robot]}", false),
        ("{podSelector: {matchLabels: {team: web}}}", true),
        ("{podSelector: {matchLabels: {team: web, tier: \"2\"}}}", false),
        (
            "{podSelector: {matchExpressions: [{key: team, operator: In, values: [db, web]}]}}",
            true,
        ),
        (
            "{podSelector: {matchExpressions: [{key: team, operator: NotIn, values: [db, web]}]}}",
            false,
        ),
        (
            "{podSelector: {matchExpressions: [{key: zone, operator: NotIn, values: [a]}]}}",
            true,
        ),
        (
            "{podSelector: {matchExpressions: [{key: tier, operator: Exists}]}}",
            true,
        ),
        (
            "{podSelector: {matchExpressions: [{key: tier, operator: DoesNotExist}]}}",
            false,
        ),
    ] {
        let allowed = decided(&snapshot_of(&[about("p", subjects, ALLOW)]), &shop);
        assert_eq!(allowed.is_none(), selects, "{subjects}");
        let both = snapshot_of(&[policy("q", &[ALLOW]), about("p", subjects, DENY)]);
        assert_eq!(decided(&both, &shop).is_some(), selects, "{subjects}");
    }
}

#[test]
fn what_is_not_known_restricts_and_does_not_allow() {
    for (subjects, who) in [
        ("{podSelector: {matchLabels: {team: web}}}", pod("shop", None)),
        ("{containers: [main]}", pod("shop", Some(Labels::new()))),
        ("{groups: [ops]}", Principal::named("a")),
        ("{claims: [{name: team, values: [web]}]}", Principal::named("a")),
    ] {
        let allowed = decided(&snapshot_of(&[about("p", subjects, ALLOW)]), &who);
        assert_eq!(allowed, Some(Reason::NoRuleAllows), "{subjects}");
        let both = snapshot_of(&[policy("q", &[ALLOW]), about("p", subjects, DENY)]);
        assert_eq!(decided(&both, &who), Some(Reason::DeniedByRule), "{subjects}");
    }
    // What is known not to be so selects nobody: a run is in no pod, and this identity is in another group.
    let other = Principal {
        groups: Some(vec!["dev".into()]),
        claims: Some([("team".into(), vec!["db".into()])].into()),
        ..Principal::named("a")
    };
    for (subjects, who) in [
        ("{namespaces: [\"*\"]}", &Principal::named("a")),
        (
            "{podSelector: {matchLabels: {team: web}}}",
            &Principal::named("a"),
        ),
        ("{groups: [ops]}", &other),
        ("{claims: [{name: team, values: [web]}]}", &other),
        ("{claims: [{name: tenant, values: [\"*\"]}]}", &other),
    ] {
        let both = snapshot_of(&[policy("q", &[ALLOW]), about("p", subjects, DENY)]);
        assert_eq!(decided(&both, who), None, "{subjects}");
    }
}

#[test]
fn namespaces_are_selected_by_what_is_known_of_their_labels() {
    let selecting = |rule: &str| {
        let rule = rule.replace(r#", namespaces: ["*"]"#, "");
        rule + ", namespaceSelector: {matchLabels: {team: web}}"
    };
    let (allow, deny) = (selecting(ALLOW), selecting(DENY));
    let namespaces: Namespaces = [
        ("shop".to_owned(), labels(&[("team", "web")])),
        ("bank".to_owned(), labels(&[("team", "db")])),
    ]
    .into_iter()
    .collect();
    let knowing = |rules: &[&str]| snapshot(rules).knowing(namespaces.clone().into());
    let denied = Some(Reason::DeniedByRule);
    for (line, allowed, restricted) in [
        ("GET /api/v1/namespaces/shop/pods/x", None, denied),
        (
            "GET /api/v1/namespaces/bank/pods/x",
            Some(Reason::NoRuleAllows),
            None,
        ),
        (
            "GET /api/v1/namespaces/unknown/pods/x",
            Some(Reason::NoRuleAllows),
            denied,
        ),
    ] {
        assert_eq!(reason(&knowing(&[&allow]), line), allowed, "{line}");
        assert_eq!(reason(&knowing(&[ALLOW, &deny]), line), restricted, "{line}");
    }
    let list = allow.replace("[get]", "[list]");
    assert_eq!(
        reason(&knowing(&[&list]), "GET /api/v1/pods"),
        Some(Reason::NoRuleAllows),
        "a list over all namespaces is in none of them alone"
    );
}

#[test]
fn a_policy_with_mistakes_refuses_whom_it_is_about() {
    let good = policy("good", &[ALLOW]).replace("[a]", "[\"*\"]");
    let wrong_value = policy("bad", &[&ALLOW.replace("[get]", "[gett]")]);
    let wrong_field = policy("bad", &[&ALLOW.replace("verbs", "verb")]);
    let wrong_subjects = wrong_value.replace("agents: [a]", "agentz: [a]");
    let wrong_yaml = "kind: [".to_owned();
    for (text, refuses_others) in [
        (wrong_value, false),
        (wrong_field, false),
        (wrong_subjects, true),
        (wrong_yaml, true),
    ] {
        let (none, invalid) = read_policies_or_refuse("bad.yaml", &text);
        assert!(none.is_empty() && !invalid.is_empty(), "{text}");
        let policies = read_policies("good.yaml", &good).unwrap();
        let snapshot = Snapshot::compile_or_refuse(&policies, invalid, 1);
        assert!(snapshot.mistakes().next().is_some());
        for line in [LINE, "GET /version"] {
            let refusal = match decide(&snapshot, &Principal::named("a"), request(line)) {
                Decision::Refuse(_, refusal) => refusal,
                Decision::Look(look) => panic!("{} wants to look", look.rule()),
                Decision::Permit(permit) => panic!("{line} is allowed by {}", permit.rule()),
            };
            assert_eq!(refusal.reason, Reason::PolicyInvalid, "{text}");
            assert!(refusal.message.contains("eks-guard policy check"), "{refusal}");
        }
        let other = decided(&snapshot, &Principal::named("b"));
        assert_eq!(other.is_some(), refuses_others, "{text}");
    }
}

#[test]
fn policies_that_do_not_go_together_refuse_whom_they_are_about() {
    let twice = [policy("p", &[ALLOW]), policy("p", &[ALLOW]).replace("[a]", "[b]")];
    let more = policy("q", &[ALLOW]).replace("[a]", "[\"*\"]");
    let policies: Vec<_> = twice
        .iter()
        .chain([&more])
        .flat_map(|text| read_policies("p.yaml", text).unwrap())
        .collect();
    let snapshot = Snapshot::compile_or_refuse(&policies, Vec::new(), 1);
    assert_eq!(
        decided(&snapshot, &Principal::named("a")),
        Some(Reason::PolicyInvalid)
    );
    assert_eq!(
        decided(&snapshot, &Principal::named("b")),
        Some(Reason::PolicyInvalid)
    );
    assert_eq!(decided(&snapshot, &Principal::named("c")), None);
}

#[test]
fn observing_policies_change_nothing_and_say_what_they_would_have() {
    let observing =
        |name: &str, rule: &str| policy(name, &[rule]).replace("  rules:", "  mode: Observe\n  rules:");
    let who = Principal::named("a");
    let opens = snapshot_of(&[observing("try", ALLOW)]);
    assert_eq!(decided(&opens, &who), Some(Reason::NoRuleAllows));
    assert_eq!(
        observed(&opens, &who, LINE),
        Some(Observation {
            reason: None,
            rule: Some("try/read".into())
        })
    );
    let closes = snapshot_of(&[policy("p", &[ALLOW]), observing("try", DENY)]);
    assert_eq!(decided(&closes, &who), None);
    assert_eq!(
        observed(&closes, &who, LINE),
        Some(Observation {
            reason: Some(Reason::DeniedByRule),
            rule: Some("try/block".into())
        })
    );
    assert_eq!(observed(&closes, &who, "GET /api/v1/nodes"), None);
    assert_eq!(observed(&closes, &Principal::named("b"), LINE), None);
    let explanation = closes.explain(
        &who,
        &info("get -/pods shop web-0"),
        &Facts::at(SystemTime::UNIX_EPOCH),
    );
    assert_eq!(
        explanation.answer,
        Answer::Allowed {
            rule: "p/read".into()
        }
    );
    let observed = explanation
        .rules
        .iter()
        .find(|it| it.rule == "try/block")
        .unwrap();
    assert_eq!(observed.finding, Finding::Observes);
}

#[test]
fn what_needs_a_grant_is_refused_with_a_reason_of_its_own() {
    let needs = policy("jit", &[ALLOW]).replace("  rules:", "  justInTime: Required\n  rules:");
    let who = Principal::named("a");
    assert_eq!(
        decided(&snapshot_of(std::slice::from_ref(&needs)), &who),
        Some(Reason::GrantRequired)
    );
    assert_eq!(decided(&snapshot_of(&[needs, policy("p", &[ALLOW])]), &who), None);
    let denies = policy("jit", &[DENY]).replace("  rules:", "  justInTime: Required\n  rules:");
    let denied = decided(&snapshot_of(&[denies, policy("p", &[ALLOW])]), &who);
    assert_eq!(
        denied,
        Some(Reason::DeniedByRule),
        "what restricts needs no grant"
    );
}

#[test]
fn masked_kinds_pass_in_clear_only_where_a_rule_says_so() {
    let secrets = r#"name: secrets, effect: allow, verbs: [get], apiGroups: [""], resources: [secrets], namespaces: [shop]"#;
    let in_clear = format!("{secrets}, masking: None");
    let mask = r#"name: mask, effect: mask, verbs: [get], apiGroups: [""], resources: [pods]"#;
    let masked = Some(Reason::MaskingRequired);
    let line = "GET /api/v1/namespaces/shop/secrets/db";
    assert_eq!(reason(&snapshot(&[secrets]), line), masked);
    assert_eq!(reason(&snapshot(&[&in_clear]), line), None);
    let elsewhere = "GET /api/v1/namespaces/prod/secrets/db";
    assert_eq!(
        reason(&snapshot(&[&in_clear]), elsewhere),
        Some(Reason::NoRuleAllows)
    );
    assert_eq!(reason(&snapshot(&[ALLOW, mask]), LINE), masked);
    assert_eq!(
        reason(&snapshot(&[mask]), LINE),
        Some(Reason::NoRuleAllows),
        "mask opens nothing"
    );
    let pods = format!("{ALLOW}, masking: None");
    assert_eq!(reason(&snapshot(&[&pods, mask]), LINE), None);
    let deny = secrets
        .replace("allow", "deny")
        .replace("name: secrets", "name: never");
    assert_eq!(
        reason(&snapshot(&[&in_clear, &deny]), line),
        Some(Reason::DeniedByRule)
    );
    let warned = read_policies("p.yaml", &policy("p", &[&in_clear])).unwrap();
    assert!(warned[0].warnings()[0].message.contains("in clear"));
}

#[test]
fn streams_are_one_verb_whatever_the_method() {
    let exec = |effect: &str| {
        format!(
            r#"name: exec, effect: {effect}, verbs: [connect], apiGroups: [""], resources: [pods/exec], namespaces: ["*"]"#
        )
    };
    let all = r#"name: all, effect: allow, verbs: ["*"], apiGroups: ["*"], resources: ["*", "*/*"], namespaces: ["*"]"#;
    for method in ["GET", "POST"] {
        let line = format!("{method} /api/v1/namespaces/shop/pods/web-0/exec?command=sh");
        let found = |rules: &[&str]| reason(&snapshot(rules), &line);
        assert_eq!(found(&[&exec("deny"), all]), Some(Reason::DeniedByRule));
        assert_eq!(
            found(&[&exec("requireApproval"), all]),
            Some(Reason::ApprovalRequired)
        );
        assert_eq!(found(&[&exec("allow")]), Some(Reason::ConnectRefused));
        assert_eq!(found(&[all]), Some(Reason::ConnectRefused));
    }
    let line = "GET /api/v1/namespaces/shop/pods/web-0/log";
    assert_eq!(reason(&snapshot(&[&exec("deny"), all]), line), None);
}
