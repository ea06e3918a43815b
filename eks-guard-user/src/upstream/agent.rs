//! What the agent's process tree gets to see of the operator's kubeconfig: where the server is, and no credential.

use std::path::{Path, PathBuf, absolute};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kube_client::config::{
    AuthInfo, Cluster, Context, Kubeconfig, NamedAuthInfo, NamedCluster, NamedContext,
};
use secrecy::SecretString;

use crate::upstream::kubeconfig::{Chosen, home_file, listed_files, non_empty, read_one};
use crate::upstream::{KubeconfigOptions, UpstreamError};

/// The token in the generated file. kubectl asks for a login when a user has none at all; the guard ignores it.
pub const PLACEHOLDER_TOKEN: &str = "eks-guard-placeholder";

/// Where credential plugins and cloud tools keep what they logged in with, below the home folder.
const CACHES: [&str; 7] = [
    ".aws",
    ".azure",
    ".config/gcloud",
    ".config/doctl",
    ".kube/cache/oidc-login",
    ".kube/cache/kubelogin",
    ".kube/gke_gcloud_auth_plugin_cache",
];

/// The generated kubeconfig, and the files of the operator that the agent must not see.
#[derive(Clone, Debug)]
pub struct AgentKubeconfig {
    /// The operator's kubeconfig files, symbolic links followed: each is replaced by the generated one.
    pub covered: Vec<PathBuf>,
    /// Files that hold credentials, symbolic links followed: other kubeconfigs, and the key, certificate and token
    /// files that any context of any of them names. Only files that exist.
    pub hidden: Vec<PathBuf>,
    context: String,
    cluster: String,
    user: String,
    namespace: Option<String>,
    server: String,
    tls_server_name: Option<String>,
    home: PathBuf,
}

impl AgentKubeconfig {
    pub(super) fn new(chosen: &Chosen, options: &KubeconfigOptions) -> Result<Self, UpstreamError> {
        let mut covered = Vec::new();
        for file in &chosen.files {
            let real = file.canonicalize().map_err(|source| UpstreamError::Unreadable {
                what: "kubeconfig",
                path: file.clone(),
                hint: "it cannot be covered for the agent; check the path".to_owned(),
                source: Some(source),
            })?;
            if !covered.contains(&real) {
                covered.push(real);
            }
        }
        let mut secrets = credential_files(&chosen.merged);
        let mut others = listed_files(options);
        others.push(home_file(options));
        let others = real_files(others.into_iter().filter_map(|path| absolute(path).ok()));
        for other in others.into_iter().filter(|path| !covered.contains(path)) {
            // A file that cannot be read as a kubeconfig is hidden all the same.
            if let Ok(config) = read_one(&other) {
                secrets.extend(credential_files(&config));
            }
            secrets.push(other);
        }
        let mut hidden = real_files(secrets.into_iter());
        hidden.retain(|path| !covered.contains(path));
        Ok(Self {
            covered,
            hidden,
            context: chosen.context.clone(),
            cluster: chosen.cluster_name.clone(),
            user: chosen.user_name.clone(),
            namespace: chosen.namespace.clone(),
            server: chosen.cluster.server.clone().unwrap_or_default(),
            tls_server_name: non_empty(chosen.cluster.tls_server_name.as_deref()).map(str::to_owned),
            home: options.home.clone(),
        })
    }

    /// Folders and files in which credential plugins keep credentials, links followed: the agent must not see them
    /// either. A plugin makes them when it runs, so ask after the first credential was got.
    #[must_use]
    pub fn plugin_caches(&self) -> Vec<PathBuf> {
        CACHES
            .iter()
            .filter_map(|name| self.home.join(name).canonicalize().ok())
            .collect()
    }

    /// The path to set as `KUBECONFIG` in the agent's tree.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.covered
            .first()
            .map(PathBuf::as_path)
            .unwrap_or(Path::new("/dev/null"))
    }

    /// Name of the chosen context.
    #[must_use]
    pub fn context(&self) -> &str {
        &self.context
    }

    /// The generated file: the chosen context under its own names, the guard's CA, a placeholder for a credential.
    #[must_use]
    pub fn render(&self, ca_pem: &str) -> String {
        let config = Kubeconfig {
            api_version: Some("v1".to_owned()),
            kind: Some("Config".to_owned()),
            clusters: vec![NamedCluster {
                name: self.cluster.clone(),
                cluster: Some(Cluster {
                    server: Some(self.server.clone()),
                    tls_server_name: self.tls_server_name.clone(),
                    certificate_authority_data: Some(STANDARD.encode(ca_pem)),
                    ..Cluster::default()
                }),
                ..NamedCluster::default()
            }],
            auth_infos: vec![NamedAuthInfo {
                name: self.user.clone(),
                auth_info: Some(AuthInfo {
                    token: Some(SecretString::from(PLACEHOLDER_TOKEN)),
                    ..AuthInfo::default()
                }),
                ..NamedAuthInfo::default()
            }],
            contexts: vec![NamedContext {
                name: self.context.clone(),
                context: Some(Context {
                    cluster: self.cluster.clone(),
                    user: Some(self.user.clone()),
                    namespace: self.namespace.clone(),
                    ..Context::default()
                }),
                ..NamedContext::default()
            }],
            current_context: Some(self.context.clone()),
            ..Kubeconfig::default()
        };
        serde_saphyr::to_string(&config).expect("names and text have a form in YAML")
    }
}

/// Every file that a user entry takes a credential from.
fn credential_files(config: &Kubeconfig) -> Vec<PathBuf> {
    let users = config
        .auth_infos
        .iter()
        .filter_map(|named| named.auth_info.as_ref());
    users
        .flat_map(|user| [&user.client_certificate, &user.client_key, &user.token_file])
        .filter_map(|path| non_empty(path.as_deref()).map(PathBuf::from))
        .collect()
}

/// The files behind the paths, links followed, each once; what does not exist is left out.
fn real_files(paths: impl Iterator<Item = PathBuf>) -> Vec<PathBuf> {
    let mut real = Vec::new();
    for path in paths
        .filter_map(|path| path.canonicalize().ok())
        .filter(|path| path.is_file())
    {
        if !real.contains(&path) {
            real.push(path);
        }
    }
    real
}
