//! An agent with `NET_RAW` that hammers at the API server from the start to the end of a test, and what arrives of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, ensure};
use rig::command;
use rig::leash::Leashed;
use rig::node::{API, API_PORT, API_SERVICE, Families, Layout, NodeRig, Pod, PodSpec, Profile, shared};
use rig::{programs, wait};
use serde_json::Value;

use crate::guard::{Guard, row};

/// The test's guard, its agent, and the agent's hammer.
pub(crate) struct Siege<'a> {
    pub(crate) rig: &'a NodeRig,
    pub(crate) guard: Guard<'a>,
    pub(crate) agent: Pod<'a>,
    hammer: Leashed,
    before: u64,
    _alone: MutexGuard<'static, ()>,
}

/// Held by the tests of one layout, from before there is a guard: another's would guard their pods.
pub(crate) fn alone(layout: Layout) -> MutexGuard<'static, ()> {
    static ALONE: [Mutex<()>; Layout::ALL.len()] = [const { Mutex::new(()) }; Layout::ALL.len()];
    let known = Layout::ALL.iter().zip(&ALONE);
    let own = known.into_iter().find(|(known, _)| **known == layout);
    let (_, lock) = own.expect("every layout is one of all");
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A pod of the layout, an agent by its label or not.
pub(crate) fn spec(
    rig: &NodeRig,
    layout: Layout,
    namespace: &str,
    name: &str,
    agent: Option<&str>,
) -> PodSpec {
    let mut spec = PodSpec::new(rig, namespace, name);
    spec.layout = layout;
    let label = agent.map(|agent| ("eks-guard.dev/agent".to_owned(), agent.to_owned()));
    spec.labels.extend(label);
    spec
}

/// Packets that came to the API server from the pod itself and not from the guard.
pub(crate) fn direct_packets(rig: &NodeRig, pod: &Pod<'_>) -> Result<u64> {
    Ok(rig.fixtures().api.arrivals_from(&pod.addresses())?.packets)
}

impl<'a> Siege<'a> {
    /// Lets the hammer reach the API server, so that it is known to be one; then guards the node, and lets it try on.
    pub(crate) fn lay(layout: Layout, namespace: &str) -> Result<Self> {
        Self::lay_after(layout, namespace, "", |_| Ok(()))
    }

    /// The same with more lines in the guard's configuration, and with something to do before its first start.
    pub(crate) fn lay_after(
        layout: Layout,
        namespace: &str,
        more: &str,
        prepare: impl FnOnce(&Guard<'_>) -> Result<()>,
    ) -> Result<Self> {
        let (rig, alone) = (shared()?, alone(layout));
        rig.cluster().create_namespace(namespace)?;
        let agent = rig.run_pod(&spec(rig, layout, namespace, "agent", Some("shop")))?;
        let mut hammer = start_hammer(rig, &agent)?;
        wait::until("an unguarded hammer reaches the API server", || {
            Ok(direct_packets(rig, &agent)? > 0)
        })?;
        hammer.kill()?;
        let mut guard = Guard::prepare_with(rig, layout, more)?;
        prepare(&guard)?;
        guard.restart()?;
        guard.wait_until("everything is known", |status| status["synced"] == true)?;
        guard.serve(&agent)?;
        let before = direct_packets(rig, &agent)?;
        let hammer = start_hammer(rig, &agent)?;
        let siege = Self {
            rig,
            guard,
            agent,
            hammer,
            before,
            _alone: alone,
        };
        siege.holds("the start")?;
        Ok(siege)
    }

    /// The hammer goes on, and nothing of it arrives.
    pub(crate) fn holds(&self, what: &str) -> Result<()> {
        let first = self.rounds()?;
        wait::until("the hammer goes on", || Ok(self.rounds()? > first + 2))?;
        let arrived = direct_packets(self.rig, &self.agent)? - self.before;
        ensure!(
            arrived == 0,
            "{what}: {arrived} packets of the agent's own arrived"
        );
        Ok(())
    }

    /// The process that tries.
    pub(crate) fn hammer(&self) -> u32 {
        self.hammer.id()
    }

    /// Another process in the place of the one that tries, which has ended.
    pub(crate) fn try_again(&mut self) -> Result<()> {
        self.hammer = start_hammer(self.rig, &self.agent)?;
        self.holds("another process that tries")
    }

    /// Does damage, and waits until it is repaired, counted and nothing is wrong any more.
    pub(crate) fn repaired(&mut self, what: &str, damage: impl FnOnce(&Self) -> Result<()>) -> Result<()> {
        let before = repairs(&self.guard.status()?, what);
        damage(self).with_context(|| format!("damaging: {what}"))?;
        self.guard.wait_until(&format!("{what} is repaired"), |status| {
            let is_well =
                status["attached"] == true && status["problems"].as_array().is_some_and(Vec::is_empty);
            is_well && repairs(status, what) > before
        })?;
        self.holds(what)
    }

    /// The agent reads its pods through the guard.
    pub(crate) fn works(&self) -> Result<()> {
        let namespace = &self.agent.spec().namespace;
        let listed = self
            .agent
            .kubectl(&["get", "pods", "-n", namespace, "-o", "name"])?
            .ok()?;
        ensure!(listed.contains("pod/agent"), "{listed}");
        Ok(())
    }

    /// The port of the agent's listener.
    pub(crate) fn port(&self) -> Result<u64> {
        let status = self.guard.status()?;
        let row = row(&status, self.agent.uid()).context("no row of the agent")?;
        row["port"].as_u64().context("no port")
    }

    /// The daemon's pins of this ABI, as seen from here.
    pub(crate) fn pins(&self) -> Result<PathBuf> {
        let mut folders = fs::read_dir(self.guard.pins())?;
        Ok(folders.next().context("no pins")??.path())
    }

    /// Runs a program in the network of the node.
    pub(crate) fn on_node(&self, program: &[&str]) -> Result<command::Output> {
        run_in(&self.rig.network().node.path(), program)
    }

    /// Runs a program in the network of the agent, as root of the node.
    pub(crate) fn in_agents_network(&self, program: &[&str]) -> Result<command::Output> {
        run_in(&self.agent.netns().path(), program)
    }

    /// The node's end of the agent's cable.
    pub(crate) fn cable(&self) -> Result<&str> {
        Ok(self.agent.sandbox().context("no network of its own")?.cable())
    }

    fn rounds(&self) -> Result<u64> {
        let text = fs::read_to_string(self.hammer.log())?;
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let Some(line) = whole.lines().next_back() else {
            return Ok(0);
        };
        line.strip_prefix("round ")
            .with_context(|| format!("the hammer says {line}"))?
            .parse()
            .context("a number")
    }
}

/// How often something of this name was put back.
fn repairs(status: &Value, what: &str) -> u64 {
    let all = status["repairs"].as_object();
    let own = all.into_iter().flatten().filter(|(name, _)| name.contains(what));
    own.filter_map(|(_, times)| times.as_u64()).sum()
}

pub(crate) fn run_in(netns: &Path, program: &[&str]) -> Result<command::Output> {
    let mut nsenter = Command::new("/usr/bin/nsenter");
    nsenter.arg(format!("--net={}", netns.display())).args(program);
    command::run(nsenter)
}

/// Starts an agent's hammer.
pub(crate) fn start_hammer(rig: &NodeRig, agent: &Pod<'_>) -> Result<Leashed> {
    let sandbox = agent.sandbox().context("no network of its own")?;
    let mut command = agent.command(Profile::NetRaw, &programs::beside("hammer")?)?;
    command.arg(sandbox.gateway()?);
    for host in [API, API_SERVICE] {
        let sockets = host.sockets(Families::Dual, API_PORT);
        command.args(sockets.iter().map(ToString::to_string));
    }
    let log = rig.cluster().folder().join(format!("hammer-{}.log", agent.uid()));
    Leashed::start_command("hammer", command, &log)
}
