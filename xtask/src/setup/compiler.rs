//! What the eBPF object is built with: a Rust compiler that has `core` for the BPF target, and bpf-linker with its LLVM.

use std::env;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::setup::{Work, packages};
use crate::{paths, process};

const BPF_LINKER: &str = "0.13.0";
const LLVM: &str = "/usr/lib/llvm-22";
const PACKAGES: [&str; 4] = [
    "rustc-web",
    "libstd-rust-web-dev-bpf",
    "llvm-22-dev",
    "libpolly-22-dev",
];

/// Where the compiler comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Debian,
    Rustup,
}

pub(super) fn missing() -> Result<Option<Work>> {
    let has_linker = has_linker()?;
    if has_linker && (debian_compiler() || rustup_compiler()) {
        return Ok(None);
    }
    let source = if debian_offers() {
        Source::Debian
    } else {
        Source::Rustup
    };
    let wanted: Vec<&'static str> = match source {
        Source::Debian => PACKAGES
            .into_iter()
            .filter(|package| !packages::installed(package))
            .collect(),
        Source::Rustup => Vec::new(),
    };
    let mut plan = Vec::new();
    if !wanted.is_empty() {
        plan.push(packages::plan(&wanted));
    }
    if source == Source::Rustup && !rustup_compiler() {
        plan.push("install rustup's nightly toolchain with rust-src".to_owned());
    }
    if !has_linker {
        plan.push(format!("cargo install bpf-linker {BPF_LINKER} (about 1 minute)"));
    }
    let job = move || {
        packages::install(&wanted)
            .context("or remove the compiler's package source to use rustup's nightly")?;
        if source == Source::Rustup && !rustup_compiler() {
            install_nightly()?;
        }
        if has_linker { Ok(()) } else { install_linker() }
    };
    Ok(Some(Work {
        name: "eBPF compiler",
        plan: plan.join(", "),
        job: Box::new(job),
    }))
}

fn debian_compiler() -> bool {
    PACKAGES[..2].iter().all(|package| packages::installed(package))
}

fn rustup_compiler() -> bool {
    let sysroot = process::output_of("rustup", &["run", "nightly", "rustc", "--print", "sysroot"]);
    sysroot.is_some_and(|path| {
        Path::new(path.trim())
            .join("lib/rustlib/src/rust/library/core")
            .is_dir()
    })
}

/// Debian knows the compiler, perhaps only after its lists were fetched.
fn debian_offers() -> bool {
    let known =
        || process::output_of("apt-cache", &["show", PACKAGES[0]]).is_some_and(|text| !text.is_empty());
    process::output_of("apt-get", &["--version"]).is_some()
        && (debian_compiler() || known() || (packages::update() && known()))
}

fn install_nightly() -> Result<()> {
    let mut rustup = Command::new("rustup");
    rustup.args([
        "toolchain",
        "install",
        "nightly",
        "--profile",
        "minimal",
        "--component",
        "rust-src",
    ]);
    process::run_quiet(rustup, "installing rustup's nightly with rust-src")
        .context("rustup is needed: https://rustup.rs")
}

fn has_linker() -> Result<bool> {
    let here = paths::cargo_bin()?.join("bpf-linker");
    let version =
        process::output_of(here, &["--version"]).or_else(|| process::output_of("bpf-linker", &["--version"]));
    Ok(version.is_some_and(|text| text.split_whitespace().any(|word| word == BPF_LINKER)))
}

fn install_linker() -> Result<()> {
    let mut cargo = Command::new(paths::cargo());
    cargo.args([
        "install",
        "bpf-linker",
        "--version",
        BPF_LINKER,
        "--locked",
        "--force",
    ]);
    if Path::new(LLVM).is_dir() {
        let mut path = vec![Path::new(LLVM).join("bin")];
        path.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
        cargo.env("LLVM_PREFIX", LLVM).env("PATH", env::join_paths(path)?);
    }
    process::run_quiet(cargo, "installing bpf-linker")
        .context("it needs the development files of LLVM 22; set LLVM_PREFIX to where they are")
}
