//! Which request takes which query parameter, and what the values may be.

use crate::request_info::tests::{accepted, assert_malformed, refused};

/// (request, parameters it takes, in canonical form)
const TAKES: &[(&str, &str)] = &[
    (
        "GET /api/v1/pods",
        "allowWatchBookmarks=true&continue=c&fieldSelector=a%3Db&includeObject=Object&labelSelector=l&limit=500&pretty=true\
         &resourceVersion=0&resourceVersionMatch=NotOlderThan&sendInitialEvents=true&timeout=30s&timeoutSeconds=300&watch=true",
    ),
    (
        "GET /api/v1/watch/pods",
        "allowWatchBookmarks=true&resourceVersion=5&sendInitialEvents=false&timeoutSeconds=300&watch=true",
    ),
    (
        "GET /api/v1/nodes/n",
        "includeObject=Metadata&pretty=false&resourceVersion=0&timeout=30s",
    ),
    (
        "POST /api/v1/namespaces/d/pods",
        "dryRun=All&fieldManager=kubectl-create&fieldValidation=Strict&includeObject=None&pretty=true&timeout=1s",
    ),
    (
        "PUT /api/v1/nodes/n",
        "dryRun=All&fieldManager=m&fieldValidation=Warn&timeout=1s",
    ),
    (
        "PUT /api/v1/nodes/n/status",
        "dryRun=All&fieldManager=m&fieldValidation=Ignore",
    ),
    (
        "PATCH /api/v1/nodes/n",
        "dryRun=All&fieldManager=m&fieldValidation=Strict&force=true",
    ),
    (
        "DELETE /api/v1/nodes/n",
        "dryRun=All&gracePeriodSeconds=0&ignoreStoreReadErrorWithClusterBreakingPotential=false&orphanDependents=true\
         &propagationPolicy=Foreground&resourceVersion=7&uid=u",
    ),
    (
        "DELETE /api/v1/nodes",
        "continue=c&dryRun=All&fieldSelector=a%3Db&gracePeriodSeconds=5&labelSelector=l&limit=2&propagationPolicy=Orphan\
         &resourceVersion=7&resourceVersionMatch=Exact&timeoutSeconds=3",
    ),
    (
        "GET /api/v1/namespaces/d/pods/p/log",
        "container=c&follow=true&insecureSkipTLSVerifyBackend=false&limitBytes=1&previous=false&sinceSeconds=1\
         &sinceTime=2026-01-31T12%3A00%3A00Z&stream=All&tailLines=0&timestamps=true",
    ),
    (
        "GET /api/v1/namespaces/d/pods/p/exec",
        "command=sh&command=-c&command=a%0Ab&container=c&stderr=true&stdin=false&stdout=true&tty=true",
    ),
    (
        "POST /api/v1/namespaces/d/pods/p/attach",
        "container=c&stderr=true&stdin=true&stdout=true&tty=false",
    ),
    (
        "GET /api/v1/namespaces/d/pods/p/portforward",
        "ports=80&ports=443%2C8080",
    ),
    ("GET /openapi/v3", "hash=h&timeout=32s"),
    ("GET /livez", "exclude=etcd&pretty=true&verbose="),
];

/// (request, a parameter that belongs to others)
const DROPS: &[(&str, &str)] = &[
    ("GET /api/v1/pods", "shardSelector=x"),
    ("GET /api/v1/pods", "dryRun=bogus"),
    ("GET /api/v1/pods", "force=true"),
    ("GET /api/v1/pods", "follow=true"),
    ("GET /api/v1/nodes/n", "limit=abc"),
    ("GET /api/v1/nodes/n", "labelSelector=a"),
    ("GET /api/v1/nodes/n", "watch=true"),
    ("POST /api/v1/nodes", "force=true"),
    ("POST /api/v1/nodes", "watch=true"),
    ("PUT /api/v1/nodes/n", "gracePeriodSeconds=1"),
    ("PATCH /api/v1/nodes/n", "propagationPolicy=Orphan"),
    ("DELETE /api/v1/nodes/n", "fieldManager=m"),
    ("DELETE /api/v1/nodes/n", "labelSelector=a"),
    ("DELETE /api/v1/nodes", "watch=true"),
    ("GET /api/v1/namespaces/d/pods/p/log", "command=sh"),
    ("GET /api/v1/namespaces/d/pods/p/attach", "command=sh"),
    ("GET /api/v1/nodes/n/proxy", "path=/x"),
    ("GET /version", "limit=1"),
    ("GET /version", "command=sh"),
    ("GET /version", "access_token=t"),
];

#[test]
fn every_request_takes_its_own_parameters() {
    for (line, parameters) in TAKES {
        let request = accepted(&format!("{line}?{parameters}"));
        let (_, query) = request
            .path_and_query()
            .split_once('?')
            .map(|(p, q)| (p.to_owned(), q.to_owned()))
            .unwrap();
        assert_eq!(query, *parameters, "{line}");
        assert_eq!(request.warnings(), [""; 0], "{line}");
    }
}

#[test]
fn parameters_of_other_requests_are_dropped_with_a_warning() {
    for (line, parameter) in DROPS {
        let request = accepted(&format!("{line}?{parameter}"));
        assert!(!request.path_and_query().contains('?'), "{line}?{parameter}");
        let name = parameter.split('=').next().unwrap();
        assert!(
            request.warnings().iter().any(|warning| warning.contains(name)),
            "{line}?{parameter}"
        );
    }
}

/// Checks one parameter of one request: values it normalises, and values it refuses.
fn check(request: &str, key: &str, normalized: &[(&str, &str)], refusals: &[&str]) {
    for (value, canonical) in normalized {
        let parsed = accepted(&format!("{request}?{key}={value}"));
        assert!(
            parsed.query_values(key).eq([*canonical]),
            "{key}={value}: {}",
            parsed.path_and_query()
        );
    }
    for value in refusals {
        let line = format!("{request}?{key}={value}");
        assert_malformed(&[&line]);
        assert!(
            refused(&line).message.contains(key),
            "{line}: {}",
            refused(&line).message
        );
    }
}

#[test]
fn switches_are_off_for_0_and_false_only() {
    let values = [
        ("0", "false"),
        ("false", "false"),
        ("FALSE", "false"),
        ("", "true"),
        ("1", "true"),
        ("no", "true"),
        ("f", "true"),
    ];
    for (request, keys) in [
        (
            "GET /api/v1/pods",
            &["watch", "allowWatchBookmarks", "sendInitialEvents"][..],
        ),
        ("PATCH /api/v1/nodes/n", &["force"]),
        (
            "DELETE /api/v1/nodes/n",
            &[
                "orphanDependents",
                "ignoreStoreReadErrorWithClusterBreakingPotential",
            ],
        ),
        (
            "GET /api/v1/namespaces/d/pods/p/log",
            &["follow", "previous", "timestamps"],
        ),
        (
            "GET /api/v1/namespaces/d/pods/p/exec",
            &["stdin", "stdout", "stderr", "tty"],
        ),
    ] {
        for key in keys {
            check(request, key, &values, &[]);
        }
    }
    let strict = [
        ("1", "true"),
        ("T", "true"),
        ("true", "true"),
        ("0", "false"),
        ("F", "false"),
        ("False", "false"),
    ];
    check("GET /api/v1/pods", "pretty", &strict, &["", "yes", "tRUE", "2"]);
    check(
        "GET /livez",
        "verbose",
        &[("", ""), ("1", "1"), ("true", "true")],
        &["false", "0"],
    );
}

#[test]
fn unchecked_kubelets_are_refused() {
    let log = "GET /api/v1/namespaces/d/pods/p/log";
    check(
        log,
        "insecureSkipTLSVerifyBackend",
        &[("0", "false"), ("False", "false")],
        &["", "true", "1", "no"],
    );
}

#[test]
fn numbers_are_whole_and_not_negative() {
    let good = [
        ("0", "0"),
        ("007", "7"),
        ("%2B5", "5"),
        ("9223372036", "9223372036"),
    ];
    let bad = [
        "",
        "abc",
        "-1",
        "+5",
        "1.0",
        "1e3",
        "0x1",
        "1_000",
        "9223372036854775808",
    ];
    for (request, keys) in [
        ("GET /api/v1/pods", &["limit", "timeoutSeconds"][..]),
        ("DELETE /api/v1/nodes/n", &["gracePeriodSeconds"]),
        (
            "GET /api/v1/namespaces/d/pods/p/log",
            &["sinceSeconds", "tailLines", "limitBytes"],
        ),
    ] {
        for key in keys {
            check(request, key, &good, &bad);
        }
    }
    check(
        "GET /api/v1/pods",
        "limit",
        &[("9223372036854775807", "9223372036854775807")],
        &[],
    );
    // More would overflow Go's nanoseconds.
    check("GET /api/v1/pods", "timeoutSeconds", &[], &["9223372037"]);
}

#[test]
fn durations_are_what_go_would_parse() {
    let good = [
        "32s", "0", "1m30s", "1.5h", ".5s", "1.s", "100ms", "5us", "5%C2%B5s", "5%CE%BCs", "7ns", "2562047h",
    ];
    for value in good {
        accepted(&format!("GET /api?timeout={value}"));
    }
    let long = format!("{}1s", "0".repeat(63));
    let bad = [
        "",
        "5",
        "s",
        ".s",
        "-5s",
        "%2B5s",
        "5S",
        "5d",
        "5+s",
        "5s3",
        "1..5s",
        "%C3%A9",
        "5%C3%A9",
        "2562048h",
        "99999999999999999999s",
        &long,
    ];
    check("GET /api", "timeout", &[(&long[1..], &long[1..])], &bad);
}

#[test]
fn times_are_rfc_3339() {
    let log = "GET /api/v1/namespaces/d/pods/p/log";
    let good = [
        ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z"),
        ("2026-01-31T12:00:00.123456789Z", "2026-01-31T12:00:00.123456789Z"),
        ("2026-01-31T12:00:00%2B23:59", "2026-01-31T12:00:00+23:59"),
        ("2026-01-31T12:00:00-00:30", "2026-01-31T12:00:00-00:30"),
    ];
    let bad = [
        "",
        "null",
        "now",
        "2026-01-31",
        "2026-01-31T12:00:00",
        "2026-01-31t12:00:00Z",
        "2026-01-31T12:00:00z",
        "2026-13-31T12:00:00Z",
        "2026-00-31T12:00:00Z",
        "2026-01-32T12:00:00Z",
        "2026-01-00T12:00:00Z",
        "2026-01-31T24:00:00Z",
        "2026-01-31T12:60:00Z",
        "2026-01-31T12:00:60Z",
        "2026-01-31T12:00:00.Z",
        "2026-01-31T12:00:00%2B24:00",
        "2026-01-31T12:00:00%2B00:60",
        "2026-01-31T12:00:00%2B1:00",
        "2026-01-31T12:00:00+01:00",
        "2026-01-31T12:00:00ZZ",
        "2026-01-31T12:00:0%C3%A9Z",
    ];
    check(log, "sinceTime", &good, &bad);
}

#[test]
fn choices_are_exact() {
    check(
        "GET /api/v1/pods",
        "includeObject",
        &[("None", "None"), ("Object", "Object")],
        &["", "none", "All"],
    );
    check(
        "GET /api/v1/pods",
        "resourceVersionMatch",
        &[("Exact", "Exact")],
        &["", "exact", "Newest"],
    );
    check(
        "PUT /api/v1/nodes/n",
        "fieldValidation",
        &[("Ignore", "Ignore")],
        &["", "strict", "Off"],
    );
    check(
        "DELETE /api/v1/nodes/n",
        "propagationPolicy",
        &[("Background", "Background")],
        &["", "orphan", "None"],
    );
    check(
        "GET /api/v1/namespaces/d/pods/p/log",
        "stream",
        &[("Stdout", "Stdout")],
        &["", "stdout", "Stdin"],
    );
}

#[test]
fn a_dry_run_is_all_or_nothing() {
    for request in [
        "POST /api/v1/nodes",
        "PUT /api/v1/nodes/n",
        "PATCH /api/v1/nodes/n",
        "DELETE /api/v1/nodes/n",
        "DELETE /api/v1/nodes",
    ] {
        check(
            request,
            "dryRun",
            &[("All", "All"), ("All&dryRun=All", "All")],
            &["", "all", "None", "All,All", "All&dryRun=all", "&dryRun=All"],
        );
    }
}

#[test]
fn ports_are_numbers_that_fit() {
    let forward = "GET /api/v1/namespaces/d/pods/p/portforward";
    check(
        forward,
        "ports",
        &[("0", "0"), ("65535", "65535"), ("1,2", "1,2")],
        &["", "65536", "-1", "%2B1", "1,", "a", "1&ports=x"],
    );
}

#[test]
fn command_lines_keep_their_order_and_every_character() {
    let request = accepted(
        "POST /api/v1/namespaces/d/pods/p/exec?command=sh&tty=0&command=-c&command=a+%26%26%0Ab&command=",
    );
    assert!(request.query_values("command").eq(["sh", "-c", "a &&\nb", ""]));
    assert_eq!(
        request.path_and_query(),
        "/api/v1/namespaces/d/pods/p/exec?command=sh&command=-c&command=a%20%26%26%0Ab&command=&tty=false"
    );
}

#[test]
fn text_holds_no_control_characters() {
    for (request, key) in [
        ("GET /api/v1/pods", "continue"),
        ("PUT /api/v1/nodes/n", "fieldManager"),
        ("GET /api/v1/namespaces/d/pods/p/log", "container"),
    ] {
        check(
            request,
            key,
            &[("", ""), ("a%20b", "a b"), ("%C3%A9", "é")],
            &["a%0Ab", "%7F", "%C2%85", "%1B"],
        );
    }
}
