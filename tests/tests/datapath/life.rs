//! What pods are to the kernel, how they change, and that nothing is left of them.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use rig::leash::Leashed;
use rig::node::{Families, Layout, Pause, Pod, PodNetwork, PodSpec, Profile, Qos, shared};
use rig::wait;

use crate::ask::{http, shell, version};

/// A process of the pod that stays.
fn stay(pod: &Pod<'_>) -> Result<Leashed> {
    let mut sleep = pod.command(Profile::Restricted, Path::new("/bin/sleep"))?;
    sleep.arg("infinity");
    let log = shared()?
        .cluster()
        .folder()
        .join(format!("stay-{}.log", pod.uid()));
    let process = Leashed::start_command("sleep", sleep, &log)?;
    let exe = format!("/proc/{}/exe", process.id());
    wait::until("it sleeps", || {
        Ok(fs::read_link(&exe)?
            .file_name()
            .is_some_and(|name| name != "leash"))
    })?;
    Ok(process)
}

#[test]
fn a_process_is_in_its_pods_cgroup_and_network_from_its_first_instruction() -> Result<()> {
    let rig = shared()?;
    rig.cluster().create_namespace("places")?;
    let mut ids = BTreeSet::new();
    for (number, (layout, qos)) in Layout::ALL
        .iter()
        .flat_map(|layout| Qos::ALL.map(|qos| (*layout, qos)))
        .enumerate()
    {
        let network = if number % 2 == 0 {
            PodNetwork::Own(Families::Dual)
        } else {
            PodNetwork::Host
        };
        let spec = PodSpec::new(rig, "places", &format!("place-{number}"));
        let pod = rig.run_pod(&PodSpec {
            layout,
            qos,
            network,
            ..spec
        })?;
        let expected = rig.cgroups().join(layout.pod(qos, pod.uid()));
        ensure!(
            pod.cgroup() == expected && ids.insert(fs::metadata(&expected)?.ino()),
            "{expected:?}"
        );
        let process = stay(&pod)?;
        let cgroup = fs::read_to_string(format!("/proc/{}/cgroup", process.id()))?;
        let inside = pod.container_cgroup();
        let inside = format!("0::/{}\n", inside.strip_prefix(rig.cgroup_mount())?.display());
        ensure!(cgroup.ends_with(&inside), "{cgroup} {inside}");
        let netns = fs::metadata(format!("/proc/{}/ns/net", process.id()))?.ino();
        ensure!(netns == pod.netns().id()?);
        ensure!((network == PodNetwork::Host) == (netns == rig.network().node.id()?));
        // The parent of the container's cgroup is the pod's; its sandbox has one beside it.
        ensure!(folders(pod.cgroup())?.len() == 2);
    }
    Ok(())
}

#[test]
fn profiles_have_the_user_and_capabilities_that_their_name_says() -> Result<()> {
    let rig = shared()?;
    rig.cluster().create_namespace("profiles")?;
    let pod = rig.run_pod(&PodSpec::new(rig, "profiles", "any"))?;
    let status = "id -u; sed -n 's/^\\(CapEff\\|CapBnd\\|NoNewPrivs\\):\\t//p' /proc/self/status";
    let mine = rustix::thread::capabilities(None)?.permitted.bits();
    for profile in Profile::ALL {
        let privileges = profile.privileges();
        let expected = privileges.capabilities & mine;
        let said = shell(&pod, profile, status)?.ok()?;
        let said: Vec<&str> = said.lines().collect();
        let [user, effective, bounding, no_new_privileges] = said[..] else {
            anyhow::bail!("{profile:?}: {said:?}");
        };
        let capabilities = [effective, bounding].map(|bits| u64::from_str_radix(bits, 16));
        ensure!(
            user == privileges.user.to_string()
                && capabilities.iter().all(|bits| bits.as_ref() == Ok(&expected)),
            "{profile:?}: {said:?}"
        );
        let refused = matches!(profile, Profile::Restricted | Profile::NetRaw);
        ensure!((no_new_privileges == "1") == refused, "{profile:?}: {said:?}");
    }
    Ok(())
}

#[test]
fn a_pod_cannot_change_cgroups_nor_see_what_its_node_runs() -> Result<()> {
    let rig = shared()?;
    rig.cluster().create_namespace("views")?;
    let pod = rig.run_pod(&PodSpec::new(rig, "views", "any"))?;
    let procs = rig.cgroups().join("cgroup.procs");
    let script = format!("echo 0 > {}", procs.display());
    shell(&pod, Profile::Default, &script)?.expect_failure("Read-only file system")?;
    let seen = shell(
        &pod,
        Profile::Default,
        "ls /run; ls /sys/fs/bpf; cat /proc/self/cgroup | grep ^0::",
    )?
    .ok()?;
    ensure!(seen == "home\nsecrets\n0::/\n", "{seen}");
    Ok(())
}

#[test]
fn a_container_restarts_and_a_sandbox_is_made_again_for_the_same_pod() -> Result<()> {
    let rig = shared()?;
    rig.cluster().create_namespace("changes")?;
    let mut pod = rig.run_pod(&PodSpec::new(rig, "changes", "changing"))?;
    let status = |pod: &Pod<'_>| {
        let path = format!("/api/v1/namespaces/changes/pods/{}", pod.spec().name);
        Ok::<_, anyhow::Error>(rig.cluster().admin().get(&path)?["status"].clone())
    };
    let mut process = stay(&pod)?;
    let (uid, pod_cgroup, first) = (
        pod.uid().to_owned(),
        pod.cgroup().to_owned(),
        pod.container_cgroup(),
    );
    pod.restart_container()?;
    ensure!(
        process.check_alive().is_err() && !first.exists(),
        "the old container is gone"
    );
    ensure!(pod.container_cgroup() != first && pod.container_cgroup().is_dir());
    ensure!(status(&pod)?["containerStatuses"][0]["restartCount"] == 1);

    let (netns, addresses) = (pod.netns().id()?, pod.addresses());
    let cable = pod.sandbox().context("a network of its own")?.cable().to_owned();
    pod.recreate_sandbox()?;
    ensure!(pod.netns().id()? != netns && pod.addresses() != addresses);
    ensure!((pod.uid(), pod.cgroup()) == (&*uid, &*pod_cgroup));
    let shown = rig.network().node.ip(&format!("link show {cable}"));
    ensure!(shown.is_err(), "the old cable is gone");
    ensure!(status(&pod)?["podIP"] == pod.addresses()[0].to_string());
    let answers = http(&pod, &[version(rig.cluster().server())])?;
    ensure!(
        answers.iter().any(|line| line.contains("gitVersion")),
        "{answers:?}"
    );

    let cgroup = pod.cgroup().to_owned();
    let mut process = stay(&pod)?;
    pod.delete()?;
    ensure!(
        process.check_alive().is_err() && !cgroup.exists(),
        "nothing is left of a deleted pod"
    );
    let get = ["-n", "changes", "get", "pod", "changing"];
    rig.cluster().kubectl(&get)?.expect_failure("not found")?;
    Ok(())
}

#[test]
fn two_hundred_and_fifty_pods_come_quickly() -> Result<()> {
    let rig = shared()?;
    rig.cluster().create_namespace("many")?;
    let specs: Vec<PodSpec> = (0..250)
        .map(|number| PodSpec {
            qos: Qos::ALL[number % 3],
            pause: Pause::LeftOut,
            ..PodSpec::new(rig, "many", &format!("pod-{number}"))
        })
        .collect();
    let begin = Instant::now();
    let pods = rig.run_pods(&specs)?;
    println!("250 pods in {:.1} s", begin.elapsed().as_secs_f32());
    let ids: BTreeSet<u64> = pods
        .iter()
        .map(|pod| Ok(fs::metadata(pod.cgroup())?.ino()))
        .collect::<Result<_>>()?;
    ensure!(ids.len() == 250);
    let last = pods.last().context("250 of them")?;
    let answers = http(last, &[version(rig.cluster().server())])?;
    ensure!(
        answers.iter().any(|line| line.contains("gitVersion")),
        "{answers:?}"
    );
    Ok(())
}

#[test]
fn a_killed_rig_leaves_nothing() -> Result<()> {
    let mut rig = Command::new(env!("CARGO_BIN_EXE_start-rig"));
    rig.arg("node")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .process_group(0);
    let mut rig = rig.spawn()?;
    let (mut folders, mut networks) = (Vec::new(), BTreeSet::new());
    for line in BufReader::new(rig.stdout.take().context("piped")?).lines() {
        let line = line?;
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            (Some("folder:" | "cgroups:" | "pod:"), Some(folder)) => folders.push(PathBuf::from(folder)),
            (Some("network:"), Some(id)) => {
                networks.insert(id.parse::<u64>()?);
            }
            (Some("Ctrl-C"), _) => break,
            _ => {}
        }
    }
    ensure!(
        folders.len() == 3 && folders.iter().all(|folder| folder.is_dir()),
        "{folders:?}"
    );
    ensure!(
        networks.len() == 4 && inside(&networks)? >= 4,
        "three servers and a pod"
    );
    rig.kill()?;
    rig.wait()?;
    wait::until("its folders and cgroups are gone", || {
        Ok(!folders.iter().any(|folder| folder.exists()))
    })?;
    wait::until("nobody is in its networks", || Ok(inside(&networks)? == 0))
}

/// How many processes are in one of these network namespaces.
fn inside(networks: &BTreeSet<u64>) -> Result<usize> {
    let processes = fs::read_dir("/proc")?.filter_map(|entry| entry.ok());
    let network = |path: PathBuf| Some(fs::metadata(path.join("ns/net")).ok()?.ino());
    Ok(processes
        .filter_map(|entry| network(entry.path()))
        .filter(|id| networks.contains(id))
        .count())
}

fn folders(path: &Path) -> Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            folders.push(entry.path());
        }
    }
    Ok(folders)
}
