//! The `ExecCredential` objects that go to a plugin and come back.

use jiff::Timestamp;
use kube_client::config::{Cluster, ExecAuthCluster, ExecConfig};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::upstream::Credential;
use crate::upstream::certificate::certified_key;
use crate::upstream::token::bearer;

const V1: &str = "client.authentication.k8s.io/v1";
const V1BETA1: &str = "client.authentication.k8s.io/v1beta1";

/// A version of the plugin API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V1Beta1,
}

impl Version {
    pub(super) fn parse(text: Option<&str>) -> Result<Self, String> {
        match text {
            Some(V1) => Ok(Self::V1),
            Some(V1BETA1) => Ok(Self::V1Beta1),
            Some("client.authentication.k8s.io/v1alpha1") => Err(format!(
                "its exec plugin uses client.authentication.k8s.io/v1alpha1, which Kubernetes removed: update the plugin \
                 and write `apiVersion: {V1BETA1}` (for EKS, run `aws eks update-kubeconfig` again)"
            )),
            Some(_) | None => Err(format!("its exec plugin needs `apiVersion: {V1}` or `{V1BETA1}`")),
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::V1 => V1,
            Self::V1Beta1 => V1BETA1,
        }
    }
}

/// The text of `KUBERNETES_EXEC_INFO`.
pub(super) fn exec_info(version: Version, exec: &ExecConfig, cluster: &Cluster) -> Result<String, String> {
    let cluster = if exec.provide_cluster_info {
        let cluster = ExecAuthCluster::try_from(cluster).map_err(|_| {
            "the cluster's certificate authority cannot be read for the exec plugin".to_owned()
        })?;
        Some(cluster)
    } else {
        None
    };
    let info = ExecInfo {
        kind: "ExecCredential",
        api_version: version.as_str(),
        spec: ExecInfoSpec {
            cluster,
            interactive: false,
        },
    };
    serde_json::to_string(&info)
        .map_err(|_| "the cluster's description cannot be written for the exec plugin".to_owned())
}

/// What a plugin answered.
pub(super) struct Status {
    pub(super) expires: Option<Timestamp>,
    token: Option<SecretString>,
    certificate: Option<String>,
    key: Option<SecretString>,
}

/// Reads a plugin's output. The error follows the plugin's name and quotes nothing of the output.
pub(super) fn parse(version: Version, output: &[u8]) -> Result<Status, String> {
    if output.iter().all(u8::is_ascii_whitespace) {
        return Err("printed nothing: run it by hand to see why".to_owned());
    }
    let answer: Answer = serde_json::from_slice(output).map_err(|error| {
        format!(
            "printed something that is not an ExecCredential (line {}, column {})",
            error.line(),
            error.column()
        )
    })?;
    if answer.kind != "ExecCredential" {
        return Err("printed an object that is not an ExecCredential".to_owned());
    }
    if answer.api_version != version.as_str() {
        return Err(format!(
            "answered in another API version than {}: set the `apiVersion` it speaks in the kubeconfig",
            version.as_str()
        ));
    }
    let status = answer
        .status
        .ok_or("answered without a `status`: it has no credential; log in again")?;
    let expires = match status.expiration_timestamp.as_deref() {
        None | Some("") => None,
        Some(text) => Some(
            text.parse()
                .map_err(|_| "gave an `expirationTimestamp` that is not a time")?,
        ),
    };
    Ok(Status {
        expires,
        token: status.token,
        certificate: status.client_certificate_data,
        key: status.client_key_data,
    })
}

impl Status {
    /// A certificate first, as the API server would look at it first; here the PEM is not base64.
    pub(super) fn into_credential(self) -> Result<Credential, &'static str> {
        let certificate = self.certificate.filter(|pem| !pem.is_empty());
        let key = self.key.filter(|pem| !pem.expose_secret().is_empty());
        match (certificate, key) {
            (Some(certificate), Some(key)) => {
                return certified_key(certificate.as_bytes(), key.expose_secret().as_bytes())
                    .map(Credential::ClientCertificate);
            }
            (Some(_), None) => return Err("a client certificate without a key"),
            (None, Some(_)) => return Err("a client key without a certificate"),
            (None, None) => {}
        }
        let token = self.token.ok_or("neither a token nor a client certificate")?;
        bearer(token.expose_secret())
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExecInfo {
    kind: &'static str,
    api_version: &'static str,
    spec: ExecInfoSpec,
}

#[derive(Serialize)]
struct ExecInfoSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<ExecAuthCluster>,
    interactive: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    api_version: String,
    status: Option<AnswerStatus>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnswerStatus {
    expiration_timestamp: Option<String>,
    #[serde(default, deserialize_with = "secret")]
    token: Option<SecretString>,
    client_certificate_data: Option<String>,
    #[serde(default, deserialize_with = "secret")]
    client_key_data: Option<SecretString>,
}

fn secret<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(SecretString::from))
}
