//! Names of both drivers, and trees as kubelets make them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::node::cgroup::{CgroupsError, PodUid, find_root, ids_below, parents, pod_uid, scan};

const UID: &str = "0f2a9c4e-1b7d-4e8a-9c3f-5d6e7f809a1b";
const OTHER: &str = "aa2a9c4e-1b7d-4e8a-9c3f-5d6e7f809a1b";
const HASH: &str = "0123456789abcdef0123456789abcdef";

fn slice(prefix: &str, uid: &str) -> String {
    format!("{prefix}-pod{}.slice", uid.replace('-', "_"))
}

fn make(root: &Path, paths: &[String]) {
    for path in paths {
        fs::create_dir_all(root.join(path)).unwrap();
    }
}

#[test]
fn pods_are_named_by_both_drivers() {
    for name in [
        format!("pod{UID}"),
        slice("kubepods", UID),
        slice("kubepods-burstable", UID),
        slice("kubepods-besteffort", UID),
        slice("kubelet-kubepods-besteffort", UID),
    ] {
        assert_eq!(pod_uid(&name), PodUid::parse(UID), "{name}");
    }
    let hash = pod_uid(&format!("pod{HASH}")).unwrap();
    assert!(hash.is_manifest_hash() && !PodUid::parse(UID).unwrap().is_manifest_hash());
    for name in [
        "",
        "pod",
        "podman",
        "kubepods.slice",
        "kubepods-burstable.slice",
        "burstable",
        UID,
        &format!("pod{UID}.scope"),
        &format!("pod{}", UID.to_uppercase()),
        &format!("pod{UID}0"),
        &slice("system-app", UID),
        &format!("cri-containerd-{HASH}.scope"),
    ] {
        assert_eq!(pod_uid(name), None, "{name}");
    }
}

#[test]
fn trees_of_both_drivers_are_scanned() {
    let systemd = [
        format!(
            "kubepods.slice/{}/cri-containerd-{HASH}.scope",
            slice("kubepods", UID)
        ),
        format!(
            "kubepods.slice/kubepods-burstable.slice/{}",
            slice("kubepods-burstable", OTHER)
        ),
        format!(
            "kubepods.slice/kubepods-besteffort.slice/{}",
            slice("kubepods-besteffort", HASH)
        ),
        "system.slice/sshd.service".to_owned(),
    ];
    let cgroupfs = [
        format!("kubepods/pod{UID}/{HASH}"),
        format!("kubepods/burstable/pod{OTHER}"),
        format!("kubepods/besteffort/pod{HASH}"),
    ];
    let nested = [
        format!(
            "kubelet.slice/kubelet-kubepods.slice/{}",
            slice("kubelet-kubepods", UID)
        ),
        format!(
            "kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/{}",
            slice("kubelet-kubepods-burstable", OTHER)
        ),
        format!(
            "kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/{}",
            slice("kubelet-kubepods-besteffort", HASH)
        ),
    ];
    for tree in [&systemd[..], &cgroupfs[..], &nested[..]] {
        let mount = tempfile::tempdir().unwrap();
        make(mount.path(), tree);
        let root = find_root(mount.path()).unwrap();
        let pods = scan(&root).unwrap();
        let uids: Vec<&str> = pods.keys().map(PodUid::as_str).collect();
        assert_eq!(uids, [HASH, UID, OTHER], "{}", root.display());
        for pod in pods.values() {
            assert_eq!(pod.id, fs::metadata(&pod.path).unwrap().ino());
        }
        assert_eq!(parents(&root).len(), 3, "{:?}", parents(&root));
    }
}

#[test]
fn what_a_pod_makes_inside_its_cgroup_is_no_pod() {
    let mount = tempfile::tempdir().unwrap();
    make(
        mount.path(),
        &[
            format!("kubepods/burstable/pod{UID}/pod{OTHER}"),
            format!("kubepods/pod{HASH}/burstable/pod{OTHER}"),
            format!("kubepods/burstable/deeper/pod{OTHER}"),
        ],
    );
    let pods = scan(&mount.path().join("kubepods")).unwrap();
    let uids: Vec<&str> = pods.keys().map(PodUid::as_str).collect();
    assert_eq!(uids, [HASH, UID]);
}

#[test]
fn the_root_is_found_or_asked_for() {
    let mount = tempfile::tempdir().unwrap();
    assert!(matches!(
        find_root(mount.path()),
        Err(CgroupsError::NoRoot { .. })
    ));
    make(
        mount.path(),
        &["kubepods".to_owned(), "other/kubepods.slice".to_owned()],
    );
    let error = find_root(mount.path()).unwrap_err().to_string();
    assert!(
        error.contains("kubepods.slice") && error.contains("cgroupRoot"),
        "{error}"
    );
    assert!(matches!(
        scan(&mount.path().join("gone")),
        Err(CgroupsError::Read { .. })
    ));
}

#[test]
fn a_containers_cgroup_is_its_pods() {
    let folder = tempfile::tempdir().unwrap();
    let container = folder.path().join("container/below");
    fs::create_dir_all(&container).unwrap();
    let id = |path: &Path| fs::metadata(path).unwrap().ino();
    let ids = ids_below(folder.path());
    assert_eq!(ids.len(), 3);
    assert!(ids.contains(&id(&container)) && ids.contains(&id(folder.path())));
    assert!(ids_below(Path::new("/no/such/cgroup")).is_empty());
}
