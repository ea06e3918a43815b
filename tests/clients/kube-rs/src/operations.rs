//! The operations, in the order in which they are done.

use std::pin::pin;

use anyhow::{Context, Result};
use futures::TryStreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, LogParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Client, ResourceExt, discovery};
use serde_json::{Value, json};

const MANAGER: &str = "clients";

pub struct Work {
    client: Client,
    namespace: String,
    maps: Api<ConfigMap>,
    deployments: Api<Deployment>,
    pods: Api<Pod>,
    post: PostParams,
    patch: PatchParams,
}

impl Work {
    pub fn new(client: Client, namespace: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            maps: Api::namespaced(client.clone(), namespace),
            deployments: Api::namespaced(client.clone(), namespace),
            pods: Api::namespaced(client.clone(), namespace),
            client,
            post: PostParams {
                field_manager: Some(MANAGER.to_owned()),
                ..PostParams::default()
            },
            patch: PatchParams {
                field_manager: Some(MANAGER.to_owned()),
                ..PatchParams::default()
            },
        }
    }

    pub async fn create(&self) -> Result<Value> {
        let object = serde_json::from_value(json!({
            "metadata": {"name": "prices", "labels": {"team": "fruit"}}, "data": {"apple": "1.20"},
        }))?;
        said(&self.maps.create(&self.post, &object).await?)
    }

    /// kube sends no User-Agent, from which the API server makes the name of a manager that is not given.
    pub async fn create_without_manager(&self) -> Result<Value> {
        let object = serde_json::from_value(json!({"metadata": {"name": "unmanaged"}, "data": {"a": "b"}}))?;
        let made: ConfigMap = self.maps.create(&PostParams::default(), &object).await?;
        self.maps.delete("unmanaged", &DeleteParams::default()).await?;
        let managers = made.metadata.managed_fields.unwrap_or_default();
        said(&managers.first().map(|entry| &entry.manager))
    }

    pub async fn get(&self) -> Result<Value> {
        said(&self.maps.get("prices").await?)
    }

    pub async fn get_absent(&self) -> Result<Value> {
        said(&self.maps.get("absent").await?)
    }

    pub async fn list_in_pages(&self) -> Result<Value> {
        let (mut names, mut params) = (Vec::new(), ListParams::default().limit(1));
        loop {
            let page = self.maps.list(&params).await?;
            names.extend(page.items.iter().map(ResourceExt::name_any));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return said(&names),
            }
        }
    }

    pub async fn replace(&self) -> Result<Value> {
        let mut object = self.maps.get("prices").await?;
        object
            .data
            .get_or_insert_default()
            .insert("apple".into(), "1.30".into());
        said(&self.maps.replace("prices", &self.post, &object).await?)
    }

    pub async fn replace_conflict(&self) -> Result<Value> {
        let object = serde_json::from_value(json!({"metadata": {"name": "prices", "resourceVersion": "1"}}))?;
        said(&self.maps.replace("prices", &self.post, &object).await?)
    }

    async fn patched(&self, patch: Patch<Value>) -> Result<Value> {
        said(&self.maps.patch("prices", &self.patch, &patch).await?)
    }

    pub async fn strategic_patch(&self) -> Result<Value> {
        self.patched(Patch::Strategic(json!({"data": {"pear": "1.50"}})))
            .await
    }

    pub async fn merge_patch(&self) -> Result<Value> {
        self.patched(Patch::Merge(json!({"data": {"plum": "2.00"}})))
            .await
    }

    pub async fn json_patch(&self) -> Result<Value> {
        let patch = serde_json::from_value(json!([{"op": "remove", "path": "/data/plum"}]))?;
        self.patched(Patch::Json::<Value>(patch)).await
    }

    pub async fn apply(&self) -> Result<Value> {
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": {"step": "one"},
        });
        let params = PatchParams::apply(MANAGER).force();
        said(&self.maps.patch("applied", &params, &Patch::Apply(object)).await?)
    }

    pub async fn deployment(&self) -> Result<Value> {
        let object = serde_json::from_value(json!({"metadata": {"name": "web"}, "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": "registry.test/web:1"}]},
            },
        }}))?;
        self.deployments.create(&self.post, &object).await?;
        let scale = Patch::Merge(json!({"spec": {"replicas": 0}}));
        let scale = self.deployments.patch_scale("web", &self.patch, &scale).await?;
        said(&scale.spec)
    }

    pub async fn log(&self) -> Result<Value> {
        let pod = serde_json::from_value(json!({
            "metadata": {"name": "lone"}, "spec": {"containers": [{"name": "main", "image": "registry.test/main"}]},
        }))?;
        self.pods.create(&self.post, &pod).await?;
        said(&self.pods.logs("lone", &LogParams::default()).await?)
    }

    pub async fn watcher(&self) -> Result<Value> {
        let config = watcher::Config::default().fields("metadata.name=applied");
        let mut events = pin!(watcher(self.maps.clone(), config).applied_objects());
        let first = events.try_next().await?.context("the watch ended")?;
        let patch = Patch::Merge(json!({"data": {"step": "two"}}));
        self.maps.patch("applied", &self.patch, &patch).await?;
        let second = events.try_next().await?.context("the watch ended")?;
        said(&[first.data, second.data])
    }

    pub async fn reflector(&self) -> Result<Value> {
        let (store, writer) = reflector::store();
        let stream = watcher(self.maps.clone(), watcher::Config::default().labels("team=fruit"));
        let mut stream = pin!(reflector::reflector(writer, stream).applied_objects());
        stream.try_next().await?.context("the watch ended")?;
        let names: Vec<String> = store.state().iter().map(|object| object.name_any()).collect();
        said(&names)
    }

    pub async fn dynamic(&self) -> Result<Value> {
        let group = discovery::group(&self.client, "apps").await?;
        let (resource, _) = group.recommended_kind("Deployment").context("no Deployment")?;
        let objects: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &self.namespace, &resource);
        said(&objects.get("web").await?.data["spec"])
    }

    pub async fn metadata(&self) -> Result<Value> {
        said(&self.maps.get_metadata("prices").await?.metadata)
    }

    pub async fn delete(&self) -> Result<Value> {
        let deleted = self
            .deployments
            .delete("web", &DeleteParams::foreground())
            .await?;
        said(&deleted.is_left())
    }

    pub async fn delete_collection(&self) -> Result<Value> {
        let fruit = ListParams::default().labels("team=fruit");
        self.maps
            .delete_collection(&DeleteParams::default(), &fruit)
            .await?;
        let left = self.maps.list_metadata(&ListParams::default()).await?;
        let mut names: Vec<String> = left.items.iter().map(ResourceExt::name_any).collect();
        names.sort();
        said(&names)
    }
}

fn said(value: &impl serde::Serialize) -> Result<Value> {
    Ok(serde_json::to_value(value)?)
}
