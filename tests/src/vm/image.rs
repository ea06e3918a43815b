//! The initramfs of a guest: our init, the test binary, the programs that tests call, their libraries, kernel modules.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tempfile::NamedTempFile;

use crate::programs;
use crate::vm::cpio::Archive;
use crate::vm::{Kernel, guest};

/// What the tests call.
const CALLED: [&str; 4] = ["ip", "cat", "sh", "env"];

/// Modules of Debian's kernels, each after those it needs: virtual wires, traffic control and packet filters, and the
/// protocols that a hostile process could try instead of TCP.
const MODULES: [&str; 17] = [
    "veth",
    "libcrc32c",
    "nfnetlink",
    "nf_tables",
    "sch_ingress",
    "cls_bpf",
    "inet_diag",
    "tcp_diag",
    "udp_diag",
    "udp_tunnel",
    "ip6_udp_tunnel",
    "sctp",
    "dccp",
    "dccp_ipv4",
    "l2tp_core",
    "l2tp_ip",
    "l2tp_ip6",
];

/// Programs of this build, which tests find beside their own.
const BUILT: [&str; 3] = ["eks-guard", "eks-guard-probe", "leash"];
/// The users that tests name.
const ACCOUNTS: &[u8] = b"root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/nonexistent:/bin/sh\n";

/// The end of a module that is signed (`MODULE_SIG_STRING` of linux/module_signature.h).
const SIGNED: &[u8] = b"~Module signature appended~\n";

/// The compiled test suite that guests run, which `cargo xtask test kernels` builds.
pub fn payload() -> Result<PathBuf> {
    let link = programs::workspace().join("target/rig/guest/netns");
    fs::canonicalize(&link).context("no test binary for the guests yet; run `cargo xtask test kernels`")
}

/// Writes the initramfs of a guest that runs these tests of `payload` to `path`.
pub fn write(path: &Path, kernel: &Kernel, payload: &Path, tests: &[&str]) -> Result<()> {
    let mut archive = Archive::default();
    for folder in ["dev", "proc", "root", "run", "sys", "tmp"] {
        archive.folder(folder);
    }
    archive.file("/etc/passwd", ACCOUNTS);
    let built = programs::workspace().join("target/debug");
    let mut executables = vec![
        ("/init".to_owned(), built.join("guest-init")),
        (guest::PAYLOAD.to_owned(), payload.to_owned()),
    ];
    for name in BUILT {
        executables.push((format!("/{name}"), built.join(name)));
    }
    for name in CALLED {
        executables.push((format!("{}/{name}", guest::PROGRAMS), on_this_machine(name)?));
    }
    let mut libraries = BTreeMap::new();
    for (place, file) in &executables {
        archive.file(place, &without_symbols(file)?);
        for library in libraries_of(file)? {
            libraries.insert(library.clone(), read(Path::new(&library))?);
        }
    }
    for (place, content) in &libraries {
        archive.file(place, content);
    }
    archive.file(guest::TESTS, tests.join("\n").as_bytes());
    let offered = offered_modules(&kernel.modules())?;
    for (order, name) in MODULES.iter().enumerate() {
        let file = offered
            .get(*name)
            .with_context(|| format!("kernel {} has no module {name}", kernel.series))?;
        archive.file(
            &format!("{}/{order:02}-{name}.ko", guest::MODULES),
            &module(file)?,
        );
    }
    fs::write(path, archive.finish()).with_context(|| format!("writing {}", path.display()))
}

/// A program as small as it runs: the guest's kernel copies all of its first root, and most of a test binary is for debuggers.
fn without_symbols(program: &Path) -> Result<Vec<u8>> {
    let stripped = NamedTempFile::new().context("making a file")?;
    let mut strip = Command::new("strip");
    strip.arg("-o").arg(stripped.path()).arg(program);
    output_of(strip)?;
    read(stripped.path())
}

/// A module as a guest loads it soonest: not compressed, and without its signature, which no kernel here insists on.
fn module(file: &Path) -> Result<Vec<u8>> {
    if file.extension().is_none_or(|last| last != "xz") {
        return Ok(unsigned(read(file)?));
    }
    let mut xz = Command::new("xz");
    xz.args(["--decompress", "--stdout"]).arg(file);
    Ok(unsigned(output_of(xz)?))
}

/// Without the words that a signature stands before them.
fn unsigned(mut module: Vec<u8>) -> Vec<u8> {
    if module.ends_with(SIGNED) {
        module.truncate(module.len() - SIGNED.len());
    }
    module
}

/// What a program of this machine prints.
fn output_of(mut command: Command) -> Result<Vec<u8>> {
    let output = command
        .output()
        .with_context(|| format!("starting {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?} failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output.stdout)
}

/// Modules by name.
fn offered_modules(folder: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(offered_modules(&path)?);
            continue;
        }
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        if let Some((stem, "ko" | "ko.xz")) = name.as_deref().and_then(|name| name.split_once('.')) {
            found.insert(stem.to_owned(), path);
        }
    }
    Ok(found)
}

fn on_this_machine(program: &str) -> Result<PathBuf> {
    ["/usr/bin", "/bin", "/usr/sbin", "/sbin"]
        .iter()
        .map(|folder| Path::new(folder).join(program))
        .find(|path| path.exists())
        .with_context(|| format!("no {program} on this machine; run `cargo xtask setup`"))
}

/// Paths of the libraries a program is started with, the dynamic linker included.
fn libraries_of(program: &Path) -> Result<Vec<String>> {
    let output = Command::new("ldd")
        .arg(program)
        .output()
        .context("starting ldd")?;
    if String::from_utf8_lossy(&output.stderr).contains("not a dynamic executable") {
        return Ok(Vec::new());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success() && !text.contains("not found"),
        "the libraries of {} are not all there:\n{text}",
        program.display()
    );
    Ok(library_paths(&text))
}

/// `libc.so.6 => /lib/libc.so.6 (0x…)` or `/lib64/ld-linux-x86-64.so.2 (0x…)`
fn library_paths(text: &str) -> Vec<String> {
    let words = text.lines().filter_map(|line| {
        line.split_whitespace()
            .find(|word| word.starts_with('/'))
            .map(str::to_owned)
    });
    words.collect()
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("reading {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_libraries_of_a_program() {
        let text = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f0a)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f0b)\n";
        assert_eq!(
            library_paths(text),
            ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"]
        );
        assert!(library_paths("\tstatically linked\n").is_empty());
    }

    #[test]
    fn a_module_is_not_said_to_be_signed() {
        let signed = [b"ELF signature", SIGNED].concat();
        assert_eq!(unsigned(signed), b"ELF signature");
        assert_eq!(unsigned(b"ELF".to_vec()), b"ELF");
    }
}
