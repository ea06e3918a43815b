//! What the agent tries, and what is promised about each attempt.

use anyhow::Result;

use crate::audit::AuditEvent;
use crate::cluster::Cluster;

/// Where the story plays.
pub(super) const NAMESPACE: &str = "shop";
/// The agent's name.
pub(super) const AGENT: &str = "demo-agent";

pub(super) const POLICY: &str = r#"apiVersion: eks-guard.dev/v1alpha1
kind: AgentPolicy
metadata:
  name: shop-developer
spec:
  subjects:
    agents: [demo-agent]
  rules:
    - name: read
      effect: allow
      verbs: [get, list, watch]
      apiGroups: ["", apps]
      resources: [pods, configmaps, deployments]
      namespaces: [shop]
    - name: change-configmaps
      effect: allow
      verbs: [create, patch, update]
      apiGroups: [""]
      resources: [configmaps]
      namespaces: [shop]
"#;

const OBJECTS: &str = r#"apiVersion: v1
kind: ConfigMap
metadata: {name: prices, namespace: shop}
data: {apple: "1.20", pear: "1.50"}
---
apiVersion: v1
kind: Secret
metadata: {name: database, namespace: shop}
stringData: {password: correct-horse-battery-staple}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop}
spec: {containers: [{name: web, image: web}]}
"#;

/// One attempt.
pub(super) struct Step {
    /// What is promised, in a few words; a row of the closing table.
    pub(super) promise: &'static str,
    /// What the agent types.
    pub(super) command: String,
    /// What the agent must get.
    pub(super) expect: Expect,
    /// What must, or must not, stand in the API server's audit log.
    pub(super) upstream: Upstream,
}

/// What the agent gets: exit code and text.
pub(super) enum Expect {
    /// Exit code 0 and this text.
    Success(&'static str),
    /// Another exit code, and each of these texts.
    Refusal(&'static [&'static str]),
    /// Any exit code, and each of these texts.
    Text(&'static [&'static str]),
}

/// A condition on what reached the API server meanwhile.
pub(super) enum Upstream {
    /// A request like this, by the guard's own user.
    Reached(fn(&AuditEvent) -> bool),
    /// Nothing like this, by anybody.
    Nothing(fn(&AuditEvent) -> bool),
}

/// Puts the objects of the story into the cluster.
pub(super) fn furnish(cluster: &Cluster) -> Result<()> {
    cluster.create_namespace(NAMESPACE)?;
    cluster.apply("shop", OBJECTS)
}

pub(super) fn steps(cluster: &Cluster) -> Vec<Step> {
    let server = format!("https://{}", cluster.server());
    let core = format!("{server}/api/v1/namespaces/{NAMESPACE}");
    vec![
        Step {
            promise: "an allowed read works as ever",
            command: "kubectl -n shop get configmap prices -o jsonpath='{.data}'".into(),
            expect: Expect::Success("1.20"),
            upstream: Upstream::Reached(|event| event.verb == "get" && on(event, "configmaps", "")),
        },
        Step {
            promise: "an allowed apply works as ever",
            command: "printf 'apiVersion: v1\\nkind: ConfigMap\\nmetadata: {name: plan}\\ndata: {step: one}\\n' | kubectl -n shop apply -f -"
                .into(),
            expect: Expect::Success("configmap/plan created"),
            upstream: Upstream::Reached(|event| event.verb == "create" && on(event, "configmaps", "")),
        },
        Step {
            promise: "a delete that no rule allows is refused",
            command: "kubectl -n shop delete configmap prices".into(),
            expect: Expect::Refusal(&["Forbidden"]),
            upstream: Upstream::Nothing(|event| event.verb == "delete"),
        },
        Step {
            promise: "the refusal is a Status that a program can read",
            command: format!("curl -sk -X DELETE {core}/configmaps/prices"),
            expect: Expect::Text(&["\"kind\":\"Status\"", "\"NoRuleAllows\"", "\"code\":403"]),
            upstream: Upstream::Nothing(|event| event.verb == "delete"),
        },
        Step {
            promise: "Secrets stay unread",
            command: "kubectl -n shop get secret database -o yaml".into(),
            expect: Expect::Refusal(&["Forbidden"]),
            upstream: Upstream::Nothing(|event| on(event, "secrets", "")),
        },
        Step {
            promise: "no shell in a pod",
            command: "kubectl -n shop exec web -- id".into(),
            expect: Expect::Refusal(&["exec"]),
            upstream: Upstream::Nothing(|event| on(event, "pods", "exec")),
        },
        Step {
            promise: "the operator's kubeconfig is not there to be read",
            command: "grep -cE 'client-key-data|client-certificate-data' \"$KUBECONFIG\"".into(),
            expect: Expect::Refusal(&["0"]),
            upstream: Upstream::Nothing(|_| false),
        },
        Step {
            promise: "a stolen admin token opens nothing",
            command: format!("curl -sk -H \"Authorization: Bearer $STOLEN\" {core}/secrets"),
            expect: Expect::Text(&["\"kind\":\"Status\"", "\"code\":403"]),
            upstream: Upstream::Nothing(|event| on(event, "secrets", "") || is_stolen(event)),
        },
        Step {
            promise: "where the policy allows, the stolen token is ignored",
            command: format!("curl -sk -H \"Authorization: Bearer $STOLEN\" {core}/configmaps/prices"),
            expect: Expect::Success("1.20"),
            upstream: Upstream::Nothing(is_stolen),
        },
    ]
}

fn on(event: &AuditEvent, resource: &str, subresource: &str) -> bool {
    event
        .object
        .as_ref()
        .is_some_and(|object| object.resource == resource && object.subresource == subresource)
}

fn is_stolen(event: &AuditEvent) -> bool {
    event.user.ends_with(":stolen")
}
