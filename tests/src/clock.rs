//! The wall clock of a running process, set as a person or a time server would set the machine's: by code in the process's own
//! copy of the vDSO, through which programs read clocks. The machine's clock, everybody else's, and the monotonic one stay.
//! It needs no preloaded library, which a process that has given up its environment and its files would not follow.

use std::fs::{self, File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, bail, ensure};
use object::{Object, ObjectSymbol};
use rustix::process::{Pid, Signal, kill_process};

use crate::wait;

/// What C libraries call when a program asks for a time.
const ENTRY: &str = "__vdso_clock_gettime";

/// A process whose wall clock can be set. What it executes later has the machine's again.
pub struct WallClock {
    pid: u32,
    memory: File,
    vdso: Range<u64>,
    entry: u64,
}

impl WallClock {
    /// That of a process, which still shows the machine's time.
    pub fn of(pid: u32) -> Result<Self> {
        let open = |name: &str| format!("/proc/{pid}/{name}");
        let memory = OpenOptions::new().read(true).write(true).open(open("mem"));
        let memory = memory.with_context(|| format!("opening the memory of process {pid}"))?;
        let maps = fs::read_to_string(open("maps")).context("reading what is mapped where")?;
        let vdso = vdso(&maps)?;
        let mut image = vec![0; usize::try_from(vdso.end - vdso.start)?];
        memory.read_exact_at(&mut image, vdso.start)?;
        let elf = object::File::parse(&*image).context("reading the vDSO")?;
        let symbol = elf.dynamic_symbols().find(|symbol| symbol.name() == Ok(ENTRY));
        let symbol = symbol.with_context(|| format!("the vDSO has no {ENTRY}"))?;
        ensure!(
            symbol.size() >= shifted(0)?.len() as u64,
            "{ENTRY} has too few bytes"
        );
        Ok(Self {
            pid,
            memory,
            entry: vdso.start + symbol.address(),
            vdso,
        })
    }

    /// From now on its wall clock is so many seconds ahead of the machine's.
    pub fn shift(&self, seconds: i64) -> Result<()> {
        wait::until("no thread of the process reads a clock", || {
            let _stopped = Stopped::stop(self.pid)?;
            if self.is_executed()? {
                return Ok(false);
            }
            self.memory
                .write_all_at(&shifted(seconds)?, self.entry)
                .context("setting the clock")?;
            Ok(true)
        })
    }

    /// Whether a thread of the stopped process is in the vDSO.
    fn is_executed(&self) -> Result<bool> {
        for task in fs::read_dir(format!("/proc/{}/task", self.pid))? {
            let said = fs::read_to_string(task?.path().join("syscall"))?;
            let counter = said.trim_end().rsplit_once("0x").context("no program counter")?.1;
            if self.vdso.contains(&u64::from_str_radix(counter, 16)?) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Where the vDSO is, by a text in the form of `/proc/PID/maps`.
fn vdso(maps: &str) -> Result<Range<u64>> {
    let line = maps.lines().find(|line| line.ends_with("[vdso]"));
    let range = line.and_then(|line| line.split_once(' ')).context("no vDSO")?.0;
    let (start, end) = range.split_once('-').context("no range of addresses")?;
    Ok(u64::from_str_radix(start, 16)?..u64::from_str_radix(end, 16)?)
}

/// A process that stands still.
struct Stopped(Pid);

impl Stopped {
    fn stop(pid: u32) -> Result<Self> {
        let stopped = Self(Pid::from_raw(pid.cast_signed()).context("process 0")?);
        kill_process(stopped.0, Signal::STOP).context("stopping the process")?;
        wait::until("every thread stands still", || {
            for task in fs::read_dir(format!("/proc/{pid}/task"))? {
                let stat = fs::read_to_string(task?.path().join("stat"))?;
                let state = stat.rsplit_once(") ").context("no state")?.1;
                if !state.starts_with('T') {
                    return Ok(false);
                }
            }
            Ok(true)
        })?;
        Ok(stopped)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // An error means that it is gone.
        kill_process(self.0, Signal::CONT).ok();
    }
}

/// Asks the kernel itself, and adds the seconds when the clock is `CLOCK_REALTIME`.
fn shifted(seconds: i64) -> Result<Vec<u8>> {
    if cfg!(not(target_arch = "x86_64")) {
        bail!("clocks of processes are set on x86-64 only");
    }
    Ok([
        &[0xb8, 228, 0, 0, 0][..], // mov $SYS_clock_gettime, %eax
        &[0x0f, 0x05],             // syscall
        &[0x85, 0xff],             // test %edi, %edi
        &[0x75, 13],               // jne to the end
        &[0x48, 0xb9],             // movabs $seconds, %rcx
        &seconds.to_le_bytes(),
        &[0x48, 0x01, 0x0e], // add %rcx, (%rsi)
        &[0xc3],             // ret
    ]
    .concat())
}
