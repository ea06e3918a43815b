//! The guard's own way to the API server: where it is, with which credential, and the connections of its own questions.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::metrics::Metrics;
use crate::node::config::UpstreamConfig;
use crate::node::daemon::Failure;
use crate::proxy::Limits;
use crate::proxy::upstream::UpstreamPool;
use crate::telemetry::chain;
use crate::upstream::{
    CredentialSource, Endpoint, KubeconfigOptions, UpstreamError, load, load_service_account,
};

/// Pause between tries to resolve the API server's name at the start.
const RESOLVE_RETRY: Duration = Duration::from_secs(2);

/// The API server's addresses and the guard's credential. A name that does not resolve yet is waited for: name servers may
/// start after this.
pub(super) async fn patiently(
    upstream: &UpstreamConfig,
) -> Result<(Endpoint, Arc<dyn CredentialSource>), Failure> {
    loop {
        let upstream = upstream.clone();
        match spawn_blocking(move || load_upstream(&upstream)).await? {
            Ok(loaded) => return Ok(loaded),
            Err(error @ UpstreamError::Resolve { .. }) => {
                tracing::error!(error = %chain(&error), "the API server is not known; it is tried again");
                sleep(RESOLVE_RETRY).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// The same, as it is now.
///
/// # Errors
/// The API server is not known, or there is no credential.
pub(crate) fn load_upstream(
    upstream: &UpstreamConfig,
) -> Result<(Endpoint, Arc<dyn CredentialSource>), UpstreamError> {
    match upstream {
        UpstreamConfig::Kubeconfig { file, context } => {
            let loaded = load(&KubeconfigOptions {
                file: Some(file.clone()),
                context: context.clone(),
                home: Path::new("/").to_owned(),
                ..KubeconfigOptions::default()
            })?;
            Ok((loaded.endpoint, loaded.credentials))
        }
        UpstreamConfig::ServiceAccount {
            server,
            token_file,
            certificate_authority,
        } => load_service_account(server, token_file, certificate_authority),
    }
}

/// The connections of the loader's own questions. Call it inside the runtime.
///
/// # Errors
/// The API server's certificates cannot be checked.
pub(crate) fn own_pool(
    endpoint: &Endpoint,
    credentials: &Arc<dyn CredentialSource>,
) -> Result<UpstreamPool, Failure> {
    let limits = Limits::default();
    Ok(UpstreamPool::new(
        endpoint.clone(),
        Arc::clone(credentials),
        Arc::new(Metrics::default()),
        limits.connect,
        limits.response_head,
    )?)
}
