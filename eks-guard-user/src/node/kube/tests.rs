//! Lists in pages, watches that go on, and an API server that forgets, against a server in this process.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::Response;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use crate::node::kube::{Change, Object, Pod, Resource, reflect};
use crate::testing::{Answer, Arrived, FakeApiServer, FakeBody, Protocol, eventually, json, status};

fn pod(name: &str, version: u32) -> String {
    format!(
        r#"{{"metadata":{{"name":"{name}","namespace":"shop","uid":"u-{name}","resourceVersion":"{version}"}},"spec":{{"nodeName":"a"}}}}"#
    )
}

fn list(pods: &[String], version: u32, next: &str) -> Answer {
    let items = pods.join(",");
    json(&format!(
        r#"{{"metadata":{{"resourceVersion":"{version}","continue":"{next}"}},"items":[{items}]}}"#
    ))
}

fn event(kind: &str, object: &str) -> Bytes {
    Bytes::from(format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n"))
}

type Feed = mpsc::Sender<Result<Bytes, std::io::Error>>;

/// A watch that a test feeds.
fn fed(feeds: &Mutex<Vec<Feed>>) -> Answer {
    let (feed, body) = FakeBody::pieces();
    feeds.lock().unwrap().push(feed);
    Answer::Reply(Response::new(body))
}

async fn start(
    handler: impl Fn(&Arrived) -> Answer + Send + Sync + 'static,
) -> (FakeApiServer, mpsc::Receiver<Change<Pod>>, JoinHandle<()>) {
    let api = FakeApiServer::start(Protocol::H2, handler).await;
    let upstream = api.upstream();
    let (changes_tx, changes) = mpsc::channel(16);
    let task = TaskTracker::new().spawn(async move {
        reflect(&upstream, &Resource::pods_of("a.b"), |change| change, &changes_tx).await;
    });
    (api, changes, task)
}

fn names(change: Change<Pod>) -> Vec<String> {
    let name = |pod: Pod| pod.metadata().name.clone();
    match change {
        Change::Listed(pods) => pods.into_iter().map(name).collect(),
        Change::Set(pod) => vec![format!("+{}", name(pod))],
        Change::Gone(pod) => vec![format!("-{}", name(pod))],
    }
}

async fn next(changes: &mut mpsc::Receiver<Change<Pod>>) -> Vec<String> {
    names(eventually("a change", changes.recv()).await.unwrap())
}

#[tokio::test]
async fn pages_are_joined_and_the_watch_goes_on_from_the_last_version() {
    let feeds = Arc::new(Mutex::new(Vec::new()));
    let served = Arc::clone(&feeds);
    let (api, mut changes, _task) = start(move |request| {
        if request.target.contains("watch=true") {
            fed(&served)
        } else if request.target.contains("continue=more") {
            list(&[pod("b", 2)], 7, "")
        } else {
            list(&[pod("a", 1)], 7, "more")
        }
    })
    .await;
    assert_eq!(next(&mut changes).await, ["a", "b"]);
    let feed = eventually("a watch", first_feed(&feeds, 0)).await;
    feed.send(Ok(event("ADDED", &pod("c", 8)))).await.unwrap();
    assert_eq!(next(&mut changes).await, ["+c"]);
    // An event in two pieces, then a bookmark, and the server ends the watch.
    let (one, two) = event("DELETED", &pod("a", 9)).split_at(20).clone_pieces();
    feed.send(Ok(one)).await.unwrap();
    feed.send(Ok(two)).await.unwrap();
    assert_eq!(next(&mut changes).await, ["-a"]);
    let bookmark = r#"{"metadata":{"resourceVersion":"40"}}"#;
    feed.send(Ok(event("BOOKMARK", bookmark))).await.unwrap();
    feeds.lock().unwrap().clear();
    drop(feed);
    eventually("a second watch", first_feed(&feeds, 0)).await;
    let targets: Vec<String> = api
        .arrived()
        .iter()
        .map(|request| request.target.clone())
        .collect();
    assert!(
        targets[0].contains("fieldSelector=spec%2EnodeName%3Da%2Eb"),
        "{targets:?}"
    );
    assert!(targets[2].contains("resourceVersion=7"), "{targets:?}");
    assert!(targets[3].contains("resourceVersion=40"), "{targets:?}");
}

#[tokio::test]
async fn a_forgotten_version_is_listed_again_and_failures_change_nothing() {
    let lists = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&lists);
    let (_api, mut changes, _task) = start(move |request| {
        if request.target.contains("watch=true") {
            let gone = r#"{"kind":"Status","code":410,"reason":"Expired"}"#;
            let mut response = Response::new(FakeBody::Whole(Some(event("ERROR", gone))));
            response.headers_mut().clear();
            return Answer::Reply(response);
        }
        match count.fetch_add(1, Ordering::SeqCst) {
            0 => status(503, "text/plain", "away"),
            1 => Answer::Break,
            n => list(&[pod(&format!("p{n}"), 1)], 7, ""),
        }
    })
    .await;
    // Two failures told nothing; the first thing told is a whole list.
    assert_eq!(next(&mut changes).await.len(), 1);
    assert!(lists.load(Ordering::SeqCst) >= 3);
    // The watch is refused as too old: everything is listed again.
    assert_eq!(next(&mut changes).await.len(), 1);
}

#[tokio::test]
async fn it_ends_when_nobody_wants_to_know() {
    let (_api, changes, task) = start(|_| list(&[], 1, "")).await;
    drop(changes);
    eventually("the end", task).await.unwrap();
}

trait ClonePieces {
    fn clone_pieces(self) -> (Bytes, Bytes);
}

impl ClonePieces for (&[u8], &[u8]) {
    fn clone_pieces(self) -> (Bytes, Bytes) {
        (Bytes::copy_from_slice(self.0), Bytes::copy_from_slice(self.1))
    }
}

async fn first_feed(feeds: &Mutex<Vec<Feed>>, index: usize) -> Feed {
    loop {
        if let Some(feed) = feeds.lock().unwrap().get(index) {
            return feed.clone();
        }
        tokio::task::yield_now().await;
    }
}
