//! The guard's side: its own public functions, as the proxy calls them.

use std::time::SystemTime;

use anyhow::{Result, anyhow};
use eks_guard_core::body::{Body, json};
use eks_guard_core::policy::{AgentPolicy, Decision, Facts, Snapshot, read_policies};
use eks_guard_core::principal::Principal;
use eks_guard_core::request_info::ApiRequest;

use crate::{POLICIES, RULES, policy_of, team};

/// Objects in the list that bodies are measured with.
const OBJECTS: usize = 400;

pub(crate) struct Guard {
    policies: Vec<AgentPolicy>,
    snapshot: Snapshot,
    conditional: Snapshot,
    create: ApiRequest,
    principal: Principal,
    json: Vec<u8>,
    protobuf: Vec<u8>,
}

impl Guard {
    pub(crate) fn new() -> Result<Self> {
        let policies = read_policies("bench.yaml", &documents()).map_err(|errors| anyhow!("{errors:#?}"))?;
        let conditional =
            read_policies("condition.yaml", CONDITION).map_err(|errors| anyhow!("{errors:#?}"))?;
        Ok(Self {
            snapshot: Snapshot::compile(&policies, 1).map_err(|errors| anyhow!("{errors:#?}"))?,
            conditional: Snapshot::compile(&conditional, 1).map_err(|errors| anyhow!("{errors:#?}"))?,
            create: create()?,
            policies,
            principal: Principal::named("agent"),
            json: deployment().into_bytes(),
            protobuf: config_map(),
        })
    }

    /// Whether the agent may read a pod of a team; the request is parsed, and its path written, for each decision.
    pub(crate) fn decides(&self, number: usize) -> bool {
        let path = format!("/api/v1/namespaces/{}/pods/web-0", team(number));
        let Ok(request) = ApiRequest::parse("GET", &path, None) else {
            return false;
        };
        let decision = self
            .snapshot
            .decide(&self.principal, request, &Facts::at(SystemTime::UNIX_EPOCH));
        matches!(decision, Decision::Permit(_))
    }

    /// Whether the agent may create a deployment, which a condition looks into; the request is read already.
    pub(crate) fn decides_on_object(&self) -> bool {
        let facts = Facts::at(SystemTime::UNIX_EPOCH);
        let decision = self
            .conditional
            .decide(&self.principal, self.create.clone(), &facts);
        matches!(decision, Decision::Permit(_))
    }

    pub(crate) fn compile(&self) -> bool {
        Snapshot::compile(&self.policies, 2).is_ok()
    }

    pub(crate) fn json_len(&self) -> usize {
        self.json.len()
    }

    pub(crate) fn read_json(&self) -> bool {
        json::canonical(&self.json).is_ok()
    }

    pub(crate) fn protobuf_len(&self) -> usize {
        self.protobuf.len()
    }

    /// From protobuf to JSON to canonical JSON: all that becomes of such a body.
    pub(crate) fn read_protobuf(&self) -> bool {
        let path = "/api/v1/namespaces/team-1/configmaps";
        ApiRequest::parse("POST", path, None).is_ok_and(|request| {
            Body::read(
                &request,
                Some("application/vnd.kubernetes.protobuf"),
                &self.protobuf,
            )
            .is_ok()
        })
    }
}

pub(crate) fn parse() -> bool {
    ApiRequest::parse(
        "GET",
        "/api/v1/namespaces/team-1/pods/web-0",
        Some("resourceVersion=0"),
    )
    .is_ok()
}

/// A condition of the usual kind.
const CONDITION: &str = r#"
apiVersion: eks-guard.dev/v1alpha1
kind: AgentPolicy
metadata: {name: condition}
spec:
  subjects: {agents: [agent]}
  rules:
    - name: small
      effect: allow
      verbs: [create]
      apiGroups: [apps]
      resources: [deployments]
      namespaces: [shop]
      conditions:
        - {name: small, expression: "object.spec.replicas <= 10 && object.metadata.name.startsWith('web')"}
"#;

/// A small deployment on its way to be created.
fn create() -> Result<ApiRequest> {
    let body = br#"{"kind":"Deployment","apiVersion":"apps/v1","metadata":{"name":"web-1"},"spec":{"replicas":3,"selector":{"matchLabels":{"app":"web"}},"template":{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"name":"c","image":"registry.example.com/web:1"}]}}}}"#;
    let request = ApiRequest::parse("POST", "/apis/apps/v1/namespaces/shop/deployments", None)
        .map_err(|refusal| anyhow!("{refusal}"))?;
    let body = Body::read(&request, None, body).map_err(|refusal| anyhow!("{refusal}"))?;
    request.with_body(body).map_err(|refusal| anyhow!("{refusal}"))
}

fn documents() -> String {
    let mut text = String::new();
    for policy in 0..POLICIES {
        text += &format!(
            "---\napiVersion: eks-guard.dev/v1alpha1\nkind: AgentPolicy\nmetadata: {{name: p{policy}}}\nspec:\n  \
             subjects: {{agents: [agent, agent-{policy}]}}\n  rules:\n"
        );
        for rule in (0..RULES).filter(|rule| policy_of(*rule) == policy) {
            text += &format!(
                "    - {{name: r{rule}, effect: allow, verbs: [get, list], apiGroups: [\"\"], resources: [pods], \
                 namespaces: [{}]}}\n",
                team(rule)
            );
        }
    }
    text
}

/// A long deployment, as programs write it: no spaces, strings of all lengths.
fn deployment() -> String {
    let container = |number: usize| {
        format!(
            r#"{{"name":"c{number}","image":"registry.example.com/team/web:1.{number}","args":["--listen=0.0.0.0:8080","--log=info"],"env":[{{"name":"A","value":"some value of {number}"}}],"resources":{{"limits":{{"cpu":"500m","memory":"128Mi"}}}},"ports":[{{"containerPort":{}}}]}}"#,
            8000 + number
        )
    };
    let containers: Vec<String> = (0..OBJECTS).map(container).collect();
    format!(
        r#"{{"kind":"Deployment","apiVersion":"apps/v1","metadata":{{"name":"web"}},"spec":{{"replicas":3,"template":{{"spec":{{"containers":[{}]}}}}}}}}"#,
        containers.join(",")
    )
}

/// A ConfigMap in protobuf with many entries (runtime.Unknown around v1.ConfigMap, k8s.io/api generated.proto).
fn config_map() -> Vec<u8> {
    let mut object = field(1, &field(1, b"settings"));
    for number in 0..OBJECTS * 4 {
        let key = field(1, format!("key-{number}").as_bytes());
        let value = field(
            2,
            format!("some value of {number}, long enough to be one").as_bytes(),
        );
        object.extend(field(2, &[key, value].concat()));
    }
    let type_meta = [field(1, b"v1"), field(2, b"ConfigMap")].concat();
    [b"k8s\0".to_vec(), field(1, &type_meta), field(2, &object)].concat()
}

/// A length-delimited field.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(bytes);
    out
}
