//! Scope: which requests an agent may make. Default deny; documents are compiled once into an immutable snapshot.

mod compile;
mod decide;
mod document;
mod permit;
mod protection;
