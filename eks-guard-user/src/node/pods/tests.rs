//! Sticky agents, explicit exemptions, and claims that are not believed.

use crate::node::cgroup::PodUid;
use crate::node::config::NodeConfig;
use crate::node::kube::{Change, Pod};
use crate::node::pods::{PodClass, Pods};

const A: &str = "0f2a9c4e-1b7d-4e8a-9c3f-5d6e7f809a1b";
const B: &str = "aa2a9c4e-1b7d-4e8a-9c3f-5d6e7f809a1b";
const HASH: &str = "0123456789abcdef0123456789abcdef";

fn config(system_pods: &str) -> NodeConfig {
    let text = format!(
        "apiVersion: eks-guard.dev/v1alpha1\nkind: NodeConfig\nspec:\n  nodeName: node-a\n  upstream: {{kubeconfig: /k}}\n  systemPods: [{system_pods}]\n"
    );
    NodeConfig::parse("node.yaml", &text, None).unwrap()
}

fn pod(uid: &str, labels: &str, annotations: &str) -> Pod {
    let text = format!(
        r#"{{"metadata":{{"name":"p","namespace":"shop","uid":"{uid}","labels":{{{labels}}},"annotations":{{{annotations}}}}},"spec":{{"nodeName":"node-a","serviceAccountName":"bot"}}}}"#
    );
    serde_json::from_str(&text).unwrap()
}

fn agent(uid: &str) -> Pod {
    pod(uid, r#""eks-guard.dev/agent":"shop""#, "")
}

fn class(pods: &Pods, cgroup: &str) -> Option<PodClass> {
    pods.of_cgroup(&PodUid::parse(cgroup).unwrap())
        .map(|pod| pod.class.clone())
}

fn is_agent(name: &str) -> Option<PodClass> {
    Some(PodClass::Agent {
        name: name.to_owned(),
    })
}

#[test]
fn an_agent_stays_one_whatever_becomes_of_its_label() {
    let (mut pods, config) = (Pods::default(), config(""));
    pods.take(Change::Set(agent(A)), &config);
    assert_eq!(class(&pods, A), is_agent("shop"));
    for other in [pod(A, "", ""), pod(A, r#""eks-guard.dev/agent":"other""#, "")] {
        pods.take(Change::Set(other.clone()), &config);
        assert_eq!(class(&pods, A), is_agent("shop"));
        pods.take(Change::Listed(vec![other]), &config);
        assert_eq!(class(&pods, A), is_agent("shop"));
    }
    // Its object is gone and its processes still run.
    pods.take(Change::Gone(agent(A)), &config);
    pods.forget(|_| true);
    assert_eq!(class(&pods, A), is_agent("shop"));
    pods.take(Change::Listed(vec![]), &config);
    pods.forget(|_| true);
    assert_eq!(class(&pods, A), is_agent("shop"));
    pods.forget(|_| false);
    assert_eq!(class(&pods, A), None);
}

#[test]
fn labels_that_change_select_no_other_policies() {
    let (mut pods, config) = (Pods::default(), config(""));
    let labels = |team: &str| format!(r#""eks-guard.dev/agent":"shop","team":"{team}""#);
    pods.take(Change::Set(pod(A, &labels("web"), "")), &config);
    pods.take(Change::Set(pod(A, &labels("root"), "")), &config);
    let text = serde_json::to_string(&pods).unwrap();
    let mut pods: Pods = serde_json::from_str(&text).unwrap();
    pods.take(Change::Listed(vec![pod(A, &labels("root"), "")]), &config);
    let known = pods.of_cgroup(&PodUid::parse(A).unwrap()).unwrap();
    assert_eq!(known.labels.as_ref().unwrap()["team"], "web");
}

#[test]
fn a_label_that_comes_late_makes_an_agent() {
    let (mut pods, config) = (Pods::default(), config(""));
    pods.take(Change::Listed(vec![pod(A, "", "")]), &config);
    assert_eq!(class(&pods, A), Some(PodClass::Ordinary));
    pods.take(Change::Set(agent(A)), &config);
    assert_eq!(class(&pods, A), is_agent("shop"));
}

#[test]
fn only_the_configuration_exempts_and_never_an_agent() {
    let mut pods = Pods::default();
    let exempt = config("{namespace: shop, serviceAccount: bot}");
    pods.take(Change::Listed(vec![agent(A), pod(B, "", "")]), &exempt);
    assert_eq!(class(&pods, A), is_agent("shop"));
    assert_eq!(class(&pods, B), Some(PodClass::System));
    pods.reclassify(&config("{namespace: other, serviceAccount: bot}"));
    assert_eq!(class(&pods, B), Some(PodClass::Ordinary));
    pods.reclassify(&config("{namespace: shop, name: p}"));
    assert_eq!(
        (class(&pods, A), class(&pods, B)),
        (is_agent("shop"), Some(PodClass::System))
    );
}

#[test]
fn pods_of_other_nodes_and_unknown_cgroups_have_no_class() {
    let (mut pods, config) = (Pods::default(), config(""));
    let mut elsewhere = pod(A, "", "");
    elsewhere.spec.node_name = "node-b".to_owned();
    pods.take(Change::Set(elsewhere), &config);
    assert_eq!((class(&pods, A), class(&pods, B)), (None, None));
}

#[test]
fn annotations_claim_manifests_only() {
    let (mut pods, config) = (Pods::default(), config(""));
    let mirror = |uid: &str, hash: &str| {
        pod(
            uid,
            "",
            &format!(r#""kubernetes.io/config.mirror":"x","kubernetes.io/config.hash":"{hash}""#),
        )
    };
    pods.take(Change::Set(agent(A)), &config);
    pods.take(Change::Set(mirror(B, A)), &config);
    assert_eq!(
        class(&pods, A),
        is_agent("shop"),
        "another pod's cgroup is claimed"
    );
    assert_eq!(class(&pods, B), Some(PodClass::Ordinary));
    pods.take(Change::Set(mirror(B, HASH)), &config);
    assert_eq!(class(&pods, HASH), Some(PodClass::Ordinary));
    // Two claims on one manifest: the agent's counts.
    let mut labelled = mirror("c", HASH);
    labelled.metadata.labels = agent(A).metadata.labels;
    pods.take(Change::Set(labelled), &config);
    assert_eq!(class(&pods, HASH), is_agent("shop"));
}

#[test]
fn what_was_known_outlives_the_daemon() {
    let (mut pods, config) = (Pods::default(), config(""));
    pods.take(Change::Set(agent(A)), &config);
    let text = serde_json::to_string(&pods).unwrap();
    let mut read: Pods = serde_json::from_str(&text).unwrap();
    assert_eq!(read, pods);
    read.take(Change::Listed(vec![pod(A, "", "")]), &config);
    assert_eq!(class(&read, A), is_agent("shop"));
}
