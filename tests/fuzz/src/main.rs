//! One program for all targets: libFuzzer makes up the bytes, the variable `FUZZ_TARGET` says who reads them.
//! `cargo xtask fuzz` builds and runs it.

#![no_main]

mod body;
mod headers;
mod policy;
/// The guard's reader of HTTP/1.1, which depends on nothing else of its crate.
#[path = "../../../eks-guard-user/src/proxy"]
mod proxy {
    pub(crate) mod framing;
}
/// Where the second reading of kube-apiserver's algorithm looks for the first.
mod request_info {
    pub(crate) use eks_guard_core::request_info::{ApiRequest, RequestScope};
}
mod request_line;
mod target;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

use crate::target::Target;

static TARGET: LazyLock<&Target> = LazyLock::new(target::chosen);

fuzz_target!(
    init: {
        LazyLock::force(&TARGET);
    },
    |bytes: &[u8]| {
        (TARGET.read)(bytes);
    }
);
