//! Memory of hours, and Services that are the API server under another name.

use std::collections::BTreeSet;
use std::net::SocketAddr;
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
    api.observe(Source::Cluster, &set(&["10.96.0.2:443"]), start);
    api.observe(Source::Cluster, &set(&["10.96.0.2:443"]), after(start, 12));
    assert_eq!(api.addresses().len(), 3);
    api.observe(Source::Cluster, &set(&["10.96.0.2:443"]), after(start, 13));
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
        cluster.api_addresses(&BTreeSet::new()),
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
    assert_eq!(cluster.api_addresses(&BTreeSet::new()), expected);
    // An endpoint that only the configuration knows.
    let known = set(&["10.1.0.9:443"]);
    assert!(
        cluster
            .api_addresses(&known)
            .contains(&"10.96.0.22:80".parse().unwrap())
    );
    let gone = serde_json::from_value(slice("shop", "alias", &[], 1)).unwrap();
    cluster.take_slice(Change::Gone(gone));
    assert!(
        !cluster
            .api_addresses(&BTreeSet::new())
            .contains(&"10.96.0.20:8443".parse().unwrap())
    );
}
