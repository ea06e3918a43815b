//! Deciding to allow a read allocates nothing, however many rules there are.

use std::time::SystemTime;

use eks_guard_core::policy::{Decision, Facts, Snapshot, read_policies};
use eks_guard_core::principal::Principal;
use eks_guard_core::request_info::ApiRequest;

#[test]
fn allowing_a_get_allocates_nothing() {
    let rule = |number: usize| {
        let effect = if number.is_multiple_of(2) { "allow" } else { "deny" };
        format!(
            "    - {{name: r{number}, effect: {effect}, verbs: [get, list], apiGroups: [\"\"], resources: [pods], \
             namespaces: [team-{number}]}}\n"
        )
    };
    let rules: String = (0..200).map(rule).collect();
    let text = format!(
        "apiVersion: eks-guard.dev/v1alpha1\nkind: AgentPolicy\nmetadata: {{name: p}}\nspec:\n  \
         subjects: {{agents: [my-agent]}}\n  rules:\n{rules}"
    );
    let snapshot = Snapshot::compile(&read_policies("p.yaml", &text).unwrap(), 1).unwrap();
    let principal = Principal::named("my-agent");
    for path in ["/api/v1/namespaces/team-198/pods/web-0", "/version"] {
        let request = ApiRequest::parse("GET", path, None).unwrap();
        let mut decision = None;
        let counted = allocation_counter::measure(|| {
            decision = Some(snapshot.decide(&principal, request, &Facts::at(SystemTime::UNIX_EPOCH)));
        });
        assert!(matches!(decision, Some(Decision::Permit(_))), "{decision:?}");
        assert_eq!(counted.count_total, 0, "{path}");
    }
    // The counter counts.
    let counted = allocation_counter::measure(|| drop(std::hint::black_box(Box::new(1))));
    assert_eq!(counted.count_total, 1);
}
