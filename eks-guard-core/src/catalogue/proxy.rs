//! Rows that the proxy closes: the Kubernetes API used to get out (K), and the protocol itself (X).

use crate::catalogue::kinds::Row;

const DENIED: &str = "the proxy: compiled-in protection and default deny";

/// The Kubernetes API used to get out.
pub(crate) const KUBERNETES: &[Row] = &[
    Row::configuration(
        "K01",
        "the kubelet's ports",
        "a remote API server's address is refused on every other port",
        "not closed by `run` for a kubelet on this machine; the tree holds no credential for it",
    ),
    Row::elsewhere(
        "K02",
        "proxying to nodes, pods and services",
        DENIED,
        "refusals ways_into_a_pod_and_around_the_guard",
    ),
    Row::elsewhere(
        "K03",
        "exec, attach, port-forward, ephemeral containers",
        DENIED,
        "refusals ways_into_a_pod_and_around_the_guard",
    ),
    Row::elsewhere(
        "K04",
        "workloads that are not guarded",
        DENIED,
        "refusals without_a_rule_nothing_but_discovery",
    ),
    Row::elsewhere(
        "K05",
        "tokens, certificates, impersonation, RBAC",
        DENIED,
        "refusals acting_as_somebody_else",
    ),
    Row::elsewhere(
        "K06",
        "credentials in Secrets",
        DENIED,
        "refusals secrets_in_every_verb",
    ),
    Row::elsewhere(
        "K07",
        "Services and EndpointSlices that lead elsewhere",
        DENIED,
        "refusals without_a_rule_nothing_but_discovery",
    ),
    Row::elsewhere(
        "K08",
        "aggregated APIs and webhooks that redirect",
        DENIED,
        "refusals without_a_rule_nothing_but_discovery",
    ),
    Row::elsewhere(
        "K09",
        "the guard's own objects",
        DENIED,
        "unit policy::tests::protections",
    ),
    Row::configuration(
        "K10",
        "other API servers and deputies",
        "no credential in the tree",
        "not closed by `run`: it has no allow-list for other destinations",
    ),
    Row::elsewhere(
        "K11",
        "node objects edited to mislead proxying",
        DENIED,
        "refusals without_a_rule_nothing_but_discovery",
    ),
];

/// The protocol between the agent and the proxy.
pub(crate) const PROTOCOL: &[Row] = &[
    Row::elsewhere(
        "X01",
        "requests read in two ways, and upgrades",
        "strict grammar; requests are rebuilt",
        "hostile heads_that_can_be_read_in_two_ways",
    ),
    Row::elsewhere(
        "X02",
        "names that disagree: SNI, Host, :authority",
        "one upstream, whatever is named",
        "hostile the_authority_is_the_clusters_or_nobodys",
    ),
    Row::elsewhere(
        "X03",
        "connections shared between callers",
        "identity per accepted connection",
        "hostile an_answer_does_not_depend_on_the_connection_it_came_on",
    ),
    Row::elsewhere(
        "X04",
        "paths written in other ways",
        "one strict parser",
        "hostile every_golden_vector_is_refused_or_read_as_the_api_server_reads_it",
    ),
    Row::elsewhere(
        "X05",
        "impersonation headers",
        "dropped; the guard's own are set",
        "hostile headers_that_would_make_the_guard_somebody_else_stay_behind",
    ),
    Row::elsewhere(
        "X06",
        "streams that outlive their permission",
        "they end with the guard",
        "refusals a_guard_killed_while_a_watch_is_open_leaves_no_way_to_the_api_server",
    ),
    Row::elsewhere(
        "X07",
        "early data and renegotiation",
        "neither is offered",
        "hostile what_is_not_tls_with_a_known_protocol_is_recorded_and_closed",
    ),
    Row::elsewhere(
        "X08",
        "making the proxy fail",
        "without a listener connections are refused",
        "netns without_a_listener_the_connection_is_refused",
    ),
];
