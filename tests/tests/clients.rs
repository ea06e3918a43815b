//! kubectl through the guard: what is allowed gives the same output and the same exit code as without the guard.

#[path = "clients/suggested.rs"]
mod suggested;

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::net::Ipv6Addr;
use std::process::{Child, Stdio};

use anyhow::{Context, Result, ensure};
use rig::both::Both;
use rig::cluster::{Cluster, ClusterOptions, shared};
use rig::kubelet::Kubelet;
use rig::leash;

const OBJECTS: &str = "\
apiVersion: v1
kind: ConfigMap
metadata: {name: prices, labels: {team: fruit}}
data: {apple: '1.20', pear: '1.50'}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: plan}
data: {step: one}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 0
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: 'registry.test/web:1'}]}
";

#[test]
fn get_in_every_output_form() -> Result<()> {
    let both = Both::new(shared()?, "get")?;
    both.given(OBJECTS)?;
    for form in [
        "",
        "wide",
        "yaml",
        "json",
        "name",
        "jsonpath={.items[*].data}",
        "custom-columns=A:.metadata.name",
    ] {
        let form = format!("--output={form}");
        let output = both.reads(&["get", "configmaps,deployments", &form])?.ok()?;
        ensure!(output.contains("prices") || output.contains("1.20"), "{output}");
    }
    Ok(())
}

#[test]
fn get_with_selectors_pages_and_raw_paths() -> Result<()> {
    let both = Both::new(shared()?, "select")?;
    both.given(OBJECTS)?;
    let raw = format!(
        "/api/v1/namespaces/{}/configmaps?labelSelector=team%3Dfruit",
        both.namespace()
    );
    for args in [
        &["get", "configmaps", "-l", "team in (fruit, veg)", "--show-labels"][..],
        &["get", "configmaps", "--field-selector", "metadata.name=plan"],
        &["get", "configmaps", "--chunk-size=1"],
        &["get", "configmaps", "--sort-by=.metadata.name", "--no-headers"],
        &[
            "get",
            "deployments.v1.apps/web",
            "--show-managed-fields",
            "-o",
            "yaml",
        ],
        &["get", "deployment/web", "--subresource=scale"],
        &["get", "namespaces", "-o", "name"],
        &["get", "all", "-o", "name"],
        &["get", "--raw", &raw],
    ] {
        both.reads(args)?.ok()?;
    }
    Ok(())
}

#[test]
fn errors_of_the_api_server_come_through_as_they_are() -> Result<()> {
    let both = Both::new(shared()?, "errors")?;
    both.reads(&["get", "configmap", "absent"])?
        .expect_failure("NotFound")?;
    both.reads(&["get", "nonsense"])?
        .expect_failure("doesn't have a resource type")?;
    both.reads(&["get", "--raw", "/apis/absent.test/v1"])?
        .expect_failure("NotFound")?;
    both.changes(&["create", "configmap", "Not_A_Name"])?
        .expect_failure("Invalid value")?;
    both.changes(&["create", "configmap", "twice"])?.ok()?;
    both.changes(&["create", "configmap", "twice"])?
        .expect_failure("already exists")?;
    both.changes(&["delete", "configmap", "absent"])?
        .expect_failure("NotFound")?;
    Ok(())
}

#[test]
fn describe_and_events() -> Result<()> {
    let both = Both::new(shared()?, "describe")?;
    both.given(OBJECTS)?;
    both.reads(&["describe", "configmap", "prices"])?.ok()?;
    both.reads(&["describe", "deployment", "web"])?.ok()?;
    both.reads(&["events"])?.ok()?;
    Ok(())
}

#[test]
fn what_the_api_can_do() -> Result<()> {
    let both = Both::new(shared()?, "discovery")?;
    for args in [
        &["api-resources"][..],
        &["api-resources", "--namespaced=false", "-o", "wide"],
        &["api-versions"],
        &["version"],
        &["explain", "configmaps"],
        &[
            "explain",
            "deployment.spec.template.spec.containers",
            "--recursive",
        ],
        &["explain", "cronjobs", "--output=plaintext-openapiv2"],
        &["get", "--raw", "/openapi/v3"],
        &["get", "--raw", "/version"],
    ] {
        both.reads(args)?.ok()?;
    }
    Ok(())
}

#[test]
fn who_may_do_what() -> Result<()> {
    let both = Both::new(shared()?, "who")?;
    both.reads(&["auth", "can-i", "create", "configmaps"])?.ok()?;
    let no = both.through_guard(&["auth", "can-i", "create", "pods", "--subresource=exec"])?;
    ensure!(
        no.stdout.starts_with("no") && no.stdout.contains("eks-guard"),
        "{no:?}"
    );
    let list = both.through_guard(&["auth", "can-i", "--list"])?.ok()?;
    ensure!(
        list.contains("configmaps") && !list.contains("pods/exec") && !list.contains("secrets"),
        "{list}"
    );
    let who = both
        .through_guard(&["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"])?
        .ok()?;
    ensure!(who.starts_with("eks-guard:"), "{who}");
    Ok(())
}

#[test]
fn apply_creates_configures_and_leaves_alone() -> Result<()> {
    let both = Both::new(shared()?, "apply")?;
    let file = both.file("objects.yaml", OBJECTS)?;
    let created = both.changes(&["apply", "-f", &file])?.ok()?;
    ensure!(created.contains("deployment.apps/web created"), "{created}");
    ensure!(both.changes(&["apply", "-f", &file])?.ok()?.contains("unchanged"));
    let changed = both.file(
        "changed.yaml",
        &OBJECTS.replace("1.20", "1.30").replace("web:1", "web:2"),
    )?;
    both.changes(&["apply", "-f", &changed, "--dry-run=server"])?
        .ok()?;
    ensure!(
        both.changes(&["apply", "-f", &changed])?
            .ok()?
            .contains("configmap/prices configured")
    );
    both.have_equal("configmap", "prices")?;
    both.have_equal("deployment", "web")
}

#[test]
fn diff_shows_what_apply_would_change() -> Result<()> {
    let both = Both::new(shared()?, "diff")?;
    both.given(OBJECTS)?;
    // The programs' own headers carry times and random folders.
    let differ = both.file(
        "differ",
        "#!/bin/sh\ndiff -r -U0 \"$1\" \"$2\" | grep '^[+-] '\nexit 1\n",
    )?;
    let both = both.env("KUBECTL_EXTERNAL_DIFF", &differ);
    let changed = both.file("changed.yaml", &OBJECTS.replace("1.20", "1.30"))?;
    let output = both.reads(&["diff", "-f", &changed])?;
    ensure!(
        output.code == 1 && output.stdout.contains("+  apple: \"1.30\""),
        "{output:?}"
    );
    Ok(())
}

#[test]
fn apply_on_the_server_side_with_conflicts() -> Result<()> {
    let both = Both::new(shared()?, "ssa")?;
    let file = both.file("objects.yaml", OBJECTS)?;
    both.changes(&["apply", "--server-side", "-f", &file])?.ok()?;
    let changed = both.file("changed.yaml", &OBJECTS.replace("1.20", "1.30"))?;
    let other = ["apply", "--server-side", "--field-manager=other", "-f", &changed];
    both.changes(&other)?.expect_failure("conflict")?;
    both.changes(&[&other[..], &["--force-conflicts"]].concat())?
        .ok()?;
    both.have_equal("configmap", "prices")
}

#[test]
fn patch_in_every_form() -> Result<()> {
    let both = Both::new(shared()?, "patch")?;
    both.given(OBJECTS)?;
    both.changes(&[
        "patch",
        "configmap",
        "prices",
        "--type=merge",
        "-p",
        r#"{"data":{"plum":"2.00"}}"#,
    ])?
    .ok()?;
    let json = r#"[{"op":"replace","path":"/data/apple","value":"1.10"}]"#;
    both.changes(&["patch", "configmap", "prices", "--type=json", "-p", json])?
        .ok()?;
    let strategic =
        r#"{"spec":{"template":{"spec":{"containers":[{"name":"web","image":"registry.test/web:3"}]}}}}"#;
    both.changes(&["patch", "deployment", "web", "-p", strategic])?
        .ok()?;
    both.changes(&[
        "patch",
        "deployment",
        "web",
        "--subresource=scale",
        "--type=merge",
        "-p",
        r#"{"spec":{"replicas":0}}"#,
    ])?
    .ok()?;
    both.changes(&["label", "configmap", "prices", "season=autumn"])?
        .ok()?;
    both.changes(&["annotate", "configmap", "prices", "note=none"])?
        .ok()?;
    both.changes(&["set", "image", "deployment/web", "web=registry.test/web:4"])?
        .ok()?;
    both.changes(&["scale", "deployment", "web", "--replicas=0"])?
        .ok()?;
    both.changes(&["rollout", "history", "deployment", "web"])?.ok()?;
    both.have_equal("configmap", "prices")?;
    both.have_equal("deployment", "web")
}

#[test]
fn edit_with_an_editor() -> Result<()> {
    let both = Both::new(shared()?, "edit")?;
    both.given(OBJECTS)?;
    let editor = both.file("editor", "#!/bin/sh\nsed -i s/1.20/9.99/ \"$1\"\n")?;
    let both = both.env("KUBE_EDITOR", &editor);
    ensure!(
        both.changes(&["edit", "configmap", "prices"])?
            .ok()?
            .contains("edited")
    );
    both.have_equal("configmap", "prices")
}

/// What kubectl writes as protobuf.
#[test]
fn create_every_kind_that_has_a_command() -> Result<()> {
    let both = Both::new(shared()?, "create")?;
    for line in [
        "create configmap made --from-literal=a=b",
        "create serviceaccount made",
        "create role made --verb=get --resource=configmaps",
        "create rolebinding made --role=made --serviceaccount=default:default",
        "create quota made --hard=pods=100",
        "create poddisruptionbudget made --selector=app=made --min-available=1",
        "create priorityclass made --value=1 --dry-run=server",
        "create deployment made --image=registry.test/made --replicas=0 --port=80",
        "create service clusterip made --clusterip=None --tcp=80:http",
        "create service externalname away --external-name=away.test",
        "create service nodeport open --tcp=80",
        "create ingress made --rule=made.test/*=made:80,tls=made --class=made",
        "create job made --image=registry.test/made -- run",
        "expose deployment made --name=exposed --cluster-ip=None",
        "autoscale deployment made --min=1 --max=3 --cpu=50%",
    ] {
        let args: Vec<&str> = line.split(' ').collect();
        both.changes(&args)?.ok().context(line)?;
    }
    let cron_job = ["create", "cronjob", "made", "--image=registry.test/made"];
    both.changes(&[&cron_job[..], &["--schedule=0 0 1 1 *"]].concat())?
        .ok()?;
    both.changes(&["create", "job", "once", "--from=cronjob/made"])?
        .ok()?;
    for kind in [
        "configmap",
        "role",
        "deployment",
        "service",
        "ingress",
        "cronjob",
        "hpa",
    ] {
        both.have_equal(kind, "made")?;
    }
    both.have_equal("service", "away")?;
    both.have_equal("service", "exposed")
}

#[test]
fn replace_and_delete() -> Result<()> {
    let both = Both::new(shared()?, "delete")?;
    both.given(OBJECTS)?;
    let replaced = OBJECTS
        .split("---")
        .next()
        .context("the first object")?
        .replace("1.50", "1.60");
    let file = both.file("replaced.yaml", &replaced)?;
    both.changes(&["replace", "-f", &file])?.ok()?;
    both.have_equal("configmap", "prices")?;
    both.changes(&["delete", "configmap", "plan", "--dry-run=server"])?
        .ok()?;
    both.changes(&["delete", "configmap", "plan"])?.ok()?;
    both.changes(&["delete", "configmap", "-l", "team=fruit", "--wait=false"])?
        .ok()?;
    both.changes(&[
        "delete",
        "deployment",
        "web",
        "--cascade=foreground",
        "--grace-period=1",
    ])?
    .ok()?;
    both.changes(&["get", "configmap", "prices"])?
        .expect_failure("NotFound")?;
    Ok(())
}

#[test]
fn logs_and_logs_that_follow() -> Result<()> {
    let both = Both::new(shared()?, "podlogs")?;
    let kubelet = Kubelet::start(both.cluster(), "client-node")?;
    kubelet.run_pod(both.namespace(), "web-0")?;
    kubelet.log(both.namespace(), "web-0", "first");
    kubelet.log(both.namespace(), "web-0", "second");
    both.reads(&["logs", "web-0"])?.ok()?;
    both.reads(&["logs", "web-0", "--tail=1", "--timestamps=false"])?
        .ok()?;
    both.reads(&["logs", "web-0", "-c", "absent"])?
        .expect_failure("container absent is not valid")?;
    let mut follow = Held::start(&both, &["logs", "-f", "web-0"])?;
    ensure!(follow.line()?.as_deref() == Some("first") && follow.line()?.as_deref() == Some("second"));
    kubelet.log(both.namespace(), "web-0", "while following");
    ensure!(
        follow.line()?.as_deref() == Some("while following"),
        "a line flows while the stream is open"
    );
    kubelet.end(both.namespace(), "web-0");
    ensure!(follow.line()?.is_none() && follow.child.wait()?.success());
    Ok(())
}

#[test]
fn watch_events_flow_as_they_come() -> Result<()> {
    let both = Both::new(shared()?, "watch")?;
    let (cluster, namespace) = (both.cluster(), both.namespace());
    let mut watch = Held::start(&both, &["get", "configmaps", "-w", "-o", "name"])?;
    ensure!(watch.line()?.as_deref() == Some("configmap/kube-root-ca.crt"));
    for name in ["one", "two"] {
        cluster
            .kubectl(&["-n", namespace, "create", "configmap", name])?
            .ok()?;
        ensure!(
            watch.line()? == Some(format!("configmap/{name}")),
            "{name} flows before the next is made"
        );
    }
    watch.child.kill()?;
    watch.child.wait()?;
    Ok(())
}

#[test]
fn wait_ends_when_the_condition_holds() -> Result<()> {
    let both = Both::new(shared()?, "wait")?;
    both.given(OBJECTS)?;
    both.reads(&[
        "wait",
        "--for=condition=Available",
        "deployment/web",
        "--timeout=30s",
    ])?
    .ok()?;
    both.reads(&[
        "wait",
        "--for=jsonpath={.data.step}=one",
        "configmap/plan",
        "--timeout=30s",
    ])?
    .ok()?;
    Ok(())
}

#[test]
fn http1_clients_are_served_alike() -> Result<()> {
    let both = Both::new(shared()?, "http1")?.env("DISABLE_HTTP2", "1");
    both.given(OBJECTS)?;
    both.reads(&["get", "configmaps", "-o", "yaml"])?.ok()?;
    both.changes(&["create", "configmap", "made"])?.ok()?;
    Ok(())
}

#[test]
fn an_api_server_on_ipv6_is_guarded_alike() -> Result<()> {
    let cluster = Cluster::start(ClusterOptions {
        bind: Ipv6Addr::LOCALHOST.into(),
        ..ClusterOptions::default()
    })?;
    let both = Both::new(&cluster, "six")?;
    both.given(OBJECTS)?;
    let mark = cluster.audit().mark()?;
    both.reads(&["get", "configmaps", "-o", "yaml"])?.ok()?;
    both.changes(&["create", "configmap", "made"])?.ok()?;
    let reached = cluster.audit().since_by(mark, both.guarded().upstream_user())?;
    ensure!(
        reached.iter().any(|event| event.user_agent.contains("kubectl")),
        "{reached:#?}"
    );
    Ok(())
}

/// A guarded kubectl that runs while the test goes on.
struct Held {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Held {
    fn start(both: &Both<'_>, args: &[&str]) -> Result<Self> {
        let mut line = vec![
            both.cluster().kubectl_program().as_os_str(),
            OsStr::new("-n"),
            OsStr::new(both.namespace()),
        ];
        line.extend(args.iter().map(OsStr::new));
        let mut command = both.guarded().command(&line)?;
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = leash::spawn(command)?;
        let lines = BufReader::new(child.stdout.take().context("piped")?).lines();
        Ok(Self { child, lines })
    }

    fn line(&mut self) -> Result<Option<String>> {
        Ok(self.lines.next().transpose()?)
    }
}
