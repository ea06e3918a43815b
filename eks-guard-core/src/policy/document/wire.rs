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
    pub(super) mode: Field<String>,
    #[serde(default, deserialize_with = "present")]
    pub(super) just_in_time: Field<String>,
    #[serde(default, deserialize_with = "present")]
    pub(super) rules: Field<Vec<At<Rule>>>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Subjects {
    #[serde(default, deserialize_with = "present")]
    pub(super) agents: Field<Vec<At<String>>>,
    #[serde(default, deserialize_with = "present")]
    pub(super) pod_selector: Field<Selector>,
    #[serde(default, deserialize_with = "present")]
    pub(super) namespaces: Field<Vec<At<String>>>,
    #[serde(default, deserialize_with = "present")]
    pub(super) service_accounts: Field<Vec<At<String>>>,
    #[serde(default, deserialize_with = "present")]
    pub(super) containers: Field<Vec<At<String>>>,
    #[serde(default, deserialize_with = "present")]
    pub(super) groups: Field<Vec<At<String>>>,
    #[serde(default, deserialize_with = "present")]
    pub(super) claims: Field<Vec<At<Claim>>>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Claim {
    #[serde(default, deserialize_with = "present")]
    pub(super) name: Field<String>,
    #[serde(default, deserialize_with = "present")]
    pub(super) values: Field<Vec<At<String>>>,
}

/// A `LabelSelector` of Kubernetes.
#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Selector {
    #[serde(default)]
    pub(super) match_labels: BTreeMap<String, At<String>>,
    #[serde(default, deserialize_with = "present")]
    pub(super) match_expressions: Field<Vec<At<Requirement>>>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Requirement {
    #[serde(default, deserialize_with = "present")]
    pub(super) key: Field<String>,
    #[serde(default, deserialize_with = "present")]
    pub(super) operator: Field<String>,
    #[serde(default, deserialize_with = "present")]
    pub(super) values: Field<Vec<At<String>>>,
}

/// What is read of a document whose other fields cannot be.
#[derive(Debug, serde::Deserialize)]
pub(super) struct Rough {
    #[serde(default)]
    pub(super) metadata: Option<RoughMetadata>,
    #[serde(default)]
    pub(super) spec: Option<RoughSpec>,
}

#[derive(Debug, serde::Deserialize)]
pub(super) struct RoughMetadata {
    #[serde(default)]
    pub(super) name: Option<String>,
}

#[derive(Debug, serde::Deserialize)]
pub(super) struct RoughSpec {
    #[serde(default, deserialize_with = "present")]
    pub(super) subjects: Field<Subjects>,
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
    pub(super) namespace_selector: Field<Selector>,
    #[serde(default, deserialize_with = "present")]
    pub(super) resource_names: Field<Vec<At<String>>>,
    #[serde(default, rename = "nonResourceURLs", deserialize_with = "present")]
    pub(super) non_resource_urls: Field<Vec<At<String>>>,
    #[serde(default, deserialize_with = "present")]
    pub(super) masking: Field<String>,
    #[serde(default, deserialize_with = "present")]
    pub(super) conditions: Field<Vec<At<Condition>>>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Condition {
    #[serde(default, deserialize_with = "present")]
    pub(super) name: Field<String>,
    #[serde(default, deserialize_with = "present")]
    pub(super) expression: Field<String>,
}
