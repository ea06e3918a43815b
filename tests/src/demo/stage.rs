//! Where the story is played: one guarded shell, and the API server's audit log beside it.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use anyhow::{Context, Result, bail};

use crate::audit::AuditEvent;
use crate::cluster::Cluster;
use crate::demo::story::{AGENT, Expect, POLICY, Step, Upstream};
use crate::guarded::Guarded;
use crate::leash;

/// The guarded shell and its surroundings.
pub(super) struct Stage<'a> {
    cluster: &'a Cluster,
    guarded: Guarded<'a>,
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

/// What happened.
pub(super) struct Outcome {
    /// What the agent saw, both streams.
    pub(super) output: String,
    /// Why the promise is broken; none: it is kept.
    pub(super) broken: Vec<String>,
}

impl Outcome {
    pub(super) fn kept(&self) -> bool {
        self.broken.is_empty()
    }
}

impl<'a> Stage<'a> {
    /// Starts the shell. `stolen` is what the agent has got hold of; it types it as `$STOLEN`.
    pub(super) fn open(cluster: &'a Cluster, stolen: &str) -> Result<Self> {
        let guarded = Guarded::new(cluster, AGENT, POLICY)?;
        let mut command = guarded.command(&[OsStr::new("/bin/sh")])?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = leash::spawn(command).context("starting eks-guard")?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("eks-guard was started without pipes");
        };
        let mut stage = Self {
            cluster,
            guarded,
            child,
            stdin,
            stdout: BufReader::new(stdout),
        };
        stage.type_in(&format!("STOLEN='{stolen}'"))?;
        Ok(stage)
    }

    /// Types one line and holds what comes of it against the promise.
    pub(super) fn play(&mut self, step: &Step) -> Result<Outcome> {
        let mark = self.cluster.audit().mark()?;
        let (code, output) = self.type_in(&step.command)?;
        let upstream = self.cluster.audit().since(mark)?;
        let mut broken = Vec::new();
        broken.extend(against(&step.expect, code, &output));
        broken.extend(self.upstream_against(&step.upstream, &upstream));
        Ok(Outcome { output, broken })
    }

    fn upstream_against(&self, promise: &Upstream, events: &[AuditEvent]) -> Option<String> {
        let ours = |event: &&AuditEvent| event.user == self.guarded.upstream_user();
        match promise {
            Upstream::Reached(like) => (!events.iter().filter(ours).any(like)).then(|| {
                String::from("the API server's audit log does not show the request by the operator's user")
            }),
            Upstream::Nothing(like) => events
                .iter()
                .find(|event| like(event))
                .map(|event| format!("{} {} reached the API server", event.verb, event.request_uri)),
        }
    }

    fn type_in(&mut self, line: &str) -> Result<(i32, String)> {
        writeln!(
            self.stdin,
            "{{ {line} ; }} </dev/null 2>&1; printf '\\n@@%s\\n' $?"
        )?;
        let mut output = String::new();
        loop {
            let mut text = String::new();
            if self.stdout.read_line(&mut text)? == 0 {
                bail!("the guarded shell ended early:\n{output}");
            }
            if let Some(code) = text.strip_prefix("@@") {
                return Ok((code.trim().parse()?, output.trim().to_owned()));
            }
            output.push_str(&text);
        }
    }

    /// Ends the shell and reads what was recorded.
    pub(super) fn close(mut self) -> Result<Record> {
        drop(self.stdin);
        let status = self.child.wait()?;
        let shown = self.guarded.eks_guard(&["sessions", "show", "latest"])?.ok()?;
        let lines = self
            .guarded
            .eks_guard(&["sessions", "show", "latest", "-o", "jsonl"])?
            .ok()?;
        Ok(Record {
            shown,
            lines,
            left_with: status.code(),
        })
    }
}

fn against(expect: &Expect, code: i32, output: &str) -> Option<String> {
    let missing = |texts: &[&str]| {
        let missing: Vec<&str> = texts
            .iter()
            .copied()
            .filter(|text| !output.contains(text))
            .collect();
        (!missing.is_empty()).then(|| format!("the output lacks {missing:?}"))
    };
    match expect {
        Expect::Success(_) if code != 0 => Some(format!("exit code {code}")),
        Expect::Refusal(_) if code == 0 => Some(String::from("exit code 0")),
        Expect::Success(text) => missing(&[text]),
        Expect::Refusal(texts) | Expect::Text(texts) => missing(texts),
    }
}

/// What the guard has written down about the session.
pub(super) struct Record {
    /// The page for people.
    pub(super) shown: String,
    lines: String,
    left_with: Option<i32>,
}

impl Record {
    /// The last row of the table.
    pub(super) fn check(self) -> (Step, Outcome) {
        let promise = "everything is recorded, refusals with their reason";
        let wanted = [
            "\"NoRuleAllows\"",
            "\"ConnectRefused\"",
            "\"intent\"",
            "\"prices\"",
            "\"secrets\"",
        ];
        let mut broken: Vec<String> = wanted
            .iter()
            .filter(|text| !self.lines.contains(**text))
            .map(|text| format!("the record lacks {text}"))
            .collect();
        if self.left_with != Some(0) {
            broken.push(format!("eks-guard ended with {:?}", self.left_with));
        }
        let step = Step {
            promise,
            command: String::from("eks-guard sessions show latest"),
            expect: Expect::Text(&[]),
            upstream: Upstream::Nothing(|_| false),
        };
        (
            step,
            Outcome {
                output: self.lines,
                broken,
            },
        )
    }
}
