//! Policy documents: whatever they say, what is compiled in holds, a mistake opens nothing, and an explanation is the decision.

use std::sync::LazyLock;
use std::time::SystemTime;

use eks_guard_core::policy::{Answer, Decision, Facts, Snapshot, read_policies_or_refuse};
use eks_guard_core::principal::Principal;
use eks_guard_core::request_info::ApiRequest;

use crate::target::Reading;

/// All of this is refused, whatever the cluster would say.
const PROTECTED: [(&str, &str); 6] = [
    ("DELETE", "/apis/eks-guard.dev/v1alpha1/agentpolicies/a"),
    ("GET", "/api/v1/namespaces/eks-guard/secrets/a"),
    ("POST", "/api/v1/namespaces/shop/serviceaccounts/a/token"),
    ("POST", "/api/v1/namespaces/shop/pods/a/exec"),
    ("GET", "/api/v1/nodes/a/proxy"),
    (
        "DELETE",
        "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/a",
    ),
];

/// What policies are about.
const ORDINARY: [(&str, &str); 6] = [
    ("GET", "/api/v1/namespaces/shop/pods"),
    ("GET", "/api/v1/pods"),
    ("DELETE", "/apis/apps/v1/namespaces/shop/deployments/web"),
    ("GET", "/api/v1/namespaces/shop/secrets/a"),
    ("GET", "/apis/g.example/v1/foos/a"),
    ("GET", "/healthz"),
];

static REQUESTS: LazyLock<[Vec<ApiRequest>; 2]> = LazyLock::new(|| {
    [PROTECTED, ORDINARY].map(|lines| {
        let parse = |(method, path): &(&str, &str)| ApiRequest::parse(method, path, None);
        lines
            .iter()
            .map(|line| parse(line).expect("it is a request"))
            .collect()
    })
});

/// One file of documents.
pub(crate) fn documents(bytes: &[u8]) -> Reading {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Reading::Refused;
    };
    let (policies, invalid) = read_policies_or_refuse("policy.yaml", text);
    let is_right = invalid.is_empty() && !policies.is_empty();
    let as_read = Snapshot::compile(&policies, 1);
    let snapshot = Snapshot::compile_or_refuse(&policies, invalid, 1);
    let principals = [Principal::named("a"), Principal::default()];
    for principal in &principals {
        let [protected, ordinary] = &*REQUESTS;
        for request in protected {
            let decided = decide(&snapshot, principal, request);
            assert_eq!(decided, Decided::Refused, "{request:?}");
        }
        for request in ordinary {
            let decided = decide(&snapshot, principal, request);
            let without_mistakes = as_read.as_ref().map(|it| decide(it, principal, request));
            assert!(
                decided != Decided::Permitted || without_mistakes.map_or(true, |it| it == Decided::Permitted),
                "a mistake permits {request:?}"
            );
        }
    }
    if is_right && as_read.is_ok() {
        Reading::Taken
    } else {
        Reading::Refused
    }
}

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decided {
    Permitted,
    /// What the cluster says about objects decides.
    Open,
    Refused,
}

/// The decision; the explanation says the same.
fn decide(snapshot: &Snapshot, principal: &Principal, request: &ApiRequest) -> Decided {
    let facts = Facts::at(SystemTime::UNIX_EPOCH);
    let explained = snapshot.explain_request(principal, request, &facts);
    let decided = match snapshot.decide(principal, request.clone(), &facts) {
        Decision::Permit(_) => Decided::Permitted,
        Decision::Look(_) => Decided::Open,
        Decision::Refuse(..) => Decided::Refused,
    };
    let is_allowed = matches!(explained.answer, Answer::Allowed { .. });
    assert_eq!(is_allowed, decided == Decided::Permitted, "{explained:?}");
    decided
}
