//! The runtime's side of the Node Resource Interface, as containerd speaks it: it listens, a plugin registers, is configured and
//! synchronised, and is then asked before each pod begins. Framing and messages after the sources of github.com/containerd/nri
//! (`pkg/net/multiplex/mux.go`, `pkg/adaptation/plugin.go`, `pkg/api/api.proto`) and github.com/containerd/ttrpc (`channel.go`,
//! `request.proto`), written down here once more so that the guard is not tried against itself.

use std::collections::HashMap;
use std::fs;
use std::io::{BufWriter, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use prost::Message;

/// Numbers of the two connections on the socket.
const PLUGIN_CONNECTION: u32 = 1;
const RUNTIME_CONNECTION: u32 = 2;
/// Kinds of ttrpc's packets.
const REQUEST: u8 = 1;
const RESPONSE: u8 = 2;
/// What containerd grants a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a test waits for a plugin, which may be starved.
const PATIENCE: Duration = Duration::from_secs(60);
/// How much of a packet Go's buffered writer hands to the multiplexer at once.
const PIECE: usize = 4096;

#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(string, tag = "1")]
    service: String,
    #[prost(string, tag = "2")]
    method: String,
    #[prost(bytes = "vec", tag = "3")]
    payload: Vec<u8>,
    #[prost(int64, tag = "4")]
    timeout_nano: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Response {
    #[prost(message, optional, tag = "1")]
    status: Option<Status>,
    #[prost(bytes = "vec", tag = "2")]
    payload: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

#[derive(Clone, PartialEq, Message)]
struct RegisterPlugin {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    index: String,
}

#[derive(Clone, PartialEq, Message)]
struct Configure {
    #[prost(string, tag = "2")]
    runtime_name: String,
    #[prost(string, tag = "3")]
    runtime_version: String,
    #[prost(int64, tag = "5")]
    request_timeout: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Configured {
    #[prost(int32, tag = "2")]
    events: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Synchronize {
    #[prost(message, repeated, tag = "1")]
    pods: Vec<PodSandbox>,
    #[prost(bool, tag = "3")]
    more: bool,
}

#[derive(Clone, PartialEq, Message)]
struct OnePod {
    #[prost(message, optional, tag = "1")]
    pod: Option<PodSandbox>,
}

#[derive(Clone, PartialEq, Message)]
struct StateChange {
    #[prost(int32, tag = "1")]
    event: i32,
    #[prost(message, optional, tag = "2")]
    pod: Option<PodSandbox>,
}

/// A pod, as the runtime knows it.
#[derive(Clone, PartialEq, Message)]
pub struct PodSandbox {
    /// The runtime's own name of the sandbox.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// UID.
    #[prost(string, tag = "3")]
    pub uid: String,
    /// Namespace.
    #[prost(string, tag = "4")]
    pub namespace: String,
    /// Labels.
    #[prost(map = "string, string", tag = "5")]
    pub labels: HashMap<String, String>,
}

/// How the beginning of a pod is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// A call of its own.
    RunPodSandbox,
    /// An event among others, as older runtimes have it.
    StateChange,
}

/// A runtime's socket.
pub struct Runtime {
    listener: UnixListener,
}

impl Runtime {
    /// Listens at a path.
    pub fn listen(path: &Path) -> Result<Self> {
        fs::create_dir_all(path.parent().context("no folder")?)?;
        Ok(Self {
            listener: UnixListener::bind(path).context("listening as a runtime")?,
        })
    }

    /// Takes a plugin through registration, configuration and synchronisation.
    pub fn accept(&self) -> Result<Session> {
        let (socket, _) = self.listener.accept()?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut session = Session {
            socket,
            pending: HashMap::new(),
            next: 1,
        };
        let (stream, request) = session.request()?;
        ensure!(
            request.service == "nri.pkg.api.v1alpha1.Runtime" && request.method == "RegisterPlugin",
            "not a registration: {request:?}"
        );
        let plugin = RegisterPlugin::decode(request.payload.as_slice())?;
        ensure!(
            plugin.index.len() == 2 && plugin.index.bytes().all(|byte| byte.is_ascii_digit()),
            "no index of a plugin: {plugin:?}"
        );
        ensure!(
            !plugin.name.is_empty() && !plugin.name.contains(','),
            "no name: {plugin:?}"
        );
        let registered = Response {
            status: None,
            payload: Vec::new(),
        };
        session.send(RUNTIME_CONNECTION, stream, RESPONSE, &registered.encode_to_vec())?;
        let configure = Configure {
            runtime_name: "containerd".to_owned(),
            runtime_version: "v2.1.0".to_owned(),
            request_timeout: i64::try_from(REQUEST_TIMEOUT.as_millis())?,
        };
        let configured = Configured::decode(session.call("Configure", &configure)?.as_slice())?;
        // Run and stop of sandboxes, creation of containers: bits 0, 1 and 3.
        ensure!(
            configured.events == 0b1011,
            "subscribed to {:#b}",
            configured.events
        );
        // More than one frame holds, and in two parts.
        let known = Synchronize {
            pods: (0..200)
                .map(|number| PodSandbox {
                    id: format!("sandbox-{number:0>64}"),
                    ..PodSandbox::default()
                })
                .collect(),
            more: true,
        };
        session.call("Synchronize", &known)?;
        session.call("Synchronize", &Synchronize::default())?;
        Ok(session)
    }
}

/// A plugin that is synchronised.
pub struct Session {
    socket: UnixStream,
    pending: HashMap<u32, Vec<u8>>,
    next: u32,
}

impl Session {
    /// Says that a pod begins, and waits for the plugin as a runtime does before it starts a container. What the plugin refuses
    /// is an error.
    pub fn run_pod_sandbox(&mut self, pod: &PodSandbox, dialect: Dialect) -> Result<()> {
        let pod = Some(pod.clone());
        match dialect {
            Dialect::RunPodSandbox => self.call("RunPodSandbox", &OnePod { pod })?,
            Dialect::StateChange => self.call("StateChange", &StateChange { event: 1, pod })?,
        };
        Ok(())
    }

    /// Says that a container of a pod is created.
    pub fn create_container(&mut self, pod: &PodSandbox) -> Result<()> {
        let pod = Some(pod.clone());
        self.call("CreateContainer", &OnePod { pod }).map(drop)
    }

    fn call(&mut self, method: &str, body: &impl Message) -> Result<Vec<u8>> {
        let request = Request {
            service: "nri.pkg.api.v1alpha1.Plugin".to_owned(),
            method: method.to_owned(),
            payload: body.encode_to_vec(),
            timeout_nano: i64::try_from(REQUEST_TIMEOUT.as_nanos())?,
        };
        let stream = self.next;
        // A client's streams are odd.
        self.next += 2;
        self.send(PLUGIN_CONNECTION, stream, REQUEST, &request.encode_to_vec())?;
        let (answered, kind, payload) = self.receive(PLUGIN_CONNECTION)?;
        ensure!(
            answered == stream && kind == RESPONSE,
            "{method} was answered with kind {kind} on {answered}"
        );
        let response = Response::decode(payload.as_slice())?;
        let status = response.status.unwrap_or_default();
        if status.code != 0 {
            bail!("{method} was refused ({}): {}", status.code, status.message);
        }
        Ok(response.payload)
    }

    fn request(&mut self) -> Result<(u32, Request)> {
        let (stream, kind, payload) = self.receive(RUNTIME_CONNECTION)?;
        ensure!(kind == REQUEST, "no request: kind {kind}");
        Ok((stream, Request::decode(payload.as_slice())?))
    }

    fn send(&mut self, connection: u32, stream: u32, kind: u8, payload: &[u8]) -> Result<()> {
        let mut packet = Vec::new();
        packet.extend(u32::try_from(payload.len())?.to_be_bytes());
        packet.extend(stream.to_be_bytes());
        packet.extend([kind, 0]);
        packet.extend(payload);
        let mut socket = BufWriter::new(&self.socket);
        for piece in packet.chunks(PIECE) {
            socket.write_all(&connection.to_be_bytes())?;
            socket.write_all(&u32::try_from(piece.len())?.to_be_bytes())?;
            socket.write_all(piece)?;
            // Head and piece are two writes of the multiplexer.
            socket.flush()?;
        }
        Ok(())
    }

    fn receive(&mut self, connection: u32) -> Result<(u32, u8, Vec<u8>)> {
        loop {
            let pending = self.pending.entry(connection).or_default();
            if let Some(head) = pending.get(..10) {
                let length = u32::from_be_bytes(head[..4].try_into()?) as usize;
                let (stream, kind) = (u32::from_be_bytes(head[4..8].try_into()?), head[8]);
                if pending.len() >= 10 + length {
                    let payload = pending.drain(..10 + length).skip(10).collect();
                    return Ok((stream, kind, payload));
                }
            }
            let mut head = [0; 8];
            self.socket.read_exact(&mut head).context("the plugin hung up")?;
            let from = u32::from_be_bytes(head[..4].try_into()?);
            let mut piece = vec![0; u32::from_be_bytes(head[4..].try_into()?) as usize];
            self.socket.read_exact(&mut piece)?;
            self.pending.entry(from).or_default().extend(piece);
        }
    }
}
