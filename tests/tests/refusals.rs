//! What the guard refuses: the agent learns why, the record says so, and the API server never hears of it.

#[path = "refusals/agent.rs"]
mod agent;
#[path = "refusals/contents.rs"]
mod contents;
#[path = "refusals/looks.rs"]
mod looks;
#[path = "refusals/profiles.rs"]
mod profiles;

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use rig::cluster::{Cluster, shared};
use rig::guarded::Guarded;
use rig::kubelet::Kubelet;
use rig::policies::EVERYTHING;
use rig::records;

const READER: &str = "\
apiVersion: eks-guard.dev/v1alpha1
kind: AgentPolicy
metadata: {name: reader}
spec:
  subjects: {agents: ['*']}
  rules:
    - name: read
      effect: allow
      verbs: [get, list, watch]
      apiGroups: ['']
      resources: [configmaps]
      namespaces: ['*']
    - name: not-these
      effect: deny
      verbs: ['*']
      apiGroups: ['']
      resources: [configmaps]
      namespaces: ['*']
      resourceNames: [sealed]
    - name: ask
      effect: requireApproval
      verbs: [delete]
      apiGroups: ['']
      resources: [configmaps]
      namespaces: ['*']
";

/// Runs refused commands and proves that nothing but discovery and allowed reads arrived.
struct Refusing<'a> {
    cluster: &'a Cluster,
    guarded: Guarded<'a>,
    namespace: &'a str,
}

impl<'a> Refusing<'a> {
    fn new(cluster: &'a Cluster, namespace: &'a str, policy: &str) -> Result<Self> {
        cluster.create_namespace(namespace)?;
        cluster
            .kubectl(&["-n", namespace, "create", "configmap", "sealed"])?
            .ok()?;
        cluster
            .kubectl(&[
                "-n",
                namespace,
                "create",
                "secret",
                "generic",
                "database",
                "--from-literal=a=b",
            ])?
            .ok()?;
        Ok(Self {
            cluster,
            guarded: Guarded::new(cluster, namespace, policy)?,
            namespace,
        })
    }

    /// The command fails, says every text, and nothing on `resource` (`pods/exec`) arrived.
    fn refuses(&self, args: &[&str], resource: &str, texts: &[&str]) -> Result<()> {
        let mark = self.cluster.audit().mark()?;
        let output = self.guarded.kubectl(&[&["-n", self.namespace], args].concat())?;
        for text in texts {
            ensure!(
                output.code != 0 && output.stderr.contains(text),
                "{args:?}: wanted {text:?}: {output:#?}"
            );
        }
        for event in self
            .cluster
            .audit()
            .since_by(mark, self.guarded.upstream_user())?
        {
            let Some(object) = &event.object else { continue };
            let hit = if object.subresource.is_empty() {
                object.resource.clone()
            } else {
                format!("{}/{}", object.resource, object.subresource)
            };
            ensure!(hit != resource, "{args:?} reached the API server: {event:#?}");
        }
        Ok(())
    }
}

#[test]
fn without_a_rule_nothing_but_discovery() -> Result<()> {
    let refusing = Refusing::new(shared()?, "norule", READER)?;
    let mark = refusing.cluster.audit().mark()?;
    refusing.refuses(&["get", "pods"], "pods", &["Forbidden", "no rule allows it"])?;
    refusing.refuses(
        &["delete", "deployment", "web"],
        "deployments",
        &["Forbidden", "no rule allows it"],
    )?;
    refusing.refuses(
        &["create", "configmap", "made"],
        "configmaps",
        &["may not", "no rule allows it"],
    )?;
    refusing.refuses(&["get", "nodes"], "nodes", &["Forbidden"])?;
    refusing.refuses(&["get", "--raw", "/metrics"], "", &["Forbidden"])?;
    let reached = refusing
        .cluster
        .audit()
        .since_by(mark, refusing.guarded.upstream_user())?;
    ensure!(
        reached
            .iter()
            .all(|event| event.object.is_none() && event.request_uri != "/metrics"),
        "{reached:#?}"
    );
    Ok(())
}

#[test]
fn deny_beats_allow_and_approval_is_not_there_yet() -> Result<()> {
    let refusing = Refusing::new(shared()?, "denied", READER)?;
    refusing.refuses(
        &["get", "configmap", "sealed"],
        "configmaps",
        &["Forbidden", "not-these"],
    )?;
    refusing.refuses(
        &["delete", "configmap", "kube-root-ca.crt"],
        "configmaps",
        &["Forbidden", "approval"],
    )?;
    Ok(())
}

#[test]
fn secrets_in_every_verb() -> Result<()> {
    let refusing = Refusing::new(shared()?, "secrets", EVERYTHING)?;
    for args in [
        &["get", "secrets"][..],
        &["get", "secret", "database", "-o", "yaml"],
        &["get", "secrets", "-w"],
        &["create", "secret", "generic", "made", "--from-literal=a=b"],
        &["patch", "secret", "database", "-p", "{}"],
        &["delete", "secret", "database"],
    ] {
        refusing.refuses(args, "secrets", &["may not"])?;
    }
    let raw = format!("/api/v1/namespaces/{}/secrets/database", refusing.namespace);
    refusing.refuses(&["get", "--raw", &raw], "secrets", &["Forbidden"])?;
    Ok(())
}

#[test]
fn ways_into_a_pod_and_around_the_guard() -> Result<()> {
    let cluster = shared()?;
    let refusing = Refusing::new(cluster, "entries", EVERYTHING)?;
    Kubelet::start(cluster, "entry-node")?.run_pod("entries", "web-0")?;
    refusing.refuses(&["exec", "web-0", "--", "id"], "pods/exec", &["may not"])?;
    refusing.refuses(&["attach", "web-0"], "pods/attach", &["may not"])?;
    refusing.refuses(
        &["port-forward", "web-0", "8080:80"],
        "pods/portforward",
        &["may not"],
    )?;
    refusing.refuses(&["cp", "web-0:/etc/hosts", "hosts"], "pods/exec", &["may not"])?;
    for (path, resource) in [
        ("/api/v1/namespaces/entries/pods/web-0/proxy/", "pods/proxy"),
        (
            "/api/v1/namespaces/entries/services/web:80/proxy/",
            "services/proxy",
        ),
        ("/api/v1/nodes/entry-node/proxy/pods", "nodes/proxy"),
    ] {
        refusing.refuses(&["get", "--raw", path], resource, &["may not"])?;
    }
    refusing.refuses(
        &["create", "token", "default"],
        "serviceaccounts/token",
        &["may not"],
    )?;
    Ok(())
}

#[test]
fn a_stolen_admin_token_is_worth_nothing() -> Result<()> {
    let cluster = shared()?;
    let refusing = Refusing::new(cluster, "stolen", READER)?;
    let token = cluster.service_account_token("stolen", "thief", "cluster-admin")?;
    let server = format!("https://{}", cluster.server());
    let stolen = [
        "--kubeconfig=/dev/null",
        "--insecure-skip-tls-verify",
        "--token",
        &token,
        "--server",
        &server,
    ];
    refusing.refuses(
        &[&stolen[..], &["get", "secrets"]].concat(),
        "secrets",
        &["Forbidden"],
    )?;
    let mark = cluster.audit().mark()?;
    refusing
        .guarded
        .kubectl(
            &[
                &stolen[..],
                &["-n", "stolen", "get", "configmap", "kube-root-ca.crt"],
            ]
            .concat(),
        )?
        .ok()?;
    let events = cluster.audit().since(mark)?;
    let mut users = events
        .iter()
        .filter(|event| event.request_uri.contains("/namespaces/stolen/"));
    ensure!(
        users.all(|event| event.user == refusing.guarded.upstream_user()),
        "{events:#?}"
    );
    Ok(())
}

#[test]
fn acting_as_somebody_else() -> Result<()> {
    let cluster = shared()?;
    let refusing = Refusing::new(cluster, "impersonate", EVERYTHING)?;
    let mark = cluster.audit().mark()?;
    let output =
        refusing
            .guarded
            .kubectl(&["--as=system:admin", "--as-group=system:masters", "auth", "whoami"])?;
    ensure!(!output.stdout.contains("system:admin"), "{output:?}");
    let events = cluster.audit().since_by(mark, refusing.guarded.upstream_user())?;
    ensure!(
        events.iter().all(|event| event.impersonated_user.is_none()),
        "{events:#?}"
    );
    Ok(())
}

#[test]
fn every_forwarded_request_carries_its_record_id() -> Result<()> {
    let cluster = shared()?;
    cluster.create_namespace("joined")?;
    let guarded = Guarded::new(cluster, "joined", EVERYTHING)?;
    let mark = cluster.audit().mark()?;
    guarded.shell(
        "kubectl -n joined create configmap one && kubectl -n joined get configmaps \
         && kubectl -n joined patch configmap one -p '{\"data\":{\"a\":\"b\"}}' && kubectl -n joined delete configmap one \
         && kubectl -n joined get secrets; true",
    )?;
    let upstream = cluster.audit().since_by(mark, guarded.upstream_user())?;
    let events = records::read(&guarded.records())?;
    let allowed: BTreeSet<&str> = events
        .iter()
        .filter(|event| {
            records::text(event, "stage") == "outcome" && records::text(event, "decision") == "allow"
        })
        .map(|event| records::text(event, "id"))
        .collect();
    let seen: BTreeSet<&str> = upstream.iter().map(|event| event.audit_id.as_str()).collect();
    ensure!(
        seen.len() > 4 && seen == allowed,
        "upstream {upstream:#?}\nrecords {events:#?}"
    );
    let refused = events
        .iter()
        .find(|event| records::text(event, "resource") == "secrets");
    ensure!(
        refused.is_some_and(|event| records::text(event, "decision") == "refuse"),
        "{events:#?}"
    );
    let intents = events
        .iter()
        .filter(|event| records::text(event, "stage") == "intent")
        .count();
    ensure!(
        intents == 3,
        "create, patch and delete have an intent: {events:#?}"
    );
    Ok(())
}

/// Looks for the text in `needle` in the environment, command line and memory of every process it can see, and in files.
const SEARCH: &str = r#"
kubectl -n hidden get configmaps >/dev/null || exit 3
for process in /proc/[0-9]*; do
  grep -aqsf needle $process/environ $process/cmdline && echo "found in $process"
  while IFS='- ' read -r start end rights rest; do
    case $rights in r*) ;; *) continue ;; esac
    case $start in ffffffff*) continue ;; esac
    dd if=$process/mem bs=4096 skip=$((0x$start / 4096)) count=$(((0x$end - 0x$start) / 4096)) 2>/dev/null |
      grep -aqf needle && echo "found in the memory of $process"
  done 2>/dev/null < $process/maps
done
grep -rqsf needle --exclude=needle . /etc /run /var/lib/eks-guard "$HOME" && echo 'found in a file'
cat "$KUBECONFIG"
"#;

#[test]
fn the_upstream_credential_is_nowhere_the_agent_can_look() -> Result<()> {
    let cluster = shared()?;
    cluster.create_namespace("hidden")?;
    let token = cluster.service_account_token("hidden", "operator", "cluster-admin")?;
    let user = "system:serviceaccount:hidden:operator";
    let credential = rig::kubeconfig::Credential::Token(token.clone());
    let guarded =
        Guarded::with_credential(cluster, "hidden", user, credential, EVERYTHING)?.env("SOME_TOKEN", &token);
    // The needle is put together in a file: neither a command line nor the shell's memory may hold it whole.
    let (head, tail) = token.split_at(token.len() / 2);
    let script = format!("printf %s {head} > needle; printf %s {tail} >> needle\n{SEARCH}");
    let output = guarded.shell(&script)?.ok()?;
    ensure!(!output.contains("found in"), "{output}");
    ensure!(
        output.contains(&cluster.server().to_string()),
        "the generated kubeconfig names the same server: {output}"
    );
    ensure!(!output.contains("client-key"), "{output}");
    // The search finds what is there to be found.
    let planted = format!(
        "printf %s {head} > needle; printf %s {tail} >> needle\nFOUND=$(cat needle) sleep 60 &\n{SEARCH}"
    );
    let output = guarded.shell(&planted)?.ok()?;
    ensure!(
        output.contains("found in /proc/") && output.contains("found in the memory of"),
        "{output}"
    );
    Ok(())
}

#[test]
fn a_guard_killed_while_a_watch_is_open_leaves_no_way_to_the_api_server() -> Result<()> {
    let cluster = shared()?;
    cluster.create_namespace("killed")?;
    let guarded = Guarded::new(cluster, "killed", EVERYTHING)?;
    // The command ignores what it can, tells that its watch is open, and goes on trying when the guard is dead.
    let script = "trap '' TERM INT HUP\n\
         kubectl -n killed get configmaps -w -o name > watched 2>&1 &\n\
         until grep -q configmap watched; do sleep 0.05; done\n\
         echo open\n\
         while :; do kubectl -n killed get configmaps >/dev/null 2>&1; done";
    let mut command = guarded.command(&["/bin/sh", "-c", script].map(std::ffi::OsStr::new))?;
    command
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped());
    let mut guard = rig::leash::spawn(command)?;
    let mut line = String::new();
    std::io::BufRead::read_line(
        &mut std::io::BufReader::new(guard.stdout.take().unwrap()),
        &mut line,
    )?;
    ensure!(line == "open\n", "{line}");
    guard.kill()?;
    guard.wait()?;
    let mark = cluster.audit().mark()?;
    // Whoever survived has had time for tries once a whole other guarded command has come and gone.
    Guarded::new(cluster, "killed-next", EVERYTHING)?
        .kubectl(&["-n", "killed", "get", "configmaps"])?
        .ok()?;
    let later = cluster.audit().since_by(mark, guarded.upstream_user())?;
    ensure!(later.is_empty(), "{later:#?}");
    Ok(())
}
