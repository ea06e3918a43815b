//! Whole documents, and every mistake at once.

use crate::node::config::{
    AgentEgress, Allow, Closed, EgressMode, NodeConfig, NriConfig, NriMode, PolicySource, Prefix, Protocol,
    SystemPod, UpstreamConfig, Which,
};

const FULL: &str = r#"
apiVersion: eks-guard.dev/v1alpha1
kind: NodeConfig
spec:
  nodeName: node-a
  cgroupRoot: /sys/fs/cgroup/kubepods.slice
  upstream:
    serviceAccount:
      server: https://10.0.0.9:443
      tokenFile: /var/run/token
      certificateAuthority: /var/run/ca.crt
  apiServers: ["10.0.0.9:443", "[fd00::9]:443"]
  otherClusters: [10.9.0.0/16, "fd01::1"]
  nat64Prefixes: ["64:ff9b:1::/96"]
  systemPods:
    - {namespace: kube-system, serviceAccount: aws-node}
    - {namespace: kube-system, name: kube-proxy-x1}
  agentLabel: example.org/agent
  verify: {intervalSeconds: 60, probe: /opt/probe}
  metrics: {listen: "127.0.0.1:9473"}
  egress:
    mode: blockList
    agents:
      - agent: shop
        mode: allowList
        allow:
          - {to: 10.96.0.10, protocol: UDP, port: 53}
          - {to: 10.1.0.0/16}
"#;

fn problems(text: &str) -> Vec<String> {
    let errors = NodeConfig::parse("node.yaml", text, None).unwrap_err();
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn a_whole_document_is_read() {
    let config = NodeConfig::parse("node.yaml", FULL, Some("ignored")).unwrap();
    assert_eq!(config.node_name, "node-a");
    assert_eq!(
        config.upstream,
        UpstreamConfig::ServiceAccount {
            server: "https://10.0.0.9:443".to_owned(),
            token_file: "/var/run/token".into(),
            certificate_authority: "/var/run/ca.crt".into(),
        }
    );
    let verify = config.verify.unwrap();
    assert_eq!(
        (verify.interval.as_secs(), verify.probe),
        (60, Some("/opt/probe".into()))
    );
    assert_eq!(config.metrics, Some("127.0.0.1:9473".parse().unwrap()));
    let prefix = |address: &str, length| Prefix {
        address: address.parse().unwrap(),
        length,
    };
    assert_eq!(
        config.other_clusters,
        [prefix("10.9.0.0", 16), prefix("fd01::1", 128)]
    );
    assert_eq!(
        config.nat64_prefixes,
        ["64:ff9b:1::".parse::<std::net::Ipv6Addr>().unwrap()]
    );
    let exempt = |which| SystemPod {
        namespace: "kube-system".to_owned(),
        which,
    };
    assert_eq!(
        config.system_pods,
        [
            exempt(Which::ServiceAccount("aws-node".to_owned())),
            exempt(Which::Name("kube-proxy-x1".to_owned())),
        ]
    );
    let dns = Allow {
        to: prefix("10.96.0.10", 32),
        protocol: Some(Protocol::Udp),
        port: Some(53),
        opens: None,
    };
    let inside = Allow {
        to: prefix("10.1.0.0", 16),
        protocol: None,
        port: None,
        opens: None,
    };
    let shop = AgentEgress {
        mode: Some(EgressMode::AllowList),
        allow: vec![dns, inside],
    };
    assert_eq!(config.egress, EgressMode::BlockList);
    assert_eq!(
        config.agents.into_iter().collect::<Vec<_>>(),
        [("shop".to_owned(), shop)]
    );
}

#[test]
fn what_is_left_out_is_the_strict_default() {
    let text = "apiVersion: eks-guard.dev/v1alpha1\nkind: NodeConfig\nspec: {upstream: {kubeconfig: /k}}\n";
    let config = NodeConfig::parse("node.yaml", text, Some("from-env")).unwrap();
    assert_eq!(config.node_name, "from-env");
    assert_eq!(config.egress, EgressMode::AllowList);
    assert_eq!(config.agent_label, "eks-guard.dev/agent");
    assert_eq!(
        config.policies,
        PolicySource::Folder("/etc/eks-guard/policies".into())
    );
    assert!(config.system_pods.is_empty() && config.cgroup_root.is_none());
    assert!(config.verify.is_none() && config.metrics.is_none());
    assert_eq!(
        config.nri, None,
        "the runtime is not connected to unless it is said"
    );
}

#[test]
fn trials_come_neither_all_the_time_nor_never() {
    let of = |fields: &str| {
        let spec = format!("spec: {{nodeName: n, upstream: {{kubeconfig: /k}}, {fields}}}");
        problems(&format!(
            "apiVersion: eks-guard.dev/v1alpha1\nkind: NodeConfig\n{spec}\n"
        ))
    };
    for wrong in [
        "verify: {intervalSeconds: 0}",
        "verify: {probe: x}",
        "metrics: {}",
        "metrics: {listen: x}",
    ] {
        assert_eq!(of(wrong).len(), 1, "{wrong}");
    }
}

#[test]
fn every_mistake_is_reported_with_its_place() {
    let text = r#"apiVersion: eks-guard.dev/v1alpha1
kind: NodeConfig
spec:
  pins: relative/pins
  apiServers: ["10.0.0.9", "0.0.0.0:443"]
  otherClusters: [10.9.1.0/16, 0.0.0.0/0, 10.0.0.0/33]
  nat64Prefixes: ["64:ff9b::/64"]
  systemPods: [{namespace: kube-system}]
  agentLabel: "a b"
  egress:
    mode: open
    agents:
      - agent: a
        allow: [{to: nowhere}, {to: 10.0.0.1, protocol: SCTP}, {to: 10.0.0.1, port: 0}]
      - agent: a
        allow: [{to: 10.0.0.1, opens: api}]
  kubeletPorts: 10259-10248
"#;
    let problems = problems(text);
    let expected = [
        "node.yaml:4:9: pins",
        "node.yaml:5:16: \"10.0.0.9\"",
        "node.yaml:5:28: \"0.0.0.0:443\"",
        "node.yaml:6:19: \"10.9.1.0/16\" has bits",
        "node.yaml:6:32: \"0.0.0.0/0\" is every",
        "node.yaml:6:43: \"10.0.0.0/33\" has a longer",
        "node.yaml:7:19: \"64:ff9b::/64\"",
        "node.yaml:8:16: write either",
        "node.yaml:9:15: \"a b\"",
        "node.yaml:11:11: mode \"open\"",
        "node.yaml:14:22: \"nowhere\"",
        "node.yaml:14:57: protocol",
        "node.yaml:14:85: port 0",
        "node.yaml:15:16: agent \"a\" stands twice",
        "node.yaml:16:39: opens \"api\" is not known",
        "node.yaml:17:17: \"10259-10248\" is no range",
    ];
    for start in expected {
        assert!(
            problems.iter().any(|problem| problem.starts_with(start)),
            "{start} is missing in {problems:#?}"
        );
    }
    for name in ["nodeName", "upstream"] {
        assert!(
            problems
                .iter()
                .any(|problem| problem.contains(&format!("`{name}` is missing")))
        );
    }
    assert_eq!(problems.len(), expected.len() + 2, "{problems:#?}");
}

#[test]
fn other_documents_are_refused() {
    let policy = "apiVersion: eks-guard.dev/v1alpha1\nkind: AgentPolicy\n";
    assert!(problems(policy)[0].contains("write `kind: NodeConfig`"));
    let two = format!("{FULL}---\n{FULL}");
    assert!(problems(&two)[0].contains("more than one document"));
    let typo = FULL.replace("agentLabel", "agentLable");
    assert!(problems(&typo)[0].contains("did you mean `agentLabel`?"));
}

#[test]
fn what_was_opened_at_the_start_needs_a_restart() {
    let config = NodeConfig::parse("node.yaml", FULL, None).unwrap();
    let mut other = config.clone();
    other.egress = EgressMode::AllowList;
    other.system_pods.clear();
    assert!(!config.needs_restart(&other));
    other.pins = "/elsewhere".into();
    assert!(config.needs_restart(&other));
}

#[test]
fn policies_are_in_a_folder_or_in_the_cluster() {
    let text = |fields: &str| {
        format!(
            "apiVersion: eks-guard.dev/v1alpha1\nkind: NodeConfig\nspec: {{nodeName: node-a, upstream: {{kubeconfig: /k}}{fields}}}\n"
        )
    };
    let source =
        |fields: &str| NodeConfig::parse("node.yaml", &text(fields), None).map(|config| config.policies);
    let folder = |path: &str| Ok(PolicySource::Folder(path.into()));
    assert_eq!(source(""), folder("/etc/eks-guard/policies"));
    assert_eq!(source(", policySource: folder, policies: /p"), folder("/p"));
    assert_eq!(source(", policySource: cluster"), Ok(PolicySource::Cluster));
    for (fields, expected) in [
        (", policySource: cluster, policies: /p", "remove `policies`"),
        (", policySource: Cluster", "write `folder` or `cluster`"),
        (", policies: p", "absolute"),
    ] {
        let problem = source(fields).unwrap_err()[0].message.clone();
        assert!(problem.contains(expected), "{problem}");
    }
    let config = NodeConfig::parse("node.yaml", &text(""), None).unwrap();
    let mut other = config.clone();
    other.policies = PolicySource::Cluster;
    assert!(config.needs_restart(&other));
}

#[test]
fn the_runtime_is_asked_as_it_is_said() {
    let nri = |section: &str| {
        let text = format!(
            "apiVersion: eks-guard.dev/v1alpha1\nkind: NodeConfig\nspec: {{nodeName: node-a, upstream: {{kubeconfig: /k}}, nri: {section}}}\n"
        );
        NodeConfig::parse("node.yaml", &text, None).map(|config| config.nri)
    };
    let known = |mode, socket: &str| {
        Ok(Some(NriConfig {
            mode,
            socket: socket.into(),
        }))
    };
    assert_eq!(
        nri("{mode: required}"),
        known(NriMode::Required, "/var/run/nri/nri.sock")
    );
    assert_eq!(
        nri("{mode: optional, socket: /n}"),
        known(NriMode::Optional, "/n")
    );
    assert_eq!(nri("{mode: disabled}"), Ok(None));
    for (section, expected) in [
        ("{}", "`mode` is missing"),
        ("{mode: always}", "`optional` or"),
        ("{mode: required, socket: nri.sock}", "absolute"),
    ] {
        assert!(
            nri(section).unwrap_err()[0].message.contains(expected),
            "{section}"
        );
    }
}

#[test]
fn what_is_closed_is_opened_by_its_name_only() {
    let text = |entry: &str| {
        format!(
            "apiVersion: eks-guard.dev/v1alpha1\nkind: NodeConfig\nspec:\n  nodeName: node-a\n  upstream: {{kubeconfig: /k}}\n  kubeletPorts: {}\n  egress: {{agents: [{{agent: a, allow: [{entry}]}}]}}\n",
            "\"10250\"",
        )
    };
    let config = |entry| NodeConfig::parse("node.yaml", &text(entry), None).unwrap();
    let opens = |entry| config(entry).agents["a"].allow[0].opens;
    assert_eq!(opens("{to: 10.0.0.0/8}"), None);
    assert_eq!(opens("{to: 10.0.0.0/8, opens: kubelet}"), Some(Closed::Kubelet));
    assert_eq!(
        opens("{to: 169.254.169.254, opens: metadata}"),
        Some(Closed::Metadata)
    );
    assert_eq!(config("{to: 10.0.0.1}").kubelet_ports, (10_250, 10_250));
}
