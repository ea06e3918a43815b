//! Descriptors that come from outside, and connections older than the boundary.

use std::io::{self, BufRead};
use std::net::TcpStream;

use eks_guard_core::catalogue::probe::Plan;

use crate::answer::{Answerer, answerer, hello, judge};
use crate::found::{Attempt, Found, conclude};
use crate::sys;
use crate::tries::socket::{dial_with, tcp};

const EBADF: i32 = nix::libc::EBADF;

pub(crate) fn unconnected(plan: &Plan) -> Found {
    let (Some(number), Some(to)) = (plan.unconnected_fd, plan.api.first()) else {
        return Found::not_applicable("nobody outside hands a socket in");
    };
    conclude(match sys::inherited(number) {
        Ok(socket) => dial_with(plan, socket, *to),
        Err(error) => closed(error),
    })
}

pub(crate) fn connected(plan: &Plan) -> Found {
    let Some(number) = plan.connected_fd else {
        return Found::not_applicable("nobody outside hands a connection in");
    };
    conclude(match sys::inherited(number) {
        Ok(socket) => judge(socket, plan),
        Err(error) => closed(error),
    })
}

/// There is nothing under this number: it was closed on the way in.
fn closed(error: io::Error) -> Attempt {
    if error.raw_os_error() != Some(EBADF) {
        return Err(error);
    }
    let mut found = Found::blocked("the descriptor was closed on the way in");
    found.evidence.errno = Some("EBADF".to_owned());
    Ok(found)
}

/// Connects now; asks once a second line of standard input says that the boundary stands. Without one there is no such moment.
pub(crate) fn older(plan: &Plan) -> Found {
    let Some(to) = plan.older.then(|| plan.api.first()).flatten() else {
        return Found::not_applicable("the command and all that it inherits are younger than the boundary");
    };
    conclude(ask_later(plan, *to))
}

fn ask_later(plan: &Plan, to: std::net::SocketAddr) -> Attempt {
    let socket = tcp(plan, to)?;
    rustix::net::connect(&socket, &to)?;
    crate::ready()?;
    if io::stdin().lock().read_line(&mut String::new())? == 0 {
        return Ok(Found::not_run("nobody said that the boundary stands"));
    }
    let mut stream = TcpStream::from(socket);
    io::Write::write_all(&mut stream, &hello())?;
    Ok(match answerer(&mut stream, &plan.guard)? {
        Answerer::Silence => Found::blocked("what was written did not arrive: no answer"),
        Answerer::Nobody => Found::blocked("closed without an answer"),
        Answerer::Guard => Found::redirected("the guard answered"),
        Answerer::Other(what) => Found::reached(what),
    })
}
