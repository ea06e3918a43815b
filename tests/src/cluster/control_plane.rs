//! The servers of a cluster and their arguments.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context, Result, anyhow, bail};

use crate::cluster::{AuditLevel, CONTEXT, ClusterOptions, PATIENCE, Site};
use crate::kubeconfig::{Credential, Kubeconfig};
use crate::leash::Leashed;
use crate::netns::Netns;
use crate::pki::{Authority, token_keys};
use crate::place::Place;
use crate::programs;
use crate::workdir::Workdir;

const CONTROLLERS: &str = "serviceaccount-controller,namespace-controller,garbage-collector-controller,\
                           root-ca-certificate-publisher-controller,clusterrole-aggregation-controller,\
                           deployment-controller,replicaset-controller,job-controller";

/// etcd, kube-apiserver and kube-controller-manager.
pub(crate) struct ControlPlane {
    server: SocketAddr,
    api_command: ServerCommand,
    controllers_command: ServerCommand,
    processes: Mutex<Processes>,
    audit_log: PathBuf,
}

struct Processes {
    // Dropped in this order, so that nobody logs the loss of the one it talks to.
    controllers: Leashed,
    api: Leashed,
    etcd: Leashed,
}

/// How to start a server, as often as needed.
struct ServerCommand {
    name: &'static str,
    place: Place,
    args: Vec<String>,
    log: PathBuf,
}

impl ControlPlane {
    /// Starts all three. A port that somebody took between choosing and using it is chosen again.
    pub(crate) fn start(workdir: &Workdir, authority: &Authority, options: &ClusterOptions) -> Result<Self> {
        let files = Files::write(workdir, authority, options)?;
        let mut last = anyhow!("not tried");
        for attempt in 0..4 {
            match Self::try_start(workdir, authority, &files, options, attempt) {
                Err(error) if format!("{error:#}").contains("address already in use") => last = error,
                result => return result,
            }
        }
        Err(last.context("every port chosen was taken by somebody else"))
    }

    fn try_start(
        workdir: &Workdir,
        authority: &Authority,
        files: &Files,
        options: &ClusterOptions,
        attempt: u32,
    ) -> Result<Self> {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let site = options.site.as_ref();
        let netns = site.map(|site| site.netns.as_ref());
        let (etcd_client, etcd_peer) = (free_port(netns, loopback)?, free_port(netns, loopback)?);
        let server = match site {
            Some(site) => SocketAddr::new(options.bind, site.port),
            None => free_port(None, options.bind)?,
        };
        let place = Place {
            netns: netns.map(Netns::path),
            ..Place::default()
        };
        let logs = workdir.path().join("logs");
        let data = workdir.path().join(format!("etcd/data-{attempt}"));
        let etcd_args = etcd_args(&data, etcd_client, etcd_peer);
        let etcd = Leashed::start(
            "etcd",
            &place,
            &programs::server("etcd")?,
            &etcd_args,
            &logs.join("etcd.log"),
        )?;
        let api_command = ServerCommand {
            name: "kube-apiserver",
            place: place.clone(),
            args: files.api_args(server, etcd_client, site),
            log: logs.join("kube-apiserver.log"),
        };
        let mut api = api_command.start()?;
        wait_for_listener(netns, server, &mut api)?;
        let controllers_command = controllers_command(workdir, authority, server, files, place)?;
        let controllers = controllers_command.start()?;
        let processes = Mutex::new(Processes {
            controllers,
            api,
            etcd,
        });
        Ok(Self {
            server,
            api_command,
            controllers_command,
            processes,
            audit_log: files.audit_log.clone(),
        })
    }

    pub(crate) fn server(&self) -> SocketAddr {
        self.server
    }

    pub(crate) fn audit_log(&self) -> PathBuf {
        self.audit_log.clone()
    }

    pub(crate) fn process_ids(&self) -> Vec<u32> {
        let processes = self.processes();
        vec![
            processes.etcd.id(),
            processes.api.id(),
            processes.controllers.id(),
        ]
    }

    pub(crate) fn check_alive(&self) -> Result<()> {
        let mut processes = self.processes();
        processes.etcd.check_alive()?;
        processes.api.check_alive()?;
        let controllers = processes.controllers.check_alive();
        match controllers {
            // It gives an API server ten seconds, which a busy machine may need.
            Err(error) if format!("{error:#}").contains("failed to wait for apiserver being healthy") => {
                processes.controllers = self.controllers_command.start()?;
                Ok(())
            }
            other => other,
        }
    }

    pub(crate) fn restart_api_server(&self) -> Result<()> {
        let mut processes = self.processes();
        processes.api.kill()?;
        processes.api = self.api_command.start()?;
        Ok(())
    }

    /// Another API server over the same store, on a free port of this machine.
    pub(crate) fn start_replica(&self, further: &[&str]) -> Result<(SocketAddr, Leashed)> {
        let mut last = anyhow!("not tried");
        for _ in 0..4 {
            let server = free_port(None, self.server.ip())?;
            let replica = self.api_command.on_port(server.port(), further);
            let mut process = replica.start()?;
            match wait_for_listener(None, server, &mut process) {
                Ok(()) => return Ok((server, process)),
                Err(error) if format!("{error:#}").contains("address already in use") => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last.context("every port chosen was taken by somebody else"))
    }

    fn processes(&self) -> MutexGuard<'_, Processes> {
        // A test that panicked while holding it has only read it.
        self.processes
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl ServerCommand {
    /// The same on another port, with further arguments and a log of its own.
    fn on_port(&self, port: u16, further: &[&str]) -> Self {
        let own = self.args.iter().filter(|arg| !arg.starts_with("--secure-port="));
        let further = further.iter().map(|&arg| arg.to_owned());
        Self {
            name: self.name,
            place: self.place.clone(),
            args: own
                .cloned()
                .chain([format!("--secure-port={port}")])
                .chain(further)
                .collect(),
            log: self.log.with_file_name(format!("{}-{port}.log", self.name)),
        }
    }

    fn start(&self) -> Result<Leashed> {
        Leashed::start(
            self.name,
            &self.place,
            &programs::server(self.name)?,
            &self.args,
            &self.log,
        )
    }
}

/// What the servers read from disk.
struct Files {
    folder: PathBuf,
    audit_log: PathBuf,
}

impl Files {
    fn write(workdir: &Workdir, authority: &Authority, options: &ClusterOptions) -> Result<Self> {
        let folder = workdir.private_folder("pki")?;
        for name in ["audit", "logs", "etcd"] {
            workdir.private_folder(name)?;
        }
        let mut addresses = vec![options.bind, IpAddr::V4(Ipv4Addr::LOCALHOST)];
        match &options.site {
            Some(site) => addresses.extend(site.also.iter().chain(&site.cluster_ips)),
            None => addresses.push(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1))),
        }
        let serving =
            authority.serving(&["localhost", "kubernetes", "kubernetes.default.svc"], &addresses)?;
        let kubelet_client = authority.client("kube-apiserver-kubelet-client", "rig:kubelet-clients")?;
        let (token_key, token_public) = token_keys()?;
        workdir.write("pki/ca.crt", authority.pem())?;
        workdir.write("pki/server.crt", serving.certificate)?;
        workdir.write("pki/server.key", serving.key)?;
        workdir.write("pki/kubelet-client.crt", kubelet_client.certificate)?;
        workdir.write("pki/kubelet-client.key", kubelet_client.key)?;
        workdir.write("pki/tokens.key", token_key)?;
        workdir.write("pki/tokens.pub", token_public)?;
        workdir.write("audit/policy.yaml", audit_policy(options.audit))?;
        Ok(Self {
            folder,
            audit_log: workdir.path().join("audit/audit.log"),
        })
    }

    fn api_args(&self, server: SocketAddr, etcd: SocketAddr, site: Option<&Site>) -> Vec<String> {
        let file = |name: &str| self.folder.join(name).display().to_string();
        let audit_policy = self.audit_log.with_file_name("policy.yaml");
        let mut args = vec![
            format!("--etcd-servers=http://{etcd}"),
            format!("--advertise-address={}", server.ip()),
            format!("--secure-port={}", server.port()),
            format!("--tls-cert-file={}", file("server.crt")),
            format!("--tls-private-key-file={}", file("server.key")),
            format!("--client-ca-file={}", file("ca.crt")),
            format!("--kubelet-certificate-authority={}", file("ca.crt")),
            format!("--kubelet-client-certificate={}", file("kubelet-client.crt")),
            format!("--kubelet-client-key={}", file("kubelet-client.key")),
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-key-file={}", file("tokens.pub")),
            format!("--service-account-signing-key-file={}", file("tokens.key")),
            "--authorization-mode=Node,RBAC".to_owned(),
            format!("--audit-policy-file={}", audit_policy.display()),
            format!("--audit-log-path={}", self.audit_log.display()),
            // Written before the request is served, and a request that cannot be logged is refused.
            "--audit-log-mode=blocking-strict".to_owned(),
            // No rotation: marks are places in one file.
            "--audit-log-maxsize=100000".to_owned(),
        ];
        match site {
            None => args.extend([
                format!("--bind-address={}", server.ip()),
                "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
                // An EndpointSlice with a loopback address would be refused.
                "--endpoint-reconciler-type=none".to_owned(),
            ]),
            Some(site) => {
                let bind = if site.also.is_empty() {
                    server.ip()
                } else {
                    // One socket for both families.
                    IpAddr::V6(Ipv6Addr::UNSPECIFIED)
                };
                args.push(format!("--bind-address={bind}"));
                args.push(format!("--service-cluster-ip-range={}", site.services.join(",")));
            }
        }
        args
    }
}

fn audit_policy(level: AuditLevel) -> String {
    let level = match level {
        AuditLevel::RequestResponse => "RequestResponse",
        AuditLevel::Metadata => "Metadata",
    };
    format!(
        "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n\
         - level: None\n  users: [system:apiserver, system:kube-controller-manager]\n- level: {level}\n"
    )
}

fn etcd_args(data: &Path, client: SocketAddr, peer: SocketAddr) -> Vec<String> {
    vec![
        format!("--data-dir={}", data.display()),
        format!("--listen-client-urls=http://{client}"),
        format!("--advertise-client-urls=http://{client}"),
        format!("--listen-peer-urls=http://{peer}"),
        format!("--initial-advertise-peer-urls=http://{peer}"),
        format!("--initial-cluster=default=http://{peer}"),
        // The data dies with the test; waiting for the disk would only make every write slow.
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
    ]
}

fn controllers_command(
    workdir: &Workdir,
    authority: &Authority,
    server: SocketAddr,
    files: &Files,
    place: Place,
) -> Result<ServerCommand> {
    // Every right for one identity: ServiceAccounts a controller would cost a second of every start.
    let identity = authority.client("system:kube-controller-manager", "system:masters")?;
    let kubeconfig = Kubeconfig {
        server: format!("https://{server}"),
        ca: authority.pem(),
        context: CONTEXT.to_owned(),
        namespace: None,
        credential: Credential::ClientCertificate(identity),
    };
    let kubeconfig = workdir.write("pki/controllers.kubeconfig", kubeconfig.render())?;
    let args = vec![
        format!("--kubeconfig={}", kubeconfig.display()),
        format!("--root-ca-file={}", files.folder.join("ca.crt").display()),
        format!("--controllers={CONTROLLERS}"),
        "--leader-elect=false".to_owned(),
        "--secure-port=0".to_owned(),
        "--kube-api-qps=500".to_owned(),
        "--kube-api-burst=1000".to_owned(),
    ];
    Ok(ServerCommand {
        name: "kube-controller-manager",
        place,
        args,
        log: workdir.path().join("logs/kube-controller-manager.log"),
    })
}

fn wait_for_listener(netns: Option<&Netns>, server: SocketAddr, process: &mut Leashed) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let connect = || match netns {
        Some(netns) => netns.connect(server, Duration::from_secs(5)).map(drop),
        None => Ok(TcpStream::connect(server).map(drop)?),
    };
    // Whoever else got the port meanwhile is connected to as well: the server itself says that it has it.
    let serves = |process: &Leashed| {
        fs::read_to_string(process.log()).is_ok_and(|log| log.contains("Serving securely on"))
    };
    while !serves(process) || connect().is_err() {
        process.check_alive()?;
        if Instant::now() > deadline {
            bail!(
                "the API server does not listen after {PATIENCE:?}:\n{}",
                process.log_tail()
            );
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// A port that is free now. Between this and its use somebody may take it; then the start is repeated.
fn free_port(netns: Option<&Netns>, address: IpAddr) -> Result<SocketAddr> {
    let ask = || {
        let listener = TcpListener::bind((address, 0))
            .with_context(|| format!("asking for a free port on {address}"))?;
        Ok(listener.local_addr()?)
    };
    netns.map_or_else(ask, |netns| netns.enter(ask))
}
