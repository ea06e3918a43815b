//! Everything a caller can do wrong on purpose, over real parts: kernel, guard, API server. What is refused is a Status with a
//! reason, stands in the record and not in the API server's audit log, and costs no other connection anything. Needs root.

#[path = "hostile/arena.rs"]
mod arena;
#[path = "hostile/bodies.rs"]
mod bodies;
#[path = "hostile/bombs.rs"]
mod bombs;
#[path = "hostile/connections.rs"]
mod connections;
#[path = "hostile/faults.rs"]
mod faults;
#[path = "hostile/frames.rs"]
mod frames;
#[path = "hostile/framing.rs"]
mod framing;
#[path = "hostile/headers.rs"]
mod headers;
#[path = "hostile/truth.rs"]
mod truth;
#[path = "hostile/vectors.rs"]
mod vectors;
