//! From every kind of pod everybody is reached, and says and counts so.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use rig::node::{
    API, API_PORT, API_SERVICE, Arrivals, Families, Fixture, Layout, NODE, NodeRig, OUTSIDE, Pod, PodNetwork,
    PodSpec, Profile, Qos, shared,
};
use serde_json::{Value, json};

use crate::ask::{datagram, http, shell, version};

#[test]
fn every_kind_of_pod_reaches_the_api_server_and_every_fixture() -> Result<()> {
    let rig = shared()?;
    rig.cluster().create_namespace("kinds")?;
    let networks = [
        PodNetwork::Own(Families::V4),
        PodNetwork::Own(Families::V6),
        PodNetwork::Own(Families::Dual),
        PodNetwork::Host,
    ];
    let mut specs = Vec::new();
    for layout in Layout::ALL {
        for qos in Qos::ALL {
            for network in networks {
                let name = format!("pod-{}", specs.len());
                let spec = PodSpec::new(rig, "kinds", &name);
                specs.push(PodSpec {
                    layout,
                    qos,
                    network,
                    ..spec
                });
            }
        }
    }
    for pod in rig.run_pods(&specs)? {
        reaches_everybody(rig, &pod).with_context(|| format!("{:?}", pod.spec()))?;
    }
    Ok(())
}

fn reaches_everybody(rig: &NodeRig, pod: &Pod<'_>) -> Result<()> {
    let families = pod.families();
    let fixtures = rig.fixtures().answering();
    let count_all = || -> Result<Vec<Arrivals>> {
        let all = fixtures.into_iter().chain([&rig.fixtures().api]);
        all.map(|fixture| fixture.arrivals_from(&pod.senders())).collect()
    };
    let mut api = API.sockets(families, API_PORT);
    api.extend(API_SERVICE.sockets(families, API_PORT));
    let mut urls: Vec<String> = api.iter().map(|&socket| version(socket)).collect();
    let asked: Vec<Vec<String>> = fixtures
        .iter()
        .map(|fixture| urls_of(fixture, families))
        .collect();
    urls.extend(asked.iter().flatten().cloned());

    let before = count_all()?;
    let answers = http(pod, &urls)?;
    let after = count_all()?;

    let versions = answers.iter().filter(|line| line.contains("gitVersion")).count();
    ensure!(versions == api.len(), "{api:?}: {answers:?}");
    for (number, fixture) in fixtures.iter().enumerate() {
        let said = answers.iter().filter(|line| **line == fixture.line()).count();
        let (urls, since) = (&asked[number], after[number] - before[number]);
        ensure!(said == urls.len() && !urls.is_empty(), "{urls:?}: {answers:?}");
        // A connection that is answered takes at least SYN, ACK and the request.
        ensure!(
            since.connections >= said as u64 && since.packets >= 3 * said as u64,
            "{urls:?}: {since:?}"
        );
    }
    let since = after[fixtures.len()] - before[fixtures.len()];
    ensure!(since.packets >= 3 * api.len() as u64, "{api:?}: {since:?}");
    Ok(())
}

fn urls_of(fixture: &Fixture, families: Families) -> Vec<String> {
    let scheme = if fixture.name() == "other-cluster" {
        "https"
    } else {
        "http"
    };
    let there = |address: IpAddr| match address {
        IpAddr::V4(_) => families.v4(),
        IpAddr::V6(_) => families.v6(),
    };
    let sockets = fixture.sockets().iter().filter(|socket| there(socket.ip()));
    sockets.map(|socket| format!("{scheme}://{socket}/")).collect()
}

#[test]
fn a_datagram_is_answered_and_counted_and_so_is_one_that_nobody_reads() -> Result<()> {
    let rig = shared()?;
    rig.cluster().create_namespace("datagrams")?;
    let pod = rig.run_pod(&PodSpec::new(rig, "datagrams", "sender"))?;
    let fixtures = rig.fixtures();
    for fixture in [
        &fixtures.imds,
        &fixtures.pod_identity,
        &fixtures.kubelet,
        &fixtures.outside,
    ] {
        for &socket in fixture.sockets() {
            let before = fixture.arrivals()?;
            let line = datagram(&pod, socket).with_context(|| socket.to_string())?;
            ensure!(line == fixture.line(), "{socket}: {line}");
            ensure!((fixture.arrivals()? - before).datagrams >= 1, "{socket}");
        }
    }
    for socket in OUTSIDE.sockets(Families::Dual, 9) {
        let before = fixtures.outside.arrivals_from(&pod.senders())?;
        let script = format!("echo lost > /dev/udp/{}/{}", socket.ip(), socket.port());
        shell(&pod, Profile::Restricted, &script)?.ok()?;
        let after = fixtures.outside.arrivals_from(&pod.senders())?;
        ensure!(
            after.packets == before.packets + 1,
            "{socket}: {before:?} {after:?}"
        );
    }
    Ok(())
}

#[test]
fn nothing_arrives_where_nobody_sends() -> Result<()> {
    let rig = shared()?;
    rig.cluster().create_namespace("silence")?;
    let pod = rig.run_pod(&PodSpec::new(rig, "silence", "silent"))?;
    let fixtures = rig.fixtures();
    // Nothing is behind this address, so it is the router that answers, and no fixture hears of it.
    let to = "http://203.0.113.99/";
    let failed = http(&pod, &[to.to_owned()]);
    ensure!(failed.is_err(), "{to}: {failed:?}");
    for fixture in fixtures.answering().into_iter().chain([&fixtures.api]) {
        let packets = fixture.arrivals_from(&pod.senders())?.packets;
        ensure!(packets == 0, "{}: {packets} packets", fixture.name());
    }
    Ok(())
}

#[test]
fn names_are_resolved_by_the_service_of_the_cluster() -> Result<()> {
    let rig = shared()?;
    rig.cluster().create_namespace("names")?;
    for families in [Families::V4, Families::V6] {
        let name = format!("asker-{}", if families.v4() { 4 } else { 6 });
        let spec = PodSpec::new(rig, "names", &name);
        let pod = rig.run_pod(&PodSpec {
            network: PodNetwork::Own(families),
            ..spec
        })?;
        let before = rig.fixtures().dns.arrivals()?;
        for (name, expected) in [("outside.test", OUTSIDE), ("kubernetes.default.svc", API_SERVICE)] {
            let database = if families.v4() { "ahostsv4" } else { "ahostsv6" };
            let found = shell(&pod, Profile::Restricted, &format!("getent {database} {name}"))?.ok()?;
            let [expected] = expected.of(families)[..] else {
                unreachable!("one family");
            };
            ensure!(found.starts_with(&format!("{expected} ")), "{name}: {found}");
        }
        ensure!((rig.fixtures().dns.arrivals()? - before).datagrams > 0);
    }
    Ok(())
}

#[test]
fn the_cluster_names_every_address_of_its_api_server() -> Result<()> {
    let rig = shared()?;
    let admin = rig.cluster().admin();
    let service = admin.get("/api/v1/namespaces/default/services/kubernetes")?;
    ensure!(
        service["spec"]["clusterIPs"] == json!(API_SERVICE.of(rig.families())),
        "{service}"
    );
    let slices = admin.get("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices")?;
    let addresses: Vec<&Value> = slices["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|slice| slice["metadata"]["labels"]["kubernetes.io/service-name"] == "kubernetes")
        .map(|slice| &slice["endpoints"][0]["addresses"][0])
        .collect();
    for address in API.of(rig.families()) {
        ensure!(addresses.contains(&&json!(address)), "{address}: {slices}");
    }
    Ok(())
}

#[test]
fn kubectl_in_a_pod_works_as_in_a_cluster() -> Result<()> {
    let rig = shared()?;
    in_cluster(rig, "in-cluster")
}

/// kubectl finds API server, CA and token by itself, and is the pod to the API server.
fn in_cluster(rig: &NodeRig, namespace: &str) -> Result<()> {
    rig.cluster().create_namespace(namespace)?;
    rig.cluster()
        .create_service_account(namespace, "viewer", "view")?;
    for network in [PodNetwork::Own(rig.families()), PodNetwork::Host] {
        let name = match network {
            PodNetwork::Own(_) => "own",
            PodNetwork::Host => "host",
        };
        let pod = rig.run_pod(&PodSpec {
            service_account: "viewer".to_owned(),
            labels: [("network".to_owned(), name.to_owned())].into(),
            network,
            ..PodSpec::new(rig, namespace, name)
        })?;
        let label = format!("network={name}");
        let get = ["get", "pods", "-l", &label, "-o", "name"];
        let pods = pod.kubectl(&get)?.ok()?;
        ensure!(pods == format!("pod/{name}\n"), "{pods}");
        let me = pod.kubectl(&["auth", "whoami", "-o", "json"])?.ok()?;
        let user = format!("system:serviceaccount:{namespace}:viewer");
        ensure!(me.contains(&user) && me.contains(pod.uid()), "{me}");
        pod.kubectl(&["delete", "pod", name])?
            .expect_failure("forbidden")?;
    }
    Ok(())
}

#[test]
fn a_relay_reaches_the_api_server_for_others() -> Result<()> {
    let rig = shared()?;
    rig.cluster().create_namespace("relays")?;
    let relay = rig.run_relay(&PodSpec::new(rig, "relays", "relay"))?;
    let caller = rig.run_pod(&PodSpec::new(rig, "relays", "caller"))?;
    for (number, &socket) in relay.sockets().iter().enumerate() {
        let answers = http(&caller, &[version(socket)])?;
        ensure!(
            answers.iter().any(|line| line.contains("gitVersion")),
            "{answers:?}"
        );
        ensure!(relay.connections()? == number + 1);
    }
    let api = &rig.fixtures().api;
    ensure!(
        api.arrivals_from(&caller.addresses())?.packets == 0,
        "all went by the relay"
    );
    ensure!(api.arrivals_from(&relay.pod().addresses())?.packets > 0);
    Ok(())
}

#[test]
fn rigs_of_one_family_work_as_the_dual_stack_one() -> Result<()> {
    for families in [Families::V6, Families::V4] {
        let rig = NodeRig::start(families)?;
        println!(
            "{families:?}: ready after {:.1} s",
            rig.started_in().as_secs_f32()
        );
        let pod = rig.run_pod(&PodSpec::new(&rig, "default", "only"))?;
        ensure!(pod.families() == families && NODE.of(families).len() == 1);
        reaches_everybody(&rig, &pod).with_context(|| format!("{families:?}"))?;
        in_cluster(&rig, "one-family").with_context(|| format!("{families:?}"))?;
    }
    Ok(())
}
