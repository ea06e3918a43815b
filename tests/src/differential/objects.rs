//! Objects as people write them: a pattern of most kinds, with values that differ from one to the next.

use serde_json::{Value, json};

use crate::differential::random::Random;
use crate::differential::surface::{CUSTOM_GROUP, Resource};

/// An object of this resource that the API server takes, but for its name; none when there is no pattern.
#[must_use]
pub(super) fn pattern(resource: &Resource, random: &mut Random) -> Option<Value> {
    let mut object = spec(&resource.group, &resource.kind, random)?;
    // A review is no object that is kept, and has no labels.
    if resource.verbs.iter().any(|verb| verb == "get") {
        object["metadata"]["labels"] = json!({"made-by": "differential", "turn": word(random)});
    }
    Some(object)
}

fn spec(group: &str, kind: &str, random: &mut Random) -> Option<Value> {
    workload(group, kind, random)
        .or_else(|| rule(group, kind, random))
        .or_else(|| storage(group, kind, random))
        .or_else(|| plain(group, kind, random))
}

fn word(random: &mut Random) -> String {
    random.pick(&["one", "two-three", "Four.5", "x", ""]).to_owned()
}

fn text(random: &mut Random) -> String {
    let texts = [
        "",
        "plain",
        "two\nlines\n",
        "quoted \"\\\" text",
        "grün ☃ 𝄞",
        "yes",
        "012",
        "<&>",
        "\u{1}",
    ];
    random.pick(&texts).to_owned()
}

fn pod(random: &mut Random) -> Value {
    json!({
        "automountServiceAccountToken": false,
        "terminationGracePeriodSeconds": random.below(60),
        "nodeSelector": {"absent": "yes"},
        "securityContext": {"runAsUser": 1000 + random.below(9), "runAsNonRoot": random.percent(50)},
        "containers": [{
            "name": "main",
            "image": "registry.test/main:1",
            "args": [text(random), text(random)],
            "env": [{"name": "TEXT", "value": text(random)}],
            "ports": [{"containerPort": 80 + random.below(9), "name": "http"}],
            "resources": {"limits": {"memory": "64Mi", "cpu": "250m"}},
            "readinessProbe": {"httpGet": {"path": "/", "port": if random.percent(50) { json!("http") } else { json!(80) }}},
        }],
    })
}

fn workload(group: &str, kind: &str, random: &mut Random) -> Option<Value> {
    let selector = json!({"matchLabels": {"app": "differential"}});
    let mut spec = pod(random);
    let template = |spec: Value| json!({"metadata": {"labels": {"app": "differential"}}, "spec": spec});
    Some(match (group, kind) {
        ("", "Pod") => json!({"spec": spec}),
        ("", "PodTemplate") => json!({"template": template(spec)}),
        ("", "ReplicationController") => {
            json!({"spec": {"replicas": 0, "selector": {"app": "differential"}, "template": template(spec)}})
        }
        ("apps", "Deployment" | "ReplicaSet") => {
            json!({"spec": {"replicas": 0, "selector": selector, "template": template(spec)}})
        }
        ("apps", "StatefulSet") => {
            json!({"spec": {"replicas": 0, "serviceName": "absent", "selector": selector, "template": template(spec)}})
        }
        ("apps", "DaemonSet") => json!({"spec": {"selector": selector, "template": template(spec)}}),
        ("apps", "ControllerRevision") => {
            json!({"revision": random.below(9), "data": {"any": text(random), "number": 1.5, "none": null}})
        }
        ("batch", "Job") => {
            spec["restartPolicy"] = "Never".into();
            json!({"spec": {"suspend": true, "backoffLimit": random.below(5), "template": {"spec": spec}}})
        }
        ("batch", "CronJob") => {
            spec["restartPolicy"] = "OnFailure".into();
            let job = json!({"spec": {"template": {"spec": spec}}});
            json!({"spec": {"suspend": true, "schedule": "0 0 1 1 *", "jobTemplate": job}})
        }
        _ => return None,
    })
}

fn rule(group: &str, kind: &str, random: &mut Random) -> Option<Value> {
    let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]);
    let subjects = json!([{"kind": "ServiceAccount", "name": "default", "namespace": "default"}]);
    let role = |kind| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": "absent"});
    Some(match (group, kind) {
        ("rbac.authorization.k8s.io", "Role" | "ClusterRole") => json!({"rules": rules}),
        ("rbac.authorization.k8s.io", "RoleBinding") => {
            json!({"roleRef": role("Role"), "subjects": subjects})
        }
        ("rbac.authorization.k8s.io", "ClusterRoleBinding") => {
            json!({"roleRef": role("ClusterRole"), "subjects": subjects})
        }
        ("networking.k8s.io", "NetworkPolicy") => json!({"spec": {
            "podSelector": {"matchLabels": {"app": word(random)}},
            "ingress": [{"from": [{"podSelector": {}}], "ports": [{"port": 80, "protocol": "TCP"}]}],
        }}),
        ("networking.k8s.io", "Ingress") => {
            json!({"spec": {"rules": [{"host": "made.test", "http": {"paths": [{
                "path": "/", "pathType": "Prefix", "backend": {"service": {"name": "made", "port": {"number": 80}}},
            }]}}]}})
        }
        ("networking.k8s.io", "IngressClass") => json!({"spec": {"controller": "made.test/controller"}}),
        ("policy", "PodDisruptionBudget") => {
            let least = if random.percent(50) {
                json!(1)
            } else {
                json!("50%")
            };
            json!({"spec": {"minAvailable": least, "selector": {"matchLabels": {"app": "differential"}}}})
        }
        ("autoscaling", "HorizontalPodAutoscaler") => json!({"spec": {
            "minReplicas": 1, "maxReplicas": 2 + random.below(3),
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "absent"},
        }}),
        (
            "authorization.k8s.io",
            "SubjectAccessReview" | "SelfSubjectAccessReview" | "LocalSubjectAccessReview",
        ) => {
            json!({"spec": {"user": "somebody", "resourceAttributes": {"verb": "get", "resource": "pods"}}})
        }
        ("authorization.k8s.io", "SelfSubjectRulesReview") => json!({"spec": {"namespace": "default"}}),
        _ => return None,
    })
}

fn storage(group: &str, kind: &str, random: &mut Random) -> Option<Value> {
    Some(match (group, kind) {
        ("", "PersistentVolumeClaim") => json!({"spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "absent",
            "resources": {"requests": {"storage": "1Gi"}},
        }}),
        ("", "PersistentVolume") => json!({"spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "absent",
            "hostPath": {"path": "/absent"},
        }}),
        ("storage.k8s.io", "StorageClass") => {
            json!({"provisioner": "made.test/none", "parameters": {"text": text(random)}})
        }
        ("storage.k8s.io", "CSIDriver") => json!({"spec": {"attachRequired": random.percent(50)}}),
        _ => return None,
    })
}

fn plain(group: &str, kind: &str, random: &mut Random) -> Option<Value> {
    Some(match (group, kind) {
        ("", "ConfigMap") => json!({
            "data": {"first": text(random), "second": text(random)},
            "binaryData": {"raw": "AAEC/w=="},
        }),
        ("", "Secret") => json!({"stringData": {"first": "second"}}),
        ("", "ServiceAccount") => json!({"automountServiceAccountToken": random.percent(50)}),
        ("", "Service") => json!({"spec": {
            "clusterIP": "None", "selector": {"app": word(random)},
            "ports": [{"name": "http", "port": 80, "targetPort": if random.percent(50) { json!("http") } else { json!(8080) }}],
        }}),
        ("", "Endpoints") => {
            json!({"subsets": [{"addresses": [{"ip": "192.0.2.7"}], "ports": [{"port": 80}]}]})
        }
        ("", "LimitRange") => json!({"spec": {"limits": [{"type": "Pod", "max": {"cpu": "9"}}]}}),
        ("", "ResourceQuota") => json!({"spec": {"hard": {"pods": "1000"}}}),
        ("discovery.k8s.io", "EndpointSlice") => {
            json!({"addressType": "IPv4", "endpoints": [{"addresses": ["192.0.2.7"]}], "ports": [{"port": 80}]})
        }
        ("coordination.k8s.io", "Lease") => json!({"spec": {
            "holderIdentity": text(random), "leaseDurationSeconds": 1 + random.below(50),
            "renewTime": "2026-01-31T12:00:00.123456Z",
        }}),
        ("scheduling.k8s.io", "PriorityClass") => {
            json!({"value": random.below(1000), "description": text(random)})
        }
        ("node.k8s.io", "RuntimeClass") => json!({"handler": "made"}),
        (CUSTOM_GROUP, _) => json!({"spec": {
            "replicas": random.below(9), "note": text(random),
            "any": {"deep": [1, 2.5, null, {"text": text(random)}], "large": 9_007_199_254_740_993_i64},
        }}),
        _ => return None,
    })
}
