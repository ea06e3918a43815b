//! Signals without handlers: blocked in every thread, read from a descriptor, with the kernel's word on who sent them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Signals that end or inform the command, and are passed on to it.
pub const FORWARDED: [Signal; 6] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];
/// Signals of job control. The guard stops when the command has stopped, not before.
const JOB_CONTROL: [Signal; 3] = [Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU];

/// Who sent a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// A process called kill(). The id is 0 when it is outside the reader's PID namespace.
    Process(u32),
    /// The terminal or the kernel: the whole foreground process group got it, the command included.
    Kernel,
}

/// A signal that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// Which.
    pub signal: Signal,
    /// From whom.
    pub sender: Sender,
}

/// Blocks the signals of this module in the calling thread and the threads it will start; returns what was
/// blocked before, which the command gets back.
///
/// # Errors
/// Never in practice.
pub fn block_for_guard() -> nix::Result<Vec<i32>> {
    let mut set = SigSet::empty();
    FORWARDED
        .into_iter()
        .chain(JOB_CONTROL)
        .for_each(|signal| set.add(signal));
    let before = set.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    Ok(before.iter().map(|signal| signal as i32).collect())
}

/// Signals as a readable descriptor.
#[derive(Debug)]
pub struct Signals {
    fd: SignalFd,
}

impl Signals {
    /// For the guard: waits in `next`.
    ///
    /// # Errors
    /// No descriptor is free.
    pub fn for_guard() -> nix::Result<Signals> {
        let set: SigSet = FORWARDED.into_iter().collect();
        Ok(Signals {
            fd: SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC)?,
        })
    }

    /// For PID 1: also told about its children, never waits. Blocks what it reads.
    ///
    /// # Errors
    /// No descriptor is free.
    pub fn for_init() -> nix::Result<Signals> {
        let mut set: SigSet = FORWARDED.into_iter().collect();
        set.add(Signal::SIGCHLD);
        set.thread_block()?;
        Ok(Signals {
            fd: SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?,
        })
    }

    /// The next signal; `None` when there is none and this descriptor does not wait.
    ///
    /// # Errors
    /// Reading failed.
    pub fn next(&self) -> io::Result<Option<Arrived>> {
        loop {
            let info = match self.fd.read_signal() {
                Ok(Some(info)) => info,
                Ok(None) => return Ok(None),
                Err(nix::errno::Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let number = i32::try_from(info.ssi_signo).unwrap_or_default();
            if let Ok(signal) = Signal::try_from(number) {
                return Ok(Some(Arrived {
                    signal,
                    sender: sender(info.ssi_code, info.ssi_pid),
                }));
            }
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Codes above zero are the kernel's (`SI_KERNEL`); zero and below come from kill, sigqueue and tgkill.
const fn sender(code: i32, pid: u32) -> Sender {
    if code > 0 {
        Sender::Kernel
    } else {
        Sender::Process(pid)
    }
}

/// Sets the calling thread's mask to exactly these signals.
///
/// # Errors
/// Never in practice.
pub fn restore(blocked: &[i32]) -> nix::Result<()> {
    let set: SigSet = blocked
        .iter()
        .filter_map(|number| Signal::try_from(*number).ok())
        .collect();
    set.thread_set_mask()
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::{Signal, raise};

    use crate::run::signals::{Sender, Signals, sender};

    #[test]
    fn a_signal_of_a_process_is_told_from_the_terminals() {
        assert_eq!(sender(0, 7), Sender::Process(7));
        assert_eq!(sender(-6, 7), Sender::Process(7));
        assert_eq!(sender(0x80, 0), Sender::Kernel);
    }

    #[test]
    fn a_blocked_signal_is_read_and_does_not_kill() {
        std::thread::spawn(|| {
            let signals = Signals::for_init().unwrap();
            raise(Signal::SIGUSR1).unwrap();
            let arrived = signals.next().unwrap().unwrap();
            assert_eq!(arrived.signal, Signal::SIGUSR1);
            assert_eq!(arrived.sender, Sender::Process(std::process::id()));
            assert!(signals.next().unwrap().is_none());
        })
        .join()
        .unwrap();
    }
}
