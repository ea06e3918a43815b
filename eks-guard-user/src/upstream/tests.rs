//! Kubeconfigs of all kinds: what is found, merged and chosen; `refusals`, and what the `agent` sees of it.

mod agent;
mod refusals;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls_pki_types::ServerName;

use crate::upstream::testing::{Home, base64, kubeconfig, pair, text};
use crate::upstream::{Credential, KubeconfigOptions, Upstream, load};

fn list(paths: &[&std::path::Path]) -> Option<OsString> {
    Some(std::env::join_paths(paths).unwrap())
}

async fn bearer(upstream: &Upstream) -> String {
    match upstream.credentials.credential().await.unwrap() {
        Credential::Bearer(value) => {
            assert!(value.is_sensitive());
            value
                .to_str()
                .unwrap()
                .strip_prefix("Bearer ")
                .unwrap()
                .to_owned()
        }
        Credential::ClientCertificate(_) => panic!("a token was expected"),
    }
}

#[tokio::test]
async fn reads_the_endpoint_as_it_stands() {
    let home = Home::new();
    let ca = base64(&home.ca.certificate);
    let rows = [
        (
            "https://127.0.0.1:6443",
            "",
            "https://127.0.0.1:6443",
            "127.0.0.1:6443",
            "",
            "127.0.0.1",
            "127.0.0.1:6443",
        ),
        (
            "https://127.0.0.1",
            "",
            "https://127.0.0.1",
            "127.0.0.1",
            "",
            "127.0.0.1",
            "127.0.0.1:443",
        ),
        (
            "https://[::1]:6443/",
            "",
            "https://[::1]:6443",
            "[::1]:6443",
            "",
            "::1",
            "[::1]:6443",
        ),
        (
            "https://127.0.0.1:1/k8s/clusters/c-1/",
            "",
            "https://127.0.0.1:1/k8s/clusters/c-1",
            "127.0.0.1:1",
            "/k8s/clusters/c-1",
            "127.0.0.1",
            "127.0.0.1:1",
        ),
        (
            "https://127.0.0.1:6443",
            "api.example",
            "https://127.0.0.1:6443",
            "127.0.0.1:6443",
            "",
            "api.example",
            "127.0.0.1:6443",
        ),
    ];
    for (server, name, url, authority, prefix, server_name, address) in rows {
        let name = if name.is_empty() {
            String::new()
        } else {
            format!("\ntls-server-name: {name}")
        };
        let cluster = format!("server: {server}\ncertificate-authority-data: {ca}{name}");
        let endpoint = home.load(&cluster, "token: t0ken").unwrap().endpoint;
        assert_eq!(endpoint.url, url);
        assert_eq!(endpoint.authority, authority);
        assert_eq!(endpoint.path_prefix, prefix);
        assert_eq!(endpoint.server_name, ServerName::try_from(server_name).unwrap());
        assert_eq!(endpoint.addresses, [address.parse::<SocketAddr>().unwrap()]);
        assert_eq!(endpoint.roots.len(), 1);
    }
}

#[test]
fn a_name_gives_every_address_it_resolves_to() {
    let home = Home::new();
    let cluster = home.cluster().replace("127.0.0.1", "localhost");
    let addresses = home.load(&cluster, "token: t").unwrap().endpoint.addresses;
    assert!(
        !addresses.is_empty()
            && addresses
                .iter()
                .all(|at| at.ip().is_loopback() && at.port() == 6443)
    );
}

#[tokio::test]
async fn merges_as_kubectl_does() {
    let home = Home::new();
    let (cluster, other) = (home.cluster(), home.cluster().replace("6443", "7443"));
    // First one with a value wins; an empty current-context is none; entries are taken whole, never field by field.
    let a = home.write(
        "a",
        &kubeconfig("dev", &cluster, "token: from-a").replace("current-context: dev", "current-context: ''"),
    );
    let b = home.write(
        "b",
        &kubeconfig("dev", &other, "token: from-b").replace("current-context: dev", "current-context: prod"),
    );
    let c = home.write("c", &kubeconfig("prod", &other, "token: from-c"));
    let (gone, empty) = (home.path("gone"), home.write("empty", ""));
    let env = list(&[&gone, &a, &empty, &b, &c, &a]);
    let options = KubeconfigOptions {
        kubeconfig_env: env,
        ..home.options()
    };

    let upstream = load(&options).unwrap();
    assert_eq!(upstream.kubeconfig.context(), "prod");
    assert_eq!(bearer(&upstream).await, "from-c");
    assert_eq!(upstream.kubeconfig.covered, [a.clone(), empty, b, c]);

    let dev = load(&KubeconfigOptions {
        context: Some("dev".to_owned()),
        ..options.clone()
    })
    .unwrap();
    assert_eq!(bearer(&dev).await, "from-a");
    assert_eq!(dev.endpoint.url, "https://127.0.0.1:6443");

    // A broken file of the list is an error, and --kubeconfig leaves the list aside.
    let broken = home.write("broken", "users: 1");
    let with_broken = KubeconfigOptions {
        kubeconfig_env: list(&[&a, &broken]),
        ..options.clone()
    };
    assert!(text(load(&with_broken)).contains("broken is not a valid kubeconfig"));
    let file = KubeconfigOptions {
        file: Some(a),
        context: Some("dev".to_owned()),
        ..with_broken
    };
    assert_eq!(bearer(&load(&file).unwrap()).await, "from-a");

    // An empty list is no list.
    home.write(".kube/config", &kubeconfig("home", &cluster, "token: from-home"));
    let empty_list = KubeconfigOptions {
        kubeconfig_env: Some(OsString::from("::")),
        ..options
    };
    assert_eq!(bearer(&load(&empty_list).unwrap()).await, "from-home");
}

#[tokio::test]
async fn takes_what_the_api_server_would_look_at_first() {
    let home = Home::new();
    let client = pair("client");
    home.write(".kube/crt", &client.certificate);
    home.write(".kube/key", &client.key);
    home.write(".kube/token", " from-file\n");
    let data = format!(
        "client-certificate-data: {}\nclient-key-data: {}\ntoken: t",
        base64(&client.certificate),
        base64(&client.key)
    );
    for user in [
        data.as_str(),
        "client-certificate: crt\nclient-key: key\ntokenFile: token",
    ] {
        let upstream = home.load(&home.cluster(), user).unwrap();
        let Credential::ClientCertificate(first) = upstream.credentials.credential().await.unwrap() else {
            panic!()
        };
        let Credential::ClientCertificate(second) = upstream.credentials.credential().await.unwrap() else {
            panic!()
        };
        assert!(
            Arc::ptr_eq(&first, &second),
            "an unchanged certificate must not mean new connections"
        );
    }
    let file = home.load(&home.cluster(), "tokenFile: token").unwrap();
    assert_eq!(bearer(&file).await, "from-file");
    let both = home
        .load(&home.cluster(), "token: inline\ntokenFile: token")
        .unwrap();
    assert_eq!(bearer(&both).await, "inline");
}
