//! `eks-guard verify --node --watch`: the rounds of trials that the daemon makes where its configuration says so, made by a command
//! beside it. The same code tries, counts and tells the cluster; only the status comes from the daemon's socket.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::registry::Registry;
use serde::Serialize;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::sleep;

use crate::config::Surroundings as Machine;
use crate::node::canaries::{Canaries, Trial};
use crate::node::config::NodeConfig;
use crate::node::daemon::kubepods_root;
use crate::node::daemon::upstream::{load_upstream, own_pool};
use crate::node::enforcement::{Owner, Teller, Verdict};
use crate::node::reporting::{Plan, Reporting};
use crate::node::state;
use crate::node::status::{PodStatus, Status, StatusError, ask};
use crate::telemetry::{chain, say};
use crate::verify::OPEN;
use crate::verify::args::{Output, VerifyArgs};
use crate::verify::error::VerifyError;

/// How often the daemon is asked.
const LOOK: Duration = Duration::from_secs(2);
/// Questions without an answer before the daemon counts as gone: one that is replaced by the next needs some of them.
const MISSED: u32 = 15;
/// How long a trial that is under way may take to end.
const ENDING: Duration = Duration::from_secs(45);
/// From the end of a round to the next, when nothing says otherwise.
const INTERVAL: Duration = Duration::from_secs(300);

impl VerifyArgs {
    /// Tries the agents of this node round after round, until SIGINT or SIGTERM. The exit code says what the last round came
    /// to.
    pub(crate) fn watch_node(&self, around: &Machine, out: &mut dyn Write) -> Result<u8, VerifyError> {
        let config = self.node_config(around)?;
        let _only_one = state::watch(&config.state)?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(VerifyError::step("start threads"))?;
        let ended = runtime.block_on(self.watch(config, out));
        // A trial that is under way gets to remove its cgroup.
        runtime.shutdown_timeout(ENDING);
        ended
    }

    async fn watch(&self, config: NodeConfig, out: &mut dyn Write) -> Result<u8, VerifyError> {
        let step = VerifyError::step("wait for signals");
        let mut ends = signal(SignalKind::terminate()).map_err(&step)?;
        let mut interrupts = signal(SignalKind::interrupt()).map_err(&step)?;
        let mut daemon = Daemon::find(&config).await?;
        let (status_tx, _) = watch::channel(daemon.known.clone());
        let mut tasks = JoinSet::new();
        let plan = self.plan(&config)?;
        let mut reporting = Reporting::start(&mut tasks, plan, &status_tx).await?;
        let mut page = Page::new(self.output);
        loop {
            let mut status = daemon.known.clone();
            reporting.add_to(&mut status);
            let verdict = Verdict::of(&status);
            page.show(&Round::of(&status, &verdict), out)?;
            status_tx.send_replace(status);
            tokio::select! {
                () = reporting.changed() => {}
                () = sleep(LOOK) => {}
                _ = ends.recv() => return Ok(code(&verdict)),
                _ = interrupts.recv() => return Ok(code(&verdict)),
            }
            tokio::select! {
                () = daemon.look() => {}
                _ = ends.recv() => return Ok(code(&verdict)),
                _ = interrupts.recv() => return Ok(code(&verdict)),
            }
        }
    }

    /// What the daemon would do with `verify` in its configuration.
    fn plan(&self, config: &NodeConfig) -> Result<Plan, VerifyError> {
        let configured = config.verify.as_ref().map(|verify| verify.interval);
        let interval = self.interval.map(|seconds| Duration::from_secs(seconds.into()));
        let (endpoint, credentials) = load_upstream(&config.upstream)?;
        let upstream = own_pool(&endpoint, &credentials).map_err(VerifyError::Node)?;
        let canaries = Canaries {
            config: config.clone(),
            root: kubepods_root(config).map_err(VerifyError::Node)?,
            probe: self.probe()?,
            interval: interval.or(configured).unwrap_or(INTERVAL),
        };
        let teller = Teller {
            upstream: Arc::new(upstream),
            node: config.node_name.clone(),
            owner: Owner::Command,
        };
        Ok(Plan {
            listen: self.listen,
            registry: Registry::default(),
            trying: Some((canaries, teller)),
        })
    }
}

/// What has not been shown to hold does not pass.
fn code(verdict: &Verdict) -> u8 {
    if verdict.status == "True" { 0 } else { OPEN }
}

/// The daemon, as it was heard last.
struct Daemon {
    state: PathBuf,
    known: Status,
    missed: u32,
}

impl Daemon {
    /// It must answer once.
    async fn find(config: &NodeConfig) -> Result<Self, VerifyError> {
        let state = config.state.clone();
        let known = asked(state.clone()).await?;
        let teller = if Owner::Command.tells(&known) {
            "this command tells the cluster of it"
        } else {
            "the daemon tries its agents, too, and tells the cluster of it"
        };
        say(&format!("watching the agents of node {}; {teller}", known.node));
        Ok(Self {
            state,
            known,
            missed: 0,
        })
    }

    async fn look(&mut self) {
        let answer = asked(self.state.clone()).await;
        self.take(answer);
    }

    /// What was known last stays for a while; then the daemon is one more layer that is lost.
    fn take(&mut self, answer: Result<Status, StatusError>) {
        match answer {
            Ok(status) => (self.known, self.missed) = (status, 0),
            Err(error) => {
                self.missed += 1;
                if self.missed >= MISSED {
                    self.known.attached = false;
                    self.known.watches = false;
                    self.known.lost = vec![chain(&error)];
                }
            }
        }
    }
}

async fn asked(state: PathBuf) -> Result<Status, StatusError> {
    let asked = spawn_blocking(move || ask(&state)).await;
    asked.unwrap_or_else(|error| Err(StatusError::broken(io::Error::other(error))))
}

/// What is known after a round, or when something has changed between two.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Round<'s> {
    time: Timestamp,
    node: &'s str,
    enforced: &'static str,
    reason: &'static str,
    message: &'s str,
    /// Whose the node's condition and taint are.
    told_by: &'static str,
    pods: Vec<PodRound<'s>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PodRound<'s> {
    pod: String,
    uid: &'s str,
    verified: Option<&'s Trial>,
}

impl<'s> Round<'s> {
    fn of(status: &'s Status, verdict: &'s Verdict) -> Self {
        let agents = status.pods.iter().filter(|pod| pod.agent.is_some());
        let of_pod = |pod: &'s PodStatus| PodRound {
            pod: format!("{}/{}", pod.namespace, pod.name),
            uid: &pod.uid,
            verified: pod.verified.as_ref(),
        };
        Self {
            time: Timestamp::now(),
            node: &status.node,
            enforced: verdict.status,
            reason: verdict.reason,
            message: &verdict.message,
            told_by: if Owner::Command.tells(status) {
                "command"
            } else {
                "daemon"
            },
            pods: agents.map(of_pod).collect(),
        }
    }

    /// One line for the node and for each agent.
    fn lines(&self) -> BTreeMap<String, String> {
        let node = format!("{} {}: {}", self.enforced, self.reason, self.message);
        let pods = self.pods.iter().map(|pod| {
            let result = match pod.verified.map(|trial| trial.problems.as_slice()) {
                None => "not tried yet".to_owned(),
                Some([]) => "held".to_owned(),
                Some(problems) => format!("FAILED: {}", problems.join("; ")),
            };
            (format!("pod {}", pod.pod), result)
        });
        [(format!("node {}", self.node), node)]
            .into_iter()
            .chain(pods)
            .collect()
    }

    /// What makes a round another one.
    fn mark(&self) -> Mark {
        let pods = self.pods.iter();
        let times = pods.map(|pod| (pod.uid.to_owned(), pod.verified.map(|trial| trial.time)));
        (self.enforced, self.message.to_owned(), times.collect())
    }
}

type Mark = (&'static str, String, Vec<(String, Option<Timestamp>)>);

/// Where rounds are shown.
struct Page {
    output: Output,
    /// Somebody looks on: what is as it was is not said again.
    only_changes: bool,
    shown: Option<Mark>,
    lines: BTreeMap<String, String>,
}

impl Page {
    fn new(output: Output) -> Self {
        Self {
            output,
            only_changes: output == Output::Table && io::stdout().is_terminal(),
            shown: None,
            lines: BTreeMap::new(),
        }
    }

    fn show(&mut self, round: &Round<'_>, out: &mut dyn Write) -> Result<(), VerifyError> {
        let mark = round.mark();
        if self.shown.as_ref() == Some(&mark) {
            return Ok(());
        }
        self.shown = Some(mark);
        let written = match self.output {
            Output::Table => self.table(round, out),
            Output::Json => serde_json::to_string(round)
                .map_err(io::Error::other)
                .and_then(|json| writeln!(out, "{json}")),
            Output::Yaml => serde_saphyr::to_string(round)
                .map_err(io::Error::other)
                .and_then(|yaml| write!(out, "---\n{yaml}")),
        };
        written.and_then(|()| out.flush()).map_err(VerifyError::Output)
    }

    fn table(&mut self, round: &Round<'_>, out: &mut dyn Write) -> io::Result<()> {
        let lines = round.lines();
        let time = round.time.strftime("%Y-%m-%dT%H:%M:%SZ");
        for (subject, result) in &lines {
            if !self.only_changes || self.lines.get(subject) != Some(result) {
                writeln!(out, "{time}  {subject}  {result}")?;
            }
        }
        for subject in self.lines.keys().filter(|subject| !lines.contains_key(*subject)) {
            writeln!(out, "{time}  {subject}  gone")?;
        }
        self.lines = lines;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(problems: Option<&[&str]>) -> Status {
        let trial = |problems: &[&str]| Trial {
            time: Timestamp::UNIX_EPOCH,
            problems: problems.iter().map(ToString::to_string).collect(),
        };
        Status {
            node: "n".to_owned(),
            attached: true,
            synced: true,
            pods: vec![PodStatus {
                namespace: "shop".to_owned(),
                name: "bot".to_owned(),
                agent: Some("shop".to_owned()),
                verified: problems.map(trial),
                ..PodStatus::default()
            }],
            ..Status::default()
        }
    }

    fn shown(page: &mut Page, status: &Status) -> String {
        let verdict = Verdict::of(status);
        let mut out = Vec::new();
        page.show(&Round::of(status, &verdict), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_terminal_gets_changes_and_a_file_gets_rounds() {
        let mut page = Page::new(Output::Table);
        page.only_changes = true;
        assert_eq!(shown(&mut page, &status(None)).lines().count(), 2);
        assert_eq!(shown(&mut page, &status(None)), "");
        let held = shown(&mut page, &status(Some(&[])));
        assert!(held.contains("pod shop/bot  held\n"), "{held}");
        let failed = shown(&mut page, &status(Some(&["N01 reached"])));
        assert!(
            failed.contains("node n  False RouteOpen: shop/bot: N01 reached\n"),
            "{failed}"
        );
        let mut without = status(None);
        without.pods.clear();
        let gone = shown(&mut page, &without);
        assert!(gone.contains("pod shop/bot  gone\n"), "{gone}");

        let mut page = Page::new(Output::Json);
        let line = shown(&mut page, &status(Some(&["N01 reached"])));
        let round: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(round["enforced"], "False");
        assert_eq!(round["toldBy"], "command");
        assert_eq!(round["pods"][0]["verified"]["problems"][0], "N01 reached");
    }

    #[test]
    fn a_daemon_that_is_away_for_long_is_a_lost_layer() {
        let mut daemon = Daemon {
            state: PathBuf::new(),
            known: status(Some(&[])),
            missed: 0,
        };
        daemon.known.watches = true;
        let away = || Err(StatusError::broken(io::Error::other("away")));
        for _ in 1..MISSED {
            daemon.take(away());
            assert_eq!(Verdict::of(&daemon.known).status, "True");
        }
        daemon.take(away());
        let verdict = Verdict::of(&daemon.known);
        assert_eq!((verdict.reason, code(&verdict)), ("LayerLost", OPEN));
        assert!(Owner::Command.tells(&daemon.known), "nobody else tells it now");
        daemon.take(Ok(status(Some(&[]))));
        assert_eq!(code(&Verdict::of(&daemon.known)), 0);
        assert_eq!(code(&Verdict::of(&status(None))), OPEN, "nothing was tried");
    }
}
