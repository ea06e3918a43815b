//! What lies in a namespace after a client's work, without what no two objects share.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::clients::normal::Normal;
use crate::cluster::Cluster;

/// The kinds that clients here work on.
const KINDS: &str = "configmaps,secrets,services,serviceaccounts,deployments,jobs,cronjobs,ingresses,horizontalpodautoscalers,\
                     poddisruptionbudgets,resourcequotas,roles,rolebindings,networkpolicies,persistentvolumeclaims,leases,pods";
/// Whose fields come when the controllers come to them.
const CONTROLLERS: &str = "kube-controller-manager";

/// The objects of a namespace, by kind and name.
pub(super) fn objects(cluster: &Cluster, namespace: &str) -> Result<BTreeMap<String, Value>> {
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
    items.iter().map(comparable).collect()
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
