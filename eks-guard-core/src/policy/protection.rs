//! Compiled-in rules that stand before every policy.
