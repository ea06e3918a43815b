//! The server side of the test cluster, built from the Go modules in `tests/cluster` that pin it.
//! Kept in the cache folder by version and content of the pins, written in one step, linked into `target/rig/bin`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self as this, Command};

use anyhow::{Context, Result, bail};

use crate::setup::{Work, link};
use crate::{paths, process};

/// One Go module and the programs made from it.
struct Module {
    folder: &'static str,
    /// The module whose version is the version of the programs.
    pinned: &'static str,
    /// (program, Go package)
    programs: &'static [(&'static str, &'static str)],
    duration: &'static str,
}

const MODULES: [Module; 2] = [
    Module {
        folder: "kubernetes",
        pinned: "k8s.io/kubernetes",
        programs: &[
            ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
            (
                "kube-controller-manager",
                "k8s.io/kubernetes/cmd/kube-controller-manager",
            ),
            ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
        ],
        duration: "5 to 8 minutes the first time",
    },
    Module {
        folder: "etcd",
        pinned: "go.etcd.io/etcd/server/v3",
        programs: &[("etcd", "go.etcd.io/etcd/server/v3")],
        duration: "under a minute",
    },
];

pub(super) fn missing() -> Result<Vec<Work>> {
    let mut works = Vec::new();
    for module in &MODULES {
        let place = module.place()?;
        if module
            .programs
            .iter()
            .all(|(program, _)| place.join(program).exists())
        {
            continue;
        }
        if process::output_of("go", &["version"]).is_none() {
            bail!(
                "Go is needed to build the test cluster: install Go 1.26 or newer from https://go.dev/dl and run this again"
            );
        }
        let names: Vec<&str> = module.programs.iter().map(|(program, _)| *program).collect();
        let plan = format!(
            "build {} {} ({})",
            names.join(", "),
            module.version()?,
            module.duration
        );
        works.push(Work {
            name: module.folder,
            plan,
            job: Box::new(move || module.build(&place)),
        });
    }
    Ok(works)
}

/// Tests find the programs here, whatever their version.
pub(super) fn link_into_workspace() -> Result<()> {
    let folder = paths::workspace().join("target/rig/bin");
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    for module in &MODULES {
        let place = module.place()?;
        for (program, _) in module.programs {
            let (from, to) = (place.join(program), folder.join(program));
            link(&from, &to)?;
        }
    }
    Ok(())
}

impl Module {
    fn source(&self) -> PathBuf {
        paths::workspace().join("tests/cluster").join(self.folder)
    }

    fn version(&self) -> Result<String> {
        let manifest = self.source().join("go.mod");
        let text =
            fs::read_to_string(&manifest).with_context(|| format!("reading {}", manifest.display()))?;
        pinned_version(&text, self.pinned)
            .with_context(|| format!("{} does not pin {}", manifest.display(), self.pinned))
    }

    /// `<cache>/bin/<folder>-<version>-<hash of go.mod and go.sum>`
    fn place(&self) -> Result<PathBuf> {
        let mut pins = fs::read(self.source().join("go.mod"))?;
        pins.extend(fs::read(self.source().join("go.sum"))?);
        let name = format!("{}-{}-{:016x}", self.folder, self.version()?, fnv1a(&pins));
        Ok(paths::cache()?.join("bin").join(name))
    }

    /// Builds beside the final place and renames: what is there is whole.
    fn build(&self, place: &Path) -> Result<()> {
        let temporary = place.with_extension(format!("new-{}", this::id()));
        fs::create_dir_all(&temporary).with_context(|| format!("making {}", temporary.display()))?;
        let flags = format!("-s -w{}", version_flags(&self.version()?));
        let result = self.programs.iter().try_for_each(|(program, package)| {
            let mut go = Command::new("go");
            go.current_dir(self.source())
                .args(["build", "-v", "-trimpath", "-ldflags", &flags, "-o"]);
            go.arg(temporary.join(program)).arg(package);
            process::run_quiet(go, &format!("building {program}"))
        });
        if let Err(error) = result {
            fs::remove_dir_all(&temporary).context("removing the unfinished build")?;
            return Err(
                error.context("Go keeps what it has compiled, so running this again goes on from here")
            );
        }
        if place.exists() {
            fs::remove_dir_all(place).context("removing an incomplete build")?;
        }
        fs::rename(&temporary, place).with_context(|| format!("moving the build to {}", place.display()))
    }
}

/// What `kubectl version` and `/version` say; without these it is v0.0.0.
fn version_flags(version: &str) -> String {
    let numbers: Vec<&str> = version.trim_start_matches('v').split('.').collect();
    let set = |name: &str, value: &str| format!(" -X k8s.io/component-base/version.{name}={value}");
    match numbers[..] {
        [major, minor, _] => set("gitVersion", version) + &set("gitMajor", major) + &set("gitMinor", minor),
        _ => set("gitVersion", version),
    }
}

fn pinned_version(manifest: &str, module: &str) -> Option<String> {
    let mut lines = manifest.lines().map(str::split_whitespace);
    lines.find_map(|mut words| {
        (words.next() == Some(module))
            .then(|| words.next().map(str::to_owned))
            .flatten()
    })
}

/// Stable across builds of this program, unlike the hasher of the standard library.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_pinned_version() {
        let manifest =
            "require (\n\tk8s.io/kubectl v0.0.0 // indirect\n\tk8s.io/kubernetes v1.36.3 // indirect\n)";
        assert_eq!(
            pinned_version(manifest, "k8s.io/kubernetes").as_deref(),
            Some("v1.36.3")
        );
        assert_eq!(pinned_version(manifest, "k8s.io/other"), None);
    }

    #[test]
    fn hashes_as_published() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
    }
}
