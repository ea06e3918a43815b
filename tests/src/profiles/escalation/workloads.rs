//! Pods, and what makes pods: one that may be created, and what an agent could add to it.

use crate::profiles::{APPROVE, Ask, GRANT, MASK, NOTHING, OK, PROTECTED, Verdict, core, group};

const APPROVED: [Verdict; 4] = [NOTHING, APPROVE, APPROVE, GRANT];
const CREATED: [Verdict; 4] = [NOTHING, OK, OK, GRANT];

/// A pod that nothing in a profile objects to: parts that can be replaced, each with a field of the pod or of its container.
#[derive(Clone, Copy)]
struct Pod<'a> {
    /// Fields of `spec` beside the containers.
    spec: &'a str,
    /// Fields of `spec.securityContext`.
    security: &'a str,
    /// Fields of the container.
    container: &'a str,
    /// Fields of the container's `securityContext`.
    container_security: &'a str,
}

const HARMLESS: Pod<'_> = Pod {
    spec: r#""automountServiceAccountToken":false"#,
    security: r#""runAsNonRoot":true,"seccompProfile":{"type":"RuntimeDefault"}"#,
    container: r#""resources":{}"#,
    container_security: r#""allowPrivilegeEscalation":false,"capabilities":{"drop":["ALL"]}"#,
};

impl Pod<'_> {
    fn spec(self) -> String {
        format!(
            r#"{{"containers":[{{"name":"c","image":"registry.example/c:1",{},"securityContext":{{{}}}}}],"securityContext":{{{}}},{}}}"#,
            self.container, self.container_security, self.security, self.spec
        )
    }

    fn create(self, expect: [Verdict; 4]) -> Ask {
        let body = format!(
            r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"made"}},"spec":{}}}"#,
            self.spec()
        );
        Ask::json(format!("POST {}", core("pods")), body, expect)
    }

    /// Everything that holds such a pod as a template.
    fn templates(self, expect: [Verdict; 4]) -> Vec<Ask> {
        let template = format!(
            r#"{{"metadata":{{"labels":{{"a":"b"}}}},"spec":{}}}"#,
            self.spec()
        );
        let selector = r#""selector":{"matchLabels":{"a":"b"}},"#;
        let made = |path: String, version: &str, kind: &str, rest: &str| {
            let body = format!(
                r#"{{"apiVersion":"{version}","kind":"{kind}","metadata":{{"name":"made"}},"spec":{{{rest}"template":{template}}}}}"#
            );
            Ask::json(format!("POST {path}"), body, expect)
        };
        let job = format!(r#"{{"spec":{{"template":{template}}}}}"#);
        let cron = format!(
            r#"{{"apiVersion":"batch/v1","kind":"CronJob","metadata":{{"name":"made"}},"spec":{{"schedule":"0 0 * * *","jobTemplate":{job}}}}}"#
        );
        vec![
            made(group("apps/v1", "deployments"), "apps/v1", "Deployment", selector),
            made(
                group("apps/v1", "statefulsets"),
                "apps/v1",
                "StatefulSet",
                selector,
            ),
            made(group("apps/v1", "daemonsets"), "apps/v1", "DaemonSet", selector),
            made(group("apps/v1", "replicasets"), "apps/v1", "ReplicaSet", selector),
            made(group("batch/v1", "jobs"), "batch/v1", "Job", ""),
            Ask::json(format!("POST {}", group("batch/v1", "cronjobs")), cron, expect),
        ]
    }
}

/// The neighbours that are created, and each hit of the Pod Security Standard `restricted`, of placement and of identity.
pub(super) fn dangerous() -> Vec<Ask> {
    let mut asks = vec![HARMLESS.create(CREATED)];
    asks.extend(HARMLESS.templates(CREATED));
    let in_container = |container_security| Pod {
        container_security,
        ..HARMLESS
    };
    let in_spec = |spec| Pod { spec, ..HARMLESS };
    let security: [Pod<'_>; 4] = [
        in_container(r#""allowPrivilegeEscalation":true,"capabilities":{"drop":["ALL"]}"#),
        in_container(r#""allowPrivilegeEscalation":false"#),
        in_container(r#""allowPrivilegeEscalation":false,"capabilities":{"drop":["ALL"]},"runAsUser":0"#),
        Pod {
            security: r#""runAsNonRoot":true"#,
            ..HARMLESS
        },
    ];
    asks.extend(
        security
            .into_iter()
            .map(|pod| pod.create(APPROVED).by("pod-security")),
    );
    let beyond = [
        in_container(
            r#""allowPrivilegeEscalation":false,"capabilities":{"drop":["ALL"],"add":["NET_ADMIN"]}"#,
        ),
        in_container(
            r#""allowPrivilegeEscalation":false,"capabilities":{"drop":["ALL"]},"procMount":"Unmasked""#,
        ),
        in_spec(r#""automountServiceAccountToken":false,"hostNetwork":true"#),
        in_spec(r#""automountServiceAccountToken":false,"hostPID":true"#),
        in_spec(r#""automountServiceAccountToken":false,"hostIPC":true"#),
    ];
    asks.extend(beyond.into_iter().map(|pod| pod.create([PROTECTED; 4])));
    let identity = [
        in_spec(r#""restartPolicy":"Always""#),
        in_spec(r#""automountServiceAccountToken":false,"serviceAccountName":"admin""#),
        in_spec(r#""automountServiceAccountToken":false,"nodeName":"n1""#),
        in_spec(r#""automountServiceAccountToken":false,"runtimeClassName":"other""#),
        in_spec(r#""automountServiceAccountToken":false,"priorityClassName":"system-node-critical""#),
        in_spec(r#""automountServiceAccountToken":false,"tolerations":[{"operator":"Exists"}]"#),
        in_spec(
            r#""automountServiceAccountToken":false,"tolerations":[{"key":"node-role.kubernetes.io/control-plane","operator":"Exists"}]"#,
        ),
        Pod {
            container: r#""ports":[{"containerPort":80,"hostPort":80}]"#,
            ..HARMLESS
        },
    ];
    asks.extend(
        identity
            .into_iter()
            .map(|pod| pod.create(APPROVED).by("pod-identity")),
    );
    asks
}

/// The node through a container: alone, in templates, and through a change, of which the whole object is not known.
pub(super) fn node_access() -> Vec<Ask> {
    let host_path = Pod {
        spec: r#""automountServiceAccountToken":false,"volumes":[{"name":"v","hostPath":{"path":"/"}}]"#,
        ..HARMLESS
    };
    let privileged = Pod {
        container_security: r#""privileged":true"#,
        ..HARMLESS
    };
    let hidden = Pod {
        spec: r#""automountServiceAccountToken":false,"initContainers":[{"name":"i","image":"i","securityContext":{"privileged":true}}]"#,
        ..HARMLESS
    };
    let mut asks: Vec<Ask> = [host_path, privileged, hidden]
        .into_iter()
        .flat_map(|pod| {
            let mut asks = pod.templates([PROTECTED; 4]);
            asks.push(pod.create([PROTECTED; 4]));
            asks
        })
        .collect();
    let change = r#"{"spec":{"template":{"spec":{"hostPID":true}}}}"#;
    asks.push(Ask::patch(
        &group("apps/v1", "deployments/web"),
        change,
        [NOTHING, MASK, MASK, GRANT],
    ));
    asks
}

/// Secrets that a pod would read, by every way into it.
pub(in crate::profiles) fn pods_with_credentials() -> Vec<Ask> {
    let in_spec = |spec| Pod { spec, ..HARMLESS };
    let in_container = |container| Pod {
        container,
        ..HARMLESS
    };
    [
        in_container(
            r#""env":[{"name":"A","valueFrom":{"secretKeyRef":{"name":"db","key":"password"}}}]"#,
        ),
        in_container(r#""envFrom":[{"secretRef":{"name":"db"}}]"#),
        in_spec(
            r#""automountServiceAccountToken":false,"volumes":[{"name":"v","secret":{"secretName":"db"}}]"#,
        ),
        in_spec(
            r#""automountServiceAccountToken":false,"volumes":[{"name":"v","projected":{"sources":[{"serviceAccountToken":{"path":"t"}}]}}]"#,
        ),
        in_spec(
            r#""automountServiceAccountToken":false,"volumes":[{"name":"v","csi":{"driver":"secrets-store.csi.k8s.io"}}]"#,
        ),
        in_spec(r#""automountServiceAccountToken":false,"imagePullSecrets":[{"name":"registry"}]"#),
    ]
    .into_iter()
    .flat_map(|pod| {
        let mut asks = pod.templates(APPROVED);
        asks.push(pod.create(APPROVED));
        asks
    })
    .map(|ask| ask.by("pod-credentials"))
    .collect()
}
