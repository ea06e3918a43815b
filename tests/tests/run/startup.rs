//! What runs later, outside, on the command's word: start-up files of shells and sessions, and what cron and at keep.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::chown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use rig::command::Output;
use rig::leash;
use rustix::process::Signal;

use crate::death::Running;
use crate::hostile::with_mounts;
use crate::support::{Operator, eventually, processes};

/// `nobody`, whom the commands of this suite run as.
const NOBODY: u32 = 65534;
/// As the command's user would have it.
const OLD: &str = "echo old\n";

fn own(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().context("it stands in a folder")?;
    fs::create_dir_all(folder)?;
    chown(folder, Some(NOBODY), Some(NOBODY))?;
    fs::write(path, text)?;
    Ok(chown(path, Some(NOBODY), Some(NOBODY))?)
}

/// Everything below a home whose name says that a run has set it aside.
fn set_aside(home: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for folder in [home.to_owned(), home.join(".config")] {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry?.path();
            if path.to_string_lossy().contains(".by-eks-guard-run-") {
                found.push(path);
            }
        }
    }
    Ok(found)
}

#[test]
fn start_up_files_that_exist_cannot_be_changed() -> Result<()> {
    let operator = Operator::new()?;
    let names = [".bashrc", ".zshenv", ".config/autostart/a.desktop"];
    for name in names {
        own(&operator.home.join(name), OLD)?;
    }
    fs::rename(operator.home.join(".zshenv"), operator.home.join("zshenv"))?;
    std::os::unix::fs::symlink("zshenv", operator.home.join(".zshenv"))?;
    let script = "for name in .bashrc .zshenv zshenv .config/autostart/a.desktop; do echo new >> $name; done; \
        mv .bashrc moved; rm -f .bashrc .config/autostart/a.desktop; ln .bashrc second && echo new >> second; \
        echo new > .config/autostart/b.desktop; mv .config/autostart .config/x; echo kept > work; echo done";
    let output = operator.shell(script)?;
    ensure!(output.code == 0 && output.stdout == "done\n", "{output:?}");
    for name in names {
        ensure!(fs::read_to_string(operator.home.join(name))? == OLD, "{name}");
    }
    ensure!(fs::read_dir(operator.home.join(".config/autostart"))?.count() == 1);
    ensure!(operator.home.join("work").exists() && set_aside(&operator.home)?.is_empty());
    Ok(())
}

#[test]
fn a_new_start_up_file_ends_the_run_and_is_set_aside() -> Result<()> {
    for (script, name) in [
        ("echo x > .bash_profile", ".bash_profile"),
        ("ln -s /etc/hostname .zshenv", ".zshenv"),
        ("mkdir -p .config/autostart", ".config/autostart"),
        (
            "mkdir -p t/environment.d && echo A=1 > t/environment.d/a.conf && mv t .config",
            ".config/environment.d",
        ),
    ] {
        let operator = Operator::new()?;
        let went_on = operator.shell(&format!("{script} && sleep 600; echo went on"))?;
        assert_ended(&operator, &went_on, name)?;
        // The last act of a command counts as well.
        let operator = Operator::new()?;
        let last = operator.shell(script)?;
        assert_ended(&operator, &last, name)?;
    }
    Ok(())
}

fn assert_ended(operator: &Operator, output: &Output, name: &str) -> Result<()> {
    ensure!(output.code == 3 && output.stdout.is_empty(), "{name}: {output:?}");
    ensure!(
        output.stderr.contains(name) && output.stderr.contains("--allow-startup-files"),
        "{name}: {output:?}"
    );
    let there = operator.home.join(name).symlink_metadata();
    ensure!(there.is_err(), "{name} is still in its place: {output:?}");
    ensure!(set_aside(&operator.home)?.len() == 1, "{name}: {output:?}");
    Ok(())
}

#[test]
fn a_start_up_file_that_goes_with_its_folder_ends_the_run() -> Result<()> {
    let operator = Operator::new()?;
    own(&operator.home.join(".config/fish/config.fish"), OLD)?;
    chown(operator.home.join(".config"), Some(NOBODY), Some(NOBODY))?;
    let script = "mv .config away && mkdir -p .config/fish && echo new > .config/fish/config.fish; sleep 600";
    let output = operator.shell(script)?;
    ensure!(
        output.code == 3 && output.stderr.contains("config.fish"),
        "{output:?}"
    );
    Ok(())
}

#[test]
fn a_start_up_file_ends_the_run_after_the_guards_death_too() -> Result<()> {
    let operator = Operator::new()?;
    let mark = format!("sleep 8{}", std::process::id());
    let mut running = Running::start(
        &operator,
        &format!("echo up; read word; echo x > .profile; {mark}"),
    )?;
    ensure!(running.line()? == "up");
    let stdin = running.guard.stdin.take();
    running.signal(Signal::KILL)?;
    running.code()?;
    drop(stdin);
    eventually("the end of the run", || {
        let is_over = operator.home.join(".profile").exists() && processes(&mark).is_empty();
        is_over.then_some(())
    })
}

#[test]
fn start_up_files_are_left_to_the_command_when_the_operator_says_so() -> Result<()> {
    let operator = Operator::new()?;
    own(&operator.home.join(".bashrc"), OLD)?;
    let script = "echo new >> .bashrc && echo new > .profile && echo done";
    let flags = ["-q", "--allow-startup-files"];
    let output = operator.run(&flags, &["/bin/sh", "-c", script])?;
    ensure!(output.code == 0 && output.stdout == "done\n", "{output:?}");
    ensure!(
        output.stderr.contains("warning") && output.stderr.contains("start-up files"),
        "{output:?}"
    );
    ensure!(operator.home.join(".profile").exists());
    Ok(())
}

/// `at` and `crontab` write where only their group may: a program with that group's bit stands for them.
#[test]
fn the_spools_of_cron_and_at_are_out_of_reach() -> Result<()> {
    let operator = Operator::new()?;
    let spools = "mount -t tmpfs none /var/spool; mkdir -p /var/spool/cron/crontabs /var/spool/cron/atjobs /var/spool/anacron; \
        chgrp 40 /var/spool/cron/*; chmod 1730 /var/spool/cron/*; chmod 755 /var/spool; \
        install -m 2755 -g 40 /usr/bin/touch /var/spool/crontab; \
        setpriv --reuid 65534 --regid 65534 --clear-groups /var/spool/crontab /var/spool/cron/crontabs/control";
    let places = "/var/spool/cron/crontabs/nobody /var/spool/cron/atjobs/a /var/spool/anacron/a /etc/cron.d/a /etc/anacrontab";
    let script = format!(
        "for place in {places}; do touch $place || echo refused; /var/spool/crontab $place || echo refused; done"
    );
    let output = with_mounts(&operator, spools, &["/bin/sh", "-c", &script])?;
    ensure!(
        output.code == 0 && output.stdout == "refused\n".repeat(10),
        "{output:?}"
    );
    Ok(())
}

#[test]
fn a_network_socket_is_no_standard_descriptor_of_a_command() -> Result<()> {
    let operator = Operator::new()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let network: OwnedFd = TcpStream::connect(listener.local_addr()?)?.into();
    let (unix, _other) = UnixStream::pair()?;
    for (stdin, code) in [(network, 3), (unix.into(), 0)] {
        let mut command = operator.command(&["-q"], &["true"])?;
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = leash::spawn(command)?.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(code), "{output:?}");
        ensure!(said.contains("network socket") == (code == 3), "{said}");
    }
    Ok(())
}
