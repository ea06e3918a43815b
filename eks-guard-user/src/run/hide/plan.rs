//! What is always out of sight: credentials, the guard's own files, and the places where programs outside listen for orders.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The guard's own folder for running state. Inside the boundary an empty one, with the staging files, stands there.
pub const STATE: &str = "/run/eks-guard";
/// The guard's own folder for records.
pub const LIBRARY: &str = "/var/lib/eks-guard";
/// Where a command that cannot reach the operator's kubeconfig path finds the generated one.
pub const FALLBACK_KUBECONFIG: &str = "/run/eks-guard/kube/config";

/// Credentials below a home folder, and what opens a session on this machine that is not guarded: keys and
/// `authorized_keys` of ssh, the keys to the screen and to its session.
const HOME_PATHS: [&str; 7] = [
    ".aws",
    ".azure",
    ".config/gcloud",
    ".config/doctl",
    ".ssh",
    ".Xauthority",
    ".ICEauthority",
];
/// Where kubeconfigs, their caches and the tokens in them stand below a home folder: emptied as a whole, because other
/// kubeconfigs lie beside the chosen one. A generated `config` is put into it, and it can be written, so that
/// `kubectl config use-context` and kubectl's cache work, for as long as the run lasts.
pub(super) const KUBE: &str = ".kube";
/// Credentials and the guard's own files, wherever they exist.
const SYSTEM_FOLDERS: [&str; 3] = [
    "/var/run/secrets/kubernetes.io",
    "/var/run/secrets/eks.amazonaws.com",
    LIBRARY,
];
/// Sockets whose owner starts processes for whoever may connect, or for whom the account database puts into a group,
/// whatever groups the process has: outside the boundary, so a way around it.
const LAUNCHERS: [&str; 12] = [
    "/run/dbus/system_bus_socket",
    "/run/docker.sock",
    "/run/podman/podman.sock",
    "/run/containerd/containerd.sock",
    "/run/k3s/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/run/buildkit/buildkitd.sock",
    "/run/systemd/private",
    "/run/libvirt",
    "/run/snapd.socket",
    "/var/lib/incus/unix.socket",
    "/var/lib/lxd/unix.socket",
];
/// Folders in which everybody's programs listen: screens and their sessions. Emptied, so that the command can have a screen of
/// its own.
const SCREENS: [&str; 2] = ["/tmp/.X11-unix", "/tmp/.ICE-unix"];

/// What is hidden and replaced. Paths as the operator knows them; PID 1 resolves them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Covers {
    /// Kubeconfig files: the generated one takes their place.
    pub kubeconfigs: Vec<PathBuf>,
    /// The generated kubeconfig.
    pub kubeconfig_text: String,
    /// Files and folders that become empty.
    pub hidden: Vec<PathBuf>,
    /// Folders that become empty, and the command's user's own: `.kube`, and those of sockets.
    pub emptied: Vec<PathBuf>,
    /// Folders among `emptied` that are made when they are missing. What is not there cannot be covered, and a program
    /// that is started outside later would listen there.
    pub made: Vec<PathBuf>,
    /// Owner of the generated file and the emptied folders.
    pub uid: u32,
    /// Their group.
    pub gid: u32,
}

impl Covers {
    /// The covers of a run, before the kubeconfig is known: what is always hidden, below these homes and elsewhere.
    #[must_use]
    pub fn plan((uid, gid): (u32, u32), homes: &[PathBuf]) -> Covers {
        let credentials = homes
            .iter()
            .flat_map(|home| HOME_PATHS.iter().map(move |path| home.join(path)));
        let fixed = SYSTEM_FOLDERS.iter().chain(&LAUNCHERS).map(PathBuf::from);
        let kube = homes.iter().map(|home| home.join(KUBE));
        let tmux = PathBuf::from(format!("/tmp/tmux-{uid}"));
        // As wholes: a session of the same user, or a screen, that begins later makes its folder in them.
        let sessions = ["/run/user", "/run/screen"].map(PathBuf::from);
        // And on its own, since it is a file system that may be mounted elsewhere too.
        let session = PathBuf::from(format!("/run/user/{uid}"));
        let screens = SCREENS.map(PathBuf::from);
        Covers {
            hidden: credentials.chain(fixed).collect(),
            emptied: kube
                .chain(sessions)
                .chain(screens)
                .chain([session, tmux.clone()])
                .collect(),
            made: vec![tmux],
            uid,
            gid,
            ..Covers::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use crate::run::hide::Covers;

    #[test]
    fn the_plan_hides_credentials_of_every_home_and_empties_the_kube_folders() {
        let covers = Covers::plan((1000, 1000), &["/homes/u".into(), "/operator".into()]);
        for hidden in ["/homes/u/.aws", "/operator/.aws", "/var/lib/eks-guard"] {
            assert!(covers.hidden.contains(&PathBuf::from(hidden)), "{hidden}");
        }
        for emptied in ["/homes/u/.kube", "/operator/.kube", "/run/user", "/tmp/tmux-1000"] {
            assert!(covers.emptied.contains(&PathBuf::from(emptied)), "{emptied}");
        }
        assert!(covers.made.iter().all(|made| covers.emptied.contains(made)));
    }
}
