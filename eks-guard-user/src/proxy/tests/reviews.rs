//! Answers about the agent's own rights: rewritten when they can be read, refused when they cannot.

use std::time::Duration;

use eks_guard_core::discovery::Discovery;
use http::Response;
use serde_json::Value;

use crate::proxy::Limits;
use crate::proxy::tests::{Rig, post, refusal};
use crate::testing::{Answer, FakeBody, Protocol, json};

const SERVED: &str = r#"{"kind":"APIGroupDiscoveryList","items":[{"metadata":{"name":"authorization.k8s.io"},"versions":[
    {"version":"v1","resources":[{"resource":"selfsubjectaccessreviews","scope":"Cluster","verbs":["create"]}]}]}]}"#;
const REVIEWS: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
const QUESTION: &str = r#"{"kind":"SelfSubjectAccessReview","apiVersion":"authorization.k8s.io/v1",
    "spec":{"resourceAttributes":{"verb":"delete","resource":"namespaces","name":"shop"}}}"#;
const YES: &str = r#"{"kind":"SelfSubjectAccessReview","apiVersion":"authorization.k8s.io/v1",
    "spec":{"resourceAttributes":{"verb":"delete","resource":"namespaces","name":"shop"}},"status":{"allowed":true}}"#;

fn served() -> Discovery {
    Discovery::read([SERVED.as_bytes()]).expect("it is a list")
}

#[tokio::test]
async fn a_yes_about_the_guard_is_no_yes_about_the_agent() {
    let rig = Rig::start(|_| json(YES)).await;
    rig.proxy.served.learn(served());
    let answer = rig.call(Protocol::H2, post(REVIEWS, QUESTION)).await;
    let answer: Value = serde_json::from_slice(answer.body()).expect("it is JSON");
    assert_eq!(answer["status"]["allowed"], false, "{answer}");
}

#[tokio::test]
async fn an_answer_without_end_is_not_waited_for() {
    let (pieces, body) = FakeBody::pieces();
    let body = std::sync::Mutex::new(Some(body));
    let limits = Limits {
        response_head: Duration::from_millis(300),
        ..Limits::default()
    };
    let rig = Rig::with(Protocol::H2, limits, move |_| {
        let body = body.lock().expect("no test panics with it").take();
        body.map_or(Answer::Never, |body| {
            let mut response = Response::new(body);
            let json = "application/json".parse().expect("a header's value");
            response.headers_mut().insert("content-type", json);
            Answer::Reply(response)
        })
    })
    .await;
    rig.proxy.served.learn(served());
    let refused = rig.call(Protocol::H2, post(REVIEWS, QUESTION)).await;
    let (code, reason, ..) = refusal(&refused);
    assert_eq!((code, reason.as_str()), (502, "UpstreamReply"));
    drop(pieces);
}
