//! Kubeconfig files in the forms people have them.

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::pki::Identity;

/// How the user of a kubeconfig proves who they are.
#[derive(Clone, Debug)]
pub enum Credential {
    /// Certificate and key inside the file.
    ClientCertificate(Identity),
    /// Paths of certificate and key.
    ClientCertificateFiles {
        /// Certificate, PEM.
        certificate: PathBuf,
        /// Key, PEM.
        key: PathBuf,
    },
    /// Bearer token inside the file.
    Token(String),
    /// Path of a bearer token.
    TokenFile(PathBuf),
    /// Program that prints an `ExecCredential`.
    Exec {
        /// Program.
        command: PathBuf,
        /// Its arguments.
        args: Vec<String>,
    },
    /// Nothing.
    None,
}

/// One cluster, one user, one context.
#[derive(Clone, Debug)]
pub struct Kubeconfig {
    /// `https://host:port`.
    pub server: String,
    /// The CA that signs the server, PEM.
    pub ca: String,
    /// Name of the current context.
    pub context: String,
    /// Default namespace.
    pub namespace: Option<String>,
    /// How to prove who one is.
    pub credential: Credential,
}

impl Kubeconfig {
    /// The file's text.
    #[must_use]
    pub fn render(&self) -> String {
        let ca = STANDARD.encode(&self.ca);
        let namespace = self
            .namespace
            .as_ref()
            .map(|name| format!("    namespace: {name}\n"))
            .unwrap_or_default();
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: {context}\n\
             clusters:\n- name: rig\n  cluster:\n    server: {server}\n    certificate-authority-data: {ca}\n\
             contexts:\n- name: {context}\n  context:\n    cluster: rig\n    user: rig\n{namespace}\
             users:\n- name: rig\n  user:{user}",
            context = self.context,
            server = self.server,
            user = self.credential.render(),
        )
    }
}

impl Credential {
    fn render(&self) -> String {
        match self {
            Self::ClientCertificate(identity) => format!(
                "\n    client-certificate-data: {}\n    client-key-data: {}\n",
                STANDARD.encode(&identity.certificate),
                STANDARD.encode(&identity.key)
            ),
            Self::ClientCertificateFiles { certificate, key } => {
                format!(
                    "\n    client-certificate: {}\n    client-key: {}\n",
                    certificate.display(),
                    key.display()
                )
            }
            Self::Token(token) => format!("\n    token: {token}\n"),
            Self::TokenFile(path) => format!("\n    tokenFile: {}\n", path.display()),
            Self::Exec { command, args } => format!(
                "\n    exec:\n      apiVersion: client.authentication.k8s.io/v1\n      command: {}\n      args: {}\n      \
                 interactiveMode: Never\n",
                command.display(),
                serde_json::Value::from(args.clone()),
            ),
            Self::None => " {}\n".to_owned(),
        }
    }
}
