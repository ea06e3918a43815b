//! What the variables hold of requests and principals.

use std::time::SystemTime;

use crate::body::Body;
use crate::policy::condition::expression::Expression;
use crate::policy::condition::{Fault, Predicate, Schema};
use crate::policy::evidence::Evidence;
use crate::policy::facts::Facts;
use crate::principal::Principal;
use crate::request_info::ApiRequest;

fn asked(line: &str, body: &str, principal: &Principal, source: &str) -> Result<bool, Fault> {
    let expression =
        Expression::compile(source, &Schema::default()).unwrap_or_else(|error| panic!("{source}: {error}"));
    let (method, target) = line.split_once(' ').unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let request = ApiRequest::parse(method, path, Some(query)).unwrap();
    let request = match body {
        "" => request,
        body => {
            let body = Body::read(&request, Some("application/json"), body.as_bytes()).unwrap();
            request.with_body(body).unwrap()
        }
    };
    let facts = Facts::at(SystemTime::UNIX_EPOCH);
    let evidence = Evidence::new(principal, request.info(), Some(&request), &facts);
    expression.holds(&evidence, request.info().verb)
}

#[test]
fn options_are_those_of_the_query_and_of_the_body_of_a_delete() {
    let pods = "/api/v1/namespaces/shop/pods";
    let anybody = Principal::named("a");
    for (line, body, source) in [
        (
            format!("GET {pods}?labelSelector=app%3Dweb&limit=5"),
            "",
            "request.options.labelSelector == 'app=web' && request.options.limit == 5 && !has(request.options.watch)",
        ),
        (
            format!("GET {pods}?resourceVersion=7&resourceVersionMatch=Exact"),
            "",
            "request.options.resourceVersion == '7' && !has(request.options.preconditions)",
        ),
        (
            format!("GET {pods}/a/log?container=main&follow=1&tailLines=10"),
            "",
            "request.options.container == 'main' && request.options.follow && request.options.tailLines < 11",
        ),
        (
            format!("GET {pods}/a/exec?command=ls&command=-l"),
            "",
            "request.options.command == ['ls', '-l']",
        ),
        (
            format!("PATCH {pods}/a?fieldManager=me&force=true&dryRun=All"),
            "",
            "request.options.fieldManager == 'me' && request.options.force && request.options.dryRun == ['All']",
        ),
        (
            format!("DELETE {pods}/a?gracePeriodSeconds=0&uid=u"),
            "",
            "request.options.gracePeriodSeconds == 0 && request.options.preconditions == {'uid': 'u'}",
        ),
        (
            format!("DELETE {pods}/a?gracePeriodSeconds=0"),
            r#"{"kind":"DeleteOptions","apiVersion":"v1","propagationPolicy":"Orphan","preconditions":{"uid":"u"}}"#,
            "request.options.gracePeriodSeconds == 0 && request.options.propagationPolicy == 'Orphan' && \
             request.options.preconditions.uid == 'u' && !has(request.options.dryRun)",
        ),
        (format!("GET {pods}"), "", "request.options == {}"),
    ] {
        assert_eq!(asked(&line, body, &anybody, source), Ok(true), "{line} {source}");
    }
    let unsaid = asked(
        &format!("GET {pods}"),
        "",
        &anybody,
        "request.options.limit < 500",
    );
    assert_eq!(unsaid, Err(Fault::Missing));
}

#[test]
fn groups_and_claims_are_there_once_an_identity_is() {
    let line = "GET /api/v1/nodes";
    let anybody = Principal::named("a");
    let somebody = Principal {
        groups: Some(vec!["sre".to_owned()]),
        claims: Some([("team".to_owned(), vec!["shop".to_owned(), "web".to_owned()])].into()),
        ..Principal::named("a")
    };
    for source in [
        "has(principal.claims)",
        "has(principal.groups)",
        "has(principal.namespace)",
    ] {
        assert_eq!(asked(line, "", &anybody, source), Ok(false), "{source}");
    }
    assert_eq!(
        asked(line, "", &anybody, "'sre' in principal.groups"),
        Err(Fault::Missing)
    );
    let source = "'sre' in principal.groups && 'web' in principal.claims.team && !has(principal.claims.mail)";
    assert_eq!(asked(line, "", &somebody, source), Ok(true));
}
