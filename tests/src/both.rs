//! The same kubectl command twice: straight to the API server, and through the guard with the same credential behind it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result, bail, ensure};

use crate::cluster::Cluster;
use crate::command::Output;
use crate::guarded::Guarded;
use crate::policies::EVERYTHING;

/// A guard that allows what can be allowed, and two namespaces: one is changed through the guard, its twin directly.
pub struct Both<'a> {
    cluster: &'a Cluster,
    guarded: Guarded<'a>,
    namespace: String,
}

impl<'a> Both<'a> {
    /// Makes the namespaces `name` and `name-direct`.
    pub fn new(cluster: &'a Cluster, name: &str) -> Result<Self> {
        cluster.create_namespace(name)?;
        cluster.create_namespace(&format!("{name}-direct"))?;
        let guarded = Guarded::new(cluster, name, EVERYTHING)?;
        Ok(Self {
            cluster,
            guarded,
            namespace: name.to_owned(),
        })
    }

    /// The cluster.
    #[must_use]
    pub fn cluster(&self) -> &'a Cluster {
        self.cluster
    }

    /// The guarded side.
    #[must_use]
    pub fn guarded(&self) -> &Guarded<'a> {
        &self.guarded
    }

    /// The namespace of the guarded side.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Sets a variable on both sides.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.guarded = self.guarded.env(name, value);
        self
    }

    /// Writes a file that both sides can read; returns its path.
    pub fn file(&self, name: &str, text: &str) -> Result<String> {
        let path = self.guarded.home().join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        fs::set_permissions(&path, Permissions::from_mode(0o755))?;
        Ok(path.display().to_string())
    }

    /// Puts an object into both namespaces, with every right and past the guard.
    pub fn given(&self, manifest: &str) -> Result<()> {
        let file = self.file("given.yaml", manifest)?;
        for namespace in [self.namespace.clone(), self.twin()] {
            self.cluster
                .kubectl(&["-n", &namespace, "apply", "-f", &file])?
                .ok()?;
        }
        Ok(())
    }

    /// A command that changes nothing, on the same objects: equal output and exit code.
    pub fn reads(&self, args: &[&str]) -> Result<Output> {
        let mut before = self.direct(&self.namespace, args)?;
        let mut guarded = self.through_guard(args)?;
        // Ages tick; what was said directly before or after must be the same all the same, in one of a few rounds.
        for _ in 0..5 {
            if guarded == before {
                return Ok(guarded);
            }
            before = self.direct(&self.namespace, args)?;
            if guarded == before {
                return Ok(guarded);
            }
            guarded = self.through_guard(args)?;
        }
        bail!("kubectl {args:?}\ndirect:  {before:#?}\nguarded: {guarded:#?}");
    }

    /// A command that changes something, each side in its own namespace: equal output and exit code.
    pub fn changes(&self, args: &[&str]) -> Result<Output> {
        let twin = self.twin();
        let mut direct = self.direct(&twin, args)?;
        for text in [&mut direct.stdout, &mut direct.stderr] {
            *text = text.replace(&twin, &self.namespace);
        }
        let guarded = self.through_guard(args)?;
        ensure!(
            guarded == direct,
            "kubectl {args:?}\ndirect:  {direct:#?}\nguarded: {guarded:#?}"
        );
        Ok(guarded)
    }

    /// After changes: an object is the same on both sides, but for what no two objects share.
    pub fn have_equal(&self, kind: &str, name: &str) -> Result<()> {
        let args = ["get", kind, name, "-o", "json"];
        let ours = comparable(&self.direct(&self.namespace, &args)?, &self.namespace)?;
        let theirs = comparable(&self.direct(&self.twin(), &args)?, &self.twin())?;
        ensure!(
            ours == theirs,
            "{kind} {name}\ndirect:  {theirs:#}\nguarded: {ours:#}"
        );
        Ok(())
    }

    fn twin(&self) -> String {
        format!("{}-direct", self.namespace)
    }

    fn direct(&self, namespace: &str, args: &[&str]) -> Result<Output> {
        let line = [&["-n", namespace], args].concat();
        let (kubeconfig, variables) = (self.guarded.kubeconfig(), self.guarded.variables());
        Ok(without_noise(
            self.cluster.kubectl_in(kubeconfig, variables, &line)?,
        ))
    }

    /// A command of the agent, which may go another way than the same command would without a guard.
    pub fn through_guard(&self, args: &[&str]) -> Result<Output> {
        Ok(without_noise(
            self.guarded.kubectl(&[&["-n", &self.namespace], args].concat())?,
        ))
    }
}

/// Without log lines of kubectl, which carry times, and the guard's word about runs that another test has killed.
fn without_noise(mut output: Output) -> Output {
    let logged =
        |line: &str| line.starts_with(['I', 'W']) && line[1..].starts_with(|c: char| c.is_ascii_digit());
    let noise = |line: &&str| logged(line) || line.starts_with("eks-guard: removed what ");
    output.stderr = output
        .stderr
        .lines()
        .filter(|line| !noise(line))
        .collect::<Vec<_>>()
        .join("\n");
    output
}

/// An object without identity, times and versions.
fn comparable(output: &Output, namespace: &str) -> Result<serde_json::Value> {
    let text = output.clone().ok()?.replace(namespace, "NAMESPACE");
    let mut object: serde_json::Value = serde_json::from_str(&text)?;
    if let Some(object) = object.as_object_mut() {
        // Controllers write it when they come to it.
        object.remove("status");
    }
    let metadata = object["metadata"]
        .as_object_mut()
        .context("an object has metadata")?;
    for own in ["uid", "resourceVersion", "creationTimestamp", "managedFields"] {
        metadata.remove(own);
    }
    Ok(object)
}
