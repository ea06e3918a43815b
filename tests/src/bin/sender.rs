//! `sender SERVER CONNECTIONS`, to be run as the guarded command: requests come in on standard input, one JSON line each, go
//! out as they are over so many connections, and what came of them goes to standard output. `rig::differential` gives the orders.

use anyhow::{Context, Result};

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let mut next = || args.next().context("sender SERVER CONNECTIONS");
    rig::differential::exchange::obey(next()?.parse()?, next()?.parse()?)
}
