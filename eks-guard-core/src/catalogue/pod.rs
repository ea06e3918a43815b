//! What closes each row for an agent's pod on a guarded node, and how that is checked there.

use crate::catalogue::kinds::{Check, Closing};

const CONNECT: &str = "connect hooks of the pods' cgroup";
const BOTH: &str = "connect hooks, and the packet filter behind them";
const SOCKET: &str =
    "sockets whose destination the hooks do not see are not made; the packet filter stands behind";
const DATAGRAM: &str = "hooks of connect() and sendto(), and the packet filter behind them";
const SECCOMP: &str = "no layer of the node: the runtime's system call filter";
const WIRE: &str = "the filter on the node's end of the pod's cable";
const POWER: &str = "no profile of an agent has the capability";
const CLASS: &str = "closed as a class of its own in every hook";
const LIST: &str = "the agent's allow-list";
const UNKNOWN: &str = "cgroups that nobody has classified do not reach the API server";
const MOUNTS: &str = "the container's own file systems";
const DENIED: &str = "the proxy: compiled-in protection and default deny";
const DROPPED: &str = "the guard drops what the agent presents";
const DEATH: &str = "daemon a_killed_daemon_leaves_agents_shut_out_and_the_next_one_takes_over";
const NO_RULE: &str = "refusals without_a_rule_nothing_but_discovery";
const STOLEN: &str = "refusals a_stolen_admin_token_is_worth_nothing";

const fn probe(id: &'static str, control: &'static str) -> (&'static str, Closing) {
    (id, Closing::new(control, Check::Probe))
}

const fn look(id: &'static str, control: &'static str, at: &'static str) -> (&'static str, Closing) {
    (id, Closing::new(control, Check::Configuration(at)))
}

const fn test(id: &'static str, control: &'static str, name: &'static str) -> (&'static str, Closing) {
    (id, Closing::new(control, Check::Elsewhere(name)))
}

/// Every row, by id.
const CLOSINGS: &[(&str, Closing)] = &[
    probe("N01", CONNECT),
    probe("N02", CONNECT),
    probe("N03", CONNECT),
    probe("N04", BOTH),
    probe("N05", CONNECT),
    probe("N06", CONNECT),
    probe("N07", CONNECT),
    probe("N08", SOCKET),
    probe("N09", CONNECT),
    probe("N10", DATAGRAM),
    probe("N11", SOCKET),
    probe("N12", SOCKET),
    probe("N13", CONNECT),
    probe("N14", "the packet filter"),
    probe("N15", SECCOMP),
    probe("N16", SECCOMP),
    probe("N17", WIRE),
    probe("N18", WIRE),
    test(
        "N19",
        "the packet filter drops what an older connection sends",
        "netns a_connection_older_than_the_guard_stalls",
    ),
    probe("N20", CONNECT),
    probe("N21", CONNECT),
    probe("N22", CONNECT),
    probe("N23", "no flow entry: closed without an answer"),
    probe("N24", "the port is held by the daemon"),
    probe("N25", "a flow entry is taken once and goes with its connection"),
    probe(
        "N26",
        "its sockets stay in the cgroup, and the listener is not in there",
    ),
    probe("N27", SOCKET),
    probe(
        "N28",
        "every Service that leads to the API server is known; the allow-list behind that",
    ),
    test(
        "N29",
        "decisions are made on addresses, never on names",
        "netns an_agent_reaches_the_api_server_through_the_guard_in_every_form",
    ),
    probe("N30", CONNECT),
    probe("N31", LIST),
    look(
        "N32",
        LIST,
        "`egress` of the agent must not be blockList, nor name a relay",
    ),
    look(
        "N33",
        POWER,
        "volumes of other machines are an admission rule; the kernel's own sockets do not speak HTTP",
    ),
    look(
        "N34",
        WIRE,
        "runtimeClass of agents: only the wire sees what a sandbox with a network stack of its own sends",
    ),
    test("N35", "the start is refused", "errors without_cgroup2"),
    probe("P01", SOCKET),
    probe("P02", WIRE),
    probe("P03", WIRE),
    probe(
        "P04",
        "the filter on the node's end of the pod's cable; a ring to send from needs CAP_BPF too",
    ),
    probe("P05", CONNECT),
    probe("P06", CONNECT),
    probe("P07", CONNECT),
    probe(
        "P08",
        "changes of the own network harm the agent alone: the hooks and the wire are not in it",
    ),
    probe("P09", CONNECT),
    look(
        "P10",
        "refused at admission",
        "hostNetwork together with NET_RAW must be refused to agents: no layer of the node sees such packets",
    ),
    probe("P11", "abstract names belong to a network namespace"),
    probe("P12", MOUNTS),
    probe("P13", "PID namespaces and the kernel's rules of tracing"),
    probe("P14", MOUNTS),
    probe("P15", "the cgroup file system is read-only"),
    probe("P16", "the cgroup file system is read-only, and ancestors count"),
    probe("P17", POWER),
    probe("P18", POWER),
    probe("P19", "kernel.unprivileged_bpf_disabled is not 0"),
    look(
        "P20",
        "refused at admission",
        "privileged agents, devices and host paths must be refused",
    ),
    look(
        "P21",
        "no flow entry: closed without an answer",
        "row N23 dials the listener without a flow entry",
    ),
    probe("L01", "the pod is closed before it is known to be an agent"),
    test(
        "L02",
        "the pod's cgroup counts: every container is below it",
        "daemon another_sandbox_gets_another_listener",
    ),
    test(
        "L03",
        "closed until it has a listener",
        "daemon another_sandbox_gets_another_listener",
    ),
    test("L04", UNKNOWN, "daemon what_no_object_stands_for_reaches_nothing"),
    test("L05", "an agent stays one for the life of its pod", DEATH),
    look(
        "L06",
        "refused at admission",
        "an admission policy, which runs last, must check the label",
    ),
    look(
        "L07",
        "scheduling rules",
        "agents must select nodes that have the guard",
    ),
    look(
        "L08",
        UNKNOWN,
        "pins do not outlive a reboot: pods must wait for the guard",
    ),
    test("L09", "links and maps are pinned", DEATH),
    test(
        "L10",
        "programs are replaced in place",
        "netns an_agent_that_never_stops_trying_reaches_nothing_while_programs_are_replaced",
    ),
    probe(
        "L11",
        "this report: a redirected row shows that the right cgroup is guarded",
    ),
    test(
        "L12",
        "a pod that cannot be put on record stays unclassified",
        "netns a_full_map_leaves_a_pod_unclassified_and_a_list_short",
    ),
    look(
        "L13",
        "refused by the connect hooks",
        "the program's own refusal `Storage`",
    ),
    test(
        "L14",
        "64-bit ids are never used again; wires of pods that are gone are opened",
        "netns only_the_wires_of_agents_are_guarded",
    ),
    test(
        "L15",
        "what is lost is noticed",
        "netns a_guarded_wire_outlives_the_daemon_and_is_asked_for",
    ),
    test(
        "L16",
        "counters of the kernel programs are exact",
        "netns refusals_are_told_as_they_happen_and_counted_when_they_cannot_be",
    ),
    look("L17", "there is no such mode", "nothing to set"),
    probe("K01", CLASS),
    test("K02", DENIED, "refusals ways_into_a_pod_and_around_the_guard"),
    test("K03", DENIED, "refusals ways_into_a_pod_and_around_the_guard"),
    test("K04", DENIED, NO_RULE),
    test("K05", DENIED, "refusals acting_as_somebody_else"),
    test("K06", DENIED, "refusals secrets_in_every_verb"),
    test("K07", DENIED, NO_RULE),
    test("K08", DENIED, NO_RULE),
    test("K09", DENIED, "unit policy::tests::protections"),
    probe("K10", CLASS),
    test("K11", DENIED, NO_RULE),
    probe("A01", CLASS),
    probe("A02", CLASS),
    test(
        "A03",
        "there is no way to present it: the guard drops what the agent presents",
        STOLEN,
    ),
    look("A04", LIST, "deny them to the roles within reach of the pod"),
    look(
        "A05",
        "the token opens nothing through the guard",
        "automountServiceAccountToken: false; a private endpoint; tokens that are bound and short-lived",
    ),
    test("A06", DROPPED, STOLEN),
    test(
        "X01",
        "strict grammar; requests are rebuilt",
        "hostile heads_that_can_be_read_in_two_ways",
    ),
    test(
        "X02",
        "one upstream, whatever is named",
        "hostile the_authority_is_the_clusters_or_nobodys",
    ),
    test(
        "X03",
        "identity per accepted connection",
        "hostile an_answer_does_not_depend_on_the_connection_it_came_on",
    ),
    test(
        "X04",
        "one strict parser",
        "hostile every_golden_vector_is_refused_or_read_as_the_api_server_reads_it",
    ),
    test(
        "X05",
        "dropped; the guard's own are set",
        "hostile headers_that_would_make_the_guard_somebody_else_stay_behind",
    ),
    test(
        "X06",
        "they end with the guard",
        "refusals a_guard_killed_while_a_watch_is_open_leaves_no_way_to_the_api_server",
    ),
    test(
        "X07",
        "neither is offered",
        "hostile what_is_not_tls_with_a_known_protocol_is_recorded_and_closed",
    ),
    test(
        "X08",
        "without a listener connections are refused",
        "netns without_a_listener_the_connection_is_refused",
    ),
];

/// What an agent in the node's own network has no layer for: there is no cable between it and the node.
const NO_WIRE: &str =
    "hostNetwork must be refused to agents that are not trusted with the node's own programs";
const ADMISSION: &str = "refused at admission";
const IN_THE_NODES_NETWORK: &[(&str, Closing)] = &[
    look("N17", ADMISSION, NO_WIRE),
    look("N18", ADMISSION, NO_WIRE),
    look("P11", ADMISSION, NO_WIRE),
];

/// What closes a row for a pod in a network of its own.
pub(crate) fn closing(id: &str) -> Option<Closing> {
    find(CLOSINGS, id)
}

/// What closes a row for a pod in the node's network.
pub(crate) fn closing_in_the_nodes_network(id: &str) -> Option<Closing> {
    find(IN_THE_NODES_NETWORK, id).or_else(|| closing(id))
}

fn find(closings: &[(&str, Closing)], id: &str) -> Option<Closing> {
    let mut found = closings.iter().filter(|(name, _)| *name == id);
    found.next().map(|(_, closing)| *closing)
}
