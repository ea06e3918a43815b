//! What the API server does not serve is refused, what it has just begun to serve is found, and it is not asked too often.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use eks_guard_core::discovery;
use eks_guard_core::record::Stage;
use tokio::time::Instant;

use crate::proxy::Limits;
use crate::proxy::tests::{BOTH, PODS, Rig, SERVED, empty_list, get, only, refusal};
use crate::testing::{Arrived, FakeApiServer, Protocol, json, status};

const WIDGETS: &str = "/apis/example.com/v1/namespaces/default/widgets";
const SERVED_LATER: &str = r#"{"kind":"APIGroupDiscoveryList","items":[{"metadata":{"name":"example.com"},"versions":[
    {"version":"v1","resources":[{"resource":"widgets","scope":"Namespaced","verbs":["list"]}]}]}]}"#;
const NO_MORE: &str = r#"{"kind":"APIGroupDiscoveryList","items":[]}"#;

fn asks(arrived: &[Arrived]) -> usize {
    arrived
        .iter()
        .filter(|it| discovery::PATHS.contains(&it.target.as_str()))
        .count()
}

#[tokio::test]
async fn what_is_not_served_is_not_asked_for() {
    for protocol in BOTH {
        let rig = Rig::start(|arrived| match arrived.target.as_str() {
            "/api" => json(SERVED),
            "/apis" => json(NO_MORE),
            _ => empty_list(arrived),
        })
        .await;
        let refused = rig.call(protocol, get(WIDGETS)).await;
        let (code, reason, ..) = refusal(&refused);
        assert_eq!((code, reason.as_str()), (404, "ResourceUnknown"));
        let arrived = rig.api.arrived();
        assert_eq!((arrived.len(), asks(&arrived)), (2, 2), "{arrived:#?}");
        assert!(arrived.iter().all(|it| it.header("accept") == discovery::ACCEPT));
        let events = rig.recorder.wait_for(Stage::Outcome, 1).await;
        assert_eq!(only(&events).reason.as_deref(), Some("ResourceUnknown"));
    }
}

#[tokio::test]
async fn what_was_only_just_defined_is_found() {
    let is_defined = Arc::new(AtomicBool::new(false));
    let defined = Arc::clone(&is_defined);
    let rig = Rig::start(move |arrived| match arrived.target.as_str() {
        "/api" => json(SERVED),
        "/apis" if defined.load(Ordering::Relaxed) => json(SERVED_LATER),
        "/apis" => json(NO_MORE),
        _ => empty_list(arrived),
    })
    .await;
    let mut client = rig.client(Protocol::H2).await;
    assert_eq!(client.call(get(WIDGETS)).await.status(), 404);
    is_defined.store(true, Ordering::Relaxed);
    // No rule allows it: it is known now, and policy has been asked.
    assert_eq!(client.call(get(WIDGETS)).await.status(), 403);
    assert_eq!(client.call(get(PODS)).await.status(), 200);
}

#[tokio::test]
async fn an_api_server_that_does_not_say_what_it_serves_gets_no_request() {
    let answers = [
        status(403, "application/json", "{}"),
        status(200, "application/json", r#"{"kind":"APIGroupList"}"#),
        status(200, "text/plain", "hello"),
    ];
    let next = AtomicUsize::new(0);
    let answers = std::sync::Mutex::new(answers.map(Some));
    let api = FakeApiServer::start(Protocol::H2, move |_| {
        let index = next.fetch_add(1, Ordering::Relaxed);
        let mut answers = answers.lock().expect("no test panics with it");
        answers
            .get_mut(index)
            .and_then(Option::take)
            .unwrap_or_else(|| json("{}"))
    })
    .await;
    let endpoint = api.endpoint.clone();
    let rig = Rig::before(api, endpoint, Limits::default()).await;
    for _ in 0..3 {
        let refused = rig.call(Protocol::H1, get(PODS)).await;
        let (code, reason, ..) = refusal(&refused);
        assert_eq!((code, reason.as_str()), (502, "UpstreamUnreachable"));
    }
    let arrived = rig.api.arrived();
    assert_eq!(arrived.len(), asks(&arrived), "{arrived:#?}");
}

#[tokio::test]
async fn many_who_ask_for_what_is_not_served_wait_for_one_answer() {
    let rig = Rig::start(|arrived| match arrived.target.as_str() {
        "/api" => json(SERVED),
        _ => json(NO_MORE),
    })
    .await;
    let began = Instant::now();
    let (first, second) = (rig.client(Protocol::H2).await, rig.client(Protocol::H2).await);
    let calls = [first, second].map(|mut client| async move {
        for _ in 0..2 {
            assert_eq!(client.call(get(WIDGETS)).await.status(), 404);
        }
    });
    let [first, second] = calls;
    tokio::join!(first, second);
    let seconds = usize::try_from(began.elapsed().as_secs()).expect("not for ever");
    let asked = asks(&rig.api.arrived()) / discovery::PATHS.len();
    assert!((2..=seconds + 1).contains(&asked), "{asked} times in {seconds} s");
    assert!(
        began.elapsed() >= Duration::from_secs(1),
        "the second round waits for its turn"
    );
}
