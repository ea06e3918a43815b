//! Documents to one immutable snapshot.
