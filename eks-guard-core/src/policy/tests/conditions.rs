//! Tests of deciding in stages: what conditions without an answer mean, and when the API server has to be asked.

mod expressions;
mod fields;

use std::time::SystemTime;

use serde_json::{Value, json};

use crate::body::Body;
use crate::policy::condition::{Condition, Fault, Predicate};
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
