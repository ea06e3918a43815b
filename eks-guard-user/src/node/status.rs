//! What the daemon says of itself: a document on a socket that only root can open, shown as a table or as it is.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::node::canaries::Trial;
use crate::output;

/// The socket's name in the state folder.
const SOCKET: &str = "status.sock";
/// Longest document that is read.
const READ_LIMIT: u64 = 64 << 20;
/// How long a reader may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The whole document.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Name of the node.
    pub node: String,
    /// Process id of the daemon itself, the loader.
    pub loader: u32,
    /// Process id of the proxy; none: agents are refused.
    pub proxy: Option<u32>,
    /// How often the proxy had to be started again.
    pub proxy_restarts: u64,
    /// Whether the container runtime holds pods back until they are classified; none: it is not asked to.
    pub nri_connected: Option<bool>,
    /// Whether the kernel programs are attached.
    pub attached: bool,
    /// Whether pods and Services have been told as a whole since the start.
    pub synced: bool,
    /// Generation of the policies in force; 0: none, only discovery is allowed.
    pub policy_generation: u64,
    /// Generation of each policy as the API server told it last, in force unless a problem says otherwise; empty where policies
    /// are files.
    #[serde(default)]
    pub policies: BTreeMap<String, u64>,
    /// Addresses of the API server.
    pub api: Vec<SocketAddr>,
    /// Whether what the node forwards for agents is looked at behind every rewriting of destinations.
    #[serde(default)]
    pub forwarding_closed: bool,
    /// Packets of agents that were dropped there.
    #[serde(default)]
    pub forwarding_dropped: u64,
    /// Whether the daemon tries its agents itself; the node's condition and taint are its own then.
    #[serde(default)]
    pub watches: bool,
    /// connect() calls that were redirected to the guard.
    #[serde(default)]
    pub redirected: u64,
    /// Flow entries that the kernel programs wrote: connections that came to the guard's listeners.
    #[serde(default)]
    pub flows: u64,
    /// What the kernel programs refused, by where.
    #[serde(default)]
    pub refusals: BTreeMap<String, u64>,
    /// Events of refusals that nobody could read: of those there are counts only.
    #[serde(default)]
    pub events_lost: u64,
    /// Attempts of agents to get past the guard, exactly, since the maps were made.
    #[serde(default)]
    pub bypass_attempts: u64,
    /// What was taken off and put back since the start, with how often.
    #[serde(default)]
    pub repairs: BTreeMap<String, u64>,
    /// Layers that do not hold and could not be put back, one sentence each; all of them are among the problems.
    #[serde(default)]
    pub lost: Vec<String>,
    /// What is wrong now, one sentence each.
    pub problems: Vec<String>,
    /// Every pod that has a cgroup.
    pub pods: Vec<PodStatus>,
}

/// One pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodStatus {
    /// What its cgroup is named after.
    pub uid: String,
    /// Id of its cgroup.
    pub cgroup: u64,
    /// Namespace; empty for a cgroup that is no known pod's.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// `agent`, `system`, `ordinary` or `unknown`.
    pub class: String,
    /// Name of the agent.
    pub agent: Option<String>,
    /// Port of its listener; none: it reaches nothing.
    pub port: Option<u16>,
    /// `allowList` or `blockList`, which is weaker; agents only.
    pub egress: Option<String>,
    /// What the kernel programs refused it since the start, as far as events were read; agents only.
    #[serde(default)]
    pub refused: u64,
    /// Of those, attempts to get past the guard.
    #[serde(default)]
    pub bypass_attempts: u64,
    /// Indices of the node's ends of its cables that are closed to raw frames; agents only.
    pub interfaces: Vec<u32>,
    /// What the last trial from inside came to; agents only, and only where trials are configured.
    #[serde(default)]
    pub verified: Option<Trial>,
}

/// Why there is no status.
#[derive(Debug, thiserror::Error)]
#[error("no eks-guard node answers at {}: is it running, and are you root?", path.display())]
pub struct StatusError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl StatusError {
    /// The question could not be asked.
    #[must_use]
    pub fn broken(source: io::Error) -> Self {
        let path = PathBuf::from(SOCKET);
        Self { path, source }
    }
}

/// Answers on the socket until dropped.
///
/// # Errors
/// The socket cannot be made.
pub fn listen(folder: &Path) -> io::Result<UnixListener> {
    let path = folder.join(SOCKET);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    // The folder is root's alone (0700), so nobody else can connect before the mode is set.
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Writes the status in force to everybody who connects, one at a time.
pub async fn serve(listener: UnixListener, status: watch::Receiver<Status>) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_secs(1)).await;
            continue;
        };
        let text = serde_json::to_vec(&*status.borrow()).unwrap_or_default();
        let written = timeout(PATIENCE, async {
            stream.write_all(&text).await?;
            stream.shutdown().await
        });
        match written.await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => tracing::debug!("a reader of the status went away"),
        }
    }
}

/// Asks the daemon whose state folder this is.
///
/// # Errors
/// Nobody answers, or not with a status.
pub fn ask(folder: &Path) -> Result<Status, StatusError> {
    let path = folder.join(SOCKET);
    let failed = |source| StatusError {
        path: path.clone(),
        source,
    };
    let stream = UnixStream::connect(&path).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    let mut text = String::new();
    stream
        .take(READ_LIMIT)
        .read_to_string(&mut text)
        .map_err(failed)?;
    serde_json::from_str(&text).map_err(|error| failed(error.into()))
}

/// For a person.
///
/// # Errors
/// Only when `out` cannot be written.
pub fn table(status: &Status, out: &mut dyn Write) -> io::Result<()> {
    let yes = |is: bool| if is { "yes" } else { "no" };
    writeln!(out, "node {}", status.node)?;
    writeln!(
        out,
        "attached {}, synced {}, policy generation {}",
        yes(status.attached),
        yes(status.synced),
        status.policy_generation
    )?;
    let proxy = status
        .proxy
        .map_or_else(|| "none".to_owned(), |pid| pid.to_string());
    writeln!(
        out,
        "loader {}, proxy {proxy}, proxy restarts {}",
        status.loader, status.proxy_restarts
    )?;
    let api: Vec<String> = status.api.iter().map(ToString::to_string).collect();
    writeln!(out, "API server {}", api.join(" "))?;
    for pod in status.pods.iter().filter(|pod| pod.bypass_attempts > 0) {
        let attempts = pod.bypass_attempts;
        writeln!(
            out,
            "BYPASS ATTEMPTED {attempts} times by {}/{}",
            pod.namespace, pod.name
        )?;
    }
    for (what, times) in &status.repairs {
        writeln!(out, "REPAIRED {times} times: {what}")?;
    }
    for problem in &status.problems {
        writeln!(out, "PROBLEM {problem}")?;
    }
    if status.pods.is_empty() {
        return Ok(());
    }
    let rows: Vec<[String; 6]> = status.pods.iter().map(row).collect();
    let head = ["POD", "CLASS", "AGENT", "LISTENER", "EGRESS", "VERIFIED"].map(str::to_owned);
    output::table(&head, rows, out)
}

fn row(pod: &PodStatus) -> [String; 6] {
    let name = if pod.name.is_empty() {
        pod.uid.clone()
    } else {
        format!("{}/{}", pod.namespace, pod.name)
    };
    let port = match (pod.port, &pod.agent) {
        (Some(port), _) => port.to_string(),
        (None, Some(_)) => "none".to_owned(),
        (None, None) => "-".to_owned(),
    };
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    [
        name,
        pod.class.clone(),
        or_dash(&pod.agent),
        port,
        or_dash(&pod.egress),
        pod.verified.as_ref().map_or_else(|| "-".to_owned(), verified),
    ]
}

fn verified(trial: &Trial) -> String {
    let time = trial.time.strftime("%Y-%m-%dT%H:%M:%SZ");
    match trial.problems.as_slice() {
        [] => format!("held {time}"),
        problems => format!("FAILED {time}: {}", problems.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::task::TaskTracker;

    use super::*;

    fn status() -> Status {
        Status {
            node: "n".to_owned(),
            api: vec!["10.0.0.1:443".parse().unwrap()],
            problems: vec!["something".to_owned()],
            pods: vec![
                PodStatus {
                    namespace: "shop".to_owned(),
                    name: "bot".to_owned(),
                    class: "agent".to_owned(),
                    agent: Some("shop".to_owned()),
                    egress: Some("allowList".to_owned()),
                    verified: Some(Trial {
                        time: jiff::Timestamp::UNIX_EPOCH,
                        problems: vec!["N01 reached".to_owned()],
                    }),
                    ..PodStatus::default()
                },
                PodStatus {
                    uid: "u".to_owned(),
                    class: "unknown".to_owned(),
                    ..PodStatus::default()
                },
            ],
            ..Status::default()
        }
    }

    #[tokio::test]
    async fn it_is_asked_on_a_socket_that_is_roots() {
        let folder = tempfile::tempdir().unwrap();
        let listener = listen(folder.path()).unwrap();
        let mode = std::fs::metadata(folder.path().join(SOCKET))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let (_status_tx, status_rx) = watch::channel(status());
        TaskTracker::new().spawn(serve(listener, status_rx));
        let path = folder.path().to_owned();
        let asked = tokio::task::spawn_blocking(move || ask(&path)).await.unwrap();
        assert_eq!(asked.unwrap(), status());
        // A socket that a killed daemon left is taken over.
        listen(folder.path()).unwrap();
        assert!(ask(Path::new("/no/such/folder")).is_err());
    }

    #[test]
    fn the_table_shows_what_is_missing() {
        let mut text = Vec::new();
        table(&status(), &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("PROBLEM something"), "{text}");
        assert!(
            text.contains(
                "shop/bot  agent    shop   none      allowList  FAILED 1970-01-01T00:00:00Z: N01 reached"
            ),
            "{text}"
        );
        assert!(
            text.contains("u         unknown  -      -         -          -"),
            "{text}"
        );
    }
}
