//! What the API server serves, by its own discovery, and the objects that requests are made about.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::differential::objects;
use crate::differential::random::Random;

/// Where nothing changes: every write there is a dry run, and the same request twice has the same reply.
pub const STILL: &str = "differential-still";
/// Where writes are writes.
pub const LIVE: &str = "differential-live";
/// The object that is there.
pub const FIXTURE: &str = "fixture";
/// Group of the custom resources.
pub const CUSTOM_GROUP: &str = "differential.test";

/// One resource of one group and version.
#[derive(Clone, Debug)]
pub struct Resource {
    /// API group; empty for the core group.
    pub group: String,
    /// API version.
    pub version: String,
    /// Plural name.
    pub name: String,
    /// Kind of its objects.
    pub kind: String,
    /// Whether its objects are in namespaces.
    pub namespaced: bool,
    /// Verbs that it has.
    pub verbs: Vec<String>,
    /// Its subresources.
    pub subresources: Vec<Subresource>,
}

/// A part of an object with a path of its own.
#[derive(Clone, Debug)]
pub struct Subresource {
    /// `status`
    pub name: String,
    /// Group and version of what is sent there, `autoscaling/v1`.
    pub api_version: String,
    /// Its kind, `Scale`.
    pub kind: String,
    /// Verbs that it has.
    pub verbs: Vec<String>,
}

impl Resource {
    /// `apps/v1`, or `v1`.
    #[must_use]
    pub fn api_version(&self) -> String {
        api_version(&self.group, &self.version)
    }

    /// The path of its collection, in a namespace when it is in one.
    #[must_use]
    pub fn collection(&self, namespace: &str) -> String {
        let base = if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        };
        if self.namespaced && !namespace.is_empty() {
            format!("{base}/namespaces/{namespace}/{}", self.name)
        } else {
            format!("{base}/{}", self.name)
        }
    }
}

fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    }
}

/// Every resource of every group and version, in order.
pub fn discover(cluster: &Cluster) -> Result<Vec<Resource>> {
    let admin = cluster.admin();
    let mut versions = vec![("".to_owned(), "v1".to_owned(), "/api/v1".to_owned())];
    for group in list(&admin.get("/apis")?["groups"]) {
        for version in list(&group["versions"]) {
            let (group, version) = (text(&group["name"]), text(&version["version"]));
            let path = format!("/apis/{group}/{version}");
            versions.push((group, version, path));
        }
    }
    let mut resources: Vec<Resource> = Vec::new();
    for (group, version, path) in versions {
        let served = admin.get(&path).with_context(|| format!("asking for {path}"))?;
        let mut rows: Vec<&Value> = list(&served["resources"]).collect();
        // An object's row before those of its parts.
        rows.sort_by_key(|row| text(&row["name"]));
        for row in rows {
            let name = text(&row["name"]);
            let verbs = list(&row["verbs"]).map(text).collect();
            match name.split_once('/') {
                None => resources.push(Resource {
                    group: group.clone(),
                    version: version.clone(),
                    name,
                    kind: text(&row["kind"]),
                    namespaced: row["namespaced"] == true,
                    verbs,
                    subresources: Vec::new(),
                }),
                Some((parent, part)) => {
                    let own = row["version"].as_str();
                    let api_version = own.map_or_else(
                        || api_version(&group, &version),
                        |own| api_version(row["group"].as_str().unwrap_or_default(), own),
                    );
                    let parent = resources.iter_mut().find(|known| {
                        known.group == group && known.version == version && known.name == parent
                    });
                    parent
                        .context("a subresource of nothing")?
                        .subresources
                        .push(Subresource {
                            name: part.to_owned(),
                            api_version,
                            kind: text(&row["kind"]),
                            verbs,
                        });
                }
            }
        }
    }
    Ok(resources)
}

/// Makes namespaces, custom resources, and one object of every kind that there is a pattern for.
pub fn furnish(cluster: &Cluster) -> Result<Vec<Resource>> {
    for namespace in [STILL, LIVE] {
        cluster.create_namespace(namespace)?;
    }
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    for (plural, kind, scope) in [
        ("widgets", "Widget", "Namespaced"),
        ("gauges", "Gauge", "Cluster"),
    ] {
        cluster
            .admin()
            .create(definitions, &definition(plural, kind, scope))?;
        cluster.wait_for(&format!("/apis/{CUSTOM_GROUP}/v1/{plural}"))?;
    }
    let resources = discover(cluster)?;
    for resource in resources
        .iter()
        .filter(|resource| resource.verbs.iter().any(|verb| verb == "get"))
    {
        for namespace in [STILL, LIVE] {
            let Some(mut object) = objects::pattern(resource, &mut Random::of(0, 0)) else {
                continue;
            };
            object["apiVersion"] = resource.api_version().into();
            object["kind"] = resource.kind.clone().into();
            object["metadata"]["name"] = FIXTURE.into();
            // Another version of the same resource has made it already, or, at cluster scope, the other turn.
            cluster
                .admin()
                .create(&resource.collection(namespace), &object)
                .or_else(|error| {
                    let there = ["HTTP 409", "is not allowed"];
                    if there.iter().any(|text| format!("{error:#}").contains(text)) {
                        Ok(Value::Null)
                    } else {
                        Err(error)
                    }
                })?;
        }
    }
    Ok(resources)
}

fn definition(plural: &str, kind: &str, scope: &str) -> Value {
    let any = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    json!({
        "metadata": {"name": format!("{plural}.{CUSTOM_GROUP}")},
        "spec": {
            "group": CUSTOM_GROUP,
            "scope": scope,
            "names": {"plural": plural, "kind": kind},
            "versions": [{
                "name": "v1",
                "served": true,
                "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {
                        "type": "object",
                        "properties": {"replicas": {"type": "integer"}, "note": {"type": "string"}},
                        "x-kubernetes-preserve-unknown-fields": true,
                    },
                    "status": any,
                }}},
                "subresources": {
                    "status": {},
                    "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"},
                },
            }],
        },
    })
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
