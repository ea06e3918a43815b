//! What no policy lets an agent write: as a new object, and as a change of one, in whatever encoding and by whatever patch.

use std::time::SystemTime;

use serde_json::{Value, json};

use crate::body::Body;
use crate::policy::tests::{principal, request, snapshot};
use crate::policy::{Decision, Fact, Facts};
use crate::reason::Reason;

const ALLOW_ALL: &str =
    r#"name: all, effect: allow, verbs: ["*"], apiGroups: ["*"], resources: ["*", "*/*"], namespaces: ["*"]"#;

const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const OPERATIONS: &str = "application/json-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

const TOKEN: &str = "builtin:no-token-minting";
const LABELS: &str = "builtin:agent-labels";
const NODE: &str = "builtin:no-node-access";
const GRANT: &str = "builtin:no-escalation";
const INTERCEPTION: &str = "builtin:no-interception";
const ALLOWED: &str = "p/all";
const LOOK: &str = "look Objects";

const PODS: &str = "POST /api/v1/namespaces/d/pods";
const POD: &str = "PATCH /api/v1/namespaces/d/pods/x";
const DEPLOYMENTS: &str = "POST /apis/apps/v1/namespaces/d/deployments";
const DEPLOYMENT: &str = "PATCH /apis/apps/v1/namespaces/d/deployments/x";
const NAMESPACE: &str = "PATCH /api/v1/namespaces/x";
const ROLES: &str = "POST /apis/rbac.authorization.k8s.io/v1/clusterroles";
const ROLE: &str = "PATCH /apis/rbac.authorization.k8s.io/v1/clusterroles/x";
const BINDINGS: &str = "POST /apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
const BINDING: &str = "PATCH /apis/rbac.authorization.k8s.io/v1/clusterrolebindings/x";
const DEFINITIONS: &str = "POST /apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const DEFINITION: &str = "PATCH /apis/apiextensions.k8s.io/v1/customresourcedefinitions/x";

/// The rule that decides under a policy that allows everything, or what has to be looked at.
fn decided(line: &str, content_type: &str, body: &str, facts: &Facts<'_>) -> String {
    let mut request = request(line);
    if !body.is_empty() {
        let body = Body::read(&request, Some(content_type), body.as_bytes());
        let body = body.unwrap_or_else(|refusal| panic!("{line} {refusal}"));
        request = request.with_body(body).unwrap();
    }
    match snapshot(&[ALLOW_ALL]).decide(&principal("a"), request, facts) {
        Decision::Permit(permit) => permit.rule().to_owned(),
        Decision::Look(look) => format!("look {:?}", look.wanted()),
        Decision::Refuse(_, refusal) => {
            assert_eq!(refusal.reason, Reason::SelfProtection, "{line}");
            refusal.rule.unwrap()
        }
    }
}

fn unknown() -> Facts<'static> {
    Facts::at(SystemTime::UNIX_EPOCH)
}

/// The rule that decides when nothing has been looked at.
fn check(rows: &[(&str, &str, &str, &str)]) {
    for (line, content_type, body, wanted) in rows {
        assert_eq!(
            decided(line, content_type, body, &unknown()),
            *wanted,
            "{line} {content_type} {body}"
        );
    }
}

/// The rule that decides on a change, whichever way it is made, when the object was one and becomes the other.
fn changed(path: &str, old: &Value, new: &Value) -> String {
    let facts = Facts {
        old_object: if old.is_null() {
            Fact::Absent
        } else {
            Fact::Present(old)
        },
        object: Fact::Present(new),
        ..unknown()
    };
    let mut whole = new.clone();
    whole["metadata"]["name"] = json!("x");
    let name = path.rsplit_once('/').unwrap().1;
    assert_eq!(name, "x");
    let whole = whole.to_string();
    let ways = [
        (format!("PUT {path}"), JSON, &whole),
        (format!("PATCH {path}?fieldManager=m"), APPLY, &whole),
    ];
    let mut rules: Vec<String> = ways
        .iter()
        .filter(|(_, content_type, _)| !old.is_null() || *content_type == APPLY)
        .map(|(line, content_type, body)| {
            assert_eq!(
                decided(line, content_type, body, &unknown()),
                LOOK,
                "{line} {body}"
            );
            decided(line, content_type, body, &facts)
        })
        .collect();
    rules.dedup();
    assert_eq!(rules.len(), 1, "{path} {old} {new}: {rules:?}");
    rules.remove(0)
}

const POD_PATH: &str = "/api/v1/namespaces/d/pods/x";
const DEPLOYMENT_PATH: &str = "/apis/apps/v1/namespaces/d/deployments/x";

#[test]
fn secrets_that_make_a_credential_are_not_made() {
    for kind in [
        "kubernetes.io/service-account-token",
        "bootstrap.kubernetes.io/token",
    ] {
        let secret = format!(r#"{{"metadata":{{"name":"x"}},"type":"{kind}"}}"#);
        check(&[
            ("POST /api/v1/namespaces/d/secrets", JSON, &secret, TOKEN),
            ("POST /api/v1/namespaces/d/secrets", YAML, &secret, TOKEN),
        ]);
        let secret = json!({"type": kind});
        let path = "/api/v1/namespaces/d/secrets/x";
        let facts = Facts {
            old_object: Fact::Absent,
            object: Fact::Present(&secret),
            ..unknown()
        };
        let line = format!("PATCH {path}?fieldManager=m");
        assert_eq!(decided(&line, APPLY, &secret.to_string(), &facts), TOKEN);
    }
}

#[test]
fn labels_of_agents_are_not_set() {
    let label = r#"{"metadata":{"name":"x","labels":{"eks-guard.dev/agent":"x"}}}"#;
    let template = r#"{"spec":{"template":{"metadata":{"labels":{"eks-guard.dev/agent":"x"}}}}}"#;
    let job = format!(r#"{{"spec":{{"jobTemplate":{template}}}}}"#);
    let escaped = r#"{"metadata":{"labels":{"eks-guard.dev\u002fagent":"x"}}}"#;
    let inside = format!(r#"{{"spec":{{"templates":[{{}},{label}]}}}}"#);
    check(&[
        (PODS, JSON, label, LABELS),
        (PODS, YAML, "metadata: {labels: {eks-guard.dev/agent: x}}", LABELS),
        (PODS, JSON, escaped, LABELS),
        ("POST /api/v1/namespaces", JSON, label, LABELS),
        ("POST /api/v1/namespaces/d/serviceaccounts", JSON, label, LABELS),
        (DEPLOYMENTS, JSON, template, LABELS),
        ("POST /apis/batch/v1/namespaces/d/cronjobs", JSON, &job, LABELS),
        (
            "POST /apis/example.com/v1/namespaces/d/widgets",
            JSON,
            label,
            LABELS,
        ),
        (
            "POST /apis/example.com/v1/namespaces/d/widgets",
            JSON,
            &inside,
            LABELS,
        ),
        ("POST /api/v1/namespaces/d/pods/x/binding", JSON, label, LABELS),
        // Whether a change sets it, the objects say.
        (POD, MERGE, label, LOOK),
        (POD, STRATEGIC, label, LOOK),
        (NAMESPACE, MERGE, label, LOOK),
        (DEPLOYMENT, MERGE, template, LOOK),
        (
            POD,
            OPERATIONS,
            r#"[{"op":"add","path":"/metadata/labels/eks-guard.dev~1agent","value":"x"}]"#,
            LOOK,
        ),
        ("PATCH /api/v1/namespaces/d/configmaps/x", MERGE, label, LOOK),
        // Text about it is no label.
        (
            PODS,
            JSON,
            r#"{"metadata":{"labels":{"agent":"eks-guard.dev/agent"}}}"#,
            ALLOWED,
        ),
        (
            PODS,
            JSON,
            r#"{"metadata":{"labels":{"not-eks-guard.dev/agent":"x"}}}"#,
            ALLOWED,
        ),
    ]);
}

#[test]
fn labels_of_agents_stay_as_they_are() {
    let labels = |labels: Value| json!({"metadata": {"labels": labels}});
    let agent = json!({"eks-guard.dev/agent": "x"});
    for (old, new, wanted) in [
        (json!({}), &agent, LABELS),
        (agent.clone(), &json!({}), LABELS),
        (agent.clone(), &json!({"eks-guard.dev/agent": "y"}), LABELS),
        (json!({"app": "x"}), &json!({"a.eks-guard.dev/b": "x"}), LABELS),
        (agent.clone(), &agent, ALLOWED),
        (
            agent.clone(),
            &json!({"eks-guard.dev/agent": "x", "app": "y"}),
            ALLOWED,
        ),
        (json!({"app": "x"}), &json!({}), ALLOWED),
    ] {
        for path in [
            POD_PATH,
            "/api/v1/namespaces/x",
            "/api/v1/namespaces/d/serviceaccounts/x",
        ] {
            let (old, new) = (labels(old.clone()), labels(new.clone()));
            assert_eq!(changed(path, &old, &new), wanted, "{path} {old} {new}");
        }
        let template = |part: &Value| json!({"spec": {"template": labels(part.clone())}});
        let (old, new) = (template(&old), template(new));
        assert_eq!(changed(DEPLOYMENT_PATH, &old, &new), wanted, "{old} {new}");
    }
    assert_eq!(changed(POD_PATH, &Value::Null, &labels(agent)), LABELS);
}

/// Ways to lose a label of an agent, or to come near it.
const LOSING: [(&str, &str, &str, &str); 10] = [
    (POD, MERGE, r#"{"metadata":{"labels":null}}"#, LOOK),
    (POD, STRATEGIC, r#"{"$patch":"replace","metadata":{}}"#, LOOK),
    (POD, STRATEGIC, r#"{"metadata":{"$patch":"delete"}}"#, LOOK),
    (
        POD,
        STRATEGIC,
        r#"{"metadata":{"labels":{"$patch":"replace","app":"x"}}}"#,
        LOOK,
    ),
    (POD, STRATEGIC, r#"{"metadata":{"$retainKeys":["name"]}}"#, LOOK),
    (
        POD,
        OPERATIONS,
        r#"[{"op":"remove","path":"/metadata/labels"}]"#,
        LOOK,
    ),
    (
        POD,
        OPERATIONS,
        r#"[{"op":"move","from":"/metadata/labels","path":"/metadata/annotations"}]"#,
        LOOK,
    ),
    (
        DEPLOYMENT,
        MERGE,
        r#"{"spec":{"template":{"metadata":{"labels":null}}}}"#,
        LOOK,
    ),
    (NAMESPACE, APPLY, r#"{"metadata":{"name":"x"}}"#, LOOK),
    (
        "PUT /api/v1/namespaces/d/serviceaccounts/x",
        JSON,
        r#"{"metadata":{"name":"x"}}"#,
        LOOK,
    ),
];

/// What people and tools do all day.
const ORDINARY: [(&str, &str, &str, &str); 9] = [
    (
        POD,
        MERGE,
        r#"{"metadata":{"labels":{"app":"x","old":null}}}"#,
        ALLOWED,
    ),
    (
        NAMESPACE,
        STRATEGIC,
        r#"{"metadata":{"annotations":{"a":"b"}}}"#,
        ALLOWED,
    ),
    (
        DEPLOYMENT,
        STRATEGIC,
        r#"{"spec":{"template":{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":"now"}}}}}"#,
        ALLOWED,
    ),
    (DEPLOYMENT, MERGE, r#"{"spec":{"replicas":3}}"#, ALLOWED),
    (
        DEPLOYMENT,
        STRATEGIC,
        r#"{"spec":{"strategy":{"$retainKeys":["type"],"type":"Recreate"}}}"#,
        ALLOWED,
    ),
    (
        DEPLOYMENT,
        OPERATIONS,
        r#"[{"op":"replace","path":"/spec/replicas","value":1},{"op":"add","path":"/metadata/labels/a","value":"b"}]"#,
        ALLOWED,
    ),
    (
        "PUT /apis/apps/v1/namespaces/d/deployments/x/scale",
        JSON,
        r#"{"metadata":{"name":"x"},"spec":{"replicas":1}}"#,
        ALLOWED,
    ),
    (
        "PATCH /api/v1/namespaces/d/configmaps/x",
        MERGE,
        r#"{"metadata":{"labels":null}}"#,
        ALLOWED,
    ),
    (
        "PUT /api/v1/namespaces/d/configmaps/x",
        JSON,
        r#"{"metadata":{"name":"x"}}"#,
        ALLOWED,
    ),
];

#[test]
fn ways_to_lose_a_label_are_looked_at_and_ordinary_labels_are_not() {
    check(&LOSING);
    check(&ORDINARY);
}

#[test]
fn who_chooses_agents_is_not_removed_and_made_anew() {
    let (agents, others) = (
        json!({"metadata": {"labels": {"eks-guard.dev/tier": "x"}}}),
        json!({"metadata": {"labels": {"app": "x"}}}),
    );
    for line in [
        "DELETE /api/v1/namespaces/x",
        "DELETE /api/v1/namespaces/d/serviceaccounts/x",
    ] {
        assert_eq!(decided(line, JSON, "", &unknown()), "look OldObject");
        for (old, wanted) in [(&agents, LABELS), (&others, ALLOWED)] {
            let facts = Facts {
                old_object: Fact::Present(old),
                ..unknown()
            };
            assert_eq!(decided(line, JSON, "", &facts), wanted);
        }
    }
    check(&[
        ("DELETE /api/v1/namespaces/d/serviceaccounts", JSON, "", LABELS),
        ("DELETE /api/v1/namespaces/d/pods/x", JSON, "", ALLOWED),
    ]);
}

/// Pod specs that reach the node.
fn escapes() -> Vec<Value> {
    let container =
        |context: Value| json!({"containers": [{"name": "a"}, {"name": "b", "securityContext": context}]});
    vec![
        json!({"hostNetwork": true}),
        json!({"hostPID": true}),
        json!({"hostIPC": true}),
        container(json!({"privileged": true})),
        json!({"initContainers": [{"securityContext": {"privileged": true}}]}),
        json!({"ephemeralContainers": [{"securityContext": {"privileged": true}}]}),
        container(json!({"capabilities": {"add": ["CHOWN", "NET_ADMIN"]}})),
        container(json!({"capabilities": {"add": ["NET_RAW"]}})),
        container(json!({"capabilities": {"add": ["ALL"]}})),
        container(json!({"procMount": "Unmasked"})),
        json!({"securityContext": {"windowsOptions": {"hostProcess": true}}}),
        json!({"volumes": [{"name": "a", "emptyDir": {}}, {"name": "b", "hostPath": {"path": "/"}}]}),
    ]
}

#[test]
fn new_pods_reach_no_node_whatever_makes_them() {
    for spec in escapes() {
        let template = json!({"spec": {"template": {"spec": spec}}});
        for (resource, object) in [
            ("api/v1/namespaces/d/pods", json!({"spec": spec})),
            (
                "api/v1/namespaces/d/podtemplates",
                json!({"template": {"spec": spec}}),
            ),
            ("api/v1/namespaces/d/replicationcontrollers", template.clone()),
            ("apis/apps/v1/namespaces/d/deployments", template.clone()),
            ("apis/apps/v1/namespaces/d/daemonsets", template.clone()),
            ("apis/apps/v1/namespaces/d/replicasets", template.clone()),
            ("apis/apps/v1/namespaces/d/statefulsets", template.clone()),
            ("apis/batch/v1/namespaces/d/jobs", template.clone()),
            (
                "apis/apps/v1/namespaces/d/controllerrevisions",
                json!({"data": template}),
            ),
            (
                "apis/batch/v1/namespaces/d/cronjobs",
                json!({"spec": {"jobTemplate": template}}),
            ),
        ] {
            let line = format!("POST /{resource}");
            assert_eq!(
                decided(&line, JSON, &object.to_string(), &unknown()),
                NODE,
                "{line} {object}"
            );
            let path = format!("/{resource}/x");
            assert_eq!(changed(&path, &json!({}), &object), NODE, "{path} {object}");
            assert_eq!(changed(&path, &Value::Null, &object), NODE, "{path} {object}");
        }
    }
    let harmless = r#"{"spec":{"hostNetwork":false,"containers":[{"securityContext":{"privileged":false,"procMount":"Default","capabilities":{"add":["NET_BIND_SERVICE"],"drop":["ALL"]}}}]}}"#;
    check(&[
        (
            "POST /api/v1/persistentvolumes",
            JSON,
            r#"{"spec":{"hostPath":{"path":"/"}}}"#,
            NODE,
        ),
        (
            "POST /api/v1/persistentvolumes",
            JSON,
            r#"{"spec":{"local":{"path":"/"}}}"#,
            NODE,
        ),
        (PODS, JSON, harmless, ALLOWED),
        (PODS, JSON, r#"{"metadata":{"labels":{"hostPath":"x"}}}"#, ALLOWED),
        (
            "POST /api/v1/namespaces/d/configmaps",
            JSON,
            r#"{"data":{"hostNetwork":"true"}}"#,
            ALLOWED,
        ),
    ]);
}

#[test]
fn what_reaches_its_node_already_is_left_alone_or_made_harmless() {
    for spec in escapes() {
        let object =
            |spec: &Value, replicas: u32| json!({"spec": {"replicas": replicas, "template": {"spec": spec}}});
        let mut other = spec.clone();
        other["containers"] = json!([{"name": "mine", "image": "mine"}]);
        other["hostPID"] = json!(true);
        let (was, scaled) = (object(&spec, 1), object(&spec, 9));
        assert_eq!(changed(DEPLOYMENT_PATH, &was, &scaled), ALLOWED, "{spec}");
        assert_eq!(
            changed(DEPLOYMENT_PATH, &was, &object(&other, 1)),
            NODE,
            "another image in it"
        );
        let harmless = object(&json!({"containers": [{"name": "a"}]}), 1);
        assert_eq!(changed(DEPLOYMENT_PATH, &was, &harmless), ALLOWED, "{spec}");
    }
}

#[test]
fn patches_that_come_near_a_pod_are_looked_at() {
    for (content_type, body) in [
        (MERGE, r#"{"spec":{"template":{"spec":{"hostNetwork":true}}}}"#),
        (
            STRATEGIC,
            r#"{"spec":{"template":{"spec":{"containers":[{"name":"a","image":"b"}]}}}}"#,
        ),
        (MERGE, r#"{"spec":null}"#),
        (OPERATIONS, r#"[{"op":"replace","path":"/spec","value":{}}]"#),
        (
            OPERATIONS,
            r#"[{"op":"add","path":"/spec/template/spec/hostPID","value":true}]"#,
        ),
        (
            OPERATIONS,
            r#"[{"op":"copy","from":"/spec/paused","path":"/spec/template/spec/hostPID"}]"#,
        ),
        (
            OPERATIONS,
            r#"[{"op":"move","from":"/spec/template/spec/volumes/0/emptyDir","path":"/spec/template/spec/volumes/0/hostPath"}]"#,
        ),
        (APPLY, r#"{"metadata":{"name":"x"},"spec":{"replicas":1}}"#),
    ] {
        assert_eq!(
            decided(DEPLOYMENT, content_type, body, &unknown()),
            LOOK,
            "{body}"
        );
    }
    let test = r#"[{"op":"test","path":"/spec/template/spec/hostPID","value":true}]"#;
    check(&[(DEPLOYMENT, OPERATIONS, test, ALLOWED)]);
}

#[test]
fn rights_make_no_rights() {
    let role = |rules: &[Value]| json!({"rules": rules});
    let plain = json!({"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]});
    let path = "/apis/rbac.authorization.k8s.io/v1/clusterroles/x";
    for wide in [
        json!({"apiGroups": [""], "resources": ["users"], "verbs": ["impersonate"]}),
        json!({"apiGroups": ["authentication.k8s.io"], "resources": ["users"], "verbs": ["impersonate:user-info"]}),
        json!({"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"], "verbs": ["get", "escalate"]}),
        json!({"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"], "verbs": ["bind"]}),
        json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}),
        json!({"apiGroups": [""], "resources": ["serviceaccounts"], "verbs": ["*"]}),
    ] {
        let body = role(&[plain.clone(), wide.clone()]);
        assert_eq!(
            decided(ROLES, JSON, &body.to_string(), &unknown()),
            GRANT,
            "{wide}"
        );
        assert_eq!(
            changed(path, &role(std::slice::from_ref(&plain)), &body),
            GRANT,
            "{wide}"
        );
        assert_eq!(changed(path, &Value::Null, &body), GRANT, "{wide}");
        // One that is there already is nobody's doing; one rule less is none more.
        assert_eq!(
            changed(path, &body, &role(std::slice::from_ref(&wide))),
            ALLOWED,
            "{wide}"
        );
    }
    let narrow = role(&[json!({"apiGroups": ["example.com"], "resources": ["*"], "verbs": ["*"]})]);
    assert_eq!(decided(ROLES, JSON, &narrow.to_string(), &unknown()), ALLOWED);
    assert_eq!(changed(path, &role(&[]), &narrow), ALLOWED);
    let aggregated =
        r#"{"metadata":{"labels":{"rbac.authorization.k8s.io/aggregate-to-edit":"true"}},"rules":[]}"#;
    check(&[
        (ROLES, JSON, aggregated, GRANT),
        (
            ROLES,
            JSON,
            r#"{"aggregationRule":{"clusterRoleSelectors":[{}]}}"#,
            GRANT,
        ),
        (ROLE, MERGE, r#"{"metadata":{"labels":{"a":"b"}}}"#, LOOK),
        (
            ROLE,
            OPERATIONS,
            r#"[{"op":"add","path":"/rules/0/verbs/-","value":"bind"}]"#,
            LOOK,
        ),
    ]);
}

#[test]
fn nobody_is_made_administrator() {
    let binding = |role: &str, subject: &str| json!({"roleRef": {"kind": "ClusterRole", "name": role}, "subjects": [{"kind": "User", "name": subject}]});
    let path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/x";
    let admin = binding("cluster-admin", "a");
    assert_eq!(decided(BINDINGS, JSON, &admin.to_string(), &unknown()), GRANT);
    assert_eq!(
        decided(BINDINGS, JSON, &binding("view", "a").to_string(), &unknown()),
        ALLOWED
    );
    assert_eq!(
        changed(path, &admin, &binding("cluster-admin", "b")),
        GRANT,
        "another one"
    );
    assert_eq!(changed(path, &admin, &admin), ALLOWED);
    assert_eq!(
        changed(path, &binding("view", "a"), &binding("view", "b")),
        ALLOWED
    );
    check(&[
        (BINDING, MERGE, r#"{"subjects":[]}"#, LOOK),
        (BINDING, MERGE, r#"{"metadata":{"labels":{"a":"b"}}}"#, ALLOWED),
    ]);
}

#[test]
fn definitions_call_nobody() {
    let definition =
        |conversion: Value| json!({"metadata": {"name": "x"}, "spec": {"conversion": conversion}});
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/x";
    let webhook =
        definition(json!({"strategy": "Webhook", "webhook": {"clientConfig": {"url": "https://a.test"}}}));
    let none = definition(json!({"strategy": "None"}));
    assert_eq!(
        decided(DEFINITIONS, JSON, &webhook.to_string(), &unknown()),
        INTERCEPTION
    );
    assert_eq!(decided(DEFINITIONS, JSON, &none.to_string(), &unknown()), ALLOWED);
    assert_eq!(changed(path, &none, &webhook), INTERCEPTION);
    assert_eq!(changed(path, &webhook, &webhook), ALLOWED);
    assert_eq!(changed(path, &webhook, &none), ALLOWED);
    check(&[
        (
            DEFINITION,
            MERGE,
            r#"{"spec":{"conversion":{"webhook":{}}}}"#,
            LOOK,
        ),
        (
            DEFINITION,
            OPERATIONS,
            r#"[{"op":"replace","path":"/spec/names/plural","value":"a"}]"#,
            ALLOWED,
        ),
    ]);
}
