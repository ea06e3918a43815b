//! What goes wrong on a node while an agent never stops trying to get past the guard: nothing of it arrives, and the loss is
//! repaired or said. Each test has a daemon of its own on a kubepods root of its own. Needs root.

#[path = "faults/clock.rs"]
mod clock;
#[path = "faults/daemon.rs"]
mod daemon;
#[path = "faults/forwarding.rs"]
mod forwarding;
#[path = "faults/full.rs"]
mod full;
#[path = "faults/layers.rs"]
mod layers;
#[path = "faults/memory.rs"]
mod memory;
#[path = "faults/older.rs"]
mod older;
#[path = "faults/siege.rs"]
mod siege;
#[path = "faults/unreachable.rs"]
mod unreachable;
#[path = "faults/upgrade.rs"]
mod upgrade;

use rig::daemon as guard;
