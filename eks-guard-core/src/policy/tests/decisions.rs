//! Precedence, reach and defaults, as an operator would ask about them.

use crate::body::Body;
use crate::policy::document::{Names, RuleScope};
use crate::policy::matching::Reach;
use crate::policy::operation::{Operation, PatchKind};
use crate::policy::tests::{
    decide, info, judged, policy, principal, reason, refusal, request, snapshot, snapshot_of,
};
use crate::policy::{Decision, Snapshot};
use crate::reason::Reason;

const ALLOW_ALL: &str =
    r#"name: all, effect: allow, verbs: ["*"], apiGroups: ["*"], resources: ["*", "*/*"], namespaces: ["*"]"#;
const READ_SHOP: &str = r#"name: read, effect: allow, verbs: [get, list, watch], apiGroups: ["", apps], resources: [pods, deployments], namespaces: [shop]"#;

fn check(snapshot: &Snapshot, rows: &[(&str, Option<Reason>)]) {
    for (line, wanted) in rows {
        assert_eq!(reason(snapshot, line), *wanted, "{line}");
    }
}

#[test]
fn nothing_is_allowed_unless_a_rule_allows_it() {
    let no = Some(Reason::NoRuleAllows);
    check(
        &snapshot(&[READ_SHOP]),
        &[
            ("GET /api/v1/namespaces/shop/pods", None),
            ("GET /api/v1/namespaces/shop/pods?watch=true", None),
            ("GET /api/v1/namespaces/shop/pods/web-0", None),
            ("GET /apis/apps/v1/namespaces/shop/deployments", None),
            ("GET /apis/batch/v1/namespaces/shop/jobs", no),
            ("GET /apis/example.com/v1/namespaces/shop/pods", no),
            ("GET /api/v1/namespaces/shop/pods/web-0/log", no),
            ("GET /api/v1/namespaces/shop/pods/web-0/status", no),
            ("GET /api/v1/namespaces/other/pods", no),
            ("GET /api/v1/pods", no),
            ("DELETE /api/v1/namespaces/shop/pods/web-0", no),
            ("DELETE /api/v1/namespaces/shop/pods", no),
            ("GET /api/v1/namespaces/shop", no),
            ("GET /metrics", no),
        ],
    );
}

#[test]
fn strongest_effect_decides() {
    let rule = |name: &str, effect: &str| {
        format!(
            r#"name: {name}, effect: {effect}, verbs: ["*"], apiGroups: ["*"], resources: ["*"], namespaces: ["*"]"#
        )
    };
    let effects = [
        ("allow", None),
        ("mask", Some(Reason::MaskingRequired)),
        ("requireApproval", Some(Reason::ApprovalRequired)),
        ("deny", Some(Reason::DeniedByRule)),
    ];
    for (strong, (effect, wanted)) in effects.iter().enumerate() {
        let rules: Vec<String> = effects[..=strong]
            .iter()
            .enumerate()
            .map(|(i, (effect, _))| rule(&format!("r{i}"), effect))
            .collect();
        let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
        assert_eq!(
            reason(&snapshot(&rules), "GET /api/v1/namespaces/a/pods"),
            *wanted,
            "{effect}"
        );
    }
}

#[test]
fn restricting_rules_match_whatever_the_request_could_touch() {
    let denied = Some(Reason::DeniedByRule);
    let one = r#"name: block, effect: deny, verbs: [get, delete], apiGroups: [""], resources: [configmaps], namespaces: [prod], resourceNames: [db]"#;
    check(
        &snapshot(&[ALLOW_ALL, one]),
        &[
            ("GET /api/v1/namespaces/prod/configmaps/db", denied),
            ("GET /api/v1/namespaces/prod/configmaps/other", None),
            ("GET /api/v1/namespaces/dev/configmaps/db", None),
            // Collections that may hold it.
            ("GET /api/v1/namespaces/prod/configmaps", denied),
            ("GET /api/v1/configmaps", denied),
            ("GET /api/v1/configmaps?watch=true", denied),
            ("DELETE /api/v1/namespaces/prod/configmaps", denied),
            ("GET /api/v1/namespaces/dev/configmaps", None),
            // Collections that are one object.
            (
                "GET /api/v1/namespaces/prod/configmaps?fieldSelector=metadata.name%3Ddb",
                denied,
            ),
            (
                "GET /api/v1/namespaces/prod/configmaps?fieldSelector=metadata.name%3Dother",
                None,
            ),
            ("GET /api/v1/configmaps?fieldSelector=metadata.name%3Dother", None),
            // Replies to writes carry the object.
            ("PATCH /api/v1/namespaces/prod/configmaps/db", denied),
            ("PUT /api/v1/namespaces/prod/configmaps/db", denied),
            ("PATCH /api/v1/namespaces/prod/configmaps/other", None),
            // Another resource, another group.
            ("GET /api/v1/namespaces/prod/pods/db", None),
            ("GET /apis/example.com/v1/namespaces/prod/configmaps/db", None),
        ],
    );
}

#[test]
fn restricting_an_object_restricts_its_subresources() {
    let denied = Some(Reason::DeniedByRule);
    let pods = r#"name: block, effect: deny, verbs: [get, delete], apiGroups: ["", apps], resources: [pods, deployments]"#;
    let log = r#"name: block, effect: deny, verbs: [get], apiGroups: [""], resources: [pods/log]"#;
    check(
        &snapshot(&[ALLOW_ALL, pods]),
        &[
            ("GET /api/v1/namespaces/a/pods/x/status", denied),
            ("GET /api/v1/namespaces/a/pods/x/log", denied),
            ("GET /apis/apps/v1/namespaces/a/deployments/x/scale", denied),
            ("POST /api/v1/namespaces/a/pods/x/eviction", denied),
            ("POST /api/v1/namespaces/a/pods", None),
        ],
    );
    check(
        &snapshot(&[ALLOW_ALL, log]),
        &[
            ("GET /api/v1/namespaces/a/pods/x/log", denied),
            ("GET /api/v1/namespaces/a/pods/x", None),
            ("GET /api/v1/namespaces/a/pods/x/status", None),
        ],
    );
}

#[test]
fn allowing_an_object_does_not_allow_its_subresources() {
    let no = Some(Reason::NoRuleAllows);
    let star =
        r#"name: r, effect: allow, verbs: ["*"], apiGroups: ["*"], resources: ["*"], namespaces: ["*"]"#;
    let log =
        r#"name: r, effect: allow, verbs: [get], apiGroups: [""], resources: [pods/log], namespaces: [a]"#;
    let any_part = r#"name: r, effect: allow, verbs: [get], apiGroups: ["*"], resources: ["*/scale", pods/*], namespaces: [a]"#;
    let (log_line, object) = (
        "GET /api/v1/namespaces/a/pods/x/log",
        "GET /api/v1/namespaces/a/pods/x",
    );
    let scale = "GET /apis/apps/v1/namespaces/a/deployments/x/scale";
    check(&snapshot(&[star]), &[(log_line, no), (object, None), (scale, no)]);
    check(&snapshot(&[log]), &[(log_line, None), (object, no)]);
    check(
        &snapshot(&[any_part]),
        &[(log_line, None), (object, no), (scale, None)],
    );
}

#[test]
fn subresources_say_the_same_as_slashes() {
    let rule = |effect: &str, resources: &str| {
        format!(r#"name: r, effect: {effect}, verbs: [get], apiGroups: ["*"], {resources}, namespaces: [a]"#)
    };
    let scope = |text: &str| match snapshot(&[text]).rules().iter().find(|it| it.origin.is_some()) {
        Some(found) => format!("{:?}", found.clause.scope),
        None => panic!("{text}"),
    };
    for (two_fields, slashes) in [
        ("resources: [pods], subresources: [log]", "resources: [pods/log]"),
        (
            "resources: [pods, deployments], subresources: [status, scale]",
            "resources: [pods/status, pods/scale, deployments/status, deployments/scale]",
        ),
        (r#"resources: [pods], subresources: ["*"]"#, "resources: [pods/*]"),
        (
            r#"resources: ["*"], subresources: [scale]"#,
            r#"resources: ["*/scale"]"#,
        ),
        (
            r#"resources: ["*"], subresources: ["*"]"#,
            r#"resources: ["*/*"]"#,
        ),
    ] {
        assert_eq!(scope(&rule("allow", two_fields)), scope(&rule("allow", slashes)));
    }
    let log = "resources: [pods], subresources: [log]";
    let (allow, deny) = (rule("allow", log), rule("deny", log));
    let (no, denied) = (Some(Reason::NoRuleAllows), Some(Reason::DeniedByRule));
    let (log_line, object) = (
        "GET /api/v1/namespaces/a/pods/x/log",
        "GET /api/v1/namespaces/a/pods/x",
    );
    check(&snapshot(&[&allow]), &[(log_line, None), (object, no)]);
    check(
        &snapshot(&[ALLOW_ALL, &deny]),
        &[(log_line, denied), (object, None)],
    );
}

#[test]
fn names_limit_allow_rules_to_requests_that_carry_them() {
    let no = Some(Reason::NoRuleAllows);
    let rule = r#"name: r, effect: allow, verbs: ["*"], apiGroups: [""], resources: [configmaps], namespaces: [a], resourceNames: [x, z]"#;
    let rules = snapshot(&[rule]);
    check(
        &rules,
        &[
            ("GET /api/v1/namespaces/a/configmaps/x", None),
            ("GET /api/v1/namespaces/a/configmaps/y", no),
            ("GET /api/v1/namespaces/a/configmaps", no),
            (
                "GET /api/v1/namespaces/a/configmaps?watch=1&fieldSelector=metadata.name%3Dz",
                None,
            ),
            ("DELETE /api/v1/namespaces/a/configmaps", no),
            // kube-apiserver takes the name from a selector for list and watch only.
            (
                "DELETE /api/v1/namespaces/a/configmaps?fieldSelector=metadata.name%3Dz",
                no,
            ),
        ],
    );
    for (name, wanted) in [("x", None), ("y", no), ("", no)] {
        let create = info("create -/configmaps a -");
        let found = judged(&rules, &Operation::new(&create, name, PatchKind::Existing)).0;
        assert_eq!(found, wanted, "create {name:?}");
    }
}

#[test]
fn namespaces_limit_rules_to_objects_inside() {
    let no = Some(Reason::NoRuleAllows);
    let rule = r#"name: r, effect: allow, verbs: ["*"], apiGroups: ["*"], resources: ["*"], namespaces: [a]"#;
    let rules = snapshot(&[rule]);
    check(
        &rules,
        &[
            ("GET /api/v1/namespaces/a", None),
            ("GET /api/v1/namespaces/b", no),
            ("GET /api/v1/namespaces", no),
            ("GET /api/v1/namespaces?fieldSelector=metadata.name%3Da", None),
            ("GET /api/v1/nodes", no),
            ("GET /api/v1/nodes/n1", no),
            ("GET /apis/example.com/v1/widgets/w", no),
            ("GET /apis/example.com/v1/namespaces/a/widgets/w", None),
        ],
    );
    for (name, wanted) in [("a", None), ("b", no), ("", Some(Reason::SelfProtection))] {
        let create = info("create -/namespaces - -");
        let found = judged(&rules, &Operation::new(&create, name, PatchKind::Existing)).0;
        assert_eq!(found, wanted, "create namespace {name:?}");
    }
    let nodes = r#"name: r, effect: allow, verbs: [get, list], apiGroups: [""], resources: [nodes]"#;
    check(
        &snapshot(&[nodes]),
        &[("GET /api/v1/nodes", None), ("GET /api/v1/nodes/n1", None)],
    );
}

#[test]
fn denying_in_a_namespace_leaves_cluster_scoped_collections_alone() {
    let denied = Some(Reason::DeniedByRule);
    let rule =
        r#"name: block, effect: deny, verbs: ["*"], apiGroups: ["*"], resources: ["*"], namespaces: [prod]"#;
    check(
        &snapshot(&[ALLOW_ALL, rule]),
        &[
            ("GET /api/v1/nodes", None),
            ("GET /api/v1/nodes/n1", None),
            ("GET /api/v1/pods", denied),
            ("GET /apis/example.com/v1/widgets", denied),
            ("GET /api/v1/namespaces", denied),
            ("GET /api/v1/namespaces/prod", denied),
            ("DELETE /api/v1/namespaces/prod", denied),
            ("GET /api/v1/namespaces/dev", None),
        ],
    );
    let create = info("create -/namespaces - -");
    let rules = snapshot(&[ALLOW_ALL, rule]);
    assert_eq!(
        judged(&rules, &Operation::new(&create, "prod", PatchKind::Existing)).0,
        denied
    );
    assert_eq!(
        judged(&rules, &Operation::new(&create, "dev", PatchKind::Existing)).0,
        None
    );
}

#[test]
fn writes_that_may_create_need_create() {
    let no = Some(Reason::NoRuleAllows);
    let change = r#"name: c, effect: allow, verbs: [update, patch], apiGroups: [""], resources: [services, configmaps], namespaces: [a]"#;
    let create = r#"name: d, effect: allow, verbs: [create], apiGroups: [""], resources: [services, configmaps], namespaces: [a]"#;
    let deny = r#"name: m, effect: deny, verbs: [create], apiGroups: [""], resources: [services, configmaps], resourceNames: [x]"#;
    let (only_change, both, denied) = (
        snapshot(&[change]),
        snapshot(&[change, create]),
        snapshot(&[change, create, deny]),
    );
    for (text, patch, alone, with_deny) in [
        ("patch -/configmaps a x", PatchKind::Existing, None, None),
        (
            "patch -/configmaps a x",
            PatchKind::Apply,
            no,
            Some(Reason::DeniedByRule),
        ),
        ("patch -/configmaps a y", PatchKind::Apply, no, None),
        ("update -/configmaps a x", PatchKind::Existing, None, None),
        (
            "update -/services a x",
            PatchKind::Existing,
            no,
            Some(Reason::DeniedByRule),
        ),
    ] {
        let info = info(text);
        let operation = Operation::new(&info, "", patch);
        assert_eq!(judged(&only_change, &operation).0, alone, "{text} {patch:?}");
        assert_eq!(
            judged(&both, &operation),
            (None, Some("p/c".to_owned())),
            "{text} {patch:?}"
        );
        assert_eq!(judged(&denied, &operation).0, with_deny, "{text} {patch:?}");
    }
}

#[test]
fn events_are_the_same_in_both_groups() {
    let denied = Some(Reason::DeniedByRule);
    for group in ["\"\"", "events.k8s.io"] {
        let rule =
            format!("name: block, effect: deny, verbs: [get], apiGroups: [{group}], resources: [events]");
        check(
            &snapshot(&[ALLOW_ALL, &rule]),
            &[
                ("GET /api/v1/namespaces/a/events", denied),
                ("GET /apis/events.k8s.io/v1/namespaces/a/events/x", denied),
            ],
        );
    }
    let allow =
        r#"name: r, effect: allow, verbs: [get], apiGroups: [""], resources: [events], namespaces: [a]"#;
    let line = "GET /apis/events.k8s.io/v1/namespaces/a/events/x";
    check(&snapshot(&[allow]), &[(line, Some(Reason::NoRuleAllows))]);
}

#[test]
fn secrets_are_refused_even_when_allowed() {
    let rules = snapshot(&[ALLOW_ALL]);
    let masking = Some(Reason::MaskingRequired);
    for line in [
        "GET /api/v1/secrets",
        "GET /api/v1/namespaces/a/secrets/x",
        "PATCH /api/v1/namespaces/a/secrets/x",
        "POST /api/v1/namespaces/a/secrets",
        "DELETE /api/v1/namespaces/a/secrets/x",
    ] {
        assert_eq!(reason(&rules, line), masking, "{line}");
    }
    assert_eq!(
        reason(&snapshot(&[READ_SHOP]), "GET /api/v1/secrets"),
        Some(Reason::NoRuleAllows)
    );
    let advice = refusal(&snapshot(&[READ_SHOP]), "a", "GET /api/v1/secrets").message;
    assert!(
        advice.contains("masking: None") && !advice.contains("would"),
        "{advice}"
    );
    let deny = r#"name: block, effect: deny, verbs: ["*"], apiGroups: [""], resources: [secrets]"#;
    let line = "GET /api/v1/namespaces/a/secrets";
    assert_eq!(
        reason(&snapshot(&[ALLOW_ALL, deny]), line),
        Some(Reason::DeniedByRule)
    );
    assert_eq!(reason(&rules, "GET /apis/example.com/v1/secrets"), None);
}

#[test]
fn every_agent_may_discover_and_ask_about_itself() {
    let none = snapshot(&[READ_SHOP]);
    let no = Some(Reason::NoRuleAllows);
    for (line, wanted) in [
        ("GET /api", None),
        ("GET /api/v1", None),
        ("GET /apis", None),
        ("GET /apis/apps/v1", None),
        ("GET /version", None),
        ("GET /openapi/v2", None),
        ("GET /openapi/v3", None),
        ("GET /openapi/v3/apis/apps/v1", None),
        ("GET /readyz", None),
        ("GET /livez/ping", None),
        ("POST /version", no),
        ("GET /metrics", no),
        ("GET /debug/pprof", no),
        ("GET /apis-other", no),
        ("GET /healthzz", no),
        ("GET /", no),
        (
            "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            None,
        ),
        ("POST /apis/authorization.k8s.io/v1/selfsubjectrulesreviews", None),
        ("POST /apis/authentication.k8s.io/v1/selfsubjectreviews", None),
        ("POST /apis/authorization.k8s.io/v1/subjectaccessreviews", no),
        ("POST /apis/authentication.k8s.io/v1/tokenreviews", no),
    ] {
        let Ok(request) = crate::request_info::ApiRequest::parse(
            line.split(' ').next().unwrap(),
            line.split(' ').nth(1).unwrap(),
            None,
        ) else {
            assert!(wanted.is_some(), "{line} is outside the grammar");
            continue;
        };
        match decide(&none, &principal("stranger"), request) {
            Decision::Permit(permit) => {
                assert_eq!(wanted, None, "{line}");
                assert!(permit.rule().starts_with("builtin:"), "{line}");
                assert_eq!(permit.generation(), 7);
            }
            Decision::Refuse(_, refusal) => assert_eq!(Some(refusal.reason), wanted, "{line}"),
            Decision::Look(look) => panic!("{line} depends on {}", look.rule()),
        }
    }
}

#[test]
fn discovery_can_be_restricted() {
    let paths = "name: block, effect: deny, verbs: [get], nonResourceURLs: [/version, \"/openapi/*\"]";
    let reviews = r#"name: block2, effect: deny, verbs: [create], apiGroups: ["*"], resources: ["*"]"#;
    let denied = Some(Reason::DeniedByRule);
    check(
        &snapshot(&[paths, reviews]),
        &[
            ("GET /version", denied),
            ("GET /openapi/v3/apis/apps/v1", denied),
            ("GET /api", None),
            (
                "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
                denied,
            ),
        ],
    );
}

#[test]
fn paths_need_a_rule() {
    let rule = "name: r, effect: allow, verbs: [get], nonResourceURLs: [/metrics, \"/logs/*\"]";
    let no = Some(Reason::NoRuleAllows);
    check(
        &snapshot(&[rule]),
        &[
            ("GET /metrics", None),
            ("GET /metrics/slis", no),
            ("GET /logs/kube.log", None),
            ("GET /logs", no),
            ("GET /api/v1/namespaces/a/pods", no),
        ],
    );
    let star = "name: r, effect: allow, verbs: [\"*\"], nonResourceURLs: [\"*\"]";
    check(
        &snapshot(&[star]),
        &[("GET /debug/pprof/heap", None), ("GET /api/v1/nodes", no)],
    );
}

#[test]
fn only_policies_that_select_the_agent_count() {
    let other = policy("other", &[ALLOW_ALL]).replace("[a]", "[b, c]");
    let everyone = policy("everyone", &[READ_SHOP]).replace("[a]", "[\"*\"]");
    let rules = snapshot_of(&[other, everyone]);
    for (agent, line, allowed) in [
        ("a", "GET /api/v1/nodes", false),
        ("b", "GET /api/v1/nodes", true),
        ("c", "GET /api/v1/nodes", true),
        ("A", "GET /api/v1/nodes", false),
        ("", "GET /api/v1/nodes", false),
        ("a", "GET /api/v1/namespaces/shop/pods", true),
    ] {
        let decision = decide(&rules, &principal(agent), request(line));
        assert_eq!(matches!(decision, Decision::Permit(_)), allowed, "{agent} {line}");
    }
}

#[test]
fn no_policies_at_all_allow_nothing() {
    let empty = Snapshot::compile(&[], 0).unwrap();
    check(
        &empty,
        &[
            ("GET /api/v1/nodes", Some(Reason::NoRuleAllows)),
            ("GET /version", None),
        ],
    );
}

#[test]
fn five_hundred_rules_are_found_by_resource() {
    let rules: Vec<String> = (0..500)
        .map(|i| {
            format!(
                "name: r{i}, effect: allow, verbs: [get], apiGroups: [example.com], resources: [w{i}, v{i}], \
                 namespaces: [a]"
            )
        })
        .collect();
    let rules = snapshot(&rules.iter().map(String::as_str).collect::<Vec<_>>());
    let info = info("get example.com/w250 a x");
    let operation = Operation::new(&info, "", PatchKind::Existing);
    assert_eq!(
        rules
            .candidates(&principal("a"), &operation, Reach::Covers)
            .count(),
        1
    );
    assert_eq!(judged(&rules, &operation), (None, Some("p/r250".to_owned())));
}

#[test]
fn sets_of_names_are_searched_whatever_their_order() {
    let names = Names::only(["b", "a", "c"]);
    assert!(["a", "b", "c"].iter().all(|name| names.contains(name)));
    assert!(!names.contains("d") && !names.contains(""));
    let rules = snapshot(&[ALLOW_ALL]);
    assert!(rules.rules().iter().all(|rule| match &rule.clause.scope {
        RuleScope::Resources(scope) => !scope.resources.is_empty(),
        RuleScope::Paths(paths) => !paths.is_empty(),
    }));
}

/// A request with a JSON body, decided on as a whole.
fn with_body(rules: &Snapshot, line: &str, content_type: &str, json: &str) -> Option<Reason> {
    let request = request(line);
    let body = Body::read(&request, Some(content_type), json.as_bytes()).unwrap();
    match decide(rules, &principal("a"), request.with_body(body).unwrap()) {
        Decision::Permit(_) => None,
        Decision::Refuse(_, refusal) => Some(refusal.reason),
        Decision::Look(look) => panic!("{line} depends on {}", look.rule()),
    }
}

#[test]
fn bodies_name_the_object_and_tell_apply_from_patch() {
    let rule = r#"name: r, effect: allow, verbs: [create, patch], apiGroups: [""], resources: [configmaps], namespaces: [a], resourceNames: [x]"#;
    let patch = r#"name: r, effect: allow, verbs: [patch], apiGroups: [""], resources: [configmaps], namespaces: [a]"#;
    let (both, patch) = (snapshot(&[rule]), snapshot(&[patch]));
    let no = Some(Reason::NoRuleAllows);
    let object =
        |metadata: &str| format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{{metadata}}}}}"#);
    let create = "POST /api/v1/namespaces/a/configmaps";
    for (metadata, wanted) in [
        (r#""name":"x""#, None),
        (r#""name":"y""#, no),
        (r#""generateName":"x""#, no),
        ("", no),
    ] {
        assert_eq!(
            with_body(&both, create, "application/json", &object(metadata)),
            wanted,
            "{metadata}"
        );
    }
    let change = "PATCH /api/v1/namespaces/a/configmaps/x";
    let merge = r#"{"data":{"k":"v"}}"#;
    assert_eq!(
        with_body(&patch, change, "application/merge-patch+json", merge),
        None
    );
    let apply = "PATCH /api/v1/namespaces/a/configmaps/x?fieldManager=me";
    let applied = object(r#""name":"x""#);
    assert_eq!(
        with_body(&patch, apply, "application/apply-patch+yaml", &applied),
        no
    );
    assert_eq!(
        with_body(&both, apply, "application/apply-patch+yaml", &applied),
        None
    );
}
