//! Boots a guest in QEMU without hardware virtualisation, which build machines seldom have, and listens to it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::leash;
use crate::vm::BpfLsm;
use crate::vm::report::Line;

/// Processor time in which a guest is up, or hangs: ten times what it needs. A busy host does not shorten it.
const BOOT: Duration = Duration::from_secs(90);
/// An emulated boot fails now and then, when the host is busy; so often it is tried.
const BOOTS: u32 = 3;
/// Processor time in which a guest says something, or hangs: several times what its longest test needs.
const SILENCE: Duration = Duration::from_secs(600);
/// A guest that sleeps uses no processor time: silence of any kind that is no longer patience.
const ASLEEP: Duration = Duration::from_secs(900);
/// How often the limits are looked at.
const TICK: Duration = Duration::from_secs(1);
/// Units in a second of the times in `/proc/PID/stat`, on every Linux that this runs on.
const USER_HZ: u64 = 100;
/// Lines of the console that are shown when a guest dies.
const TAIL: usize = 40;

/// What to boot.
#[derive(Debug)]
pub struct Machine<'a> {
    /// The kernel that boots.
    pub kernel: &'a Path,
    /// Its security modules.
    pub lsm: BpfLsm,
    /// Its whole root file system.
    pub initramfs: &'a Path,
    /// Where its console is written.
    pub console: &'a Path,
}

/// How a guest ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// It said that its work is done; the processor time it took, which does not depend on what else the host does.
    Done(Duration),
    /// It died or fell silent; what is known about it.
    Lost(String),
}

impl Machine<'_> {
    /// Runs the guest to its end; `hear` gets each line it says, as text and understood.
    pub fn run(&self, mut hear: impl FnMut(&str, &Line)) -> Result<End> {
        for _ in 1..BOOTS {
            if let Some(end) = self.boot(&mut hear)? {
                return Ok(end);
            }
        }
        let end = self.boot(&mut hear)?;
        Ok(end.unwrap_or_else(|| End::Lost(format!("it does not boot, {BOOTS} times\n{}", self.tail()))))
    }

    /// Nothing when the guest hangs or dies before it is up.
    fn boot(&self, hear: &mut impl FnMut(&str, &Line)) -> Result<Option<End>> {
        let mut guest = Guest::start(self)?;
        let lines = guest.lines()?;
        let (mut up, mut done) = (false, false);
        let (mut heard, mut used) = (Instant::now(), Duration::ZERO);
        loop {
            match lines.recv_timeout(TICK) {
                Ok(text) => {
                    let line = Line::read(&text);
                    up |= line == Line::Up;
                    done |= matches!(line, Line::Ended(_));
                    (heard, used) = (Instant::now(), guest.processor_time());
                    hear(&text, &line);
                }
                Err(RecvTimeoutError::Timeout) => {
                    let patience = if up { SILENCE } else { BOOT };
                    let silence = guest.processor_time().saturating_sub(used);
                    if silence < patience && heard.elapsed() < ASLEEP {
                        continue;
                    }
                    let why = format!("it says nothing more\n{}", self.tail());
                    return Ok(up.then_some(End::Lost(why)));
                }
                Err(RecvTimeoutError::Disconnected) if done => return Ok(Some(End::Done(used))),
                Err(RecvTimeoutError::Disconnected) if !up => return Ok(None),
                Err(RecvTimeoutError::Disconnected) => {
                    let status = guest.child.wait().context("waiting for QEMU")?;
                    let why = format!("it ended before its tests did (QEMU: {status})\n{}", self.tail());
                    return Ok(Some(End::Lost(why)));
                }
            }
        }
    }

    fn arguments(&self) -> Vec<String> {
        // `panic` and `-no-reboot` make a panic the end of QEMU. `no_timer_check`: to a guest on a busy host no timer seems to
        // work. `norandmaps`: code that QEMU has translated is found again only at the address it had, and every probe is a
        // process of its own. The generator of random numbers from jitter tests itself for seconds, and the processor has one.
        // Nobody needs memory that is cleared when it is taken, or to know what waits for what. Each character on the console
        // takes an emulated device: warnings and worse are enough.
        let command_line = format!(
            "console=ttyS0 panic=-1 rdinit=/init mitigations=off cryptomgr.notests no_timer_check norandmaps \
             initcall_blacklist=jent_mod_init init_on_alloc=0 psi=0 loglevel=5 {}",
            self.lsm.argument()
        );
        // One thread and one processor: attaching programs makes the kernel rewrite its own code, and emulated processors that
        // run beside each other now and then execute half of what is being written; in one thread they only wait for each
        // other. Without cmpxchg16b, on which QEMU 7.2 without hardware virtualisation is known to stumble.
        let fixed = "-M q35 -accel tcg,thread=single -cpu qemu64,-cx16,+rdrand -smp 1 -m 1024 -nic none -nodefaults \
                     -display none -no-reboot";
        let mut arguments: Vec<String> = fixed.split_whitespace().map(str::to_owned).collect();
        let named: [(&str, String); 5] = [
            ("-kernel", path(self.kernel)),
            ("-initrd", path(self.initramfs)),
            ("-append", command_line),
            ("-serial", format!("file:{}", self.console.display())),
            ("-serial", "stdio".to_owned()),
        ];
        for (name, value) in named {
            arguments.extend([name.to_owned(), value]);
        }
        arguments
    }

    fn tail(&self) -> String {
        let bytes = fs::read(self.console).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        let shown = &lines[lines.len().saturating_sub(TAIL)..];
        format!("the end of its console:\n{}", shown.join("\n"))
    }
}

fn path(file: &Path) -> String {
    file.display().to_string()
}

/// A running QEMU, killed on drop.
struct Guest {
    child: Child,
    output: Option<ChildStdout>,
}

impl Guest {
    fn start(machine: &Machine<'_>) -> Result<Self> {
        let program = PathBuf::from("qemu-system-x86_64");
        let mut command = leash::hold(&program)?;
        command
            .args(machine.arguments())
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = leash::spawn(command).context("starting QEMU; run `cargo xtask setup`")?;
        let output = child.stdout.take();
        Ok(Self { child, output })
    }

    /// What QEMU has used so far; nothing once it has ended.
    fn processor_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        processor_time(&stat)
    }

    fn lines(&mut self) -> Result<Receiver<String>> {
        let output = self.output.take().context("the output of QEMU is read once")?;
        let (line_tx, line_rx) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
                if line_tx.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(line_rx)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Fails when it has ended by itself, as it should.
        kill_process_group(Pid::from_child(&self.child), Signal::KILL).ok();
        self.child.wait().ok();
    }
}

/// The sum of `utime` and `stime` in a `/proc/PID/stat`, see proc_pid_stat(5). The name before them may hold anything.
fn processor_time(stat: &str) -> Duration {
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let ticks: u64 = fields
        .split(' ')
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 1000 / USER_HZ)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_processor_time_of_a_process() {
        let stat = "26007 (qemu) 1 system) S 1 2 3 4 5 6 7 8 9 10 1200 34 0 0 39 19 4 0";
        assert_eq!(processor_time(stat), Duration::from_millis(12_340));
        assert_eq!(processor_time(""), Duration::ZERO);
    }
}
