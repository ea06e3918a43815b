//! The container runtime is asked to wait: as a plugin of its Node Resource Interface (NRI), the daemon holds a pod's sandbox
//! and containers back until the pod is classified and its listener is there. What a pod is, the API server says as before; the
//! runtime only says that one begins.
//!
//! A runtime goes on without a plugin that is slow or away, so the pods of a daemon that is away begin unknown.

mod message;
mod wire;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use prost::Message;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::node::config::NriMode;
use crate::node::nri::message::{
    ConfigureRequest, ConfigureResponse, Empty, Event, PodRequest, PodSandbox, RegisterPluginRequest,
    Request, Response, StateChangeEvent, Status, SynchronizeRequest, SynchronizeResponse,
};
use crate::node::nri::wire::{Connection, Kind, Packet, Packets, encoded};
use crate::telemetry::chain;

/// Name and place among other plugins: late, so that what others have done to a pod is done.
const NAME: &str = "eks-guard";
const INDEX: &str = "90";
/// The services' names of the interface (`pkg/api/api.proto` of github.com/containerd/nri).
const RUNTIME: &str = "nri.pkg.api.v1alpha1.Runtime";
const PLUGIN: &str = "nri.pkg.api.v1alpha1.Plugin";
/// Number of the only request that is made of the runtime.
const REGISTRATION: u32 = 1;
/// What the runtime grants a request unless it says otherwise, in milliseconds; a plugin that takes longer is hung up on.
const REQUEST_TIMEOUT: u64 = 2_000;
/// Pause before the runtime is connected to again.
const RETRY: Duration = Duration::from_secs(1);
/// Codes of statuses (`google.golang.org/grpc/codes`).
const UNAVAILABLE: i32 = 14;
const UNIMPLEMENTED: i32 = 12;

/// A pod that begins: answered when it is classified and, if it is an agent, served.
pub(crate) struct Beginning {
    /// UID, as the runtime says it.
    pub(crate) uid: String,
    /// Who waits.
    pub(crate) ready: oneshot::Sender<()>,
}

/// What the plugin is told to do.
#[derive(Clone, Debug)]
pub(crate) struct Plugin {
    /// Whether agents that are not ready in time are refused.
    pub(crate) mode: NriMode,
    /// The runtime's socket.
    pub(crate) socket: PathBuf,
    /// Label that makes a pod an agent.
    pub(crate) agent_label: String,
}

/// The runtime cannot be held back.
#[derive(Debug, thiserror::Error)]
enum NriError {
    #[error("talking to the runtime")]
    Io(#[from] io::Error),
    #[error("the runtime said something that cannot be read")]
    Malformed(#[from] prost::DecodeError),
    #[error("the runtime did not take the plugin: {0}")]
    NotRegistered(String),
    #[error("the runtime hung up")]
    HungUp,
}

impl Plugin {
    /// Holds pods back as long as the daemon lives. `connected` says whether it can.
    pub(crate) async fn run(self, beginnings: mpsc::Sender<Beginning>, connected: watch::Sender<bool>) {
        let mut said = String::new();
        loop {
            let error = match UnixStream::connect(&self.socket).await {
                Ok(stream) => self.serve(stream, &beginnings, &connected).await,
                Err(error) => error.into(),
            };
            connected.send_replace(false);
            let text = chain(&error);
            if text != said {
                tracing::warn!(socket = %self.socket.display(), error = %text, "NRI: pods are not held back");
                said = text;
            }
            sleep(RETRY).await;
        }
    }

    /// Serves one connection to its end.
    async fn serve(
        &self,
        stream: UnixStream,
        beginnings: &mpsc::Sender<Beginning>,
        connected: &watch::Sender<bool>,
    ) -> NriError {
        let mut session = Session {
            plugin: self,
            beginnings,
            connected,
            patience: patience(REQUEST_TIMEOUT),
            replies: JoinSet::new(),
        };
        match session.run(stream).await {
            Ok(()) => NriError::HungUp,
            Err(error) => error,
        }
    }
}

/// A part of what the runtime grants: the answer must be back in time.
fn patience(granted: u64) -> Duration {
    Duration::from_millis(granted / 4 * 3)
}

struct Session<'a> {
    plugin: &'a Plugin,
    beginnings: &'a mpsc::Sender<Beginning>,
    connected: &'a watch::Sender<bool>,
    patience: Duration,
    replies: JoinSet<Vec<u8>>,
}

impl Session<'_> {
    async fn run(&mut self, stream: UnixStream) -> Result<(), NriError> {
        let (read, mut write) = stream.into_split();
        let mut packets = Packets::of(read);
        let register = Request::of(
            RUNTIME,
            "RegisterPlugin",
            &RegisterPluginRequest {
                plugin_name: NAME.to_owned(),
                plugin_idx: INDEX.to_owned(),
            },
        );
        let register = encoded(
            Connection::Runtime,
            REGISTRATION,
            Kind::Request,
            &register.encode_to_vec(),
        );
        write.write_all(&register).await?;
        loop {
            let reply = tokio::select! {
                packet = packets.next() => match packet? {
                    Some(packet) => self.take(packet)?,
                    None => return Ok(()),
                },
                Some(Ok(reply)) = self.replies.join_next() => Some(reply),
            };
            if let Some(reply) = reply {
                write.write_all(&reply).await?;
            }
        }
    }

    /// What is to be answered at once.
    fn take(&mut self, packet: Packet) -> Result<Option<Vec<u8>>, NriError> {
        match (packet.connection, packet.kind) {
            (Connection::Runtime, Kind::Response) => {
                let status = Response::decode(packet.payload)?.status.unwrap_or_default();
                match status.code {
                    0 => Ok(None),
                    _ => Err(NriError::NotRegistered(status.message)),
                }
            }
            (Connection::Plugin, Kind::Request) => {
                let request = Request::decode(packet.payload)?;
                self.answer(packet.stream, &request)
            }
            (Connection::Plugin, Kind::Response) | (Connection::Runtime, Kind::Request) => Ok(None),
        }
    }

    fn answer(&mut self, stream: u32, request: &Request) -> Result<Option<Vec<u8>>, NriError> {
        let body = request.payload.as_slice();
        if request.service != PLUGIN {
            return Ok(Some(refused(stream, UNIMPLEMENTED, "no such service")));
        }
        Ok(match request.method.as_str() {
            "Configure" => {
                let granted =
                    u64::try_from(ConfigureRequest::decode(body)?.request_timeout).unwrap_or_default();
                if granted > 0 {
                    self.patience = patience(granted);
                }
                let events = [
                    Event::RunPodSandbox,
                    Event::StopPodSandbox,
                    Event::CreateContainer,
                ];
                let response = ConfigureResponse {
                    events: events.into_iter().map(Event::bit).sum(),
                };
                Some(done(stream, &response))
            }
            "Synchronize" => {
                let more = SynchronizeRequest::decode(body)?.more;
                if !more {
                    self.connected.send_replace(true);
                }
                Some(done(stream, &SynchronizeResponse { more }))
            }
            "RunPodSandbox" | "CreateContainer" => self.hold(stream, PodRequest::decode(body)?.pod),
            // Older runtimes say the former so.
            "StateChange" => {
                let change = StateChangeEvent::decode(body)?;
                if change.event == Event::RunPodSandbox as i32 {
                    self.hold(stream, change.pod)
                } else {
                    Some(done(stream, &Empty {}))
                }
            }
            "StopPodSandbox" | "Shutdown" => Some(done(stream, &Empty {})),
            _ => Some(refused(stream, UNIMPLEMENTED, "no such method")),
        })
    }

    /// Answers when the pod is ready, or when the runtime must not be kept any longer.
    fn hold(&mut self, stream: u32, pod: Option<PodSandbox>) -> Option<Vec<u8>> {
        let pod = pod.unwrap_or_default();
        let is_refused =
            self.plugin.mode == NriMode::Required && pod.labels.contains_key(&self.plugin.agent_label);
        let (beginnings, patience) = (self.beginnings.clone(), self.patience);
        self.replies.spawn(async move {
            let (ready_tx, ready_rx) = oneshot::channel();
            let beginning = Beginning {
                uid: pod.uid,
                ready: ready_tx,
            };
            let ready = timeout(patience, async {
                beginnings.send(beginning).await.ok()?;
                ready_rx.await.ok()
            });
            if ready.await.ok().flatten().is_some() || !is_refused {
                done(stream, &Empty {})
            } else {
                let why = format!(
                    "eks-guard does not serve the agent {}/{} yet",
                    pod.namespace, pod.name
                );
                refused(stream, UNAVAILABLE, &why)
            }
        });
        None
    }
}

fn done(stream: u32, body: &impl Message) -> Vec<u8> {
    respond(stream, Status::default(), body.encode_to_vec())
}

fn refused(stream: u32, code: i32, why: &str) -> Vec<u8> {
    let status = Status {
        code,
        message: why.to_owned(),
    };
    respond(stream, status, Vec::new())
}

fn respond(stream: u32, status: Status, payload: Vec<u8>) -> Vec<u8> {
    let response = Response {
        status: Some(status),
        payload,
    };
    encoded(
        Connection::Plugin,
        stream,
        Kind::Response,
        &response.encode_to_vec(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::eventually;

    /// A runtime that asks one thing after another; what it is answered.
    async fn asked(mode: NriMode, calls: &[(&str, Vec<u8>)], is_ready: bool) -> Vec<Status> {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (beginnings_tx, mut beginnings) = mpsc::channel(1);
        let (connected_tx, _connected) = watch::channel(false);
        let plugin = Plugin {
            mode,
            socket: PathBuf::new(),
            agent_label: "agent".to_owned(),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { plugin.serve(theirs, &beginnings_tx, &connected_tx).await });
        let mut held = JoinSet::new();
        held.spawn(async move {
            let mut waiting = Vec::new();
            while let Some(beginning) = beginnings.recv().await {
                if is_ready {
                    beginning.ready.send(()).unwrap();
                } else {
                    waiting.push(beginning);
                }
            }
        });
        let (read, mut write) = ours.into_split();
        let mut packets = Packets::of(read);
        let register = eventually("the plugin registers", packets.next())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            (register.connection, register.kind),
            (Connection::Runtime, Kind::Request)
        );
        let mut statuses = Vec::new();
        for (stream, (method, payload)) in (1..).zip(calls) {
            let request = Request {
                service: PLUGIN.to_owned(),
                method: (*method).to_owned(),
                payload: payload.clone(),
            };
            let call = encoded(
                Connection::Plugin,
                stream,
                Kind::Request,
                &request.encode_to_vec(),
            );
            write.write_all(&call).await.unwrap();
            let answer = eventually("the plugin answers", packets.next())
                .await
                .unwrap()
                .unwrap();
            assert_eq!((answer.stream, answer.kind), (stream, Kind::Response));
            statuses.push(
                Response::decode(answer.payload)
                    .unwrap()
                    .status
                    .unwrap_or_default(),
            );
        }
        statuses
    }

    fn begins() -> Vec<u8> {
        let pod = PodSandbox {
            uid: "u".to_owned(),
            labels: [("agent".to_owned(), "shop".to_owned())].into(),
            ..PodSandbox::default()
        };
        PodRequest { pod: Some(pod) }.encode_to_vec()
    }

    #[tokio::test]
    async fn whoever_is_not_ready_in_time_begins_or_not_as_the_mode_says() {
        let impatient = ConfigureRequest { request_timeout: 40 }.encode_to_vec();
        let calls = [("Configure", impatient), ("RunPodSandbox", begins())];
        let codes = async |mode, is_ready| -> Vec<i32> {
            let statuses = asked(mode, &calls, is_ready).await;
            statuses.iter().map(|status| status.code).collect()
        };
        assert_eq!(codes(NriMode::Optional, false).await, [0, 0]);
        assert_eq!(codes(NriMode::Required, false).await, [0, UNAVAILABLE]);
        assert_eq!(codes(NriMode::Required, true).await, [0, 0]);
    }

    #[tokio::test]
    async fn what_is_not_known_is_said_to_be_so() {
        let calls = [("UpdatePodSandbox", Vec::new()), ("StopPodSandbox", Vec::new())];
        let statuses = asked(NriMode::Required, &calls, true).await;
        assert_eq!((statuses[0].code, statuses[1].code), (UNIMPLEMENTED, 0));
    }
}
