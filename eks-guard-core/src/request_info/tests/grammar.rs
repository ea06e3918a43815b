//! The characters, escapes and limits of a request line.

use crate::request_info::ApiRequest;
use crate::request_info::escape::shown;
use crate::request_info::query::{MAX_QUERY_BYTES, MAX_QUERY_PAIRS};
use crate::request_info::segment::{MAX_PATH_BYTES, MAX_PROXY_SEGMENTS, MAX_SEGMENTS};
use crate::request_info::tests::{accepted, assert_accepted, assert_malformed, parse, refused};

#[test]
fn segments_are_decoded_exactly_once() {
    assert_malformed(&[
        "GET /api/v1/namespaces/d/pods/a%252Fb",
        "GET /api/v1/namespaces/d/pods/a%25",
        "GET /api/v1/namespaces/d/pods/a%",
        "GET /api/v1/namespaces/d/pods/a%2",
        "GET /api/v1/namespaces/d/pods/a%zz",
        "GET /api/v1/namespaces/d/pods/a%+1",
        "GET /%",
    ]);
}

#[test]
fn segments_hold_no_separators_controls_or_invalid_text() {
    assert_malformed(&[
        "GET ",
        "GET api/v1/pods",
        "GET *",
        "GET //",
        "GET /api//",
        "GET /version/..",
        "GET /version/.",
        "GET /api/v1/nodes/.",
        "GET /api/v1/nodes/%2E",
        "GET /api/v1/nodes/%2e%2E",
        "GET /..",
        "GET /version/%5Cx",
        "GET /version/\\x",
        "GET /version/a%2Fb",
        "GET /version/a#b",
        "GET /version/%0A",
        "GET /version/%7F",
        "GET /version/%1b",
        "GET /version/%C2%85",
        "GET /version/%FF",
        "GET /version/%C0%AF",
        "GET /version/%ED%A0%80",
        "GET /version/a b",
        "GET /version/a\tb",
        "GET /version/a\u{7f}",
        "GET /version/é",
    ]);
    assert!(
        ApiRequest::parse("GET", "/version/a?b", None).is_err(),
        "a raw `?` in a path"
    );
}

#[test]
fn names_may_hold_what_a_path_segment_may() {
    assert_accepted(&[
        (
            "GET /apis/rbac.authorization.k8s.io/v1/clusterroles/a%3Ab%20c%3Bd%3Fe%23f",
            "get rbac.authorization.k8s.io/v1 clusterroles name=a:b c;d?e#f",
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/a:b%20c%3Bd%3Fe%23f",
        ),
        (
            "GET /api/v1/nodes/%C3%A9%2B+",
            "get v1 nodes name=é++",
            "/api/v1/nodes/%C3%A9++",
        ),
        (
            "GET /api/v1/nodes/...",
            "get v1 nodes name=...",
            "/api/v1/nodes/...",
        ),
        (
            "GET /api/v1/nodes/UPPER_case~!$&'()*,=@",
            "get v1 nodes name=UPPER_case~!$&'()*,=@",
            "/api/v1/nodes/UPPER_case~!$&'()*,=@",
        ),
        (
            "GET /api/v1/nodes/%22%3C%3E%5E%60%7B%7C%7D",
            "get v1 nodes name=\"<>^`{|}",
            "/api/v1/nodes/%22%3C%3E%5E%60%7B%7C%7D",
        ),
        (
            "GET /api/v1/nodes/\"<>^`{|}",
            "get v1 nodes name=\"<>^`{|}",
            "/api/v1/nodes/%22%3C%3E%5E%60%7B%7C%7D",
        ),
    ]);
}

#[test]
fn groups_versions_resources_and_subresources_are_tokens() {
    for place in [
        "/apis/@/v1/foos",
        "/apis/g/@/foos",
        "/api/@/pods",
        "/api/v1/@",
        "/api/v1/namespaces/d/@",
        "/api/v1/nodes/n/@",
    ] {
        for token in ["a", "0", "a.b-c", "a-", "9z."] {
            let line = format!("GET {}", place.replace('@', token));
            assert!(parse(&line).is_ok(), "{line}");
        }
        for wrong in ["A", "-a", ".a", "a_b", "a%20", "%C3%A9", "a:b", "*", "a%00"] {
            let line = format!("GET {}", place.replace('@', wrong));
            assert!(parse(&line).is_err(), "{line}");
        }
    }
}

#[test]
fn namespaces_are_dns_labels() {
    let longest = "n".repeat(63);
    for namespace in ["d", "0", "kube-system", "a--b", longest.as_str()] {
        for line in [
            format!("GET /api/v1/namespaces/{namespace}/pods"),
            format!("GET /api/v1/namespaces/{namespace}"),
        ] {
            assert!(parse(&line).is_ok(), "{line}");
        }
    }
    let too_long = "n".repeat(64);
    for namespace in [
        "-d",
        "d-",
        "a.b",
        "D",
        "a_b",
        "%2A",
        "*",
        "d%20",
        too_long.as_str(),
    ] {
        for line in [
            format!("GET /api/v1/namespaces/{namespace}/pods"),
            format!("GET /api/v1/namespaces/{namespace}"),
            format!("GET /api/v1/watch/namespaces/{namespace}/pods"),
        ] {
            assert_malformed(&[&line]);
        }
    }
}

#[test]
fn eight_segments_are_the_most_outside_a_proxy() {
    assert_eq!(MAX_SEGMENTS, 8);
    accepted("GET /apis/g/v1/namespaces/d/foos/y/status");
    assert_malformed(&[
        "GET /apis/g/v1/namespaces/d/foos/y/status/z",
        "GET /apis/g/v1/foos/y/status/z",
    ]);
    accepted("GET /1/2/3/4/5/6/7/8");
    assert_malformed(&["GET /1/2/3/4/5/6/7/8/9"]);

    let tail = |count: usize| format!("GET /api/v1/nodes/n/proxy{}", "/x".repeat(count));
    accepted(&tail(MAX_PROXY_SEGMENTS - 5));
    assert_malformed(&[&tail(MAX_PROXY_SEGMENTS - 4)]);
}

#[test]
fn the_path_has_a_longest_length_however_it_is_encoded() {
    let base = "/api/v1/nodes/";
    for letter in ["a", "%61", "%C3%A9"] {
        let bytes = if letter.len() == 6 { 2 } else { 1 };
        let room = (MAX_PATH_BYTES - base.len()) / bytes;
        accepted(&format!("GET {base}{}", letter.repeat(room)));
        assert_malformed(&[&format!("GET {base}{}", letter.repeat(room + 1))]);
    }
}

#[test]
fn the_query_has_a_longest_length_however_it_is_encoded() {
    let key = "continue";
    for letter in ["a", "%61", "+"] {
        let line = |count: usize| format!("GET /api/v1/pods?{key}={}", letter.repeat(count));
        accepted(&line(MAX_QUERY_BYTES - key.len()));
        assert_malformed(&[&line(MAX_QUERY_BYTES - key.len() + 1)]);
    }
    // What is dropped does not count, but is not read without end either.
    assert_malformed(&[&format!("GET /api/v1/pods?x={}", "a".repeat(3 * MAX_QUERY_BYTES))]);
}

#[test]
fn the_query_has_a_highest_number_of_pairs() {
    let line = |count: usize| {
        format!(
            "GET /api/v1/namespaces/d/pods/p/exec?{}",
            vec!["command=x"; count].join("&")
        )
    };
    assert_eq!(
        accepted(&line(MAX_QUERY_PAIRS)).query_values("command").count(),
        MAX_QUERY_PAIRS
    );
    assert_malformed(&[&line(MAX_QUERY_PAIRS + 1)]);
    assert_malformed(&[&format!("GET /api?{}", "&".repeat(MAX_QUERY_PAIRS))]);
}

#[test]
fn queries_are_decoded_strictly() {
    assert_malformed(&[
        "GET /api/v1/pods?continue=a%",
        "GET /api/v1/pods?continue=a%4",
        "GET /api/v1/pods?continue=%zz",
        "GET /api/v1/pods?%zz=1",
        "GET /api/v1/pods?continue=%FF",
        "GET /api/v1/pods?%FF=1",
        "GET /api/v1/pods?continue=%00",
        "GET /api/v1/pods?x=%00",
        "GET /api/v1/pods?continue=%0A",
        "GET /api/v1/pods?continue=é",
        "GET /api/v1/pods?continue=a b",
        "GET /api/v1/namespaces/d/pods/p/exec?command=%00",
        "GET /api/v1/pods?;",
    ]);
}

#[test]
fn queries_are_sorted_and_encoded_in_one_way() {
    assert_accepted(&[
        (
            "GET /api/v1/pods?limit=5&labelSelector=app+in+(a,b)&continue=%61%3D&",
            "list v1 pods",
            "/api/v1/pods?continue=a%3D&labelSelector=app%20in%20%28a%2Cb%29&limit=5",
        ),
        (
            "GET /api/v1/pods?&&limit=5&&",
            "list v1 pods",
            "/api/v1/pods?limit=5",
        ),
        ("GET /api/v1/pods?", "list v1 pods", "/api/v1/pods"),
        (
            "GET /api/v1/pods?l%69mit=5",
            "list v1 pods",
            "/api/v1/pods?limit=5",
        ),
        (
            "GET /api/v1/pods?continue=a%3Bb",
            "list v1 pods",
            "/api/v1/pods?continue=a%3Bb",
        ),
        (
            "GET /api/v1/pods?continue=a?b=c",
            "list v1 pods",
            "/api/v1/pods?continue=a%3Fb%3Dc",
        ),
    ]);
}

#[test]
fn no_key_stands_twice() {
    assert_malformed(&[
        "GET /api/v1/pods?limit=1&limit=1",
        "GET /api/v1/pods?limit=1&l%69mit=2",
        "GET /api/v1/pods?unknown=1&unknown=2",
        "GET /api/v1/pods?=1&=2",
        "GET /api?timeout=1s&timeout=1s",
    ]);
    accepted("GET /api/v1/pods?command=1&command=2&ports=1&ports=2&dryRun=1&dryRun=2");
}

#[test]
fn unknown_keys_are_dropped_with_one_short_warning() {
    let keys: Vec<String> = (0..20).map(|number| format!("key{number}=v")).collect();
    let request = accepted(&format!(
        "GET /api/v1/pods?{}&limit=1&%0Aevil%22={}",
        keys.join("&"),
        "v"
    ));
    assert_eq!(request.path_and_query(), "/api/v1/pods?limit=1");
    let [warning] = request.warnings() else {
        panic!("{:?}", request.warnings())
    };
    assert!(
        warning.contains("`key0`, `key1`") && warning.ends_with("`key7` and 13 more"),
        "{warning}"
    );

    let long = accepted(&format!("GET /api/v1/pods?%0A%22%5C%C3%A9{}", "x".repeat(500)));
    let [warning] = long.warnings() else {
        panic!("{:?}", long.warnings())
    };
    assert!(
        warning.ends_with(&format!(" `????{}`", "x".repeat(60))),
        "{warning}"
    );
    assert_eq!(accepted("GET /api/v1/pods?limit=1").warnings(), [""; 0]);
}

#[test]
fn messages_show_hostile_text_escaped_and_cut() {
    let message = refused(&format!("GET /version/%00{}", "x".repeat(1000))).message;
    assert!(message.len() < 200, "{message}");
    let message = refused("\u{1b}[31m /version").message;
    assert!(message.contains("\\u{1b}[31m"), "{message}");
    assert_eq!(shown(&"x".repeat(64)), format!("\"{}\"", "x".repeat(64)));
    assert_eq!(shown(&"x".repeat(65)), format!("\"{}\"...", "x".repeat(64)));
}
