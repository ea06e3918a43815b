//! Sending by many connections at once: from here, or from inside the boundary by a program of its own.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::{fs, io, thread};

use anyhow::{Context, Result, anyhow, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::ClientConfig;
use serde::{Deserialize, Serialize};

use crate::guarded::Guarded;
use crate::http::session::{Session, Wanted};
use crate::probe::relay::unverified_tls;
use crate::{leash, programs};

/// Name of the program that sends from inside.
const SENDER: &str = "sender";

/// One request to send.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    /// Which one.
    pub number: u64,
    /// Its bytes (base64).
    pub wire: String,
    /// How much of the reply is waited for.
    pub wanted: Wanted,
}

/// What came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Answer {
    /// Which one.
    pub number: u64,
    /// HTTP status; none: no reply, and why.
    pub status: Result<u16, String>,
    /// Body (base64).
    pub body: String,
}

impl Answer {
    /// The body as it was received.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        STANDARD.decode(&self.body).unwrap_or_default()
    }
}

impl Order {
    /// The order to send these bytes.
    #[must_use]
    pub fn new(number: u64, wire: &[u8], wanted: Wanted) -> Self {
        Self {
            number,
            wire: STANDARD.encode(wire),
            wanted,
        }
    }

    fn obey(&self, session: &mut Session) -> Answer {
        let wire = STANDARD.decode(&self.wire).unwrap_or_default();
        let reply = session.exchange(&wire, self.wanted);
        Answer {
            number: self.number,
            body: reply
                .as_ref()
                .map_or_else(|_| String::new(), |reply| STANDARD.encode(&reply.body)),
            status: reply
                .map(|reply| reply.status)
                .map_err(|error| format!("{error:#}")),
        }
    }
}

/// Connections of one identity to one server, a thread each.
pub struct Pool {
    orders: mpsc::Sender<Order>,
    answers: mpsc::Receiver<Answer>,
}

impl Pool {
    /// Starts the threads; they connect when there is something to send.
    #[must_use]
    pub fn start(server: SocketAddr, tls: &Arc<ClientConfig>, connections: usize) -> Self {
        let (orders, order_rx) = mpsc::channel::<Order>();
        let (answer_tx, answers) = mpsc::channel();
        let order_rx = Arc::new(Mutex::new(order_rx));
        for _ in 0..connections {
            let (order_rx, answer_tx) = (order_rx.clone(), answer_tx.clone());
            let mut session = Session::new(server, tls.clone());
            thread::spawn(move || {
                loop {
                    let order = order_rx.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(order) = order else { return };
                    if answer_tx.send(order.obey(&mut session)).is_err() {
                        return;
                    }
                }
            });
        }
        Self { orders, answers }
    }

    /// Sends all, and returns when all are answered.
    pub fn run(&self, orders: Vec<Order>) -> Result<Vec<Answer>> {
        let count = orders.len();
        for order in orders {
            self.orders
                .send(order)
                .map_err(|_| anyhow!("every connection's thread has ended"))?;
        }
        (0..count)
            .map(|_| self.answers.recv().context("every connection's thread has ended"))
            .collect()
    }
}

/// The program inside a boundary, and the guard that holds it there.
pub struct Boundary {
    guard: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Boundary {
    /// Starts it under a guard.
    pub fn start(guarded: &Guarded<'_>, server: SocketAddr, connections: usize) -> Result<Self> {
        // The build folder may be closed to the user that guarded commands run as.
        let program = guarded.home().join(SENDER);
        fs::copy(programs::beside(SENDER)?, &program).context("copying the sender")?;
        let (server, connections) = (server.to_string(), connections.to_string());
        let line = [program.as_os_str(), OsStr::new(&server), OsStr::new(&connections)];
        let mut command = guarded.command(&line)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut guard = leash::spawn(command).context("starting eks-guard")?;
        let answers = guard.stdout.take().context("its output is piped")?;
        Ok(Self {
            orders: guard.stdin.take(),
            answers: BufReader::new(answers),
            guard,
        })
    }

    /// Sends all, and returns when all are answered.
    pub fn run(&mut self, orders: &[Order]) -> Result<Vec<Answer>> {
        let input = self.orders.as_mut().context("the sender was ended")?;
        thread::scope(|scope| {
            // Both pipes are small: who writes to the end before reading waits for ever.
            let writer = scope.spawn(move || {
                for order in orders {
                    serde_json::to_writer(&mut *input, order)?;
                    input.write_all(b"\n")?;
                }
                input.flush()
            });
            let mut answers = Vec::with_capacity(orders.len());
            let mut line = String::new();
            while answers.len() < orders.len() {
                line.clear();
                ensure!(self.answers.read_line(&mut line)? > 0, "the sender inside ended");
                answers.push(serde_json::from_str(&line).context("reading an answer")?);
            }
            writer.join().map_err(|_| anyhow!("writing orders panicked"))??;
            Ok(answers)
        })
    }

    /// Ends the sender, and with it the run.
    pub fn end(mut self) -> Result<()> {
        drop(self.orders.take());
        let status = self.guard.wait().context("waiting for eks-guard")?;
        ensure!(status.success(), "the run ended with {status}");
        Ok(())
    }
}

/// What the program inside does: obeys the orders on standard input until it ends.
///
/// # Errors
/// Standard input or output break, or hold what is no order.
pub fn obey(server: SocketAddr, connections: usize) -> Result<()> {
    let tls = Arc::new(unverified_tls()?);
    let pool = Pool::start(server, &tls, connections);
    let Pool { orders, answers } = pool;
    let reader = thread::spawn(move || -> Result<()> {
        for line in io::stdin().lock().lines() {
            let order = serde_json::from_str(&line?).context("reading an order")?;
            orders.send(order).ok();
        }
        Ok(())
    });
    let mut output = io::stdout().lock();
    for answer in answers {
        serde_json::to_writer(&mut output, &answer)?;
        output.write_all(b"\n")?;
        output.flush()?;
    }
    reader.join().map_err(|_| anyhow!("reading orders panicked"))?
}
