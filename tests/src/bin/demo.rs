//! Plays the demo; `--keep` leaves its cluster running until Ctrl-C. Fails when a promise was not kept.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program")]

use std::process::ExitCode;
use std::{env, thread};

use anyhow::{Result, bail};
use rig::cluster::Cluster;
use rig::{demo, programs};

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the demo broke: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    let keep = match env::args().nth(1).as_deref() {
        None => false,
        Some("--keep") => true,
        Some(other) => bail!("unknown argument {other}; there is: --keep"),
    };
    demo::play(|cluster| if keep { stay(cluster) } else { Ok(()) })
}

/// Everything goes when this process does.
fn stay(cluster: &Cluster) -> Result<()> {
    let kubeconfig = cluster.admin_kubeconfig().display();
    println!("\nThe cluster stays until Ctrl-C. In another terminal:");
    let kubectl = cluster.kubectl_program().display();
    println!("  sudo {kubectl} --kubeconfig {kubeconfig} -n shop get all,configmaps");
    println!(
        "  sudo {} run --kubeconfig {kubeconfig} --user nobody -- {kubectl} version",
        programs::eks_guard()?.display()
    );
    loop {
        thread::park();
    }
}
