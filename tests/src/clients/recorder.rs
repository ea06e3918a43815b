//! A proxy between a client and the API server that keeps the requests as they were sent: how the corpus was made.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::{env, fs, thread};

use anyhow::{Context, Result};
use http::uri::{Authority, Scheme};
use http::{Request, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::clients::corpus::{self, Recorded};
use crate::cluster::Cluster;
use crate::guarded::Guarded;
use crate::http::{Client, install_crypto};
use crate::kubeconfig::Credential;

/// Whoever wants the corpus to be written anew sets it.
const WANTED: &str = "EKS_GUARD_RECORD_CORPUS";

type Upstream = HttpClient<hyper_rustls::HttpsConnector<HttpConnector>, Full<Bytes>>;
type Requests = Arc<Mutex<Vec<Recorded>>>;

/// One of them, for one client.
pub(super) struct Recorder {
    client: String,
    kubeconfig: PathBuf,
    address: SocketAddr,
    requests: Requests,
}

impl Recorder {
    /// Starts one if the corpus is to be written anew; it forwards with the rights of the guard until this process ends.
    pub(super) fn when_wanted(
        cluster: &Cluster,
        guarded: &Guarded<'_>,
        client: &str,
    ) -> Result<Option<Self>> {
        if env::var_os(WANTED).is_none() {
            return Ok(None);
        }
        install_crypto();
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let identity = cluster.authority().serving(&[], &[address.ip()])?;
        let mut tls = ServerConfig::builder().with_no_client_auth().with_single_cert(
            vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes())?],
            PrivateKeyDer::from_pem_slice(identity.key.as_bytes())?,
        )?;
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let upstream_identity = cluster.upstream_identity(guarded.upstream_user())?;
        let credentials = Client::new(
            cluster.server(),
            &cluster.authority().pem(),
            Some(&upstream_identity),
        )?;
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config((*credentials.tls()).clone())
            .https_only()
            .enable_http1()
            .build();
        let upstream = HttpClient::builder(TokioExecutor::new()).build(connector);
        let authority: Authority = cluster.server().to_string().parse()?;
        let requests = Requests::default();
        let kept = requests.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        thread::spawn(move || {
            runtime.block_on(serve(
                listener,
                TlsAcceptor::from(Arc::new(tls)),
                upstream,
                authority,
                kept,
            ))
        });
        let mut kubeconfig = cluster.kubeconfig(Credential::ClientCertificate(upstream_identity));
        kubeconfig.server = format!("https://{address}");
        let path = guarded.home().join("recorder.kubeconfig");
        fs::write(&path, kubeconfig.render())?;
        Ok(Some(Self {
            client: client.to_owned(),
            kubeconfig: path,
            address,
            requests,
        }))
    }

    /// For the client.
    pub(super) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Where it is.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Puts what was sent into the corpus, each kind of request once.
    pub(super) fn keep(&self, version: &str) -> Result<()> {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        corpus::write(&format!("{} {version}", self.client), &requests)
    }
}

async fn serve(
    listener: std::net::TcpListener,
    acceptor: TlsAcceptor,
    upstream: Upstream,
    authority: Authority,
    requests: Requests,
) -> Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let mut tasks = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        while tasks.try_join_next().is_some() {}
        let (acceptor, upstream) = (acceptor.clone(), upstream.clone());
        let (authority, requests) = (authority.clone(), requests.clone());
        tasks.spawn(async move {
            let stream = acceptor.accept(stream).await?;
            let service = service_fn(move |request| {
                forward(request, upstream.clone(), authority.clone(), requests.clone())
            });
            // A client that goes away ends its connection with an error nobody needs.
            auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await
                .ok();
            anyhow::Ok(())
        });
    }
}

async fn forward(
    request: Request<Incoming>,
    upstream: Upstream,
    authority: Authority,
    requests: Requests,
) -> Result<http::Response<Incoming>> {
    let (mut head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let headers: BTreeMap<String, String> = corpus::HEADERS
        .iter()
        .filter_map(|name| {
            Some((
                (*name).to_owned(),
                head.headers.get(*name)?.to_str().ok()?.to_owned(),
            ))
        })
        .collect();
    let target = head.uri.path_and_query().context("a target")?.to_string();
    requests
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(Recorded::new(head.method.as_str(), &target, headers, &body));
    let mut parts = head.uri.clone().into_parts();
    parts.scheme = Some(Scheme::HTTPS);
    parts.authority = Some(authority);
    head.uri = Uri::from_parts(parts)?;
    head.version = http::Version::HTTP_11;
    head.headers.remove(http::header::HOST);
    Ok(upstream
        .request(Request::from_parts(head, Full::new(body)))
        .await?)
}
