//! What was verified: the machine, the programs, and what was asked for.

use std::fs;
use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use eks_guard_core::catalogue::report::Facts;
use jiff::Timestamp;
use serde_json::json;

use crate::config::{RunConfig, Surroundings};
use crate::ebpf::{abstract_names, loader, object};
use crate::run::scope::Scopes;
use crate::upstream::Upstream;
use crate::verify::envelope::{Digests, Subject};
use crate::verify::error::VerifyError;

/// The facts of a report.
pub(crate) fn facts(
    around: &Surroundings,
    upstream: &Upstream,
    config: &RunConfig,
    now: Timestamp,
) -> Result<Facts, VerifyError> {
    let endpoint = &upstream.endpoint;
    let asked = json!({
        "url": endpoint.url,
        "addresses": endpoint.addresses,
        "context": upstream.kubeconfig.context(),
        "user": config.account.uid,
    });
    Ok(Facts {
        kernel: around.kernel.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        boundary: "run".to_owned(),
        program_tags: loader::program_tags(loader::Programs::OfARun)?,
        config_digest: hex(asked.to_string().as_bytes()),
        time: now.to_string(),
        not_closed: not_closed(),
        lost: Vec::new(),
    })
}

/// What `run` says at its start.
fn not_closed() -> Vec<String> {
    let scopes = Scopes::of_kernel();
    let is_open = scopes == Scopes::Unsupported && !abstract_names::can_be_refused();
    let names = is_open.then_some(abstract_names::GAP);
    scopes.gap().into_iter().chain(names).map(str::to_owned).collect()
}

/// The files that the report is about.
pub(crate) fn subjects(probe: &Path) -> Result<Vec<Subject>, VerifyError> {
    let file = |name: &str, path: &Path| {
        let bytes = fs::read(path).map_err(VerifyError::at("read", path));
        bytes.map(|bytes| subject(name, &bytes))
    };
    Ok(vec![
        subject("eks-guard.o", object::bytes()),
        file("eks-guard", Path::new("/proc/self/exe"))?,
        file("eks-guard-probe", probe)?,
    ])
}

fn subject(name: &str, bytes: &[u8]) -> Subject {
    Subject {
        name: name.to_owned(),
        digest: Digests { sha256: hex(bytes) },
    }
}

/// SHA-256, hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digest = digest(&SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
