//! Replies flow as they come: watches frame by frame, long lists in constant memory, broken ones visibly broken.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use eks_guard_core::record::Stage;
use http::Response;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::mpsc;

use super::{BOTH, CONFIG_MAPS, PODS, Rig, config_map, empty_list, get, only, post};
use crate::proxy::Limits;
use crate::testing::{Answer, Arrived, FakeBody, Protocol, eventually};

type Pieces = mpsc::Sender<Result<Bytes, io::Error>>;

/// A server whose every reply is fed by the test.
fn fed(feeds: &Arc<Mutex<Vec<Pieces>>>) -> impl Fn(&Arrived) -> Answer + Send + Sync + use<> {
    let feeds = Arc::clone(feeds);
    move |arrived| {
        let (pieces_tx, body) = FakeBody::pieces();
        feeds.lock().expect("no test panics here").push(pieces_tx);
        let mut response = Response::new(body);
        let content_type = if arrived.target.contains("/log") {
            "text/plain"
        } else {
            "application/json"
        };
        response
            .headers_mut()
            .insert("content-type", http::HeaderValue::from_static(content_type));
        Answer::Reply(response)
    }
}

fn feed(feeds: &Mutex<Vec<Pieces>>, index: usize) -> Pieces {
    feeds.lock().expect("no test panics here")[index].clone()
}

fn finish(feeds: &Mutex<Vec<Pieces>>) {
    feeds.lock().expect("no test panics here").clear();
}

/// The next piece that holds anything.
async fn next(body: &mut Incoming) -> Option<Result<Bytes, hyper::Error>> {
    loop {
        let frame = eventually("a piece of the reply", body.frame()).await?;
        match frame.map(|frame| frame.into_data().unwrap_or_default()) {
            Ok(piece) if piece.is_empty() => {}
            piece => return Some(piece),
        }
    }
}

#[tokio::test]
async fn watch_events_and_log_lines_arrive_one_by_one() {
    for downstream in BOTH {
        for upstream in BOTH {
            let feeds = Arc::default();
            let rig = Rig::with(upstream, Limits::default(), fed(&feeds)).await;
            for (index, path) in [format!("{PODS}?watch=true"), format!("{PODS}/a/log?follow=true")]
                .iter()
                .enumerate()
            {
                let mut client = rig.client(downstream).await;
                let response = client
                    .send(get(path))
                    .await
                    .expect("the stream begins before its first event");
                assert_eq!(response.status(), 200, "{path}");
                assert_eq!(rig.metrics.streams_open.get(), 1);
                let mut body = response.into_body();
                let pieces = feed(&feeds, index);
                for number in 0..5 {
                    let event = format!("{{\"type\":\"ADDED\",\"object\":{number}}}\n");
                    pieces
                        .send(Ok(Bytes::from(event.clone())))
                        .await
                        .expect("the guard reads on");
                    let received = next(&mut body)
                        .await
                        .expect("the stream goes on")
                        .expect("and is whole");
                    assert_eq!(received, event.as_bytes(), "{downstream:?} {upstream:?}");
                }
                finish_one(&feeds, pieces);
                assert!(next(&mut body).await.is_none(), "a clean end stays clean");
                let events = rig.recorder.wait_for(Stage::Outcome, index + 1).await;
                assert!(
                    events[index].bytes > Some(100) && events[index].message.is_none(),
                    "{:?}",
                    events[index]
                );
                assert_eq!(rig.metrics.streams_open.get(), 0);
            }
        }
    }
}

/// Drops both handles of the last feed.
fn finish_one(feeds: &Mutex<Vec<Pieces>>, pieces: Pieces) {
    drop(pieces);
    let last = feeds
        .lock()
        .expect("no test panics here")
        .last_mut()
        .map(|last| std::mem::replace(last, mpsc::channel(1).0));
    drop(last);
}

#[tokio::test]
async fn a_restart_of_the_api_server_ends_a_watch_as_clients_expect_it() {
    for downstream in BOTH {
        for upstream in BOTH {
            let feeds = Arc::default();
            let rig = Rig::with(upstream, Limits::default(), fed(&feeds)).await;
            let mut client = rig.client(downstream).await;
            let response = client
                .send(get(&format!("{PODS}?watch=true")))
                .await
                .expect("the watch begins");
            let mut body = response.into_body();
            feed(&feeds, 0)
                .send(Ok(Bytes::from_static(b"{}\n")))
                .await
                .expect("the guard reads on");
            assert!(next(&mut body).await.is_some_and(|piece| piece.is_ok()));
            rig.api.restart();
            let end = next(&mut body).await;
            match downstream {
                Protocol::H1 => assert!(end.is_some_and(|end| end.is_err()), "over {upstream:?}"),
                Protocol::H2 => assert!(end.is_none(), "over {upstream:?}: {end:?}"),
            }
            let events = rig.recorder.wait_for(Stage::Outcome, 1).await;
            assert!(
                only(&events)
                    .message
                    .as_deref()
                    .is_some_and(|message| message.contains("broke")),
                "{events:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_list_that_breaks_off_never_looks_whole() {
    for downstream in BOTH {
        let feeds = Arc::default();
        let rig = Rig::start(fed(&feeds)).await;
        let mut client = rig.client(downstream).await;
        let response = client.send(get(PODS)).await.expect("the list begins");
        let mut body = response.into_body();
        feed(&feeds, 0)
            .send(Ok(Bytes::from_static(b"{")))
            .await
            .expect("the guard reads on");
        assert!(next(&mut body).await.is_some_and(|piece| piece.is_ok()));
        rig.api.restart();
        let end = next(&mut body).await;
        assert!(end.is_some_and(|end| end.is_err()), "{downstream:?}");
    }
}

#[tokio::test]
async fn an_agent_that_goes_away_ends_the_watch_upstream() {
    for downstream in BOTH {
        let feeds = Arc::default();
        let rig = Rig::start(fed(&feeds)).await;
        let mut client = rig.client(downstream).await;
        let response = client
            .send(get(&format!("{PODS}?watch=true")))
            .await
            .expect("the watch begins");
        drop((response, client));
        let pieces = feed(&feeds, 0);
        eventually("the watch ends upstream", pieces.closed()).await;
        let events = rig.recorder.wait_for(Stage::Outcome, 1).await;
        assert!(
            only(&events)
                .message
                .as_deref()
                .is_some_and(|message| message.contains("went away")),
            "{events:?}"
        );
        assert_eq!(rig.metrics.streams_open.get(), 0);
    }
}

#[tokio::test]
async fn more_watches_than_one_connection_holds_run_beside_short_calls() {
    let feeds = Arc::default();
    let rig = Rig::start(fed(&feeds)).await;
    let mut client = rig.client(Protocol::H2).await;
    let mut watches = Vec::new();
    for _ in 0..240 {
        let response = eventually(
            "the watch begins",
            client.send(get(&format!("{PODS}?watch=true"))),
        )
        .await;
        watches.push(response.expect("the guard answers"));
    }
    assert!(watches.iter().all(|watch| watch.status() == 200));
    let arrived = rig.api.arrived();
    let mut per_connection = [0_usize; 8];
    arrived
        .iter()
        .for_each(|arrived| per_connection[arrived.connection] += 1);
    assert!(
        per_connection.iter().all(|&streams| streams < 100),
        "{per_connection:?}"
    );
    let watch_connections = rig.api.connections();
    let short = client
        .send(get(PODS))
        .await
        .expect("a short call passes the watches");
    assert_eq!(short.status(), 200);
    assert_eq!(
        rig.api.connections(),
        watch_connections + 1,
        "short calls have connections of their own"
    );
    finish(&feeds);
}

#[tokio::test]
async fn a_200_mb_reply_passes_in_constant_memory() {
    const PIECE: usize = 256 << 10;
    const PIECES: usize = 800;
    for downstream in BOTH {
        for upstream in BOTH {
            let sent = Arc::new(AtomicUsize::new(0));
            let sending = Arc::clone(&sent);
            let handler = move |_: &Arrived| flood(PIECE, PIECES, &sending);
            let rig = Rig::with(upstream, Limits::default(), handler).await;
            let mut client = rig.client(downstream).await;
            let mut body = client
                .send(get(PODS))
                .await
                .expect("the reply begins")
                .into_body();
            let (mut received, mut most_under_way) = (0, 0);
            while let Some(piece) = next(&mut body).await {
                received += piece.expect("the reply is whole").len();
                most_under_way = most_under_way.max(sent.load(Ordering::SeqCst).saturating_sub(received));
            }
            assert_eq!(received, PIECE * PIECES);
            let events = rig.recorder.wait_for(Stage::Outcome, 1).await;
            assert_eq!(only(&events).bytes, Some(received as u64));
            // Whatever is neither at the server nor at the agent: the guard's share, windows of all three, and sockets, in
            // which the kernel keeps as much as it likes while a reader waits for a processor.
            let most = (16 << 20) + 2 * most_in_sockets();
            assert!(
                most_under_way < most,
                "{downstream:?} {upstream:?}: {most_under_way} bytes under way, of at most {most}"
            );
        }
    }
}

/// What the two sockets of one connection may hold of one direction: what one has not sent and what the other has received.
fn most_in_sockets() -> usize {
    ["tcp_rmem", "tcp_wmem"]
        .iter()
        .map(|limits| {
            let text = std::fs::read_to_string(format!("/proc/sys/net/ipv4/{limits}"));
            let text = text.expect("the kernel says how large sockets grow");
            let most = text.split_whitespace().next_back();
            most.and_then(|most| most.parse::<usize>().ok())
                .expect("three numbers of bytes")
        })
        .sum()
}

/// A reply of equal pieces, as fast as they are taken.
fn flood(piece: usize, pieces: usize, sent: &Arc<AtomicUsize>) -> Answer {
    let (pieces_tx, body) = FakeBody::pieces();
    let sent = Arc::clone(sent);
    std::thread::spawn(move || {
        let bytes = Bytes::from(vec![b'x'; piece]);
        for _ in 0..pieces {
            if pieces_tx.blocking_send(Ok(bytes.clone())).is_err() {
                return;
            }
            sent.fetch_add(piece, Ordering::SeqCst);
        }
    });
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert("content-type", http::HeaderValue::from_static("application/json"));
    Answer::Reply(response)
}

#[tokio::test]
async fn a_reply_nobody_reads_does_not_hold_up_the_others() {
    let rig = Rig::start(|arrived| {
        if arrived.target.contains("configmaps") {
            flood(64 << 10, usize::MAX, &Arc::default())
        } else {
            empty_list(arrived)
        }
    })
    .await;
    let mut stalled = Vec::new();
    for _ in 0..8 {
        let mut client = rig.client(Protocol::H2).await;
        let response = client
            .send(get("/api/v1/namespaces/default/configmaps"))
            .await
            .expect("the reply begins");
        stalled.push((client, response));
    }
    for _ in 0..10 {
        assert_eq!(
            eventually("another reply", rig.call(Protocol::H2, get(PODS)))
                .await
                .status(),
            200
        );
    }
}

#[tokio::test]
async fn draining_lets_short_requests_finish_and_ends_watches_at_the_deadline() {
    let feeds = Arc::default();
    let limits = Limits {
        drain: std::time::Duration::from_millis(300),
        ..Limits::default()
    };
    let rig = Rig::with(Protocol::H2, limits, fed(&feeds)).await;
    let (mut short, mut watching) = (rig.client(Protocol::H2).await, rig.client(Protocol::H1).await);
    let mut list = short.send(get(PODS)).await.expect("the list begins").into_body();
    let mut watch = watching
        .send(get(&format!("{PODS}?watch=true")))
        .await
        .expect("the watch begins")
        .into_body();
    rig.drain.cancel();
    feed(&feeds, 0)
        .send(Ok(Bytes::from_static(b"{}")))
        .await
        .expect("the guard reads on");
    feeds.lock().expect("no test panics here")[0] = mpsc::channel(1).0;
    assert_eq!(
        next(&mut list)
            .await
            .expect("the list goes on")
            .expect("and is whole"),
        "{}"
    );
    assert!(next(&mut list).await.is_none());
    rig.tasks.close();
    eventually("the listener ends", rig.tasks.wait()).await;
    assert!(
        next(&mut watch).await.is_some_and(|end| end.is_err()),
        "the watch is cut, not ended"
    );
    rig.recorder.wait_for(Stage::Outcome, 2).await;
    assert!(
        tokio::net::TcpStream::connect(("127.0.0.1", rig.port))
            .await
            .is_err(),
        "nobody listens any more"
    );
}

#[tokio::test]
async fn a_reply_that_nobody_reads_holds_no_memory_of_bodies() {
    let limits = Limits {
        body_memory: 150,
        ..Limits::default()
    };
    for protocol in BOTH {
        let feeds = Arc::default();
        let rig = Rig::with(Protocol::H2, limits.clone(), fed(&feeds)).await;
        let (mut first, mut second) = (rig.client(protocol).await, rig.client(protocol).await);
        let open = first
            .send(post(CONFIG_MAPS, &config_map("one")))
            .await
            .expect("a reply begins");
        assert_eq!(open.status(), 200);
        let next = second
            .send(post(CONFIG_MAPS, &config_map("two")))
            .await
            .expect("a reply begins");
        assert_eq!(next.status(), 200);
        drop(open);
    }
}
