//! A policy suggested from the record of kubectl's work lets the same work be done, and no other.

use std::fs;

use anyhow::{Context, Result, ensure};
use rig::cluster::shared;
use rig::guarded::Guarded;
use rig::policies::EVERYTHING;

/// What the agent does, leaving nothing behind.
const WORK: &str = "\
set -e
kubectl -n suggested create configmap plan --from-literal=step=one
kubectl -n suggested get configmaps -o name
kubectl -n suggested get configmap plan -o yaml
kubectl -n suggested label configmap plan team=fruit
kubectl -n suggested create deployment web --image=registry.test/web:1 --replicas=0
kubectl -n suggested scale deployment web --replicas=0
kubectl -n suggested get pods -A -o name
kubectl -n suggested delete deployment web --wait=false
kubectl -n suggested delete configmap plan --wait=false
kubectl get --raw /version
";

#[test]
fn a_suggested_policy_allows_the_work_that_was_recorded_and_no_other() -> Result<()> {
    let cluster = shared()?;
    cluster.create_namespace("suggested")?;
    let wide = Guarded::new(cluster, "suggester", EVERYTHING)?;
    wide.shell(WORK)?.ok()?;
    // What is refused is in the record too.
    wide.kubectl(&["-n", "suggested", "get", "secrets"])?
        .expect_failure("may not")?;
    let records: Vec<String> = fs::read_dir(wide.records())
        .context("reading the records")?
        .map(|entry| Ok(entry?.path().display().to_string()))
        .collect::<Result<_>>()?;
    let records: Vec<&str> = records.iter().map(String::as_str).collect();
    let policy = wide
        .eks_guard(&[&["policy", "suggest"], &records[..]].concat())?
        .ok()?;
    ensure!(
        policy.contains("# Not allowed by it: \"list secrets suggested\" (1)")
            && !policy.contains("resources: [secrets"),
        "{policy}"
    );
    let narrow = Guarded::new(cluster, "suggester", &policy)?;
    narrow.shell(WORK)?.ok().with_context(|| policy.clone())?;
    let mark = cluster.audit().mark()?;
    for args in [
        &["-n", "suggested", "get", "secrets"][..],
        &["-n", "suggested", "delete", "configmap", "kube-root-ca.crt"],
        &["-n", "default", "get", "configmaps"],
        &["-n", "suggested", "create", "configmap", "other"],
        &["get", "nodes"],
    ] {
        let output = narrow.kubectl(args)?;
        ensure!(
            output.code != 0 && output.stderr.contains("may not"),
            "{args:?}: {output:#?}\n{policy}"
        );
    }
    let events = cluster.audit().since_by(mark, narrow.upstream_user())?;
    let objects: Vec<_> = events.iter().filter(|event| event.object.is_some()).collect();
    ensure!(objects.is_empty(), "reached the API server: {objects:#?}");
    Ok(())
}
