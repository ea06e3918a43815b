//! A stand-in for a kubelet: a Node object and the log endpoint behind it, so that `kubectl logs [-f]` works without a node.
//! It runs nothing: tests say what a container has logged.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::json;

use crate::cluster::Cluster;
use crate::http::install_crypto;

/// A node of the test cluster.
pub struct Kubelet<'a> {
    cluster: &'a Cluster,
    node: String,
    logs: Arc<Logs>,
}

#[derive(Default)]
struct Logs {
    containers: Mutex<HashMap<String, Container>>,
    changed: Condvar,
}

#[derive(Clone, Default)]
struct Container {
    lines: Vec<String>,
    ended: bool,
}

impl<'a> Kubelet<'a> {
    /// Registers node `name` and serves its logs until this process ends.
    pub fn start(cluster: &'a Cluster, name: &str) -> Result<Self> {
        let address = Ipv4Addr::LOCALHOST;
        let listener = TcpListener::bind((address, 0))?;
        let port = listener.local_addr()?.port();
        let tls = server_config(cluster)?;
        let logs = Arc::new(Logs::default());
        let served = logs.clone();
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let (logs, tls) = (served.clone(), tls.clone());
                // A caller that goes away ends its thread with an error nobody needs.
                thread::spawn(move || serve(socket, tls, &logs).ok());
            }
        });
        cluster
            .admin()
            .create("/api/v1/nodes", &json!({"metadata": {"name": name}}))?;
        let status = json!({"status": {
            "addresses": [{"type": "InternalIP", "address": address.to_string()}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
            "conditions": [{"type": "Ready", "status": "True"}],
        }});
        cluster
            .admin()
            .merge(&format!("/api/v1/nodes/{name}/status"), &status)?;
        Ok(Self {
            cluster,
            node: name.to_owned(),
            logs,
        })
    }

    /// Makes a pod that "runs" on this node, with one container `main`.
    pub fn run_pod(&self, namespace: &str, name: &str) -> Result<()> {
        let pods = format!("/api/v1/namespaces/{namespace}/pods");
        let pod = json!({
            "metadata": {"name": name},
            "spec": {"nodeName": self.node, "containers": [{"name": "main", "image": "registry.test/main"}]},
        });
        self.cluster.admin().create(&pods, &pod)?;
        let status = json!({"status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{
                "name": "main", "image": "registry.test/main", "imageID": "", "ready": true, "restartCount": 0,
                "state": {"running": {}},
            }],
        }});
        self.cluster
            .admin()
            .merge(&format!("{pods}/{name}/status"), &status)?;
        self.logs.change(&key(namespace, name), |_| {});
        Ok(())
    }

    /// The pod's container writes a line.
    pub fn log(&self, namespace: &str, pod: &str, line: &str) {
        self.logs.change(&key(namespace, pod), |container| {
            container.lines.push(line.to_owned())
        });
    }

    /// The pod's container ends, and with it every `logs -f`.
    pub fn end(&self, namespace: &str, pod: &str) {
        self.logs
            .change(&key(namespace, pod), |container| container.ended = true);
    }
}

impl Logs {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Container>> {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, key: &str, change: impl FnOnce(&mut Container)) {
        change(self.lock().entry(key.to_owned()).or_default());
        self.changed.notify_all();
    }

    fn read(&self, key: &str) -> Option<Container> {
        self.lock().get(key).cloned()
    }

    /// The container once it has more than `seen` lines or has ended.
    fn wait(&self, key: &str, seen: usize) -> Container {
        let news = |containers: &mut HashMap<String, Container>| {
            containers
                .get(key)
                .is_some_and(|container| container.lines.len() <= seen && !container.ended)
        };
        let containers = self
            .changed
            .wait_while(self.lock(), news)
            .unwrap_or_else(PoisonError::into_inner);
        containers.get(key).cloned().unwrap_or_default()
    }
}

fn key(namespace: &str, pod: &str) -> String {
    format!("/containerLogs/{namespace}/{pod}/main")
}

fn server_config(cluster: &Cluster) -> Result<Arc<ServerConfig>> {
    install_crypto();
    let identity = cluster.authority().serving(&[], &[Ipv4Addr::LOCALHOST.into()])?;
    let chain = vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes())?];
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes())?;
    Ok(Arc::new(
        ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(chain, key)?,
    ))
}

/// One request a connection.
fn serve(socket: TcpStream, tls: Arc<ServerConfig>, logs: &Logs) -> Result<()> {
    let mut stream = BufReader::new(StreamOwned::new(ServerConnection::new(tls)?, socket));
    let mut request = String::new();
    stream.read_line(&mut request)?;
    let mut header = String::new();
    while stream.read_line(&mut header)? > 2 {
        header.clear();
    }
    let target = request
        .split(' ')
        .nth(1)
        .context("no target in the request line")?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let follow = query.split('&').any(|pair| pair == "follow=true");
    let stream = stream.get_mut();
    let Some(container) = logs.read(path) else {
        stream.write_all(b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")?;
        return Ok(());
    };
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes())?;
    let mut seen = skipped(query, container.lines.len());
    let mut container = container;
    loop {
        for line in &container.lines[seen..] {
            write!(stream, "{:x}\r\n{line}\n\r\n", line.len() + 1)?;
        }
        stream.flush()?;
        seen = container.lines.len();
        if !follow || container.ended {
            break;
        }
        container = logs.wait(path, seen);
    }
    stream.write_all(b"0\r\n\r\n")?;
    stream.conn.send_close_notify();
    stream.flush()?;
    Ok(())
}

fn skipped(query: &str, lines: usize) -> usize {
    let tail = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("tailLines=")?.parse::<usize>().ok());
    tail.map_or(0, |tail| lines.saturating_sub(tail))
}
