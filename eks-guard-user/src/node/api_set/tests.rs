//! Memory of hours, and Services that are the API server under another name.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::node::api_set::{ApiSet, Services, Source};
use crate::node::kube::Change;

fn set(addresses: &[&str]) -> BTreeSet<SocketAddr> {
    addresses.iter().map(|text| text.parse().unwrap()).collect()
}

fn after(hours: i64) -> Timestamp {
    let start: Timestamp = "2026-11-25T00:00:00Z".parse().unwrap();
    start + SignedDuration::from_hours(hours)
}

#[test]
fn an_address_counts_for_hours_after_it_was_named() {
    let mut api = ApiSet::default();
    api.observe(
        Source::Endpoint,
        &set(&["10.0.0.1:443", "10.0.0.2:443"]),
        after(0),
    );
    api.observe(Source::Endpoint, &set(&["10.0.0.2:443"]), after(11));
    assert_eq!(api.addresses(), set(&["10.0.0.1:443", "10.0.0.2:443"]));
    api.observe(Source::Endpoint, &set(&["10.0.0.3:443"]), after(13));
    assert_eq!(api.addresses(), set(&["10.0.0.2:443", "10.0.0.3:443"]));
}

#[test]
fn silence_and_other_sources_make_nothing_forgotten() {
    let mut api = ApiSet::default();
    api.observe(Source::Endpoint, &set(&["10.0.0.1:443"]), after(0));
    api.observe(Source::Endpoint, &set(&[]), after(100));
    api.observe(Source::Cluster, &set(&["10.96.0.1:443"]), after(100));
    assert_eq!(api.addresses(), set(&["10.0.0.1:443", "10.96.0.1:443"]));
    // A clock that jumped back.
    api.observe(Source::Cluster, &set(&["10.96.0.2:443"]), after(-50));
    assert_eq!(api.addresses().len(), 3);
}

#[test]
fn it_is_read_again_as_it_was_written() {
    let mut api = ApiSet::default();
    api.observe(Source::Cluster, &set(&["[fd00::1]:443"]), after(0));
    let text = serde_json::to_string(&api).unwrap();
    assert_eq!(serde_json::from_str::<ApiSet>(&text).unwrap(), api);
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
        cluster.api_server(&BTreeSet::new()).addresses,
        set(&["10.96.0.1:443", "[fd96::1]:443", "192.0.2.5:6443"])
    );
}

#[test]
fn aliases_are_followed_and_headless_ones_have_no_address() {
    let mut alias = service("shop", "alias", &["10.96.0.20"], 8443);
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
        "10.96.0.1:443",
        "192.0.2.5:6443",
        "10.96.0.20:8443",
        "203.0.113.9:8443",
        "198.51.100.3:8443",
        "10.96.0.21:443",
    ]);
    assert_eq!(cluster.api_server(&BTreeSet::new()).addresses, expected);
    // An endpoint that only the configuration knows.
    let known = set(&["10.1.0.9:443"]);
    assert!(
        cluster
            .api_server(&known)
            .addresses
            .contains(&"10.96.0.22:80".parse().unwrap())
    );
    let gone = serde_json::from_value(slice("shop", "alias", &[], 1)).unwrap();
    cluster.take_slice(Change::Gone(gone));
    assert!(
        !cluster
            .api_server(&BTreeSet::new())
            .addresses
            .contains(&"10.96.0.20:8443".parse().unwrap())
    );
}

#[test]
fn the_ports_of_nodes_that_lead_to_the_api_server_are_its_own() {
    let mut kubernetes = service("default", "kubernetes", &["10.96.0.1"], 443);
    kubernetes["spec"]["ports"][0]["nodePort"] = json!(30_443);
    let mut alias = service("shop", "alias", &["10.96.0.20"], 8443);
    alias["spec"]["ports"][0]["nodePort"] = json!(30_444);
    let mut shop = service("shop", "shop", &["10.96.0.22"], 80);
    shop["spec"]["ports"][0]["nodePort"] = json!(30_080);
    let cluster = services(
        &[
            kubernetes,
            alias,
            shop,
            service("shop", "exporter", &["10.96.0.23"], 9100),
        ],
        &[
            slice("default", "kubernetes", &["192.0.2.5"], 6443),
            slice("shop", "alias", &["192.0.2.5"], 6443),
            slice("shop", "shop", &["10.1.0.9"], 8080),
            slice("shop", "exporter", &["192.0.2.7"], 9100),
        ],
    );
    let server = cluster.api_server(&BTreeSet::new());
    let nodes = ["192.0.2.7", "2001:db8::7", "127.0.0.1", "::1"]
        .map(|node| node.parse().unwrap())
        .into();
    let expected = [
        "192.0.2.7:30443",
        "192.0.2.7:30444",
        "[2001:db8::7]:30443",
        "[2001:db8::7]:30444",
    ];
    assert_eq!(server.on_nodes(&nodes), set(&expected));
    // A node is no machine of the API server for that.
    assert_eq!(
        server.addresses,
        set(&["10.96.0.1:443", "192.0.2.5:6443", "10.96.0.20:8443"])
    );
}
