//! Rows about start, end and identity (L).

use crate::catalogue::kinds::Row;

const NO_NODE: &str = "belongs to a cluster's nodes; this machine runs one guarded tree";

/// Lifecycle and identity.
pub(crate) const ROWS: &[Row] = &[
    Row::probe(
        "L01",
        "processes whose first act is to connect",
        "the cgroup is guarded before the first process enters it",
    ),
    Row::elsewhere(
        "L02",
        "containers that start later: init, sidecar, ephemeral, restarted",
        "ancestors count: a cgroup below is as guarded",
        "netns a_nested_cgroup_is_as_guarded",
    ),
    Row::configuration(
        "L03",
        "a sandbox made anew, with another network",
        "closed until it has a listener",
        NO_NODE,
    ),
    Row::configuration(
        "L04",
        "static pods, which pass no admission",
        "unknown cgroups are refused",
        NO_NODE,
    ),
    Row::configuration(
        "L05",
        "taking the label away",
        "classification stays for the life of a pod",
        NO_NODE,
    ),
    Row::configuration(
        "L06",
        "another webhook that changes a pod later",
        "admission policies run last",
        NO_NODE,
    ),
    Row::configuration("L07", "a node without the guard", "scheduling rules", NO_NODE),
    Row::configuration(
        "L08",
        "a reboot: pods that start before the guard",
        "pods wait for the guard",
        NO_NODE,
    ),
    Row::elsewhere(
        "L09",
        "killing the guard",
        "PID 1 of the tree holds the links",
        "run a_killed_guard_is_a_closed_door_and_the_next_start_cleans_up",
    ),
    Row::configuration(
        "L10",
        "the moment of an upgrade",
        "`run` is not upgraded while it runs",
        NO_NODE,
    ),
    Row::probe(
        "L11",
        "programs attached to the wrong cgroup",
        "this report: a redirected row shows that the right one is guarded",
    ),
    Row::elsewhere(
        "L12",
        "full maps",
        "an entry that cannot be written refuses the connection",
        "netns a_full_flow_table_refuses_and_recovers",
    ),
    Row::configuration(
        "L13",
        "no memory for what the socket remembers",
        "refused by the connect hooks",
        "the program's own refusal `Storage`; what COMMAND may use up is its own socket's share",
    ),
    Row::elsewhere(
        "L14",
        "numbers used again: cgroup ids, cookies, ports",
        "64-bit ids are never used again; flow entries are taken once",
        "netns redirects_every_address_of_a_local_api_server",
    ),
    Row::configuration(
        "L15",
        "a packet filter lost to another program",
        "links of a cgroup are not replaced by others",
        NO_NODE,
    ),
    Row::configuration(
        "L16",
        "hiding attempts in a flood of events",
        "counters of the kernel programs are exact",
        "`run` has no event ring that could overflow: it logs the counters when it ends",
    ),
    Row::configuration(
        "L17",
        "observing instead of enforcing",
        "there is no such mode",
        "nothing to set",
    ),
];
