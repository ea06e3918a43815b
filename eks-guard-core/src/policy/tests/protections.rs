//! What no policy can allow.

use crate::policy::operation::{Operation, PatchKind};
use crate::policy::tests::{info, judged, snapshot};
use crate::reason::Reason;

const ALLOW_ALL: &str =
    r#"name: all, effect: allow, verbs: ["*"], apiGroups: ["*"], resources: ["*", "*/*"], namespaces: ["*"]"#;

fn check(rows: &[(&str, &str)]) {
    let rules = snapshot(&[ALLOW_ALL]);
    for (text, wanted) in rows {
        let info = info(text);
        let (reason, rule) = judged(&rules, &Operation::new(&info, "", PatchKind::Existing));
        assert_eq!(rule.as_deref(), Some(*wanted), "{text}");
        match *wanted {
            "p/all" => assert_eq!(reason, None, "{text}"),
            "builtin:no-connect" => assert_eq!(reason, Some(Reason::ConnectRefused), "{text}"),
            _ => assert_eq!(reason, Some(Reason::SelfProtection), "{text}"),
        }
    }
}

#[test]
fn guards_own_group_is_closed() {
    check(&[
        ("get eks-guard.dev/agentpolicies - x", "builtin:guard-group"),
        ("list eks-guard.dev/accessgrants shop -", "builtin:guard-group"),
        ("create sub.eks-guard.dev/things shop x", "builtin:guard-group"),
        ("get noteks-guard.dev/things shop x", "p/all"),
        ("get eks-guard.dev.example.com/things shop x", "p/all"),
        (
            "patch apiextensions.k8s.io/customresourcedefinitions - agentpolicies.eks-guard.dev",
            "builtin:guard-group",
        ),
        (
            "delete apiregistration.k8s.io/apiservices - v1alpha1.eks-guard.dev",
            "builtin:guard-group",
        ),
        (
            "update apiextensions.k8s.io/customresourcedefinitions/status - a.eks-guard.dev",
            "builtin:guard-group",
        ),
        (
            "deletecollection apiextensions.k8s.io/customresourcedefinitions - -",
            "builtin:guard-group",
        ),
        (
            "get apiextensions.k8s.io/customresourcedefinitions - agentpolicies.eks-guard.dev",
            "p/all",
        ),
        ("list apiextensions.k8s.io/customresourcedefinitions - -", "p/all"),
        (
            "patch apiextensions.k8s.io/customresourcedefinitions - widgets.example.com",
            "p/all",
        ),
    ]);
}

#[test]
fn guards_namespaces_are_closed() {
    check(&[
        ("get -/configmaps eks-guard ca", "builtin:guard-namespace"),
        ("list -/pods eks-guard-system -", "builtin:guard-namespace"),
        ("create apps/deployments eks-guard x", "builtin:guard-namespace"),
        ("get -/namespaces eks-guard eks-guard", "builtin:guard-namespace"),
        (
            "delete -/namespaces eks-guard eks-guard",
            "builtin:guard-namespace",
        ),
        (
            "update -/namespaces/finalize eks-guard eks-guard",
            "builtin:guard-namespace",
        ),
        ("watch -/namespaces - eks-guard", "builtin:guard-namespace"),
        ("deletecollection -/namespaces - -", "builtin:guard-namespace"),
        ("deletecollection -/pods - -", "builtin:guard-namespace"),
        (
            "deletecollection example.com/widgets - -",
            "builtin:guard-namespace",
        ),
        ("list -/pods - -", "p/all"),
        ("watch -/namespaces - -", "p/all"),
        ("deletecollection -/nodes - -", "p/all"),
        ("deletecollection -/pods shop -", "p/all"),
        ("get -/pods eks-guard-2 x", "p/all"),
    ]);
    let rules = snapshot(&[ALLOW_ALL]);
    let create = info("create -/namespaces - -");
    for (name, wanted) in [("eks-guard", "builtin:guard-namespace"), ("shop", "p/all")] {
        let found = judged(&rules, &Operation::new(&create, name, PatchKind::Existing));
        assert_eq!(found.1.as_deref(), Some(wanted));
    }
}

#[test]
fn credentials_and_streams_are_closed() {
    check(&[
        (
            "create -/serviceaccounts/token shop bot",
            "builtin:no-token-minting",
        ),
        ("create -/serviceaccounts shop bot", "p/all"),
        (
            "update certificates.k8s.io/certificatesigningrequests/approval - x",
            "builtin:no-certificate-signing",
        ),
        (
            "patch certificates.k8s.io/certificatesigningrequests/status - x",
            "builtin:no-certificate-signing",
        ),
        (
            "update certificates.k8s.io/podcertificaterequests/status shop x",
            "builtin:no-certificate-signing",
        ),
        ("get certificates.k8s.io/certificatesigningrequests - x", "p/all"),
        ("create -/pods/exec shop web-0", "builtin:no-connect"),
        ("get -/pods/exec shop web-0", "builtin:no-connect"),
        ("get -/pods/attach shop web-0", "builtin:no-connect"),
        ("create -/pods/portforward shop web-0", "builtin:no-connect"),
        ("get -/nodes/proxy - n1", "builtin:no-connect"),
        ("delete -/services/proxy shop web", "builtin:no-connect"),
        (
            "get subresources.kubevirt.io/virtualmachineinstances/portforward shop vm",
            "builtin:no-connect",
        ),
        ("get -/pods/log shop web-0", "p/all"),
    ]);
}

#[test]
fn nobody_else_answers_or_is_taken_for_somebody() {
    const INTERCEPTION: &str = "builtin:no-interception";
    const IDENTITY: &str = "builtin:no-identity-mapping";
    for resource in [
        "admissionregistration.k8s.io/mutatingwebhookconfigurations",
        "admissionregistration.k8s.io/validatingwebhookconfigurations",
        "admissionregistration.k8s.io/mutatingadmissionpolicies",
        "admissionregistration.k8s.io/mutatingadmissionpolicybindings",
        "admissionregistration.k8s.io/validatingadmissionpolicies",
        "admissionregistration.k8s.io/validatingadmissionpolicybindings",
        "apiregistration.k8s.io/apiservices",
    ] {
        let name = if resource.ends_with("apiservices") {
            "v1.example.com"
        } else {
            "x"
        };
        for verb in ["create", "update", "patch", "delete"] {
            check(&[(&format!("{verb} {resource} - {name}"), INTERCEPTION)]);
        }
        check(&[
            (&format!("get {resource} - {name}"), "p/all"),
            (&format!("list {resource} - -"), "p/all"),
        ]);
    }
    check(&[
        (
            "deletecollection admissionregistration.k8s.io/validatingadmissionpolicies - -",
            INTERCEPTION,
        ),
        ("create -/configmaps kube-system aws-auth", IDENTITY),
        ("update -/configmaps kube-system aws-auth", IDENTITY),
        ("patch -/configmaps kube-system aws-auth", IDENTITY),
        (
            "delete -/configmaps kube-system extension-apiserver-authentication",
            IDENTITY,
        ),
        ("deletecollection -/configmaps kube-system -", IDENTITY),
        ("get -/configmaps kube-system aws-auth", "p/all"),
        ("patch -/configmaps kube-system coredns", "p/all"),
        ("patch -/configmaps shop aws-auth", "p/all"),
    ]);
}

#[test]
fn protection_stands_before_deny() {
    let deny = r#"name: block, effect: deny, verbs: ["*"], apiGroups: ["*"], resources: ["*"]"#;
    let rules = snapshot(&[deny]);
    let info = info("create -/serviceaccounts/token shop robot");
    let found = judged(&rules, &Operation::new(&info, "", PatchKind::Existing));
    assert_eq!(found.0, Some(Reason::SelfProtection));
}
