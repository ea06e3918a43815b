//! k8s.io/api: autoscaling/v1, coordination/v1, policy/v1 and scheduling/v1, as far as clients write them from the
//! command line or to elect a leader.

use crate::body::protobuf::meta::{CONDITION, DELETE_OPTIONS, LABEL_SELECTOR, OBJECT_META};
use crate::body::protobuf::schema::Kind::{Bool, Int32, Int64, IntOrString, MicroTime, Object, Str, Time};
use crate::body::protobuf::schema::{Message, many, map, one};

pub(super) static SCALE: Message = Message {
    name: "Scale",
    fields: &[
        one(1, "metadata", Object(&OBJECT_META)),
        one(2, "spec", Object(&SCALE_SPEC)),
        one(3, "status", Object(&SCALE_STATUS)),
    ],
};

static SCALE_SPEC: Message = Message {
    name: "ScaleSpec",
    fields: &[one(1, "replicas", Int32)],
};

static SCALE_STATUS: Message = Message {
    name: "ScaleStatus",
    fields: &[one(1, "replicas", Int32), one(2, "selector", Str)],
};

pub(super) static EVICTION: Message = Message {
    name: "Eviction",
    fields: &[
        one(1, "metadata", Object(&OBJECT_META)),
        one(2, "deleteOptions", Object(&DELETE_OPTIONS)),
    ],
};

pub(super) static POD_DISRUPTION_BUDGET: Message = Message {
    name: "PodDisruptionBudget",
    fields: &[
        one(1, "metadata", Object(&OBJECT_META)),
        one(2, "spec", Object(&POD_DISRUPTION_BUDGET_SPEC)),
        one(3, "status", Object(&POD_DISRUPTION_BUDGET_STATUS)),
    ],
};

static POD_DISRUPTION_BUDGET_SPEC: Message = Message {
    name: "PodDisruptionBudgetSpec",
    fields: &[
        one(1, "minAvailable", IntOrString),
        one(2, "selector", Object(&LABEL_SELECTOR)),
        one(3, "maxUnavailable", IntOrString),
        one(4, "unhealthyPodEvictionPolicy", Str),
    ],
};

static POD_DISRUPTION_BUDGET_STATUS: Message = Message {
    name: "PodDisruptionBudgetStatus",
    fields: &[
        one(1, "observedGeneration", Int64),
        map(2, "disruptedPods", Time),
        one(3, "disruptionsAllowed", Int32),
        one(4, "currentHealthy", Int32),
        one(5, "desiredHealthy", Int32),
        one(6, "expectedPods", Int32),
        many(7, "conditions", Object(&CONDITION)),
    ],
};

pub(super) static LEASE: Message = Message {
    name: "Lease",
    fields: &[
        one(1, "metadata", Object(&OBJECT_META)),
        one(2, "spec", Object(&LEASE_SPEC)),
    ],
};

static LEASE_SPEC: Message = Message {
    name: "LeaseSpec",
    fields: &[
        one(1, "holderIdentity", Str),
        one(2, "leaseDurationSeconds", Int32),
        one(3, "acquireTime", MicroTime),
        one(4, "renewTime", MicroTime),
        one(5, "leaseTransitions", Int32),
        one(6, "strategy", Str),
        one(7, "preferredHolder", Str),
    ],
};

pub(super) static PRIORITY_CLASS: Message = Message {
    name: "PriorityClass",
    fields: &[
        one(1, "metadata", Object(&OBJECT_META)),
        one(2, "value", Int32),
        one(3, "globalDefault", Bool),
        one(4, "description", Str),
        one(5, "preemptionPolicy", Str),
    ],
};
