//! The golden vectors: requests that kube-apiserver reads in a way a proxy would not expect. Each row is one
//! that a proxy has been walked around with, or would have been.

use crate::reason::Reason;
use crate::request_info::tests::{describe, parse};

/// What the guard makes of a vector.
enum Guard {
    /// Taken for this, and sent upstream as this.
    Is(&'static str, &'static str),
    /// 400.
    Malformed,
    /// 405.
    MethodNotAllowed,
}

use Guard::{Is, Malformed, MethodNotAllowed};

/// (what kube-apiserver does, request lines with what the guard does)
const VECTORS: &[(&str, &[(&str, Guard)])] = &[
    (
        "an encoded slash divides segments: lists secrets",
        &[
            ("GET /api/v1/namespaces/default%2Fsecrets", Malformed),
            ("GET /api/v1/namespaces/default%2fsecrets", Malformed),
            ("GET /api%2Fv1%2Fsecrets", Malformed),
            ("GET /api/v1/namespaces/default/secrets%2F", Malformed),
        ],
    ),
    (
        "letters may be encoded: lists secrets",
        &[(
            "GET /%61pi/v1/namespaces/default/%73ecrets",
            Is("list v1 secrets ns=default", "/api/v1/namespaces/default/secrets"),
        )],
    ),
    (
        "an empty namespace is all namespaces: lists secrets everywhere",
        &[
            ("GET /api/v1/namespaces//secrets", Malformed),
            ("GET /apis/g.example/v1/namespaces//foos", Malformed),
        ],
    ),
    (
        "slashes at the end do not count",
        &[
            (
                "GET /api/v1/namespaces/default/secrets/",
                Is("list v1 secrets ns=default", "/api/v1/namespaces/default/secrets"),
            ),
            ("GET /api/v1/namespaces/default/secrets//", Malformed),
            (
                "GET /api/v1/namespaces/default/secrets/db/",
                Is(
                    "get v1 secrets ns=default name=db",
                    "/api/v1/namespaces/default/secrets/db",
                ),
            ),
        ],
    ),
    (
        "404, but classified as a resource for authorization",
        &[
            ("GET //api/v1/namespaces/default/secrets", Malformed),
            ("GET /api/v1//namespaces/default/secrets", Malformed),
            ("GET /apis//v1/foos", Malformed),
        ],
    ),
    (
        "dots are literal names",
        &[
            ("GET /api/v1/namespaces/default/pods/../secrets", Malformed),
            ("GET /api/v1/namespaces/default/pods/%2e%2e/secrets", Malformed),
            ("GET /api/v1/namespaces/default/pods/%2E./secrets", Malformed),
            ("GET /api/v1/namespaces/default/./secrets", Malformed),
            ("GET /api/v1/namespaces/default/%2e/secrets", Malformed),
        ],
    ),
    (
        "control characters and spaces are part of a literal namespace: an empty list",
        &[
            ("GET /api/v1/namespaces/default%00/secrets", Malformed),
            ("GET /api/v1/namespaces/default%20/secrets", Malformed),
            ("GET /api/v1/namespaces/default/secrets%20", Malformed),
        ],
    ),
    (
        "custom resources: what follows is ignored, the object is given",
        &[
            ("GET /apis/g.example/v1/namespaces/d/foos/y//anything", Malformed),
            ("GET /apis/g.example/v1/namespaces/d/foos/y/status/zzz", Malformed),
        ],
    ),
    (
        "custom resources: /watch/ streams whatever the method",
        &[
            ("POST /apis/g.example/v1/watch/foos", MethodNotAllowed),
            ("DELETE /apis/g.example/v1/watch/foos", MethodNotAllowed),
            (
                "GET /apis/g.example/v1/watch/foos",
                Is("watch g.example/v1 foos", "/apis/g.example/v1/foos?watch=true"),
            ),
        ],
    ),
    (
        "HEAD is get: 405 for built-in kinds, 200 for custom resources",
        &[
            ("HEAD /api/v1/namespaces/default/secrets/db", MethodNotAllowed),
            ("HEAD /apis/g.example/v1/namespaces/d/foos/y", MethodNotAllowed),
        ],
    ),
    (
        "watch of one object by its path is a plain get",
        &[(
            "GET /api/v1/namespaces/default/secrets/db?watch=true",
            Is(
                "get v1 secrets ns=default name=db",
                "/api/v1/namespaces/default/secrets/db",
            ),
        )],
    ),
    (
        "the first of two values wins",
        &[
            ("GET /api/v1/secrets?watch=false&watch=true", Malformed),
            ("GET /api/v1/secrets?watch=true&watch=false", Malformed),
        ],
    ),
    (
        "a pair with a semicolon is dropped: list",
        &[
            ("GET /api/v1/secrets?limit=1;watch=true", Malformed),
            ("GET /api/v1/secrets?watch=true;limit=1", Malformed),
        ],
    ),
    (
        "a pair with a bad escape is dropped, the rest is kept",
        &[
            ("GET /api/v1/secrets?watch=true%zz", Malformed),
            ("GET /api/v1/secrets?a=%zz&watch=true", Malformed),
        ],
    ),
    (
        "watch for authorization, then 400",
        &[("GET /api/v1/secrets?watch=true&limit=abc", Malformed)],
    ),
    (
        "keys are case-sensitive: list",
        &[(
            "GET /api/v1/secrets?Watch=true",
            Is("list v1 secrets", "/api/v1/secrets"),
        )],
    ),
    (
        "the first selector wins",
        &[(
            "GET /api/v1/secrets?fieldSelector=metadata.name=a&fieldSelector=metadata.name=b",
            Malformed,
        )],
    ),
    (
        "absolute form: the path is used, the host ignored (the listener checks the authority, and hands on the path)",
        &[("GET https://evil/api/v1/secrets", Malformed)],
    ),
    (
        "get of nodes/proxy runs a command in a pod (policy refuses the subresource)",
        &[(
            "GET /api/v1/nodes/n1/proxy/run/ns/pod/c?cmd=id",
            Is(
                "get v1 nodes/proxy name=n1",
                "/api/v1/nodes/n1/proxy/run/ns/pod/c",
            ),
        )],
    ),
    (
        "the rest of a proxied path is opaque (policy refuses the subresource)",
        &[
            (
                "GET /api/v1/namespaces/d/services/https:svc:443/proxy/a/../b",
                Malformed,
            ),
            (
                "GET /api/v1/namespaces/d/services/https:svc:443/proxy/a/b",
                Is(
                    "get v1 services/proxy ns=d name=https:svc:443",
                    "/api/v1/namespaces/d/services/https:svc:443/proxy/a/b",
                ),
            ),
        ],
    ),
    (
        "not a resource request, or 405",
        &[
            ("CONNECT example:443", MethodNotAllowed),
            ("OPTIONS *", MethodNotAllowed),
            ("TRACE /api/v1/secrets", MethodNotAllowed),
            ("OPTIONS /api/v1/secrets", MethodNotAllowed),
        ],
    ),
];

#[test]
fn every_golden_vector_is_read_strictly_or_refused() {
    for (upstream, lines) in VECTORS {
        for (line, guard) in *lines {
            let parsed = parse(line);
            let reason = parsed.as_ref().err().map(|refusal| refusal.reason);
            match guard {
                Malformed => assert_eq!(reason, Some(Reason::RequestMalformed), "{line} ({upstream})"),
                MethodNotAllowed => assert_eq!(reason, Some(Reason::MethodNotAllowed), "{line} ({upstream})"),
                Is(what, target) => {
                    let request = parsed.unwrap_or_else(|refusal| panic!("{line} ({upstream}): {refusal}"));
                    assert_eq!(describe(&request), *what, "{line} ({upstream})");
                    assert_eq!(request.path_and_query(), *target, "{line} ({upstream})");
                }
            }
        }
    }
}

#[test]
fn what_the_api_server_would_ignore_is_dropped_with_a_warning() {
    for line in [
        "GET /api/v1/secrets?Watch=true",
        "GET /api/v1/namespaces/d/secrets/db?watch=true",
    ] {
        let request = parse(line).unwrap();
        let [warning] = request.warnings() else {
            panic!("{line}: {:?}", request.warnings())
        };
        assert!(
            warning.to_ascii_lowercase().contains("`watch`"),
            "{line}: {warning}"
        );
    }
}
