//! Properties over generated request lines: no panic on anything, one canonical form, and the same reading as
//! kube-apiserver's of both the agent's line and the guard's.

use std::fmt::Write as _;

use crate::request_info::ApiRequest;
use crate::request_info::tests::reference;

/// Cases per property; every one takes microseconds.
const CASES: u64 = 20_000;

/// SplitMix64: the same cases in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit).unwrap()).unwrap()
    }

    fn one_in(&mut self, chance: usize) -> bool {
        self.below(chance) == 0
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

const METHODS: &[&str] = &[
    "GET", "GET", "GET", "GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "get",
];

const PREFIXES: &[&str] = &[
    "api/v1",
    "api/v1",
    "api/v1",
    "apis/apps/v1",
    "apis/g.example/v1",
    "api",
    "apis",
    "apis/apps",
    "version",
    "openapi/v3",
    "",
    "api//v1",
    "apis/G/v1",
];

const SEGMENTS: &[&str] = &[
    "namespaces",
    "namespaces",
    "default",
    "kube-system",
    "pods",
    "secrets",
    "db",
    "status",
    "finalize",
    "watch",
    "proxy",
    "log",
    "exec",
    "a:b",
    "a b",
    "é",
    "..",
    ".",
    "",
    "x/y",
    "100%",
    "a,b",
    "a=b",
    "a\\b",
    "\u{1}",
    "Upper",
    "system:node",
    "*",
];

const KEYS: &[&str] = &[
    "watch",
    "fieldSelector",
    "labelSelector",
    "limit",
    "continue",
    "resourceVersion",
    "timeoutSeconds",
    "timeout",
    "dryRun",
    "fieldManager",
    "force",
    "pretty",
    "command",
    "ports",
    "follow",
    "tailLines",
    "gracePeriodSeconds",
    "propagationPolicy",
    "Watch",
    "unknown",
    "sinceTime",
    "includeObject",
    "sendInitialEvents",
    "verbose",
    "hash",
];

const VALUES: &[&str] = &[
    "",
    "true",
    "false",
    "FALSE",
    "0",
    "1",
    "no",
    "5",
    "007",
    "-1",
    "30s",
    "All",
    "all",
    "metadata.name=db",
    "metadata.name==a",
    "metadata.name!=a",
    "metadata.name=a,metadata.name=b",
    "metadata.name=a/b",
    "type=Opaque,metadata.name=x\\,y",
    "metadata.name=..",
    "a=b=c",
    "app in (a,b)",
    "a&b",
    "a;b",
    "é",
    "Strict",
    "Orphan",
    "80,443",
    "2026-01-31T12:00:00Z",
    "\n",
];

/// Encodes what must be, and now and then what need not be; rarely nothing at all.
fn encode(random: &mut Random, text: &str, always: &str) -> String {
    let raw = random.one_in(40);
    let mut out = String::new();
    for &byte in text.as_bytes() {
        let must = !byte.is_ascii_graphic() || always.as_bytes().contains(&byte);
        if byte.is_ascii() && (raw || !must) && !random.one_in(30) {
            out.push(char::from(byte));
        } else if random.one_in(2) {
            write!(out, "%{byte:02x}").unwrap();
        } else {
            write!(out, "%{byte:02X}").unwrap();
        }
    }
    out
}

fn path(random: &mut Random) -> String {
    let mut path = format!("/{}", random.pick(PREFIXES));
    for _ in 0..random.below(7) {
        let likely = if random.one_in(4) { SEGMENTS.len() } else { 13 };
        let segment = SEGMENTS[random.below(likely)];
        path.push('/');
        path += &encode(random, segment, "/%?#\\");
    }
    if random.one_in(6) {
        path.push('/');
    }
    path
}

fn query(random: &mut Random) -> String {
    let mut pairs = Vec::new();
    for _ in 0..random.below(4) {
        let (key, value) = (random.pick(KEYS), random.pick(VALUES));
        let (key, value) = (encode(random, key, "&=;%+#"), encode(random, value, "&;%+#"));
        pairs.push(if value.is_empty() && random.one_in(2) {
            key
        } else {
            format!("{key}={value}")
        });
    }
    pairs.join(if random.one_in(50) { ";" } else { "&" })
}

/// Runs `check` on generated lines that the guard takes, and shows that there were enough of both kinds.
fn for_each_accepted(seed: u64, mut check: impl FnMut(&str, &str, &str, &ApiRequest)) {
    let mut random = Random(seed);
    let mut accepted = 0;
    for _ in 0..CASES {
        let (method, path, query) = (random.pick(METHODS), path(&mut random), query(&mut random));
        if let Ok(request) = ApiRequest::parse(method, &path, Some(&query)) {
            accepted += 1;
            check(method, &path, &query, &request);
        }
    }
    assert!(
        accepted > CASES / 10 && accepted < CASES * 9 / 10,
        "{accepted} of {CASES} accepted"
    );
}

fn split(target: &str) -> (&str, &str) {
    target.split_once('?').unwrap_or((target, ""))
}

#[test]
fn nothing_panics() {
    const ALPHABET: &[&str] = &[
        "/",
        "%",
        "%2F",
        "%00",
        "%e9",
        ".",
        "..",
        "&",
        "=",
        ";",
        "+",
        "?",
        "#",
        "\\",
        "api",
        "apis",
        "v1",
        "namespaces",
        "watch",
        "proxy",
        "fieldSelector=",
        "metadata.name",
        "timeout=",
        "sinceTime=",
        "\u{0}",
        "é",
        "\u{1F980}",
        "a",
        "9",
        ",",
        "s",
    ];
    let mut random = Random(1);
    for _ in 0..CASES {
        let text = |random: &mut Random| {
            if random.one_in(2) {
                return (0..random.below(12))
                    .map(|_| random.pick(ALPHABET))
                    .collect::<String>();
            }
            let bytes: Vec<u8> = (0..random.below(24))
                .map(|_| random.next().to_le_bytes()[0])
                .collect();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let method = if random.one_in(10) {
            text(&mut random)
        } else {
            random.pick(METHODS).to_owned()
        };
        let slash = if random.one_in(10) { "" } else { "/" };
        let (path, query) = (format!("{slash}{}", text(&mut random)), text(&mut random));
        let _outcome =
            ApiRequest::parse(&method, &path, Some(&query)).map(|request| request.path_and_query());
    }
}

#[test]
fn the_canonical_form_is_its_own_canonical_form() {
    for_each_accepted(2, |method, path, query, request| {
        let target = request.path_and_query();
        let (again_path, again_query) = split(&target);
        let again = ApiRequest::parse(method, again_path, Some(again_query))
            .unwrap_or_else(|refusal| panic!("{method} {path}?{query} became {target}: {refusal}"));
        assert_eq!(again.warnings(), [""; 0], "{target}");
        let mut expected = request.clone();
        expected.warnings.clear();
        assert_eq!(again, expected, "{method} {path}?{query}");
        assert_eq!(again.path_and_query(), target);
    });
}

#[test]
fn the_api_server_reads_the_canonical_form_as_the_guard_did() {
    for_each_accepted(3, |method, path, query, request| {
        let target = request.path_and_query();
        let (upstream_path, upstream_query) = split(&target);
        let upstream = reference::new_request_info(method, upstream_path, upstream_query);
        assert_eq!(
            upstream,
            Some(reference::of_request(request)),
            "{method} {path}?{query} became {target}"
        );
    });
}

#[test]
fn the_api_server_would_have_read_the_original_the_same() {
    for_each_accepted(4, |method, path, query, request| {
        let mut direct = reference::new_request_info(method, path, query).unwrap();
        if !direct.is_resource && direct.path.len() > 1 && direct.path.ends_with('/') {
            direct.path.pop();
        }
        if direct.verb == "watch" && direct.resource == "namespaces" {
            // A watch by prefix knows the namespace twice; the parameter that replaces it only by name.
            direct.namespace.clear();
        }
        if direct.verb == "watch" && direct.name.is_empty() {
            // A watch by prefix does not look at the selector; the parameter does.
            direct.name.clone_from(&reference::of_request(request).name);
        }
        assert_eq!(direct, reference::of_request(request), "{method} {path}?{query}");
    });
}

#[test]
fn parameters_keep_their_meaning() {
    const SWITCHES: &[&str] = &["watch", "force", "follow", "sendInitialEvents", "pretty"];
    const NUMBERS: &[&str] = &["limit", "timeoutSeconds", "tailLines", "gracePeriodSeconds"];
    for_each_accepted(5, |method, path, query, request| {
        let line = format!("{method} {path}?{query}");
        let direct = reference::values(query);
        let target = request.path_and_query();
        for (key, sent) in reference::values(split(&target).1) {
            let Some(given) = direct.get(&key) else {
                assert!(
                    path.contains('/') && ["watch", "fieldSelector"].contains(&key.as_str()),
                    "{line}: {key}"
                );
                continue;
            };
            match key.as_str() {
                key if SWITCHES.contains(&key) => {
                    assert_eq!(reference::on(&sent[0]), reference::on(&given[0]), "{line}")
                }
                key if NUMBERS.contains(&key) => {
                    assert_eq!(sent[0].parse::<i64>(), given[0].parse::<i64>(), "{line}")
                }
                "dryRun" => assert!(
                    sent == ["All"] && given.iter().all(|value| value == "All"),
                    "{line}"
                ),
                _ => assert_eq!(&sent, given, "{line}: {key}"),
            }
        }
    });
}
