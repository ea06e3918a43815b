//! k8s.io/api/authorization/v1

use crate::body::protobuf::meta::{OBJECT_META, SELECTOR_REQUIREMENT};
use crate::body::protobuf::schema::Kind::{Bool, Object, Str};
use crate::body::protobuf::schema::{Message, many, one};

pub(super) static SELF_SUBJECT_ACCESS_REVIEW: Message = Message {
    name: "SelfSubjectAccessReview",
    fields: &[
        one(1, "metadata", Object(&OBJECT_META)),
        one(2, "spec", Object(&SELF_SUBJECT_ACCESS_REVIEW_SPEC)),
        one(3, "status", Object(&SUBJECT_ACCESS_REVIEW_STATUS)),
    ],
};

static SELF_SUBJECT_ACCESS_REVIEW_SPEC: Message = Message {
    name: "SelfSubjectAccessReviewSpec",
    fields: &[
        one(1, "resourceAttributes", Object(&RESOURCE_ATTRIBUTES)),
        one(2, "nonResourceAttributes", Object(&NON_RESOURCE_ATTRIBUTES)),
    ],
};

static RESOURCE_ATTRIBUTES: Message = Message {
    name: "ResourceAttributes",
    fields: &[
        one(1, "namespace", Str),
        one(2, "verb", Str),
        one(3, "group", Str),
        one(4, "version", Str),
        one(5, "resource", Str),
        one(6, "subresource", Str),
        one(7, "name", Str),
        one(8, "fieldSelector", Object(&SELECTOR_ATTRIBUTES)),
        one(9, "labelSelector", Object(&SELECTOR_ATTRIBUTES)),
    ],
};

/// FieldSelectorAttributes and LabelSelectorAttributes, which have the same fields.
static SELECTOR_ATTRIBUTES: Message = Message {
    name: "SelectorAttributes",
    fields: &[
        one(1, "rawSelector", Str),
        many(2, "requirements", Object(&SELECTOR_REQUIREMENT)),
    ],
};

static NON_RESOURCE_ATTRIBUTES: Message = Message {
    name: "NonResourceAttributes",
    fields: &[one(1, "path", Str), one(2, "verb", Str)],
};

static SUBJECT_ACCESS_REVIEW_STATUS: Message = Message {
    name: "SubjectAccessReviewStatus",
    fields: &[
        one(1, "allowed", Bool),
        one(4, "denied", Bool),
        one(2, "reason", Str),
        one(3, "evaluationError", Str),
    ],
};

pub(super) static SELF_SUBJECT_RULES_REVIEW: Message = Message {
    name: "SelfSubjectRulesReview",
    fields: &[
        one(1, "metadata", Object(&OBJECT_META)),
        one(2, "spec", Object(&SELF_SUBJECT_RULES_REVIEW_SPEC)),
        one(3, "status", Object(&SUBJECT_RULES_REVIEW_STATUS)),
    ],
};

static SELF_SUBJECT_RULES_REVIEW_SPEC: Message = Message {
    name: "SelfSubjectRulesReviewSpec",
    fields: &[one(1, "namespace", Str)],
};

static SUBJECT_RULES_REVIEW_STATUS: Message = Message {
    name: "SubjectRulesReviewStatus",
    fields: &[
        many(1, "resourceRules", Object(&RESOURCE_RULE)),
        many(2, "nonResourceRules", Object(&NON_RESOURCE_RULE)),
        one(3, "incomplete", Bool),
        one(4, "evaluationError", Str),
    ],
};

static RESOURCE_RULE: Message = Message {
    name: "ResourceRule",
    fields: &[
        many(1, "verbs", Str),
        many(2, "apiGroups", Str),
        many(3, "resources", Str),
        many(4, "resourceNames", Str),
    ],
};

static NON_RESOURCE_RULE: Message = Message {
    name: "NonResourceRule",
    fields: &[many(1, "verbs", Str), many(2, "nonResourceURLs", Str)],
};
