//! The cluster entry as an endpoint: https only, the cluster's own CA only, every address the name resolves to.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Uri;
use kube_client::config::Cluster;
use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};

use crate::upstream::kubeconfig::{Chosen, non_empty, read_file};
use crate::upstream::{Endpoint, UpstreamError};

/// Where the server of the chosen cluster is.
struct Server {
    url: String,
    authority: String,
    path_prefix: String,
    host: String,
    port: u16,
}

/// Checks the cluster entry and resolves its server.
pub(super) fn resolve(chosen: &Chosen) -> Result<Endpoint, UpstreamError> {
    let complaint = |detail: String| UpstreamError::Cluster {
        cluster: chosen.cluster_name.clone(),
        detail,
    };
    let cluster = &chosen.cluster;
    refuse_options(cluster).map_err(complaint)?;
    let server = server(cluster).map_err(complaint)?;
    let name = non_empty(cluster.tls_server_name.as_deref()).unwrap_or(&server.host);
    let server_name = ServerName::try_from(name.to_owned()).map_err(|_| {
        complaint(format!(
            "{name:?} is not a name a certificate can carry: correct `tls-server-name` or `server`"
        ))
    })?;
    let roots = roots(chosen)?;
    Ok(Endpoint {
        addresses: addresses(&server)?,
        url: server.url,
        authority: server.authority,
        path_prefix: server.path_prefix,
        server_name,
        roots,
    })
}

/// What weakens or reroutes the connection is refused, never ignored.
fn refuse_options(cluster: &Cluster) -> Result<(), String> {
    if cluster.insecure_skip_tls_verify == Some(true) {
        return Err("`insecure-skip-tls-verify` is set, and the guard never talks to a server it cannot verify: remove \
                    it and set `certificate-authority-data`"
            .to_owned());
    }
    if non_empty(cluster.proxy_url.as_deref()).is_some() {
        return Err("`proxy-url` is not supported: the guard connects to the API server itself; remove it, or name an \
                    address that can be reached directly"
            .to_owned());
    }
    Ok(())
}

fn server(cluster: &Cluster) -> Result<Server, String> {
    let text =
        non_empty(cluster.server.as_deref()).ok_or("it has no `server`: set it to https://HOST[:PORT]")?;
    // The text itself may carry a password and is not repeated.
    let uri: Uri = text
        .parse()
        .map_err(|_| "its `server` is not a URL: write https://HOST[:PORT][/PATH]")?;
    match uri.scheme_str() {
        Some("https") => {}
        Some("http") => {
            return Err(
                "its `server` is plain http, which shows the credential to anybody: use https".to_owned(),
            );
        }
        _ => return Err("its `server` must start with https://".to_owned()),
    }
    let authority = uri
        .authority()
        .ok_or("its `server` has no host: write https://HOST[:PORT]")?
        .as_str();
    if authority.contains('@') {
        return Err(
            "its `server` carries a user name or password: remove it and use a `users` entry".to_owned(),
        );
    }
    let host = authority_host(&uri)?;
    // `Uri` takes a port it cannot read as none.
    let port = match authority.rsplit_once(':') {
        Some((_, digits)) if !digits.contains(']') => digits
            .parse()
            .map_err(|_| "the port of its `server` is not a number from 1 to 65535".to_owned())?,
        _ => 443,
    };
    if port == 0 {
        return Err("the port of its `server` is not a number from 1 to 65535".to_owned());
    }
    if uri.query().is_some() {
        return Err("its `server` has a query: remove everything from the `?` on".to_owned());
    }
    let path_prefix = uri.path().trim_end_matches('/').to_owned();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-._~:".contains(&b);
    let dots = path_prefix
        .split('/')
        .skip(1)
        .any(|part| matches!(part, "" | "." | ".."));
    if !path_prefix.bytes().all(plain) || dots {
        return Err("the path of its `server` has unusual characters or parts: write it plainly".to_owned());
    }
    let url = format!("https://{authority}{path_prefix}");
    Ok(Server {
        url,
        authority: authority.to_owned(),
        path_prefix,
        host,
        port,
    })
}

/// The host without the brackets of an IPv6 address.
fn authority_host(uri: &Uri) -> Result<String, String> {
    let host = uri.host().unwrap_or_default();
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host);
    if bare.is_empty() {
        return Err("its `server` has no host: write https://HOST[:PORT]".to_owned());
    }
    if let Ok(address) = bare.parse::<IpAddr>()
        && (address.is_unspecified() || address.is_multicast())
    {
        return Err(format!(
            "its `server` {address} is not an address of one machine: name the API server's own"
        ));
    }
    Ok(bare.to_owned())
}

fn addresses(server: &Server) -> Result<Vec<SocketAddr>, UpstreamError> {
    let unresolved = |source| UpstreamError::Resolve {
        host: server.host.clone(),
        source,
    };
    let mut found: Vec<SocketAddr> = (server.host.as_str(), server.port)
        .to_socket_addrs()
        .map_err(|error| unresolved(Some(error)))?
        .collect();
    let mut seen = std::collections::HashSet::new();
    found.retain(|address| seen.insert(*address));
    if found.is_empty() {
        Err(unresolved(None))
    } else {
        Ok(found)
    }
}

fn roots(chosen: &Chosen) -> Result<Vec<CertificateDer<'static>>, UpstreamError> {
    let complaint = |detail: String| UpstreamError::Cluster {
        cluster: chosen.cluster_name.clone(),
        detail,
    };
    let cluster = &chosen.cluster;
    let (place, pem) = if let Some(data) = non_empty(cluster.certificate_authority_data.as_deref()) {
        let pem = STANDARD
            .decode(data.trim())
            .map_err(|_| complaint("`certificate-authority-data` is not base64: copy it again".to_owned()))?;
        ("`certificate-authority-data`".to_owned(), pem)
    } else if let Some(file) = non_empty(cluster.certificate_authority.as_deref()) {
        let bytes = read_file("certificate authority", Path::new(file))?;
        (file.to_owned(), bytes.to_vec())
    } else {
        return Err(complaint(
            "it names no certificate authority, and the guard trusts no other (the system's are not used): set \
             `certificate-authority` or `certificate-authority-data`"
                .to_owned(),
        ));
    };
    let bad = || {
        complaint(format!(
            "{place} holds no valid PEM certificate: copy the cluster's CA there again"
        ))
    };
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|_| bad())?;
    let mut store = RootCertStore::empty();
    for certificate in &certificates {
        store.add(certificate.clone()).map_err(|_| bad())?;
    }
    if certificates.is_empty() {
        Err(bad())
    } else {
        Ok(certificates)
    }
}
