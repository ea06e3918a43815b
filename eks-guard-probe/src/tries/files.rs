//! What stands in the file system: sockets of other programs, and credentials.

use std::fs;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::{Path, PathBuf};

use eks_guard_core::catalogue::probe::Plan;

use crate::found::{Attempt, Found, forms};
use crate::tries::processes::readable;

/// Programs that start processes elsewhere, or act for others.
const SOCKETS: [&str; 9] = [
    "/run/containerd/containerd.sock",
    "/run/containerd/containerd.sock.ttrpc",
    "/run/crio/crio.sock",
    "/run/docker.sock",
    "/run/nri/nri.sock",
    "/run/podman/podman.sock",
    "/run/dbus/system_bus_socket",
    "/run/systemd/private",
    "/var/lib/kubelet/pod-resources/kubelet.sock",
];

/// Credentials of the machine's own Kubernetes parts.
const CREDENTIALS: [&str; 5] = [
    "/etc/kubernetes/admin.conf",
    "/etc/kubernetes/kubelet.conf",
    "/etc/rancher/k3s/k3s.yaml",
    "/var/lib/kubelet/kubeconfig",
    "/var/lib/kubelet/pki/kubelet-client-current.pem",
];

/// Other pods' tokens, and what makes static pods.
const FOLDERS: [&str; 2] = ["/var/lib/kubelet/pods", "/etc/kubernetes/manifests"];

pub(crate) fn abstract_socket(plan: &Plan) -> Found {
    let Some(name) = &plan.abstract_socket else {
        return Found::not_applicable("nobody outside listens on an abstract name");
    };
    let attempt = SocketAddr::from_abstract_name(name.as_bytes()).and_then(|address| {
        UnixStream::connect_addr(&address)?;
        Ok(Found::reached("a program outside can be asked to act"))
    });
    forms([("abstract".to_owned(), attempt)])
}

pub(crate) fn sockets(_: &Plan) -> Found {
    forms(SOCKETS.map(|path| {
        let attempt = UnixStream::connect(path).map(|_| Found::reached("it can be asked to act"));
        (path.to_owned(), attempt)
    }))
}

pub(crate) fn credentials(plan: &Plan) -> Found {
    let machine = CREDENTIALS.iter().map(PathBuf::from);
    let files = machine.chain(plan.credentials.iter().cloned());
    let files = files.map(|path| (path.display().to_string(), file(&path)));
    let folders = FOLDERS.map(|path| (path.to_owned(), folder(Path::new(path))));
    forms(files.chain(folders))
}

/// Empty, and the kubeconfig that the guard wrote itself, are no credentials.
fn file(path: &Path) -> Attempt {
    if path.is_dir() {
        return folder(path);
    }
    let text = readable(path)?;
    let text = String::from_utf8_lossy(&text);
    if text.trim().is_empty() {
        return Ok(Found::blocked("empty"));
    }
    if text.contains("eks-guard-placeholder") && !text.contains("client-key") {
        return Ok(Found::blocked("the guard's own, without a credential"));
    }
    Ok(Found::reached("it can be read"))
}

fn folder(path: &Path) -> Attempt {
    let some = fs::read_dir(path)?.next().transpose()?;
    let found = some.map(|_| Found::reached("it can be listed"));
    found
        .ok_or_else(|| io::ErrorKind::NotFound.into())
        .or_else(|_: io::Error| Ok(Found::blocked("empty")))
}
