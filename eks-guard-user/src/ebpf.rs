//! The kernel side: load, attach, and ask where a redirected connection meant to go.

pub mod original_dst;
