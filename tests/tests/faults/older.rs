//! Connections that are older than the label.

use std::path::Path;

use anyhow::{Result, ensure};
use rig::command;
use rig::leash::Leashed;
use rig::node::{API, API_PORT, Families, Layout, Profile, shared};
use rig::wait;
use serde_json::json;

use crate::guard::{Guard, row};
use crate::siege::{alone, direct_packets, run_in, spec};

#[test]
fn a_connection_that_is_older_than_the_label_is_ended() -> Result<()> {
    let (rig, layout, namespace) = (shared()?, Layout::ALL[2], "older");
    let _alone = alone(layout);
    rig.cluster().create_namespace(namespace)?;
    let pod = rig.run_pod(&spec(rig, layout, namespace, "late", None))?;
    let mut guard = Guard::start(rig, layout)?;

    // A datagram socket with a peer stays as long as its process; TCP is the API server's to end, too.
    let api = API.sockets(Families::V4, API_PORT)[0];
    let script = format!(
        "exec 3<>/dev/udp/{ip}/{port} 4<>/dev/tcp/{ip}/{port}; exec sleep infinity",
        ip = api.ip(),
        port = api.port()
    );
    let mut bash = pod.command(Profile::Restricted, Path::new("/bin/bash"))?;
    bash.args(["-c", &script]);
    let log = rig.cluster().folder().join("older.log");
    let mut holder = Leashed::start_command("holder", bash, &log)?;
    let open = || -> Result<usize> {
        let to = api.ip().to_string();
        let mut found = 0;
        for kind in ["--tcp", "--udp"] {
            let listed = ["ss", "-Hn", kind, "state", "established", "dst", &to];
            let text = run_in(&pod.netns().path(), &listed)?.ok()?;
            found += text.lines().count();
        }
        Ok(found)
    };
    wait::until("both sockets are connected", || Ok(open()? == 2))?;

    let path = format!("/api/v1/namespaces/{namespace}/pods/late");
    let label = json!({"metadata": {"labels": {"eks-guard.dev/agent": "shop"}}});
    rig.cluster().admin().merge(&path, &label)?;
    guard.wait_until("the pod is an agent", |status| {
        row(status, pod.uid()).is_some_and(|row| row["class"] == "agent" && row["port"].is_u64())
    })?;
    wait::until("both are ended", || Ok(open()? == 0))?;
    holder.check_alive()?;
    guard.recorded("that they were", |event| event["reason"] == "ConnectionsEnded")?;
    let before = direct_packets(rig, &pod)?;
    let mut curl = pod.command(Profile::Restricted, Path::new("/usr/bin/curl"))?;
    curl.args([
        "--silent",
        "--insecure",
        "--max-time",
        "5",
        &format!("https://{api}/version"),
    ]);
    command::run(curl)?;
    ensure!(direct_packets(rig, &pod)? == before, "a packet arrived");
    Ok(())
}
