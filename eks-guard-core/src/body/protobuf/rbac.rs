//! k8s.io/api/rbac/v1

use crate::body::protobuf::meta::{LABEL_SELECTOR, OBJECT_META};
use crate::body::protobuf::schema::Kind::{Object, Str};
use crate::body::protobuf::schema::{Message, many, one};

pub(super) static ROLE: Message = Message {
    name: "Role",
    fields: &[
        one(1, "metadata", Object(&OBJECT_META)),
        many(2, "rules", Object(&POLICY_RULE)),
    ],
};

pub(super) static CLUSTER_ROLE: Message = Message {
    name: "ClusterRole",
    fields: &[
        one(1, "metadata", Object(&OBJECT_META)),
        many(2, "rules", Object(&POLICY_RULE)),
        one(3, "aggregationRule", Object(&AGGREGATION_RULE)),
    ],
};

/// RoleBinding and ClusterRoleBinding, which have the same fields.
pub(super) static ROLE_BINDING: Message = Message {
    name: "RoleBinding",
    fields: &[
        one(1, "metadata", Object(&OBJECT_META)),
        many(2, "subjects", Object(&SUBJECT)),
        one(3, "roleRef", Object(&ROLE_REF)),
    ],
};

static POLICY_RULE: Message = Message {
    name: "PolicyRule",
    fields: &[
        many(1, "verbs", Str),
        many(2, "apiGroups", Str),
        many(3, "resources", Str),
        many(4, "resourceNames", Str),
        many(5, "nonResourceURLs", Str),
    ],
};

static AGGREGATION_RULE: Message = Message {
    name: "AggregationRule",
    fields: &[many(1, "clusterRoleSelectors", Object(&LABEL_SELECTOR))],
};

static SUBJECT: Message = Message {
    name: "Subject",
    fields: &[
        one(1, "kind", Str),
        one(2, "apiGroup", Str),
        one(3, "name", Str),
        one(4, "namespace", Str),
    ],
};

static ROLE_REF: Message = Message {
    name: "RoleRef",
    fields: &[one(1, "apiGroup", Str), one(2, "kind", Str), one(3, "name", Str)],
};
