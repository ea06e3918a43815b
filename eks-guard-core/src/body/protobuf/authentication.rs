//! k8s.io/api/authentication/v1

use crate::body::protobuf::meta::OBJECT_META;
use crate::body::protobuf::schema::Kind::{Int64, Object, Str, Strings, Time};
use crate::body::protobuf::schema::{Message, many, map, one};

pub(super) static SELF_SUBJECT_REVIEW: Message = Message {
    name: "SelfSubjectReview",
    fields: &[
        one(1, "metadata", Object(&OBJECT_META)),
        one(2, "status", Object(&SELF_SUBJECT_REVIEW_STATUS)),
    ],
};

static SELF_SUBJECT_REVIEW_STATUS: Message = Message {
    name: "SelfSubjectReviewStatus",
    fields: &[one(1, "userInfo", Object(&USER_INFO))],
};

static USER_INFO: Message = Message {
    name: "UserInfo",
    fields: &[
        one(1, "username", Str),
        one(2, "uid", Str),
        many(3, "groups", Str),
        map(4, "extra", Strings),
    ],
};

pub(super) static TOKEN_REQUEST: Message = Message {
    name: "TokenRequest",
    fields: &[
        one(1, "metadata", Object(&OBJECT_META)),
        one(2, "spec", Object(&TOKEN_REQUEST_SPEC)),
        one(3, "status", Object(&TOKEN_REQUEST_STATUS)),
    ],
};

static TOKEN_REQUEST_SPEC: Message = Message {
    name: "TokenRequestSpec",
    fields: &[
        many(1, "audiences", Str),
        one(4, "expirationSeconds", Int64),
        one(3, "boundObjectRef", Object(&BOUND_OBJECT_REFERENCE)),
    ],
};

static TOKEN_REQUEST_STATUS: Message = Message {
    name: "TokenRequestStatus",
    fields: &[one(1, "token", Str), one(2, "expirationTimestamp", Time)],
};

static BOUND_OBJECT_REFERENCE: Message = Message {
    name: "BoundObjectReference",
    fields: &[
        one(1, "kind", Str),
        one(2, "apiVersion", Str),
        one(3, "name", Str),
        one(4, "uid", Str),
    ],
};
