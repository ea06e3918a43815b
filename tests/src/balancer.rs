//! One address in front of several API servers, as a load balancer is: new connections go to those in rotation, in turn;
//! connections that stand stay where they are.

use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{io, thread};

use anyhow::{Context, Result};

/// The address and what is behind it. Its threads end with their connections, or with this process.
pub struct Balancer {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    rotation: Vec<SocketAddr>,
    connections: usize,
}

impl Balancer {
    /// Listens on a free port of loopback.
    pub fn before(rotation: &[SocketAddr]) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listening")?;
        let state = Arc::new(Mutex::new(State {
            rotation: rotation.to_vec(),
            connections: 0,
        }));
        let balancer = Self {
            address: listener.local_addr()?,
            state: Arc::clone(&state),
        };
        thread::spawn(move || {
            for stream in listener.incoming().map_while(io::Result::ok) {
                if let Some(target) = next(&state) {
                    // A connection that breaks is the affair of its caller.
                    thread::spawn(move || forward(stream, target).ok());
                }
            }
        });
        Ok(balancer)
    }

    /// What clients know.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on new connections go to these.
    pub fn rotate(&self, rotation: &[SocketAddr]) {
        lock(&self.state).rotation = rotation.to_vec();
    }

    /// How many connections were taken so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        lock(&self.state).connections
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn next(state: &Mutex<State>) -> Option<SocketAddr> {
    let mut state = lock(state);
    state.connections += 1;
    let at = state.connections % state.rotation.len().max(1);
    state.rotation.get(at).copied()
}

fn forward(downstream: TcpStream, target: SocketAddr) -> io::Result<()> {
    let upstream = TcpStream::connect(target)?;
    for stream in [&downstream, &upstream] {
        stream.set_nodelay(true)?;
    }
    let (from, to) = (downstream.try_clone()?, upstream.try_clone()?);
    let there = thread::spawn(move || copy(from, to));
    copy(upstream, downstream)?;
    there.join().unwrap_or(Ok(()))
}

fn copy(mut from: TcpStream, mut to: TcpStream) -> io::Result<()> {
    let copied = io::copy(&mut from, &mut to).map(drop);
    // Whoever is at the other end learns of an end, and of a break as of an end.
    copied.and(to.shutdown(Shutdown::Write))
}
