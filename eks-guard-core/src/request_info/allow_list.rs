//! Which query parameters a request may carry, and what each of them holds. Anything else is dropped with a
//! warning, as kube-apiserver would ignore it.

use crate::request_info::info::ResourceParts;
use crate::request_info::path::{Route, Target};
use crate::request_info::{Method, Verb};

/// One query parameter.
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
}

/// What a parameter holds: how its value is checked and normalised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// On unless `0` or `false`: apimachinery's conversion.
    Switch,
    /// Go's `strconv.ParseBool`.
    StrictSwitch,
    /// On by being there, whatever the value.
    Presence,
    /// Must not be on.
    Forbidden,
    /// A whole number from 0.
    Count,
    /// A whole number of seconds that fits Go's `time.Duration`.
    Seconds,
    /// Go's `time.ParseDuration`.
    Duration,
    /// RFC 3339.
    Time,
    /// One of these words, exactly.
    Choice(&'static [&'static str]),
    /// `All`, once or more.
    DryRun,
    /// Text without control characters.
    Text,
    /// One argument of a command line, any text; repeats, and the order counts.
    Argument,
    /// Ports, comma-separated; repeats.
    Ports,
}

impl Kind {
    /// Whether the parameter may stand more than once.
    pub(super) const fn repeats(self) -> bool {
        matches!(self, Self::DryRun | Self::Argument | Self::Ports)
    }
}

const fn key(name: &'static str, kind: Kind) -> Key {
    Key { name, kind }
}

const EVERY: &[Key] = &[key("timeout", Kind::Duration), key("pretty", Kind::StrictSwitch)];

const TABLE: &[Key] = &[key(
    "includeObject",
    Kind::Choice(&["None", "Metadata", "Object"]),
)];

const PLAIN: &[Key] = &[
    key("hash", Kind::Text),
    key("verbose", Kind::Presence),
    key("exclude", Kind::Text),
];

const GET: &[Key] = &[key("resourceVersion", Kind::Text)];

const SELECT: &[Key] = &[
    key("labelSelector", Kind::Text),
    key("fieldSelector", Kind::Text),
    key("limit", Kind::Count),
    key("continue", Kind::Text),
    key("resourceVersion", Kind::Text),
    key("resourceVersionMatch", Kind::Choice(&["Exact", "NotOlderThan"])),
    key("timeoutSeconds", Kind::Seconds),
];

const WATCH: &[Key] = &[
    key("watch", Kind::Switch),
    key("allowWatchBookmarks", Kind::Switch),
    key("sendInitialEvents", Kind::Switch),
];

const WRITE: &[Key] = &[
    key("dryRun", Kind::DryRun),
    key("fieldManager", Kind::Text),
    key("fieldValidation", Kind::Choice(&["Ignore", "Warn", "Strict"])),
];

const APPLY: &[Key] = &[key("force", Kind::Switch)];

const DELETE: &[Key] = &[
    key("gracePeriodSeconds", Kind::Seconds),
    key(
        "propagationPolicy",
        Kind::Choice(&["Orphan", "Background", "Foreground"]),
    ),
    key("orphanDependents", Kind::Switch),
    key("dryRun", Kind::DryRun),
    key("uid", Kind::Text),
    key("ignoreStoreReadErrorWithClusterBreakingPotential", Kind::Switch),
];

const LOG: &[Key] = &[
    key("container", Kind::Text),
    key("follow", Kind::Switch),
    key("previous", Kind::Switch),
    key("sinceSeconds", Kind::Seconds),
    key("sinceTime", Kind::Time),
    key("timestamps", Kind::Switch),
    key("tailLines", Kind::Count),
    key("limitBytes", Kind::Count),
    key("stream", Kind::Choice(&["All", "Stdout", "Stderr"])),
    key("insecureSkipTLSVerifyBackend", Kind::Forbidden),
];

const ATTACH: &[Key] = &[
    key("container", Kind::Text),
    key("stdin", Kind::Switch),
    key("stdout", Kind::Switch),
    key("stderr", Kind::Switch),
    key("tty", Kind::Switch),
];

const EXEC: &[Key] = &[key("command", Kind::Argument)];

const PORT_FORWARD: &[Key] = &[key("ports", Kind::Ports)];

const ALL: [&[Key]; 13] = [
    EVERY,
    TABLE,
    PLAIN,
    GET,
    SELECT,
    WATCH,
    WRITE,
    APPLY,
    DELETE,
    LOG,
    ATTACH,
    EXEC,
    PORT_FORWARD,
];

/// What a parameter holds, wherever it is taken: a name holds the same everywhere.
pub(super) fn kind_of(name: &str) -> Option<Kind> {
    let mut keys = ALL.iter().flat_map(|keys| keys.iter());
    keys.find(|key| key.name == name).map(|key| key.kind)
}

/// The parameters of a request.
pub(super) struct AllowList(&'static [&'static [Key]]);

impl AllowList {
    pub(super) fn of(route: &Route, method: Method) -> Self {
        Self(match &route.target {
            Target::NonResource(_) => &[EVERY, PLAIN],
            Target::LegacyWatch(_) => &[SELECT, WATCH, EVERY, TABLE],
            Target::Resource(resource) => of_resource(resource, &route.text, method),
        })
    }

    pub(super) fn find(&self, name: &str) -> Option<&'static Key> {
        self.0
            .iter()
            .flat_map(|keys| keys.iter())
            .find(|key| key.name == name)
    }
}

fn of_resource(resource: &ResourceParts, path: &str, method: Method) -> &'static [&'static [Key]] {
    match (resource.subresource.of(path), method) {
        ("exec", Method::Get | Method::Post) => &[ATTACH, EXEC, EVERY],
        ("attach", Method::Get | Method::Post) => &[ATTACH, EVERY],
        ("portforward", Method::Get | Method::Post) => &[PORT_FORWARD, EVERY],
        ("log", Method::Get) => &[LOG, EVERY],
        // What is behind a proxy has parameters of its own, and no proxied request is forwarded.
        ("proxy", _) => &[],
        (_, Method::Get) if resource.name.is_empty() => &[SELECT, WATCH, EVERY, TABLE],
        (_, Method::Get) => &[GET, EVERY, TABLE],
        (_, Method::Post | Method::Put) => &[WRITE, EVERY, TABLE],
        (_, Method::Patch) => &[WRITE, APPLY, EVERY, TABLE],
        (_, Method::Delete) if resource.name.is_empty() => &[DELETE, SELECT, EVERY, TABLE],
        (_, Method::Delete) => &[DELETE, GET, EVERY, TABLE],
    }
}

/// Whether a parameter of a DELETE belongs to `DeleteOptions`, which a body replaces as a whole.
pub(super) fn is_delete_option(verb: Verb, name: &str) -> bool {
    // On a collection the version is an option of the list as well.
    DELETE.iter().any(|key| key.name == name) || (verb == Verb::Delete && name == "resourceVersion")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_holds_the_same_everywhere() {
        for key in ALL.iter().flat_map(|keys| keys.iter()) {
            assert_eq!(kind_of(key.name), Some(key.kind), "{}", key.name);
        }
    }
}
