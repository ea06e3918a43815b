//! Credential plugins (`client.authentication.k8s.io`, `aws eks get-token` style): which program, as whom, and when again.

mod executable;
mod process;
mod protocol;

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube_client::config::{ExecConfig, ExecInteractiveMode};

use crate::upstream::exec::executable::{Executable, find};
use crate::upstream::exec::protocol::Version;
use crate::upstream::kubeconfig::{Chosen, non_empty};
use crate::upstream::refreshed::{Fetch, FetchFuture, Fetched};
use crate::upstream::{CredentialError, KubeconfigOptions, RunAs};

/// A plugin that takes longer is killed: it most likely waits for somebody to log in.
const TIMEOUT: Duration = Duration::from_secs(60);
/// A new credential is got at this share of the old one's life, in hundredths …
const REFRESH_AT: i32 = 80;
/// … or this long before its end, whichever comes first.
const AHEAD: SignedDuration = SignedDuration::from_secs(60);
/// A credential is not used in its last seconds: the request takes time to arrive.
const MARGIN: SignedDuration = SignedDuration::from_secs(5);

/// A plugin, ready to be started again and again.
pub(super) struct Plugin {
    executable: Executable,
    args: Vec<String>,
    env: Vec<(OsString, OsString)>,
    version: Version,
    run_as: Option<RunAs>,
    timeout: Duration,
}

impl Plugin {
    /// Checks the kubeconfig's entry and finds the program, once: later starts use the very same file.
    pub(super) fn new(
        exec: &ExecConfig,
        chosen: &Chosen,
        options: &KubeconfigOptions,
        warnings: &mut Vec<String>,
    ) -> Result<Self, String> {
        let version = Version::parse(exec.api_version.as_deref())?;
        if exec.interactive_mode == Some(ExecInteractiveMode::Always) {
            return Err("its exec plugin has `interactiveMode: Always`, and the guard never gives a plugin the terminal: \
                        log in first and set `IfAvailable` or `Never`"
                .to_owned());
        }
        let command = non_empty(exec.command.as_deref()).ok_or("its exec plugin has no `command`: set it")?;
        let path = find(command, options).ok_or_else(|| not_found(command, exec))?;
        let executable = Executable::pin(path)?;
        if let Some(warning) = executable.warning(options.run_as.as_ref()) {
            warnings.push(warning);
        }
        let mut env = plugin_env(exec)?;
        let info = protocol::exec_info(version, exec, &chosen.cluster)?;
        env.push(("KUBERNETES_EXEC_INFO".into(), info.into()));
        Ok(Self {
            executable,
            args: exec.args.clone().unwrap_or_default(),
            env,
            version,
            run_as: options.run_as.clone(),
            timeout: TIMEOUT,
        })
    }

    async fn run(&self, now: Timestamp) -> Result<Fetched, CredentialError> {
        let name = self.executable.path().display();
        self.executable.check_unchanged().map_err(CredentialError::new)?;
        let output = process::run(self.command(), self.timeout)
            .await
            .map_err(|error| CredentialError::new(format!("credential plugin {name} {error}")))?;
        let status = protocol::parse(self.version, &output)
            .map_err(|cause| CredentialError::new(format!("credential plugin {name} {cause}")))?;
        drop(output);
        let expires = status.expires;
        if expires.is_some_and(|at| at <= now) {
            return Err(CredentialError::new(format!(
                "credential plugin {name} gave a credential that has already expired: log in again, and check the clock"
            )));
        }
        let credential = status.into_credential().map_err(|cause| {
            CredentialError::new(format!(
                "credential plugin {name} gave a credential that cannot be used: {cause}"
            ))
        })?;
        Ok(Fetched {
            credential,
            refresh_at: expires.and_then(|at| refresh_at(now, at)),
            expires_at: expires.and_then(|at| at.checked_sub(MARGIN).ok()),
        })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.executable.path());
        command
            .args(&self.args)
            // Code that a user keeps in the home folder for every Python program would run outside the boundary.
            .env("PYTHONNOUSERSITE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // A group of its own, so that what the plugin starts ends with it.
        command.process_group(0);
        if let Some(user) = &self.run_as {
            // Dropping from root, the standard library drops supplementary groups as well.
            command.uid(user.uid).gid(user.gid).env("HOME", &user.home);
            for root_owned in [
                "USER",
                "LOGNAME",
                "MAIL",
                "XDG_RUNTIME_DIR",
                "XDG_CONFIG_HOME",
                "XDG_CACHE_HOME",
            ] {
                command.env_remove(root_owned);
            }
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }
}

impl Fetch for Plugin {
    fn fetch(&self, now: Timestamp) -> FetchFuture<'_> {
        Box::pin(self.run(now))
    }
}

/// At 80 % of the life or a minute before the end, whichever comes first; never in the past.
fn refresh_at(now: Timestamp, expires: Timestamp) -> Option<Timestamp> {
    let life = expires.duration_since(now);
    let share = life.checked_mul(REFRESH_AT)?.checked_div(100)?;
    let early = life.checked_sub(AHEAD)?;
    now.checked_add(share.min(early).max(SignedDuration::ZERO)).ok()
}

fn plugin_env(exec: &ExecConfig) -> Result<Vec<(OsString, OsString)>, String> {
    let entries = exec.env.as_deref().unwrap_or_default().iter();
    entries
        .map(|entry| match (entry.get("name"), entry.get("value")) {
            (Some(name), value) if !name.is_empty() && !name.contains(['=', '\0']) => {
                Ok((name.into(), value.map(OsString::from).unwrap_or_default()))
            }
            _ => Err("its exec plugin has an `env` entry without a proper `name`: correct it".to_owned()),
        })
        .collect()
}

fn not_found(command: &str, exec: &ExecConfig) -> String {
    let hint = non_empty(exec.install_hint.as_deref())
        .map(|hint| format!(" ({})", process::one_line(hint.as_bytes())))
        .unwrap_or_default();
    format!(
        "its exec plugin {command:?} is not an executable file in PATH: install it{hint}, or write its full path as \
         `command` (sudo has a PATH of its own)"
    )
}

#[cfg(test)]
mod tests;
