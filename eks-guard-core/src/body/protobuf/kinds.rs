//! Which kinds are read from protobuf, and by which table.

use crate::body::protobuf::schema::Message;
use crate::body::protobuf::{authentication, authorization, core, meta, rbac, workload};

/// (apiVersion, kind, table)
static KINDS: &[(&str, &str, &Message)] = &[
    ("v1", "Binding", &core::BINDING),
    ("v1", "ConfigMap", &core::CONFIG_MAP),
    ("v1", "Namespace", &core::NAMESPACE),
    ("v1", "ResourceQuota", &core::RESOURCE_QUOTA),
    ("v1", "Secret", &core::SECRET),
    ("v1", "ServiceAccount", &core::SERVICE_ACCOUNT),
    (
        "authentication.k8s.io/v1",
        "SelfSubjectReview",
        &authentication::SELF_SUBJECT_REVIEW,
    ),
    (
        "authentication.k8s.io/v1",
        "TokenRequest",
        &authentication::TOKEN_REQUEST,
    ),
    (
        "authorization.k8s.io/v1",
        "SelfSubjectAccessReview",
        &authorization::SELF_SUBJECT_ACCESS_REVIEW,
    ),
    (
        "authorization.k8s.io/v1",
        "SelfSubjectRulesReview",
        &authorization::SELF_SUBJECT_RULES_REVIEW,
    ),
    ("autoscaling/v1", "Scale", &workload::SCALE),
    ("coordination.k8s.io/v1", "Lease", &workload::LEASE),
    ("policy/v1", "Eviction", &workload::EVICTION),
    (
        "policy/v1",
        "PodDisruptionBudget",
        &workload::POD_DISRUPTION_BUDGET,
    ),
    ("rbac.authorization.k8s.io/v1", "ClusterRole", &rbac::CLUSTER_ROLE),
    (
        "rbac.authorization.k8s.io/v1",
        "ClusterRoleBinding",
        &rbac::ROLE_BINDING,
    ),
    ("rbac.authorization.k8s.io/v1", "Role", &rbac::ROLE),
    ("rbac.authorization.k8s.io/v1", "RoleBinding", &rbac::ROLE_BINDING),
    ("scheduling.k8s.io/v1", "PriorityClass", &workload::PRIORITY_CLASS),
];

/// The table of a kind; none when no table describes it.
pub(super) fn find(api_version: &str, kind: &str) -> Option<&'static Message> {
    // Clients send DeleteOptions under the version of the group they delete from.
    if kind == "DeleteOptions" && !api_version.is_empty() {
        return Some(&meta::DELETE_OPTIONS);
    }
    KINDS
        .iter()
        .find(|row| row.0 == api_version && row.1 == kind)
        .map(|row| row.2)
}

/// Every message that a kind reaches, for the tests of the tables.
#[cfg(test)]
pub(super) fn all_messages() -> Vec<&'static Message> {
    use crate::body::protobuf::schema::Kind;

    let mut found: Vec<&Message> = vec![&meta::DELETE_OPTIONS];
    found.extend(KINDS.iter().map(|row| row.2));
    let mut next = 0;
    while let Some(message) = found.get(next).copied() {
        for field in message.fields {
            if let Kind::Object(inner) = field.kind
                && !found.iter().any(|known| std::ptr::eq(*known, inner))
            {
                found.push(inner);
            }
        }
        next += 1;
    }
    found
}
