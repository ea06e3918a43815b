//! The golden vectors: requests that kube-apiserver reads in a way a proxy would not expect. The guard refuses them, or sends
//! what it understood; over both protocols the same.

use anyhow::Result;

use crate::arena::Expect::{self, Reaches, Refused};
use crate::arena::{Arena, Ask, BOTH, Protocol, plain};

const MALFORMED: Expect = Refused(400, "RequestMalformed");
const METHOD: Expect = Refused(405, "MethodNotAllowed");
const MASKED: Expect = Refused(403, "MaskingRequired");
const STREAM: Expect = Refused(403, "ConnectRefused");

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const MAP: &str = "/api/v1/namespaces/default/configmaps/kube-root-ca.crt";

const VECTORS: &[(&str, Expect)] = &[
    ("GET /api/v1/namespaces/default%2Fsecrets", MALFORMED),
    ("GET /api/v1/namespaces/default%2fconfigmaps", MALFORMED),
    ("GET /api%2Fv1%2Fsecrets", MALFORMED),
    ("GET /api/v1/namespaces/default/secrets%2F", MALFORMED),
    ("GET /%61pi/v1/namespaces/default/%73ecrets", MASKED),
    (
        "GET /%61pi/v1/namespaces/default/%63onfigmaps",
        Reaches(200, MAPS),
    ),
    ("GET /api/v1/namespaces//secrets", MALFORMED),
    ("GET /api/v1/namespaces//configmaps", MALFORMED),
    ("GET /apis/g.example/v1/namespaces//foos", MALFORMED),
    ("GET /api/v1/namespaces/default/secrets/", MASKED),
    ("GET /api/v1/namespaces/default/configmaps/", Reaches(200, MAPS)),
    ("GET /api/v1/namespaces/default/configmaps//", MALFORMED),
    ("GET /api/v1/namespaces/default/secrets/db/", MASKED),
    ("GET //api/v1/namespaces/default/configmaps", MALFORMED),
    ("GET /api/v1//namespaces/default/configmaps", MALFORMED),
    ("GET /apis//v1/foos", MALFORMED),
    ("GET /api/v1/namespaces/default/pods/../secrets", MALFORMED),
    ("GET /api/v1/namespaces/default/pods/%2e%2e/secrets", MALFORMED),
    ("GET /api/v1/namespaces/default/./configmaps", MALFORMED),
    ("GET /api/v1/namespaces/default%00/configmaps", MALFORMED),
    ("GET /api/v1/namespaces/default%20/configmaps", MALFORMED),
    ("GET /apis/g.example/v1/namespaces/d/foos/y//anything", MALFORMED),
    ("GET /apis/g.example/v1/namespaces/d/foos/y/status/zzz", MALFORMED),
    ("POST /apis/g.example/v1/watch/foos", METHOD),
    ("DELETE /apis/g.example/v1/watch/foos", METHOD),
    ("HEAD /api/v1/namespaces/default/secrets/db", METHOD),
    ("HEAD /api/v1/namespaces/default/configmaps", METHOD),
    ("HEAD /apis/g.example/v1/namespaces/d/foos/y", METHOD),
    ("GET /api/v1/namespaces/default/secrets/db?watch=true", MASKED),
    (
        "GET /api/v1/namespaces/default/configmaps/kube-root-ca.crt?watch=true",
        Reaches(200, MAP),
    ),
    ("GET /api/v1/configmaps?watch=false&watch=true", MALFORMED),
    ("GET /api/v1/configmaps?watch=true&watch=false", MALFORMED),
    ("GET /api/v1/configmaps?limit=1;watch=true", MALFORMED),
    ("GET /api/v1/configmaps?watch=true;limit=1", MALFORMED),
    ("GET /api/v1/configmaps?watch=true%zz", MALFORMED),
    ("GET /api/v1/configmaps?a=%zz&watch=true", MALFORMED),
    ("GET /api/v1/configmaps?watch=true&limit=abc", MALFORMED),
    (
        "GET /api/v1/namespaces/default/configmaps?Watch=true",
        Reaches(200, MAPS),
    ),
    (
        "GET /api/v1/configmaps?fieldSelector=metadata.name=a&fieldSelector=metadata.name=b",
        MALFORMED,
    ),
    ("GET /api/v1/nodes/n1/proxy/run/ns/pod/c?cmd=id", STREAM),
    (
        "GET /api/v1/namespaces/d/services/https:svc:443/proxy/a/../b",
        MALFORMED,
    ),
    (
        "GET /api/v1/namespaces/d/services/https:svc:443/proxy/a/b",
        STREAM,
    ),
    ("POST /api/v1/namespaces/d/pods/a/exec?command=id", STREAM),
    ("GET /api/v1/namespaces/d/pods/a/attach", STREAM),
    ("POST /api/v1/namespaces/d/pods/a/portforward", STREAM),
    ("OPTIONS /api/v1/configmaps", METHOD),
    ("OPTIONS *", METHOD),
    ("TRACE /api/v1/configmaps", METHOD),
    ("get /api/v1/configmaps", METHOD),
    ("PROPFIND /api/v1/configmaps", METHOD),
];

#[test]
fn every_golden_vector_is_refused_or_read_as_the_api_server_reads_it() -> Result<()> {
    let arena = Arena::open("vectors")?;
    for (line, expect) in VECTORS {
        for protocol in BOTH {
            arena.check(protocol, &plain(line), *expect)?;
        }
    }
    arena.close()
}

#[test]
fn the_authority_is_the_clusters_or_nobodys() -> Result<()> {
    let arena = Arena::open("authority")?;
    let own = format!("GET https://{}{MAP}", arena.probe.server());
    arena.check(Protocol::H1, &plain(&own), Reaches(200, MAP))?;
    for line in [
        "GET https://evil.example/api/v1/secrets",
        "GET http://evil.example/api/v1/configmaps",
        "GET https://evil.example@127.0.0.1/api/v1/configmaps",
        "CONNECT evil.example:443",
        "CONNECT 127.0.0.1:6443",
    ] {
        let expect = if line.starts_with("CONNECT 127") {
            METHOD
        } else {
            MALFORMED
        };
        arena.check(Protocol::H1, &plain(line), expect)?;
    }
    arena.close()
}

#[test]
fn a_query_of_ten_thousand_pairs_is_refused() -> Result<()> {
    let arena = Arena::open("pairs")?;
    let twice = format!("GET /api/v1/configmaps?{}", "limit&".repeat(10_000));
    let unknown: String = (0..10_000).map(|n| format!("{n:x}&")).collect();
    let unknown = format!("GET /api/v1/configmaps?{unknown}");
    for protocol in BOTH {
        let ask = Ask {
            line: &twice,
            headers: &[],
            body: b"",
        };
        arena.check(protocol, &ask, MALFORMED)?;
        let ask = Ask {
            line: &unknown,
            ..ask
        };
        arena.check(protocol, &ask, MALFORMED)?;
    }
    arena.close()
}
