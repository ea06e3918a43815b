//! Ties what the rig starts to the life of the rig.
//! `hold PARENT_PID PLACE PROGRAM…` becomes PROGRAM in PLACE, killed by the kernel when the parent dies, whatever kills it;
//! `sweep FOLDER` removes FOLDER, files or cgroups, when its standard input ends, which it does when the parent is gone.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};
use std::{env, fs, io, thread};

use anyhow::{Context, Result, bail};
use rig::cgroups;
use rig::place::Place;
use rustix::process::{Signal, getppid, set_parent_process_death_signal};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(
                clippy::print_stderr,
                reason = "standard error is the log of what leash was to start"
            )]
            {
                eprintln!("leash: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut args = env::args_os().skip(1);
    let task = args
        .next()
        .context("leash hold PARENT_PID PLACE PROGRAM… | leash sweep FOLDER")?;
    match task.to_str() {
        Some("hold") => {
            let parent = args
                .next()
                .and_then(|arg| arg.into_string().ok())
                .context("no parent pid")?;
            let place = args
                .next()
                .and_then(|arg| arg.into_string().ok())
                .context("no place")?;
            hold(
                parent.parse().context("reading the parent pid")?,
                &serde_json::from_str(&place).context("reading the place")?,
                args.collect(),
            )
        }
        Some("sweep") => sweep(Path::new(&args.next().context("no folder")?)),
        _ => bail!("no such task: {}", task.display()),
    }
}

fn hold(parent: i32, place: &Place, command: Vec<std::ffi::OsString>) -> Result<()> {
    place.enter()?;
    // After that, because the kernel takes the request back from a process that becomes another user.
    set_parent_process_death_signal(Some(Signal::KILL))
        .context("asking for a signal at the parent's death")?;
    // The parent may have died before the line above; then nobody would ever send the signal.
    if getppid().map(|pid| pid.as_raw_nonzero().get()) != Some(parent) {
        bail!("the parent is gone already");
    }
    let (program, args) = command.split_first().context("no program")?;
    let error = Command::new(program).args(args).exec();
    Err(error).with_context(|| format!("starting {}", program.display()))
}

fn sweep(folder: &Path) -> Result<()> {
    // Nothing is ever written; the end of the stream is the end of the parent.
    io::stdin()
        .read_to_end(&mut Vec::new())
        .context("waiting for the parent's end")?;
    // What the kernel is killing right now may still create files, so once is not enough.
    let deadline = Instant::now() + Duration::from_secs(20);
    while folder.exists() {
        match remove(folder) {
            Ok(()) => {}
            Err(error) if Instant::now() > deadline => return Err(error).context("removing the folder"),
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
    Ok(())
}

fn remove(folder: &Path) -> io::Result<()> {
    if cgroups::is_cgroup(folder) {
        return cgroups::remove(folder);
    }
    fs::remove_dir_all(folder)
}
