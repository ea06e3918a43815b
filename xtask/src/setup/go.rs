//! Programs built from Go modules of this repository that pin them.
//! Kept in the cache folder by version and content of the pins, written in one step.

use std::fs::{self, File};
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
    /// Files that stand beside the programs: (file, program, the argument that prints it)
    pub(super) printed: &'static [(&'static str, &'static str, &'static str)],
    pub(super) duration: &'static str,
}

/// The ends of the names of what a module's programs are made from.
const SOURCES: [&str; 3] = ["go", "mod", "sum"];

/// The modules whose programs are not there yet.
pub(super) fn missing(modules: &'static [Module]) -> Result<Vec<Work>> {
    let mut works = Vec::new();
    for module in modules {
        let place = module.place()?;
        if module.files().all(|file| place.join(file).exists()) {
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
        for file in module.files() {
            link(&place.join(file), &folder.join(file))?;
        }
    }
    Ok(())
}

impl Module {
    fn name(&self) -> &'static str {
        self.folder.rsplit('/').next().unwrap_or(self.folder)
    }

    /// What a build leaves.
    fn files(&self) -> impl Iterator<Item = &'static str> {
        let programs = self.programs.iter().map(|(program, _)| *program);
        programs.chain(self.printed.iter().map(|(file, ..)| *file))
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
        let mut contents = Vec::new();
        for path in self.sources()? {
            contents.extend(fs::read(&path).with_context(|| format!("reading {}", path.display()))?);
        }
        let name = format!("{}-{}-{:016x}", self.name(), self.version()?, fnv1a(&contents));
        Ok(paths::cache()?.join("bin").join(name))
    }

    /// What the programs are made from, by name.
    fn sources(&self) -> Result<Vec<PathBuf>> {
        let folder = self.source();
        let entries = fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?;
        let paths = entries
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<Vec<_>>>()?;
        let is_source = |path: &PathBuf| {
            path.extension()
                .is_some_and(|it| SOURCES.iter().any(|end| it == *end))
        };
        let mut sources: Vec<PathBuf> = paths.into_iter().filter(is_source).collect();
        sources.sort();
        Ok(sources)
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
        })?;
        self.print(place)
    }

    /// Keeps what programs print of the modules that they were made from.
    fn print(&self, folder: &Path) -> Result<()> {
        self.printed.iter().try_for_each(|(file, program, argument)| {
            let path = folder.join(file);
            let out = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
            let mut printing = Command::new(folder.join(program));
            printing.current_dir(self.source()).arg(argument).stdout(out);
            process::run(printing, &format!("writing {file}"))
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
