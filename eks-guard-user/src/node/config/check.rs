//! From the YAML shape to a configuration: every value checked, every mistake collected.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use eks_guard_core::yaml::{At, DocumentError, Field, Origin};
use serde_saphyr::Location;

use crate::node::config::wire::{Document, Metrics, Spec, SystemPod as WireSystemPod, Upstream, Verify};
use crate::node::config::{
    NodeConfig, PolicySource, Prefix, SystemPod, UpstreamConfig, VerifyConfig, Which, egress, nri,
};

const PINS: &str = "/sys/fs/bpf/eks-guard";
pub(super) const STATE: &str = "/var/lib/eks-guard/node";
const POLICIES: &str = "/etc/eks-guard/policies";
const RECORDS: &str = "/var/lib/eks-guard/records";
const AGENT_LABEL: &str = "eks-guard.dev/agent";
/// The kubelet (10250), its read-only port (10255) and health (10248), kube-proxy's health and metrics (10256, 10249), the
/// controller manager (10257), the cloud's (10258) and the scheduler (10259), by their defaults.
const KUBELET_PORTS: (u16, u16) = (10_248, 10_259);

/// Seconds between two rounds of trials.
const INTERVAL: RangeInclusive<u32> = 5..=86_400;
const DEFAULT_INTERVAL: u32 = 300;

/// Most entries of one list.
const MAX_ENTRIES: usize = 1_000;
/// NAT64 prefixes that the kernel programs take.
const MAX_NAT64: usize = 4;

/// Checks the document.
pub(super) fn check(
    file: &Arc<str>,
    document: &At<Document>,
    node_name: Option<&str>,
) -> Result<NodeConfig, Vec<DocumentError>> {
    let mut checker = Checker {
        file,
        errors: Vec::new(),
    };
    let config = match &document.value.spec {
        Some(spec) => checker.spec(spec, node_name),
        None => checker.missing(document.referenced, "spec", "spec: {upstream: …}"),
    };
    match config {
        Some(config) if checker.errors.is_empty() => Ok(config),
        Some(_) | None => {
            checker
                .errors
                .sort_by_key(|error| (error.origin.line, error.origin.column));
            Err(checker.errors)
        }
    }
}

/// Collects mistakes. A check that fails notes why and gives `None`.
pub(super) struct Checker<'a> {
    file: &'a Arc<str>,
    errors: Vec<DocumentError>,
}

impl Checker<'_> {
    pub(super) fn fail(&mut self, at: Location, message: impl Into<String>) {
        self.errors.push(DocumentError {
            origin: Origin::at(self.file, at),
            message: message.into(),
        });
    }

    fn missing<T>(&mut self, at: Location, field: &str, example: &str) -> Option<T> {
        self.fail(at, format!("`{field}` is missing; write `{example}`"));
        None
    }

    /// A text that must be there and not be empty.
    pub(super) fn required<'f>(
        &mut self,
        field: &'f Field<String>,
        at: Location,
        name: &str,
        example: &str,
    ) -> Option<&'f At<String>> {
        match field {
            Some(text) if text.value.is_empty() => {
                self.fail(text.referenced, format!("`{name}` is empty; write `{example}`"));
                None
            }
            Some(text) => Some(text),
            None => self.missing(at, name, example),
        }
    }

    fn spec(&mut self, spec: &At<Spec>, node_name: Option<&str>) -> Option<NodeConfig> {
        let fields = &spec.value;
        let node_name = match (&fields.node_name, node_name) {
            (None, Some(name)) if !name.is_empty() => Some(name.to_owned()),
            (field, _) => self
                .required(field, spec.referenced, "nodeName", "nodeName: my-node")
                .map(|name| name.value.clone()),
        };
        let upstream = match &fields.upstream {
            Some(upstream) => self.upstream(upstream),
            None => self.missing(
                spec.referenced,
                "upstream",
                "upstream: {kubeconfig: /path/of/kubeconfig}",
            ),
        };
        let (egress, agents) = egress::check(self, &fields.egress);
        let config = NodeConfig {
            node_name: node_name.unwrap_or_default(),
            cgroup_root: fields
                .cgroup_root
                .as_ref()
                .and_then(|path| self.path(path, "cgroupRoot")),
            pins: self.folder(&fields.pins, "pins", PINS),
            state: self.folder(&fields.state, "state", STATE),
            policies: self.policies(fields),
            records: self.folder(&fields.records, "records", RECORDS),
            upstream: upstream.clone().unwrap_or(UpstreamConfig::Kubeconfig {
                file: PathBuf::new(),
                context: None,
            }),
            api_servers: self.list(&fields.api_servers, Self::socket_address),
            other_clusters: self.list(&fields.other_clusters, Self::prefix),
            kubelet_ports: self.kubelet_ports(&fields.kubelet_ports),
            nat64_prefixes: self.nat64(&fields.nat64_prefixes),
            system_pods: self.list(&fields.system_pods, Self::system_pod),
            agent_label: self.label(&fields.agent_label),
            nri: nri::check(self, &fields.nri),
            egress,
            agents,
            verify: fields.verify.as_ref().and_then(|verify| self.verify(verify)),
            metrics: fields.metrics.as_ref().and_then(|metrics| self.metrics(metrics)),
        };
        upstream.map(|_| config)
    }

    fn verify(&mut self, verify: &At<Verify>) -> Option<VerifyConfig> {
        let fields = &verify.value;
        let probe = fields.probe.as_ref().map(|path| self.path(path, "probe"));
        let seconds = fields.interval_seconds.as_ref();
        let interval = seconds.map_or(DEFAULT_INTERVAL, |seconds| seconds.value);
        if !INTERVAL.contains(&interval) {
            let at = seconds.map_or(verify.referenced, |seconds| seconds.referenced);
            let (least, most) = (INTERVAL.start(), INTERVAL.end());
            self.fail(
                at,
                format!("`intervalSeconds` is {interval}; write {least} to {most}"),
            );
        }
        Some(VerifyConfig {
            interval: Duration::from_secs(interval.into()),
            probe: probe.flatten(),
        })
    }

    fn metrics(&mut self, metrics: &At<Metrics>) -> Option<SocketAddr> {
        let listen = self.required(
            &metrics.value.listen,
            metrics.referenced,
            "listen",
            "listen: 127.0.0.1:9473",
        );
        match listen?.value.parse::<SocketAddr>() {
            Ok(address) => Some(address),
            Err(_) => {
                let message = format!(
                    "{:?} is no address with a port; write 127.0.0.1:9473",
                    listen?.value
                );
                self.fail(listen?.referenced, message);
                None
            }
        }
    }

    fn upstream(&mut self, upstream: &At<Upstream>) -> Option<UpstreamConfig> {
        let at = upstream.referenced;
        match (&upstream.value.kubeconfig, &upstream.value.service_account) {
            (Some(file), None) => Some(UpstreamConfig::Kubeconfig {
                file: self.path(file, "kubeconfig")?,
                context: upstream
                    .value
                    .context
                    .as_ref()
                    .map(|context| context.value.clone()),
            }),
            (None, Some(account)) => {
                let (fields, at) = (&account.value, account.referenced);
                let server = self.required(&fields.server, at, "server", "server: https://10.0.0.1:443");
                let token = self.required(&fields.token_file, at, "tokenFile", "tokenFile: /path/of/token");
                let authority = self.required(
                    &fields.certificate_authority,
                    at,
                    "certificateAuthority",
                    "certificateAuthority: /path/of/ca.crt",
                );
                let token = token.and_then(|path| self.path(path, "tokenFile"));
                let authority = authority.and_then(|path| self.path(path, "certificateAuthority"));
                Some(UpstreamConfig::ServiceAccount {
                    server: server?.value.clone(),
                    token_file: token?,
                    certificate_authority: authority?,
                })
            }
            (None, None) => self.missing(
                at,
                "kubeconfig",
                "kubeconfig: /path/of/kubeconfig, or serviceAccount: {…}",
            ),
            (Some(_), Some(account)) => {
                let message = "`kubeconfig` and `serviceAccount` exclude each other; remove one";
                self.fail(account.referenced, message);
                None
            }
        }
    }

    fn policies(&mut self, fields: &Spec) -> PolicySource {
        let folder = PolicySource::Folder(self.folder(&fields.policies, "policies", POLICIES));
        let Some(source) = &fields.policy_source else {
            return folder;
        };
        match (source.value.as_str(), &fields.policies) {
            ("folder", _) => folder,
            ("cluster", None) => PolicySource::Cluster,
            ("cluster", Some(policies)) => {
                let message =
                    "with `policySource: cluster` there is no folder of policies; remove `policies`";
                self.fail(policies.referenced, message);
                folder
            }
            (other, _) => {
                let message = format!("unknown policySource {other:?}; write `folder` or `cluster`");
                self.fail(source.referenced, message);
                folder
            }
        }
    }

    fn folder(&mut self, field: &Field<String>, name: &str, default: &str) -> PathBuf {
        let given = field.as_ref().and_then(|path| self.path(path, name));
        given.unwrap_or_else(|| PathBuf::from(default))
    }

    pub(super) fn path(&mut self, path: &At<String>, name: &str) -> Option<PathBuf> {
        let checked = PathBuf::from(&path.value);
        if checked.is_absolute() {
            return Some(checked);
        }
        let message = format!("{name} {:?} is no absolute path; begin it with `/`", path.value);
        self.fail(path.referenced, message);
        None
    }

    fn list<W, T>(
        &mut self,
        field: &Field<Vec<At<W>>>,
        check: impl Fn(&mut Self, &At<W>) -> Option<T>,
    ) -> Vec<T> {
        let Some(list) = field else {
            return Vec::new();
        };
        if list.value.len() > MAX_ENTRIES {
            self.fail(list.referenced, format!("more than {MAX_ENTRIES} entries"));
            return Vec::new();
        }
        list.value.iter().filter_map(|entry| check(self, entry)).collect()
    }

    fn socket_address(&mut self, text: &At<String>) -> Option<SocketAddr> {
        match text.value.parse::<SocketAddr>() {
            Ok(address) if is_one_machine(address.ip()) && address.port() != 0 => Some(address),
            Ok(_) | Err(_) => {
                let message = format!(
                    "{:?} is no address with a port; write 10.0.0.1:443 or \"[fd00::1]:443\"",
                    text.value
                );
                self.fail(text.referenced, message);
                None
            }
        }
    }

    /// `10.0.0.0/8`, or an address alone.
    pub(super) fn prefix(&mut self, text: &At<String>) -> Option<Prefix> {
        match parse_prefix(&text.value) {
            Ok(prefix) => Some(prefix),
            Err(cause) => {
                self.fail(text.referenced, format!("{:?} {cause}", text.value));
                None
            }
        }
    }

    /// `10248-10259`, or one port.
    fn kubelet_ports(&mut self, field: &Field<String>) -> (u16, u16) {
        let Some(text) = field else {
            return KUBELET_PORTS;
        };
        let (first, last) = text.value.split_once('-').unwrap_or((&text.value, &text.value));
        match (first.parse::<u16>(), last.parse::<u16>()) {
            (Ok(first), Ok(last)) if 0 < first && first <= last => (first, last),
            (_, _) => {
                let message = format!("{:?} is no range of ports; write 10248-10259", text.value);
                self.fail(text.referenced, message);
                KUBELET_PORTS
            }
        }
    }

    fn nat64(&mut self, field: &Field<Vec<At<String>>>) -> Vec<Ipv6Addr> {
        let prefixes = self.list(field, |checker, text| {
            let prefix = checker.prefix(text)?;
            match (prefix.address, prefix.length) {
                (IpAddr::V6(address), 96) => Some(address),
                (IpAddr::V6(_) | IpAddr::V4(_), _) => {
                    let message = format!("{:?} is no IPv6 prefix of 96 bits", text.value);
                    checker.fail(text.referenced, message);
                    None
                }
            }
        });
        if let Some(list) = field.as_ref().filter(|_| prefixes.len() > MAX_NAT64) {
            self.fail(list.referenced, format!("more than {MAX_NAT64} prefixes"));
        }
        prefixes
    }

    fn system_pod(&mut self, pod: &At<WireSystemPod>) -> Option<SystemPod> {
        let namespace = self.required(
            &pod.value.namespace,
            pod.referenced,
            "namespace",
            "namespace: kube-system",
        );
        let which = match (&pod.value.service_account, &pod.value.name) {
            (Some(account), None) if !account.value.is_empty() => {
                Which::ServiceAccount(account.value.clone())
            }
            (None, Some(name)) if !name.value.is_empty() => Which::Name(name.value.clone()),
            (_, _) => {
                let message = "write either `serviceAccount` or `name`: a whole namespace is never exempt";
                self.fail(pod.referenced, message);
                return None;
            }
        };
        Some(SystemPod {
            namespace: namespace?.value.clone(),
            which,
        })
    }

    fn label(&mut self, field: &Field<String>) -> String {
        let Some(label) = field else {
            return AGENT_LABEL.to_owned();
        };
        let inside = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        let plain = label.value.len() <= 317 && label.value.chars().all(inside);
        if label.value.is_empty() || !plain || label.value.matches('/').count() > 1 {
            let message = format!(
                "{:?} is no label key; write `{AGENT_LABEL}` or the like",
                label.value
            );
            self.fail(label.referenced, message);
        }
        label.value.clone()
    }
}

fn is_one_machine(address: IpAddr) -> bool {
    !address.is_unspecified() && !address.is_multicast()
}

fn parse_prefix(text: &str) -> Result<Prefix, &'static str> {
    const FORM: &str = "is no address or prefix; write 10.0.0.0/16, 10.0.0.1 or \"fd00::/64\"";
    let (address, length) = text.split_once('/').map_or((text, None), |(a, l)| (a, Some(l)));
    let address: IpAddr = address.parse().map_err(|_| FORM)?;
    let whole = if address.is_ipv4() { 32 } else { 128 };
    let length: u8 = match length {
        None => whole,
        Some(length) => length.parse().map_err(|_| FORM)?,
    };
    if length > whole {
        return Err("has a longer prefix than the address has bits");
    }
    if length == 0 {
        return Err("is every address; `mode: blockList` says that");
    }
    let masked: IpAddr = match address {
        IpAddr::V4(v4) => std::net::Ipv4Addr::from_bits(v4.to_bits() & (u32::MAX << (32 - length))).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << (128 - length))).into(),
    };
    if masked != address {
        return Err("has bits behind its prefix; write the prefix's own address");
    }
    Ok(Prefix { address, length })
}
