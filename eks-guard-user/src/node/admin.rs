//! What monitoring asks the daemon over HTTP: `/metrics` (Prometheus text) and `/healthz`. Nothing can be changed here.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::node::status::Status;

/// Connections at the same time; whoever comes later waits.
const MOST: usize = 16;
/// How long a request and its answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause after a connection that could not be accepted.
const PAUSE: Duration = Duration::from_millis(100);
/// As the exposition format asks for it.
const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is shown.
pub(crate) struct Admin {
    /// The metrics.
    pub(crate) registry: Registry,
    /// What is wrong makes the daemon unhealthy.
    pub(crate) status: watch::Receiver<Status>,
}

impl Admin {
    /// Answers until dropped.
    pub(crate) async fn serve(self, listener: TcpListener) {
        let admin = Arc::new(self);
        let places = Arc::new(Semaphore::new(MOST));
        let mut connections = JoinSet::new();
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            while connections.try_join_next().is_some() {}
            let Ok((stream, peer)) = listener.accept().await else {
                sleep(PAUSE).await;
                continue;
            };
            let admin = Arc::clone(&admin);
            connections.spawn(async move {
                if timeout(PATIENCE, admin.converse(stream)).await.is_err() {
                    tracing::debug!(%peer, "a reader of the metrics took too long");
                }
                drop(place);
            });
        }
    }

    async fn converse(&self, stream: TcpStream) {
        let answer = service_fn(|request: Request<Incoming>| async move {
            Ok::<_, Infallible>(self.answer(request.method(), request.uri().path()))
        });
        let conversation = http1::Builder::new()
            .timer(TokioTimer::new())
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), answer);
        if let Err(error) = conversation.await {
            tracing::debug!(%error, "a reader of the metrics went away");
        }
    }

    fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        if method != Method::GET {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered\n");
        }
        match path {
            "/metrics" => {
                let mut body = String::new();
                if encode(&mut body, &self.registry).is_err() {
                    return text(
                        StatusCode::INTERNAL_SERVER_ERROR,
                        "the metrics cannot be written\n",
                    );
                }
                let mut response = text(StatusCode::OK, body);
                let kind = HeaderValue::from_static(TEXT);
                response.headers_mut().insert(CONTENT_TYPE, kind);
                response
            }
            "/healthz" => {
                let status = self.status.borrow();
                if status.attached && status.synced {
                    text(StatusCode::OK, "ok\n")
                } else {
                    let why = status.problems.join("\n");
                    text(
                        StatusCode::SERVICE_UNAVAILABLE,
                        format!("the node is not guarded\n{why}\n"),
                    )
                }
            }
            _ => text(StatusCode::NOT_FOUND, "there are /metrics and /healthz\n"),
        }
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
}

/// Listens where the configuration says.
///
/// # Errors
/// The address is taken, or not the node's.
pub(crate) async fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|source| ListenError { address, source })
}

/// Nobody can ask for metrics.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for /metrics: choose another address")]
pub(crate) struct ListenError {
    address: SocketAddr,
    #[source]
    source: std::io::Error,
}
