//! Memory of hours, and Services that are the API server under another name.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::node::api_set::{ApiSet, Services, Source};
use crate::node::kube::Change;

fn set(addresses: &[&str]) -> BTreeSet<SocketAddr> {
    addresses.iter().map(|text| text.parse().unwrap()).collect()
}

fn after(start: Instant, hours: u64) -> Instant {
    start + Duration::from_secs(hours * 60 * 60)
}

#[test]
fn an_address_counts_for_hours_after_it_was_named() {
    let (mut api, start) = (ApiSet::default(), Instant::now());
    api.observe(Source::Endpoint, &set(&["10.0.0.1:443", "10.0.0.2:443"]), start);
    api.observe(Source::Endpoint, &set(&["10.0.0.2:443"]), after(start, 11));
    assert_eq!(api.addresses(), set(&["10.0.0.1:443", "10.0.0.2:443"]));
    api.observe(Source::Endpoint, &set(&["10.0.0.3:443"]), after(start, 13));
    assert_eq!(api.addresses(), set(&["10.0.0.2:443", "10.0.0.3:443"]));
}

#[test]
fn silence_and_other_sources_make_nothing_forgotten() {
    let (mut api, start) = (ApiSet::default(), Instant::now());
    api.observe(Source::Endpoint, &set(&["10.0.0.1:443"]), start);
    api.observe(Source::Endpoint, &set(&[]), after(start, 100));
    api.observe(Source::Cluster, &set(&["10.96.0.1:443"]), after(start, 100));
    assert_eq!(api.addresses(), set(&["10.0.0.1:443", "10.96.0.1:443"]));
}

#[test]
fn what_was_written_counts_for_hours_more_whatever_the_time_was() {
    let (mut api, start) = (ApiSet::default(), Instant::now());
    api.observe(Source::Cluster, &set(&["[fd00::1]:443"]), start);
    let text = serde_json::to_string(&api).unwrap();
    assert!(!text.contains("last"), "{text}");
    // As an older version wrote it, by a clock that was years away.
    for year in [1970, 2026, 2199] {
        let written = json!({"seen": [
            {"source": "cluster", "address": "[fd00::1]:443", "last": format!("{year}-01-01T00:00:00Z")},
        ]});
        let mut api: ApiSet = serde_json::from_value(written).unwrap();
        assert_eq!(api.addresses(), set(&["[fd00::1]:443"]));
        api.observe(Source::Cluster, &set(&["[fd00::2]:443"]), start);
        api.observe(Source::Cluster, &set(&["[fd00::2]:443"]), after(start, 12));
        assert_eq!(api.addresses(), set(&["[fd00::1]:443", "[fd00::2]:443"]));
        api.observe(Source::Cluster, &set(&["[fd00::2]:443"]), after(start, 13));
        assert_eq!(api.addresses(), set(&["[fd00::2]:443"]));
    }
}

#[test]
fn what_the_kernel_held_closed_counts_for_hours_more() {
    let (mut api, start) = (ApiSet::default(), Instant::now());
    api.observe(Source::Endpoint, &set(&["10.0.0.1:443"]), start);
    let held = set(&["10.0.0.1:443", "10.96.0.1:443"]);
    api.recall(&held);
    assert_eq!(api.addresses(), held);
    api.observe(Source::Aliases, &set(&["10.96.0.2:443"]), start);
    api.observe(Source::Aliases, &set(&["10.96.0.2:443"]), after(start, 12));
    assert_eq!(api.addresses().len(), 3);
    api.observe(Source::Aliases, &set(&["10.96.0.2:443"]), after(start, 13));
    assert_eq!(api.addresses(), set(&["10.0.0.1:443", "10.96.0.2:443"]));
}

fn service(namespace: &str, name: &str, ips: &[&str], port: u16) -> serde_json::Value {
    json!({"metadata": {"namespace": namespace, "name": name},
        "spec": {"clusterIPs": ips, "ports": [{"port": port}]}})
}

fn slice(namespace: &str, service: &str, addresses: &[&str], port: u16) -> serde_json::Value {
    json!({"metadata": {"namespace": namespace, "name": format!("{service}-1"),
        "labels": {"kubernetes.io/service-name": service}},
        "endpoints": [{"addresses": addresses}], "ports": [{"port": port}]})
}

fn services(services: &[serde_json::Value], slices: &[serde_json::Value]) -> Services {
    let mut cluster = Services::default();
    assert!(!cluster.are_listed());
    let read = |object: &serde_json::Value| serde_json::from_value(object.clone()).unwrap();
    cluster.take_service(Change::Listed(services.iter().map(read).collect()));
    let read = |object: &serde_json::Value| serde_json::from_value(object.clone()).unwrap();
    cluster.take_slice(Change::Listed(slices.iter().map(read).collect()));
    assert!(cluster.are_listed());
    cluster
}

#[test]
fn the_kubernetes_service_and_its_endpoints_are_the_api_server() {
    let cluster = services(
        &[
            service("default", "kubernetes", &["10.96.0.1", "fd96::1"], 443),
            service("shop", "kubernetes", &["10.96.0.7"], 443),
        ],
        &[
            slice("default", "kubernetes", &["192.0.2.5"], 6443),
            slice("shop", "kubernetes", &["10.1.0.7"], 8443),
        ],
    );
    assert_eq!(
        cluster.api_addresses(&BTreeSet::new()).own,
        set(&["10.96.0.1:443", "[fd96::1]:443", "192.0.2.5:6443"])
    );
}

#[test]
fn aliases_are_followed_and_headless_ones_have_no_address() {
    let mut alias = service("shop", "alias", &["10.96.0.20"], 8443);
    alias["spec"]["ports"] = json!([{"port": 8443, "nodePort": 30443}, {"port": 8443, "nodePort": 0}]);
    alias["spec"]["externalIPs"] = json!(["203.0.113.9"]);
    alias["status"] = json!({"loadBalancer": {"ingress": [{"ip": "198.51.100.3"}, {"hostname": "lb"}]}});
    let mut cluster = services(
        &[
            service("default", "kubernetes", &["10.96.0.1"], 443),
            alias,
            service("shop", "second", &["10.96.0.21"], 443),
            service("shop", "headless", &["None"], 443),
            service("shop", "shop", &["10.96.0.22"], 80),
        ],
        &[
            slice("default", "kubernetes", &["192.0.2.5"], 6443),
            slice("shop", "alias", &["::ffff:192.0.2.5"], 6443),
            slice("shop", "second", &["10.96.0.20"], 8443),
            slice("shop", "headless", &["192.0.2.5"], 6443),
            slice("shop", "shop", &["10.1.0.9"], 8080),
        ],
    );
    let expected = set(&[
        "10.96.0.20:8443",
        "203.0.113.9:8443",
        "198.51.100.3:8443",
        "10.96.0.21:443",
    ]);
    let named = cluster.api_addresses(&BTreeSet::new());
    assert_eq!(named.own, set(&["10.96.0.1:443", "192.0.2.5:6443"]));
    assert_eq!((named.aliases, named.node_ports), (expected, [30_443].into()));
    // An endpoint that only the configuration knows.
    let known = set(&["10.1.0.9:443"]);
    assert!(
        cluster
            .api_addresses(&known)
            .aliases
            .contains(&"10.96.0.22:80".parse().unwrap())
    );
    let gone = serde_json::from_value(slice("shop", "alias", &[], 1)).unwrap();
    cluster.take_slice(Change::Gone(gone));
    let named = cluster.api_addresses(&BTreeSet::new());
    assert!(
        named.aliases.is_empty() && named.node_ports.is_empty(),
        "{named:?}"
    );
}

#[test]
fn aliases_without_end_leave_room_for_the_api_server_itself() {
    let (mut api, start) = (ApiSet::default(), Instant::now());
    let many = |from: u32| -> BTreeSet<SocketAddr> {
        let ips = (from..from + 600).map(Ipv4Addr::from_bits);
        ips.map(|ip| SocketAddr::from((ip, 443))).collect()
    };
    api.observe(Source::Cluster, &set(&["10.96.0.1:443"]), after(start, 0));
    api.observe(Source::Aliases, &many(1 << 24), after(start, 0));
    assert!(!api.is_crowded());
    api.observe(Source::Aliases, &many(2 << 24), after(start, 1));
    assert!(api.is_crowded());
    assert_eq!(api.addresses().len(), 1025);
    assert!(
        api.addresses().is_superset(&many(2 << 24)),
        "those that are there now"
    );
    assert_eq!(api.own(), set(&["10.96.0.1:443"]));
    // No alias any more: those of before count for hours.
    api.observe(Source::Aliases, &BTreeSet::new(), after(start, 2));
    assert!(api.is_crowded());
    api.observe(Source::Aliases, &BTreeSet::new(), after(start, 14));
    assert_eq!(api.addresses(), set(&["10.96.0.1:443"]));
}

#[test]
fn node_ports_of_the_kubernetes_service_are_named_on_this_node_alone() {
    let mut kubernetes = service("default", "kubernetes", &["10.96.0.1"], 443);
    kubernetes["spec"]["ports"][0]["nodePort"] = json!(30_443);
    let mut alias = service("shop", "alias", &["10.96.0.20"], 8443);
    alias["spec"]["ports"][0]["nodePort"] = json!(30_444);
    let cluster = services(
        &[kubernetes, alias],
        &[
            slice("default", "kubernetes", &["192.0.2.5"], 6443),
            slice("shop", "alias", &["192.0.2.5"], 6443),
        ],
    );
    let named = cluster.api_addresses(&BTreeSet::new());
    assert_eq!(named.node_ports, [30_443, 30_444].into());
    let node = ["192.0.2.7", "2001:db8::7", "127.0.0.1", "::1", "::ffff:127.0.0.1"];
    let node = node.map(|address| address.parse().unwrap()).into();
    let expected = set(&["192.0.2.7:30443", "[2001:db8::7]:30443"]);
    assert_eq!(named.on_node(&node), expected);
}
