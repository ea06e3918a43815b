//! One request against one snapshot.

use crate::policy::permit::Permit;
use crate::reason::Refusal;
use crate::request_info::ApiRequest;

/// What was decided. Nothing but [`Decision::Permit`] can be forwarded.
#[derive(Debug)]
pub enum Decision {
    /// Allowed, with the request inside.
    Permit(Permit),
    /// Refused; the request is given back for the record.
    Refuse(ApiRequest, Refusal),
}
