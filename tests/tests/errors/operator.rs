//! What the operator typed or wrote: kubeconfigs, contexts, policies, users. Exit code 2, and nothing was touched.

use anyhow::Result;
use rig::kubeconfig::Credential;

use crate::attempt::{Attempt, cluster};

#[test]
fn kubeconfigs_that_cannot_be_read() -> Result<()> {
    let missing = Attempt::new()?.flags(&["--kubeconfig", "missing.yaml"]);
    missing.is_refused(
        2,
        &["kubeconfig", "missing.yaml", "no such file", "check the path"],
    )?;
    Attempt::new()?
        .flags(&["--kubeconfig", "."])
        .is_refused(2, &["not a regular file"])?;
    let texts = [
        ("", "no `current-context` is set"),
        ("clusters: [", "line 1 column 11"),
        ("apiVersion: v1\nkind: Config\nclusters: 5\n", "line 3 column 11"),
    ];
    for (text, cause) in texts {
        Attempt::with_kubeconfig(text)?
            .is_refused(2, &["is not a valid kubeconfig", cause, "--kubeconfig"])?;
    }
    Ok(())
}

#[test]
fn no_kubeconfig_at_all() -> Result<()> {
    let attempt = Attempt::new()?.without("--kubeconfig");
    attempt.is_refused(2, &["no kubeconfig found", ".kube/config", "--kubeconfig FILE"])
}

#[test]
fn contexts_and_entries_that_cannot_be_used() -> Result<()> {
    Attempt::new()?
        .flags(&["--context", "nowhere"])
        .is_refused(2, &["\"nowhere\"", "--context", "\"rig\""])?;
    let cluster = cluster()?;
    let plain = cluster.kubeconfig(Credential::Token("t".to_owned())).render();
    Attempt::with_kubeconfig(&plain.replace("https://", "http://"))?
        .is_refused(2, &["plain http", "use https"])?;
    let entries = [
        (Credential::None, "it has no credential"),
        (
            Credential::TokenFile("/nonexistent/token".into()),
            "/nonexistent/token",
        ),
        (
            Credential::ClientCertificateFiles {
                certificate: "/nonexistent/c".into(),
                key: "/nonexistent/k".into(),
            },
            "/nonexistent/c",
        ),
        (
            Credential::Exec {
                command: "no-such-plugin".into(),
                args: Vec::new(),
            },
            "install it",
        ),
    ];
    for (credential, cause) in entries {
        Attempt::with_kubeconfig(&cluster.kubeconfig(credential).render())?
            .is_refused(2, &["user \"rig\"", cause])?;
    }
    Ok(())
}

#[test]
fn policies_that_cannot_be_used() -> Result<()> {
    let mistakes = [
        (
            "apiVersion: eks-guard.dev/v1alpha1\nkind: AgentPolicy\nspecs: {}\n",
            "bad.yaml:3:1: ",
        ),
        ("a: [b\n", "bad.yaml:1:4: "),
        ("", "bad.yaml:1:1: no document"),
    ];
    for (text, place) in mistakes {
        let attempt = Attempt::new()?.flags(&["--policy", "bad.yaml"]);
        attempt.write("bad.yaml", text)?;
        attempt.is_refused(2, &[place])?;
    }
    Attempt::new()?
        .flags(&["--policy", "missing.yaml"])
        .is_refused(2, &["missing.yaml", "check the path"])?;
    Attempt::new()?
        .flags(&["--policy", "policy.yaml", "--policy", "policy.yaml"])
        .is_refused(2, &["\"everything\" is already defined"])
}

#[test]
fn users_that_cannot_be_told() -> Result<()> {
    Attempt::new()?
        .user(None)
        .is_refused(2, &["not through sudo", "--user NAME"])?;
    Attempt::new()?.user(Some("0")).is_refused(2, &["--user root"])?;
    Attempt::new()?
        .user(Some("no-such-user"))
        .is_refused(2, &["no-such-user", "UID:GID"])
}

#[test]
fn every_mistake_is_named_at_once() -> Result<()> {
    let attempt =
        Attempt::new()?
            .user(Some("no-such-user"))
            .flags(&["--policy", "missing.yaml", "--agent", ""]);
    let output = attempt.run()?;
    assert_eq!((output.code, output.stderr.lines().count()), (2, 3), "{output:?}");
    Ok(())
}
