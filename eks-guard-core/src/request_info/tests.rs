//! Tests of the grammar and of RequestInfo.
