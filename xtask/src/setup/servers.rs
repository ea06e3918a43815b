//! The server side of the test cluster, built from the Go modules in `tests/cluster` that pin it.

use crate::setup::go::Module;

pub(super) const MODULES: [Module; 2] = [
    Module {
        folder: "tests/cluster/kubernetes",
        pinned: "k8s.io/kubernetes",
        programs: &[
            ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
            (
                "kube-controller-manager",
                "k8s.io/kubernetes/cmd/kube-controller-manager",
            ),
            ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
        ],
        printed: &[],
        duration: "5 to 8 minutes the first time",
    },
    Module {
        folder: "tests/cluster/etcd",
        pinned: "go.etcd.io/etcd/server/v3",
        programs: &[("etcd", "go.etcd.io/etcd/server/v3")],
        printed: &[],
        duration: "under a minute",
    },
];
