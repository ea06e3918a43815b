//! The evaluator of conditions that Kubernetes has, and the tests of CEL's specification: from the Go module in
//! `tests/conditions` that pins both.

use crate::setup::go::Module;

pub(super) const MODULES: [Module; 1] = [Module {
    folder: "tests/conditions",
    pinned: "k8s.io/apiserver",
    programs: &[("cel-oracle", ".")],
    printed: &[("cel-conformance.jsonl", "cel-oracle", "conformance")],
    duration: "2 to 3 minutes the first time",
}];
