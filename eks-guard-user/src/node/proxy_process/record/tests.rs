//! The record across the process boundary, with honest proxies, dead ones and others.

use std::fs;

use eks_guard_core::record::{Event, Stage};
use tempfile::TempDir;

use super::*;
use crate::recording::Recorder;
use crate::recording::writer::DiskRecorder;
use crate::testing::eventually;

fn session() -> (TempDir, Session) {
    let folder = tempfile::tempdir().unwrap();
    let facts = SessionFacts {
        session: "s-1".to_owned(),
        agent: "shop".to_owned(),
        model_claimed: None,
        pod: None,
        labels: None,
        command: None,
    };
    let session = Session::open(&folder.path().join("records"), facts).unwrap();
    (folder, session)
}

fn recorder(session: &Session) -> DiskRecorder {
    let file = RemoteFile::on(session.writer().unwrap(), "s-1").unwrap();
    DiskRecorder::on(Box::new(file), session.facts())
}

fn written(folder: &TempDir) -> Vec<Event> {
    let text = fs::read_to_string(folder.path().join("records/s-1.jsonl")).unwrap();
    assert!(text.ends_with('\n'), "half a line is left");
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn event(id: &str) -> Event {
    Event {
        id: id.to_owned(),
        ..Event::new(Stage::Outcome, "s-1", "shop")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_proxy_records_is_in_the_loaders_file() {
    let (folder, session) = session();
    let recorder = recorder(&session);
    recorder.append(event("read")).unwrap();
    recorder.durable(event("intent")).await.unwrap();
    assert_eq!(
        written(&folder).len(),
        3,
        "an intent is on disk when it is acknowledged"
    );
    recorder.append(event("last")).unwrap();
    drop(recorder);
    eventually("the session ends", session.end("the pod is gone")).await;
    let written = written(&folder);
    let ids: Vec<&str> = written[1..4].iter().map(|event| event.id.as_str()).collect();
    assert_eq!(ids, ["read", "intent", "last"]);
    assert_eq!(written[4].message.as_deref(), Some("the pod is gone"));
    assert_eq!(written.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_dies_leaves_a_gap_and_the_next_one_goes_on() {
    let (folder, session) = session();
    drop(session.writer().unwrap());
    let gap = async {
        while written(&folder).len() < 2 {
            tokio::task::yield_now().await;
        }
    };
    eventually("the gap is written", gap).await;
    let gap = &written(&folder)[1];
    assert_eq!((gap.stage, gap.lost), (Stage::Gap, None));
    let recorder = recorder(&session);
    recorder.durable(event("later")).await.unwrap();
    assert_eq!(written(&folder)[2].id, "later");
}

#[tokio::test(flavor = "multi_thread")]
async fn half_lines_and_more_than_a_queue_holds_are_not_taken() {
    let (folder, session) = session();
    for bytes in [
        [&[APPEND][..], &4_u32.to_be_bytes(), b"half"].concat(),
        [&[APPEND][..], &u32::MAX.to_be_bytes()].concat(),
        b"x".to_vec(),
    ] {
        let mut socket = UnixStream::from(session.writer().unwrap());
        socket.write_all(&bytes).unwrap();
        let ended = tokio::task::spawn_blocking(move || socket.read(&mut [0; 4]).unwrap_or(0));
        assert_eq!(eventually("the loader hangs up", ended).await.unwrap(), 0);
    }
    eventually("the session ends", session.end("over")).await;
    let stages: Vec<Stage> = written(&folder).iter().map(|event| event.stage).collect();
    assert_eq!(
        stages,
        [Stage::Session, Stage::Gap, Stage::Gap, Stage::Gap, Stage::Session]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_disks_own_error_reaches_the_proxy() {
    let (_folder, session) = session();
    let mut file = RemoteFile::on(session.writer().unwrap(), "s-1").unwrap();
    let (refused, file) =
        tokio::task::spawn_blocking(move || (file.append(&vec![b'\n'; MAX_LINES + 1]), file))
            .await
            .unwrap();
    assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert!(session.is_healthy());
    drop(file);
}
