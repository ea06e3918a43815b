//! The guard's own connections to the fake API server.

use std::sync::Arc;

use crate::metrics::Metrics;
use crate::proxy::upstream::UpstreamPool;
use crate::testing::{FakeApiServer, FakeCredentials, PATIENCE};

impl FakeApiServer {
    /// A pool of connections to it.
    pub(crate) fn upstream(&self) -> Arc<UpstreamPool> {
        let pool = UpstreamPool::new(
            self.endpoint.clone(),
            Arc::new(FakeCredentials::default()),
            Arc::new(Metrics::default()),
            PATIENCE,
            PATIENCE,
        );
        Arc::new(pool.expect("an address is an authority"))
    }
}
