//! The policies for common tools in docs/policy.md, against the requests that kubectl 1.36 makes.

use crate::body::Body;
use crate::policy::tests::{principal, request, snapshot_of};
use crate::policy::{Decision, Snapshot};

const CONFIG_MAP: &str =
    r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c1","namespace":"shop"}}"#;
const DEPLOYMENT: &str =
    r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","namespace":"shop"},"spec":{}}"#;
const CHANGE: &str = r#"{"metadata":{"annotations":{"a":"b"}}}"#;
const DELETE: &str = r#"{"propagationPolicy":"Background"}"#;
const JSON: &str = "application/json";
const APPLY: &str = "application/apply-patch+yaml";
const STRATEGIC: &str = "application/strategic-merge-patch+json";

/// A command, and what it asks for: request line, content type, body; no content type for no body.
type Command<'a> = (&'a str, &'a [(&'a str, &'a str, &'a str)]);

const READ: Command<'_> = (
    "get, describe, wait",
    &[
        ("GET /apis/apps/v1/namespaces/shop/deployments/web/scale", "", ""),
        ("GET /api/v1/namespaces/shop/pods?limit=500", "", ""),
        ("GET /api/v1/pods?limit=500", "", ""),
        ("GET /api/v1/nodes?limit=500", "", ""),
        ("GET /apis/example.com/v1/widgets?limit=500", "", ""),
        (
            "GET /api/v1/namespaces/shop/pods?resourceVersion=1&watch=true",
            "",
            "",
        ),
        ("GET /api/v1/namespaces/shop/pods/web-0", "", ""),
        (
            "GET /api/v1/namespaces/shop/events?fieldSelector=involvedObject.namespace%3Dshop%2CinvolvedObject.name%3D\
             web-0&limit=500",
            "",
            "",
        ),
    ],
);
/// Of an object that is there; `kubectl wait` and `rollout status` do the same.
const WAIT: Command<'_> = (
    "wait",
    &[
        ("GET /apis/apps/v1/namespaces/shop/deployments/web", "", ""),
        (
            "GET /apis/apps/v1/namespaces/shop/deployments?allowWatchBookmarks=true&fieldSelector=metadata.name%3Dweb&\
             resourceVersionMatch=NotOlderThan&sendInitialEvents=true&timeoutSeconds=474&watch=true",
            "",
            "",
        ),
        (
            "GET /apis/apps/v1/namespaces/shop/deployments?fieldSelector=metadata.name%3Dweb&limit=500&resourceVersion=0",
            "",
            "",
        ),
    ],
);
const APPLY_CREATES: Command<'_> = (
    "apply, object not there",
    &[
        ("GET /api/v1/namespaces/shop/configmaps/c1", "", ""),
        ("GET /api/v1/namespaces/shop", "", ""),
        ("GET /openapi/v3?timeout=32s", "", ""),
        ("GET /openapi/v2?timeout=32s", "", ""),
        (
            "POST /api/v1/namespaces/shop/configmaps?fieldManager=kubectl-client-side-apply&fieldValidation=Strict",
            JSON,
            CONFIG_MAP,
        ),
    ],
);
const APPLY_CHANGES: Command<'_> = (
    "apply, object there",
    &[
        ("GET /apis/apps/v1/namespaces/shop/deployments/web", "", ""),
        (
            "PATCH /apis/apps/v1/namespaces/shop/deployments/web?fieldManager=kubectl-client-side-apply&\
             fieldValidation=Strict",
            STRATEGIC,
            CHANGE,
        ),
    ],
);
const APPLY_ON_SERVER: Command<'_> = (
    "apply --server-side",
    &[
        (
            "PATCH /apis/apps/v1/namespaces/shop/deployments/web?fieldManager=kubectl&fieldValidation=Strict&force=false",
            APPLY,
            DEPLOYMENT,
        ),
        (
            "PATCH /api/v1/namespaces/shop/configmaps/c1?fieldManager=kubectl&fieldValidation=Strict&force=true",
            APPLY,
            CONFIG_MAP,
        ),
        // Fields that a client-side apply owned are handed over.
        (
            "PATCH /apis/apps/v1/namespaces/shop/deployments/web?fieldManager=kubectl&fieldValidation=Strict",
            "application/json-patch+json",
            r#"[{"op":"replace","path":"/metadata/managedFields","value":[]}]"#,
        ),
    ],
);
const EDIT: Command<'_> = (
    "edit",
    &[
        ("GET /api/v1/namespaces/shop/configmaps/c1", "", ""),
        (
            "PATCH /api/v1/namespaces/shop/configmaps/c1?fieldManager=kubectl-edit&fieldValidation=Strict",
            STRATEGIC,
            CHANGE,
        ),
    ],
);
const REMOVE: Command<'_> = (
    "delete",
    &[
        (
            "DELETE /apis/apps/v1/namespaces/shop/deployments/web",
            JSON,
            DELETE,
        ),
        ("DELETE /api/v1/namespaces/shop/configmaps/c1", JSON, DELETE),
    ],
);
const SCALE: Command<'_> = (
    "scale",
    &[
        ("GET /apis/apps/v1/namespaces/shop/deployments/web", "", ""),
        (
            "PATCH /apis/apps/v1/namespaces/shop/deployments/web/scale",
            "application/merge-patch+json",
            r#"{"spec":{"replicas":2}}"#,
        ),
    ],
);
const LOGS: Command<'_> = (
    "logs",
    &[
        ("GET /api/v1/namespaces/shop/pods/web-0", "", ""),
        ("GET /api/v1/namespaces/shop/pods?labelSelector=app%3Dweb", "", ""),
        (
            "GET /api/v1/namespaces/shop/pods/web-0/log?container=c&follow=true&tailLines=10",
            "",
            "",
        ),
    ],
);
/// The body as kubectl sends it.
const CAN_I: Command<'_> = (
    "auth can-i",
    &[
        ("GET /api/v1", "", ""),
        (
            "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            "application/vnd.kubernetes.protobuf",
            "k8s\x00\n2\n\x17authorization.k8s.io/v1\x12\x17SelfSubjectAccessReview\x12<\n\x10\n\x00\x12\x00\x1a\x00\"\x00*\
             \x002\x008\x00B\x00\x12\x1e\n\x1c\n\x04shop\x12\x06delete\x1a\x00\"\x00*\x04pods2\x00:\x00\x1a\x08\x08\x00\
             \x12\x00\x1a\x00 \x00\x1a\x00\"\x00",
        ),
        (
            "POST /apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
            "application/vnd.kubernetes.protobuf",
            "k8s\x00\n1\n\x17authorization.k8s.io/v1\x12\x16SelfSubjectRulesReview\x12 \n\x10\n\x00\x12\x00\x1a\x00\"\x00*\
             \x002\x008\x00B\x00\x12\x06\n\x04shop\x1a\x04\x18\x00\"\x00\x1a\x00\"\x00",
        ),
    ],
);

/// The policy of this name in the manual, alone.
fn documented(name: &str) -> Snapshot {
    let page = include_str!("../../../../docs/policy.md");
    let (_, section) = page.split_once("\n## Policies for common tools\n").unwrap();
    let mut blocks = section
        .split("```yaml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next());
    let wanted = format!("\n  name: {name}\n");
    let block = blocks.find(|block| block.contains(&wanted)).expect(name);
    snapshot_of(&[block.to_owned()])
}

fn decide(rules: &Snapshot, (line, content_type, body): (&str, &str, &str)) -> Decision {
    let mut request = request(line);
    if !content_type.is_empty() {
        let body = Body::read(&request, Some(content_type), body.as_bytes());
        let body = body.unwrap_or_else(|refusal| panic!("{line}: {refusal}"));
        request = request.with_body(body).unwrap();
    }
    crate::policy::tests::decide(rules, &principal("my-agent"), request)
}

fn allows(rules: &Snapshot, commands: &[Command<'_>]) {
    for (command, asks) in commands {
        for ask in *asks {
            let decision = decide(rules, *ask);
            // Whether a pod would reach its node is looked at; no rule of the policy is in doubt.
            let is_allowed = match &decision {
                Decision::Permit(_) => true,
                Decision::Look(look) => look.rule().starts_with("builtin:"),
                Decision::Refuse(..) => false,
            };
            assert!(is_allowed, "{command}: {decision:?}");
        }
    }
}

/// The last request of each command is refused.
fn refuses(rules: &Snapshot, commands: &[Command<'_>]) {
    for (command, asks) in commands {
        let decision = decide(rules, *asks.last().unwrap());
        assert!(
            matches!(decision, Decision::Refuse(..)),
            "{command}: {decision:?}"
        );
    }
}

#[test]
fn read_only_reads_everything_and_changes_nothing() {
    let rules = documented("read-only");
    allows(&rules, &[READ, WAIT, LOGS, CAN_I]);
    refuses(
        &rules,
        &[APPLY_CREATES, APPLY_CHANGES, APPLY_ON_SERVER, EDIT, REMOVE, SCALE],
    );
    let secrets = [("GET /api/v1/namespaces/shop/secrets/db", "", "")];
    let exec = [("GET /api/v1/namespaces/shop/pods/web-0/exec?command=sh", "", "")];
    refuses(&rules, &[("get secrets", &secrets), ("exec", &exec)]);
}

#[test]
fn namespace_developer_applies_edits_scales_and_deletes() {
    let rules = documented("namespace-developer");
    allows(
        &rules,
        &[
            APPLY_CREATES,
            APPLY_CHANGES,
            APPLY_ON_SERVER,
            EDIT,
            SCALE,
            REMOVE,
            WAIT,
            CAN_I,
        ],
    );
    let elsewhere = APPLY_CHANGES.1[1].0.replace("/shop/", "/prod/");
    let collection = [("DELETE /api/v1/namespaces/shop/configmaps", JSON, DELETE)];
    refuses(
        &rules,
        &[
            READ,
            LOGS,
            ("apply elsewhere", &[(elsewhere.as_str(), STRATEGIC, CHANGE)]),
            ("delete --all", &collection),
            ("get namespaces", &[("GET /api/v1/namespaces", "", "")]),
        ],
    );
}

#[test]
fn log_reader_reads_logs_and_asks_about_itself() {
    let rules = documented("log-reader");
    allows(&rules, &[LOGS, CAN_I]);
    refuses(&rules, &[READ, WAIT, APPLY_CREATES, EDIT, REMOVE, SCALE]);
    match decide(&rules, CAN_I.1[1]) {
        Decision::Permit(permit) => assert_eq!(permit.rule(), "builtin:self-review"),
        decision @ (Decision::Refuse(..) | Decision::Look(_)) => panic!("{decision:?}"),
    }
}
