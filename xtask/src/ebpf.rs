//! Builds the eBPF object that `eks-guard` embeds, with a compiler that has `core` for the BPF target.

use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::ffi::OsString;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;
use std::{env, fs};

use anyhow::{Context, Result, bail, ensure};

const TARGET: &str = "bpfel-unknown-none";
const PACKAGE: &str = "eks-guard-ebpf";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CORE: &str = "/usr/lib/rustlib/bpfel-unknown-none/lib";

const LLVM_STRIP: &str = "/usr/lib/llvm-22/bin/llvm-strip";

/// Builds `target/ebpf/eks-guard.o` and returns its path; does nothing when neither sources nor compiler changed.
///
/// # Errors
/// No compiler with a BPF `core`, no bpf-linker, or the build fails; the message says what to install.
pub(crate) fn build(workspace: &Path) -> Result<PathBuf> {
    let folder = workspace.join("target/ebpf");
    let object = folder.join("eks-guard.o");
    let stamp = folder.join("eks-guard.stamp");
    let fingerprint = fingerprint(workspace)?;
    if object.exists() && fs::read_to_string(&stamp).is_ok_and(|old| old == fingerprint) {
        return Ok(object);
    }
    let begin = Instant::now();
    let compiler = Compiler::find()?;
    say(&format!("building the eBPF object with {}", compiler.describe()));
    let built = compile(workspace, &compiler)?;
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let bytes = stripped(&built)?;
    // An object that came out the same keeps its age, so that nothing that embeds it is built again.
    if fs::read(&object).ok().as_ref() != Some(&bytes) {
        fs::write(&object, &bytes).with_context(|| format!("writing {}", object.display()))?;
    }
    fs::write(&stamp, fingerprint).with_context(|| format!("writing {}", stamp.display()))?;
    say(&format!(
        "eBPF object: {} bytes in {:.1} s",
        bytes.len(),
        begin.elapsed().as_secs_f32()
    ));
    Ok(object)
}

/// A compiler that can build for the BPF target.
#[derive(Debug)]
enum Compiler {
    /// Debian's `rustc-web` with `libstd-rust-web-dev-bpf`.
    Debian,
    /// rustup's nightly with `rust-src`: builds `core` itself.
    Nightly,
}

impl Compiler {
    fn find() -> Result<Self> {
        if Path::new(DEBIAN_RUSTC).exists() && Path::new(DEBIAN_CORE).is_dir() {
            return Ok(Self::Debian);
        }
        let sysroot = Command::new("rustup")
            .args(["run", "nightly", "rustc", "--print", "sysroot"])
            .output();
        if let Ok(output) = sysroot
            && output.status.success()
            && Path::new(String::from_utf8_lossy(&output.stdout).trim())
                .join("lib/rustlib/src/rust/library/core")
                .is_dir()
        {
            return Ok(Self::Nightly);
        }
        bail!(
            "no compiler for the BPF target: run `cargo xtask setup`, or install Debian's rustc-web and \
             libstd-rust-web-dev-bpf, or `rustup toolchain install nightly --component rust-src`"
        )
    }

    fn describe(&self) -> &'static str {
        match self {
            Self::Debian => "Debian's rustc",
            Self::Nightly => "rustup's nightly",
        }
    }

    fn cargo(&self) -> Command {
        match self {
            Self::Debian => {
                let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
                // aya-ebpf turns one unstable feature on.
                cargo.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
                cargo
            }
            Self::Nightly => {
                let mut rustup = Command::new("rustup");
                rustup
                    .args(["run", "nightly", "cargo"])
                    .env_remove("RUSTC")
                    .env_remove("RUSTUP_TOOLCHAIN");
                rustup
            }
        }
    }
}

fn compile(workspace: &Path, compiler: &Compiler) -> Result<PathBuf> {
    let path = linker_path()?;
    let target_dir = workspace.join("target/ebpf-build");
    let mut cargo = compiler.cargo();
    cargo
        .current_dir(workspace)
        .args([
            "build",
            "--quiet",
            "--locked",
            "--package",
            PACKAGE,
            "--bin",
            PACKAGE,
            "--features",
            "programs",
        ])
        .args(["--profile", "ebpf", "--target", TARGET, "--target-dir"])
        .arg(&target_dir)
        .env("PATH", path)
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags(workspace));
    for inherited in [
        "RUSTFLAGS",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "CARGO_BUILD_TARGET",
        "CARGO_TARGET_DIR",
    ] {
        cargo.env_remove(inherited);
    }
    if matches!(compiler, Compiler::Nightly) {
        cargo.args(["-Z", "build-std=core"]);
    }
    let status = cargo.status().context("starting cargo for the eBPF object")?;
    ensure!(
        status.success(),
        "the eBPF object did not build ({status}); the compiler's message is above"
    );
    Ok(target_dir.join(TARGET).join("ebpf").join(PACKAGE))
}

/// The object without its DWARF, nine tenths of it; BTF has been made from it and stays. Without LLVM's tools it is only large.
fn stripped(built: &Path) -> Result<Vec<u8>> {
    let small = built.with_extension("stripped");
    let tool = [LLVM_STRIP, "llvm-strip"].into_iter().find(|tool| {
        let run = Command::new(tool)
            .arg("--strip-debug")
            .arg(built)
            .arg("-o")
            .arg(&small)
            .status();
        run.is_ok_and(|status| status.success())
    });
    let file = if tool.is_some() { &small } else { built };
    fs::read(file).with_context(|| format!("reading {}", file.display()))
}

/// The flags, in the form that allows spaces in them. Paths are shortened: the object is the same wherever it is built.
fn rustflags(workspace: &Path) -> String {
    let mut flags = vec![
        format!("--cfg=bpf_target_arch=\"{ARCH}\""),
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        format!("--remap-path-prefix={}=eks-guard", workspace.display()),
    ];
    if let Some(home) = cargo_home() {
        flags.push(format!("--remap-path-prefix={}=cargo", home.display()));
    }
    flags.join("\x1f")
}

/// `PATH` on which bpf-linker is found.
fn linker_path() -> Result<OsString> {
    let mut folders: Vec<PathBuf> = env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect();
    folders.extend(cargo_home().map(|home| home.join("bin")));
    ensure!(
        folders.iter().any(|folder| folder.join("bpf-linker").is_file()),
        "bpf-linker is missing: run `cargo xtask setup`"
    );
    env::join_paths(folders).context("PATH cannot be extended")
}

fn cargo_home() -> Option<PathBuf> {
    let named = env::var_os("CARGO_HOME").map(PathBuf::from);
    named.or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")))
}

/// What the object depends on: sources, versions of dependencies, flags, compiler.
fn fingerprint(workspace: &Path) -> Result<String> {
    let mut files = BTreeMap::new();
    for name in [
        "Cargo.toml",
        "Cargo.lock",
        "eks-guard-ebpf/Cargo.toml",
        "xtask/src/ebpf.rs",
    ] {
        let path = workspace.join(name);
        files.insert(
            path.clone(),
            fs::read(&path).with_context(|| format!("reading {}", path.display()))?,
        );
    }
    read_sources(&workspace.join(PACKAGE).join("src"), &mut files)?;
    let mut hasher = DefaultHasher::new();
    files.hash(&mut hasher);
    if let Ok(compiler) = Command::new(DEBIAN_RUSTC).arg("--version").output() {
        compiler.stdout.hash(&mut hasher);
    }
    Ok(format!("{:016x}\n", hasher.finish()))
}

fn read_sources(folder: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry
            .with_context(|| format!("reading {}", folder.display()))?
            .path();
        if path.is_dir() {
            read_sources(&path, files)?;
        } else {
            let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
            files.insert(path, bytes);
        }
    }
    Ok(())
}

#[expect(
    clippy::print_stderr,
    reason = "an automation tells the person in front of it what it does"
)]
fn say(line: &str) {
    eprintln!("{line}");
}
