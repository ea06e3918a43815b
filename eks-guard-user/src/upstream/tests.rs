//! Kubeconfigs of all kinds: what is found, merged, chosen, refused, and what the agent sees of it.

use std::ffi::OsString;
use std::fs::{self, Permissions, set_permissions};
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::Arc;

use kube_client::config::Kubeconfig;
use rustls_pki_types::ServerName;
use secrecy::ExposeSecret;

use crate::upstream::testing::{Home, base64, display, kubeconfig, pair, text};
use crate::upstream::{Credential, KubeconfigOptions, PLACEHOLDER_TOKEN, Upstream, load};

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

/// Lines of a cluster entry, `{ca}` for a good CA, and what the refusal must say.
const BAD_CLUSTERS: [(&str, &str); 19] = [
    ("server: http://127.0.0.1:8080\n{ca}", "plain http"),
    ("server: 127.0.0.1:6443\n{ca}", "must start with https://"),
    ("server: ''\n{ca}", "no `server`"),
    ("server: 'https://'\n{ca}", "not a URL"),
    (
        "server: https://u:hunter2@127.0.0.1\n{ca}",
        "user name or password",
    ),
    ("server: https://127.0.0.1:99999\n{ca}", "port of its `server`"),
    ("server: https://127.0.0.1:0\n{ca}", "port of its `server`"),
    ("server: https://127.0.0.1/?x=1\n{ca}", "has a query"),
    ("server: https://127.0.0.1/a/../b\n{ca}", "unusual characters"),
    ("server: https://127.0.0.1/a%2fb\n{ca}", "unusual characters"),
    (
        "server: https://0.0.0.0:6443\n{ca}",
        "not an address of one machine",
    ),
    (
        "server: https://127.0.0.1\ninsecure-skip-tls-verify: true\n{ca}",
        "a server it cannot verify",
    ),
    (
        "server: https://127.0.0.1\nproxy-url: http://127.0.0.1:1\n{ca}",
        "`proxy-url` is not supported",
    ),
    (
        "server: https://127.0.0.1\ntls-server-name: 'a b'\n{ca}",
        "not a name a certificate can carry",
    ),
    ("server: https://127.0.0.1", "names no certificate authority"),
    (
        "server: https://127.0.0.1\ncertificate-authority-data: '%%%'",
        "is not base64",
    ),
    (
        "server: https://127.0.0.1\ncertificate-authority-data: aGVsbG8=",
        "no valid PEM certificate",
    ),
    (
        "server: https://127.0.0.1\ncertificate-authority: gone.pem",
        "no such file",
    ),
    // A part of a name is at most 63 characters long, so that no resolver is asked.
    (
        "server: https://{long}\ntls-server-name: api\n{ca}",
        "cannot resolve the API server's name",
    ),
];

#[test]
fn refuses_clusters_with_cause_and_remedy() {
    let home = Home::new();
    let ca = format!("certificate-authority-data: {}", base64(&home.ca.certificate));
    for (cluster, expected) in BAD_CLUSTERS {
        let cluster = cluster.replace("{ca}", &ca).replace("{long}", &"a".repeat(70));
        let text = text(home.load(&cluster, "token: t0ken"));
        assert!(text.contains(expected), "{cluster}\n→ {text}");
        assert!(!text.contains('\n') && !text.contains("hunter2"), "{text}");
    }
}

/// Lines of a user entry, with PEM data for `{chain}`, `{key}` and `{foreign}`, and what the refusal must say.
const BAD_USERS: [(&str, &str); 25] = [
    ("{}", "it has no credential"),
    ("token: ''", "it has no credential"),
    ("token: 's3cret s3cret'", "characters that no token has"),
    ("tokenFile: gone", "no such file"),
    ("tokenFile: empty", "the token is empty"),
    ("tokenFile: two-lines", "characters that no token has"),
    ("tokenFile: /dev/zero", "not a regular file"),
    ("username: admin\npassword: s3cret", "not taken by API servers"),
    ("auth-provider: {name: gcp}", "was removed from Kubernetes"),
    ("token: s3cret\nas: root", "impersonation"),
    ("token: s3cret\nas-groups: [system:masters]", "impersonation"),
    ("client-certificate-data: {chain}", "no key"),
    ("client-key-data: {key}", "no certificate"),
    (
        "client-certificate-data: {chain}\nclient-key-data: {foreign}",
        "does not belong",
    ),
    (
        "client-certificate-data: {chain}\nclient-key-data: {chain}",
        "not an unencrypted PEM",
    ),
    (
        "client-certificate-data: {key}\nclient-key-data: {key}",
        "no PEM certificate",
    ),
    ("client-certificate-data: '%'\nclient-key-data: '%'", "not base64"),
    ("client-certificate: gone\nclient-key: gone", "no such file"),
    (
        "exec: {apiVersion: '{v1}alpha1', command: x}",
        "which Kubernetes removed",
    ),
    ("exec: {command: x}", "needs `apiVersion"),
    ("exec: {apiVersion: '{v1}'}", "no `command`"),
    (
        "exec: {apiVersion: '{v1}', command: x, interactiveMode: Always}",
        "never gives a plugin the terminal",
    ),
    (
        "exec: {apiVersion: '{v1}', command: no-such-plugin, installHint: \"brew\\ninstall it\"}",
        "install it (brew install it)",
    ),
    (
        "exec: {apiVersion: '{v1}', command: ./gone}",
        "not an executable file",
    ),
    (
        "exec: {apiVersion: '{v1}', command: sh, env: [{value: v}]}",
        "without a proper `name`",
    ),
];

#[test]
fn refuses_users_with_cause_and_remedy() {
    let home = Home::new();
    let client = pair("client");
    let (chain, key, foreign) = (
        base64(&client.certificate),
        base64(&client.key),
        base64(&pair("other").key),
    );
    home.write(".kube/empty", "");
    home.write(".kube/two-lines", "one\ntwo");
    for (user, expected) in BAD_USERS {
        let user = user
            .replace("{chain}", &chain)
            .replace("{key}", &key)
            .replace("{foreign}", &foreign);
        let text = text(home.load(
            &home.cluster(),
            &user.replace("{v1}", "client.authentication.k8s.io/v1"),
        ));
        assert!(text.contains(expected), "{user}\n→ {text}");
        assert!(!text.contains('\n') && !text.contains("s3cret"), "{text}");
    }
}

#[test]
fn refuses_files_with_cause_and_remedy() {
    let home = Home::new();
    let named = |name: &str| KubeconfigOptions {
        file: Some(home.path(name)),
        ..home.options()
    };
    let good = home.kubeconfig(&home.cluster(), "token: t");
    home.write("not-yaml", "users:\n- name: a\n  user: {token: [s3cret");
    home.write("wrong-shape", "users: s3cret");
    home.write("binary", "x");
    fs::write(home.path("binary"), [0xc3, 0x28]).unwrap();
    home.write("empty", "");
    home.write("no-current", &good.replace("current-context: dev\n", ""));
    home.write(
        "twice",
        &good.replace("users:", "users:\n- {name: dev-user, user: {token: s3cret}}"),
    );
    home.write(
        "no-cluster",
        &good.replace("cluster: dev-cluster", "cluster: other"),
    );
    home.write("no-user", &good.replace("user: dev-user", "user: other"));
    home.write("nobody", &good.replace("    user: dev-user\n", ""));
    home.write("huge", &format!("{good}# {}", "x".repeat(5 << 20)));
    fs::create_dir(home.path("folder")).unwrap();
    let rows = [
        ("gone", "no such file"),
        ("folder", "not a regular file"),
        ("huge", "larger than 4 MiB"),
        ("not-yaml", "is not a valid kubeconfig, line "),
        ("wrong-shape", "is not a valid kubeconfig, line 1"),
        ("binary", "not text in UTF-8"),
        ("empty", "it holds no contexts"),
        (
            "no-current",
            "no `current-context` is set; pass --context with one of \"dev\"",
        ),
        ("twice", "\"dev-user\" stands twice under `users`"),
        ("no-cluster", "its cluster \"other\" is not in the kubeconfig"),
        ("no-user", "its user \"other\" is not in the kubeconfig"),
        ("nobody", "names no user"),
    ];
    for (name, expected) in rows {
        let text = text(load(&named(name)));
        assert!(text.contains(expected), "{name} → {text}");
        assert!(!text.contains('\n') && !text.contains("s3cret"), "{text}");
    }
    let none = text(load(&home.options()));
    assert!(
        none.contains("no kubeconfig found") && none.contains(".kube/config"),
        "{none}"
    );
}

#[test]
fn an_unknown_context_lists_those_there_are() {
    let home = Home::new();
    home.write(".kube/config", &home.kubeconfig(&home.cluster(), "token: t"));
    let text = text(load(&KubeconfigOptions {
        context: Some("prod".to_owned()),
        ..home.options()
    }));
    let file = display(&home.path(".kube/config"));
    assert_eq!(
        text,
        format!("no context \"prod\" in {file}: pass --context with one of \"dev\"")
    );
}

#[test]
fn a_pipe_is_refused_and_not_waited_for() {
    let home = Home::new();
    let pipe = home.path("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(
        text(load(&KubeconfigOptions {
            file: Some(pipe),
            ..home.options()
        }))
        .contains("not a regular file")
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

#[test]
fn debug_shows_no_credential() {
    let home = Home::new();
    let upstream = home.load(&home.cluster(), "token: s3cret").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let credential = runtime.block_on(upstream.credentials.credential()).unwrap();
    let shown = format!("{credential:?} {:?} {:?}", upstream.endpoint, upstream.kubeconfig);
    assert!(!shown.contains("s3cret"), "{shown}");
}

#[test]
fn the_agent_sees_the_chosen_context_and_no_credential() {
    let home = Home::new();
    let client = pair("client");
    let cluster = format!("{}\ntls-server-name: api.example", home.cluster());
    let user = format!(
        "client-certificate-data: {}\nclient-key-data: {}",
        base64(&client.certificate),
        base64(&client.key)
    );
    home.write(".kube/config", &home.kubeconfig(&cluster, &user));
    let upstream = load(&home.options()).unwrap();

    let rendered = upstream.kubeconfig.render("-----BEGIN CERTIFICATE-----\nguard\n");
    assert!(
        !rendered.contains(&base64(&client.key)) && !rendered.contains("exec"),
        "{rendered}"
    );
    let seen = Kubeconfig::from_yaml(&rendered).unwrap();
    assert_eq!(seen.current_context.as_deref(), Some("dev"));
    assert_eq!(
        (seen.contexts.len(), seen.clusters.len(), seen.auth_infos.len()),
        (1, 1, 1)
    );
    let context = seen.contexts[0].context.as_ref().unwrap();
    assert_eq!(context.cluster, "dev-cluster");
    assert_eq!(context.user.as_deref(), Some("dev-user"));
    assert_eq!(context.namespace.as_deref(), Some("shop"));
    let cluster = seen.clusters[0].cluster.as_ref().unwrap();
    assert_eq!(cluster.server.as_deref(), Some("https://127.0.0.1:6443"));
    assert_eq!(cluster.tls_server_name.as_deref(), Some("api.example"));
    let ca = base64("-----BEGIN CERTIFICATE-----\nguard\n");
    assert_eq!(cluster.certificate_authority_data.as_deref(), Some(ca.as_str()));
    let user = seen.auth_infos[0].auth_info.as_ref().unwrap();
    assert_eq!(user.token.as_ref().unwrap().expose_secret(), PLACEHOLDER_TOKEN);
    assert!(user.client_key_data.is_none() && user.client_certificate_data.is_none());
}

#[test]
fn names_that_mean_something_in_yaml_survive() {
    let home = Home::new();
    for name in [
        "arn:aws:eks:eu-west-1:1:cluster/x",
        "yes",
        "1e3",
        "a: b # c",
        "- x",
        "{a}",
        "null",
        "\u{7}bell",
        "a\nb",
    ] {
        let quoted = serde_json::to_string(name).unwrap();
        let text = home.kubeconfig(&home.cluster(), "token: t");
        let text = text
            .replace("current-context: dev", &format!("current-context: {quoted}"))
            .replace("- name: dev\n", &format!("- name: {quoted}\n"))
            .replace("namespace: shop", &format!("namespace: {quoted}"));
        home.write(".kube/config", &text);
        let seen = Kubeconfig::from_yaml(&load(&home.options()).unwrap().kubeconfig.render("ca")).unwrap();
        assert_eq!(seen.current_context.as_deref(), Some(name));
        assert_eq!(seen.contexts[0].name, name);
        assert_eq!(
            seen.contexts[0].context.as_ref().unwrap().namespace.as_deref(),
            Some(name)
        );
    }
}

#[test]
fn covers_and_hides_everything_that_holds_a_credential() {
    let home = Home::new();
    let client = pair("client");
    for (name, text) in [
        ("crt", client.certificate.as_str()),
        ("key", &client.key),
        ("tok", "t"),
        ("tok2", "t"),
        ("tok3", "t"),
    ] {
        home.write(&format!("secrets/{name}"), text);
    }
    // The chosen context uses a link; another context of the same file, another file of the list and the file of the
    // home folder name further secrets.
    symlink(home.path("secrets/key"), home.path("key-link")).unwrap();
    let users = "client-certificate: secrets/crt\nclient-key: key-link\n";
    let chosen = home.kubeconfig(&home.cluster(), users)
        + "- name: second\n  user: {tokenFile: secrets/tok}\n- {name: third, user: {tokenFile: gone}}\n";
    let real = home.write("real-config", &chosen);
    let link = home.path("config-link");
    symlink(&real, &link).unwrap();
    let listed = home.write(
        "listed",
        &kubeconfig("other", &home.cluster(), "tokenFile: secrets/tok2"),
    );
    let broken = home.write("broken", "users: [");
    let default = home.write(
        ".kube/config",
        &kubeconfig("home", &home.cluster(), "tokenFile: ../secrets/tok3"),
    );
    let options = KubeconfigOptions {
        file: Some(link),
        kubeconfig_env: list(&[&listed, &broken, &home.path("gone")]),
        ..home.options()
    };
    let kubeconfig = load(&options).unwrap().kubeconfig;
    assert_eq!(kubeconfig.covered, std::slice::from_ref(&real));
    assert_eq!(kubeconfig.path(), real);
    let mut expected = ["crt", "key", "tok", "tok2", "tok3"]
        .map(|name| home.path(&format!("secrets/{name}")))
        .to_vec();
    expected.extend([listed, broken, default]);
    expected.sort();
    let mut hidden = kubeconfig.hidden;
    hidden.sort();
    assert_eq!(hidden, expected);
}

#[test]
fn files_of_plugins_and_folders_that_are_replaced_as_one_are_hidden() {
    let home = Home::new();
    let config = home.write("aws/config", "x");
    let key = home.write("key.json", "x");
    let program = home.write("tool", "x");
    set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    let token = home.write("volume/..1/token", "t");
    symlink("..1", home.path("volume/..data")).unwrap();
    symlink("..data/token", home.path("volume/token")).unwrap();
    let user = format!(
        "{{tokenFile: {}, exec: {{apiVersion: client.authentication.k8s.io/v1, command: {}, args: [--key={}, {}], \
         env: [{{name: AWS_CONFIG_FILE, value: {}}}]}}}}",
        home.path("volume/token").display(),
        program.display(),
        key.display(),
        program.display(),
        config.display()
    );
    let other = home.write("other", &kubeconfig("other", &home.cluster(), &user));
    let main = home.write("main", &home.kubeconfig(&home.cluster(), "token: t"));
    let options = KubeconfigOptions {
        kubeconfig_env: list(&[&main, &other]),
        ..home.options()
    };
    let mut hidden = load(&options).unwrap().kubeconfig.hidden;
    hidden.sort();
    let mut expected = [home.path("volume"), token, key, config];
    expected.sort();
    assert_eq!(hidden, expected);
}

#[test]
fn a_link_to_nowhere_in_the_list_is_skipped() {
    let home = Home::new();
    let good = home.write("good", &home.kubeconfig(&home.cluster(), "token: t"));
    symlink(home.path("nowhere"), home.path("dangling")).unwrap();
    let env = list(&[&home.path("dangling"), &good]);
    let options = KubeconfigOptions {
        kubeconfig_env: env,
        ..home.options()
    };
    assert_eq!(load(&options).unwrap().kubeconfig.covered, [good]);
}
