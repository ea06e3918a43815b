//! The agent's side: a certificate for the API server's own names, h2 or HTTP/1.1, no client certificates, no early data.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::ServerName;

use crate::tls::ca::{Leaf, RunCa};
use crate::tls::{TlsError, alpn, provider};
use crate::upstream::Endpoint;

/// Names under which pods and people reach an API server, whatever the kubeconfig says.
const COMMON_NAMES: [&str; 5] = [
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "localhost",
];

/// The DNS names and addresses an agent may call the API server by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerNames {
    /// DNS names, lower case.
    pub names: Vec<String>,
    /// Addresses.
    pub addresses: Vec<IpAddr>,
}

impl ServerNames {
    /// The names of this endpoint: its host, its certificate name, its addresses and the in-cluster names.
    #[must_use]
    pub fn of(endpoint: &Endpoint) -> Self {
        let mut names: BTreeSet<String> = COMMON_NAMES.iter().map(|&name| name.to_owned()).collect();
        let mut addresses: BTreeSet<IpAddr> = endpoint.addresses.iter().map(|address| address.ip()).collect();
        let host = host_of(&endpoint.authority);
        match host.parse() {
            Ok(address) => _ = addresses.insert(address),
            Err(_) => _ = names.insert(host.to_ascii_lowercase()),
        }
        match &endpoint.server_name {
            ServerName::DnsName(name) => _ = names.insert(name.as_ref().to_ascii_lowercase()),
            ServerName::IpAddress(address) => _ = addresses.insert((*address).into()),
            _ => {}
        }
        Self {
            names: names.into_iter().collect(),
            addresses: addresses.into_iter().collect(),
        }
    }

    /// Whether a `Host` or `:authority` value, port included, names the API server.
    #[must_use]
    pub fn contains(&self, authority: &str) -> bool {
        let host = host_of(authority);
        match host.parse::<IpAddr>() {
            Ok(address) => self.addresses.contains(&address),
            Err(_) => {
                let host = host.strip_suffix('.').unwrap_or(host);
                self.names.iter().any(|name| name.eq_ignore_ascii_case(host))
            }
        }
    }
}

/// The host of `host`, `host:port`, `[v6]` or `[v6]:port`; empty when the port is not a number.
#[must_use]
pub fn host_of(authority: &str) -> &str {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']').unwrap_or(("", "")),
        None => match authority.split_once(':') {
            Some((host, _)) => (host, &authority[host.len()..]),
            None => (authority, ""),
        },
    };
    let port_is_fine = port.is_empty()
        || port
            .strip_prefix(':')
            .is_some_and(|port| port.parse::<u16>().is_ok());
    if port_is_fine { host } else { "" }
}

/// The configuration of the listener: a new leaf for the endpoint's names, signed by the run's authority.
///
/// # Errors
/// A name of the endpoint cannot stand in a certificate, or the provider refuses the key.
pub fn server_config(ca: &RunCa, endpoint: &Endpoint) -> Result<Arc<ServerConfig>, TlsError> {
    let ServerNames { names, addresses } = ServerNames::of(endpoint);
    let leaf = ca.leaf(&names, &addresses)?.certified()?;
    serving(Arc::new(SingleCertAndKey::from(leaf)))
}

/// A configuration that shows whatever certificate is the present one.
///
/// # Errors
/// The provider is of no use.
pub fn following(present: &Arc<PresentLeaf>) -> Result<Arc<ServerConfig>, TlsError> {
    serving(Arc::clone(present) as _)
}

/// The certificate that agents see now; none before the first, and then no handshake succeeds.
#[derive(Debug, Default)]
pub struct PresentLeaf {
    leaf: ArcSwapOption<CertifiedKey>,
}

impl PresentLeaf {
    /// Shows this one from now on.
    ///
    /// # Errors
    /// The provider does not take its key; the one before stays.
    pub fn set(&self, leaf: &Leaf) -> Result<(), TlsError> {
        self.leaf.store(Some(Arc::new(leaf.certified()?)));
        Ok(())
    }
}

impl ResolvesServerCert for PresentLeaf {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.leaf.load_full()
    }
}

/// Makes the certificate that agents see, and another when the API server has other names.
pub struct Leaves {
    ca: RunCa,
    names: ServerNames,
    leaf: Leaf,
}

impl fmt::Debug for Leaves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaves")
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

impl Leaves {
    /// A certificate for the endpoint's names.
    ///
    /// # Errors
    /// A name cannot stand in a certificate, or the provider refuses the key.
    pub fn new(ca: RunCa, endpoint: &Endpoint) -> Result<Self, TlsError> {
        let names = ServerNames::of(endpoint);
        let leaf = ca.leaf(&names.names, &names.addresses)?;
        Ok(Self { ca, names, leaf })
    }

    /// The present one.
    #[must_use]
    pub fn leaf(&self) -> &Leaf {
        &self.leaf
    }

    /// Adds addresses; those it has stay. Another certificate, if there had to be one.
    ///
    /// # Errors
    /// As [`Leaves::new`]; the certificate before stays.
    pub fn add(&mut self, addresses: impl IntoIterator<Item = IpAddr>) -> Result<Option<&Leaf>, TlsError> {
        let mut wanted: BTreeSet<IpAddr> = self.names.addresses.iter().copied().collect();
        let before = wanted.len();
        wanted.extend(addresses);
        if wanted.len() == before {
            return Ok(None);
        }
        let addresses: Vec<IpAddr> = wanted.into_iter().collect();
        self.leaf = self.ca.leaf(&self.names.names, &addresses)?;
        self.names.addresses = addresses;
        Ok(Some(&self.leaf))
    }
}

fn serving(certificates: Arc<dyn ResolvesServerCert>) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = alpn();
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::{Leaves, PresentLeaf, ServerNames, host_of};
    use crate::tls::ca::RunCa;
    use crate::upstream::Endpoint;

    #[test]
    fn host_is_what_stands_before_a_valid_port() {
        let table = [
            ("kubernetes", "kubernetes"),
            ("kubernetes:443", "kubernetes"),
            ("10.0.0.1:6443", "10.0.0.1"),
            ("[::1]:443", "::1"),
            ("[::1]", "::1"),
            ("kubernetes:https", ""),
            ("kubernetes:443:1", ""),
            ("::1", ""),
            ("[::1", ""),
            ("", ""),
        ];
        for (authority, host) in table {
            assert_eq!(host_of(authority), host, "{authority}");
        }
    }

    #[test]
    fn names_are_compared_as_clients_write_them() {
        let names = ServerNames {
            names: vec!["kubernetes.default.svc".to_owned()],
            addresses: vec![
                "10.0.0.1".parse().expect("an address"),
                "fd00::1".parse().expect("an address"),
            ],
        };
        for known in [
            "kubernetes.default.svc",
            "Kubernetes.Default.SVC.:443",
            "10.0.0.1:6443",
            "[fd00::1]:443",
            "[FD00:0::1]",
        ] {
            assert!(names.contains(known), "{known}");
        }
        for unknown in [
            "",
            "default.svc",
            "kubernetes.default.svc.evil",
            "10.0.0.2",
            "10.0.0.1:x",
            "user@10.0.0.1",
        ] {
            assert!(!names.contains(unknown), "{unknown}");
        }
    }

    #[test]
    fn a_certificate_gets_the_addresses_that_come_later() {
        let ca = RunCa::generate().expect("the provider makes keys");
        let kept = RunCa::from_key_pem(&ca.key_pem()).expect("its own key");
        let endpoint = Endpoint {
            url: "https://192.0.2.1:443".to_owned(),
            authority: "192.0.2.1:443".to_owned(),
            path_prefix: String::new(),
            addresses: vec!["192.0.2.1:443".parse().expect("an address")],
            server_name: "192.0.2.1".try_into().expect("a name"),
            roots: Vec::new(),
        };
        let mut leaves = Leaves::new(kept, &endpoint).expect("the names are fine");
        let first = leaves.leaf().clone();
        let known: IpAddr = "192.0.2.1".parse().expect("an address");
        assert_eq!(leaves.add([known]).expect("nothing to do"), None);
        let service: IpAddr = "10.96.0.1".parse().expect("an address");
        let other = leaves
            .add([service])
            .expect("an address")
            .expect("another")
            .clone();
        assert!(other != first && *leaves.leaf() == other);
        assert_eq!(leaves.names.addresses, [service, known]);
        let present = PresentLeaf::default();
        present.set(&other).expect("its key is fine");
        assert!(present.leaf.load().is_some());
    }
}
