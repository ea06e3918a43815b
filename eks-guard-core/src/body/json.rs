//! JSON bodies: duplicate keys and invalid UTF-8 refused at any depth, number text kept.
