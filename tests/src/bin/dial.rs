//! `dial ADDRESS`: opens a TCP connection before it does anything else, and says what became of it: exit code 0 for a
//! connection, 1 for a refused one, 2 for whatever else there is.

use std::env;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;

use anyhow::{Context, Result};

fn main() -> Result<ExitCode> {
    let address: SocketAddr = env::args().nth(1).context("dial ADDRESS")?.parse()?;
    Ok(match TcpStream::connect(address) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => ExitCode::from(1),
        Err(_) => ExitCode::from(2),
    })
}
