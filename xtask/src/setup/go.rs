//! Programs built from Go modules of this repository that pin them.
//! Kept in the cache folder by version and content of the pins, written in one step.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::setup::{Work, fnv1a, link, make_whole};
use crate::{paths, process};

/// One Go module and the programs made from it.
pub(super) struct Module {
    /// In the workspace.
    pub(super) folder: &'static str,
    /// The module whose version is the version of the programs.
    pub(super) pinned: &'static str,
    /// (program, Go package)
    pub(super) programs: &'static [(&'static str, &'static str)],
    pub(super) duration: &'static str,
}

/// What a module's programs are made from; what is not there is left out.
const SOURCES: [&str; 4] = ["go.mod", "go.sum", "main.go", "operations.go"];

/// The modules whose programs are not there yet.
pub(super) fn missing(modules: &'static [Module]) -> Result<Vec<Work>> {
    let mut works = Vec::new();
    for module in modules {
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
                "Go is needed for the tests: install Go 1.26 or newer from https://go.dev/dl and run this again"
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
            name: module.name(),
            plan,
            job: Box::new(move || make_whole(&place, |place| module.build(place))),
        });
    }
    Ok(works)
}

/// Tests find the programs here, whatever their version.
pub(super) fn link_into_workspace(modules: &[Module]) -> Result<()> {
    let folder = paths::workspace().join("target/rig/bin");
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    for module in modules {
        let place = module.place()?;
        for (program, _) in module.programs {
            link(&place.join(program), &folder.join(program))?;
        }
    }
    Ok(())
}

impl Module {
    fn name(&self) -> &'static str {
        self.folder.rsplit('/').next().unwrap_or(self.folder)
    }

    fn source(&self) -> PathBuf {
        paths::workspace().join(self.folder)
    }

    fn version(&self) -> Result<String> {
        let manifest = self.source().join("go.mod");
        let text =
            fs::read_to_string(&manifest).with_context(|| format!("reading {}", manifest.display()))?;
        let version = pinned_version(&text, self.pinned)
            .with_context(|| format!("{} does not pin {}", manifest.display(), self.pinned))?;
        // kubectl of Kubernetes 1.N is published as v0.N, and says that it is v1.N.
        Ok(match version.strip_prefix("v0.") {
            Some(rest) if self.pinned == "k8s.io/kubectl" => format!("v1.{rest}"),
            Some(_) | None => version,
        })
    }

    /// `<cache>/bin/<name>-<version>-<hash of the sources>`
    fn place(&self) -> Result<PathBuf> {
        let mut sources = Vec::new();
        for name in SOURCES {
            let path = self.source().join(name);
            if path.exists() {
                sources.extend(fs::read(&path).with_context(|| format!("reading {}", path.display()))?);
            }
        }
        let name = format!("{}-{}-{:016x}", self.name(), self.version()?, fnv1a(&sources));
        Ok(paths::cache()?.join("bin").join(name))
    }

    fn build(&self, place: &Path) -> Result<()> {
        let flags = format!("-s -w{}", version_flags(&self.version()?));
        self.programs.iter().try_for_each(|(program, package)| {
            let mut go = Command::new("go");
            go.current_dir(self.source())
                .args(["build", "-v", "-trimpath", "-ldflags", &flags, "-o"]);
            go.arg(place.join(program)).arg(package);
            process::run_quiet(go, &format!("building {program}"))
                .context("Go keeps what it has compiled, so running this again goes on from here")
        })
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
    let mut lines = manifest
        .lines()
        .map(|line| line.trim_start_matches("require ").split_whitespace());
    lines.find_map(|mut words| {
        (words.next() == Some(module))
            .then(|| words.next().map(str::to_owned))
            .flatten()
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
        let short = pinned_version("require helm.sh/helm/v3 v3.22.0\n", "helm.sh/helm/v3");
        assert_eq!(short.as_deref(), Some("v3.22.0"));
    }
}
