//! A raw client inside the boundary: `probe-http` runs as the guarded command and sends whatever bytes a test has thought of.
//! `relay` is the side within, `http1` and `http2` write requests and read answers.

pub mod http1;
pub mod http2;
pub mod relay;

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::{env, fs};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::guarded::Guarded;
use crate::http::Reply;
use crate::leash;
use crate::probe::http1::Head;
use crate::probe::relay::{End, Order, Outcome};

/// What a connection begins with.
#[derive(Clone, Copy, Debug)]
pub enum Dial {
    /// TLS that offers these protocols; any certificate will do.
    Tls(&'static [&'static str]),
    /// The bare socket.
    Plain,
}

/// TLS with HTTP/1.1.
pub const H1: Dial = Dial::Tls(&["http/1.1"]);
/// TLS with HTTP/2.
pub const H2: Dial = Dial::Tls(&["h2"]);

/// A guard and the raw client behind it.
pub struct Probe {
    server: SocketAddr,
    guard: Child,
    pipes: Arc<Mutex<Pipes>>,
    next_id: AtomicU64,
}

struct Pipes {
    orders: ChildStdin,
    outcomes: BufReader<ChildStdout>,
}

/// One connection of the client. Closed when dropped.
pub struct Wire {
    pipes: Arc<Mutex<Pipes>>,
    id: u64,
    /// Everything that came in so far.
    pub received: Vec<u8>,
    /// How it ended, when it did.
    pub end: Option<End>,
}

impl Probe {
    /// Starts the client under a guard; it will dial `server`.
    pub fn start(guarded: &Guarded<'_>, server: SocketAddr) -> Result<Self> {
        Self::start_with(guarded, server, |command| command)
    }

    /// The same with a change to the command that starts the guard.
    pub fn start_with(
        guarded: &Guarded<'_>,
        server: SocketAddr,
        change: impl FnOnce(Command) -> Command,
    ) -> Result<Self> {
        // The build folder may be closed to the user that guarded commands run as.
        let program = guarded.home().join("probe-http");
        fs::copy(built()?, &program).context("copying probe-http")?;
        let mut command = change(guarded.command(&[OsStr::new(&program)])?);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut guard = leash::spawn(command).context("starting eks-guard")?;
        let (Some(orders), Some(outcomes)) = (guard.stdin.take(), guard.stdout.take()) else {
            bail!("eks-guard was started without pipes");
        };
        let outcomes = BufReader::new(outcomes);
        Ok(Self {
            server,
            guard,
            pipes: Arc::new(Mutex::new(Pipes { orders, outcomes })),
            next_id: AtomicU64::new(0),
        })
    }

    /// The API server, as the client knows it.
    #[must_use]
    pub fn server(&self) -> SocketAddr {
        self.server
    }

    /// Process id of the guard.
    #[must_use]
    pub fn guard_pid(&self) -> u32 {
        self.guard.id()
    }

    /// Opens a connection; an error of the kind a peer causes is an outcome like any other.
    pub fn dial(&self, dial: Dial) -> Result<std::result::Result<Wire, String>> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let alpn = match dial {
            Dial::Tls(protocols) => Some(protocols.iter().map(|&name| name.to_owned()).collect()),
            Dial::Plain => None,
        };
        let outcome = give(
            &self.pipes,
            &Order::Dial {
                id,
                to: self.server,
                alpn,
            },
        )?;
        Ok(match outcome {
            Outcome::Failed(error) => Err(error),
            Outcome::Done => Ok(Wire {
                pipes: Arc::clone(&self.pipes),
                id,
                received: Vec::new(),
                end: None,
            }),
            Outcome::Received { .. } => bail!("an answer to another order"),
        })
    }

    /// A connection that must come about.
    pub fn connect(&self, dial: Dial) -> Result<Wire> {
        match self.dial(dial)? {
            Ok(wire) => Ok(wire),
            Err(error) => bail!("dialling the guard: {error}"),
        }
    }

    /// Sends one request over HTTP/1.1, on a connection of its own, and returns the answer.
    pub fn ask(&self, line: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Reply> {
        let to_head = if line.starts_with("HEAD") {
            Head::Yes
        } else {
            Head::No
        };
        let mut wire = self.connect(H1)?;
        wire.send(&http1::request(self.server, line, headers, body))?;
        wire.receive_until(|received| http1::take_reply(received, to_head).is_some())?;
        let reply = http1::take_reply(&wire.received, to_head).map(|(reply, _)| reply);
        reply.with_context(|| format!("{line:.200?}: no answer but {}", wire.shown()))
    }

    /// Ends the client and the guard, which must both have been well until now.
    pub fn finish(self) -> Result<()> {
        let Self { mut guard, pipes, .. } = self;
        give(&pipes, &Order::Quit)?;
        let status = guard.wait()?;
        ensure!(status.success(), "the guarded client ended with {status}");
        Ok(())
    }
}

impl Wire {
    /// The beginning of what came in, and how it ended.
    #[must_use]
    pub fn shown(&self) -> String {
        let received: String = String::from_utf8_lossy(&self.received)
            .chars()
            .take(2000)
            .collect();
        format!("{received:?}, then {:?}", self.end)
    }

    /// Sends bytes as they are. False: the peer would not take them.
    pub fn send(&mut self, bytes: &[u8]) -> Result<bool> {
        let order = Order::Send {
            id: self.id,
            bytes: STANDARD.encode(bytes),
        };
        Ok(give(&self.pipes, &order)? == Outcome::Done)
    }

    /// Says that nothing more will be sent, and goes on listening.
    pub fn half_close(&mut self) -> Result<()> {
        give(&self.pipes, &Order::HalfClose { id: self.id }).map(drop)
    }

    /// Listens until `enough` or the end, whichever comes first.
    pub fn receive_until(&mut self, mut enough: impl FnMut(&[u8]) -> bool) -> Result<()> {
        while self.end.is_none() && !enough(&self.received) {
            match give(&self.pipes, &Order::Receive { id: self.id })? {
                Outcome::Received { bytes, end } => {
                    self.received.extend(STANDARD.decode(bytes)?);
                    self.end = end;
                }
                Outcome::Failed(error) => {
                    bail!(
                        "{error}; so far there were {:?}",
                        String::from_utf8_lossy(&self.received)
                    )
                }
                Outcome::Done => bail!("an answer to another order"),
            }
        }
        Ok(())
    }

    /// Listens until the end.
    pub fn receive_to_end(&mut self) -> Result<&[u8]> {
        self.receive_until(|_| false)?;
        Ok(&self.received)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        // When the client is gone, so is the connection.
        give(&self.pipes, &Order::Drop { id: self.id }).ok();
    }
}

fn give(pipes: &Mutex<Pipes>, order: &Order) -> Result<Outcome> {
    let mut line = serde_json::to_string(order)?;
    line.push('\n');
    let mut pipes = pipes.lock().unwrap_or_else(PoisonError::into_inner);
    pipes
        .orders
        .write_all(line.as_bytes())
        .context("ordering the guarded client")?;
    let mut answer = String::new();
    pipes.outcomes.read_line(&mut answer)?;
    ensure!(!answer.is_empty(), "the guarded client has ended");
    serde_json::from_str(&answer).context("reading an outcome")
}

/// `probe-http` stands beside the test binary's folder.
fn built() -> Result<std::path::PathBuf> {
    let me = env::current_exe().context("finding this program")?;
    let found = me
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join("probe-http"))
        .find(|path| path.exists());
    found.context("the program `probe-http` is not built: cargo build -p eks-guard-tests --bins")
}
