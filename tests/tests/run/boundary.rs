//! What does not pass: power, processes, files, variables, descriptors.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rig::command;
use rig::kubeconfig::Credential;

use crate::support::Operator;

#[test]
fn the_command_has_no_power_and_no_way_to_gain_any() -> Result<()> {
    let status = Operator::new()?
        .run(&["-q"], &["cat", "/proc/self/status"])?
        .ok()?;
    let value = |name: &str| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(|rest| rest.split_whitespace().collect::<Vec<_>>().join(" "))
            .unwrap_or_default()
    };
    ensure!(value("Uid") == "65534 65534 65534 65534", "{status}");
    ensure!(value("Gid") == "65534 65534 65534 65534", "{status}");
    ensure!(!value("Groups").split(' ').any(|group| group == "0"), "{status}");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        ensure!(value(set) == "0000000000000000", "{set}: {status}");
    }
    ensure!(
        value("NoNewPrivs") == "1" && value("SigBlk") == "0000000000000000",
        "{status}"
    );
    Ok(())
}

#[test]
fn a_number_is_a_user_and_so_is_whoever_called_sudo() -> Result<()> {
    let operator = Operator::new()?;
    let line = ["/bin/sh", "-c", "id -u; id -g; id -G"];
    let output = command::run(operator.command_as(Some("54321:54322"), &["-q"], &line)?)?;
    ensure!(output.stdout == "54321\n54322\n54322\n", "{output:?}");
    let mut command = operator.command_as(None, &["-q", "--kubeconfig", ".kube/config"], &line)?;
    command.env("SUDO_UID", "54323").env("SUDO_GID", "54324");
    let output = command::run(command)?;
    ensure!(output.stdout == "54323\n54324\n54324\n", "{output:?}");
    Ok(())
}

#[test]
fn root_has_no_capability_and_cannot_leave_the_cgroup() -> Result<()> {
    let operator = Operator::new()?;
    let script = "id -u; grep -E 'Cap(Prm|Bnd)' /proc/self/status; echo $$ > /sys/fs/cgroup/cgroup.procs; \
                  echo 1 > /sys/fs/cgroup/unified/cgroup.procs; kill -9 1; cat /proc/1/environ; cat /proc/self/cgroup";
    let output = command::run(operator.command_as(Some("root"), &[], &["/bin/sh", "-c", script])?)?;
    ensure!(
        output.stderr.contains("warning: the command runs as root"),
        "{output:?}"
    );
    ensure!(
        output
            .stdout
            .starts_with("0\nCapPrm:\t0000000000000000\nCapBnd:\t0000000000000000\n"),
        "{output:?}"
    );
    ensure!(
        output.stdout.contains("0::/eks-guard/"),
        "still in its cgroup, and alive: {output:?}"
    );
    Ok(())
}

#[test]
fn only_the_own_processes_are_seen() -> Result<()> {
    let script =
        "ls /proc | grep -c '^[0-9]'; tr '\\0' ' ' < /proc/1/cmdline; ls /proc/1/fd; kill -9 1; echo alive";
    let output = Operator::new()?.shell(script)?;
    let mut lines = output.stdout.lines();
    let seen: u32 = lines.next().context("a count")?.parse()?;
    // PID 1, the shell, ls, grep.
    ensure!(seen <= 4, "{output:?}");
    ensure!(
        lines
            .next()
            .is_some_and(|line| line.starts_with("/proc/self/exe __init")),
        "{output:?}"
    );
    ensure!(
        output.stdout.ends_with("alive\n") && output.stderr.contains("Permission denied"),
        "{output:?}"
    );
    Ok(())
}

#[test]
fn the_generated_kubeconfig_stands_at_the_operators_path() -> Result<()> {
    let operator = Operator::new()?;
    let original = fs::read_to_string(&operator.kubeconfig)?;
    let script =
        "echo $KUBECONFIG; cat $KUBECONFIG; kubectl config use-context rig; stat -c %U:%a $KUBECONFIG";
    let output = operator.shell(script)?;
    ensure!(
        output
            .stdout
            .starts_with(&format!("{}\n", operator.kubeconfig.display())),
        "{output:?}"
    );
    let server = format!("https://{}", operator.cluster.server());
    ensure!(
        output.stdout.contains(&server) && output.stdout.contains("current-context: rig"),
        "{output:?}"
    );
    ensure!(!output.stdout.contains("client-key"), "{output:?}");
    ensure!(
        output.stdout.contains("Switched to context"),
        "the file can be edited: {output:?}"
    );
    ensure!(output.stdout.contains("nobody:600"), "{output:?}");
    ensure!(
        fs::read_to_string(&operator.kubeconfig)? == original,
        "the operator's own file is untouched"
    );
    Ok(())
}

#[test]
fn a_kubeconfig_elsewhere_or_behind_a_link_is_covered_too() -> Result<()> {
    let operator = Operator::new()?;
    let real = operator.home.join("dotfiles.yaml");
    fs::rename(&operator.kubeconfig, &real)?;
    symlink(&real, &operator.kubeconfig)?;
    let second = operator.home.join("second.yaml");
    fs::copy(&real, &second)?;
    let script = "grep -c client-key .kube/config dotfiles.yaml; grep -c eks-guard-placeholder .kube/config dotfiles.yaml";
    let output = operator.shell(script)?;
    ensure!(
        output.stdout == ".kube/config:0\ndotfiles.yaml:0\n.kube/config:1\ndotfiles.yaml:1\n",
        "{output:?}"
    );
    let script = "grep -c client-key second.yaml; cat .kube/config dotfiles.yaml";
    let output = operator.run(&["-q", "--kubeconfig", "second.yaml"], &["/bin/sh", "-c", script])?;
    ensure!(
        output.stdout.starts_with("0\n") && !output.stdout.contains("client-key"),
        "the kubeconfigs that were not chosen are out of sight too: {output:?}"
    );
    Ok(())
}

#[test]
fn a_kubeconfig_the_user_cannot_reach_is_found_elsewhere() -> Result<()> {
    let operator = Operator::new()?;
    let mut command = operator.command(
        &["-q"],
        &["/bin/sh", "-c", "echo $KUBECONFIG; kubectl get namespace default"],
    )?;
    let private = Path::new("/root").join(format!("eks-guard-test-{}", std::process::id()));
    fs::create_dir_all(&private)?;
    fs::rename(&operator.kubeconfig, private.join("config"))?;
    command.env("KUBECONFIG", private.join("config"));
    let output = command::run(command);
    fs::remove_dir_all(&private)?;
    let output = output?;
    let reachable = fs::metadata("/root")?.permissions().mode() & 1 == 1;
    ensure!(
        reachable || output.stdout.starts_with("/run/eks-guard/kube/config\n"),
        "{output:?}"
    );
    ensure!(output.code == 0, "{output:?}");
    Ok(())
}

#[test]
fn credentials_and_the_guards_files_are_out_of_sight() -> Result<()> {
    let cluster = Operator::new()?.cluster;
    cluster.create_namespace("run-hidden")?;
    let token = cluster.service_account_token("run-hidden", "operator", "view")?;
    let file = cluster.folder().join("run-token");
    fs::write(&file, &token)?;
    let operator = Operator::with(&cluster.kubeconfig(Credential::TokenFile(file.clone())).render())?;
    for folder in [".aws", ".azure", ".config/gcloud"] {
        fs::create_dir_all(operator.home.join(folder))?;
        fs::write(operator.home.join(folder).join("credentials"), "hunter2")?;
    }
    fs::write(operator.home.join(".kube/other"), "hunter2")?;
    let token_file = file.display();
    let script = format!(
        "grep -rs hunter2 .aws .azure .config .kube; cat {token_file}; ls .aws .kube /var/lib/eks-guard records; \
         touch .aws/x; touch .kube/x && echo writable; unshare -Urm sh -c 'umount .aws .kube {token_file}; \
         cat .aws/credentials {token_file}'; kubectl get namespace default -o name"
    );
    let output = operator.shell(&script)?;
    ensure!(
        !output.stdout.contains("hunter2") && !output.stdout.contains(&token),
        "{output:?}"
    );
    ensure!(
        output.stdout.contains("writable") && output.stdout.contains("namespace/default"),
        "{output:?}"
    );
    ensure!(output.stderr.contains("Read-only file system"), "{output:?}");
    ensure!(
        fs::read_to_string(&file)? == token,
        "the operator's own file is untouched"
    );
    Ok(())
}

#[test]
fn the_environment_is_cleaned_and_said() -> Result<()> {
    let operator = Operator::new()?;
    let mut command = operator.command(&["--keep-env", "KEPT_TOKEN"], &["env"])?;
    let given = [
        ("AWS_SECRET_ACCESS_KEY", "s1"),
        ("VAULT_TOKEN", "s2"),
        ("SSH_AUTH_SOCK", "/s3"),
        ("KEPT_TOKEN", "kept"),
        ("ANTHROPIC_API_KEY", "model"),
        ("AWS_REGION", "eu-west-1"),
    ];
    command.envs(given);
    let output = command::run(command)?;
    for gone in ["s1", "s2", "/s3"] {
        ensure!(
            !output.stdout.contains(&format!("={gone}\n")),
            "{gone}: {output:?}"
        );
    }
    for kept in [
        "KEPT_TOKEN=kept",
        "ANTHROPIC_API_KEY=model",
        "AWS_REGION=eu-west-1",
        "USER=nobody",
    ] {
        ensure!(output.stdout.contains(kept), "{kept}: {output:?}");
    }
    let said = "removed from the environment: AWS_SECRET_ACCESS_KEY, SSH_AUTH_SOCK, VAULT_TOKEN";
    ensure!(output.stderr.contains(said), "{output:?}");
    Ok(())
}

#[test]
fn a_variable_that_holds_the_guards_token_is_removed_under_any_name() -> Result<()> {
    let cluster = Operator::new()?.cluster;
    cluster.create_namespace("run-environment")?;
    let token = cluster.service_account_token("run-environment", "operator", "view")?;
    let operator = Operator::with(&cluster.kubeconfig(Credential::Token(token.clone())).render())?;
    let mut command = operator.command(&["--keep-env", "NOTE"], &["env"])?;
    command.env("NOTE", format!("use {token} please"));
    let output = command::run(command)?;
    ensure!(
        !output.stdout.contains(&token) && output.stderr.contains("NOTE"),
        "{output:?}"
    );
    Ok(())
}

#[test]
fn inherited_descriptors_are_closed() -> Result<()> {
    let operator = Operator::new()?;
    let inner = operator.command(&["-q"], &["/bin/sh", "-c", "cat <&9; ls /proc/self/fd | wc -l"])?;
    let secret = operator.home.join("descriptor");
    fs::write(&secret, "hunter2")?;
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", "exec 9<descriptor; exec \"$@\"", "sh"])
        .arg(inner.get_program())
        .args(inner.get_args());
    shell.current_dir(&operator.home).env_clear();
    shell.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = command::run(shell)?;
    ensure!(!output.stdout.contains("hunter2"), "{output:?}");
    // Three standard ones, and the one that ls reads the folder with.
    ensure!(output.stdout.trim() == "4", "{output:?}");
    Ok(())
}

#[test]
fn the_machines_mounts_do_not_change() -> Result<()> {
    let output = Operator::new()?.shell("grep -c ' eks-guard ' /proc/self/mountinfo; sleep 0.1")?;
    ensure!(output.stdout.trim().parse::<u32>()? > 1, "{output:?}");
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    ensure!(!mounts.contains(" eks-guard "), "{mounts}");
    Ok(())
}
