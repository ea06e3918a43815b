//! What the loader needs, what it refuses to guard, what it removes, and what it says of refusals.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use eks_guard::ebpf::{CgroupError, Datapath, LoadRequest, RunCgroup, remove_leftovers};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
use tokio_util::sync::CancellationToken;

use crate::probe::Probe;
use crate::world::{API_PORT, Ports, Side, World, chain, enter_new_network, run_id};

#[test]
fn a_cgroup_whose_guard_lives_stays_although_its_state_is_not_seen() {
    let id = run_id();
    let cgroup = RunCgroup::create(&id).unwrap();
    assert_eq!(remove_leftovers(|name| name != id), 0);
    assert!(cgroup.path().exists());
}

#[test]
fn without_privileges_nothing_is_loaded_and_the_message_says_what_to_do() {
    let line = Probe::start(None, &format!("unprivileged-load {}", run_id())).finish();
    assert!(
        line.starts_with("the kernel refuses the eBPF object: run as root (CAP_BPF, CAP_NET_ADMIN)"),
        "{line}"
    );
}

/// The probe of the test above.
pub(crate) fn unprivileged_load(run_id: &str) -> String {
    let cgroup = RunCgroup::create(run_id).unwrap();
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::all(),
        inheritable: CapabilitySet::empty(),
    };
    let before = capabilities(None).unwrap();
    set_capabilities(
        None,
        CapabilitySets {
            permitted: before.permitted,
            ..none
        },
    )
    .unwrap();
    let api = [SocketAddr::from((Ipv4Addr::LOCALHOST, API_PORT))];
    let loaded = Datapath::load(&LoadRequest {
        cgroup: &cgroup,
        api: &api,
        listener_port: 1,
    });
    set_capabilities(None, before).unwrap();
    loaded
        .err()
        .map_or_else(|| "loaded".to_owned(), |error| chain(&error))
}

#[test]
fn what_cannot_be_guarded_is_refused_before_anything_is_attached() {
    enter_new_network();
    let cgroup = RunCgroup::create(&run_id()).unwrap();
    let load = |api: &[&str]| {
        let api: Vec<SocketAddr> = api.iter().map(|text| text.parse().unwrap()).collect();
        let loaded = Datapath::load(&LoadRequest {
            cgroup: &cgroup,
            api: &api,
            listener_port: 1,
        });
        loaded
            .err()
            .map_or_else(|| "loaded".to_owned(), |error| chain(&error))
    };
    assert_eq!(load(&[]), "the API server has no address to guard");
    assert!(
        load(&["10.0.0.1:443", "10.0.0.1:6443"])
            .starts_with("the API server is named on two ports of 10.0.0.1")
    );
    let twice = RunCgroup::create(cgroup.path().file_name().unwrap().to_str().unwrap()).unwrap_err();
    assert!(chain(&twice).starts_with("cannot create the cgroup"), "{twice}");
    assert!(matches!(
        RunCgroup::create("../escape"),
        Err(CgroupError::BadRunId(_))
    ));
}

#[test]
fn removing_a_cgroup_kills_what_runs_in_it() {
    let world = World::local();
    let other = Ports::bind(7000);
    let path = world.cgroup.path().to_owned();
    let mut inside = world.probe(Side::Inside, "hold 127.0.0.1:7000");
    let mut nested = world.probe(Side::Nested, "hold 127.0.0.1:7000");
    assert_eq!(
        (inside.line(), nested.line()),
        ("connected".to_owned(), "connected".to_owned())
    );
    let World { cgroup, .. } = world;
    cgroup.remove().unwrap();
    assert!(!path.exists());
    drop(other);
}

#[test]
fn refusals_are_logged_and_a_flood_of_them_is_not() {
    let mut world = World::remote(&["192.0.2.1:443"]);
    assert_eq!(
        world.probe(Side::Inside, "udp-flood 192.0.2.1:443").finish(),
        "refused 200"
    );
    assert_eq!(world.datapath.stats().refused(), 200);
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(lines.clone())
        .with_ansi(false)
        .finish();
    let stop = CancellationToken::new();
    stop.cancel();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    tracing::subscriber::with_default(subscriber, || {
        let log = world.datapath.kernel_log().unwrap();
        runtime.block_on(log.forward(stop)).unwrap();
    });
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("refused 192.0.2.1:443 to process"), "{text}");
    assert!(text.lines().count() < 100, "{text}");
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl tracing_subscriber::fmt::MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
