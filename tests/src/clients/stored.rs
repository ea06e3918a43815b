//! What lies in a namespace after a client's work, without what no two objects share.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::clients::normal::Normal;
use crate::cluster::Cluster;
use crate::wait;

/// The kinds that clients here work on.
const KINDS: &str = "configmaps,secrets,services,serviceaccounts,deployments,jobs,cronjobs,ingresses,horizontalpodautoscalers,\
                     poddisruptionbudgets,resourcequotas,roles,rolebindings,networkpolicies,persistentvolumeclaims,leases,pods";
/// Whose fields come when the controllers come to them.
const CONTROLLERS: &str = "kube-controller-manager";

/// What controllers put into every namespace.
const GIVEN: [&str; 2] = ["ServiceAccount/default", "ConfigMap/kube-root-ca.crt"];

/// The objects of a namespace, by kind and name, once the controllers are done with what was changed.
pub(super) fn objects(cluster: &Cluster, namespace: &str) -> Result<BTreeMap<String, Value>> {
    let items = wait::found(&format!("nothing is under way in {namespace}"), || {
        let items = list(cluster, namespace)?;
        Ok((!items.iter().any(is_under_way)).then_some(items))
    })?;
    let mut objects: BTreeMap<String, Value> = items.iter().map(comparable).collect::<Result<_>>()?;
    objects.retain(|name, _| !GIVEN.contains(&name.as_str()));
    Ok(objects)
}

/// Whether a controller has to do something with it: to remove it, or to look at its last change.
fn is_under_way(object: &Value) -> bool {
    let (metadata, status) = (&object["metadata"], &object["status"]);
    !metadata["deletionTimestamp"].is_null()
        || object["kind"] == "Deployment" && status["observedGeneration"] != metadata["generation"]
}

fn list(cluster: &Cluster, namespace: &str) -> Result<Vec<Value>> {
    let list = cluster
        .kubectl(&[
            "-n",
            namespace,
            "get",
            KINDS,
            "-o",
            "json",
            "--show-managed-fields",
        ])?
        .ok()?;
    let list: Value = serde_json::from_str(&Normal::get().text(&list.replace(namespace, "NAMESPACE")))?;
    let items = list["items"].as_array().context("a list has items")?;
    Ok(items.clone())
}

fn comparable(object: &Value) -> Result<(String, Value)> {
    let mut object = object.clone();
    let kind = object["kind"].as_str().unwrap_or_default();
    let name = format!(
        "{kind}/{}",
        object["metadata"]["name"].as_str().unwrap_or_default()
    );
    let is_release = object["type"] == "helm.sh/release.v1";
    let top = object.as_object_mut().context("an object")?;
    top.remove("status");
    if is_release {
        // A compressed document with the time of its making in it.
        top.remove("data");
    }
    let metadata = top["metadata"]
        .as_object_mut()
        .context("an object has metadata")?;
    for own in ["uid", "resourceVersion", "creationTimestamp"] {
        metadata.remove(own);
    }
    let managers = metadata.remove("managedFields").unwrap_or_default();
    metadata.insert("managers".to_owned(), writers(&managers));
    Ok((name, object))
}

/// Who has written what, without when.
fn writers(managed_fields: &Value) -> Value {
    let entries = managed_fields.as_array().cloned().unwrap_or_default();
    let of_clients = entries
        .into_iter()
        .filter(|entry| entry["manager"] != CONTROLLERS);
    let mut writers: Vec<String> = of_clients
        .map(|entry| {
            format!(
                "{} {} {} {}",
                entry["manager"], entry["operation"], entry["subresource"], entry["fieldsV1"]
            )
        })
        .collect();
    writers.sort();
    writers.into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_controller_has_not_come_to_is_under_way() {
        let deployment = |seen: u64| json!({"kind": "Deployment", "metadata": {"generation": 2}, "status": {"observedGeneration": seen}});
        assert!(is_under_way(&deployment(1)) && !is_under_way(&deployment(2)));
        assert!(is_under_way(
            &json!({"kind": "Deployment", "metadata": {"generation": 1}})
        ));
        assert!(is_under_way(
            &json!({"kind": "Pod", "metadata": {"deletionTimestamp": "now"}})
        ));
        assert!(!is_under_way(&json!({"kind": "ConfigMap", "metadata": {}})));
    }
}
