//! Rows about sockets and packets (N), and about capabilities, other processes and kernel objects (P).

use crate::catalogue::kinds::Row;

const CONNECT: &str = "connect hooks of the cgroup";
const BOTH: &str = "connect hooks, and the packet filter behind them";
const SOCKET: &str =
    "sockets whose destination the hooks do not see are not made; the packet filter stands behind";
const DATAGRAM: &str = "hooks of connect() and sendto(), and the packet filter behind them";
const FILTER: &str = "the system call filter; no API server listens there";
const NO_POWER: &str = "the command has no capability, not even as root";
const NO_LAYER: &str = "not closed by `run`: it has no allow-list for other destinations; the tree holds no credential to send there";

/// Sockets and packets.
pub(crate) const SOCKETS: &[Row] = &[
    Row::probe("N01", "TCP over IPv4", CONNECT),
    Row::probe("N02", "TCP over IPv6", CONNECT),
    Row::probe("N03", "TCP to an IPv4-mapped IPv6 address", CONNECT),
    Row::probe("N04", "TCP to a NAT64 address", BOTH),
    Row::probe(
        "N05",
        "TCP to the unspecified addresses, which mean this host",
        CONNECT,
    ),
    Row::probe("N06", "TCP fast open by sendto()", CONNECT),
    Row::probe("N07", "TCP fast open with a deferred SYN", CONNECT),
    Row::probe("N08", "multipath TCP, plain and mapped", SOCKET),
    Row::probe(
        "N09",
        "io_uring connect: plain, forced asynchronous, polled by the kernel",
        "the system call filter, and the connect hooks behind it",
    ),
    Row::probe(
        "N10",
        "UDP in seven forms: connected, unconnected, mapped, addressed anew",
        DATAGRAM,
    ),
    Row::probe("N11", "UDP-Lite", SOCKET),
    Row::probe("N12", "SCTP and DCCP", SOCKET),
    Row::probe(
        "N13",
        "SMC, which falls back to TCP",
        "the system call filter, and the connect hooks behind it",
    ),
    Row::probe(
        "N14",
        "a tunnel of ping messages",
        "the packet filter; a local API server does not read pings",
    ),
    Row::probe("N15", "vsock to the machine's host", FILTER),
    Row::probe(
        "N16",
        "sockets that the kernel drives itself: RDS, TIPC, RxRPC, KCM",
        FILTER,
    ),
    Row::probe(
        "N17",
        "a descriptor inherited from outside, connected inside",
        "descriptors above standard error are closed before the command",
    ),
    Row::probe(
        "N18",
        "a connected descriptor inherited from outside",
        "descriptors above standard error are closed before the command",
    ),
    Row::probe(
        "N19",
        "a connection older than the boundary",
        "the packet filter; nothing runs in the cgroup before it is guarded",
    ),
    Row::probe(
        "N20",
        "a socket disconnected by AF_UNSPEC and connected again",
        CONNECT,
    ),
    Row::probe("N21", "a socket bound to an own address first", CONNECT),
    Row::probe("N22", "a socket bound to one interface", CONNECT),
    Row::probe(
        "N23",
        "the guard's own listener, dialled directly",
        "no flow entry: closed without an answer",
    ),
    Row::probe(
        "N24",
        "taking the listener's port",
        "the port is bound before the command exists",
    ),
    Row::probe(
        "N25",
        "the source port of a redirected connection, used again towards the listener",
        "a flow entry is taken once and goes with its connection",
    ),
    Row::probe(
        "N26",
        "a network namespace made in a user namespace",
        "its sockets stay in the cgroup, and the listener is not in there",
    ),
    Row::probe(
        "N27",
        "packets with fragments, IP options and routing headers",
        SOCKET,
    ),
    Row::configuration(
        "N28",
        "another address that the cluster translates to the API server: Services, external IPs",
        BOTH,
        "this machine is no node: no Service is translated here; the packet filter sees what local rules rewrite",
    ),
    Row::elsewhere(
        "N29",
        "other names for the API server: CNAME, /etc/hosts, rebinding",
        "decisions are made on addresses, never on names",
        "netns redirects_a_remote_api_server_in_every_disguise",
    ),
    Row::probe(
        "N30",
        "every other address of the API server that is known here",
        CONNECT,
    ),
    Row::configuration(
        "N31",
        "a relay on this machine or in the cluster",
        "no credential in the tree",
        NO_LAYER,
    ),
    Row::configuration(
        "N32",
        "a relay elsewhere: a proxy, a DNS tunnel",
        "no credential in the tree",
        NO_LAYER,
    ),
    Row::configuration(
        "N33",
        "sockets of the kernel's file systems: NFS, CIFS, iSCSI",
        NO_POWER,
        "they do not speak HTTP, and mounting needs CAP_SYS_ADMIN on the machine",
    ),
    Row::configuration(
        "N34",
        "a sandbox with a network stack of its own: gVisor, Kata, virtual machines",
        NO_POWER,
        "started by COMMAND they use its sockets, which are guarded; started elsewhere they are not inside",
    ),
    Row::elsewhere(
        "N35",
        "a machine without cgroup v2",
        "the start is refused",
        "errors without_cgroup2",
    ),
];

/// Capabilities, host namespaces, kernel objects.
pub(crate) const POWERS: &[Row] = &[
    Row::probe("P01", "raw IP sockets with headers of their own", SOCKET),
    Row::probe("P02", "packet sockets: a TCP handshake made by hand", NO_POWER),
    Row::probe("P03", "packet sockets past the queueing discipline", NO_POWER),
    Row::probe("P04", "AF_XDP", NO_POWER),
    Row::probe("P05", "a source address of somebody else", CONNECT),
    Row::probe("P06", "a forged firewall mark", CONNECT),
    Row::probe(
        "P07",
        "TCP repair: a connection declared to be established",
        NO_POWER,
    ),
    Row::probe("P08", "rewriting the network the listener stands in", NO_POWER),
    Row::configuration(
        "P09",
        "the host's network itself",
        CONNECT,
        "`run` shares the host's network: every row N is tried in it",
    ),
    Row::configuration(
        "P10",
        "packet sockets in the host's network",
        NO_POWER,
        "rows P02 to P04 are tried in it",
    ),
    Row::probe(
        "P11",
        "abstract UNIX sockets of programs outside",
        "Landlock scope; before kernel 6.12 programs in front of connect() and sendto()",
    ),
    Row::probe(
        "P12",
        "sockets of container engines, of the kubelet and of the buses",
        "covered",
    ),
    Row::probe(
        "P13",
        "tracing, memory and descriptors of processes outside",
        "PID namespace, and a first process that cannot be traced",
    ),
    Row::probe(
        "P14",
        "credentials on disk: the operator's, the kubelet's, other pods'",
        "covered, or readable by root of the machine only",
    ),
    Row::probe(
        "P15",
        "moving to another cgroup",
        "the cgroup file system is read-only",
    ),
    Row::probe(
        "P16",
        "a cgroup below the own one",
        "the cgroup file system is read-only, and ancestors count",
    ),
    Row::probe(
        "P17",
        "taking hold of the boundary's links to detach them",
        NO_POWER,
    ),
    Row::probe("P18", "an own program that rewrites destinations", NO_POWER),
    Row::probe(
        "P19",
        "bpf() without privileges",
        "kernel.unprivileged_bpf_disabled is not 0",
    ),
    Row::configuration(
        "P20",
        "a privileged process, devices, kernel modules, a kernel exploit",
        NO_POWER,
        "out of scope: whoever is root of the machine, or the kernel, is trusted",
    ),
    Row::configuration(
        "P21",
        "port-forward or exec into the listener's network",
        "no flow entry: closed without an answer",
        "this machine is no node; row N23 dials the listener without a flow entry",
    ),
];
