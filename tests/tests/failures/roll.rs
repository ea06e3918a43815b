//! API servers that are replaced one by one behind one address, while agents work: what would not have failed without the
//! guard does not fail through it.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use rig::balancer::Balancer;
use rig::cluster::{Cluster, shared};
use rig::guarded::Guarded;
use rig::policies::EVERYTHING;
use rig::{leash, wait};

/// How the API servers of a managed control plane go: they serve on for a while, then turn requests away, then end watches.
const GRACEFUL: [&str; 3] = [
    "--shutdown-delay-duration=2s",
    "--shutdown-send-retry-after=true",
    "--shutdown-watch-termination-grace-period=2s",
];

/// Rounds of work that are waited for between one event and the next.
const ROUNDS: usize = 3;

#[test]
fn a_roll_of_the_api_servers_fails_nothing_that_would_not_fail_without_the_guard() -> Result<()> {
    let cluster = shared()?;
    let one = cluster.start_replica(&GRACEFUL)?;
    let balancer = Balancer::before(&[one.address()])?;
    let guarded = Guarded::new(cluster, "roll", EVERYTHING)?.by_way_of(balancer.address())?;
    let sides = [
        Worker::through(cluster, &guarded)?,
        Worker::direct(cluster, &guarded)?,
    ];
    all_work(&sides)?;

    let two = cluster.start_replica(&GRACEFUL)?;
    balancer.rotate(&[two.address()]);
    one.stop()?;
    let [through, direct] = sides.each_ref().map(Worker::end_of_watch);
    let (through, direct) = (through?, direct?);
    ensure!(
        through == direct,
        "without the guard the watch ended with {direct:?}, through it with {through:?}"
    );
    all_work(&sides)?;

    let three = cluster.start_replica(&GRACEFUL)?;
    balancer.rotate(&[three.address()]);
    two.stop()?;
    all_work(&sides)?;

    let [through, direct] = sides.map(|worker| worker.finish(cluster));
    let (through, direct) = (through?, direct?);
    ensure!(
        through.failed <= direct.failed,
        "through the guard {through:?}\nwithout it {direct:?}"
    );
    ensure!(
        through.made + through.failed >= through.asked,
        "what was said to be made is not there: {through:?}"
    );
    Ok(())
}

/// Somebody who creates ConfigMaps, reads each, and watches all of them.
struct Worker {
    child: Child,
    folder: PathBuf,
    namespace: &'static str,
}

/// What a worker has to say.
#[derive(Debug)]
#[allow(
    dead_code,
    reason = "the errors are shown when there are more than there should be"
)]
struct Account {
    asked: usize,
    failed: usize,
    /// ConfigMaps that are there.
    made: usize,
    errors: String,
}

impl Worker {
    fn through(cluster: &Cluster, guarded: &Guarded<'_>) -> Result<Self> {
        let namespace = "roll-through";
        cluster.create_namespace(namespace)?;
        let script = script(namespace);
        let command = guarded.command(&["/bin/sh", "-c", script.as_str()].map(OsStr::new))?;
        Self::start(command, guarded.home().to_owned(), namespace)
    }

    fn direct(cluster: &Cluster, guarded: &Guarded<'_>) -> Result<Self> {
        let namespace = "roll-direct";
        cluster.create_namespace(namespace)?;
        let folder = guarded.home().join("direct");
        fs::create_dir(&folder)?;
        let mut command = leash::hold(Path::new("/bin/sh"))?;
        command
            .args(["-c", &script(namespace)])
            .current_dir(&folder)
            .env_clear();
        command
            .env("PATH", guarded.path())
            .env("HOME", &folder)
            .env("KUBECONFIG", guarded.kubeconfig());
        Self::start(command, folder, namespace)
    }

    fn start(mut command: Command, folder: PathBuf, namespace: &'static str) -> Result<Self> {
        command.stdin(Stdio::null());
        let child = leash::spawn(command)?;
        Ok(Self {
            child,
            folder,
            namespace,
        })
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.join(name)).unwrap_or_default()
    }

    /// Rounds that succeeded so far.
    fn rounds(&self) -> usize {
        self.read("done").lines().count()
    }

    /// Exit code of the watch, and what it complained about.
    fn end_of_watch(&self) -> Result<(String, String)> {
        let code = wait::found("the watch ends", || {
            Ok(Some(self.read("watch-code")).filter(|code| code.ends_with('\n')))
        })?;
        Ok((code, self.read("watch-errors")))
    }

    fn finish(mut self, cluster: &Cluster) -> Result<Account> {
        fs::write(self.folder.join("stop"), "")?;
        ensure!(self.child.wait()?.success());
        let asked = self.read("asked").trim().parse().context("reading how many")?;
        let maps = cluster
            .kubectl(&[
                "-n",
                self.namespace,
                "get",
                "configmaps",
                "-l",
                "roll",
                "-o",
                "name",
            ])?
            .ok()?;
        Ok(Account {
            asked,
            failed: asked - self.rounds(),
            made: maps.lines().count(),
            errors: self.read("errors"),
        })
    }
}

/// A round is done when both of its commands have succeeded.
fn script(namespace: &str) -> String {
    format!(
        "exec >said 2>errors
         manifest() {{
           printf '{{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{{\"name\":\"m%s\",\"labels\":{{\"roll\":\"\"}}}}}}' $1
         }}
         (kubectl -n {namespace} get configmaps --watch -o name >seen 2>watch-errors; echo $? >watch-code) &
         n=0
         until test -e stop; do
           n=$((n + 1))
           manifest $n | kubectl -n {namespace} create -f - && kubectl -n {namespace} get configmap m$n && echo $n >>done
         done
         echo $n >asked
         wait"
    )
}

/// Both sides get on, and both watch.
fn all_work(sides: &[Worker; 2]) -> Result<()> {
    for side in sides {
        let before = side.rounds();
        wait::until("the work goes on, and is seen by the watch", || {
            Ok(side.rounds() >= before + ROUNDS && (!side.read("seen").is_empty()))
        })?;
    }
    Ok(())
}

/// As many requests at once as one connection upstream carries, and more.
const AT_ONCE: usize = 40;
const CREATED: usize = 600;

#[test]
fn an_api_server_that_sends_its_callers_elsewhere_gets_each_request_once() -> Result<()> {
    let cluster = shared()?;
    cluster.create_namespace("away")?;
    // One request in fifty ends its connection, for what comes behind it.
    let replica = cluster.start_replica(&["--goaway-chance=0.02"])?;
    let balancer = Balancer::before(&[replica.address()])?;
    let guarded = Guarded::new(cluster, "away", EVERYTHING)?.by_way_of(balancer.address())?;
    let body = r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"generateName":"g-"}}"#;
    let codes = guarded.shell(&format!(
        "curl --silent --show-error --insecure --http2 --parallel --parallel-max {AT_ONCE} --max-time 600 \
         --header 'Content-Type: application/json' --data '{body}' --output /dev/null --write-out '%{{http_code}}\\n' \
         'https://{}/api/v1/namespaces/away/configmaps?fieldManager=m[1-{CREATED}]'",
        balancer.address()
    ))?;
    let created = codes.stdout.lines().filter(|code| *code == "201").count();
    ensure!(created == CREATED && codes.code == 0, "{codes:?}");
    let list = cluster.admin().get("/api/v1/namespaces/away/configmaps")?;
    let items = list["items"].as_array().context("no list")?;
    let made = items.iter().filter(|item| {
        item["metadata"]["name"]
            .as_str()
            .is_some_and(|name| name.starts_with("g-"))
    });
    ensure!(made.count() == CREATED, "not each of them was made once");
    ensure!(
        balancer.connections() > 2,
        "the API server sent nobody elsewhere: {} connections",
        balancer.connections()
    );
    Ok(())
}
