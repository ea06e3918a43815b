//! Ways by which data leaks.

use crate::profiles::{
    APPROVE, Ask, DENY, Default, GRANT, MASK, NOTHING, OK, PROTECTED, Row, STREAM, Verdict, core, escalation,
    group, object, row,
};

/// Reads that are masked in every profile that may read.
const MASKED: [Verdict; 4] = [MASK, MASK, MASK, GRANT];
/// What is denied to all but a grant.
const DENIED: [Verdict; 4] = [DENY, DENY, DENY, GRANT];
/// Writes whose replies carry values.
const MASKED_WRITE: [Verdict; 4] = [NOTHING, MASK, MASK, GRANT];
/// Writes that need an approval.
const APPROVED: [Verdict; 4] = [NOTHING, APPROVE, APPROVE, GRANT];

pub(super) fn rows() -> Vec<Row> {
    [secrets(), values(), server()].concat()
}

fn get(path: impl std::fmt::Display, expect: [Verdict; 4]) -> Ask {
    Ask::plain(format!("GET {path}"), expect)
}

/// Secrets, and what carries them.
fn secrets() -> Vec<Row> {
    vec![
        row(
            "secrets-read",
            Default::Mask,
            vec![
                get(core("secrets/db"), MASKED),
                get(core("secrets"), MASKED),
                get(core("secrets?watch=true"), MASKED),
                get("/api/v1/secrets", DENIED).by("kube-system"),
            ],
        ),
        row("secrets-replies-of-writes", Default::Mask, secret_writes()),
        row(
            "errors-that-echo",
            Default::Mask,
            vec![Ask::patch(
                &core("secrets/db?fieldValidation=Strict"),
                r#"{"bogus":1}"#,
                MASKED_WRITE,
            )],
        ),
        row(
            "helm-releases",
            Default::Mask,
            vec![get(core("secrets?labelSelector=owner%3Dhelm"), MASKED)],
        ),
        row(
            "bootstrap-tokens",
            Default::Deny,
            vec![
                get(
                    "/api/v1/namespaces/kube-system/secrets/bootstrap-token-abcdef",
                    DENIED,
                )
                .by("kube-system"),
            ],
        ),
        row("token-minting", Default::Deny, tokens()),
        row("synced-secrets", Default::Mask, synced_secrets()),
        row(
            "pods-with-credentials",
            Default::Approve,
            escalation::pods_with_credentials(),
        ),
        row(
            "selectors",
            Default::Mask,
            vec![get(core("secrets?fieldSelector=type%3DOpaque"), MASKED)],
        ),
    ]
}

/// Values in other objects, and in what runs.
fn values() -> Vec<Row> {
    vec![
        row(
            "last-applied",
            Default::Mask,
            vec![get(group("apps/v1", "deployments/web"), MASKED)],
        ),
        row(
            "tables-and-watches",
            Default::Mask,
            vec![get(group("apps/v1", "deployments?watch=true"), MASKED)],
        ),
        row(
            "environment",
            Default::Mask,
            [
                core("pods"),
                core("podtemplates"),
                core("replicationcontrollers"),
                group("apps/v1", "deployments"),
                group("apps/v1", "replicasets"),
                group("apps/v1", "statefulsets"),
                group("apps/v1", "daemonsets"),
                group("apps/v1", "controllerrevisions"),
                group("batch/v1", "jobs"),
                group("batch/v1", "cronjobs"),
            ]
            .into_iter()
            .map(|path| get(path, MASKED))
            .collect(),
        ),
        row(
            "configmaps",
            Default::Mask,
            vec![
                get(core("configmaps/settings"), MASKED),
                get("/api/v1/namespaces/kube-system/configmaps/coredns", DENIED).by("kube-system"),
            ],
        ),
        row(
            "events",
            Default::Mask,
            vec![
                get(core("events"), MASKED),
                get(group("events.k8s.io/v1", "events"), MASKED),
            ],
        ),
        row(
            "logs",
            Default::Mask,
            vec![get(core("pods/web-0/log?previous=true&tailLines=10"), MASKED)],
        ),
        row("streams", Default::Approve, streams()),
    ]
}

/// What the API server says of itself and of others.
fn server() -> Vec<Row> {
    vec![
        row(
            "certificate-requests",
            Default::Allow,
            vec![get(
                "/apis/certificates.k8s.io/v1/certificatesigningrequests",
                [OK, NOTHING, OK, GRANT],
            )],
        ),
        row(
            "proxies",
            Default::Deny,
            vec![
                get(core("pods/web-0/proxy/"), [DENY, DENY, DENY, STREAM]),
                get(core("services/web:80/proxy/"), [DENY, DENY, DENY, STREAM]),
                get("/api/v1/nodes/n1/proxy/pods", [DENY, DENY, DENY, STREAM]),
            ],
        ),
        row(
            "server-internals",
            Default::Deny,
            [
                "/metrics",
                "/metrics/slis",
                "/debug/pprof/profile",
                "/debug/api_priority_and_fairness/dump_requests",
                "/logs/kube-apiserver.log",
                "/flagz",
                "/statusz",
            ]
            .into_iter()
            .map(|path| get(path, DENIED).by("server-internals"))
            .collect(),
        ),
        row("discovery", Default::Allow, discovery()),
        row(
            "admission-configuration",
            Default::Allow,
            [
                "admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
                "admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
                "admissionregistration.k8s.io/v1/validatingadmissionpolicies",
                "apiregistration.k8s.io/v1/apiservices",
            ]
            .into_iter()
            .map(|path| get(format!("/apis/{path}"), [OK, NOTHING, OK, GRANT]))
            .collect(),
        ),
        row("reviews", Default::Allow, reviews()),
    ]
}

fn secret_writes() -> Vec<Ask> {
    let secret = |line: &str| {
        Ask::json(
            line,
            object("v1", "Secret", "").replace("made", "db"),
            MASKED_WRITE,
        )
    };
    let many = [NOTHING, DENY, DENY, GRANT];
    let one = core("secrets/db");
    vec![
        secret(&format!("PUT {one}")),
        secret(&format!("PUT {one}?dryRun=All")),
        Ask::patch(&one, r#"{"metadata":{"annotations":{"a":"b"}}}"#, MASKED_WRITE),
        Ask::patch(&core("secrets/db?dryRun=All"), "{}", MASKED_WRITE),
        Ask::json(
            format!("POST {}", core("secrets")),
            object("v1", "Secret", ""),
            MASKED_WRITE,
        ),
        Ask::plain(format!("DELETE {}", core("secrets")), many).by("collections"),
        Ask::plain(format!("DELETE {}?dryRun=All", core("secrets")), many).by("collections"),
    ]
}

fn tokens() -> Vec<Ask> {
    let request =
        r#"{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{"audiences":["x"]}}"#;
    let secret = object("v1", "Secret", r#","type":"kubernetes.io/service-account-token""#);
    vec![
        Ask::json(
            format!("POST {}", core("serviceaccounts/default/token")),
            request,
            [PROTECTED; 4],
        ),
        Ask::json(format!("POST {}", core("secrets")), secret, [PROTECTED; 4]),
    ]
}

fn streams() -> Vec<Ask> {
    let stream = [DENY, APPROVE, APPROVE, STREAM];
    let mut asks: Vec<Ask> = [
        "exec?command=id&stdout=true",
        "attach?stdin=true",
        "portforward?ports=80",
    ]
    .into_iter()
    .flat_map(|part| {
        ["GET", "POST"].map(|method| {
            Ask::plain(
                format!("{method} {}", core(&format!("pods/web-0/{part}"))),
                stream,
            )
            .by("streams")
        })
    })
    .collect();
    asks.push(
        Ask::patch(
            &core("pods/web-0/ephemeralcontainers"),
            r#"{"spec":{"ephemeralContainers":[{"name":"d","image":"busybox"}]}}"#,
            APPROVED,
        )
        .by("streams"),
    );
    asks
}

fn discovery() -> Vec<Ask> {
    let builtin = [
        "/openapi/v2",
        "/openapi/v3",
        "/api",
        "/apis",
        "/version",
        "/healthz",
        "/livez",
        "/readyz",
    ];
    let builtin = builtin.map(|path| Ask::plain(format!("GET {path}"), [OK; 4]));
    let public = ["/openid/v1/jwks", "/.well-known/openid-configuration"];
    let public = public.map(|path| Ask::plain(format!("GET {path}"), [OK, OK, OK, GRANT]));
    builtin.into_iter().chain(public).collect()
}

fn synced_secrets() -> Vec<Ask> {
    [
        ("external-secrets.io/v1", "externalsecrets", "ExternalSecret"),
        ("external-secrets.io/v1", "secretstores", "SecretStore"),
        ("external-secrets.io/v1alpha1", "pushsecrets", "PushSecret"),
        (
            "secrets-store.csi.x-k8s.io/v1",
            "secretproviderclasses",
            "SecretProviderClass",
        ),
        ("bitnami.com/v1alpha1", "sealedsecrets", "SealedSecret"),
        (
            "secrets.hashicorp.com/v1beta1",
            "vaultstaticsecrets",
            "VaultStaticSecret",
        ),
    ]
    .into_iter()
    .flat_map(|(version, resource, kind)| {
        [
            Ask::plain(format!("GET {}", group(version, resource)), MASKED).by("synced-secrets-values"),
            Ask::json(
                format!("POST {}", group(version, resource)),
                object(version, kind, ""),
                APPROVED,
            )
            .by("synced-secrets"),
        ]
    })
    .collect()
}

fn reviews() -> Vec<Ask> {
    let review = |version: &str, resource: &str, kind: &str, expect| {
        Ask::json(
            format!("POST /apis/{version}/{resource}"),
            format!(r#"{{"apiVersion":"{version}","kind":"{kind}","spec":{{}}}}"#),
            expect,
        )
    };
    let authorization = "authorization.k8s.io/v1";
    vec![
        review(
            authorization,
            "selfsubjectaccessreviews",
            "SelfSubjectAccessReview",
            [OK; 4],
        ),
        review(
            authorization,
            "selfsubjectrulesreviews",
            "SelfSubjectRulesReview",
            [OK; 4],
        ),
        review(
            "authentication.k8s.io/v1",
            "selfsubjectreviews",
            "SelfSubjectReview",
            [OK; 4],
        ),
        // What others may do is nobody's business.
        review(
            authorization,
            "subjectaccessreviews",
            "SubjectAccessReview",
            [NOTHING, NOTHING, NOTHING, GRANT],
        ),
    ]
}
