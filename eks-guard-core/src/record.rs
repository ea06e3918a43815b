//! The audit event: the one format in which every call is recorded.

mod event;

pub use event::{Caller, DecidedOn, Event, Observed, Outcome, SCHEMA, SessionState, Stage};
