//! The bypass catalogue: every known route around the boundary, what closes it, and how that is checked.
//! What a probe is told and what it answers stand in `probe`; what becomes of all answers in `report`.

mod credentials;
mod kinds;
mod lifecycle;
mod network;
mod pod;
pub mod probe;
mod proxy;
pub mod report;

#[cfg(test)]
mod tests;

pub use crate::catalogue::kinds::{Boundary, Check, Closing, Row};

/// Every row, in the order of their ids within each family: N, P, L, K, A, X.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    [
        network::SOCKETS,
        network::POWERS,
        lifecycle::ROWS,
        proxy::KUBERNETES,
        credentials::ROWS,
        proxy::PROTOCOL,
    ]
    .into_iter()
    .flatten()
}

/// The row with this id.
#[must_use]
pub fn row(id: &str) -> Option<&'static Row> {
    rows().find(|row| row.id == id)
}
