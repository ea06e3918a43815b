//! The clients that the suite `compatible` compares, from the lock files in `tests/clients`: kept in the cache folder by the content
//! of what pins them, and linked into `target/rig/clients`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::setup::go::Module;
use crate::setup::{Work, fnv1a, link, make_whole, packages};
use crate::{paths, process};

pub(super) const MODULES: [Module; 4] = [
    Module {
        folder: "tests/clients/kubectl-1.31",
        pinned: "k8s.io/kubectl",
        programs: &[("kubectl-1.31", ".")],
        printed: &[],
        duration: "2 to 4 minutes the first time",
    },
    Module {
        folder: "tests/clients/kubectl-1.29",
        pinned: "k8s.io/kubectl",
        programs: &[("kubectl-1.29", ".")],
        printed: &[],
        duration: "2 to 4 minutes the first time",
    },
    Module {
        folder: "tests/clients/client-go",
        pinned: "k8s.io/client-go",
        programs: &[("client-go", ".")],
        printed: &[],
        duration: "2 to 4 minutes the first time",
    },
    Module {
        folder: "tests/clients/helm-3",
        pinned: "helm.sh/helm/v3",
        programs: &[("helm-3", "helm.sh/helm/v3/cmd/helm")],
        printed: &[],
        duration: "2 to 4 minutes the first time",
    },
];

/// Debian's own: an interpreter that every user can run, and what installs for it.
const PYTHON: [&str; 2] = ["python3", "python3-pip"];

/// What a package manager installs into a folder of its own.
struct Project {
    /// In `tests/clients`, and the name of the link.
    folder: &'static str,
    /// What makes the installation the same everywhere.
    pins: &'static [&'static str],
    plan: &'static str,
    install: fn(source: &Path, place: &Path) -> Result<()>,
}

const PROJECTS: [Project; 3] = [
    Project {
        folder: "python",
        pins: &["requirements.txt"],
        plan: "pip install the Python client, with Debian's python3-pip (under a minute)",
        install: with_pip,
    },
    Project {
        folder: "mcp",
        pins: &["package.json", "package-lock.json"],
        plan: "npm install two MCP servers (1 to 2 minutes)",
        install: with_npm,
    },
    Project {
        folder: "kube-rs",
        pins: &["Cargo.lock", "Cargo.toml", "src/main.rs", "src/operations.rs"],
        plan: "cargo build a program with kube-rs (1 to 3 minutes)",
        install: with_cargo,
    },
];

/// What is not installed yet.
pub(super) fn missing() -> Result<Vec<Work>> {
    let mut works = Vec::new();
    for project in &PROJECTS {
        let place = project.place()?;
        if !place.exists() {
            works.push(Work {
                name: project.folder,
                plan: project.plan.to_owned(),
                job: Box::new(move || {
                    make_whole(&place, |place| (project.install)(&project.source(), place))
                }),
            });
        }
    }
    Ok(works)
}

/// Tests find them here, whatever their version.
pub(super) fn link_into_workspace() -> Result<()> {
    let folder = paths::workspace().join("target/rig/clients");
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    for project in &PROJECTS {
        link(&project.place()?, &folder.join(project.folder))?;
    }
    Ok(())
}

impl Project {
    fn source(&self) -> PathBuf {
        paths::workspace().join("tests/clients").join(self.folder)
    }

    /// `<cache>/clients/<folder>-<hash of the pins>`
    fn place(&self) -> Result<PathBuf> {
        let mut pins = Vec::new();
        for name in self.pins {
            let path = self.source().join(name);
            pins.extend(fs::read(&path).with_context(|| format!("reading {}", path.display()))?);
        }
        let name = format!("{}-{:016x}", self.folder, fnv1a(&pins));
        Ok(paths::cache()?.join("clients").join(name))
    }
}

fn with_pip(source: &Path, place: &Path) -> Result<()> {
    packages::install(&packages::absent(&PYTHON))?;
    let mut pip = Command::new("/usr/bin/python3");
    pip.args([
        "-m",
        "pip",
        "install",
        "--require-hashes",
        "--no-deps",
        "--only-binary=:all:",
    ]);
    pip.arg("--target").arg(place);
    pip.arg("--requirement").arg(source.join("requirements.txt"));
    process::run_quiet(pip, "installing the Python client")
}

/// Scripts of packages are not run: the servers need none.
fn with_npm(source: &Path, place: &Path) -> Result<()> {
    if process::output_of("npm", &["--version"]).is_none() {
        bail!(
            "npm is needed for the suite `compatible`: install Node.js 18 or newer with npm and run this again"
        );
    }
    for name in ["package.json", "package-lock.json"] {
        fs::copy(source.join(name), place.join(name)).with_context(|| format!("copying {name}"))?;
    }
    let mut npm = Command::new("npm");
    // Not `npm ci`: it refuses a lock file without the optional packages of other platforms, and npm writes it so.
    npm.args([
        "install",
        "--ignore-scripts",
        "--no-save",
        "--no-audit",
        "--no-fund",
    ])
    .current_dir(place);
    process::run_quiet(npm, "installing the MCP servers")
}

fn with_cargo(source: &Path, place: &Path) -> Result<()> {
    let target = paths::workspace().join("target/kube-rs");
    let mut cargo = Command::new(paths::cargo());
    cargo.args(["build", "--locked", "--manifest-path"]);
    cargo
        .arg(source.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target);
    process::run_quiet(cargo, "building the program with kube-rs")?;
    let program = target.join("debug/kube-rs-client");
    fs::copy(&program, place.join("kube-rs-client"))
        .with_context(|| format!("copying {}", program.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_older_kubectls_are_the_same_program() {
        let folder = paths::workspace().join("tests/clients");
        let program = |name: &str| fs::read_to_string(folder.join(name).join("main.go")).unwrap();
        assert_eq!(program("kubectl-1.29"), program("kubectl-1.31"));
    }
}
