//! Where a kubelet puts the cgroups of pods: one path for each cgroup driver, root and quality of service.

use std::path::PathBuf;

use serde_json::{Value, json};

/// The kubelet's `cgroupDriver` and `cgroupRoot`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Who makes the cgroups.
    pub driver: Driver,
    /// Below what.
    pub root: Root,
}

/// The kubelet's `cgroupDriver`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// Slices and scopes; each name repeats those above it.
    Systemd,
    /// Plain folders.
    Cgroupfs,
}

/// The kubelet's `cgroupRoot`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// Not set.
    Top,
    /// `/kubelet`, as kind has it.
    Nested,
}

/// `status.qosClass` of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qos {
    /// Limits equal requests.
    Guaranteed,
    /// Some requests.
    Burstable,
    /// No requests.
    BestEffort,
}

impl Layout {
    /// Every layout.
    pub const ALL: [Self; 4] = [
        Self::new(Driver::Systemd, Root::Top),
        Self::new(Driver::Systemd, Root::Nested),
        Self::new(Driver::Cgroupfs, Root::Top),
        Self::new(Driver::Cgroupfs, Root::Nested),
    ];

    const fn new(driver: Driver, root: Root) -> Self {
        Self { driver, root }
    }

    /// The folder of all pods, relative to the cgroup2 mount.
    #[must_use]
    pub fn kubepods(self) -> PathBuf {
        let path = match (self.driver, self.root) {
            (Driver::Systemd, Root::Top) => "kubepods.slice",
            (Driver::Systemd, Root::Nested) => "kubelet.slice/kubelet-kubepods.slice",
            (Driver::Cgroupfs, Root::Top) => "kubepods",
            (Driver::Cgroupfs, Root::Nested) => "kubelet/kubepods",
        };
        path.into()
    }

    /// The folder of one pod, relative to the cgroup2 mount.
    #[must_use]
    pub fn pod(self, qos: Qos, uid: &str) -> PathBuf {
        match self.driver {
            Driver::Cgroupfs => {
                let class = qos.folder().unwrap_or_default();
                self.kubepods().join(class).join(format!("pod{uid}"))
            }
            Driver::Systemd => {
                let mut name = match self.root {
                    Root::Top => "kubepods".to_owned(),
                    Root::Nested => "kubelet-kubepods".to_owned(),
                };
                let mut path = self.kubepods();
                if let Some(class) = qos.folder() {
                    name = format!("{name}-{class}");
                    path.push(format!("{name}.slice"));
                }
                // In names of slices a dash separates levels.
                path.join(format!("{name}-pod{}.slice", uid.replace('-', "_")))
            }
        }
    }

    /// The name of a container's folder inside that of its pod.
    #[must_use]
    pub fn container(self, id: &str) -> String {
        match self.driver {
            Driver::Systemd => format!("cri-containerd-{id}.scope"),
            Driver::Cgroupfs => id.to_owned(),
        }
    }
}

impl Qos {
    /// Every class.
    pub const ALL: [Self; 3] = [Self::Guaranteed, Self::Burstable, Self::BestEffort];

    /// As the API server writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }

    /// The `resources` of a container that put its pod into this class.
    #[must_use]
    pub fn resources(self) -> Value {
        let some = json!({"cpu": "10m", "memory": "16Mi"});
        match self {
            Self::Guaranteed => json!({"requests": some, "limits": some}),
            Self::Burstable => json!({"requests": some}),
            Self::BestEffort => json!({}),
        }
    }

    /// Guaranteed pods stand directly below the root.
    fn folder(self) -> Option<&'static str> {
        match self {
            Self::Guaranteed => None,
            Self::Burstable => Some("burstable"),
            Self::BestEffort => Some("besteffort"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn has_the_paths_of_kubelets() {
        let uid = "0a1b-2c";
        let path = |driver, root, qos| {
            let layout = Layout::new(driver, root);
            layout.pod(qos, uid).join(layout.container("c1"))
        };
        for (driver, root, qos, expected) in [
            (
                Driver::Systemd,
                Root::Top,
                Qos::Burstable,
                "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0a1b_2c.slice/cri-containerd-c1.scope",
            ),
            (
                Driver::Systemd,
                Root::Top,
                Qos::Guaranteed,
                "kubepods.slice/kubepods-pod0a1b_2c.slice/cri-containerd-c1.scope",
            ),
            (
                Driver::Systemd,
                Root::Nested,
                Qos::BestEffort,
                "kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/\
                 kubelet-kubepods-besteffort-pod0a1b_2c.slice/cri-containerd-c1.scope",
            ),
            (
                Driver::Cgroupfs,
                Root::Top,
                Qos::BestEffort,
                "kubepods/besteffort/pod0a1b-2c/c1",
            ),
            (
                Driver::Cgroupfs,
                Root::Nested,
                Qos::Guaranteed,
                "kubelet/kubepods/pod0a1b-2c/c1",
            ),
        ] {
            assert_eq!(path(driver, root, qos), Path::new(expected));
        }
    }
}
