//! A new person's evening: every command in the README's `console` blocks is run, in order, as it stands there.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use rig::cluster::{Cluster, ClusterOptions};
use rig::command::{self, Output};
use rig::kubeconfig::Credential;
use rig::{leash, programs};

/// The machine of the README's reader: root through sudo, records in a place that goes with the test.
const MACHINE: &str = "\
set -e
mount -t tmpfs none /var/lib
sudo() { SUDO_USER=nobody SUDO_UID=65534 SUDO_GID=65534 \"$@\"; }
";

#[test]
fn every_command_of_the_readme_works() -> Result<()> {
    let readme = fs::read_to_string(programs::workspace().join("README.md"))?;
    let commands = commands(&readme);
    let (cargo, guard): (Vec<_>, Vec<_>) = commands
        .into_iter()
        .partition(|command| command.starts_with("cargo "));
    ensure!(
        !cargo.is_empty() && !guard.is_empty(),
        "the README has commands of both kinds"
    );
    for command in cargo {
        run_cargo(command)?;
    }
    let policy = block(&readme, "yaml").context("the README has a policy")?;
    let output = run_guard(&guard, &policy)?;
    ensure!(
        output.code == 0,
        "{guard:#?}\n{}\n{}",
        output.stdout,
        output.stderr
    );
    Ok(())
}

#[test]
fn reads_commands_out_of_a_document() {
    let text = "x\n```console\na b \\\n  c\n\n# said\nd\n```\ny\n```yaml\nk: v\n```\n";
    assert_eq!(commands(text), ["a b \\\n  c", "d"]);
    assert_eq!(block(text, "yaml").as_deref(), Some("k: v\n"));
}

/// The suites themselves are `cargo xtask test`; a development build stands for the optimised one.
fn run_cargo(command: &str) -> Result<()> {
    let words: Vec<&str> = command.split_whitespace().collect();
    let args = match words[..] {
        ["cargo", "xtask", "test"] => &["xtask", "test", "--help"][..],
        ["cargo", "xtask", "build"] => &["xtask", "build", "--debug"],
        ["cargo", "xtask", "demo"] => &["xtask", "demo"],
        _ => bail!("no test runs `{command}`; add it here"),
    };
    let mut cargo = Command::new("cargo");
    cargo.args(args).current_dir(programs::workspace());
    command::run(cargo)?.ok().with_context(|| command.to_owned())?;
    Ok(())
}

/// All in one shell, in a folder that looks like the reader's.
fn run_guard(commands: &[&str], policy: &str) -> Result<Output> {
    let cluster = Cluster::start(ClusterOptions::default())?;
    cluster.create_namespace("shop")?;
    let folder = cluster.folder().join("evening");
    fs::create_dir_all(folder.join("target/release"))?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777))?;
    symlink(programs::eks_guard()?, folder.join("target/release/eks-guard"))?;
    fs::write(folder.join("policy.yaml"), policy)?;
    let mut kubeconfig = cluster.kubeconfig(Credential::ClientCertificate(
        cluster.upstream_identity("reader")?,
    ));
    kubeconfig.namespace = Some("shop".to_owned());
    fs::write(folder.join("kubeconfig"), kubeconfig.render())?;
    let mut shell = leash::hold(Path::new("/usr/bin/unshare"))?;
    let script: Vec<String> = commands.iter().map(|command| checked(command)).collect();
    shell.args([
        "--mount",
        "/bin/sh",
        "-c",
        &format!("{MACHINE}{}", script.join("\n")),
    ]);
    let kubectl = cluster
        .kubectl_program()
        .parent()
        .context("kubectl is in a folder")?;
    let path = format!(
        "{}:{}:/usr/sbin:/usr/bin:/sbin:/bin",
        folder.join("target/release").display(),
        kubectl.display()
    );
    shell
        .current_dir(&folder)
        .env_clear()
        .env("PATH", path)
        .env("HOME", &folder);
    shell.env("KUBECONFIG", folder.join("kubeconfig"));
    command::run(shell)
}

/// An explanation of a refusal exits with 1: programs ask too.
fn checked(command: &str) -> String {
    if command.contains("policy explain") {
        format!("{command} || test $? = 1")
    } else {
        command.to_owned()
    }
}

/// Commands of all `console` blocks; a line that ends in `\` goes on, a line that starts with `#` is said, not typed.
fn commands(document: &str) -> Vec<&str> {
    let mut commands = Vec::new();
    for block in document.split("```console\n").skip(1) {
        let mut rest = block.split("```").next().unwrap_or_default();
        while !rest.is_empty() {
            let ends = rest
                .match_indices('\n')
                .find(|(at, _)| !rest[..*at].ends_with('\\'));
            let end = ends.map_or(rest.len(), |(at, _)| at);
            let command = rest[..end].trim();
            if !command.is_empty() && !command.starts_with('#') {
                commands.push(command);
            }
            rest = rest.get(end + 1..).unwrap_or_default();
        }
    }
    commands
}

fn block(document: &str, language: &str) -> Option<String> {
    let rest = document.split(&format!("```{language}\n")).nth(1)?;
    rest.split("```").next().map(str::to_owned)
}
