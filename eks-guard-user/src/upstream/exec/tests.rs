//! Credential plugins, as shell scripts.

use std::fs;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use kube_client::config::ExecConfig;
use serde_json::{Value, json};

use crate::upstream::exec::executable::Executable;
use crate::upstream::exec::{Plugin, refresh_at};
use crate::upstream::kubeconfig::choose;
use crate::upstream::testing::{Home, base64, display, pair};
use crate::upstream::{Credential, KubeconfigOptions, RunAs, load};

const V1: &str = "client.authentication.k8s.io/v1";

/// A plugin made from a script that stands in the kubeconfig's folder.
fn plugin(home: &Home, script: &str, change: impl FnOnce(&mut ExecConfig)) -> Plugin {
    home.script(".kube/plugin", script);
    home.write(
        ".kube/config",
        &home.kubeconfig(
            &home.cluster(),
            &format!("exec: {{apiVersion: {V1}, command: ./plugin}}"),
        ),
    );
    let chosen = choose(&home.options()).unwrap();
    let mut exec = chosen.user.exec.clone().unwrap();
    change(&mut exec);
    Plugin::new(&exec, &chosen, &home.options(), &mut Vec::new()).unwrap()
}

fn answer(status: &Value) -> String {
    let object = json!({"apiVersion": V1, "kind": "ExecCredential", "status": status});
    format!("cat <<'END'\n{object}\nEND")
}

async fn error(plugin: &Plugin) -> String {
    plugin
        .run(Timestamp::now())
        .await
        .err()
        .expect("must fail")
        .message
}

fn token(credential: &Credential) -> &str {
    match credential {
        Credential::Bearer(value) => value.to_str().unwrap().strip_prefix("Bearer ").unwrap(),
        Credential::ClientCertificate(_) => panic!("a token was expected"),
    }
}

#[tokio::test]
async fn gives_a_token_until_shortly_before_its_end() {
    let home = Home::new();
    let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap();
    let expires = now + SignedDuration::from_secs(900);
    let script = answer(&json!({"token": "t0ken", "expirationTimestamp": expires.to_string()}));
    let fetched = plugin(&home, &script, |_| {}).run(now).await.unwrap();
    assert_eq!(token(&fetched.credential), "t0ken");
    assert_eq!(fetched.refresh_at, Some(now + SignedDuration::from_secs(720)));
    assert_eq!(fetched.expires_at, Some(expires - SignedDuration::from_secs(5)));

    let forever = plugin(&home, &answer(&json!({"token": "t"})), |_| {})
        .run(now)
        .await
        .unwrap();
    assert!(forever.refresh_at.is_none() && forever.expires_at.is_none());
}

#[test]
fn is_due_at_80_percent_or_a_minute_before_the_end() {
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    for (life, due) in [
        (900, 720),
        (300, 240),
        (200, 140),
        (100, 40),
        (60, 0),
        (10, 0),
        (86_400, 69_120),
    ] {
        let at = refresh_at(now, now + SignedDuration::from_secs(life)).unwrap();
        assert_eq!(at.duration_since(now).as_secs(), due, "{life}");
    }
}

#[tokio::test]
async fn gives_a_client_certificate() {
    let home = Home::new();
    let client = pair("client");
    let status = json!({"clientCertificateData": client.certificate, "clientKeyData": client.key});
    let fetched = plugin(&home, &answer(&status), |_| {})
        .run(Timestamp::now())
        .await
        .unwrap();
    assert!(matches!(fetched.credential, Credential::ClientCertificate(key) if key.chain().len() == 1));
}

#[tokio::test]
async fn is_told_what_kubectl_tells_and_gets_no_terminal() {
    let home = Home::new();
    let script = "cat > stdin; printf %s \"$KUBERNETES_EXEC_INFO\" > info; printf '%s|' \"$PROFILE\" \"$EMPTY\" \"$@\" > env\n";
    let script = format!(
        "cd '{}'\n{script}{}",
        display(&home.path("")),
        answer(&json!({"token": "t"}))
    );
    let env = |name: &str, value: &str| {
        [
            ("name".to_owned(), name.to_owned()),
            ("value".to_owned(), value.to_owned()),
        ]
        .into_iter()
        .collect()
    };
    let with_cluster = plugin(&home, &script, |exec| {
        exec.provide_cluster_info = true;
        exec.args = Some(vec!["get-token".to_owned(), "a b".to_owned()]);
        exec.env = Some(vec![env("PROFILE", "work"), env("EMPTY", "")]);
    });
    with_cluster.run(Timestamp::now()).await.unwrap();
    let info: Value = serde_json::from_str(&fs::read_to_string(home.path("info")).unwrap()).unwrap();
    let cluster = json!({
        "server": "https://127.0.0.1:6443",
        "certificate-authority-data": base64(&home.ca.certificate),
    });
    assert_eq!(
        info,
        json!({"kind": "ExecCredential", "apiVersion": V1, "spec": {"cluster": cluster, "interactive": false}})
    );
    assert_eq!(
        fs::read_to_string(home.path("env")).unwrap(),
        "work||get-token|a b|"
    );
    assert_eq!(fs::read(home.path("stdin")).unwrap(), b"");

    plugin(&home, &script, |_| {})
        .run(Timestamp::now())
        .await
        .unwrap();
    let info: Value = serde_json::from_str(&fs::read_to_string(home.path("info")).unwrap()).unwrap();
    assert_eq!(info["spec"], json!({"interactive": false}));
}

#[tokio::test]
async fn what_goes_wrong_is_one_line_without_a_secret() {
    let home = Home::new();
    let secret =
        "k8s-aws-v1.aHR0cHM6Ly9zdHMuZXUtd2VzdC0xLmFtYXpvbmF3cy5jb20vP0FjdGlvbj1HZXRDYWxsZXJJZGVudGl0eQ";
    let past = json!({"token": "t", "expirationTimestamp": "2020-01-01T00:00:00Z"});
    let rows = [
        (
            format!(
                "echo 'SSO session has expired,\n run aws sso login' >&2; echo {secret} >&2; echo {secret}; exit 3"
            ),
            "failed (exit status: 3): SSO session has expired, run aws sso login [hidden]",
        ),
        ("exit 1".to_owned(), "failed (exit status: 1)"),
        ("kill -9 $$".to_owned(), "failed (signal: 9"),
        (
            "printf '\\033[2J\\033]0;x\\007oops' >&2; exit 1".to_owned(),
            "[2J ]0;x oops",
        ),
        (String::new(), "printed nothing: run it by hand"),
        (
            format!("echo {secret}"),
            "not an ExecCredential (line 1, column 1)",
        ),
        ("echo '{\"kind\": \"Other\"}'".to_owned(), "not an ExecCredential"),
        (
            answer(&json!({"token": "t"})).replace("/v1", "/v1beta1"),
            "answered in another API version",
        ),
        (
            "echo '{\"apiVersion\":\"client.authentication.k8s.io/v1\",\"kind\":\"ExecCredential\"}'"
                .to_owned(),
            "without a `status`",
        ),
        (answer(&json!({})), "neither a token nor a client certificate"),
        (answer(&json!({"token": ""})), "the token is empty"),
        (
            answer(&json!({"token": format!("{secret} x")})),
            "characters that no token has",
        ),
        (answer(&json!({"token": 7})), "not an ExecCredential"),
        (answer(&json!({"clientCertificateData": "x"})), "without a key"),
        (
            answer(&json!({"clientCertificateData": "x", "clientKeyData": secret})),
            "holds no PEM certificate",
        ),
        (
            answer(&json!({"token": "t", "expirationTimestamp": "soon"})),
            "not a time",
        ),
        (answer(&past), "has already expired"),
        (
            "exec head -c 300000 /dev/zero".to_owned(),
            "printed more than 256 KiB",
        ),
        ("exec yes".to_owned(), "printed more than 256 KiB"),
    ];
    for (script, expected) in rows {
        let text = error(&plugin(&home, &script, |_| {})).await;
        assert!(text.contains(expected), "{script}\n→ {text}");
        assert!(
            !text.contains(secret) && !text.chars().any(char::is_control),
            "{text:?}"
        );
    }
}

#[tokio::test]
async fn a_flood_on_standard_error_is_cut() {
    let home = Home::new();
    let text = error(&plugin(
        &home,
        "head -c 5000000 /dev/zero | tr '\\0' 'x ' >&2; exit 1",
        |_| {},
    ))
    .await;
    assert!(text.len() < 600, "{}", text.len());
}

#[tokio::test]
async fn one_that_hangs_is_stopped_with_everything_it_started() {
    let home = Home::new();
    let file = display(&home.path("child"));
    let script = format!(
        "sleep 1000 & echo $! > '{file}'; echo 'Open https://login.example and enter 1234' >&2; wait"
    );
    let mut plugin = plugin(&home, &script, |_| {});
    plugin.timeout = Duration::from_millis(1500);
    let text = error(&plugin).await;
    assert!(
        text.contains("did not answer within 1 s and was stopped: Open https://login.example and enter 1234"),
        "{text}"
    );
    let child: i32 = fs::read_to_string(&file).unwrap().trim().parse().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while is_running(child) {
        assert!(Instant::now() < deadline, "the plugin's child still runs");
        tokio::task::yield_now().await;
    }
}

/// A zombie whose parent is gone counts as ended.
fn is_running(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .trim_start()
            .starts_with('Z')
    })
}

#[tokio::test]
async fn runs_as_the_invoking_user() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let home = Home::new();
    let script = "id -u > out; id -g >> out; id -G >> out; echo $HOME >> out";
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    std::os::unix::fs::chown(folder.path(), Some(65534), Some(65534)).unwrap();
    let run_as = RunAs {
        uid: 65534,
        gid: 65534,
        home: folder.path().to_owned(),
    };
    // The script itself stands where that user can reach it.
    let open = Home::new();
    fs::set_permissions(open.path(""), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = open.script(
        "plugin",
        &format!("cd $HOME\n{script}\n{}", answer(&json!({"token": "t"}))),
    );
    let user = format!("exec: {{apiVersion: {V1}, command: {}}}", path.display());
    home.write(".kube/config", &home.kubeconfig(&home.cluster(), &user));
    let upstream = load(&KubeconfigOptions {
        run_as: Some(run_as),
        ..home.options()
    })
    .unwrap();
    upstream.credentials.credential().await.unwrap();
    let expected = format!("65534\n65534\n65534\n{}\n", folder.path().display());
    assert_eq!(fs::read_to_string(folder.path().join("out")).unwrap(), expected);
    assert!(upstream.warnings.is_empty(), "{:?}", upstream.warnings);
}

#[tokio::test]
async fn a_program_that_was_changed_is_not_run_again() {
    let home = Home::new();
    let plugin = plugin(&home, &answer(&json!({"token": "t"})), |_| {});
    plugin.run(Timestamp::now()).await.unwrap();
    let marker = home.path("marker");
    home.script(".kube/other", &format!("touch '{}'", display(&marker)));
    fs::rename(home.path(".kube/other"), home.path(".kube/plugin")).unwrap();
    assert!(
        error(&plugin)
            .await
            .contains("was changed or replaced since the guard started")
    );
    fs::remove_file(home.path(".kube/plugin")).unwrap();
    assert!(error(&plugin).await.contains("was changed or replaced"));
    assert!(!marker.exists());
}

#[test]
fn warns_of_a_program_that_the_agent_could_change() {
    let home = Home::new();
    let path = home.script("plugin", "");
    let owner = rustix::process::geteuid().as_raw();
    let user = |uid| RunAs {
        uid,
        gid: 4_000_000,
        home: home.path(""),
    };
    let executable = Executable::pin(path.clone()).unwrap();
    assert!(executable.warning(None).is_none());
    if owner != 0 {
        assert!(
            executable
                .warning(Some(&user(owner)))
                .unwrap()
                .contains("can be changed by the user the agent runs as")
        );
    }
    assert!(executable.warning(Some(&user(4_000_000))).is_none());
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    assert!(
        executable
            .warning(Some(&user(4_000_000)))
            .unwrap()
            .contains(&display(&path))
    );
}

#[tokio::test]
async fn is_found_in_path_or_beside_the_kubeconfig() {
    let home = Home::new();
    let path = home.script("bin/get-token", &answer(&json!({"token": "from-path"})));
    home.script(".kube/tools/get-token", &answer(&json!({"token": "from-folder"})));
    home.write("first/get-token", "not executable");
    let search = std::env::join_paths([
        home.path("first"),
        path.parent().unwrap().to_owned(),
        "/usr/bin".into(),
        "/bin".into(),
    ])
    .unwrap();
    let options = KubeconfigOptions {
        search_path: Some(search),
        ..home.options()
    };
    for (command, expected) in [("get-token", "from-path"), ("tools/get-token", "from-folder")] {
        let user = format!("exec: {{apiVersion: {V1}, command: {command}}}");
        home.write(".kube/config", &home.kubeconfig(&home.cluster(), &user));
        let credential = load(&options).unwrap().credentials.credential().await.unwrap();
        assert_eq!(token(&credential), expected);
    }
}

#[tokio::test]
async fn is_run_once_and_again_after_a_401() {
    let home = Home::new();
    let count = display(&home.path("count"));
    let token = json!({"token": "t-$(wc -l < \"$0.count\" | tr -d ' ')"});
    let script = format!(
        "echo x >> '{count}'\n{}",
        answer(&token)
            .replace("'END'", "END")
            .replace("$0.count", &count)
            .replace("\\\"", "\"")
    );
    let user = format!(
        "exec: {{apiVersion: {V1}, command: {}}}",
        home.script("plugin", &script).display()
    );
    let upstream = home.load(&home.cluster(), &user).unwrap();
    for _ in 0..5 {
        assert_eq!(
            self::token(&upstream.credentials.credential().await.unwrap()),
            "t-1"
        );
    }
    // A 401 right after a new credential is about the one before it, so wait until this one counts.
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        upstream.credentials.invalidate();
        if self::token(&upstream.credentials.credential().await.unwrap()) == "t-2" {
            break;
        }
        assert!(Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
}
