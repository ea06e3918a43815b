//! Who a request is attributed to.

use serde::Serialize;

/// The proven caller of a request, as the adapters established it before deciding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Principal {
    /// Name of the agent, the subject that policies select. Proven by the kernel's classification.
    pub agent: String,
    /// Model the agent says it runs. Claimed: recorded, never decided on.
    pub model_claimed: Option<String>,
}
