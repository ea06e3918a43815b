//! The permit: proof that a request was decided on, and the only key to forwarding it.

use std::sync::Arc;

use crate::request_info::ApiRequest;

/// An allowed request. Only deciding makes one, forwarding consumes it, and it cannot be copied.
///
/// Code outside the policy module cannot make one, neither by its constructor nor by its fields:
///
/// ```compile_fail,E0624
/// fn forge(request: eks_guard_core::request_info::ApiRequest) -> eks_guard_core::policy::Permit {
///     eks_guard_core::policy::Permit::new(request, "mine/rule".into(), 1)
/// }
/// ```
///
/// ```compile_fail,E0451
/// fn forge(request: eks_guard_core::request_info::ApiRequest) -> eks_guard_core::policy::Permit {
///     eks_guard_core::policy::Permit { request, rule: "mine/rule".into(), generation: 1 }
/// }
/// ```
///
/// ```compile_fail,E0599
/// fn forward_twice(permit: eks_guard_core::policy::Permit) -> [eks_guard_core::policy::Permit; 2] {
///     [permit.clone(), permit]
/// }
/// ```
#[derive(Debug)]
#[must_use = "a permit is spent by forwarding"]
pub struct Permit {
    request: ApiRequest,
    rule: Arc<str>,
    generation: u64,
}

impl Permit {
    pub(super) fn new(request: ApiRequest, rule: Arc<str>, generation: u64) -> Self {
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

    /// Spends the permit: the request, and the rule that allowed it.
    #[must_use]
    pub fn into_parts(self) -> (ApiRequest, Arc<str>) {
        (self.request, self.rule)
    }
}
