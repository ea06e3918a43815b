//! Pods of a node and what they reach. Without a guard: the node rig tests itself, since what it cannot show to be reached
//! no test can show to be closed. Needs root.

#[path = "datapath/ask.rs"]
mod ask;
#[path = "datapath/life.rs"]
mod life;
#[path = "datapath/reach.rs"]
mod reach;
