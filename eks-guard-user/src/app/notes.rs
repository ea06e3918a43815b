//! What the operator is told at the start: what the agent may do, what it lost, and what deserves a warning.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::time::timeout;

use crate::config::{Notes, RunConfig, StartupFiles};
use crate::run::scope::Scopes;
use crate::telemetry::say;
use crate::upstream::Upstream;

/// A person wonders after this long.
const PATIENCE: Duration = Duration::from_secs(2);

/// Says what is waited for when the API server, or a credential plugin, takes its time.
pub(crate) async fn while_waiting<T>(config: &RunConfig, url: &str, answer: impl Future<Output = T>) -> T {
    let mut answer = pin!(answer);
    if let Ok(answer) = timeout(PATIENCE, answer.as_mut()).await {
        return answer;
    }
    if config.notes == Notes::Print {
        say(&format!(
            "waiting for a credential and for the API server {url} (Ctrl-C calls it off)"
        ));
    }
    answer.await
}

/// Said whatever `--quiet` says: it changes what the boundary is worth.
pub(crate) fn warnings(config: &RunConfig, upstream: &Upstream) {
    if config.account.is_root() {
        say(
            "warning: the command runs as root, who can undo a boundary. Use --user root for trusted commands only",
        );
    }
    if config.startup_files == StartupFiles::LeftToCommand {
        say(
            "warning: the command may write start-up files, which your next shell or session runs outside the boundary",
        );
    }
    if let Some(gap) = Scopes::of_kernel().gap() {
        say(&format!("warning: {gap}"));
    }
    for warning in &upstream.warnings {
        say(&format!("warning: {warning}"));
    }
}

/// One line each: who, where, what is allowed, what was removed.
pub(crate) fn summary(config: &RunConfig, upstream: &Upstream, session: &str, removed: &[String]) {
    if config.notes == Notes::Quiet {
        return;
    }
    let (server, context) = (&upstream.endpoint.url, upstream.kubeconfig.context());
    say(&format!(
        "agent {:?} as user {}, session {session}",
        config.agent, config.account.name
    ));
    say(&format!(
        "API server {server} (context {context}), records in {}",
        config.records.display()
    ));
    if config.policy_files.is_empty() {
        say("no policy: only discovery is allowed. Give one with --policy FILE");
    } else {
        let files: Vec<_> = config
            .policy_files
            .iter()
            .map(|file| file.display().to_string())
            .collect();
        say(&format!("policy {}", files.join(", ")));
    }
    // Nobody misses what sudo and the guard itself had put there.
    let missed: Vec<&str> = removed
        .iter()
        .map(String::as_str)
        .filter(|name| !name.starts_with("SUDO_") && !name.starts_with("EKS_GUARD_"))
        .collect();
    if !missed.is_empty() {
        say(&format!(
            "removed from the environment: {} (--keep-env NAME keeps one)",
            missed.join(", ")
        ));
    }
}
