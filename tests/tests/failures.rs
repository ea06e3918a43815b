//! What can go wrong while a run is under way, and what is left after one. Starts that fail are the suite `errors`.

#[path = "failures/overload.rs"]
mod overload;
#[path = "failures/roll.rs"]
mod roll;

use std::fs;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use rig::cluster::{Cluster, ClusterOptions, shared};
use rig::guarded::Guarded;
use rig::policies::EVERYTHING;
use rig::{leash, wait};

#[test]
fn a_run_leaves_no_cgroup_and_no_state() -> Result<()> {
    let guarded = Guarded::new(shared()?, "tidy", EVERYTHING)?;
    // The command tells where it is; afterwards there is no such place.
    let inside = guarded.shell("cat /proc/self/cgroup")?.ok()?;
    let path = inside
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .unwrap_or_default()
        .to_owned();
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let root = mounts
        .lines()
        .find_map(|line| match line.split(' ').collect::<Vec<_>>()[..] {
            [_, point, "cgroup2", ..] => Some(PathBuf::from(point)),
            _ => None,
        });
    let root = root.unwrap_or_default();
    ensure!(root.is_dir() && path.len() > 1, "{inside}");
    ensure!(
        !root.join(path.trim_start_matches('/')).exists() || path == "/",
        "{path} is still there"
    );
    Ok(())
}

#[test]
fn an_api_server_that_restarts_is_found_again() -> Result<()> {
    let cluster = Cluster::start(ClusterOptions::default())?;
    cluster.create_namespace("again")?;
    let guarded = Guarded::new(&cluster, "again", EVERYTHING)?;
    let script = "kubectl -n again get configmaps -o name && touch ready\n\
                  until test -e restarted; do sleep 0.05; done\n\
                  kubectl -n again create configmap after";
    let mut command = guarded.command(&["/bin/sh", "-c", script].map(std::ffi::OsStr::new))?;
    command.stdin(std::process::Stdio::null());
    let mut guard = leash::spawn(command)?;
    wait::until("the command is ready", || {
        ensure!(guard.try_wait()?.is_none(), "it ended before that");
        Ok(guarded.home().join("ready").exists())
    })?;
    cluster.restart_api_server()?;
    fs::write(guarded.home().join("restarted"), "")?;
    ensure!(guard.wait()?.success());
    cluster
        .kubectl(&["-n", "again", "get", "configmap", "after"])?
        .ok()?;
    Ok(())
}
