//! The socket between two processes of a run: length-prefixed JSON frames, file descriptors with the first one.
//! The reading end is the inner process's standard input, so that no descriptor number has to be trusted.

use std::ffi::OsString;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::run::hide::Covers;
use crate::run::scope::Scopes;
use crate::run::startup::Changed;

/// Longest frame: an environment and argument list of the size the kernel takes, as JSON numbers.
const MAX_FRAME: usize = 64 * 1024 * 1024;
/// Most file descriptors in one message: the cgroup, standard input and the links.
const MAX_FDS: usize = 64;

/// What PID 1 and the command's process need to know. Holds no credential of the guard.
#[derive(Debug, Serialize, Deserialize)]
pub struct Spec {
    /// Program and arguments.
    pub command: Vec<OsString>,
    /// The command's whole environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Folder the command starts in.
    pub directory: PathBuf,
    /// User id of the command.
    pub uid: u32,
    /// Group id of the command.
    pub gid: u32,
    /// Supplementary groups of the command.
    pub groups: Vec<u32>,
    /// Signals that were blocked when the guard was started, and are again for the command.
    pub blocked_signals: Vec<i32>,
    /// What is hidden and replaced.
    pub covers: Covers,
    /// Homes whose start-up files the command must not write; none where that is allowed.
    pub startup: Vec<PathBuf>,
    /// Whether abstract sockets and processes outside are out of reach.
    pub scopes: Scopes,
}

/// Guard to PID 1.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToInit {
    /// Send the command this signal.
    Signal(i32),
    /// Let the command go on after the stop with this number; after a later one it stays stopped.
    GoOn(u32),
}

/// PID 1 to guard.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromInit {
    /// The command is being started inside the boundary.
    Started,
    /// The boundary could not be built; nothing was started.
    Failed(String),
    /// Start-up files have come or changed: the run is ended.
    StartupFiles(Vec<Changed>),
    /// The command was stopped (job control), for this many times by now.
    Stopped(u32),
    /// The command ended, and every other process of the run with it.
    Ended(u8),
}

/// One end of the socket.
#[derive(Debug)]
pub struct Channel {
    stream: UnixStream,
}

impl Channel {
    /// Two connected ends, both closed on exec.
    ///
    /// # Errors
    /// The kernel refuses a socket pair.
    pub fn pair() -> io::Result<(Channel, Channel)> {
        let (a, b) = UnixStream::pair()?;
        Ok((Channel { stream: a }, Channel { stream: b }))
    }

    /// The end an inner process finds as its standard input.
    ///
    /// # Errors
    /// Standard input is not such a socket: the program was started by hand.
    pub fn from_stdin() -> io::Result<Channel> {
        let fd = io::stdin().as_fd().try_clone_to_owned()?;
        rustix::net::sockopt::socket_acceptconn(&fd)?;
        Ok(Channel {
            stream: UnixStream::from(fd),
        })
    }

    /// Limits how long the other end may take to read or to say something.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_patience(&self, reading: Option<Duration>, writing: Option<Duration>) -> io::Result<()> {
        self.stream.set_read_timeout(reading)?;
        self.stream.set_write_timeout(writing)
    }

    /// A second handle to the same end.
    ///
    /// # Errors
    /// No descriptor is free.
    pub fn try_clone(&self) -> io::Result<Channel> {
        Ok(Channel {
            stream: self.stream.try_clone()?,
        })
    }

    /// Ends it for both ends and every handle.
    pub fn hang_up(&self) {
        // The other end may have done so already.
        self.stream.shutdown(Shutdown::Both).ok();
    }

    /// Sends file descriptors, ahead of the first frame or behind the frame that they belong to.
    ///
    /// # Errors
    /// More than 64 descriptors, or the other end is gone.
    pub fn send_fds(&self, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(io::Error::other("too many file descriptors for one message"));
        }
        rustix::net::sendmsg(
            &self.stream,
            &[IoSlice::new(&[0])],
            &mut control,
            SendFlags::NOSIGNAL,
        )?;
        Ok(())
    }

    /// Receives the descriptors of [`Channel::send_fds`], all closed on exec.
    ///
    /// # Errors
    /// The other end is gone or sent something else.
    pub fn receive_fds(&self) -> io::Result<Vec<OwnedFd>> {
        let mut byte = [0_u8];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = rustix::net::recvmsg(
            &self.stream,
            &mut [IoSliceMut::new(&mut byte)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        if received.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if received.flags.contains(ReturnFlags::CTRUNC) {
            return Err(io::Error::other(
                "file descriptors were lost on the way (limit of open files?)",
            ));
        }
        let mut fds = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        Ok(fds)
    }

    /// Sends one frame.
    ///
    /// # Errors
    /// The other end is gone, or the frame is too long.
    pub fn send<T: Serialize>(&self, frame: &T) -> io::Result<()> {
        let body = Zeroizing::new(serde_json::to_vec(frame)?);
        let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= MAX_FRAME);
        let length = length.ok_or_else(|| io::Error::other("command and environment are too long"))?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(body.len() + 4));
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&body);
        (&self.stream).write_all(&bytes)
    }

    /// Receives one frame; `None` when the other end is gone.
    ///
    /// # Errors
    /// The frame is torn or is not what was expected.
    pub fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<T>> {
        self.receive_up_to(MAX_FRAME)
    }

    /// The same from an end that is not trusted with more than so many bytes.
    ///
    /// # Errors
    /// The frame is torn, longer, or not what was expected.
    pub fn receive_up_to<T: DeserializeOwned>(&self, most: usize) -> io::Result<Option<T>> {
        let mut length = [0_u8; 4];
        match (&self.stream).read_exact(&mut length) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            Err(error) => return Err(error),
        }
        let length = u32::from_le_bytes(length) as usize;
        if length > most {
            return Err(io::Error::other("frame too long"));
        }
        let mut body = Zeroizing::new(vec![0; length]);
        (&self.stream).read_exact(&mut body)?;
        Ok(Some(serde_json::from_slice(&body)?))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> OwnedFd {
        channel.stream.into()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::AsFd;

    use crate::run::channel::{Channel, FromInit, ToInit};

    #[test]
    fn frames_and_descriptors_arrive() {
        let (a, b) = Channel::pair().unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "through the socket").unwrap();
        a.send_fds(&[file.as_file().as_fd(), a.as_fd()]).unwrap();
        a.send(&ToInit::Signal(15)).unwrap();
        let mut fds = b.receive_fds().unwrap();
        assert_eq!(fds.len(), 2);
        let mut text = String::new();
        File::from(fds.remove(0)).read_to_string(&mut text).unwrap();
        assert_eq!(text, "through the socket");
        assert!(matches!(b.receive().unwrap(), Some(ToInit::Signal(15))));
    }

    #[test]
    fn a_closed_end_is_none_and_a_long_frame_is_refused() {
        let (a, b) = Channel::pair().unwrap();
        drop(a);
        assert!(b.receive::<FromInit>().unwrap().is_none());
        let (a, b) = Channel::pair().unwrap();
        std::io::Write::write_all(&mut (&a.stream), &u32::MAX.to_le_bytes()).unwrap();
        assert!(b.receive::<FromInit>().is_err());
    }
}
