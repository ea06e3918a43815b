//! Kubeconfigs that are refused: each refusal names the cause and what helps.

use std::fs;

use crate::upstream::testing::{Home, base64, display, pair, text};
use crate::upstream::{KubeconfigOptions, load};

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
