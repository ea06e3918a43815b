//! The routes, by id. One file for each kind.

mod beyond;
mod bpf;
mod cloud;
mod connect;
mod datagram;
mod families;
mod files;
mod frames;
mod handed;
mod handshake;
mod listener;
mod packets;
mod processes;
mod socket;

use eks_guard_core::catalogue::probe::Plan;

use crate::found::Found;

/// What tries one route.
pub(crate) type Try = fn(&Plan) -> Found;

const TRIES: [(&str, Try); 52] = [
    ("N01", connect::ipv4),
    ("N02", connect::ipv6),
    ("N03", connect::mapped),
    ("N04", connect::nat64),
    ("N05", connect::unspecified),
    ("N06", connect::fast_open),
    ("N07", connect::deferred_fast_open),
    ("N08", families::multipath),
    ("N09", connect::io_uring),
    ("N10", datagram::udp),
    ("N11", datagram::udp_lite),
    ("N12", families::sctp_and_dccp),
    ("N13", families::smc),
    ("N14", datagram::ping),
    ("N15", families::vsock),
    ("N16", families::kernel_owned),
    ("N17", handed::unconnected),
    ("N18", handed::connected),
    ("N19", handed::older),
    ("N20", connect::reconnected),
    ("N21", connect::bound),
    ("N22", connect::bound_to_interface),
    ("N23", listener::dialled),
    ("N24", listener::squatted),
    ("N25", listener::source_port_again),
    ("N26", connect::own_network),
    ("N27", packets::disguised),
    ("N28", connect::aliases),
    ("N30", connect::other_addresses),
    ("N31", cloud::relays),
    ("P01", packets::raw),
    ("P02", frames::by_hand),
    ("P03", frames::past_the_queue),
    ("P04", frames::xdp),
    ("P05", connect::foreign_source),
    ("P06", connect::marked),
    ("P07", connect::repaired),
    ("P08", processes::network),
    ("P09", connect::in_the_nodes_network),
    ("P11", files::abstract_socket),
    ("P12", files::sockets),
    ("P13", processes::outside),
    ("P14", files::credentials),
    ("P15", processes::other_cgroup),
    ("P16", processes::cgroup_below),
    ("P17", bpf::links),
    ("P18", bpf::own_program),
    ("P19", bpf::unprivileged),
    ("L01", connect::at_once),
    ("L11", connect::ipv4_or_ipv6),
    ("K01", cloud::kubelets),
    ("K10", cloud::other_clusters),
];

const CLOUD: [(&str, Try); 2] = [("A01", cloud::metadata), ("A02", cloud::pod_identity)];

/// Routes outside the catalogue: no report counts them, tests with a witness do.
const BEYOND: [(&str, Try); 12] = [
    ("X01", beyond::source_routes),
    ("X02", beyond::segment_routes),
    ("X03", beyond::address_lengths),
    ("X04", beyond::unspecified_family),
    ("X05", beyond::scope_and_flow),
    ("X06", beyond::address_form),
    ("X07", beyond::corked),
    ("X08", beyond::many_at_once),
    ("X09", beyond::rewritten_address),
    ("X10", beyond::socket_options),
    ("X11", beyond::embedded),
    ("X12", beyond::spellings),
];

/// What tries the route with this id.
pub(crate) fn find(id: &str) -> Option<Try> {
    let mut all = TRIES.iter().chain(&CLOUD).chain(&BEYOND);
    all.find(|(name, _)| *name == id).map(|(_, attempt)| *attempt)
}

#[cfg(test)]
mod tests {
    use eks_guard_core::catalogue::{Boundary, Check, Row, rows};

    use crate::tries::{CLOUD, TRIES, find};

    #[test]
    fn every_row_that_a_process_can_try_is_tried() {
        let boundaries = [Boundary::Run, Boundary::Pod, Boundary::HostNetworkPod];
        let is_tried = |boundary: &Boundary, row: &Row| row.closing(*boundary).check == Check::Probe;
        let probes: Vec<&str> = rows()
            .filter(|row| boundaries.iter().any(|boundary| is_tried(boundary, row)))
            .map(|row| row.id)
            .collect();
        for id in &probes {
            assert!(find(id).is_some(), "{id}");
        }
        assert_eq!(probes.len(), TRIES.len() + CLOUD.len());
    }
}
