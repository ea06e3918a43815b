//! Tests of deciding in stages: what conditions without an answer mean, and when the API server has to be asked.

use std::time::SystemTime;

use serde_json::{Value, json};

use crate::body::Body;
use crate::policy::condition::{Condition, Fault, Predicate, Schema};
use crate::policy::evidence::Evidence;
use crate::policy::tests::{principal, request, snapshot};
use crate::policy::{Decision, Fact, Facts, Finding, Snapshot, Wanted};
use crate::reason::Reason;
use crate::request_info::{ApiRequest, Verb};

const ALLOW: &str = r#"name: may, effect: allow, verbs: ["*"], apiGroups: ["", apps], resources: [pods, pods/eviction, deployments], namespaces: ["*"]"#;

/// What a test asks of the evidence.
#[derive(Clone, Copy, Debug)]
enum Ask {
    Always(bool),
    Verb(Verb),
    /// `spec.replicas` of the object is over three.
    Large,
    /// There was an object.
    Existed,
    /// `kind`, `metadata.namespace` and `metadata.name` of the object.
    Is(&'static str, &'static str, &'static str),
}

impl Predicate for Ask {
    fn holds(&self, evidence: &Evidence<'_>, verb: Verb) -> Result<bool, Fault> {
        let present = |fact| match fact {
            Fact::Unknown => Err(Fault::ObjectUnknown),
            Fact::Absent => Ok(None),
            Fact::Present(value) => Ok(Some(value)),
        };
        match *self {
            Self::Always(holds) => Ok(holds),
            Self::Verb(it) => Ok(it == verb),
            Self::Large => {
                let object: Option<&Value> = present(evidence.object())?;
                Ok(object.is_some_and(|it| it["spec"]["replicas"].as_u64() > Some(3)))
            }
            Self::Existed => Ok(present(evidence.old_object())?.is_some()),
            Self::Is(kind, namespace, name) => Ok(present(evidence.object())?.is_some_and(|it| {
                let found = (&it["kind"], &it["metadata"]["namespace"], &it["metadata"]["name"]);
                found == (&json!(kind), &json!(namespace), &json!(name))
            })),
        }
    }
}

/// The rules, with a condition on the one called `p/NAME`.
fn with_condition(rules: &[&str], label: &str, ask: Ask) -> Snapshot {
    let mut snapshot = snapshot(rules);
    add(&mut snapshot, label, ask);
    snapshot
}

fn add(snapshot: &mut Snapshot, label: &str, ask: Ask) {
    let wanted = match ask {
        Ask::Existed => Wanted::OldObject,
        Ask::Always(_) | Ask::Verb(_) | Ask::Large | Ask::Is(..) => Wanted::Objects,
    };
    let condition = Condition {
        source: "".into(),
        name: "test".into(),
        wanted,
        unchecked: Box::default(),
        predicate: std::sync::Arc::new(ask),
    };
    snapshot.add_condition(label, condition);
}

/// A request, with a body where the method has one.
fn ask(line: &str) -> ApiRequest {
    let (line, json) = line
        .split_once(" {")
        .map_or((line, None), |(line, json)| (line, Some(format!("{{{json}"))));
    let (line, apply) = line
        .strip_suffix(" apply")
        .map_or((line, None), |line| (line, Some(())));
    let request = request(line);
    let Some(json) = json else { return request };
    let media = match (line.split(' ').next().unwrap(), apply) {
        ("PATCH", Some(())) => "application/apply-patch+yaml",
        ("PATCH", None) => "application/merge-patch+json",
        _ => "application/json",
    };
    let body = Body::read(&request, Some(media), json.as_bytes()).unwrap();
    request.with_body(body).unwrap()
}

/// `permit`, `look OldObject`, or the reason.
fn decided(rules: &Snapshot, line: &str, facts: &Facts<'_>) -> String {
    match rules.decide(&principal("a"), ask(line), facts) {
        Decision::Permit(_) => "permit".to_owned(),
        Decision::Look(look) => format!("look {:?}", look.wanted()),
        Decision::Refuse(_, refusal) => refusal.reason.as_str().to_owned(),
    }
}

fn nothing() -> Facts<'static> {
    Facts::at(SystemTime::UNIX_EPOCH)
}

const CREATE: &str =
    r#"POST /apis/apps/v1/namespaces/shop/deployments {"metadata":{"name":"web"},"spec":{"replicas":9}}"#;
const SMALL: &str =
    r#"POST /apis/apps/v1/namespaces/shop/deployments {"metadata":{"name":"web"},"spec":{"replicas":1}}"#;
const PATCH: &str = r#"PATCH /apis/apps/v1/namespaces/shop/deployments/web {"spec":{"replicas":9}}"#;
const PUT: &str =
    r#"PUT /apis/apps/v1/namespaces/shop/deployments/web {"metadata":{"name":"web"},"spec":{}}"#;
const APPLY: &str =
    r#"PATCH /apis/apps/v1/namespaces/shop/deployments/web?fieldManager=m apply {"metadata":{"name":"web"}}"#;
const GET: &str = "GET /apis/apps/v1/namespaces/shop/deployments/web";
const DELETE: &str = "DELETE /apis/apps/v1/namespaces/shop/deployments/web";
const DELETE_ALL: &str = "DELETE /apis/apps/v1/namespaces/shop/deployments";

#[test]
fn a_condition_without_answer_speaks_against_the_request_or_is_looked_up() {
    let block = ALLOW.replace("may", "block").replace("allow", "deny");
    let allowing = with_condition(&[ALLOW], "p/may", Ask::Large);
    let denying = with_condition(&[ALLOW, &block], "p/block", Ask::Large);
    for (line, when_allowing, when_denying) in [
        (CREATE, "permit", "DeniedByRule"),
        (SMALL, "NoRuleAllows", "permit"),
        (PATCH, "look Objects", "look Objects"),
        (PUT, "look Objects", "look Objects"),
        (APPLY, "look Objects", "look Objects"),
        // There is no object afterwards.
        (DELETE, "NoRuleAllows", "permit"),
        // Nothing that could be looked at.
        (GET, "NoRuleAllows", "DeniedByRule"),
        (DELETE_ALL, "NoRuleAllows", "DeniedByRule"),
    ] {
        assert_eq!(decided(&allowing, line, &nothing()), when_allowing, "{line}");
        assert_eq!(decided(&denying, line, &nothing()), when_denying, "{line}");
    }
}

#[test]
fn who_has_looked_gets_an_answer() {
    let (large, small) = (json!({"spec": {"replicas": 9}}), json!({"spec": {"replicas": 1}}));
    let block = ALLOW.replace("may", "block").replace("allow", "deny");
    let allowing = with_condition(&[ALLOW], "p/may", Ask::Large);
    let denying = with_condition(&[ALLOW, &block], "p/block", Ask::Large);
    for line in [PATCH, PUT, APPLY] {
        for (object, when_allowing, when_denying) in [
            (&large, "permit", "DeniedByRule"),
            (&small, "NoRuleAllows", "permit"),
        ] {
            let facts = Facts {
                old_object: Fact::Present(&small),
                object: Fact::Present(object),
                ..nothing()
            };
            assert_eq!(decided(&allowing, line, &facts), when_allowing, "{line}");
            assert_eq!(decided(&denying, line, &facts), when_denying, "{line}");
        }
    }
    let old = with_condition(&[ALLOW], "p/may", Ask::Existed);
    for line in [PATCH, DELETE] {
        assert_eq!(decided(&old, line, &nothing()), "look OldObject", "{line}");
        let there = Facts {
            old_object: Fact::Present(&small),
            ..nothing()
        };
        assert_eq!(decided(&old, line, &there), "permit", "{line}");
        let none = Facts {
            old_object: Fact::Absent,
            ..nothing()
        };
        assert_eq!(decided(&old, line, &none), "NoRuleAllows", "{line}");
    }
    assert_eq!(decided(&old, CREATE, &nothing()), "NoRuleAllows");
}

#[test]
fn nothing_is_looked_at_for_what_is_refused_anyway() {
    let block = ALLOW.replace("may", "block").replace("allow", "deny");
    let approval = ALLOW.replace("may", "ask").replace("allow", "requireApproval");
    // A certain refusal of any strength beside an open one.
    let rules = with_condition(&[ALLOW, &block, &approval], "p/block", Ask::Large);
    assert_eq!(decided(&rules, PATCH, &nothing()), "ApprovalRequired");
    // An open refusal where nothing allows.
    let rules = with_condition(&[&block], "p/block", Ask::Large);
    assert_eq!(decided(&rules, PATCH, &nothing()), "NoRuleAllows");
    // Protection.
    let rules = with_condition(&[ALLOW], "p/may", Ask::Large);
    let guard = r#"PATCH /apis/apps/v1/namespaces/eks-guard/deployments/web {"spec":{}}"#;
    assert_eq!(decided(&rules, guard, &nothing()), "SelfProtection");
    // Secrets, until they are masked.
    let secrets = r#"name: may, effect: allow, verbs: [patch], apiGroups: [""], resources: [secrets], namespaces: ["*"]"#;
    let rules = with_condition(&[secrets], "p/may", Ask::Large);
    let line = r#"PATCH /api/v1/namespaces/shop/secrets/db {"data":{}}"#;
    assert_eq!(decided(&rules, line, &nothing()), "MaskingRequired");
    // An allow rule that is certain makes one that is open superfluous.
    let rules = with_condition(&[ALLOW, &ALLOW.replace("may", "also")], "p/also", Ask::Large);
    assert_eq!(decided(&rules, PATCH, &nothing()), "permit");
}

#[test]
fn every_condition_of_a_rule_has_to_hold() {
    let mut rules = with_condition(&[ALLOW], "p/may", Ask::Large);
    add(&mut rules, "p/may", Ask::Existed);
    assert_eq!(decided(&rules, PATCH, &nothing()), "look Objects");
    add(&mut rules, "p/may", Ask::Always(true));
    assert_eq!(decided(&rules, PATCH, &nothing()), "look Objects");
    // One that does not hold leaves nothing to look for.
    add(&mut rules, "p/may", Ask::Always(false));
    assert_eq!(decided(&rules, PATCH, &nothing()), "NoRuleAllows");

    let block = ALLOW.replace("may", "block").replace("allow", "deny");
    let mut rules = with_condition(&[ALLOW, &block], "p/block", Ask::Large);
    assert_eq!(decided(&rules, GET, &nothing()), "DeniedByRule");
    add(&mut rules, "p/block", Ask::Always(false));
    assert_eq!(decided(&rules, GET, &nothing()), "permit");
}

#[test]
fn what_may_create_counts_as_create_too() {
    let block = ALLOW.replace("may", "block").replace("allow", "deny");
    let create = with_condition(&[ALLOW, &block], "p/block", Ask::Verb(Verb::Create));
    for (line, wanted) in [
        (APPLY, "DeniedByRule"),
        (PATCH, "permit"),
        (CREATE, "DeniedByRule"),
    ] {
        assert_eq!(decided(&create, line, &nothing()), wanted, "{line}");
    }
    let patch = with_condition(&[ALLOW], "p/may", Ask::Verb(Verb::Patch));
    for (line, wanted) in [
        (APPLY, "NoRuleAllows"),
        (PATCH, "permit"),
        (CREATE, "NoRuleAllows"),
    ] {
        assert_eq!(decided(&patch, line, &nothing()), wanted, "{line}");
    }
}

#[test]
fn a_created_object_has_what_the_url_says() {
    let rules = with_condition(&[ALLOW], "p/may", Ask::Is("Deployment", "shop", "web"));
    assert_eq!(decided(&rules, CREATE, &nothing()), "permit");
    let null = r#"POST /apis/apps/v1/namespaces/shop/deployments {"kind":null,"metadata":{"name":"web","namespace":""}}"#;
    assert_eq!(decided(&rules, null, &nothing()), "permit");
    let rules = with_condition(&[ALLOW], "p/may", Ask::Is("Eviction", "shop", "web-0"));
    let eviction = r#"POST /api/v1/namespaces/shop/pods/web-0/eviction {"kind":"Eviction"}"#;
    assert_eq!(decided(&rules, eviction, &nothing()), "permit");
}

#[test]
fn refusals_and_explanations_name_the_condition() {
    let rules = with_condition(&[ALLOW], "p/may", Ask::Large);
    let refuse = |line: &str| match rules.decide(&principal("a"), ask(line), &nothing()) {
        Decision::Refuse(_, refusal) => refusal,
        Decision::Look(look) => look.refuse().1,
        Decision::Permit(_) => panic!("{line}"),
    };
    let message = refuse(SMALL).message;
    assert!(
        message.ends_with("closest is rule \"p/may\", but its condition \"test\" does not hold"),
        "{message}"
    );
    let refusal = refuse(PATCH);
    assert_eq!(
        (refusal.reason, refusal.rule.as_deref()),
        (Reason::ObjectUnknown, Some("p/may"))
    );

    let explanation = rules.explain_request(&principal("a"), &ask(PATCH), &nothing());
    let rule = explanation.rules.iter().find(|it| it.rule == "p/may").unwrap();
    assert_eq!(rule.finding, Finding::Open);
    assert_eq!(
        rule.because,
        ["its condition \"test\" has no answer: the object is not known"]
    );

    let block = ALLOW.replace("may", "block").replace("allow", "deny");
    let rules = with_condition(&[ALLOW, &block], "p/block", Ask::Large);
    let Decision::Refuse(_, refusal) = rules.decide(&principal("a"), ask(GET), &nothing()) else {
        panic!()
    };
    assert!(
        refusal
            .message
            .contains("by rule \"p/block\" (its condition \"test\" has no answer: the object is not known)"),
        "{}",
        refusal.message
    );
}

#[test]
fn facts_keep_objects_to_themselves() {
    let secret = json!({"data": {"password": "hunter2"}});
    let facts = Facts {
        object: Fact::Present(&secret),
        ..nothing()
    };
    assert!(!format!("{facts:?}").contains("hunter2"));
}

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
    let night = Facts::at(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(7200));
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
        let file = crate::policy::tests::policy("p", &[&condition(text)]);
        let errors = crate::policy::read_policies("p.yaml", &file).unwrap_err();
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

const DEPLOYMENTS: &str =
    r#"effect: allow, verbs: [update], apiGroups: [apps], resources: [deployments], namespaces: ["*"]"#;
const BOTH: &str = r#"effect: allow, verbs: [create], apiGroups: ["", apps], resources: [deployments, configmaps], namespaces: ["*"]"#;

/// Mistakes and warnings of a policy with one rule and one condition.
fn said(rule: &str, expression: &str) -> String {
    let rule = format!(r#"name: r, {rule}, conditions: [{{name: c, expression: "{expression}"}}]"#);
    let file = crate::policy::tests::policy("p", &[&rule]);
    let texts: Vec<String> = match crate::policy::read_policies("p.yaml", &file) {
        Ok(policies) => policies[0]
            .warnings()
            .iter()
            .map(|it| it.message.clone())
            .collect(),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    };
    texts.join("; ")
}

#[test]
fn fields_that_no_kind_of_the_rule_has_are_mistakes() {
    for (rule, expression, wanted) in [
        (
            DEPLOYMENTS,
            "object.spec.replikas <= 3",
            "line 1, column 12: DeploymentSpec has no field `replikas`; did you mean `replicas`?",
        ),
        (
            DEPLOYMENTS,
            "has(oldObject.spec.replica)",
            "did you mean `replicas`?",
        ),
        (
            DEPLOYMENTS,
            "object.?spec.?paussed.orValue(false)",
            "did you mean `paused`?",
        ),
        (
            DEPLOYMENTS,
            "object.spec.template.spec.containers.all(c, c.imagee == 'a')",
            "Container has no field `imagee`; did you mean `image`?",
        ),
        (
            DEPLOYMENTS,
            "object.spec.template.spec.containers.filter(c, true).exists(c, c.imagee == 'a')",
            "did you mean `image`?",
        ),
        (
            DEPLOYMENTS,
            "object.spec.template.spec.containers.image == 'a'",
            "a list has no field `image`",
        ),
        (
            DEPLOYMENTS,
            "object.metadata.name.length == 3",
            "text has no field `length`",
        ),
        (
            DEPLOYMENTS,
            "object.spec.replicas == '3'",
            "it compares a number with text",
        ),
        (
            DEPLOYMENTS,
            "object.spec.template.spec.containers[0].image > 3",
            "it compares text with a number",
        ),
        (
            BOTH,
            "object.spec.replicas <= 3 && object.dota == {}",
            "has no field `dota`",
        ),
        (
            "effect: allow, verbs: [create], apiGroups: [\"\"], resources: [pods/eviction], namespaces: [\"*\"]",
            "object.spec.nodeName == ''",
            "Eviction has no field `spec`",
        ),
    ] {
        let texts = said(rule, expression);
        assert!(texts.contains(wanted), "{expression}: {texts}");
    }
}

#[test]
fn fields_that_some_kind_of_the_rule_has_are_taken() {
    let any = r#"effect: deny, verbs: ["*"], apiGroups: ["*"], resources: ["*"]"#;
    let custom = r#"effect: deny, verbs: ["*"], apiGroups: [example.com], resources: [widgets]"#;
    let not_checked = "nobody has checked the fields of object";
    for (rule, expression, wanted) in [
        (
            DEPLOYMENTS,
            "object.spec.replicas <= 3 && object.metadata.labels.app == 'a' && object.kind == 'Deployment'",
            "",
        ),
        (
            DEPLOYMENTS,
            "object.spec['fieldOfTomorrow'] == 1 && object.metadata.labels['x'] == 'y' && time.getHours() > 1",
            "",
        ),
        (
            DEPLOYMENTS,
            "object == null || oldObject.metadata.creationTimestamp != ''",
            "",
        ),
        (
            DEPLOYMENTS,
            "object.spec.template.spec.containers.map(c, c.image).exists(i, i.startsWith('a'))",
            "",
        ),
        (
            DEPLOYMENTS,
            "quantity(object.spec.template.spec.containers[0].resources.limits.cpu).sign() == 1",
            "",
        ),
        (
            DEPLOYMENTS,
            "object.spec.strategy.rollingUpdate.maxSurge == 1 || object.spec.strategy.rollingUpdate.maxSurge == '1'",
            "",
        ),
        (
            BOTH,
            "has(object.data) ? object.data.size == 'small' : object.spec.replicas <= 3",
            "",
        ),
        (
            "effect: deny, verbs: [update], apiGroups: [apps], resources: [deployments/scale]",
            "object.spec.replicas > 3",
            "",
        ),
        (
            "effect: deny, verbs: [create], apiGroups: [\"\"], resources: [pods]",
            "object.?deleteOptions.hasValue()",
            "",
        ),
        (any, "object.spec.anything == 1", not_checked),
        (
            custom,
            "object.spec.anything == oldObject.spec.anything",
            "the fields of object and oldObject",
        ),
        (custom, "request.name == 'x'", ""),
        (any, "request.verb == 'get'", ""),
    ] {
        let texts = said(rule, expression);
        assert!(
            if wanted.is_empty() {
                texts.is_empty()
            } else {
                texts.contains(wanted)
            },
            "{expression}: {texts}"
        );
    }
}

#[test]
fn what_may_be_one_kind_or_the_other_is_not_checked() {
    for expression in [
        "(object.kind == 'Pod' ? [object.spec] : [object.spec.template.spec]).all(it, has(it.containers))",
        "[object.spec, object.spec.template.spec].exists(it, has(it.containers))",
    ] {
        assert_eq!(said(DEPLOYMENTS, expression), "", "{expression}");
    }
}
