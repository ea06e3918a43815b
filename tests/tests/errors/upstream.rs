//! An API server that is away, somebody else, or does not take the credential. Exit code 4.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use anyhow::Result;
use rig::kubeconfig::{Credential, Kubeconfig};
use rig::pki::Authority;

use crate::attempt::{Attempt, cluster};

fn kubeconfig() -> Result<Kubeconfig> {
    let cluster = cluster()?;
    let operator = cluster.upstream_identity("errors-operator")?;
    Ok(cluster.kubeconfig(Credential::ClientCertificate(operator)))
}

fn plugin(script: &str) -> Result<String> {
    let credential = Credential::Exec {
        command: "/bin/sh".into(),
        args: vec!["-c".to_owned(), script.to_owned()],
    };
    Ok(cluster()?.kubeconfig(credential).render())
}

#[test]
fn nobody_listens() -> Result<()> {
    let mut config = kubeconfig()?;
    let free = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    config.server = format!("https://{free}");
    Attempt::with_kubeconfig(&config.render())?.is_refused(
        4,
        &[
            "cannot reach",
            &config.server,
            "check that it runs",
            "Connection refused",
        ],
    )
}

#[test]
fn the_name_does_not_resolve() -> Result<()> {
    let mut config = kubeconfig()?;
    config.server = "https://api.invalid:6443".to_owned();
    Attempt::with_kubeconfig(&config.render())?.is_refused(4, &["cannot resolve", "api.invalid", "DNS"])
}

#[test]
fn another_authority_signs_the_server() -> Result<()> {
    let mut config = kubeconfig()?;
    config.ca = Authority::generate("somebody else")?.pem();
    Attempt::with_kubeconfig(&config.render())?.is_refused(
        4,
        &[
            "cannot trust",
            &config.server,
            "certificate-authority",
            "UnknownIssuer",
        ],
    )
}

#[test]
fn something_else_listens() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut config = kubeconfig()?;
    config.server = format!("https://{}", listener.local_addr()?);
    thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            // Whoever calls may be gone already.
            let _greeting = socket
                .read(&mut [0; 64])
                .and_then(|_| socket.write_all(b"220 mail.example.com\r\n"));
        }
    });
    Attempt::with_kubeconfig(&config.render())?.is_refused(4, &["cannot", &config.server, "kubeconfig"])
}

#[test]
fn the_credential_is_refused() -> Result<()> {
    let config = cluster()?.kubeconfig(Credential::Token("no-such-token".to_owned()));
    Attempt::with_kubeconfig(&config.render())?.is_refused(4, &["cannot log in", "401", "log in again"])
}

#[test]
fn the_client_certificate_has_expired() -> Result<()> {
    let cluster = cluster()?;
    let expired = cluster
        .authority()
        .expired_client("errors-expired", "system:masters")?;
    let config = cluster.kubeconfig(Credential::ClientCertificate(expired));
    Attempt::with_kubeconfig(&config.render())?.is_refused(4, &["cannot log in", "401", "log in again"])
}

#[test]
fn the_credential_plugin_fails() -> Result<()> {
    let expired = "echo '{\"apiVersion\":\"client.authentication.k8s.io/v1\",\"kind\":\"ExecCredential\",\
                   \"status\":{\"token\":\"t\",\"expirationTimestamp\":\"2020-01-01T00:00:00Z\"}}'";
    let table = [
        (
            "echo SSO session has expired >&2; exit 254",
            "SSO session has expired",
        ),
        ("echo hello", "not an ExecCredential"),
        (expired, "already expired"),
        ("kill -9 $$", "signal: 9"),
    ];
    for (script, cause) in table {
        Attempt::with_kubeconfig(&plugin(script)?)?.is_refused(
            4,
            &[
                "cannot log in",
                "log in again",
                "credential plugin /bin/sh",
                cause,
            ],
        )?;
    }
    Ok(())
}
