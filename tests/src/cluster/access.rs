//! Who may do what in the test cluster. A right is there when the API server's authoriser has seen it, not when it is written.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::cluster::{Cluster, UPSTREAM_GROUP};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

impl Cluster {
    /// A token of a fresh ServiceAccount in `namespace`, bound to `cluster_role`.
    pub fn service_account_token(&self, namespace: &str, name: &str, cluster_role: &str) -> Result<String> {
        self.create_service_account(namespace, name, cluster_role)?;
        self.token(namespace, name, &json!({}))
    }

    /// A fresh ServiceAccount in `namespace`, bound to `cluster_role` everywhere.
    pub fn create_service_account(&self, namespace: &str, name: &str, cluster_role: &str) -> Result<()> {
        let accounts = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
        self.admin()
            .create(&accounts, &json!({"metadata": {"name": name}}))?;
        let subject = json!({"kind": "ServiceAccount", "name": name, "namespace": namespace});
        let user = format!("system:serviceaccount:{namespace}:{name}");
        self.grant(&user, &subject, &json!({"user": user}), cluster_role)
    }

    /// A token of a ServiceAccount by the TokenRequest API; `spec` is that of the request.
    pub fn token(&self, namespace: &str, name: &str, spec: &Value) -> Result<String> {
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token");
        let reply = self.admin().create(&path, &request)?;
        reply["status"]["token"]
            .as_str()
            .map(str::to_owned)
            .context("no token in the reply")
    }

    pub(super) fn grant_upstream_group(&self) -> Result<()> {
        let subject =
            json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": UPSTREAM_GROUP});
        let asker = json!({"user": "rig-nobody", "groups": [UPSTREAM_GROUP]});
        self.grant(UPSTREAM_GROUP, &subject, &asker, "cluster-admin")
    }

    /// The built-in roles are put together by a controller.
    pub(super) fn wait_for_roles(&self) -> Result<()> {
        for role in ["admin", "edit", "view"] {
            self.wait_until(role, || {
                let rules = &self.admin().get(&format!("{RBAC}/clusterroles/{role}"))?["rules"];
                ensure!(
                    rules.as_array().is_some_and(|rules| !rules.is_empty()),
                    "no rules yet"
                );
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Binds, and waits until the first rule of the role holds for `asker` (the subject of a SubjectAccessReview).
    fn grant(&self, name: &str, subject: &Value, asker: &Value, cluster_role: &str) -> Result<()> {
        let binding = json!({
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": cluster_role},
            "subjects": [subject],
        });
        self.admin()
            .create(&format!("{RBAC}/clusterrolebindings"), &binding)?;
        let role = self.admin().get(&format!("{RBAC}/clusterroles/{cluster_role}"))?;
        let rule = &role["rules"][0];
        let mut spec = asker.clone();
        spec["resourceAttributes"] = json!({"verb": rule["verbs"][0], "group": rule["apiGroups"][0], "resource": rule["resources"][0]});
        let review =
            json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec});
        self.wait_until(name, || {
            let reply = self
                .admin()
                .create("/apis/authorization.k8s.io/v1/subjectaccessreviews", &review)?;
            ensure!(
                reply["status"]["allowed"] == true,
                "not allowed yet: {}",
                reply["status"]
            );
            Ok(())
        })
    }
}
