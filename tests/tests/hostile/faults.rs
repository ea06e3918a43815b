//! What breaks beside the guard: an API server that restarts in the middle of a watch, a record that has no room.

use std::ffi::OsStr;
use std::fs;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rig::cluster::{Cluster, ClusterOptions, shared};
use rig::guarded::Guarded;
use rig::http::Reply;
use rig::leash;
use rig::policies::EVERYTHING;
use rig::probe::http1::{self, replies};
use rig::probe::http2::{self, Answer};
use rig::probe::{H1, H2, Probe};

use crate::arena::{HARMLESS, answer};

#[test]
fn an_api_server_on_ipv6_is_guarded_alike_and_may_restart() -> Result<()> {
    let cluster = Cluster::start(ClusterOptions {
        bind: Ipv6Addr::LOCALHOST.into(),
        ..ClusterOptions::default()
    })?;
    is_guarded_alike(&cluster)?;
    its_restart_ends_watches_as_without_the_guard(&cluster)
}

fn is_guarded_alike(cluster: &Cluster) -> Result<()> {
    let guarded = Guarded::new(cluster, "six", EVERYTHING)?;
    let mark = cluster.audit().mark()?;
    let direct = cluster
        .kubectl(&["get", "service", "kubernetes", "-o", "yaml"])?
        .ok()?;
    let through = guarded
        .kubectl(&["get", "service", "kubernetes", "-o", "yaml"])?
        .ok()?;
    ensure!(direct == through, "{direct}\n{through}");
    guarded
        .kubectl(&["get", "secrets"])?
        .expect_failure("Forbidden")?;
    let probe = Probe::start(&guarded, cluster.server())?;
    let mut wire = probe.connect(H1)?;
    wire.send(&http1::request(
        probe.server(),
        "GET /api/v1/namespaces//configmaps",
        &[],
        b"",
    ))?;
    wire.receive_to_end()?;
    ensure!(
        replies(&wire.received)
            .first()
            .is_some_and(|reply| reply.status == 400),
        "{}",
        wire.shown()
    );
    drop(wire);
    probe.finish()?;
    let upstream = cluster.audit().since_by(mark, guarded.upstream_user())?;
    ensure!(
        upstream
            .iter()
            .all(|event| !event.request_uri.contains("secrets") && !event.request_uri.contains("//")),
        "{upstream:#?}"
    );
    Ok(())
}

fn its_restart_ends_watches_as_without_the_guard(cluster: &Cluster) -> Result<()> {
    let guarded = Guarded::new(cluster, "restart", EVERYTHING)?;
    let probe = Probe::start(&guarded, cluster.server())?;
    let watch = "GET /api/v1/namespaces/default/configmaps?watch=true";
    let mut over_h1 = probe.connect(H1)?;
    over_h1.send(&http1::request(probe.server(), watch, &[], b""))?;
    over_h1.receive_until(|received| contains(received, b"ADDED"))?;
    let mut over_h2 = probe.connect(H2)?;
    over_h2.send(&http2::opening())?;
    over_h2.send(&http2::request(probe.server(), 1, watch, &[], b""))?;
    over_h2.receive_until(|received| contains(received, b"ADDED"))?;
    let mark = cluster.audit().mark()?;
    let line = ["get", "configmaps", "--watch", "-o", "name"];
    let direct = Watcher::start(
        leash::hold(cluster.kubectl_program())?,
        cluster.admin_kubeconfig(),
        &line,
    )?;
    let kubectl: Vec<&OsStr> = [cluster.kubectl_program().as_os_str()]
        .into_iter()
        .chain(line.iter().map(OsStr::new))
        .collect();
    let through = Watcher::begin(guarded.command(&kubectl)?)?;

    // What kubectl has printed so far may be from the list that comes before the watch; and one that has no answer yet would
    // fail instead of ending.
    for user in ["rig-admin", guarded.upstream_user()] {
        cluster.audit().wait_for(mark, |event| {
            event.verb == "watch" && event.user == user && event.response_code == Some(200)
        })?;
    }
    cluster.restart_api_server()?;

    // Over HTTP/1.1 a reply without its last chunk; over HTTP/2, where a reset would be taken for a fault, the end.
    over_h1.receive_to_end()?;
    ensure!(!over_h1.received.ends_with(b"0\r\n\r\n"), "{}", over_h1.shown());
    let end = answer(&mut over_h2, 1)?;
    ensure!(
        matches!(&end, Answer::Reply(reply) if reply.status == 200),
        "{end:?}"
    );
    let (direct, through) = (direct.finish()?, through.finish()?);
    ensure!(
        direct == through,
        "direct: {direct:?}\nthrough the guard: {through:?}"
    );

    let mut wire = probe.connect(H1)?;
    wire.send(&http1::request(
        probe.server(),
        &format!("GET {HARMLESS}"),
        &[],
        b"",
    ))?;
    wire.receive_until(|received| !replies(received).is_empty())?;
    ensure!(wire.received.starts_with(b"HTTP/1.1 200"), "{}", wire.shown());
    drop((wire, over_h1, over_h2));
    probe.finish()
}

/// A kubectl that watches.
struct Watcher {
    child: std::process::Child,
    first: String,
    output: std::io::BufReader<std::process::ChildStdout>,
}

impl Watcher {
    fn start(mut kubectl: Command, kubeconfig: &Path, line: &[&str]) -> Result<Self> {
        kubectl.args(line).arg("--kubeconfig").arg(kubeconfig);
        Self::begin(kubectl)
    }

    /// Returns once the watch stands.
    fn begin(mut command: Command) -> Result<Self> {
        use std::io::BufRead;
        use std::process::Stdio;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = leash::spawn(command)?;
        let mut output = std::io::BufReader::new(child.stdout.take().context("piped")?);
        let mut first = String::new();
        output.read_line(&mut first)?;
        Ok(Self { child, first, output })
    }

    /// Exit code, and everything it wrote.
    fn finish(mut self) -> Result<(Option<i32>, String)> {
        use std::io::Read;
        self.output.read_to_string(&mut self.first)?;
        Ok((self.child.wait()?.code(), self.first))
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[test]
fn a_record_without_room_refuses_changes_and_lets_reads_pass() -> Result<()> {
    let cluster = shared()?;
    let guarded = Guarded::new(cluster, "full", EVERYTHING)?;
    cluster.create_namespace("full")?;
    fs::create_dir(guarded.records())?;
    // The mount is in a namespace of the guard's, and goes with it.
    let probe = Probe::start_with(&guarded, cluster.server(), |guard| {
        on_small_disk(guard, &guarded.records())
    })?;
    let ask = |line: &str, body: &str| -> Result<Reply> {
        let mut wire = probe.connect(H1)?;
        wire.send(&http1::request(probe.server(), line, &[], body.as_bytes()))?;
        wire.receive_until(|received| !replies(received).is_empty())?;
        replies(&wire.received)
            .into_iter()
            .next()
            .with_context(|| wire.shown())
    };
    let maps = "/api/v1/namespaces/full/configmaps";
    let map =
        |name: &str| format!(r#"{{"kind":"ConfigMap","apiVersion":"v1","metadata":{{"name":"{name}"}}}}"#);
    let reply = ask(&format!("POST {maps}"), &map("before"))?;
    ensure!(reply.status == 201, "{reply:?}");

    let filler = small_disk(&probe, &guarded.records()).join("filler");
    fill(&filler)?;
    // What is left of the record's last page takes a few more.
    let deadline = Instant::now() + Duration::from_secs(20);
    while ask(&format!("POST {maps}"), &map("during"))?.status != 503 {
        ensure!(Instant::now() < deadline, "changes still pass");
    }
    let mark = cluster.audit().mark()?;
    let refusal = ask(&format!("POST {maps}"), &map("during"))?;
    ensure!(refusal.status == 503, "{refusal:?}");
    let status: serde_json::Value = serde_json::from_slice(&refusal.body)?;
    ensure!(
        status["details"]["causes"][0]["reason"] == "RecordUnavailable",
        "{status}"
    );
    ensure!(refusal.header("retry-after").is_some(), "{refusal:?}");
    for method in ["PUT", "PATCH", "DELETE"] {
        let body = if method == "DELETE" {
            String::new()
        } else {
            map("before")
        };
        let reply = ask(&format!("{method} {maps}/before"), &body)?;
        ensure!(reply.status == 503 || reply.status == 415, "{method}: {reply:?}");
    }
    ensure!(ask(&format!("GET {maps}/before"), "")?.status == 200);
    let upstream = cluster.audit().since_by(mark, guarded.upstream_user())?;
    let changes: Vec<_> = upstream
        .iter()
        .filter(|event| !["get", "list"].contains(&event.verb.as_str()))
        .collect();
    ensure!(changes.is_empty(), "reached the API server: {changes:#?}");

    fs::remove_file(&filler)?;
    let deadline = Instant::now() + Duration::from_secs(20);
    while ask(&format!("POST {maps}"), &map("after"))?.status == 503 {
        ensure!(Instant::now() < deadline, "changes are still refused");
    }
    let records = small_disk(&probe, &guarded.records());
    let text = record_text(&records)?;
    ensure!(
        text.contains(r#""stage":"gap""#),
        "the record does not say that something is missing"
    );
    probe.finish()
}

/// The same command, with a disk of 256 KiB where the records go.
fn on_small_disk(guard: Command, records: &Path) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "/bin/sh", "-c"]);
    command.arg("mount -t tmpfs -o size=256k,mode=700 tmpfs \"$0\" && exec \"$@\"");
    command
        .arg(records)
        .arg(guard.get_program())
        .args(guard.get_args());
    command.env_clear();
    for (name, value) in guard.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    if let Some(folder) = guard.get_current_dir() {
        command.current_dir(folder);
    }
    command
}

/// The folder of the records, as the guard sees it.
fn small_disk(probe: &Probe, records: &Path) -> PathBuf {
    let inside = records.strip_prefix("/").unwrap_or(records);
    PathBuf::from(format!("/proc/{}/root", probe.guard_pid())).join(inside)
}

/// Writes until nothing fits any more.
fn fill(path: &Path) -> Result<()> {
    use std::io::Write;
    let mut file = fs::File::create(path)?;
    let full = loop {
        match file.write_all(&[0; 4096]) {
            Ok(()) => {}
            Err(error) => break error,
        }
    };
    ensure!(full.kind() == std::io::ErrorKind::StorageFull, "{full}");
    Ok(())
}

fn record_text(folder: &Path) -> Result<String> {
    let mut text = String::new();
    for file in fs::read_dir(folder)? {
        text.push_str(&fs::read_to_string(file?.path())?);
    }
    Ok(text)
}
