//! Sources of the guard's own credential: fixed ones, files that change, plugins.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use kube_client::config::AuthInfo;
use secrecy::ExposeSecret;
use zeroize::Zeroizing;

use crate::upstream::exec::Plugin;
use crate::upstream::files::{CertificateFiles, Pem, TokenFile};
use crate::upstream::kubeconfig::{Chosen, non_empty};
use crate::upstream::refreshed::Refreshed;
use crate::upstream::token::bearer;
use crate::upstream::{Credential, CredentialFuture, CredentialSource, KubeconfigOptions, UpstreamError};

/// The source for the chosen user. What the API server would look at first wins: certificate, token, token file, plugin.
pub(super) fn source(
    chosen: &Chosen,
    options: &KubeconfigOptions,
    warnings: &mut Vec<String>,
) -> Result<Arc<dyn CredentialSource>, UpstreamError> {
    let complaint = |detail: String| UpstreamError::User {
        user: chosen.user_name.clone(),
        detail,
    };
    let user = &chosen.user;
    refuse_options(user).map_err(complaint)?;
    if let Some((chain, key)) = certificate(user).map_err(complaint)? {
        let files = CertificateFiles::new(chain, key);
        let first = files.read().map_err(|error| complaint(error.message))?;
        return Ok(if files.is_fixed() {
            Arc::new(Fixed(first))
        } else {
            Arc::new(Refreshed::starting_with(files, Timestamp::now, first))
        });
    }
    if let Some(token) = user
        .token
        .as_ref()
        .map(ExposeSecret::expose_secret)
        .filter(|token| !token.is_empty())
    {
        let token = bearer(token).map_err(|cause| complaint(format!("`token`: {cause}")))?;
        return Ok(Arc::new(Fixed(token)));
    }
    if let Some(path) = non_empty(user.token_file.as_deref()) {
        let file = TokenFile::new(PathBuf::from(path));
        let first = file.read().map_err(|error| complaint(error.message))?;
        return Ok(Arc::new(Refreshed::starting_with(file, Timestamp::now, first)));
    }
    if let Some(exec) = &user.exec {
        let plugin = Plugin::new(exec, chosen, options, warnings).map_err(complaint)?;
        return Ok(Arc::new(Refreshed::new(plugin, Timestamp::now)));
    }
    Err(complaint(
        "it has no credential: give it a client certificate and key, a token, a tokenFile or an exec plugin"
            .to_owned(),
    ))
}

/// What kubectl would do and the guard does not do is said, never left out in silence.
fn refuse_options(user: &AuthInfo) -> Result<(), String> {
    let impersonates = non_empty(user.impersonate.as_deref()).is_some()
        || non_empty(user.impersonate_uid.as_deref()).is_some()
        || user
            .impersonate_groups
            .as_ref()
            .is_some_and(|groups| !groups.is_empty())
        || user
            .impersonate_user_extra
            .as_ref()
            .is_some_and(|extra| !extra.is_empty());
    if impersonates {
        return Err(
            "impersonation (`as`, `as-groups`, …) is not supported: the guard would act as a stronger user \
                    than meant; use a user entry with that identity of its own"
                .to_owned(),
        );
    }
    if let Some(provider) = &user.auth_provider {
        return Err(format!(
            "`auth-provider` {:?} was removed from Kubernetes: use the exec plugin of your provider (for example \
             `aws eks update-kubeconfig`, gke-gcloud-auth-plugin, kubelogin)",
            provider.name
        ));
    }
    let basic = non_empty(user.username.as_deref()).is_some()
        || user
            .password
            .as_ref()
            .is_some_and(|password| !password.expose_secret().is_empty());
    if basic {
        return Err(
            "user name and password are not taken by API servers since Kubernetes 1.19: use a client \
                    certificate, a token or an exec plugin"
                .to_owned(),
        );
    }
    Ok(())
}

fn certificate(user: &AuthInfo) -> Result<Option<(Pem, Pem)>, String> {
    let pick = |data: Option<&str>, file: Option<&str>| {
        non_empty(data)
            .map(|data| Pem::Data(Zeroizing::new(data.to_owned())))
            .or(non_empty(file).map(|file| Pem::File(PathBuf::from(file))))
    };
    let chain = pick(
        user.client_certificate_data.as_deref(),
        user.client_certificate.as_deref(),
    );
    let key = pick(
        user.client_key_data.as_ref().map(ExposeSecret::expose_secret),
        user.client_key.as_deref(),
    );
    match (chain, key) {
        (Some(chain), Some(key)) => Ok(Some((chain, key))),
        (None, None) => Ok(None),
        (Some(_), None) => {
            Err("it has a client certificate and no key: set `client-key` or `client-key-data`".to_owned())
        }
        (None, Some(_)) => Err(
            "it has a client key and no certificate: set `client-certificate` or \
                                `client-certificate-data`"
                .to_owned(),
        ),
    }
}

/// A credential that stands in the kubeconfig itself: there is nothing to get anew.
struct Fixed(Credential);

impl CredentialSource for Fixed {
    fn credential(&self) -> CredentialFuture<'_> {
        Box::pin(std::future::ready(Ok(self.0.clone())))
    }

    fn invalidate(&self) {}
}
