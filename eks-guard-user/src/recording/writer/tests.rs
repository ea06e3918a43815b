//! The disk writer against slow, full and broken disks.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use eks_guard_core::record::{Event, SCHEMA, SessionState, Stage};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::recording::writer::event::{MAX_LINE, line};
use crate::recording::writer::file::{RecordFile, RecordSink};
use crate::recording::writer::queue::{Entry, Queue, Writer};
use crate::recording::writer::thread::run;
use crate::recording::writer::{DiskRecorder, SessionEnd, SessionFacts, lock};
use crate::recording::{RecordError, Recorder};

fn facts() -> SessionFacts {
    SessionFacts {
        session: "s-1".to_owned(),
        agent: "shop".to_owned(),
        model_claimed: Some("m".to_owned()),
        pod: None,
        labels: None,
        command: None,
    }
}

fn folder() -> TempDir {
    tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o700))
        .tempdir()
        .unwrap()
}

fn event(id: impl Into<String>) -> Event {
    Event {
        id: id.into(),
        ..Event::new(Stage::Outcome, "s-1", "shop")
    }
}

/// Every line must be a whole event.
fn events(path: &Path) -> Vec<Event> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "half a line is left");
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        thread::park_timeout(Duration::from_millis(5));
    }
}

#[tokio::test]
async fn a_durable_event_is_in_the_file_with_everything_before_it() {
    let folder = folder();
    let recorder = DiskRecorder::open(&folder.path().join("records"), facts()).unwrap();
    recorder.append(event("read")).unwrap();
    recorder.durable(event("intent")).await.unwrap();
    let written = events(recorder.path());
    assert_eq!(
        written
            .iter()
            .map(|event| event.id.as_str())
            .skip(1)
            .collect::<Vec<_>>(),
        ["read", "intent"]
    );
    assert!(recorder.healthy());

    recorder.append(event("last")).unwrap();
    recorder
        .end(SessionEnd {
            exit_code: Some(7),
            message: None,
        })
        .await
        .unwrap();
    let path = recorder.path().to_owned();
    drop(recorder);
    let written = events(&path);
    assert_eq!(written.len(), 5);
    let (start, end) = (&written[0], &written[4]);
    assert_eq!(
        (start.stage, start.session_state),
        (Stage::Session, Some(SessionState::Started))
    );
    assert_eq!(
        (end.stage, end.session_state, end.exit_code),
        (Stage::Session, Some(SessionState::Ended), Some(7))
    );
    assert_eq!(
        (start.schema.as_str(), start.model_claimed.as_deref()),
        (SCHEMA, Some("m"))
    );
    assert!(
        start.time.ends_with('Z') && start.time.len() == "2026-11-25T18:00:00.000000Z".len(),
        "{}",
        start.time
    );
}

#[tokio::test]
async fn what_is_queued_is_written_when_the_recorder_goes() {
    let folder = folder();
    let recorder = DiskRecorder::open(folder.path(), facts()).unwrap();
    for n in 0..5_000 {
        recorder.append(event(n.to_string())).unwrap();
    }
    let path = recorder.path().to_owned();
    drop(recorder);
    assert_eq!(events(&path).len(), 5_001);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_durable_events_at_once_are_all_written_in_order_of_each_caller() {
    let folder = folder();
    let recorder = Arc::new(DiskRecorder::open(folder.path(), facts()).unwrap());
    let mut tasks = tokio::task::JoinSet::new();
    for caller in 0..40 {
        let recorder = Arc::clone(&recorder);
        tasks.spawn(async move {
            for n in 0..5 {
                recorder.durable(event(format!("{caller}/{n}"))).await.unwrap();
            }
        });
    }
    while let Some(outcome) = tasks.join_next().await {
        outcome.unwrap();
    }
    let written = events(recorder.path());
    assert_eq!(written.len(), 201);
    for caller in 0..40 {
        let prefix = format!("{caller}/");
        let own: Vec<_> = written
            .iter()
            .filter_map(|event| event.id.strip_prefix(&prefix))
            .collect();
        assert_eq!(own, ["0", "1", "2", "3", "4"]);
    }
}

#[test]
fn everything_that_waits_is_one_batch() {
    let queue = Queue::default();
    for n in 0..100 {
        queue
            .push(Entry {
                line: line(&event(n.to_string())).unwrap(),
                done: Some(oneshot::channel().0),
            })
            .unwrap();
    }
    assert_eq!(queue.next(Duration::ZERO).entries.len(), 100);
}

/// With an hour to wait for company, only what must not wait makes the batch come at all.
#[test]
fn company_is_waited_for_by_what_nobody_waits_for_only() {
    fn push(queue: &Queue, size: usize, done: Option<oneshot::Sender<Result<(), RecordError>>>) {
        let line = vec![b'x'; size];
        queue.push(Entry { line, done }).unwrap();
    }
    const AN_HOUR: Duration = Duration::from_secs(3600);
    let durable = |queue: &Queue| push(queue, 1, Some(oneshot::channel().0));
    let half_full = |queue: &Queue| push(queue, 5 * 1024 * 1024, None);
    let reasons: [fn(&Queue); 3] = [durable, half_full, Queue::close];
    for then in reasons {
        let queue = Queue::with_waits(AN_HOUR, AN_HOUR);
        push(&queue, 1, None);
        push(&queue, 1, None);
        thread::scope(|scope| {
            let batch = scope.spawn(|| queue.next(Duration::ZERO));
            while !queue.is_lingering() {
                thread::yield_now();
            }
            then(&queue);
            assert!(batch.join().unwrap().entries.len() >= 2);
        });
    }
}

#[tokio::test]
async fn a_full_queue_loses_counts_and_says_so_later() {
    let folder = folder();
    let queue = Arc::new(Queue::default());
    let big = Event {
        message: Some("x".repeat(MAX_LINE - 1000)),
        ..event("big")
    };
    let mut taken = 0;
    while queue
        .push(Entry {
            line: line(&big).unwrap(),
            done: None,
        })
        .is_ok()
    {
        taken += 1;
    }
    assert!(
        queue
            .push(Entry {
                line: line(&big).unwrap(),
                done: None
            })
            .is_err()
    );
    let (done_tx, _done_rx) = oneshot::channel();
    let error = queue
        .push(Entry {
            line: line(&big).unwrap(),
            done: Some(done_tx),
        })
        .unwrap_err();
    assert!(error.message.contains("queue is full"), "{error}");
    assert!((16..64).contains(&taken), "{taken}");
    assert_eq!(
        queue.lost(),
        2,
        "the one somebody waited for is refused, not lost"
    );

    let mut file = RecordFile::create(folder.path(), "s-1").unwrap();
    let path = file.path().to_owned();
    let (writer_queue, facts) = (Arc::clone(&queue), facts());
    let writer = thread::spawn(move || run(&mut file, &writer_queue, &facts));
    wait_until("the gap must be written", || {
        fs::read_to_string(&path).unwrap().contains("\"stage\":\"gap\"")
    });
    queue
        .push(Entry {
            line: line(&event("after")).unwrap(),
            done: None,
        })
        .unwrap();
    queue.close();
    writer.join().unwrap();
    let written = events(&path);
    assert_eq!(written.len(), taken + 2);
    assert_eq!(written[taken].lost, Some(2));
    assert_eq!(written[taken + 1].id, "after");
}

#[tokio::test]
async fn an_event_too_long_for_a_line_is_refused_and_counted() {
    let folder = folder();
    let recorder = DiskRecorder::open(folder.path(), facts()).unwrap();
    let long = Event {
        message: Some("x".repeat(MAX_LINE)),
        ..event("long")
    };
    assert!(recorder.append(long.clone()).is_err());
    assert!(recorder.durable(long).await.is_err());
    assert_eq!(recorder.lost(), 1);
    recorder.durable(event("next")).await.unwrap();
    assert_eq!(events(recorder.path()).last().unwrap().lost, Some(1));
}

#[test]
fn a_write_error_is_final_and_refuses_everything() {
    let folder = folder();
    let path = folder.path().join("read-only");
    fs::write(&path, "").unwrap();
    let queue = Queue::default();
    let (done_tx, mut done_rx) = oneshot::channel();
    queue
        .push(Entry {
            line: line(&event("a")).unwrap(),
            done: None,
        })
        .unwrap();
    queue
        .push(Entry {
            line: line(&event("b")).unwrap(),
            done: Some(done_tx),
        })
        .unwrap();
    run(
        &mut RecordFile::on(File::open(&path).unwrap(), path),
        &queue,
        &facts(),
    );
    let error = done_rx.try_recv().unwrap().unwrap_err();
    assert!(
        error
            .message
            .contains("stays closed until the run is started again"),
        "{error}"
    );
    assert!(!queue.healthy());
    assert!(
        queue
            .push(Entry {
                line: Vec::new(),
                done: None
            })
            .is_err()
    );
    assert_eq!(queue.lost(), 2);
}

#[test]
fn a_writer_that_is_gone_leaves_nobody_waiting() {
    let folder = folder();
    let queue = Queue::default();
    queue.close();
    run(
        &mut RecordFile::create(folder.path(), "s-1").unwrap(),
        &queue,
        &facts(),
    );
    let refused = queue.push(Entry {
        line: b"{}\n".to_vec(),
        done: None,
    });
    assert!(refused.is_err() && !queue.healthy());
}

/// Takes everything, and tells what was asked of it.
struct Told(Arc<Mutex<String>>);

impl RecordSink for Told {
    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let text = std::str::from_utf8(lines).unwrap();
        self.0.lock().unwrap().push_str(text);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.lock().unwrap().push_str("flushed\n");
        Ok(())
    }

    fn path(&self) -> &Path {
        Path::new("told")
    }
}

/// A record whose writer goes as soon as nothing is there.
fn hasty() -> (DiskRecorder, Arc<Mutex<String>>) {
    let told = Arc::<Mutex<String>>::default();
    let queue = Queue::with_waits(Duration::ZERO, Duration::ZERO);
    let recorder = DiskRecorder::queued(Box::new(Told(Arc::clone(&told))), facts(), queue);
    (recorder, told)
}

#[tokio::test]
async fn a_record_has_a_thread_while_there_is_something_to_write() {
    let (recorder, told) = hasty();
    assert!(lock(&recorder.thread).is_none(), "nothing was written yet");
    for id in ["first", "second"] {
        recorder.append(event(id)).unwrap();
        wait_until("the writer must go", || {
            lock(&recorder.thread).as_ref().unwrap().is_finished()
        });
        let told = std::mem::take(&mut *told.lock().unwrap());
        assert!(told.contains(id) && told.ends_with("flushed\n"), "{told}");
    }
    recorder.durable(event("intent")).await.unwrap();
    assert!(recorder.healthy() && told.lock().unwrap().contains("intent"));
}

#[test]
fn nothing_is_lost_between_two_writers() {
    let (recorder, told) = hasty();
    for n in 0..2_000 {
        recorder.append(event(format!("n{n}"))).unwrap();
        if n % 10 == 0 {
            thread::yield_now();
        }
    }
    drop(recorder);
    let told = told.lock().unwrap();
    let lines = told.lines().filter(|line| *line != "flushed");
    let ids: Vec<String> = lines
        .map(|line| serde_json::from_str::<Event>(line).unwrap().id)
        .collect();
    let expected: Vec<String> = (0..2_000).map(|n| format!("n{n}")).collect();
    assert_eq!(ids, expected);
    assert!(told.ends_with("flushed\n"), "the end is on disk");
}

#[test]
fn what_no_writer_could_be_started_for_is_refused_and_the_next_entry_asks_again() {
    let queue = Queue::default();
    let (done_tx, mut done_rx) = oneshot::channel();
    let push = |done| {
        let line = line(&event("a")).unwrap();
        queue.push(Entry { line, done }).unwrap()
    };
    assert_eq!(push(Some(done_tx)), Writer::Missing);
    assert_eq!(push(None), Writer::Present);
    queue.give_up(&RecordError {
        message: "no thread".to_owned(),
    });
    assert_eq!(done_rx.try_recv().unwrap().unwrap_err().message, "no thread");
    assert_eq!(queue.lost(), 1);
    assert_eq!(push(None), Writer::Missing);
}

const CHILD: &str = "EKS_GUARD_TEST_FULL_DISK";

/// A limit on the size of files fails a write in the middle, as a full disk does. It holds for a whole process, so the
/// test runs in one of its own, which ignores the signal that goes with it.
#[test]
fn a_full_disk_refuses_and_recovers() {
    let body = "recording::writer::tests::full_disk_in_a_process_of_its_own";
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args([body, "--exact", "--ignored", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[tokio::test]
#[ignore = "the body of a_full_disk_refuses_and_recovers"]
async fn full_disk_in_a_process_of_its_own() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let folder = folder();
    let recorder = DiskRecorder::open(folder.path(), facts()).unwrap();
    recorder.durable(event("before")).await.unwrap();
    let before = getrlimit(Resource::Fsize);
    // Room for about half of the next line.
    let room = fs::metadata(recorder.path()).unwrap().len() + 100;
    setrlimit(
        Resource::Fsize,
        Rlimit {
            current: Some(room),
            ..before
        },
    )
    .unwrap();

    let error = recorder.durable(event("refused")).await.unwrap_err();
    assert!(error.message.contains("make room"), "{error}");
    assert!(!recorder.healthy());
    assert!(recorder.durable(event("refused at once")).await.is_err());
    assert!(recorder.append(event("lost 1")).is_err());
    assert!(recorder.append(event("lost 2")).is_err());
    assert_eq!(events(recorder.path()).len(), 2, "no half line is left");
    // An attempt without room changes nothing.
    thread::park_timeout(Duration::from_millis(1200));
    assert!(!recorder.healthy());

    setrlimit(Resource::Fsize, before).unwrap();
    wait_until("it must recover", || recorder.healthy());
    recorder.durable(event("after")).await.unwrap();
    let written = events(recorder.path());
    let shown: Vec<_> = written.iter().map(|event| (event.stage, event.lost)).collect();
    assert_eq!(
        shown,
        [
            (Stage::Session, None),
            (Stage::Outcome, None),
            (Stage::Gap, Some(2)),
            (Stage::Outcome, None)
        ]
    );
    assert_eq!(written[3].id, "after");
}

#[test]
fn the_record_is_for_its_owner_alone() {
    let folder = folder();
    let records = folder.path().join("a/b/records");
    let recorder = DiskRecorder::open(&records, facts()).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(&records), mode(recorder.path())), (0o700, 0o600));

    let error = |outcome: Result<DiskRecorder, RecordError>| outcome.unwrap_err().message;
    assert!(
        error(DiskRecorder::open(&records, facts())).contains("creating"),
        "a session is never continued"
    );
    let other = |session: &str| SessionFacts {
        session: session.to_owned(),
        ..facts()
    };
    for name in [
        "",
        ".",
        "..",
        ".hidden",
        "a/b",
        "../x",
        "a\0b",
        "a b",
        &"x".repeat(200),
    ] {
        assert!(
            error(DiskRecorder::open(&records, other(name))).contains("cannot name a session"),
            "{name}"
        );
    }
    // A planted link is not followed.
    symlink(folder.path().join("target"), records.join("s-2.jsonl")).unwrap();
    assert!(error(DiskRecorder::open(&records, other("s-2"))).contains("creating"));
    assert!(!folder.path().join("target").exists());
    symlink(&records, folder.path().join("link")).unwrap();
    assert!(
        error(DiskRecorder::open(&folder.path().join("link"), other("s-3")))
            .contains("a link is not followed")
    );

    fs::set_permissions(&records, Permissions::from_mode(0o755)).unwrap();
    assert!(error(DiskRecorder::open(&records, other("s-4"))).contains("others can look into it"));
    assert_eq!(mode(&records), 0o755, "somebody else's folder is not changed");
}
