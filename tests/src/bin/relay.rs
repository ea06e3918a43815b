//! `relay PORT TARGET`: forwards every connection to TARGET, and says so on standard output first.

#![allow(clippy::print_stdout, reason = "standard output is its log")]

use std::net::{Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::{env, io, thread};

use anyhow::{Context, Result};

fn main() -> Result<()> {
    let mut args = env::args().skip(1);
    let port: u16 = args.next().context("relay PORT TARGET")?.parse()?;
    let target: SocketAddr = args.next().context("relay PORT TARGET")?.parse()?;
    // Both families.
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).context("listening")?;
    println!("ready");
    loop {
        let (stream, from) = listener.accept().context("accepting")?;
        println!("connection {from}");
        // A connection that breaks is the affair of its caller.
        thread::spawn(move || forward(stream, target).ok());
    }
}

fn forward(downstream: TcpStream, target: SocketAddr) -> io::Result<()> {
    let upstream = TcpStream::connect(target)?;
    let (from, to) = (downstream.try_clone()?, upstream.try_clone()?);
    let there = thread::spawn(move || copy(from, to));
    copy(upstream, downstream)?;
    there.join().unwrap_or(Ok(()))
}

fn copy(mut from: TcpStream, mut to: TcpStream) -> io::Result<()> {
    io::copy(&mut from, &mut to)?;
    to.shutdown(Shutdown::Write)
}
