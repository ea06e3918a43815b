//! Ways by which rights grow.

mod controllers;
mod workloads;

pub(super) use workloads::pods_with_credentials;

use crate::profiles::{
    APPROVE, Ask, DENY, Default, GRANT, MASK, NAMESPACE, NOTHING, PROTECTED, Row, Verdict, core, group,
    object, row,
};

/// Writes that only a grant allows.
const DENIED: [Verdict; 4] = [NOTHING, DENY, DENY, GRANT];
/// Writes that need an approval.
const APPROVED: [Verdict; 4] = [NOTHING, APPROVE, APPROVE, GRANT];

pub(super) fn rows() -> Vec<Row> {
    vec![
        row("access-rules", Default::Deny, access_rules()),
        row(
            "aggregation",
            Default::Deny,
            vec![
                Ask::patch(
                    "/apis/rbac.authorization.k8s.io/v1/clusterroles/mine",
                    r#"{"metadata":{"labels":{"rbac.authorization.k8s.io/aggregate-to-admin":"true"}}}"#,
                    DENIED,
                )
                .by("access-rules"),
            ],
        ),
        Row {
            elsewhere: Some(
                "acting as somebody else is a header, never a request: headers are dropped, and suite refusals shows it",
            ),
            ..row("impersonation", Default::Deny, Vec::new())
        },
        row("certificates", Default::Deny, certificates()),
        row("workloads", Default::Approve, workloads::dangerous()),
        row("workloads-node-access", Default::Deny, workloads::node_access()),
        row("placement", Default::Deny, placement()),
        row("removal", Default::Approve, removal()),
        row("removal-of-many", Default::Deny, removal_of_many()),
        row("cluster-state", Default::Deny, cluster_state()),
        row("traffic", Default::Approve, traffic()),
        row("admission", Default::Deny, admission()),
        row("api-definitions", Default::Deny, api_definitions()),
        row("system-configmaps", Default::Deny, system_config_maps()),
        row("aws-rights", Default::Approve, controllers::aws_rights()),
        row("deputies", Default::Approve, controllers::deputies()),
        row("isolation", Default::Deny, controllers::isolation()),
        row("guard-itself", Default::Deny, guard_itself()),
    ]
}

fn access_rules() -> Vec<Ask> {
    let rbac = "rbac.authorization.k8s.io/v1";
    let role = r#","rules":[{"apiGroups":[""],"resources":["pods"],"verbs":["get"]}]"#;
    let binding = |kind: &str| {
        format!(
            r#","roleRef":{{"apiGroup":"rbac.authorization.k8s.io","kind":"{kind}","name":"view"}},"subjects":[]"#
        )
    };
    let cluster = |resource: &str| format!("/apis/{rbac}/{resource}");
    vec![
        Ask::json(
            format!("POST {}", group(rbac, "roles")),
            object(rbac, "Role", role),
            DENIED,
        ),
        Ask::json(
            format!("POST {}", group(rbac, "rolebindings")),
            object(rbac, "RoleBinding", &binding("ClusterRole")),
            DENIED,
        ),
        Ask::json(
            format!("POST {}", cluster("clusterroles")),
            object(rbac, "ClusterRole", role),
            DENIED,
        ),
        Ask::json(
            format!("POST {}", cluster("clusterrolebindings")),
            object(rbac, "ClusterRoleBinding", &binding("ClusterRole")),
            DENIED,
        ),
        Ask::json(
            format!("PUT {}", group(rbac, "roles/made")),
            object(rbac, "Role", role),
            DENIED,
        ),
        Ask::patch(
            &group(rbac, "rolebindings/made"),
            r#"{"metadata":{"labels":{"a":"b"}}}"#,
            DENIED,
        ),
        Ask::plain(format!("DELETE {}", group(rbac, "roles/made")), DENIED),
    ]
    .into_iter()
    .map(|ask| ask.by("access-rules"))
    .collect()
}

fn certificates() -> Vec<Ask> {
    let version = "certificates.k8s.io/v1";
    let path = format!("/apis/{version}/certificatesigningrequests");
    let request = |signer: &str| {
        let spec =
            format!(r#","spec":{{"request":"LS0=","signerName":"{signer}","usages":["server auth"]}}"#);
        object(version, "CertificateSigningRequest", &spec)
    };
    let app_serving = request("beta.eks.amazonaws.com/app-serving");
    vec![
        Ask::json(
            format!("PUT {path}/made/approval"),
            app_serving.clone(),
            [PROTECTED; 4],
        ),
        Ask::json(
            format!("PUT {path}/made/status"),
            app_serving.clone(),
            [PROTECTED; 4],
        ),
        Ask::json(format!("POST {path}"), app_serving, DENIED).by("certificates"),
        Ask::json(
            format!("POST {path}"),
            request("kubernetes.io/kube-apiserver-client"),
            DENIED,
        )
        .by("certificates"),
        Ask::json(
            format!("POST {path}"),
            request("kubernetes.io/kubelet-serving"),
            DENIED,
        )
        .by("certificates"),
    ]
}

fn placement() -> Vec<Ask> {
    let binding = r#"{"apiVersion":"v1","kind":"Binding","metadata":{"name":"web-0"},"target":{"apiVersion":"v1","kind":"Node","name":"n1"}}"#;
    ["bindings", "pods/web-0/binding"]
        .into_iter()
        .map(|path| Ask::json(format!("POST {}", core(path)), binding, DENIED).by("placement"))
        .collect()
}

fn removal() -> Vec<Ask> {
    let eviction = r#"{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"web-0"}}"#;
    let mut asks = vec![Ask::json(
        format!("POST {}", core("pods/web-0/eviction")),
        eviction,
        APPROVED,
    )];
    asks.extend(
        [
            core("pods/web-0"),
            core("pods/web-0?gracePeriodSeconds=0"),
            core("persistentvolumeclaims/data"),
            group("policy/v1", "poddisruptionbudgets/web"),
            group("apps/v1", "deployments/web?propagationPolicy=Orphan"),
            "/api/v1/nodes/n1".to_owned(),
            "/api/v1/persistentvolumes/pv-1".to_owned(),
            format!("/api/v1/namespaces/{}", NAMESPACE),
        ]
        .into_iter()
        .map(|path| Ask::plain(format!("DELETE {path}"), APPROVED)),
    );
    asks.into_iter().map(|ask| ask.by("deletes")).collect()
}

fn removal_of_many() -> Vec<Ask> {
    let namespace = format!(
        r#"{{"apiVersion":"v1","kind":"Namespace","metadata":{{"name":"{}"}},"spec":{{"finalizers":[]}}}}"#,
        NAMESPACE
    );
    vec![
        Ask::plain(format!("DELETE {}", core("pods")), DENIED).by("collections"),
        Ask::plain(
            format!("DELETE {}", group("apps/v1", "deployments?labelSelector=a%3Db")),
            DENIED,
        )
        .by("collections"),
        Ask::json(
            format!("PUT /api/v1/namespaces/{}/finalize", NAMESPACE),
            namespace,
            DENIED,
        )
        .by("cluster-state"),
    ]
}

fn cluster_state() -> Vec<Ask> {
    let (coordination, discovery) = ("coordination.k8s.io/v1", "discovery.k8s.io/v1");
    let taints = r#"{"spec":{"taints":[],"unschedulable":false}}"#;
    let ready = r#"{"status":{"conditions":[]}}"#;
    vec![
        Ask::patch("/api/v1/nodes/n1", taints, DENIED),
        Ask::patch("/api/v1/nodes/n1", r#"{"metadata":{"labels":{"a":"b"}}}"#, DENIED),
        Ask::patch("/api/v1/nodes/n1/status", ready, DENIED),
        Ask::patch(&core("pods/web-0/status"), ready, DENIED),
        Ask::json(
            format!("POST {}", core("endpoints")),
            object("v1", "Endpoints", ""),
            DENIED,
        ),
        Ask::json(
            format!("POST {}", group(coordination, "leases")),
            object(coordination, "Lease", ""),
            DENIED,
        ),
        Ask::json(
            format!("POST {}", group(discovery, "endpointslices")),
            object(
                discovery,
                "EndpointSlice",
                r#","addressType":"IPv4","endpoints":[]"#,
            ),
            DENIED,
        ),
    ]
    .into_iter()
    .map(|ask| ask.by("cluster-state"))
    .collect()
}

fn traffic() -> Vec<Ask> {
    let networking = "networking.k8s.io/v1";
    let service = |spec: &str, expect| {
        let spec = format!(r#","spec":{{{spec}}}"#);
        Ask::json(
            format!("POST {}", core("services")),
            object("v1", "Service", &spec),
            expect,
        )
    };
    vec![
        service(r#""ports":[{"port":80}],"externalIPs":["203.0.113.1"]"#, DENIED).by("foreign-addresses"),
        service(r#""type":"ExternalName","externalName":"db.example.com""#, DENIED).by("foreign-addresses"),
        service(r#""ports":[{"port":80}]"#, APPROVED).by("traffic"),
        Ask::patch(&core("services/web"), r#"{"spec":{"selector":null}}"#, APPROVED).by("traffic"),
        Ask::json(
            format!("POST {}", group(networking, "ingresses")),
            object(networking, "Ingress", r#","spec":{}"#),
            APPROVED,
        )
        .by("traffic"),
    ]
}

fn admission() -> Vec<Ask> {
    let version = "admissionregistration.k8s.io/v1";
    [
        ("mutatingwebhookconfigurations", "MutatingWebhookConfiguration"),
        (
            "validatingwebhookconfigurations",
            "ValidatingWebhookConfiguration",
        ),
        ("mutatingadmissionpolicies", "MutatingAdmissionPolicy"),
        (
            "mutatingadmissionpolicybindings",
            "MutatingAdmissionPolicyBinding",
        ),
        ("validatingadmissionpolicies", "ValidatingAdmissionPolicy"),
        (
            "validatingadmissionpolicybindings",
            "ValidatingAdmissionPolicyBinding",
        ),
    ]
    .into_iter()
    .flat_map(|(resource, kind)| {
        let path = format!("/apis/{version}/{resource}");
        [
            Ask::json(format!("POST {path}"), object(version, kind, ""), [PROTECTED; 4]),
            Ask::plain(format!("DELETE {path}/made"), [PROTECTED; 4]),
        ]
    })
    .collect()
}

fn api_definitions() -> Vec<Ask> {
    let (extensions, registration) = ("apiextensions.k8s.io/v1", "apiregistration.k8s.io/v1");
    let definition = object(extensions, "CustomResourceDefinition", r#","spec":{}"#);
    let definition = definition.replace("made", "widgets.example.com");
    let service = object(registration, "APIService", r#","spec":{}"#).replace("made", "v1.example.com");
    let (definitions, services) = (
        format!("/apis/{extensions}/customresourcedefinitions"),
        format!("/apis/{registration}/apiservices"),
    );
    let by_rule = [
        Ask::json(format!("POST {definitions}"), definition.clone(), DENIED),
        Ask::json(
            format!("PUT {definitions}/widgets.example.com"),
            definition,
            DENIED,
        ),
        Ask::plain(format!("DELETE {definitions}/widgets.example.com"), DENIED),
    ];
    let by_nobody = [
        Ask::json(format!("POST {services}"), service, [PROTECTED; 4]),
        Ask::plain(format!("DELETE {services}/v1.example.com"), [PROTECTED; 4]),
    ];
    let by_rule = by_rule.into_iter().map(|ask| ask.by("api-definitions"));
    by_rule.chain(by_nobody).collect()
}

fn system_config_maps() -> Vec<Ask> {
    let patch = |name: &str, expect| {
        let path = format!("/api/v1/namespaces/kube-system/configmaps/{name}");
        Ask::patch(&path, r#"{"data":{"a":"b"}}"#, expect)
    };
    vec![
        patch("coredns", [DENY, DENY, DENY, GRANT]).by("kube-system"),
        patch("kube-proxy", [DENY, DENY, DENY, GRANT]).by("kube-system"),
        patch("aws-auth", [PROTECTED; 4]),
        patch("extension-apiserver-authentication", [PROTECTED; 4]),
    ]
}

fn guard_itself() -> Vec<Ask> {
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    vec![
        Ask::plain("GET /apis/eks-guard.dev/v1alpha1/agentpolicies", [PROTECTED; 4]),
        Ask::plain("GET /api/v1/namespaces/eks-guard-system/pods", [PROTECTED; 4]),
        Ask::plain(
            "DELETE /apis/apps/v1/namespaces/eks-guard/daemonsets/eks-guard",
            [PROTECTED; 4],
        ),
        Ask::plain(
            format!("DELETE {definitions}/agentpolicies.eks-guard.dev"),
            [PROTECTED; 4],
        ),
        Ask::patch(
            &core("pods/web-0"),
            r#"{"metadata":{"labels":{"eks-guard.dev/agent":null}}}"#,
            [NOTHING, MASK, MASK, GRANT],
        ),
    ]
}
