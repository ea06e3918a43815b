//! The rig tests itself: what every other suite relies on.

#[path = "cluster/crd.rs"]
mod crd;

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::Ipv6Addr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use rig::cluster::{Cluster, ClusterOptions, shared};
use rig::kubeconfig::Credential;
use rig::kubelet::Kubelet;
use rig::{command, leash, wait};

#[test]
fn serves_kubectl_and_gives_namespaces_their_service_account() -> Result<()> {
    let cluster = shared()?;
    cluster.create_namespace("serves")?;
    let pods = cluster
        .kubectl(&["-n", "serves", "get", "serviceaccounts", "-o", "name"])?
        .ok()?;
    ensure!(pods == "serviceaccount/default\n", "{pods}");
    let version = cluster.kubectl(&["version"])?.ok()?;
    ensure!(
        version.matches("v1.36.3").count() == 2,
        "client and server are the pinned version: {version}"
    );
    Ok(())
}

#[test]
fn two_clusters_run_side_by_side_one_of_them_on_ipv6() -> Result<()> {
    let first = shared()?;
    let options = ClusterOptions {
        bind: Ipv6Addr::LOCALHOST.into(),
        ..ClusterOptions::default()
    };
    let second = Cluster::start(options)?;
    second.create_namespace("only-in-second")?;
    second.kubectl(&["get", "namespace", "only-in-second"])?.ok()?;
    first
        .kubectl(&["get", "namespace", "only-in-second"])?
        .expect_failure("not found")?;
    let folder = second.folder().to_owned();
    drop(second);
    ensure!(!folder.exists(), "the folder is removed on drop");
    Ok(())
}

#[test]
fn audit_tells_what_reached_the_server_since_a_mark() -> Result<()> {
    let cluster = shared()?;
    let user = "audited";
    let credential = Credential::ClientCertificate(cluster.upstream_identity(user)?);
    let kubeconfig = cluster.write_kubeconfig(user, credential)?;
    cluster
        .kubectl_with(&kubeconfig, &["get", "configmaps", "-n", "default"])?
        .ok()?;
    let mark = cluster.audit().mark()?;
    ensure!(
        cluster.audit().since_by(mark, user)?.is_empty(),
        "what came before the mark is not reported"
    );
    cluster
        .kubectl_with(&kubeconfig, &["create", "configmap", "seen", "-n", "default"])?
        .ok()?;
    let events = cluster.audit().since_by(mark, user)?;
    let create = events
        .iter()
        .find(|event| event.verb == "create")
        .context("the create is reported")?;
    let object = create.object.as_ref().context("with its object")?;
    ensure!(
        (object.resource.as_str(), object.namespace.as_str()) == ("configmaps", "default"),
        "{object:?}"
    );
    ensure!(create.user_agent.starts_with("kubectl/"), "{create:?}");
    let done = cluster.audit().wait_for(mark, |event| {
        event.audit_id == create.audit_id && event.response_code.is_some()
    })?;
    ensure!(done.response_code == Some(201), "{done:?}");
    Ok(())
}

#[test]
fn the_server_takes_the_audit_id_of_the_caller() -> Result<()> {
    let cluster = shared()?;
    let mark = cluster.audit().mark()?;
    cluster.admin().request(
        "GET",
        "/api/v1/namespaces",
        &[("Audit-ID", "chosen-by-caller")],
        b"",
    )?;
    cluster
        .audit()
        .wait_for(mark, |event| event.audit_id == "chosen-by-caller")?;
    Ok(())
}

#[test]
fn a_service_account_token_has_the_rights_of_its_role_only() -> Result<()> {
    let cluster = shared()?;
    cluster.create_namespace("tokens")?;
    let token = cluster.service_account_token("tokens", "reader", "view")?;
    let kubeconfig = cluster.write_kubeconfig("reader", Credential::Token(token))?;
    let who = cluster
        .kubectl_with(
            &kubeconfig,
            &["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"],
        )?
        .ok()?;
    ensure!(who == "system:serviceaccount:tokens:reader", "{who}");
    cluster
        .kubectl_with(&kubeconfig, &["get", "configmaps", "-n", "default"])?
        .ok()?;
    cluster
        .kubectl_with(&kubeconfig, &["get", "secrets", "-n", "default"])?
        .expect_failure("Forbidden")?;
    Ok(())
}

#[test]
fn logs_come_through_the_kubelet_stand_in_and_follow() -> Result<()> {
    let cluster = shared()?;
    cluster.create_namespace("logs")?;
    let kubelet = Kubelet::start(cluster, "log-node")?;
    kubelet.run_pod("logs", "web-0")?;
    kubelet.log("logs", "web-0", "first");
    kubelet.log("logs", "web-0", "second");
    let tail = cluster
        .kubectl(&["-n", "logs", "logs", "web-0", "--tail=1"])?
        .ok()?;
    ensure!(tail == "second\n", "{tail}");
    let mut follow = leash::hold(cluster.kubectl_program())?;
    follow
        .args(["-n", "logs", "logs", "-f", "web-0", "--kubeconfig"])
        .arg(cluster.admin_kubeconfig());
    let mut follow = leash::spawn({
        follow.stdin(Stdio::null()).stdout(Stdio::piped());
        follow
    })?;
    let mut lines = BufReader::new(follow.stdout.take().context("piped")?).lines();
    let mut next = || lines.next().transpose();
    ensure!(next()?.as_deref() == Some("first") && next()?.as_deref() == Some("second"));
    kubelet.log("logs", "web-0", "while following");
    ensure!(
        next()?.as_deref() == Some("while following"),
        "a line comes while the stream is open"
    );
    kubelet.end("logs", "web-0");
    ensure!(next()?.is_none(), "the stream ends with the container");
    ensure!(follow.wait()?.success());
    Ok(())
}

#[test]
fn the_api_server_restarts_on_its_address_with_its_data() -> Result<()> {
    let cluster = Cluster::start(ClusterOptions::default())?;
    cluster.create_namespace("kept")?;
    cluster.restart_api_server()?;
    cluster.kubectl(&["get", "namespace", "kept"])?.ok()?;
    Ok(())
}

#[test]
fn a_killed_rig_leaves_no_process_and_no_folder() -> Result<()> {
    // In a group of its own, as a shell would start it; killed as the kernel kills what is out of memory.
    let mut rig = Command::new(env!("CARGO_BIN_EXE_start-rig"));
    let mut rig = rig
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()?;
    let (mut folder, mut processes) = (String::new(), String::new());
    for line in BufReader::new(rig.stdout.take().context("piped")?).lines() {
        let line = line?;
        let mut words = line.split_whitespace();
        match words.next() {
            Some("folder:") => folder = words.next().context("a folder")?.to_owned(),
            Some("processes:") => processes = words.collect::<Vec<_>>().join(","),
            Some("Try,") => break,
            Some(_) | None => {}
        }
    }
    ensure!(
        Path::new(&folder).is_dir() && processes.split(',').count() == 3,
        "{folder} {processes}"
    );
    rig.kill()?;
    rig.wait()?;
    wait::until("its servers are gone", || {
        let mut ps = Command::new("ps");
        ps.args(["-o", "stat=", "-p", &processes]);
        // A process that nobody has reaped yet is dead all the same.
        Ok(command::run(ps)?
            .stdout
            .lines()
            .all(|state| state.starts_with('Z')))
    })?;
    wait::until("its folder is gone", || Ok(!fs::exists(&folder)?))
}
