//! k8s.io/api/core/v1

use crate::body::protobuf::meta::OBJECT_META;
use crate::body::protobuf::schema::Kind::{Bool, Bytes, Object, Quantity, Str, Time};
use crate::body::protobuf::schema::{Message, many, map, one};

pub(super) static CONFIG_MAP: Message = Message {
    name: "ConfigMap",
    fields: &[
        one(1, "metadata", Object(&OBJECT_META)),
        one(4, "immutable", Bool),
        map(2, "data", Str),
        map(3, "binaryData", Bytes),
    ],
};

pub(super) static SECRET: Message = Message {
    name: "Secret",
    fields: &[
        one(1, "metadata", Object(&OBJECT_META)),
        one(5, "immutable", Bool),
        map(2, "data", Bytes),
        map(4, "stringData", Str),
        one(3, "type", Str),
    ],
};

pub(super) static NAMESPACE: Message = Message {
    name: "Namespace",
    fields: &[
        one(1, "metadata", Object(&OBJECT_META)),
        one(2, "spec", Object(&NAMESPACE_SPEC)),
        one(3, "status", Object(&NAMESPACE_STATUS)),
    ],
};

static NAMESPACE_SPEC: Message = Message {
    name: "NamespaceSpec",
    fields: &[many(1, "finalizers", Str)],
};

static NAMESPACE_STATUS: Message = Message {
    name: "NamespaceStatus",
    fields: &[
        one(1, "phase", Str),
        many(2, "conditions", Object(&NAMESPACE_CONDITION)),
    ],
};

static NAMESPACE_CONDITION: Message = Message {
    name: "NamespaceCondition",
    fields: &[
        one(1, "type", Str),
        one(2, "status", Str),
        one(4, "lastTransitionTime", Time),
        one(5, "reason", Str),
        one(6, "message", Str),
    ],
};

pub(super) static SERVICE_ACCOUNT: Message = Message {
    name: "ServiceAccount",
    fields: &[
        one(1, "metadata", Object(&OBJECT_META)),
        many(2, "secrets", Object(&OBJECT_REFERENCE)),
        many(3, "imagePullSecrets", Object(&LOCAL_OBJECT_REFERENCE)),
        one(4, "automountServiceAccountToken", Bool),
    ],
};

static OBJECT_REFERENCE: Message = Message {
    name: "ObjectReference",
    fields: &[
        one(1, "kind", Str),
        one(2, "namespace", Str),
        one(3, "name", Str),
        one(4, "uid", Str),
        one(5, "apiVersion", Str),
        one(6, "resourceVersion", Str),
        one(7, "fieldPath", Str),
    ],
};

static LOCAL_OBJECT_REFERENCE: Message = Message {
    name: "LocalObjectReference",
    fields: &[one(1, "name", Str)],
};

pub(super) static BINDING: Message = Message {
    name: "Binding",
    fields: &[
        one(1, "metadata", Object(&OBJECT_META)),
        one(2, "target", Object(&OBJECT_REFERENCE)),
    ],
};

pub(super) static RESOURCE_QUOTA: Message = Message {
    name: "ResourceQuota",
    fields: &[
        one(1, "metadata", Object(&OBJECT_META)),
        one(2, "spec", Object(&RESOURCE_QUOTA_SPEC)),
        one(3, "status", Object(&RESOURCE_QUOTA_STATUS)),
    ],
};

static RESOURCE_QUOTA_SPEC: Message = Message {
    name: "ResourceQuotaSpec",
    fields: &[
        map(1, "hard", Quantity),
        many(2, "scopes", Str),
        one(3, "scopeSelector", Object(&SCOPE_SELECTOR)),
    ],
};

static RESOURCE_QUOTA_STATUS: Message = Message {
    name: "ResourceQuotaStatus",
    fields: &[map(1, "hard", Quantity), map(2, "used", Quantity)],
};

static SCOPE_SELECTOR: Message = Message {
    name: "ScopeSelector",
    fields: &[many(
        1,
        "matchExpressions",
        Object(&SCOPED_RESOURCE_SELECTOR_REQUIREMENT),
    )],
};

static SCOPED_RESOURCE_SELECTOR_REQUIREMENT: Message = Message {
    name: "ScopedResourceSelectorRequirement",
    fields: &[
        one(1, "scopeName", Str),
        one(2, "operator", Str),
        many(3, "values", Str),
    ],
};
