//! What every expression is asked about: one request, and the variables that the guard makes of it.

use std::time::{Duration, SystemTime};

use anyhow::{Result, anyhow};
use eks_guard_core::policy::{Fact, Facts};
use eks_guard_core::principal::Principal;
use eks_guard_core::request_info::ApiRequest;
use serde_json::{Value, json};

/// 2026-11-26T09:30:00Z
const NOW: Duration = Duration::from_secs(1_795_685_400);

/// An update of an object that nobody knows the fields of.
pub struct Situation {
    old_object: Value,
    object: Value,
}

impl Situation {
    /// The same every time.
    #[must_use]
    pub fn new() -> Self {
        let object = json!({
            "apiVersion": "example.com/v1", "kind": "Widget",
            "metadata": {"name": "web", "labels": {"app": "web", "tier": "front"}},
            "spec": {
                "replicas": 3, "ratio": 0.5, "paused": false, "memory": "512Mi", "cidr": "10.0.0.0/8",
                "url": "https://example.com:8443/a/b?x=1", "version": "1.30.2", "empty": [],
                "containers": [{"name": "a", "image": "registry.example/a:1"}, {"name": "b", "ports": [80, 443]}],
            },
        });
        let mut old_object = object.clone();
        old_object["spec"] = json!({"replicas": 2, "ratio": 2.0, "paused": true, "version": "1.29.0-rc.1"});
        Self { old_object, object }
    }

    /// The request that is decided on.
    pub fn request(&self) -> Result<ApiRequest> {
        let path = "/apis/example.com/v1/namespaces/shop/widgets/web";
        ApiRequest::parse("PUT", path, Some("fieldManager=me&dryRun=All"))
            .map_err(|refusal| anyhow!("{refusal:?}"))
    }

    /// Who asks.
    #[must_use]
    pub fn principal(&self) -> Principal {
        Principal::named("agent")
    }

    /// What is known of the objects.
    #[must_use]
    pub fn facts(&self) -> Facts<'_> {
        Facts {
            time: SystemTime::UNIX_EPOCH + NOW,
            old_object: Fact::Present(&self.old_object),
            object: Fact::Present(&self.object),
        }
    }

    /// The variables, for who evaluates without the guard.
    #[must_use]
    pub fn variables(&self) -> Value {
        json!({
            "object": self.object, "oldObject": self.old_object,
            "principal": {"agent": "agent"},
            "request": {
                "verb": "update", "isResource": true, "apiGroup": "example.com", "version": "v1",
                "resource": "widgets", "subresource": "", "namespace": "shop", "name": "web", "dryRun": true,
                "options": {"fieldManager": "me", "dryRun": ["All"]},
            },
            "time": "2026-11-26T09:30:00Z",
        })
    }
}

impl Default for Situation {
    fn default() -> Self {
        Self::new()
    }
}
