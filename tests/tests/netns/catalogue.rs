//! The probes probe: what each layer holds is reached once the layer is left out, and only then.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::Child;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use eks_guard::ebpf::{Datapath, FlowTable, Limits, LoadRequest, RunCgroup, keep_syns};
use eks_guard_core::catalogue::Boundary;
use eks_guard_core::catalogue::probe::{Answer, Place, Plan};
use eks_guard_core::catalogue::report::ProfileReport;
use rig::pki::Authority;
use rustls::{ServerConfig, ServerConnection};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::probe::program;
use crate::world::{API_PORT, chain, enter_new_network, run_id, take};

pub(crate) const GUARD: &str = "guard of the test";
const CONNECT: [&str; 2] = ["connect4", "connect6"];
/// How long somebody connected may say nothing: a socket that is handed on waits until its row is tried.
const IDLE: Duration = Duration::from_secs(3600);
const SEND: [&str; 2] = ["sendmsg4", "sendmsg6"];
/// Whatever was asked for.
const REPLY: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";

/// Serves TLS with a certificate of `authority` to whom `admits` says, and closes to the others; until dropped.
pub(crate) struct Server {
    /// Certificate of its authority, PEM.
    pub(crate) ca: String,
    listeners: Vec<TcpListener>,
    threads: Vec<JoinHandle<()>>,
}

pub(crate) type Admits = Arc<dyn Fn(&TcpStream, SocketAddr) -> bool + Send + Sync>;

impl Server {
    pub(crate) fn start(listeners: Vec<TcpListener>, authority: &str, admits: &Admits) -> Self {
        let authority = Authority::generate(authority).unwrap();
        let config = Arc::new(tls(&authority));
        let serve = |listener: &TcpListener| {
            let (listener, config, admits) = (
                listener.try_clone().unwrap(),
                Arc::clone(&config),
                Arc::clone(admits),
            );
            // The listener is shut down at the end, which ends the loop.
            thread::spawn(move || {
                while let Ok((stream, peer)) = listener.accept() {
                    if admits(&stream, peer) {
                        let config = Arc::clone(&config);
                        thread::spawn(move || answer(stream, config));
                    }
                }
            })
        };
        let threads = listeners.iter().map(serve).collect();
        Self {
            ca: authority.pem(),
            listeners,
            threads,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for listener in &self.listeners {
            rustix::net::shutdown(listener.as_fd(), rustix::net::Shutdown::Both).ok();
        }
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
    }
}

/// A handshake, of which the probe wants no more than the first flight, and a reply to each request of a guard.
fn answer(mut stream: TcpStream, config: Arc<ServerConfig>) {
    stream.set_read_timeout(Some(IDLE)).unwrap();
    let mut connection = ServerConnection::new(config).unwrap();
    let mut request = [0; 4096];
    while connection
        .complete_io(&mut stream)
        .is_ok_and(|moved| moved != (0, 0))
    {
        if connection.reader().read(&mut request).is_ok_and(|read| read > 0) {
            connection.writer().write_all(REPLY).unwrap();
        }
    }
    // The probe may have closed first.
    stream.shutdown(Shutdown::Both).ok();
}

fn tls(authority: &Authority) -> ServerConfig {
    let leaf = authority.serving(&[], &[Ipv4Addr::LOCALHOST.into()]).unwrap();
    let certificate = CertificateDer::from_pem_slice(leaf.certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap()
}

fn loopback(port: u16) -> Vec<TcpListener> {
    let v4 = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    let port = v4.local_addr().unwrap().port();
    let v6 = TcpListener::bind((Ipv6Addr::LOCALHOST, port)).unwrap();
    keep_syns(&v4).unwrap();
    keep_syns(&v6).unwrap();
    vec![v4, v6]
}

/// Where the attempts are made.
struct Ground {
    cgroup: RunCgroup,
    plan: Plan,
    _api: Server,
    _witness: TcpListener,
}

impl Ground {
    fn new() -> Self {
        enter_new_network();
        let everybody: Admits = Arc::new(|_, _| true);
        let api = Server::start(loopback(API_PORT), "authority of the API server", &everybody);
        let witness = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let plan = Plan {
            boundary: Boundary::Run,
            only: Vec::new(),
            aliases: Vec::new(),
            relays: Vec::new(),
            kubelets: Vec::new(),
            other_clusters: Vec::new(),
            api: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, API_PORT))],
            place: Place::ThisHost,
            guard: GUARD.to_owned(),
            witness: witness.local_addr().ok(),
            abstract_socket: None,
            unconnected_fd: None,
            connected_fd: None,
            older: true,
            credentials: Vec::new(),
            cgroup2: None,
            patience_ms: 5_000,
        };
        Self {
            cgroup: RunCgroup::create(&run_id()).unwrap(),
            plan,
            _api: api,
            _witness: witness,
        }
    }

    /// The guard, without these programs.
    fn guard(&self, left_out: &'static [&'static str]) -> (Datapath, Server) {
        let listeners = loopback(0);
        let request = LoadRequest {
            cgroup: &self.cgroup,
            api: &self.plan.api,
            listener_port: listeners[0].local_addr().unwrap().port(),
        };
        let limits = Limits {
            left_out,
            ..Limits::default()
        };
        let datapath =
            Datapath::load_with(&request, limits).unwrap_or_else(|error| panic!("{}", chain(&error)));
        let flows: Arc<dyn FlowTable> = datapath.flow_table();
        let with_flow: Admits = Arc::new(move |stream, peer| take(&*flows, stream, peer).is_some());
        let server = Server::start(listeners, GUARD, &with_flow);
        (datapath, server)
    }

    /// A probe in the cgroup, as root with every capability.
    fn probe(&self, id: &str) -> Child {
        program(&self.cgroup.path().join("cgroup.procs"), id, &self.plan)
    }

    fn answer(&self, id: &str) -> Answer {
        last_line(self.probe(id))
    }

    /// What the rows come to under a guard without these programs.
    fn assert_all(&self, left_out: &'static [&'static str], ids: &[&str], expected: &str) {
        let (_datapath, _server) = self.guard(left_out);
        self.assert_come_to(ids, expected, &format!("without {left_out:?}"));
    }

    fn assert_come_to(&self, ids: &[&str], expected: &str, under: &str) {
        let plan = Plan {
            only: ids.iter().map(|id| (*id).to_owned()).collect(),
            ..self.plan.clone()
        };
        let child = program(&self.cgroup.path().join("cgroup.procs"), "suite", &plan);
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let answers: Vec<Answer> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(answers.len(), ids.len(), "{text}");
        for answer in &answers {
            assert!(ids.contains(&answer.id.as_str()), "{answer:?}");
            assert_eq!(answer.result.word(), expected, "{under}: {answer:?}");
        }
        assert_eq!(output.status.code(), Some(i32::from(expected == "REACHED")));
    }
}

fn last_line(child: Child) -> Answer {
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let answer: Answer = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    let expected = match answer.result.word() {
        "REACHED" => 1,
        "NOT-RUN" => 2,
        _ => 0,
    };
    assert_eq!(output.status.code(), Some(expected), "{answer:?}");
    answer
}

/// TCP in its forms: the connect hooks send it to the guard.
const REDIRECTED: [&str; 11] = [
    "N01", "N02", "N03", "N06", "N07", "N09", "N20", "N21", "N30", "L01", "L11",
];
/// Sockets that are not made.
const NOT_MADE: [&str; 4] = ["N08", "N11", "N27", "P01"];
/// What an intact boundary refuses beside those.
const REFUSED: [&str; 4] = ["N10", "N23", "N24", "N25"];

#[test]
fn an_intact_boundary_is_told_from_none() {
    let ground = Ground::new();
    ground.assert_all(&[], &REDIRECTED, "REDIRECTED");
    ground.assert_all(&[], &[NOT_MADE, REFUSED].concat(), "BLOCKED");
    // The cgroup without a guard: nothing is loaded.
    let open = [&REDIRECTED[..], &NOT_MADE, &["N10"]].concat();
    ground.assert_come_to(&open, "REACHED", "without a guard");
}

#[test]
fn without_the_connect_hooks_the_packet_filter_holds_and_the_report_fails() {
    let ground = Ground::new();
    let (_datapath, _server) = ground.guard(&CONNECT);
    let answer = ground.answer("N01");
    assert_eq!(answer.result.word(), "BLOCKED", "{answer:?}");
    let problems = ProfileReport::new(Boundary::Run, "p", &[answer], &[]).problems();
    assert!(
        problems.iter().any(|problem| problem.contains("neither N01")),
        "{problems:?}"
    );
}

#[test]
fn without_both_layers_every_form_of_tcp_reaches_the_api_server() {
    const BOTH: [&str; 3] = [CONNECT[0], CONNECT[1], "egress"];
    let ground = Ground::new();
    ground.assert_all(&BOTH, &REDIRECTED, "REACHED");
    ground.assert_all(&BOTH, &NOT_MADE, "BLOCKED");
}

#[test]
fn without_the_packet_filter_an_older_connection_reaches_the_api_server() {
    for (left_out, expected) in [(&[][..], "BLOCKED"), (&["egress"][..], "REACHED")] {
        let ground = Ground::new();
        let mut older = ground.probe("N19");
        let mut ready = String::new();
        let stdout = older.stdout.take().unwrap();
        let mut stdout = BufReader::new(stdout);
        stdout.read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n");
        let _guard = ground.guard(left_out);
        older.stdin.take().unwrap().write_all(b"\n").unwrap();
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let answer: Answer = serde_json::from_str(&line).unwrap();
        assert_eq!(answer.result.word(), expected, "{answer:?}");
        older.wait().unwrap();
    }
}

#[test]
fn without_the_socket_hook_the_packet_filter_holds_and_without_both_packets_leave() {
    let ground = Ground::new();
    ground.assert_all(&["sock_create"], &["N11", "N27", "P01"], "BLOCKED");
    ground.assert_all(&["sock_create"], &["N08"], "REDIRECTED");
    ground.assert_all(&["sock_create", "egress"], &["N11", "N27", "P01"], "REACHED");
}

#[test]
fn without_the_send_hooks_the_packet_filter_holds_and_without_both_datagrams_leave() {
    const BOTH: [&str; 3] = [SEND[0], SEND[1], "egress"];
    let ground = Ground::new();
    ground.assert_all(&SEND, &["N10"], "BLOCKED");
    ground.assert_all(&BOTH, &["N10"], "REACHED");
}
