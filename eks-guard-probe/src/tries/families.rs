//! Families and protocols beside TCP and UDP.

use eks_guard_core::catalogue::probe::Plan;

use crate::answer::judge;
use crate::found::{Attempt, Found, forms};
use crate::sys;
use crate::tries::socket::{DATAGRAM, STREAM, any, dial_with, family_of, mapped, raw_address};

const MULTIPATH: u32 = 262;
const SCTP: u32 = 132;
const DCCP: u32 = 33;
const DCCP_KIND: u32 = 6;
const SMC: u16 = 43;
const VSOCK: u16 = 40;
const SEQUENTIAL: u32 = 5;

pub(crate) fn multipath(plan: &Plan) -> Found {
    let to = [plan.api.clone(), mapped(plan)].concat();
    forms(to.into_iter().map(|to| {
        let attempt =
            any(plan, family_of(to), STREAM, MULTIPATH).and_then(|socket| dial_with(plan, socket, to));
        (to.to_string(), attempt)
    }))
}

pub(crate) fn sctp_and_dccp(plan: &Plan) -> Found {
    let kinds = [("SCTP", STREAM, SCTP), ("DCCP", DCCP_KIND, DCCP)];
    forms(plan.api.iter().flat_map(|to| {
        kinds.map(|(name, kind, protocol)| {
            let attempt = any(plan, family_of(*to), kind, protocol).and_then(|socket| {
                sys::connect(&socket, &raw_address(*to))?;
                Ok(Found::sent())
            });
            (format!("{name} {to}"), attempt)
        })
    }))
}

/// Protocol 0 is SMC over IPv4, 1 over IPv6.
pub(crate) fn smc(plan: &Plan) -> Found {
    forms(plan.api.iter().map(|to| {
        let attempt = any(plan, SMC, STREAM, u32::from(to.is_ipv6())).and_then(|socket| {
            sys::connect(&socket, &raw_address(*to))?;
            judge(socket, plan)
        });
        (to.to_string(), attempt)
    }))
}

/// The machine's host is nobody's to dial, and serves no API server: a socket that can be made is said, and no more.
pub(crate) fn vsock(plan: &Plan) -> Found {
    forms([made(plan, "vsock", VSOCK, STREAM, 0)])
}

/// None of them speaks what the API server does, so that a socket that can be made is said, and no more.
pub(crate) fn kernel_owned(plan: &Plan) -> Found {
    let families = [
        ("RDS", 21, SEQUENTIAL, 0),
        ("TIPC", 30, SEQUENTIAL, 0),
        ("RxRPC", 33, DATAGRAM, 2),
        ("KCM", 41, SEQUENTIAL, 0),
    ];
    forms(families.map(|(name, family, kind, protocol)| made(plan, name, family, kind, protocol)))
}

fn made(plan: &Plan, name: &str, family: u16, kind: u32, protocol: u32) -> (String, Attempt) {
    let attempt = any(plan, family, kind, protocol)
        .map(|_| Found::not_applicable("made; the API server does not speak it"));
    (name.to_owned(), attempt)
}
