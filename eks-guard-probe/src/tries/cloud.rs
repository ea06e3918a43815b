//! Services that hand out credentials to whoever asks from the right machine, and whoever could pass something on to an API
//! server. A connection is all that is tried: nothing is asked for.

use std::net::SocketAddr;

use eks_guard_core::catalogue::probe::Plan;
use nix::errno::Errno;
use rustix::net::connect;

use crate::found::{Attempt, Found, forms};
use crate::tries::socket::tcp;

/// They are on the machine or one hop away, or nowhere.
const PATIENCE_MS: u64 = 2_000;
const METADATA: [&str; 2] = ["169.254.169.254:80", "[fd00:ec2::254]:80"];
const POD_IDENTITY: [&str; 2] = ["169.254.170.23:80", "[fd00:ec2::23]:80"];

pub(crate) fn metadata(plan: &Plan) -> Found {
    any_of(plan, METADATA)
}

pub(crate) fn pod_identity(plan: &Plan) -> Found {
    any_of(plan, POD_IDENTITY)
}

/// A relay would pass on what it is given; that it takes a connection is as far as this goes.
pub(crate) fn relays(plan: &Plan) -> Found {
    open_ports(plan, &plan.relays)
}

pub(crate) fn kubelets(plan: &Plan) -> Found {
    open_ports(plan, &plan.kubelets)
}

pub(crate) fn other_clusters(plan: &Plan) -> Found {
    open_ports(plan, &plan.other_clusters)
}

fn open_ports(plan: &Plan, to: &[SocketAddr]) -> Found {
    forms(to.iter().map(|to| {
        let attempt = tcp(plan, *to).and_then(|socket| {
            connect(socket, to)?;
            Ok(Found::reached("somebody takes connections there"))
        });
        (to.to_string(), attempt)
    }))
}

fn any_of(plan: &Plan, to: [&str; 2]) -> Found {
    let plan = Plan {
        patience_ms: plan.patience_ms.min(PATIENCE_MS),
        ..plan.clone()
    };
    forms(to.map(|text| (text.to_owned(), dial(&plan, text))))
}

/// Nobody there is no merit of the boundary.
fn dial(plan: &Plan, to: &str) -> Attempt {
    const NOBODY: [Errno; 5] = [
        Errno::ENETUNREACH,
        Errno::EHOSTUNREACH,
        Errno::ETIMEDOUT,
        Errno::EINPROGRESS,
        Errno::EADDRNOTAVAIL,
    ];
    let to: SocketAddr = to.parse().map_err(std::io::Error::other)?;
    match connect(tcp(plan, to)?, &to) {
        Ok(()) => Ok(Found::reached("somebody takes connections there")),
        Err(error) if NOBODY.iter().any(|nobody| *nobody as i32 == error.raw_os_error()) => {
            Ok(Found::not_applicable("nobody takes connections there"))
        }
        Err(error) => Err(error.into()),
    }
}
