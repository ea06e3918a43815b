//! Starts a test cluster, says how to use it, and keeps it until this process ends, however it ends.
//! `start-rig node` starts one with a node and a pod beside it, each in a network of its own.

#![allow(clippy::print_stdout, reason = "a command-line program")]

use std::io::IsTerminal;
use std::{env, fs, io, thread};

use anyhow::Result;
use rig::cluster::{Cluster, ClusterOptions};
use rig::node::{Families, NodeRig, PodSpec};
use rig::policies::EVERYTHING;
use rig::programs;

fn main() -> Result<()> {
    let mut options = ClusterOptions::default();
    match env::args().nth(1) {
        Some(word) if word == "node" => return node(),
        Some(address) => options.bind = address.parse()?,
        None => {}
    }
    let cluster = Cluster::start(options)?;
    let [bold, plain] = if io::stdout().is_terminal() {
        ["\x1b[1m", "\x1b[0m"]
    } else {
        ["", ""]
    };
    let kubeconfig = cluster.admin_kubeconfig().display();
    println!(
        "{bold}The test cluster is ready{plain} after {:.1} s.",
        cluster.started_in().as_secs_f32()
    );
    println!("server:     https://{}", cluster.server());
    println!("kubeconfig: {kubeconfig}   (every right)");
    println!("folder:     {}   (logs, audit log)", cluster.folder().display());
    println!(
        "processes:  {}",
        cluster
            .process_ids()
            .iter()
            .map(u32::to_string)
            .collect::<Vec<_>>()
            .join(" ")
    );
    let policy = cluster.folder().join("policy.yaml");
    fs::write(&policy, EVERYTHING)?;
    let kubectl = cluster.kubectl_program().display();
    println!("\nTry, in another terminal:");
    println!("  {kubectl} --kubeconfig {kubeconfig} get namespaces");
    println!(
        "  sudo {} run --kubeconfig {kubeconfig} --policy {} --user nobody -- {kubectl} get namespaces",
        programs::eks_guard()?.display(),
        policy.display()
    );
    println!("\nCtrl-C ends it and removes everything.");
    loop {
        thread::park();
    }
}

fn node() -> Result<()> {
    let rig = NodeRig::start(Families::Dual)?;
    let pod = rig.run_pod(&PodSpec::new(&rig, "default", "first"))?;
    println!("The node is ready after {:.1} s.", rig.started_in().as_secs_f32());
    println!("folder:     {}", rig.cluster().folder().display());
    println!("cgroups:    {}", rig.cgroups().display());
    println!("pod:        {}", pod.cgroup().display());
    for (name, netns) in [
        ("control plane", &rig.network().control_plane),
        ("node", &rig.network().node),
        ("outside", &rig.network().outside),
        ("pod", pod.netns()),
    ] {
        println!(
            "network:    {}   ({name}; nsenter --net={} bash)",
            netns.id()?,
            netns.path().display()
        );
    }
    println!("\nCtrl-C ends it and removes everything.");
    loop {
        thread::park();
    }
}
