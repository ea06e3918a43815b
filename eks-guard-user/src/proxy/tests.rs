//! The whole proxy in one process: a fake kernel, record and API server, real sockets, TLS and HTTP on both sides.

mod connections;
mod discipline;
mod forwarding;
mod framing;
mod looks;
mod refusals;
mod reviews;
mod served;
mod streaming;
mod upstream;

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use eks_guard_core::discovery::Discovery;
use eks_guard_core::policy::{Snapshot, read_policies};
use eks_guard_core::record::Event;
use http::{Request, Response};
use http_body_util::Full;
use jiff::Timestamp;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::identity;
use crate::metrics::Metrics;
use crate::proxy::{Limits, Listener, LocalOrigins, Place, Proxy, ProxyParts, Workload};
use crate::testing::{
    Answer, Arrived, Client, FakeApiServer, FakeCredentials, FakeFlows, MemoryRecorder, Protocol, json,
};
use crate::tls::ca::RunCa;
use crate::tls::downstream::server_config;
use crate::upstream::Endpoint;

/// Pods and ConfigMaps may be read and written, namespaces may not be touched.
const POLICY: &str = r#"
apiVersion: eks-guard.dev/v1alpha1
kind: AgentPolicy
metadata: {name: test}
spec:
  subjects: {agents: ["*"]}
  rules:
    - name: work
      effect: allow
      verbs: ["*"]
      apiGroups: [""]
      resources: [pods, pods/log, configmaps, secrets]
      namespaces: ["*"]
    - name: no-namespaces
      effect: deny
      verbs: ["*"]
      apiGroups: [""]
      resources: [namespaces]
"#;

const PODS: &str = "/api/v1/namespaces/default/pods";
const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const BOTH: [Protocol; 2] = [Protocol::H1, Protocol::H2];

/// A guard and the API server behind it.
struct Rig {
    api: FakeApiServer,
    proxy: Arc<Proxy>,
    recorder: Arc<MemoryRecorder>,
    flows: Arc<FakeFlows>,
    credentials: Arc<FakeCredentials>,
    metrics: Arc<Metrics>,
    ca_pem: String,
    port: u16,
    drain: CancellationToken,
    tasks: TaskTracker,
}

impl Rig {
    async fn start(handler: impl Fn(&Arrived) -> Answer + Send + Sync + 'static) -> Self {
        Self::with(Protocol::H2, Limits::default(), handler).await
    }

    async fn with(
        upstream: Protocol,
        limits: Limits,
        handler: impl Fn(&Arrived) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let api = FakeApiServer::start(upstream, handler).await;
        let endpoint = api.endpoint.clone();
        Self::before(api, endpoint, limits).await.knowing_what_is_served()
    }

    /// Another guard before the same API server, which it believes to be at another endpoint.
    async fn pointed_at(self, endpoint: Endpoint) -> Self {
        Self::before(self.api, endpoint, Limits::default())
            .await
            .knowing_what_is_served()
    }

    fn knowing_what_is_served(self) -> Self {
        let served = Discovery::read([SERVED.as_bytes()]).expect("it is a list");
        self.proxy.served.learn(served);
        self
    }

    /// A guard that has asked the API server for nothing yet.
    async fn before(api: FakeApiServer, endpoint: Endpoint, limits: Limits) -> Self {
        let ca = RunCa::generate().expect("the provider makes keys");
        let policies = read_policies("policy.yaml", POLICY).expect("the test's policy is right");
        let snapshot = Snapshot::compile(&policies, 1).expect("the test's policy compiles");
        let (recorder, flows) = (Arc::new(MemoryRecorder::default()), Arc::new(FakeFlows::always()));
        let (credentials, metrics) = (Arc::new(FakeCredentials::default()), Arc::new(Metrics::default()));
        let principal = identity::principal("test-agent", Some("test-model"));
        let workload = Workload::new(principal, "test-session", recorder.clone(), &limits);
        let place = Place {
            origins: LocalOrigins::of(flows.clone()),
            workloads: Arc::new(Arc::clone(&workload)),
            resident: workload,
        };
        let proxy = Proxy::new(ProxyParts {
            snapshot: Arc::new(ArcSwap::from_pointee(snapshot)),
            tls: server_config(&ca, &endpoint).expect("the names are fine"),
            endpoint,
            credentials: credentials.clone(),
            metrics: metrics.clone(),
            limits,
            clock: Timestamp::now,
        });
        let proxy = proxy.expect("the endpoint is an authority");
        let listener = Listener::bind().expect("loopback is there");
        let (port, drain, tasks) = (listener.port(), CancellationToken::new(), TaskTracker::new());
        tasks.spawn(listener.serve(Arc::clone(&proxy), place, drain.clone()));
        let ca_pem = ca.ca_pem();
        Self {
            api,
            proxy,
            recorder,
            flows,
            credentials,
            metrics,
            ca_pem,
            port,
            drain,
            tasks,
        }
    }

    async fn client(&self, protocol: Protocol) -> Client {
        Client::connect(self.port, &self.ca_pem, protocol).await
    }

    /// One request on a connection of its own.
    async fn call(&self, protocol: Protocol, request: Request<Full<Bytes>>) -> Response<Bytes> {
        self.client(protocol).await.call(request).await
    }
}

/// What the API server serves in these tests.
const SERVED: &str = r#"{"kind":"APIGroupDiscoveryList","items":[{"versions":[{"version":"v1","resources":[
    {"resource":"pods","scope":"Namespaced","verbs":["get"],"subresources":[
        {"subresource":"log","verbs":["get"]},{"subresource":"exec","verbs":["create"]},
        {"subresource":"attach","verbs":["create"]},{"subresource":"portforward","verbs":["create"]},
        {"subresource":"proxy","verbs":["get"]}]},
    {"resource":"services","scope":"Namespaced","verbs":["get"],"subresources":[{"subresource":"proxy","verbs":["get"]}]},
    {"resource":"configmaps","scope":"Namespaced","verbs":["get"]},
    {"resource":"secrets","scope":"Namespaced","verbs":["get"]},
    {"resource":"namespaces","scope":"Cluster","verbs":["get"]},
    {"resource":"nodes","scope":"Cluster","verbs":["get"]}]}]}]}"#;

fn empty_list(_: &Arrived) -> Answer {
    json(r#"{"kind":"PodList","apiVersion":"v1","items":[]}"#)
}

fn get(path: &str) -> Request<Full<Bytes>> {
    request("GET", path, &[], "")
}

fn post(path: &str, body: &str) -> Request<Full<Bytes>> {
    request("POST", path, &[("content-type", "application/json")], body)
}

fn config_map(name: &str) -> String {
    format!(r#"{{"kind":"ConfigMap","apiVersion":"v1","metadata":{{"name":"{name}"}},"data":{{"a":"b"}}}}"#)
}

fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request
        .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
        .expect("the test's request is one")
}

/// The `Status` in a response, with the codes of its causes by field.
fn refusal(response: &Response<Bytes>) -> (u16, String, BTreeMap<String, String>, Value) {
    let status: Value = serde_json::from_slice(response.body()).expect("a refusal is JSON");
    assert_eq!(status["kind"], "Status", "{status}");
    assert_eq!(status["apiVersion"], "v1", "{status}");
    assert_eq!(status["status"], "Failure", "{status}");
    assert_eq!(status["code"], response.status().as_u16(), "{status}");
    assert_eq!(response.headers()["content-type"], "application/json");
    let causes = status["details"]["causes"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let code = causes[0]["reason"].as_str().unwrap_or_default().to_owned();
    let facts = causes[1..].iter().map(|cause| {
        let text = |key: &str| cause[key].as_str().unwrap_or_default().to_owned();
        (text("field"), text("message"))
    });
    (response.status().as_u16(), code, facts.collect(), status)
}

fn only(events: &[Event]) -> &Event {
    assert_eq!(events.len(), 1, "{events:#?}");
    &events[0]
}
