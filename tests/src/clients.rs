//! One client's work twice, at the same time: straight to the API server, and through the guard with the same rights. What
//! became of each operation is a row of `docs/compatibility.md`.
//!
//! A client is any command that prints one JSON document for each operation. `kubectl` and `helm` run in scripts, one step of
//! which is an operation (the program `errands`).

pub mod corpus;
mod normal;
pub mod page;
mod pins;
mod recorder;
mod side;
mod stored;

use std::ffi::OsStr;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::audit::Mark;
use crate::clients::page::Column;
use crate::clients::recorder::Recorder;
use crate::clients::side::{Side, open_to_all};
use crate::cluster::Cluster;
use crate::guarded::Guarded;
use crate::kubelet::Kubelet;
use crate::{command, leash, policies, programs, records};

/// What one operation said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its name.
    pub operation: String,
    /// 0, unless the operation failed.
    #[serde(default)]
    pub code: i32,
    /// Its output.
    pub said: String,
}

/// An operation that is another one through the guard, and why.
#[derive(Clone, Copy, Debug)]
pub struct Exception {
    /// Its name.
    pub operation: &'static str,
    /// What the guarded side has to say.
    pub says: &'static str,
    /// The cell of the page.
    pub verdict: &'static str,
}

/// Two namespaces and a guard for one client.
pub struct Clients<'a> {
    cluster: &'a Cluster,
    guarded: Guarded<'a>,
    client: &'static str,
    version: String,
    folder: PathBuf,
    sides: [Side; 2],
    env: Vec<(String, String)>,
    exceptions: &'static [Exception],
}

/// Reasons of refusals that are the API server's own word about the change, which the guard tried first.
const TOLD: [&str; 3] = ["ChangeRejected", "ObjectChanged", "ObjectNotFound"];
/// Subresources that nobody may use through the guard, under whichever id and name a request for them arrives.
const CLOSED: [&str; 5] = ["exec", "attach", "portforward", "proxy", "token"];
/// How long a client may take for all of its work before it counts as stuck.
const PATIENCE: Duration = Duration::from_secs(900);
const DIRECT: usize = 0;
const GUARDED: usize = 1;

impl<'a> Clients<'a> {
    /// A client of the page whose version begins like this; `name` is the beginning of its namespaces.
    pub fn new(cluster: &'a Cluster, client: &'static str, version: &str, name: &str) -> Result<Self> {
        let guarded = Guarded::new(cluster, name, &policies::everything_in_clear())?;
        let folder = guarded.home().to_owned();
        open_to_all(&folder.join("bin"))?;
        let mut sides = Vec::new();
        // Names of one length: tables are as wide on both sides.
        for (side, namespace) in ["direct", "through"].into_iter().zip(["d", "g"]) {
            let namespace = format!("{name}-{namespace}");
            cluster.create_namespace(&namespace)?;
            sides.push(Side::new(namespace, folder.join(side))?);
        }
        let sides = sides.try_into().ok().context("two sides")?;
        Ok(Self {
            cluster,
            guarded,
            client,
            version: pins::version(client, version)?,
            folder,
            sides,
            env: Vec::new(),
            exceptions: &[],
        })
    }

    /// Sets a variable on both sides.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// What is not as without the guard.
    #[must_use]
    pub fn except(mut self, exceptions: &'static [Exception]) -> Self {
        self.exceptions = exceptions;
        self
    }

    /// Puts a program where both sides find it, under this name.
    pub fn program(&self, from: &Path, name: &str) -> Result<PathBuf> {
        let to = self.folder.join("bin").join(name);
        let from = fs::canonicalize(from)
            .with_context(|| format!("no {}; run `cargo xtask setup`", from.display()))?;
        if fs::hard_link(&from, &to).is_err() {
            fs::copy(&from, &to).with_context(|| format!("copying {}", from.display()))?;
        }
        Ok(to)
    }

    /// A Deployment without pods in both namespaces, which the controllers are done with.
    pub fn deployment(&self, name: &str) -> Result<()> {
        for side in &self.sides {
            let namespace = side.namespace.as_str();
            let image = "--image=registry.test/web:1";
            for line in [
                [
                    "-n",
                    namespace,
                    "create",
                    "deployment",
                    name,
                    image,
                    "--replicas=0",
                ]
                .as_slice(),
                &["-n", namespace, "rollout", "status", "deployment", name],
            ] {
                self.cluster.kubectl(line)?.ok()?;
            }
        }
        Ok(())
    }

    /// A pod that "runs" in both namespaces and has logged two lines.
    pub fn running_pod(&self, node: &str, pod: &str) -> Result<()> {
        let kubelet = Kubelet::start(self.cluster, node)?;
        for side in &self.sides {
            kubelet.run_pod(&side.namespace, pod)?;
            kubelet.log(&side.namespace, pod, "first");
            kubelet.log(&side.namespace, pod, "second");
        }
        Ok(())
    }

    /// Copies a folder of `tests/clients` into both homes, in which commands start.
    pub fn files(&self, folder: &str) -> Result<()> {
        let from = programs::workspace().join("tests/clients").join(folder);
        for side in &self.sides {
            side.copy(&from)?;
        }
        Ok(())
    }

    /// Puts an installation where both sides find it.
    pub fn packages(&self, from: &Path) -> Result<PathBuf> {
        let to = self.folder.join("packages");
        let copy = |how: &str| {
            let mut cp = Command::new("cp");
            cp.args(["--archive", how]).arg(from).arg(&to);
            command::run(cp)?.ok()
        };
        // The folder of the installation may be closed to other users, and on another file system.
        if copy("--link").is_err() {
            copy("--force").context("copying an installation")?;
        }
        Ok(to)
    }

    /// Runs the script of a folder of `tests/clients` on both sides and compares.
    pub fn script(&self, folder: &str) -> Result<()> {
        self.files(folder)?;
        let errands = self.program(&programs::beside("errands")?, "errands")?;
        self.compare(&[errands.as_os_str(), OsStr::new("errands.sh")])
    }

    /// Does the work on both sides and holds what became of it against the page.
    pub fn compare(&self, line: &[&OsStr]) -> Result<()> {
        let mark = self.cluster.audit().mark()?;
        let recorder = Recorder::when_wanted(self.cluster, &self.guarded, self.client)?;
        let (kubeconfig, server) = match &recorder {
            Some(recorder) => (recorder.kubeconfig(), recorder.address()),
            None => (self.guarded.kubeconfig(), self.cluster.server()),
        };
        let (direct, guarded) = thread::scope(|scope| {
            let direct = scope.spawn(|| entries(self.direct(kubeconfig, line)?));
            let guarded = entries(self.through_guard(line)?);
            let direct = direct.join().ok().context("the direct side panicked")?;
            anyhow::Ok((direct?, guarded?))
        })?;
        if let Some(recorder) = &recorder {
            recorder.keep(&self.version)?;
        }
        let mut column = Column::new(self.client, &self.version);
        ensure!(
            direct.len() == guarded.len(),
            "the sides did not get equally far\ndirect: {direct:#?}\nguarded: {guarded:#?}"
        );
        let mut differences = Vec::new();
        for (direct, guarded) in direct.iter().zip(&guarded) {
            match self.verdict(direct, guarded, server) {
                Ok(verdict) => column.push(&direct.operation, &verdict),
                Err(difference) => differences.push(format!("{difference:#}")),
            }
        }
        match self.stored() {
            Ok(verdict) => column.push("objects stored by all of it", verdict),
            Err(difference) => differences.push(format!("{difference:#}")),
        }
        ensure!(
            differences.is_empty(),
            "{} {} is not as without the guard:\n{}",
            self.client,
            self.version,
            differences.join("\n")
        );
        self.nothing_refused_arrived(mark)?;
        page::is_up_to_date(&column)
    }

    /// `server` is the one that the direct side was told of.
    fn verdict(&self, direct: &Entry, guarded: &Entry, server: SocketAddr) -> Result<String> {
        let servers = [server, self.cluster.server()];
        let normal = |entry: &Entry, side: usize| Entry {
            said: self.sides[side]
                .normal(&entry.said)
                .replace(&servers[side].to_string(), "SERVER"),
            ..entry.clone()
        };
        let (direct, guarded) = (normal(direct, DIRECT), normal(guarded, GUARDED));
        let exception = self
            .exceptions
            .iter()
            .find(|other| other.operation == direct.operation);
        match exception {
            Some(exception) if guarded != direct && guarded.said.contains(exception.says) => {
                Ok(exception.verdict.to_owned())
            }
            None if guarded == direct && direct.code == 0 => Ok(page::SAME[0].to_owned()),
            None if guarded == direct => Ok(page::SAME[1].to_owned()),
            Some(_) | None => bail!(
                "{}: {} and {}\n--- direct\n{}\n--- guarded\n{}",
                direct.operation,
                direct.code,
                guarded.code,
                direct.said,
                guarded.said
            ),
        }
    }

    /// Compares what lies in the two namespaces.
    fn stored(&self) -> Result<&'static str> {
        let [direct, guarded] =
            [DIRECT, GUARDED].map(|side| stored::objects(self.cluster, &self.sides[side].namespace));
        let (direct, guarded) = (direct?, guarded?);
        ensure!(!direct.is_empty(), "nothing was stored");
        for name in direct.keys().chain(guarded.keys()) {
            let (direct, guarded) = (direct.get(name), guarded.get(name));
            ensure!(
                direct == guarded,
                "{name} is stored otherwise\n--- direct\n{direct:#?}\n--- guarded\n{guarded:#?}"
            );
        }
        Ok(page::SAME[0])
    }

    /// Whatever the guard has refused has not reached the API server, and it was refused for a reason that the page names.
    fn nothing_refused_arrived(&self, mark: Mark) -> Result<()> {
        let events = self.cluster.audit().since(mark)?;
        let namespace = &self.sides[GUARDED].namespace;
        let closed = events.iter().find(|event| {
            let object = event.object.as_ref();
            object.is_some_and(|it| it.namespace == *namespace && CLOSED.contains(&it.subresource.as_str()))
        });
        ensure!(
            closed.is_none(),
            "no policy opens it, and it arrived: {closed:#?}"
        );
        for record in records::read(&self.guarded.records())? {
            if records::text(&record, "decision") != "refuse" {
                continue;
            }
            let (id, reason) = (records::text(&record, "id"), records::text(&record, "reason"));
            ensure!(
                !events.iter().any(|event| event.audit_id == id),
                "refused, and it arrived: {record:#}"
            );
            let mut exceptions = self.exceptions.iter();
            ensure!(
                TOLD.contains(&reason) || exceptions.any(|exception| exception.verdict.contains(reason)),
                "not to be refused: {record:#}"
            );
        }
        Ok(())
    }

    fn direct(&self, kubeconfig: &Path, line: &[&OsStr]) -> Result<command::Output> {
        let program = line.first().context("no command")?;
        let mut command = leash::hold(Path::new(program))?;
        command
            .args(&line[1..])
            .env_clear()
            .envs(self.variables(DIRECT))
            .env("KUBECONFIG", kubeconfig)
            .current_dir(&self.sides[DIRECT].home);
        command::run_within(PATIENCE, command)
    }

    fn through_guard(&self, line: &[&OsStr]) -> Result<command::Output> {
        let mut command: Command = self.guarded.command(line)?;
        command
            .envs(self.variables(GUARDED))
            .current_dir(&self.sides[GUARDED].home);
        command::run_within(PATIENCE, command)
    }

    fn variables(&self, side: usize) -> Vec<(String, String)> {
        let mut env = self.sides[side].variables(&self.folder.join("bin"));
        env.extend(self.env.iter().cloned());
        env
    }
}

/// The documents that a client printed.
fn entries(output: command::Output) -> Result<Vec<Entry>> {
    ensure!(output.code == 0, "the client did not end well: {output:#?}");
    let entries: Vec<Entry> = output
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("reading {line}")))
        .collect::<Result<_>>()?;
    ensure!(!entries.is_empty(), "the client said nothing: {output:#?}");
    Ok(entries)
}
