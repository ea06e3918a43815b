//! k8s.io/apimachinery/pkg/apis/meta/v1

use crate::body::protobuf::schema::Kind::{Bool, Int64, Object, RawJson, Str, Time};
use crate::body::protobuf::schema::{Message, many, map, one};

pub(super) static OBJECT_META: Message = Message {
    name: "ObjectMeta",
    fields: &[
        one(1, "name", Str),
        one(2, "generateName", Str),
        one(3, "namespace", Str),
        one(4, "selfLink", Str),
        one(5, "uid", Str),
        one(6, "resourceVersion", Str),
        one(7, "generation", Int64),
        one(8, "creationTimestamp", Time),
        one(9, "deletionTimestamp", Time),
        one(10, "deletionGracePeriodSeconds", Int64),
        map(11, "labels", Str),
        map(12, "annotations", Str),
        many(13, "ownerReferences", Object(&OWNER_REFERENCE)),
        many(14, "finalizers", Str),
        many(17, "managedFields", Object(&MANAGED_FIELDS_ENTRY)),
    ],
};

static OWNER_REFERENCE: Message = Message {
    name: "OwnerReference",
    fields: &[
        one(5, "apiVersion", Str),
        one(1, "kind", Str),
        one(3, "name", Str),
        one(4, "uid", Str),
        one(6, "controller", Bool),
        one(7, "blockOwnerDeletion", Bool),
    ],
};

static MANAGED_FIELDS_ENTRY: Message = Message {
    name: "ManagedFieldsEntry",
    fields: &[
        one(1, "manager", Str),
        one(2, "operation", Str),
        one(3, "apiVersion", Str),
        one(4, "time", Time),
        one(6, "fieldsType", Str),
        one(7, "fieldsV1", RawJson),
        one(8, "subresource", Str),
    ],
};

pub(super) static DELETE_OPTIONS: Message = Message {
    name: "DeleteOptions",
    fields: &[
        one(1, "gracePeriodSeconds", Int64),
        one(2, "preconditions", Object(&PRECONDITIONS)),
        one(3, "orphanDependents", Bool),
        one(4, "propagationPolicy", Str),
        many(5, "dryRun", Str),
        one(6, "ignoreStoreReadErrorWithClusterBreakingPotential", Bool),
    ],
};

static PRECONDITIONS: Message = Message {
    name: "Preconditions",
    fields: &[one(1, "uid", Str), one(2, "resourceVersion", Str)],
};

pub(super) static LABEL_SELECTOR: Message = Message {
    name: "LabelSelector",
    fields: &[
        map(1, "matchLabels", Str),
        many(2, "matchExpressions", Object(&SELECTOR_REQUIREMENT)),
    ],
};

/// LabelSelectorRequirement and FieldSelectorRequirement, which have the same fields.
pub(super) static SELECTOR_REQUIREMENT: Message = Message {
    name: "SelectorRequirement",
    fields: &[
        one(1, "key", Str),
        one(2, "operator", Str),
        many(3, "values", Str),
    ],
};

pub(super) static CONDITION: Message = Message {
    name: "Condition",
    fields: &[
        one(1, "type", Str),
        one(2, "status", Str),
        one(3, "observedGeneration", Int64),
        one(4, "lastTransitionTime", Time),
        one(5, "reason", Str),
        one(6, "message", Str),
    ],
};
