//! Query parameters: the ones that a request takes, with values that clients send.

use crate::differential::coverage::{Encoding, Task};
use crate::differential::random::Random;

/// Key and value, not yet encoded.
pub(super) type Pair = (String, String);

/// What a client could send with such a request.
#[must_use]
pub(super) fn clean(task: &Task<'_>, dry: bool, random: &mut Random) -> Vec<Pair> {
    let mut pairs: Vec<Pair> = Vec::new();
    let mut add = |key: &str, value: &str| pairs.push((key.to_owned(), value.to_owned()));
    let writes = matches!(task.verb, "create" | "update" | "patch");
    if writes || task.verb.starts_with("delete") {
        if dry {
            add("dryRun", "All");
        }
    } else if random.percent(20) {
        add("pretty", random.pick(&["true", "false"]));
    }
    if writes {
        if task.encoding == Encoding::ApplyPatch {
            add("fieldManager", "differential");
            if random.percent(60) {
                add("force", random.pick(&["true", "1", "yes"]));
            }
        } else if random.percent(30) {
            add("fieldManager", "differential");
        }
        if random.percent(40) {
            add("fieldValidation", random.pick(&["Ignore", "Warn", "Strict"]));
        }
    }
    if task.verb == "delete" && task.encoding == Encoding::None && random.percent(30) {
        add(
            "propagationPolicy",
            random.pick(&["Background", "Orphan", "Foreground"]),
        );
        add("gracePeriodSeconds", random.pick(&["0", "1", "30"]));
    }
    if matches!(task.verb, "list" | "watch" | "deletecollection") {
        select(&mut add, task, random);
    }
    if task.verb == "watch" {
        add("watch", random.pick(&["true", "1", "", "yes", "TRUE"]));
        add("timeoutSeconds", "1");
    }
    if random.percent(20) {
        add("timeout", random.pick(&["10s", "1m0s", "1.5s"]));
    }
    pairs
}

fn select(add: &mut impl FnMut(&str, &str), task: &Task<'_>, random: &mut Random) {
    if random.percent(30) {
        let selectors = [
            "turn=one",
            "turn in (one,two-three),made-by",
            "!turn",
            "turn!=one",
            "made-by==differential",
            "turn notin (x)",
        ];
        add("labelSelector", random.pick(&selectors));
    }
    if random.percent(35) {
        let selectors = [
            "metadata.name=fixture",
            "metadata.name==fixture",
            "metadata.name!=fixture",
            "metadata.name=",
            "metadata.name=fixture,metadata.name=fixture",
            "metadata.name=a\\,b",
            "metadata.name=a/b",
            "metadata.name=..",
            "metadata.namespace=differential-still,metadata.name=fixture",
            "metadata.name=%25",
            "metadata.name=a%b",
            "",
        ];
        add("fieldSelector", random.pick(&selectors));
    }
    if task.verb == "list" && random.percent(30) {
        add("limit", random.pick(&["1", "500", "0"]));
    }
    if task.verb != "deletecollection" && random.percent(20) {
        add("resourceVersion", "0");
        if task.verb == "list" {
            add("resourceVersionMatch", "NotOlderThan");
        }
    }
    if task.verb == "list" && random.percent(10) {
        add("watch", random.pick(&["false", "0", "False"]));
    }
}

/// Path and query in one, percent-encoded, in one of the ways in which clients do that.
#[must_use]
pub(super) fn append(path: &str, pairs: &[Pair], random: &mut Random) -> String {
    let spaces_are_plus = random.percent(50);
    let encode = |text: &str| {
        let mut encoded = String::new();
        for byte in text.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    encoded.push(byte.into())
                }
                b' ' if spaces_are_plus => encoded.push('+'),
                _ => encoded.push_str(&format!("%{byte:02X}")),
            }
        }
        encoded
    };
    let query: Vec<String> = pairs
        .iter()
        .map(|(key, value)| format!("{}={}", encode(key), encode(value)))
        .collect();
    if query.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{}", query.join("&"))
    }
}
