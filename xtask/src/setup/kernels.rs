//! Debian's cloud kernels for the guests of the kernel matrix: taken out of their packages, never installed.
//! Kept in the cache folder by version, written in one step, linked into `target/rig/kernels`.

use std::env::consts::ARCH;
use std::path::{Path, PathBuf};
use std::process::{self as this, Command};
use std::{fs, io};

use anyhow::{Context, Result, bail};

use crate::setup::{Work, link, packages};
use crate::{paths, process};

/// The oldest kernel that is supported, and one between it and today's.
const SERIES: [&str; 2] = ["6.1", "6.12"];

pub(super) fn missing() -> Result<Option<Work>> {
    if ARCH != "x86_64" {
        bail!(
            "the kernel matrix runs Debian's amd64 kernels and this build's programs in them: an x86-64 machine is needed"
        );
    }
    let mut wanted = Vec::new();
    for series in SERIES {
        if newest(series)?.is_none() {
            wanted.push(series);
        }
    }
    if wanted.is_empty() {
        return Ok(None);
    }
    let names: Vec<String> = wanted.iter().map(|series| pattern(series)).collect();
    let plan = format!(
        "take the newest {} out of Debian's packages (30 MB each), not installed",
        names.join(" and ")
    );
    let job = move || {
        // What is offered changes often, and what is no longer offered cannot be fetched.
        packages::update();
        wanted.into_iter().try_for_each(fetch)
    };
    Ok(Some(Work {
        name: "kernels",
        plan,
        job: Box::new(job),
    }))
}

/// Tests find the kernels here, whatever their version.
pub(super) fn link_into_workspace() -> Result<()> {
    let folder = paths::workspace().join("target/rig/kernels");
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    for series in SERIES {
        let kernel = newest(series)?.with_context(|| format!("no kernel {series} after setup"))?;
        link(&kernel, &folder.join(series))?;
    }
    Ok(())
}

/// The package of a series, as one names it to apt.
fn pattern(series: &str) -> String {
    format!("linux-image-{series}*-cloud-amd64")
}

/// `<cache>/kernels/<series>/<package>`
fn place(series: &str) -> Result<PathBuf> {
    Ok(paths::cache()?.join("kernels").join(series))
}

/// The newest kernel of a series that is in the cache.
fn newest(series: &str) -> Result<Option<PathBuf>> {
    let place = place(series)?;
    let names = match fs::read_dir(&place) {
        Ok(entries) => entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<Vec<String>>>(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    };
    let names = names.with_context(|| format!("reading {}", place.display()))?;
    let whole = names.into_iter().filter(|name| of_series(name, series));
    Ok(whole
        .max_by_key(|name| numbers(name))
        .map(|name| place.join(name)))
}

/// `linux-image-6.1.0-56-cloud-amd64` and its like; not the packages of debug symbols or unsigned images.
fn of_series(package: &str, series: &str) -> bool {
    package
        .strip_prefix("linux-image-")
        .and_then(|rest| rest.strip_suffix("-cloud-amd64"))
        .and_then(|rest| rest.strip_prefix(series))
        .is_some_and(|rest| rest.starts_with('.'))
}

/// The numbers in a name: 6.1.0-9 comes before 6.1.0-56.
fn numbers(package: &str) -> Vec<u64> {
    let digits = package.split(|character: char| !character.is_ascii_digit());
    digits.filter_map(|number| number.parse().ok()).collect()
}

fn fetch(series: &str) -> Result<()> {
    let place = place(series)?;
    let package = offered(series).with_context(|| {
        format!(
            "apt offers no {}: add the package sources bookworm and bookworm-security of Debian, or put a kernel's \
             vmlinuz and its modules (lib/modules/VERSION as `modules`) into {}/linux-image-{series}.0-own-cloud-amd64",
            pattern(series),
            place.display()
        )
    })?;
    let work = place.join(format!("new-{}", this::id()));
    fs::create_dir_all(&work).with_context(|| format!("making {}", work.display()))?;
    let result = unpack(&package, &work).and_then(|kernel| {
        let to = place.join(&package);
        fs::rename(&kernel, &to).with_context(|| format!("moving the kernel to {}", to.display()))
    });
    fs::remove_dir_all(&work).with_context(|| format!("removing {}", work.display()))?;
    result
}

/// The newest package of a series that apt knows.
fn offered(series: &str) -> Option<String> {
    let known = process::output_of("apt-cache", &["pkgnames", &format!("linux-image-{series}.")])?;
    let names = known.lines().filter(|name| of_series(name, series));
    names.max_by_key(|name| numbers(name)).map(str::to_owned)
}

/// Downloads a package into `work` and takes out what a guest boots from; the folder with that.
fn unpack(package: &str, work: &Path) -> Result<PathBuf> {
    let mut apt = Command::new("apt-get");
    apt.args(["download", package]).current_dir(work);
    process::run_quiet(apt, &format!("downloading {package}"))?;
    let archive = only(work, "deb")?;
    let root = work.join("root");
    let mut dpkg = Command::new("dpkg-deb");
    dpkg.arg("--extract").arg(&archive).arg(&root);
    process::run_quiet(dpkg, &format!("unpacking {package}"))?;
    let kernel = work.join("kernel");
    fs::create_dir(&kernel).context("making the folder of the kernel")?;
    let release = package.trim_start_matches("linux-image-");
    for (from, to) in [
        (format!("boot/vmlinuz-{release}"), "vmlinuz"),
        (format!("lib/modules/{release}"), "modules"),
    ] {
        // Newer packages have everything below /usr.
        let found = [root.join(&from), root.join("usr").join(&from)]
            .into_iter()
            .find(|path| path.exists());
        let found = found.with_context(|| format!("{package} holds no {from}"))?;
        fs::rename(&found, kernel.join(to)).with_context(|| format!("moving {}", found.display()))?;
    }
    Ok(kernel)
}

fn only(folder: &Path, extension: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    let paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<Vec<PathBuf>>>()?;
    let mut matching = paths
        .into_iter()
        .filter(|path| path.extension().is_some_and(|found| found == extension));
    matching
        .next()
        .with_context(|| format!("apt-get download left no .{extension} file"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_packages_of_a_series() {
        for (package, expected) in [
            ("linux-image-6.1.0-56-cloud-amd64", true),
            ("linux-image-6.1.0-56-cloud-amd64-unsigned", false),
            ("linux-image-6.1.0-56-cloud-amd64-dbg", false),
            ("linux-image-6.1.0-56-amd64", false),
            ("linux-image-6.12.117+deb12-cloud-amd64", false),
            ("linux-image-6.1-cloud-amd64", false),
            ("new-4711", false),
        ] {
            assert_eq!(of_series(package, "6.1"), expected, "{package}");
        }
        assert!(of_series("linux-image-6.12.117+deb12-cloud-amd64", "6.12"));
    }

    #[test]
    fn the_newest_is_found_by_number() {
        let newest = [
            "linux-image-6.1.0-9-cloud-amd64",
            "linux-image-6.1.0-56-cloud-amd64",
        ]
        .into_iter()
        .max_by_key(|name| numbers(name));
        assert_eq!(newest, Some("linux-image-6.1.0-56-cloud-amd64"));
    }
}
