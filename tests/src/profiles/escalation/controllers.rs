//! What controllers make of objects: rights in AWS, work done with rights of their own, and the walls between tenants.

use crate::profiles::escalation::{APPROVED, DENIED};
use crate::profiles::{Ask, NAMESPACE, PROTECTED, core, group, object};

pub(super) fn aws_rights() -> Vec<Ask> {
    let annotation =
        r#"{"metadata":{"annotations":{"eks.amazonaws.com/role-arn":"arn:aws:iam::1:role/admin"}}}"#;
    let custom = |path: String, version: &str, kind: &str| {
        Ask::json(format!("POST {path}"), object(version, kind, ""), APPROVED).by("deputies")
    };
    let cluster = |version: &str, resource: &str| format!("/apis/{version}/{resource}");
    vec![
        Ask::patch(&core("serviceaccounts/default"), annotation, APPROVED).by("service-accounts"),
        Ask::json(
            format!("POST {}", core("serviceaccounts")),
            object("v1", "ServiceAccount", ""),
            APPROVED,
        )
        .by("service-accounts"),
        custom(
            cluster("karpenter.sh/v1", "nodepools"),
            "karpenter.sh/v1",
            "NodePool",
        ),
        custom(
            cluster("karpenter.k8s.aws/v1", "ec2nodeclasses"),
            "karpenter.k8s.aws/v1",
            "EC2NodeClass",
        ),
        custom(
            group("iam.services.k8s.aws/v1alpha1", "roles"),
            "iam.services.k8s.aws/v1alpha1",
            "Role",
        ),
        custom(
            cluster("pkg.crossplane.io/v1", "providers"),
            "pkg.crossplane.io/v1",
            "Provider",
        ),
    ]
}

pub(super) fn deputies() -> Vec<Ask> {
    [
        (
            "kustomize.toolkit.fluxcd.io/v1",
            "kustomizations",
            "Kustomization",
        ),
        ("helm.toolkit.fluxcd.io/v2", "helmreleases", "HelmRelease"),
        ("argoproj.io/v1alpha1", "applications", "Application"),
        ("argoproj.io/v1alpha1", "workflows", "Workflow"),
        ("tekton.dev/v1", "pipelineruns", "PipelineRun"),
        ("cert-manager.io/v1", "certificates", "Certificate"),
        ("kyverno.io/v1", "policies", "Policy"),
    ]
    .into_iter()
    .map(|(version, resource, kind)| {
        let path = group(version, resource);
        Ask::json(format!("POST {path}"), object(version, kind, ""), APPROVED).by("deputies")
    })
    .collect()
}

pub(super) fn isolation() -> Vec<Ask> {
    let networking = "networking.k8s.io/v1";
    let (flow, storage, scheduling) = (
        "flowcontrol.apiserver.k8s.io/v1",
        "storage.k8s.io/v1",
        "scheduling.k8s.io/v1",
    );
    let made = |path: String, version: &str, kind: &str, rest: &str| {
        Ask::json(format!("POST {path}"), object(version, kind, rest), DENIED)
    };
    let cluster = |version: &str, resource: &str| format!("/apis/{version}/{resource}");
    let namespace = format!("/api/v1/namespaces/{}", NAMESPACE);
    let labels = r#"{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"privileged"}}}"#;
    let host_path =
        r#","spec":{"capacity":{"storage":"1Gi"},"accessModes":["ReadWriteOnce"],"hostPath":{"path":"/"}}"#;
    let labelled = r#"{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"made","labels":{"pod-security.kubernetes.io/enforce":"privileged"}}}"#;
    vec![
        made(
            group(networking, "networkpolicies"),
            networking,
            "NetworkPolicy",
            r#","spec":{"podSelector":{}}"#,
        )
        .by("isolation"),
        Ask::plain(
            format!("DELETE {}", group(networking, "networkpolicies/deny-all")),
            DENIED,
        )
        .by("isolation-removed"),
        made(core("resourcequotas"), "v1", "ResourceQuota", "").by("isolation"),
        made(core("limitranges"), "v1", "LimitRange", "").by("isolation"),
        Ask::patch(&namespace, labels, DENIED).by("namespace-labels"),
        Ask::json("POST /api/v1/namespaces", labelled, DENIED).by("pod-security-labels"),
        made(
            cluster(flow, "prioritylevelconfigurations"),
            flow,
            "PriorityLevelConfiguration",
            "",
        )
        .by("isolation"),
        made(cluster(flow, "flowschemas"), flow, "FlowSchema", "").by("isolation"),
        made(
            cluster(storage, "storageclasses"),
            storage,
            "StorageClass",
            r#","provisioner":"example.com/p""#,
        )
        .by("isolation"),
        made(
            cluster(scheduling, "priorityclasses"),
            scheduling,
            "PriorityClass",
            r#","value":1"#,
        )
        .by("isolation"),
        Ask::json(
            "POST /api/v1/persistentvolumes",
            object("v1", "PersistentVolume", host_path),
            [PROTECTED; 4],
        ),
    ]
}
