//! What the program finds around itself: the only place that reads the process's environment.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use crate::recording::writer::DEFAULT_FOLDER;
use crate::upstream::KubeconfigOptions;

/// Oldest kernel that the boundary is tested on.
const OLDEST_KERNEL: (u32, u32) = (6, 1);

/// Folder of what outlives a run.
const STATE_FOLDER: &str = "/var/lib/eks-guard";

/// Taken once, at the start.
#[derive(Debug)]
pub struct Surroundings {
    /// Effective user id.
    pub euid: u32,
    /// `6.12.3-generic`
    pub kernel: String,
    /// Working folder.
    pub directory: io::Result<PathBuf>,
    /// The environment.
    pub variables: Vec<(OsString, OsString)>,
}

impl Surroundings {
    /// Looks around.
    #[must_use]
    pub fn take() -> Surroundings {
        Surroundings {
            euid: rustix::process::geteuid().as_raw(),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            directory: std::env::current_dir(),
            variables: std::env::vars_os().collect(),
        }
    }

    /// Value of an environment variable; one that is empty counts as not set.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<OsString> {
        let found = self
            .variables
            .iter()
            .find(|(key, value)| key == name && !value.is_empty());
        found.map(|(_, value)| value.clone())
    }

    /// Folder of the records when none is given.
    #[must_use]
    pub fn records(&self) -> PathBuf {
        let state = self
            .variable("EKS_GUARD_STATE_DIR")
            .map(|folder| PathBuf::from(folder).join("records"));
        state.unwrap_or_else(|| PathBuf::from(DEFAULT_FOLDER))
    }

    /// Folder of what outlives a run beside the records.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        let named = self.variable("EKS_GUARD_STATE_DIR").map(PathBuf::from);
        named.unwrap_or_else(|| PathBuf::from(STATE_FOLDER))
    }

    /// Where whoever started this has a kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> KubeconfigOptions {
        KubeconfigOptions {
            kubeconfig_env: self.variable("KUBECONFIG"),
            home: self
                .variable("HOME")
                .map_or_else(|| PathBuf::from("/"), PathBuf::from),
            search_path: self.variable("PATH"),
            ..KubeconfigOptions::default()
        }
    }

    /// Why this machine, or this way of starting, cannot hold the boundary.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.euid != 0 {
            problems.push(
                "cannot build the boundary: eBPF and cgroups need root. Start it with sudo; the command itself runs as you"
                    .to_owned(),
            );
        }
        if version(&self.kernel).is_some_and(|kernel| kernel < OLDEST_KERNEL) {
            let (major, minor) = OLDEST_KERNEL;
            let kernel = &self.kernel;
            problems.push(format!(
                "cannot build the boundary: kernel {kernel} is too old. {major}.{minor} or newer is needed"
            ));
        }
        problems
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use crate::config::surroundings::version;

    #[test]
    fn kernel_versions_are_read() {
        assert_eq!(version("6.1.0-13-amd64"), Some((6, 1)));
        assert_eq!(version("5.15"), Some((5, 15)));
        assert_eq!(version("custom"), None);
    }
}
