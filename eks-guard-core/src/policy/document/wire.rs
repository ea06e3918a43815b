//! The YAML shape of an `AgentPolicy`: every value with the place it stands at, nothing checked yet.

use std::collections::BTreeMap;

use crate::yaml::{At, Field, present};

#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Document {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(default, deserialize_with = "present")]
    pub(super) metadata: Field<Metadata>,
    #[serde(default, deserialize_with = "present")]
    pub(super) spec: Field<Spec>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Metadata {
    #[serde(default, deserialize_with = "present")]
    pub(super) name: Field<String>,
    #[serde(default, rename = "labels")]
    _labels: BTreeMap<String, String>,
    #[serde(default, rename = "annotations")]
    _annotations: BTreeMap<String, String>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Spec {
    #[serde(default, deserialize_with = "present")]
    pub(super) subjects: Field<Subjects>,
    #[serde(default, deserialize_with = "present")]
    pub(super) rules: Field<Vec<At<Rule>>>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Subjects {
    #[serde(default, deserialize_with = "present")]
    pub(super) agents: Field<Vec<At<String>>>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Rule {
    #[serde(default, deserialize_with = "present")]
    pub(super) name: Field<String>,
    #[serde(default, deserialize_with = "present")]
    pub(super) effect: Field<String>,
    #[serde(default, deserialize_with = "present")]
    pub(super) verbs: Field<Vec<At<String>>>,
    #[serde(default, deserialize_with = "present")]
    pub(super) api_groups: Field<Vec<At<String>>>,
    #[serde(default, deserialize_with = "present")]
    pub(super) resources: Field<Vec<At<String>>>,
    #[serde(default, deserialize_with = "present")]
    pub(super) subresources: Field<Vec<At<String>>>,
    #[serde(default, deserialize_with = "present")]
    pub(super) namespaces: Field<Vec<At<String>>>,
    #[serde(default, deserialize_with = "present")]
    pub(super) resource_names: Field<Vec<At<String>>>,
    #[serde(default, rename = "nonResourceURLs", deserialize_with = "present")]
    pub(super) non_resource_urls: Field<Vec<At<String>>>,
}
