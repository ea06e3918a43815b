//! Every recorded request is read by the grammar, and allowed by a policy that allows everything, but for what is refused by design.

use std::collections::BTreeMap;
use std::time::SystemTime;

use eks_guard_core::body::Body;
use eks_guard_core::negotiation;
use eks_guard_core::policy::{Decision, Facts, Snapshot, read_policies};
use eks_guard_core::principal::Principal;
use eks_guard_core::reason::{Reason, Refusal};
use eks_guard_core::request_info::ApiRequest;

use super::{Recorded, read};
use crate::clients::pins;
use crate::policies::everything_in_clear;

/// What is refused by design: streams into pods, and credentials that the guard does not control.
const REFUSED: [(&str, Reason); 5] = [
    ("/exec", Reason::ConnectRefused),
    ("/attach", Reason::ConnectRefused),
    ("/portforward", Reason::ConnectRefused),
    ("/proxy", Reason::ConnectRefused),
    ("/serviceaccounts/made/token", Reason::SelfProtection),
];

/// The steps of the proxy that need neither a socket nor a cluster.
fn decide(snapshot: &Snapshot, recorded: &Recorded) -> Result<(), Refusal> {
    let (method, target) = recorded.line.split_once(' ').unwrap();
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let header = |name| recorded.headers.get(name).map(String::as_str);
    let mut request = ApiRequest::parse(method, path, query)?;
    let body = recorded.body().unwrap();
    if !body.is_empty() {
        let body = Body::read(&request, header("content-type"), &body)?;
        request = request.with_body(body)?;
    }
    negotiation::accept(&request, header("accept"))?;
    match snapshot.decide(
        &Principal::named("anybody"),
        request,
        &Facts::at(SystemTime::UNIX_EPOCH),
    ) {
        // A look is what comes of changes of pods and of what makes them; suite `compatible` shows what it comes to.
        Decision::Permit(_) | Decision::Look(_) => Ok(()),
        Decision::Refuse(_, refusal) => Err(refusal),
    }
}

#[test]
fn nothing_that_clients_send_is_refused_but_by_design() {
    let policies = read_policies("corpus", &everything_in_clear()).unwrap();
    let snapshot = Snapshot::compile(&policies, 1).unwrap();
    let (mut wrong, mut clients) = (Vec::new(), BTreeMap::<String, usize>::new());
    for (client, recorded) in read().unwrap() {
        let path = recorded.line.split('?').next().unwrap();
        let refused = REFUSED.iter().find(|(end, _)| path.ends_with(end));
        let decided = decide(&snapshot, &recorded);
        let as_designed =
            decided.as_ref().err().map(|refusal| refusal.reason) == refused.map(|(_, reason)| *reason);
        if !as_designed {
            wrong.push(format!("{client}: {}: {decided:?}", recorded.line));
        }
        *clients.entry(client).or_default() += 1;
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    // A client whose requests are gone shows nothing.
    assert_eq!(clients.len(), pins::all().unwrap().len(), "{clients:?}");
    assert!(clients.values().all(|count| *count > 5), "{clients:?}");
}
