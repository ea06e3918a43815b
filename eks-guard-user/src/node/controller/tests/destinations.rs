//! What the kernel is told to close, and for how long.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::node::api_set::Source;
use crate::node::config::EgressMode;
use crate::node::controller::tests::{AGENT, Rig, config, pod};
use crate::node::kernel::Standing;
use crate::node::kube::Change;
use crate::node::status::Status;

#[tokio::test]
async fn destinations_are_told_once_and_never_shrink_to_nothing() {
    let mut rig = Rig::start().await;
    let set = |text: &str| -> BTreeSet<SocketAddr> { [text.parse().unwrap()].into() };
    rig.controller
        .take_endpoint(&set("198.51.100.1:443"), Instant::now());
    rig.reconcile();
    rig.reconcile();
    let service = json!({"metadata": {"namespace": "default", "name": "kubernetes"},
        "spec": {"clusterIPs": ["10.96.0.1"], "ports": [{"port": 443}]}});
    let service = serde_json::from_value(service).unwrap();
    rig.controller.take_service(Change::Listed(vec![service]));
    rig.controller.take_slice(Change::Listed(Vec::new()));
    let status = rig.reconcile();
    // The API server says that there is nothing: what was known stays.
    rig.controller.take_service(Change::Listed(Vec::new()));
    rig.controller.take_endpoint(&BTreeSet::new(), Instant::now());
    assert_eq!(rig.reconcile().api, status.api);
    let told = rig.told.lock().unwrap();
    let sets: Vec<usize> = told.destinations.iter().map(|told| told.api.len()).collect();
    assert_eq!(sets, [2, 3]);
}

#[tokio::test]
async fn services_without_end_in_front_of_the_api_server_are_said() {
    let mut rig = Rig::start().await;
    let many = (1 << 24..(1 << 24) + 2000).map(Ipv4Addr::from_bits);
    let many = many.map(|ip| SocketAddr::from((ip, 443))).collect();
    let known = &mut rig.controller.parts.known.api;
    known.observe(Source::Aliases, &many, Instant::now());
    let status = rig.reconcile();
    assert!(status.problems[0].contains("too many Services"), "{status:?}");
}

#[tokio::test]
async fn node_ports_of_the_api_servers_service_are_closed_on_this_node() {
    let mut rig = Rig::start().await;
    let service = json!({"metadata": {"namespace": "default", "name": "kubernetes"},
        "spec": {"clusterIPs": ["10.96.0.1"], "ports": [{"port": 443, "nodePort": 30_443}]}});
    let service = serde_json::from_value(service).unwrap();
    rig.controller.take_service(Change::Listed(vec![service]));
    rig.controller
        .take_own_addresses(["203.0.113.7".parse().unwrap()].into());
    rig.reconcile();
    let told = rig.told.lock().unwrap().destinations[0].api.clone();
    assert!(told.contains(&"203.0.113.7:30443".parse().unwrap()), "{told:?}");
}

/// No decision asks the clock that can be set: what it was when a state was written does not matter.
#[tokio::test]
async fn a_clock_that_jumps_takes_no_api_server_out() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    fs::create_dir(&state).unwrap();
    let seen = |year, address| json!({"source": "endpoint", "address": address, "last": format!("{year}-01-01T00:00:00Z")});
    let (past, future) = ("198.51.100.1:443", "198.51.100.2:443");
    let known = json!({"api": {"seen": [seen(1970, past), seen(2199, future)]}, "pods": {}});
    fs::write(state.join("known.json"), known.to_string()).unwrap();
    let mut rig = Rig::on(folder, Arc::default()).await;
    let has = |status: &Status, text: &str| status.api.contains(&text.parse().unwrap());
    let (now, hours) = (Instant::now(), |count: u64| Duration::from_secs(count * 60 * 60));
    for later in [0, 6, 12] {
        let now = now + hours(later);
        rig.controller
            .take_endpoint(&["198.51.100.3:443".parse().unwrap()].into(), now);
        let status = rig.reconcile_at(now);
        assert!(has(&status, past) && has(&status, future), "{status:?}");
    }
    rig.controller
        .take_endpoint(&["198.51.100.3:443".parse().unwrap()].into(), now + hours(13));
    let status = rig.reconcile_at(now + hours(13));
    assert!(!has(&status, past) && !has(&status, future), "{status:?}");
}

/// A map that is full keeps some of them out: no agent may go where nothing names until all are in.
#[tokio::test]
async fn destinations_that_find_no_room_hold_every_agent_to_its_list() {
    let mut rig = Rig::start().await;
    let agent = rig.cgroup(AGENT, false);
    rig.controller.take_pod(Change::Set(pod(AGENT, Some("shop"))));
    rig.controller.configure(config("  egress: {mode: blockList}\n"));
    rig.reconcile();
    let mode = |rig: &Rig| match rig.standing(agent) {
        Some(Standing::Agent { mode, .. }) => mode,
        other => panic!("{other:?}"),
    };
    assert_eq!(mode(&rig), EgressMode::BlockList);
    let endpoint = |text: &str| -> BTreeSet<SocketAddr> { [text.parse().unwrap()].into() };
    rig.told.lock().unwrap().has_no_room = true;
    rig.controller
        .take_endpoint(&endpoint("198.51.100.1:443"), Instant::now());
    let status = rig.reconcile();
    assert_eq!((mode(&rig), status.problems.len()), (EgressMode::AllowList, 1));
    rig.told.lock().unwrap().has_no_room = false;
    let status = rig.reconcile();
    assert_eq!((mode(&rig), status.problems), (EgressMode::BlockList, Vec::new()));

    // What was too much is taken back: all that is left is closed already, and is told again.
    rig.told.lock().unwrap().has_no_room = true;
    let clusters = "  egress: {mode: blockList}\n  otherClusters: [10.9.0.0/16]\n";
    rig.controller.configure(config(clusters));
    rig.reconcile();
    assert_eq!(mode(&rig), EgressMode::AllowList);
    rig.told.lock().unwrap().has_no_room = false;
    rig.controller.configure(config("  egress: {mode: blockList}\n"));
    rig.reconcile();
    assert_eq!(mode(&rig), EgressMode::BlockList);
}
