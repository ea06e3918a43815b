//! What the agent sees of a kubeconfig: its context and no credential, whose files are covered or hidden.

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::{PermissionsExt, symlink};

use kube_client::config::Kubeconfig;
use secrecy::ExposeSecret;

use super::list;
use crate::upstream::testing::{Home, base64, kubeconfig, pair};
use crate::upstream::{KubeconfigOptions, PLACEHOLDER_TOKEN, load};

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
