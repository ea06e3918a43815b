//! Texts without what no two runs share: times, identities, versions of objects, names that are made up, and where a run was.

use std::path::Path;
use std::sync::OnceLock;

use regex::Regex;

/// What is taken out of texts, and what comes in its place; in this order.
const RULES: [(&str, &str); 14] = [
    (
        r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        "UID",
    ),
    // RFC 3339, with and without fractions, and as Go, Python and helm print times.
    (
        r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?( ?(Z|UTC|[+-]\d\d:?\d\d))*( m=\S+)?",
        "TIME",
    ),
    (
        r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun),? [A-Z0-9][a-z0-9]+ [ A-Za-z0-9]{1,4}[0-9]* ?\d\d:\d\d:\d\d( \d{4})?( [A-Z]{3}| [+-]\d{4})*",
        "TIME",
    ),
    // The clock of klog.
    (r"(?m)^([IWEF])\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ ", "$1 "),
    (r"\b\d\d:\d\d:\d\d\.\d+\b", "TIME"),
    (r"\b1[6-9]\d{8}\b", "TIME"),
    (r#"((?i)resource_?version\\?['"]?[ :=]+\\?['"]?)\d+"#, "${1}N"),
    (r"((?i)resource ?version: )\d+", "${1}N"),
    // Names that a controller made up.
    (r"\b(web|demo|hello|once|made)-[a-f0-9]{8,10}\b", "$1-HASH"),
    (r"\bkube-api-access-[a-z0-9]{5}\b", "kube-api-access-HASH"),
    // Ages, which names that are made up may look like.
    (r"\b(\d+[dhm])*\d+(\.\d+)?(s|ms|µs)\b", "AGE"),
    (
        r"(HOME)?/tmp/(LIVE|MERGED|kubectl-edit|pip|tmp|helm)[-A-Za-z0-9_.]*",
        "/tmp/FILE",
    ),
    // Columns are as wide as what stands in them.
    (r"[ \t]{2,}", "  "),
    (r"(?m)[ \t]+$", ""),
];

pub(super) struct Normal {
    rules: Vec<(Regex, &'static str)>,
}

impl Normal {
    pub(super) fn get() -> &'static Self {
        static NORMAL: OnceLock<Normal> = OnceLock::new();
        NORMAL.get_or_init(|| {
            let compiled = |(pattern, by): (&str, &'static str)| {
                (
                    Regex::new(pattern).expect("the rules are regular expressions"),
                    by,
                )
            };
            Self {
                rules: RULES.map(compiled).into(),
            }
        })
    }

    /// What a client said in a namespace and a home.
    pub(super) fn output(&self, text: &str, namespace: &str, home: &Path) -> String {
        let text = text
            .replace(namespace, "NAMESPACE")
            .replace(&*home.to_string_lossy(), "HOME");
        self.text(&text)
    }

    /// Any text.
    pub(super) fn text(&self, text: &str) -> String {
        let apply =
            |text: String, (pattern, by): &(Regex, &str)| pattern.replace_all(&text, *by).into_owned();
        self.rules.iter().fold(text.to_owned(), apply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_two_runs_share_is_taken_out() {
        for (text, expected) in [
            (
                "created 2026-11-26T14:55:01Z and 2026-11-26 14:55:01.123456789 +0000 UTC m=+0.01",
                "created TIME and TIME",
            ),
            ("LAST DEPLOYED: Thu Nov 26 08:29:12 2026", "LAST DEPLOYED: TIME"),
            ("uid: 0b6a2c1e-1111-4222-8333-944445555666", "uid: UID"),
            (r#""resourceVersion":"123""#, r#""resourceVersion":"N""#),
            ("resourceVersion: \"77\"", "resourceVersion: \"N\""),
            ("'resource_version': '9'", "'resource_version': 'N'"),
            ("web   1/1   2m3s", "web  1/1  AGE"),
            ("kube-api-access-4h25s", "kube-api-access-HASH"),
            ("modifiedAt: \"1764172800\"", "modifiedAt: \"TIME\""),
            ("pods 3, port 8080, v1.36.3", "pods 3, port 8080, v1.36.3"),
        ] {
            assert_eq!(Normal::get().text(text), expected);
        }
    }
}
