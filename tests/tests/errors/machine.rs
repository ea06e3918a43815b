//! A machine, or a way of starting, that cannot hold the boundary. Exit code 3.

use std::process::Command;

use anyhow::{Result, ensure};

use crate::attempt::Attempt;

#[test]
fn without_root() -> Result<()> {
    let nobody = [
        "/usr/bin/setpriv",
        "--reuid=nobody",
        "--regid=nogroup",
        "--clear-groups",
    ];
    let attempt = Attempt::new()?.installed()?.through(&nobody);
    attempt.is_refused(3, &["need root", "sudo"])?;
    // Nobody is named, as when one has forgotten sudo: that is the one thing to say.
    attempt.user(None).is_refused(3, &["need root", "sudo"])
}

#[test]
fn without_cgroup2() -> Result<()> {
    let script = "mount -t tmpfs none /sys/fs/cgroup && exec \"$@\"";
    let covered = [
        "/usr/bin/unshare",
        "--mount",
        "--propagation=private",
        "sh",
        "-c",
        script,
        "sh",
    ];
    Attempt::new()?
        .through(&covered)
        .is_refused(3, &["no cgroup2 is mounted", "mount -t cgroup2"])
}

#[test]
fn with_a_cgroup2_that_takes_no_cgroup() -> Result<()> {
    let script =
        "mount -t cgroup2 none /sys/fs/cgroup && mount -o remount,bind,ro /sys/fs/cgroup && exec \"$@\"";
    let read_only = [
        "/usr/bin/unshare",
        "--mount",
        "--propagation=private",
        "sh",
        "-c",
        script,
        "sh",
    ];
    Attempt::new()?
        .through(&read_only)
        .is_refused(3, &["cannot create the cgroup", "writable", "Read-only"])
}

#[test]
fn without_bpf() -> Result<()> {
    let dropped = without("-bpf,-sys_admin");
    Attempt::new()?
        .through(&dropped.each_ref().map(String::as_str))
        .is_refused(3, &["the kernel refuses", "CAP_BPF", "Operation not permitted"])
}

#[test]
fn without_namespaces() -> Result<()> {
    let dropped = without("-sys_admin");
    Attempt::new()?
        .through(&dropped.each_ref().map(String::as_str))
        .is_refused(3, &["namespace", "CAP_SYS_ADMIN", "sudo"])
}

#[test]
fn with_a_place_for_records_that_takes_none() -> Result<()> {
    Attempt::new()?
        .flags(&["--records", "/proc/records"])
        .is_refused(3, &["/proc/records"])
}

#[test]
fn a_log_filter_that_cannot_be_read() -> Result<()> {
    let filter = ["/usr/bin/env", "EKS_GUARD_LOG==,="];
    Attempt::new()?
        .through(&filter)
        .is_refused(2, &["EKS_GUARD_LOG", "filter"])
}

/// Starts a program with fewer capabilities, for good.
fn without(capabilities: &str) -> [String; 3] {
    [
        "/usr/bin/setpriv".to_owned(),
        format!("--bounding-set={capabilities}"),
        format!("--inh-caps={capabilities}"),
    ]
}

#[test]
fn the_tools_of_this_suite_are_there() -> Result<()> {
    for tool in ["/usr/bin/setpriv", "/usr/bin/unshare", "/usr/bin/env"] {
        ensure!(
            Command::new(tool).arg("--version").output()?.status.success(),
            "{tool}"
        );
    }
    Ok(())
}
