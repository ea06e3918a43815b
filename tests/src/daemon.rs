//! One daemon, with a bpffs, a state folder, policies and records of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::command::{self, Output};
use crate::leash::{self, Leashed};
use crate::node::{Layout, NODE_NAME, NodeRig, Pod, Profile};
use crate::place::Place;
use crate::{programs, wait};

/// Lets agents read pods and touch nothing else.
pub const READ_PODS: &str = r#"
apiVersion: eks-guard.dev/v1alpha1
kind: AgentPolicy
metadata: {name: read-pods}
spec:
  subjects: {agents: [shop]}
  rules:
    - {name: read, effect: allow, verbs: [get, list, watch], apiGroups: [""], resources: [pods], namespaces: ["*"]}
"#;

/// The line that makes the cluster the source of policies, as far as it is looked for.
const POLICY_SOURCE: &str = "policySource: cluster";

/// A daemon of the rig. Its bpffs lives in a mount namespace that dies with the test, and so do all pins.
pub struct Guard<'a> {
    rig: &'a NodeRig,
    folder: TempDir,
    mounts: Leashed,
    program: PathBuf,
    daemon: Option<Leashed>,
    _root: MutexGuard<'static, ()>,
}

/// Two daemons on one root of pods would each redirect to their own listeners: tests of one layout wait for each other.
static ROOTS: [Mutex<()>; Layout::ALL.len()] = [const { Mutex::new(()) }; Layout::ALL.len()];

fn take_root(layout: Layout) -> Result<MutexGuard<'static, ()>> {
    let place = Layout::ALL.iter().position(|known| *known == layout);
    let root = place
        .and_then(|place| ROOTS.get(place))
        .context("an unknown layout")?;
    // A test that failed has let go of its root all the same.
    Ok(root.lock().unwrap_or_else(PoisonError::into_inner))
}

impl<'a> Guard<'a> {
    /// Starts one for the pods of a layout, and waits until it knows all of them.
    pub fn start(rig: &'a NodeRig, layout: Layout) -> Result<Self> {
        Self::start_with(rig, layout, "")
    }

    /// The same with more lines in its configuration.
    pub fn start_with(rig: &'a NodeRig, layout: Layout, more: &str) -> Result<Self> {
        let mut guard = Self::prepare_with(rig, layout, more)?;
        guard.restart()?;
        guard.wait_until("everything is known", |status| status["synced"] == true)?;
        Ok(guard)
    }

    /// Everything that one for the pods of a layout needs; [`Guard::restart`] starts it.
    pub fn prepare(rig: &'a NodeRig, layout: Layout) -> Result<Self> {
        Self::prepare_with(rig, layout, "")
    }

    /// The same with more lines in its configuration.
    pub fn prepare_with(rig: &'a NodeRig, layout: Layout, more: &str) -> Result<Self> {
        let taken = take_root(layout)?;
        // In the cluster's folder, which is swept when the test is killed.
        let folder = tempfile::tempdir_in(rig.cluster().folder()).context("making the daemon's folder")?;
        for name in ["bpf", "policies"] {
            fs::create_dir(folder.path().join(name))?;
        }
        fs::write(folder.path().join("policies/read.yaml"), READ_PODS)?;
        let root = rig.cgroups().join(layout.kubepods());
        let place = |name: &str| folder.path().join(name).display().to_string();
        let table = table(&folder);
        // A guard has one source of policies.
        let policies = if more.contains(POLICY_SOURCE) {
            String::new()
        } else {
            format!("  policies: {}\n", place("policies"))
        };
        let config = format!(
            "apiVersion: eks-guard.dev/v1alpha1\nkind: NodeConfig\nspec:\n  nodeName: {NODE_NAME}\n  cgroupRoot: {}\n  \
             pins: {}\n  state: {}\n  records: {}\n  upstream: {{kubeconfig: {}}}\n{policies}{}",
            root.display(),
            // The table of the packet filter is called like it, and other tests' daemons share the node's network.
            place(&format!("bpf/{table}")),
            place("state"),
            place("records"),
            rig.cluster().admin_kubeconfig().display(),
            more,
        );
        fs::write(folder.path().join("node.yaml"), config)?;
        let mounted = folder.path().join("mounted");
        let script = format!(
            "mount -t bpf bpf {} && touch {} && exec sleep infinity",
            place("bpf"),
            mounted.display()
        );
        let mounts = Leashed::start(
            "mounts",
            &Place::default(),
            Path::new("/usr/bin/unshare"),
            &["--mount", "--propagation", "private", "/bin/sh", "-c", &script],
            &folder.path().join("mounts.log"),
        )?;
        wait::until("the bpffs is mounted", || Ok(mounted.exists()))?;
        Ok(Self {
            rig,
            folder,
            mounts,
            program: programs::eks_guard()?,
            daemon: None,
            _root: taken,
        })
    }

    /// Starts the daemon again.
    pub fn restart(&mut self) -> Result<()> {
        let place = Place {
            netns: Some(self.rig.network().node.path()),
            ..Place::default()
        };
        let args = self.args(&["node"]);
        let log = self.folder.path().join("daemon.log");
        self.daemon = Some(Leashed::start(
            "eks-guard node",
            &place,
            Path::new("/usr/bin/nsenter"),
            &args,
            &log,
        )?);
        Ok(())
    }

    /// From the next start on it is this program.
    pub fn replace_program(&mut self, program: PathBuf) {
        self.program = program;
    }

    /// Kills the daemon as a lack of memory would.
    pub fn kill(&mut self) -> Result<()> {
        self.daemon
            .take()
            .context("no daemon to kill")?
            .kill()
            .map(|_| ())
    }

    /// Sends the daemon a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.daemon.as_ref().context("no daemon")?.signal(signal)
    }

    /// Waits until the daemon has ended by itself.
    pub fn ended(&mut self) -> Result<()> {
        let daemon = self.daemon.as_mut().context("no daemon")?;
        wait::until("the daemon has ended", || Ok(daemon.exit_code()?.is_some()))
    }

    /// Its pins, as seen from here: the bpffs is mounted where others do not see it.
    pub fn pins(&self) -> PathBuf {
        let below = self.folder.path().join("bpf").join(self.table());
        let below = below.strip_prefix("/").unwrap_or(&below);
        Path::new("/proc")
            .join(self.mounts.id().to_string())
            .join("root")
            .join(below)
    }

    /// The name of its table, which is that of the folder of its pins.
    pub fn table(&self) -> String {
        table(&self.folder)
    }

    /// The option by which nsenter(1) sees what the daemon sees.
    pub fn mounts(&self) -> String {
        format!("--mount=/proc/{}/ns/mnt", self.mounts.id())
    }

    /// `eks-guard node …` beside the daemon.
    pub fn ask(&self, words: &[&str]) -> Result<Output> {
        let mut nsenter = Command::new("/usr/bin/nsenter");
        nsenter.args(self.args(words));
        command::run(nsenter)
    }

    /// `eks-guard …` in the node's network, as a second process of the daemon's container.
    pub fn on_the_node(&self, words: &[&str]) -> Result<Output> {
        let place = Place {
            netns: Some(self.rig.network().node.path()),
            ..Place::default()
        };
        let mut nsenter = leash::hold_in(&place, Path::new("/usr/bin/nsenter"))?;
        nsenter.args(self.args(words));
        command::run(nsenter)
    }

    /// The same as something that goes on; what it says stands in a file of this name.
    pub fn start_on_the_node(&self, words: &[&str], log: &str) -> Result<Leashed> {
        let place = Place {
            netns: Some(self.rig.network().node.path()),
            ..Place::default()
        };
        let nsenter = Path::new("/usr/bin/nsenter");
        Leashed::start(words[0], &place, nsenter, &self.args(words), &self.file(log))
    }

    /// What the daemon says of itself.
    pub fn status(&self) -> Result<Value> {
        self.status_by(&self.file("node.yaml"))
    }

    /// The same to whoever has another configuration with the same state folder.
    pub fn status_by(&self, config: &Path) -> Result<Value> {
        let mut nsenter = Command::new("/usr/bin/nsenter");
        nsenter.args(self.args_with(&["node", "status", "--json"], config));
        let text = command::run(nsenter)?.ok()?;
        serde_json::from_str(&text).context("reading the status")
    }

    /// Waits for a status.
    pub fn wait_until(&mut self, what: &str, is_so: impl Fn(&Value) -> bool) -> Result<Value> {
        let mut last = Value::Null;
        let found = wait::found(what, || {
            if let Some(daemon) = &mut self.daemon {
                daemon.check_alive()?;
            }
            let Ok(status) = self.status() else {
                return Ok(None);
            };
            last = status;
            Ok(is_so(&last).then(|| last.clone()))
        });
        found.with_context(|| {
            let log = self.daemon.as_ref().map(Leashed::log_tail).unwrap_or_default();
            format!("{last:#}\n{log}")
        })
    }

    /// Waits until an agent has its listener, and gives it the guard's authority in place of the cluster's. The port.
    pub fn serve(&mut self, pod: &Pod<'_>) -> Result<u64> {
        let uid = pod.uid().to_owned();
        let status = self.wait_until("the agent has a listener", |status| {
            row(status, &uid).is_some_and(|row| row["port"].is_u64())
        })?;
        // The first process makes the rig write the pod's files.
        command::run(pod.command(Profile::Restricted, Path::new("/bin/true"))?)?.ok()?;
        let folder = self.rig.cluster().folder().join("pods").join(&uid);
        // Written over: the file keeps its mode, by which the pod's user may read it.
        let authority = fs::read(self.file("state/ca.crt")).context("reading the guard's authority")?;
        fs::write(folder.join("serviceaccount/ca.crt"), authority)
            .context("giving the agent the guard's authority")?;
        let row = row(&status, &uid).context("the agent's row is gone")?;
        row["port"].as_u64().context("no port")
    }

    /// Waits for an event in a record.
    pub fn recorded(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Result<Value> {
        wait::found(&format!("in a record: {what}"), || {
            Ok(self.records()?.into_iter().find(&is_it))
        })
    }

    /// Every line of every record.
    pub fn records(&self) -> Result<Vec<Value>> {
        let mut events = Vec::new();
        for (_, text) in self.records_by_file()? {
            for line in text.lines() {
                events.push(serde_json::from_str(line).context("reading a record")?);
            }
        }
        Ok(events)
    }

    /// Each record's file name and its whole lines; the last may be written right now.
    pub fn records_by_file(&self) -> Result<Vec<(String, String)>> {
        let mut records = Vec::new();
        for file in fs::read_dir(self.folder.path().join("records"))? {
            let file = file?;
            let mut text = fs::read_to_string(file.path())?;
            text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
            records.push((file.file_name().to_string_lossy().into_owned(), text));
        }
        Ok(records)
    }

    /// A file of the daemon's own.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn args(&self, words: &[&str]) -> Vec<String> {
        self.args_with(words, &self.file("node.yaml"))
    }

    fn args_with(&self, words: &[&str], config: &Path) -> Vec<String> {
        let mut args = vec![self.mounts(), self.program.display().to_string()];
        args.extend(words.iter().map(|&word| word.to_owned()));
        args.extend(["--config".to_owned(), config.display().to_string()]);
        args
    }
}

impl Drop for Guard<'_> {
    /// The table outlives the daemon, as it must; but the rig's node has other daemons after this one.
    fn drop(&mut self) {
        self.daemon = None;
        let (node, table) = (&self.rig.network().node, self.table());
        let is_gone = || {
            let deleted = node.nft(&format!("delete table inet {table}"));
            Ok(deleted.is_ok() || node.nft_json(&["list", "table", "inet", &table]).is_err())
        };
        // While the dead daemon's socket is being closed the table is still its own. What is left goes with the node.
        let _left = wait::until("the daemon's table is removed", is_gone);
    }
}

/// A bpffs has no names with dots.
fn table(folder: &TempDir) -> String {
    let name = folder.path().file_name().unwrap_or_default().to_string_lossy();
    format!("eks-guard{}", name.replace('.', "-"))
}

/// A pod in a status.
pub fn row<'s>(status: &'s Value, uid: &str) -> Option<&'s Value> {
    status["pods"].as_array()?.iter().find(|row| row["uid"] == uid)
}
