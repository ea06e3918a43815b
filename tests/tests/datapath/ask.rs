//! What a process of a pod can be told to do, with programs that every machine has.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;
use rig::command::{self, Output};
use rig::node::{Pod, Profile};

/// A shell in the pod.
pub(crate) fn shell(pod: &Pod<'_>, profile: Profile, script: &str) -> Result<Output> {
    let mut bash = pod.command(profile, Path::new("/bin/bash"))?;
    bash.args(["-c", script]);
    command::run(bash)
}

/// Asks each URL over HTTP, and returns the lines of all bodies; an error when one does not answer.
pub(crate) fn http(pod: &Pod<'_>, urls: &[String]) -> Result<Vec<String>> {
    let mut curl = pod.command(Profile::Restricted, Path::new("/usr/bin/curl"))?;
    curl.args(["--silent", "--insecure", "--show-error", "--max-time", "60"]);
    // A body need not end with a line.
    curl.args(["--write-out", "\\n"]).args(urls);
    let output = command::run(curl)?.ok()?;
    Ok(output.lines().map(str::to_owned).collect())
}

/// Sends a datagram and returns the line that comes back.
pub(crate) fn datagram(pod: &Pod<'_>, to: SocketAddr) -> Result<String> {
    let script = format!(
        "exec 3<>/dev/udp/{}/{} && echo hello >&3 && timeout 60 dd bs=2048 count=1 status=none <&3",
        to.ip(),
        to.port()
    );
    Ok(shell(pod, Profile::Restricted, &script)?.ok()?.trim().to_owned())
}

/// `https://…/version`.
pub(crate) fn version(server: SocketAddr) -> String {
    format!("https://{server}/version")
}
