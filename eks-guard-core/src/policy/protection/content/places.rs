//! Where in which kind stands what is protected, and what of it no agent may write.

use serde_json::Value;

use crate::policy::protection::{Protection, is_guard_group};
use crate::request_info::ResourceInfo;

/// One place in an object.
#[derive(Debug)]
pub(super) struct Place {
    /// Members, outermost first.
    pub(super) path: &'static [&'static str],
    /// What is protected there.
    pub(super) protection: Protection,
}

/// What is protected in one kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    pub(super) places: &'static [Place],
    /// Whether agents are chosen by its labels, so that it is not removed and made anew.
    pub(super) names_agents: bool,
}

/// Fields that give a pod a part of its node when they are true.
const NODE_SWITCHES: [&str; 5] = ["hostNetwork", "hostPID", "hostIPC", "privileged", "hostProcess"];

/// Capabilities that the Pod Security Standard `baseline` lets a container add.
const BASELINE: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Types of Secrets that make a credential: one that a controller puts a token into, and one that is a token itself.
const CREDENTIALS: [&str; 2] = [
    "kubernetes.io/service-account-token",
    "bootstrap.kubernetes.io/token",
];

/// Labels by which the rules of one ClusterRole become those of another.
const AGGREGATE: &str = "rbac.authorization.k8s.io/aggregate-to-";

/// Resources whose verbs can make more rights than they are.
const OF_RIGHTS: [&str; 6] = ["*", "users", "groups", "serviceaccounts", "roles", "clusterroles"];

const fn place(protection: Protection, path: &'static [&'static str]) -> Place {
    Place { path, protection }
}

const OWN_LABELS: &[Place] = &[
    place(Protection::Label, &["metadata", "labels"]),
    place(Protection::Label, &["metadata", "annotations"]),
];
const POD: &[Place] = &[
    place(Protection::Escape, &["spec"]),
    place(Protection::Label, &["metadata", "labels"]),
    place(Protection::Label, &["metadata", "annotations"]),
];
const POD_TEMPLATE: &[Place] = &[
    place(Protection::Escape, &["template", "spec"]),
    place(Protection::Label, &["template", "metadata", "labels"]),
    place(Protection::Label, &["template", "metadata", "annotations"]),
];
const WORKLOAD: &[Place] = &[
    place(Protection::Escape, &["spec", "template", "spec"]),
    place(Protection::Label, &["spec", "template", "metadata", "labels"]),
    place(
        Protection::Label,
        &["spec", "template", "metadata", "annotations"],
    ),
];
const CRON_JOB: &[Place] = &[
    place(
        Protection::Escape,
        &["spec", "jobTemplate", "spec", "template", "spec"],
    ),
    place(
        Protection::Label,
        &["spec", "jobTemplate", "spec", "template", "metadata", "labels"],
    ),
    place(
        Protection::Label,
        &[
            "spec",
            "jobTemplate",
            "spec",
            "template",
            "metadata",
            "annotations",
        ],
    ),
];
const REVISION: &[Place] = &[place(Protection::Escape, &["data"])];
const VOLUME: &[Place] = &[place(Protection::Escape, &["spec"])];
const ROLE: &[Place] = &[place(Protection::Grant, &["rules"])];
const CLUSTER_ROLE: &[Place] = &[
    place(Protection::Grant, &["rules"]),
    place(Protection::Grant, &["aggregationRule"]),
    place(Protection::Grant, &["metadata", "labels"]),
];
const BINDING: &[Place] = &[
    place(Protection::Grant, &["roleRef"]),
    place(Protection::Grant, &["subjects"]),
];
const SECRET: &[Place] = &[place(Protection::Token, &["type"])];
const DEFINITION: &[Place] = &[place(Protection::Interception, &["spec", "conversion"])];

impl Place {
    pub(super) fn is_labels(&self) -> bool {
        self.protection == Protection::Label
    }
}

impl Kind {
    pub(super) fn of(resource: ResourceInfo<'_>) -> Self {
        let places = match (resource.group, resource.resource) {
            _ if matches!(resource.subresource, "eviction" | "binding") => &[],
            ("", "pods") => POD,
            ("", "secrets") => SECRET,
            ("", "namespaces" | "serviceaccounts") => OWN_LABELS,
            ("", "podtemplates") => POD_TEMPLATE,
            ("", "replicationcontrollers")
            | ("apps", "daemonsets" | "deployments" | "replicasets" | "statefulsets")
            | ("batch", "jobs") => WORKLOAD,
            ("batch", "cronjobs") => CRON_JOB,
            ("apps", "controllerrevisions") => REVISION,
            ("", "persistentvolumes") => VOLUME,
            ("rbac.authorization.k8s.io", "roles") => ROLE,
            ("rbac.authorization.k8s.io", "clusterroles") => CLUSTER_ROLE,
            ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => BINDING,
            ("apiextensions.k8s.io", "customresourcedefinitions") => DEFINITION,
            _ => &[],
        };
        Self {
            places,
            names_agents: matches!(
                (resource.group, resource.resource),
                ("", "namespaces" | "serviceaccounts")
            ),
        }
    }

    /// What is refused where nothing is known.
    pub(super) fn first(self) -> Option<Protection> {
        self.places.first().map(|place| place.protection)
    }

    /// The first protection that an object breaks which was another one before, or none.
    pub(super) fn judge(self, old: Option<&Value>, new: &Value) -> Option<Protection> {
        if self.moves_labels(old, new) {
            return Some(Protection::Label);
        }
        let breaks = |place: &&Place| {
            let [was, is] = [old.unwrap_or(&Value::Null), new].map(|object| at(object, place.path));
            was != is && breaks(place, was, is, new)
        };
        self.places.iter().find(breaks).map(|place| place.protection)
    }

    /// Whether labels or annotations of the guard are others than before. Only where agents have them are they missed.
    fn moves_labels(self, old: Option<&Value>, new: &Value) -> bool {
        let was = old.map(guard_members).unwrap_or_default();
        let is = guard_members(new);
        if self.places.iter().any(Place::is_labels) {
            return was != is;
        }
        is.iter().any(|member| !was.contains(member))
    }
}

/// Whether what is at a place now may not be written there.
fn breaks(place: &Place, was: &Value, is: &Value, new: &Value) -> bool {
    match place.protection {
        Protection::Escape => reaches_node(is),
        Protection::Interception => calls_webhook(is),
        Protection::Token => CREDENTIALS.iter().any(|kind| is == kind),
        Protection::Grant => match place.path {
            ["rules"] => added(was, is).any(is_wide),
            ["aggregationRule"] => !is.is_null(),
            ["metadata", "labels"] => {
                let labels = is.as_object().into_iter().flatten();
                labels
                    .filter(|(key, _)| key.starts_with(AGGREGATE))
                    .any(|(key, value)| was.get(key) != Some(value))
            }
            _ => at(new, &["roleRef", "name"]) == "cluster-admin",
        },
        // Judged by the keys, wherever they stand.
        Protection::Label
        | Protection::Group
        | Protection::Namespace
        | Protection::Certificate
        | Protection::Authentication
        | Protection::Connect => false,
    }
}

fn at<'a>(object: &'a Value, path: &[&str]) -> &'a Value {
    path.iter().fold(object, |value, member| &value[*member])
}

/// Every member that is called like a label of the guard, with the way to it.
pub(super) fn guard_members(object: &Value) -> Vec<(String, &Value)> {
    let mut found = Vec::new();
    find_guard_members(object, &mut Vec::new(), &mut found);
    found.sort_by(|(one, value), (other, another)| {
        one.cmp(other)
            .then_with(|| value.to_string().cmp(&another.to_string()))
    });
    found
}

/// The way is written out for what is found, which is nothing in nearly every object.
fn find_guard_members<'a>(value: &'a Value, way: &mut Vec<&'a str>, found: &mut Vec<(String, &'a Value)>) {
    match value {
        Value::Array(items) => {
            way.push("-");
            for item in items {
                find_guard_members(item, way, found);
            }
            way.pop();
        }
        Value::Object(members) => {
            for (key, value) in members {
                way.push(key);
                if key
                    .split_once('/')
                    .is_some_and(|(prefix, _)| is_guard_group(prefix))
                {
                    found.push((way.join("/"), value));
                } else {
                    find_guard_members(value, way, found);
                }
                way.pop();
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Whether a pod, or what makes pods, or a volume, gets a part of its node.
fn reaches_node(spec: &Value) -> bool {
    match spec {
        Value::Array(items) => items.iter().any(reaches_node),
        Value::Object(members) => members.iter().any(|(key, value)| {
            let gives = match key.as_str() {
                // Labels, annotations and data are text.
                _ if NODE_SWITCHES.contains(&key.as_str()) => *value == true,
                "hostPath" | "local" => value.is_object(),
                "procMount" => !value.is_null() && value != "Default",
                "capabilities" => value["add"]
                    .as_array()
                    .is_some_and(|added| !added.iter().all(is_baseline)),
                _ => false,
            };
            gives || reaches_node(value)
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn is_baseline(capability: &Value) -> bool {
    capability.as_str().is_some_and(|name| BASELINE.contains(&name))
}

/// Items that were not there before.
fn added<'a>(was: &'a Value, is: &'a Value) -> impl Iterator<Item = &'a Value> {
    let was = was.as_array();
    let items = is.as_array().into_iter().flatten();
    items.filter(move |item| !was.is_some_and(|was| was.contains(item)))
}

/// A rule with verbs that make more rights, or with every verb on what makes them.
fn is_wide(rule: &Value) -> bool {
    let texts = |field: &str| {
        let items = rule[field].as_array().into_iter().flatten();
        items.filter_map(Value::as_str).collect::<Vec<_>>()
    };
    let verbs = texts("verbs");
    let escalates = |verb: &&str| matches!(*verb, "escalate" | "bind") || verb.starts_with("impersonate");
    if verbs.iter().any(escalates) {
        return true;
    }
    let groups = ["*", "", "rbac.authorization.k8s.io"];
    verbs.contains(&"*")
        && texts("apiGroups").iter().any(|group| groups.contains(group))
        && texts("resources")
            .iter()
            .any(|resource| OF_RIGHTS.contains(resource))
}

fn calls_webhook(conversion: &Value) -> bool {
    let strategy = &conversion["strategy"];
    !conversion["webhook"].is_null() || !(strategy.is_null() || strategy == "None")
}
