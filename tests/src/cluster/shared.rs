//! One cluster for all tests of a process: they keep apart by namespaces and users, and run in parallel.

use std::sync::OnceLock;

use anyhow::{Result, anyhow};

use crate::cluster::{Cluster, ClusterOptions};

/// The cluster of this process, started at the first call. Nobody drops it: it dies with the process, as `leash` promises.
pub fn shared() -> Result<&'static Cluster> {
    static SHARED: OnceLock<Result<Cluster, String>> = OnceLock::new();
    let cluster = SHARED
        .get_or_init(|| Cluster::start(ClusterOptions::default()).map_err(|error| format!("{error:#}")));
    cluster
        .as_ref()
        .map_err(|error| anyhow!("the test cluster did not start: {error}"))
}
