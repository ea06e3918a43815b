//! What the agent's process tree gets to see of the operator's kubeconfig: where the server is, and no credential.

use std::fs::metadata;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf, absolute};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kube_client::config::{
    AuthInfo, Cluster, Context, ExecConfig, Kubeconfig, NamedAuthInfo, NamedCluster, NamedContext,
};
use secrecy::SecretString;

use crate::upstream::kubeconfig::{Chosen, home_file, listed_files, non_empty, read_one};
use crate::upstream::{KubeconfigOptions, UpstreamError};

/// The token in the generated file. kubectl asks for a login when a user has none at all; the guard ignores it.
pub const PLACEHOLDER_TOKEN: &str = "eks-guard-placeholder";

/// The generated kubeconfig, and the files of the operator that the agent must not see.
#[derive(Clone, Debug)]
pub struct AgentKubeconfig {
    /// The operator's kubeconfig files, symbolic links followed: each is replaced by the generated one.
    pub covered: Vec<PathBuf>,
    /// What holds credentials, symbolic links followed: other kubeconfigs, and the key, certificate and token files,
    /// and those of credential plugins, that any context of any of them names. Only what exists; the whole folder of
    /// files that are replaced as one.
    pub hidden: Vec<PathBuf>,
    context: String,
    cluster: String,
    user: String,
    namespace: Option<String>,
    server: String,
    tls_server_name: Option<String>,
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
        let mut hidden = rotated_folders(&secrets);
        hidden.extend(real_files(secrets.into_iter()));
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
        })
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
    let users = || {
        config
            .auth_infos
            .iter()
            .filter_map(|named| named.auth_info.as_ref())
    };
    let named = users()
        .flat_map(|user| [&user.client_certificate, &user.client_key, &user.token_file])
        .filter_map(|path| non_empty(path.as_deref()).map(PathBuf::from));
    let plugins = users().filter_map(|user| user.exec.as_ref());
    named.chain(plugins.flat_map(plugin_files)).collect()
}

/// Files that a plugin is told about in its arguments and variables, and that are no programs.
fn plugin_files(exec: &ExecConfig) -> Vec<PathBuf> {
    let args = exec.args.iter().flatten();
    let args = args.map(|arg| arg.split_once('=').map_or(arg.as_str(), |(_, value)| value));
    let env = exec.env.iter().flatten().filter_map(|entry| entry.get("value"));
    args.chain(env.map(String::as_str))
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .filter(|path| metadata(path).is_ok_and(|found| found.permissions().mode() & 0o111 == 0))
        .collect()
}

/// Folders whose files are replaced as one, by a new target of their link `..data`, as the kubelet does it: a new file
/// would stand there uncovered.
fn rotated_folders(files: &[PathBuf]) -> Vec<PathBuf> {
    let folders = files.iter().filter_map(|file| file.parent());
    folders
        .filter(|folder| folder.join("..data").is_dir())
        .filter_map(|folder| folder.canonicalize().ok())
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
