//! The permit: proof that a request was decided on, and the only key to forwarding it.

use crate::request_info::ApiRequest;

/// An allowed request. Only deciding makes one, forwarding consumes it, and it cannot be copied.
#[derive(Debug)]
pub struct Permit {
    request: ApiRequest,
    rule: String,
    generation: u64,
}

impl Permit {
    pub(super) fn new(request: ApiRequest, rule: String, generation: u64) -> Self {
        Self {
            request,
            rule,
            generation,
        }
    }

    /// The request that was decided on: what is forwarded.
    #[must_use]
    pub fn request(&self) -> &ApiRequest {
        &self.request
    }

    /// Name of the rule that allowed it, `policy/rule` or `builtin:…`.
    #[must_use]
    pub fn rule(&self) -> &str {
        &self.rule
    }

    /// Generation of the snapshot that decided.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }
}
