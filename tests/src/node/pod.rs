//! Pods of the node: real objects of the API server with the cgroups, network and files that a kubelet would give them.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::command::{self, Output};
use crate::leash::{self, Leashed};
use crate::netns::Netns;
use crate::node::layout::{Layout, Qos};
use crate::node::network::{API_PORT, API_SERVICE, DNS_SERVICE, Families, NODE, POD_IDENTITY};
use crate::node::profile::Profile;
use crate::node::sandbox::Sandbox;
use crate::node::{NODE_NAME, NodeRig, tree};
use crate::place::{HOME, Place, PodFiles};

/// A pod to be.
#[derive(Clone, Debug)]
pub struct PodSpec {
    /// Kubernetes namespace; it must exist.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// ServiceAccount; it must exist.
    pub service_account: String,
    /// Where its cgroup goes.
    pub layout: Layout,
    /// Its class.
    pub qos: Qos,
    /// Its network.
    pub network: PodNetwork,
    /// Whether the process that holds a sandbox open runs.
    pub pause: Pause,
}

/// `hostNetwork`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodNetwork {
    /// A namespace of its own with addresses of these families.
    Own(Families),
    /// That of the node.
    Host,
}

/// The process that every sandbox has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// As in life.
    Runs,
    /// Left out, for pods of which there are many.
    LeftOut,
}

/// A pod that runs. When dropped, its processes, cgroups and network go; the object stays until [`Pod::delete`].
pub struct Pod<'a> {
    rig: &'a NodeRig,
    spec: PodSpec,
    uid: String,
    cgroup: PathBuf,
    folder: PathBuf,
    container: String,
    restarts: u32,
    pause: Option<Leashed>,
    sandbox: Option<Sandbox>,
}

impl PodSpec {
    /// A pod as most are: systemd driver, Burstable, network of its own with the families of the rig.
    #[must_use]
    pub fn new(rig: &NodeRig, namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            labels: BTreeMap::new(),
            service_account: "default".to_owned(),
            layout: Layout::ALL[0],
            qos: Qos::Burstable,
            network: PodNetwork::Own(rig.families()),
            pause: Pause::Runs,
        }
    }

    fn object(&self) -> Value {
        json!({
            "metadata": {"name": self.name, "labels": self.labels},
            "spec": {
                "nodeName": NODE_NAME,
                "serviceAccountName": self.service_account,
                "hostNetwork": self.network == PodNetwork::Host,
                "containers": [{"name": "main", "image": "registry.test/main", "resources": self.qos.resources()}],
            },
        })
    }
}

impl<'a> Pod<'a> {
    pub(crate) fn run(rig: &'a NodeRig, spec: &PodSpec, sandbox: Option<Sandbox>) -> Result<Self> {
        let path = format!("/api/v1/namespaces/{}/pods", spec.namespace);
        let object = rig.cluster().admin().create(&path, &spec.object())?;
        let uid = object["metadata"]["uid"]
            .as_str()
            .context("a pod without UID")?
            .to_owned();
        let class = &object["status"]["qosClass"];
        ensure!(
            *class == spec.qos.name(),
            "the API server takes the pod for {class}"
        );
        let cgroup = rig.cgroups().join(spec.layout.pod(spec.qos, &uid));
        fs::create_dir_all(&cgroup).with_context(|| format!("making {}", cgroup.display()))?;
        let folder = rig.cluster().folder().join("pods").join(&uid);
        let mut pod = Self {
            rig,
            spec: spec.clone(),
            uid,
            cgroup,
            folder,
            container: String::new(),
            restarts: 0,
            pause: None,
            sandbox,
        };
        fs::create_dir_all(&pod.folder).with_context(|| format!("making {}", pod.folder.display()))?;
        pod.start_sandbox()?;
        pod.start_container()?;
        pod.report()?;
        Ok(pod)
    }

    /// `metadata.uid`.
    #[must_use]
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// What was asked for.
    #[must_use]
    pub fn spec(&self) -> &PodSpec {
        &self.spec
    }

    /// The pod's cgroup.
    #[must_use]
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// The cgroup of its container.
    #[must_use]
    pub fn container_cgroup(&self) -> PathBuf {
        self.cgroup.join(self.spec.layout.container(&self.container))
    }

    /// Where its processes run: the node's for `hostNetwork`.
    #[must_use]
    pub fn netns(&self) -> &Arc<Netns> {
        match &self.sandbox {
            Some(sandbox) => sandbox.netns(),
            None => &self.rig.network().node,
        }
    }

    /// Its network, when that is its own.
    #[must_use]
    pub fn sandbox(&self) -> Option<&Sandbox> {
        self.sandbox.as_ref()
    }

    /// `status.podIPs`.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        match &self.sandbox {
            Some(sandbox) => sandbox.addresses().to_vec(),
            None => NODE.of(self.rig.families()),
        }
    }

    /// From which addresses its packets can come: those to an address of the node itself come from that address when the
    /// pod is in the node's network.
    #[must_use]
    pub fn senders(&self) -> Vec<IpAddr> {
        let mut senders = self.addresses();
        if self.sandbox.is_none() {
            senders.extend(POD_IDENTITY.of(self.rig.families()));
        }
        senders
    }

    /// The families that it has addresses of.
    #[must_use]
    pub fn families(&self) -> Families {
        match self.spec.network {
            PodNetwork::Own(families) => families,
            PodNetwork::Host => self.rig.families(),
        }
    }

    /// Runs `program` in the container's cgroup, network and files from its first instruction, with the environment of a
    /// container.
    pub fn command(&self, profile: Profile, program: &Path) -> Result<Command> {
        let place = Place {
            cgroup: Some(self.container_cgroup()),
            netns: Some(self.netns().path()),
            files: Some(self.files()?),
            privileges: Some(profile.privileges()),
        };
        let mut command = leash::hold_in(&place, program)?;
        let service = API_SERVICE.of(self.families());
        let service = service.first().context("a pod without a family")?;
        command
            .env_clear()
            .current_dir("/")
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", HOME)
            .env("KUBERNETES_SERVICE_HOST", service.to_string())
            .env("KUBERNETES_SERVICE_PORT", API_PORT.to_string());
        Ok(command)
    }

    /// The rig's kubectl as a process of the pod, which finds API server and token as any client in a cluster does.
    pub fn kubectl(&self, args: &[&str]) -> Result<Output> {
        let mut kubectl = self.command(Profile::Restricted, self.rig.cluster().kubectl_program())?;
        kubectl.args(args);
        command::run(kubectl)
    }

    /// The container ends with all its processes, and another one starts, in a cgroup of its own.
    pub fn restart_container(&mut self) -> Result<()> {
        tree::remove(&self.container_cgroup()).context("removing the container's cgroup")?;
        self.restarts += 1;
        self.start_container()?;
        self.report()
    }

    /// The sandbox is lost with all containers, and made again for the same pod: new network, new addresses.
    pub fn recreate_sandbox(&mut self) -> Result<()> {
        self.pause = None;
        for entry in fs::read_dir(&self.cgroup)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                tree::remove(&entry.path()).context("removing a container's cgroup")?;
            }
        }
        if let PodNetwork::Own(families) = self.spec.network {
            // The old one goes first, as with a runtime.
            self.sandbox = None;
            self.sandbox = self.rig.sandboxes(&[families])?.pop();
        }
        self.start_sandbox()?;
        self.restarts += 1;
        self.start_container()?;
        self.report()
    }

    /// Ends it, and deletes the object.
    pub fn delete(self) -> Result<()> {
        let path = self.path();
        let cluster = self.rig.cluster();
        drop(self);
        let now = br#"{"gracePeriodSeconds":0}"#;
        let headers = [("Content-Type", "application/json")];
        cluster.admin().request("DELETE", &path, &headers, now)?.json()?;
        Ok(())
    }

    fn path(&self) -> String {
        format!(
            "/api/v1/namespaces/{}/pods/{}",
            self.spec.namespace, self.spec.name
        )
    }

    /// The files of its containers, made for the first process that sees them: a pod without processes needs none.
    fn files(&self) -> Result<PodFiles> {
        let files = PodFiles {
            service_account: self.folder.join("serviceaccount"),
            resolv_conf: self.folder.join("resolv.conf"),
            cgroups: self.rig.cgroup_mount().to_owned(),
        };
        if files.resolv_conf.exists() {
            return Ok(files);
        }
        let secrets = &files.service_account;
        fs::create_dir_all(secrets).with_context(|| format!("making {}", secrets.display()))?;
        let cluster = self.rig.cluster();
        let bound = json!({"boundObjectRef": {
            "apiVersion": "v1", "kind": "Pod", "name": self.spec.name, "uid": self.uid,
        }});
        let token = cluster.token(&self.spec.namespace, &self.spec.service_account, &bound)?;
        fs::write(secrets.join("token"), token)?;
        fs::write(secrets.join("ca.crt"), cluster.authority().pem())?;
        fs::write(secrets.join("namespace"), &self.spec.namespace)?;
        let mut resolv = format!(
            "search {}.svc.cluster.local svc.cluster.local\n",
            self.spec.namespace
        );
        for server in DNS_SERVICE.of(self.families()) {
            resolv.push_str(&format!("nameserver {server}\n"));
        }
        fs::write(&files.resolv_conf, resolv)?;
        Ok(files)
    }

    fn start_sandbox(&mut self) -> Result<()> {
        let cgroup = self.cgroup.join(self.spec.layout.container(&container_id()));
        fs::create_dir(&cgroup).with_context(|| format!("making {}", cgroup.display()))?;
        if self.spec.pause == Pause::Runs {
            let place = Place {
                cgroup: Some(cgroup),
                netns: Some(self.netns().path()),
                ..Place::default()
            };
            let log = self.folder.join("pause.log");
            let pause = Leashed::start("pause", &place, Path::new("/bin/sleep"), &["infinity"], &log)?;
            self.pause = Some(pause);
        }
        Ok(())
    }

    fn start_container(&mut self) -> Result<()> {
        self.container = container_id();
        let cgroup = self.container_cgroup();
        fs::create_dir(&cgroup).with_context(|| format!("making {}", cgroup.display()))
    }

    /// What a kubelet says about a pod that runs.
    fn report(&self) -> Result<()> {
        let ips = |addresses: &[IpAddr]| -> Vec<Value> {
            addresses.iter().map(|address| json!({"ip": address})).collect()
        };
        let (own, node) = (self.addresses(), NODE.of(self.rig.families()));
        let status = json!({"status": {
            "phase": "Running",
            "podIP": own.first(), "podIPs": ips(&own),
            "hostIP": node.first(), "hostIPs": ips(&node),
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{
                "name": "main", "image": "registry.test/main", "imageID": "", "ready": true,
                "restartCount": self.restarts, "state": {"running": {}},
                "containerID": format!("containerd://{}", self.container),
            }],
        }});
        let path = format!("{}/status", self.path());
        self.rig.cluster().admin().merge(&path, &status).map(|_| ())
    }
}

impl Drop for Pod<'_> {
    fn drop(&mut self) {
        self.pause = None;
        // The sweeper of the tree removes what this leaves.
        tree::remove(&self.cgroup).ok();
    }
}

/// 64 hexadecimal digits, as container runtimes name what they run.
fn container_id() -> String {
    // The standard library has no other source of what nobody can guess, and this one is new each time.
    (0..4)
        .map(|part| format!("{:016x}", RandomState::new().hash_one(part)))
        .collect()
}
