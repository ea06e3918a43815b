//! `SelfSubjectAccessReview`: one question, two authorities, and yes only if both say yes.

use serde_json::{Value, json};

use crate::discovery::Discovery;
use crate::policy::compile::Snapshot;
use crate::policy::judge::Judgement;
use crate::policy::known::Scope;
use crate::policy::operation::{Extent, Operation, PATH_VERBS, PatchKind, RESOURCE_VERBS, Target};
use crate::policy::review::ReviewError;
use crate::principal::Principal;
use crate::request_info::{RequestInfo, RequestScope, ResourceInfo, Verb};

/// `*` in a question: all there is.
const ALL: &str = "*";

pub(super) fn status(
    snapshot: &Snapshot,
    principal: &Principal,
    served: &Discovery,
    answer: &Value,
) -> Result<Value, ReviewError> {
    let upstream = answer.get("status").ok_or(ReviewError("status"))?;
    let is_allowed_upstream = upstream.get("allowed").and_then(Value::as_bool) == Some(true);
    let verdict = match (
        &answer["spec"]["resourceAttributes"],
        &answer["spec"]["nonResourceAttributes"],
    ) {
        (Value::Object(_), Value::Object(_)) => return Err(ReviewError("single question")),
        (asked @ Value::Object(_), _) => about_resource(snapshot, principal, served, asked),
        (_, asked @ Value::Object(_)) => about_path(snapshot, principal, asked),
        _ => return Err(ReviewError("question")),
    };
    Ok(match verdict {
        Err(why) => json!({"allowed": false, "reason": format!("eks-guard: {why}")}),
        Ok(()) if is_allowed_upstream => {
            json!({"allowed": true, "reason": "allowed by eks-guard and by the cluster"})
        }
        Ok(()) => json!({
            "allowed": false,
            "reason": "eks-guard allows it, but the cluster's own authorization does not allow it to the guard",
        }),
    })
}

fn about_resource(
    snapshot: &Snapshot,
    principal: &Principal,
    served: &Discovery,
    asked: &Value,
) -> Result<(), String> {
    let text = |key: &str| asked[key].as_str().unwrap_or_default().to_owned();
    let info = ResourceInfo {
        group: text("group"),
        version: String::new(),
        namespace: text("namespace"),
        resource: text("resource"),
        subresource: text("subresource"),
        name: text("name"),
    };
    if [&info.group, &info.resource, &info.subresource].contains(&&ALL.to_owned()) {
        return Err("no agent may do it to everything; ask about one resource".to_owned());
    }
    for verb in verbs(&text("verb"), &RESOURCE_VERBS)? {
        judge_resource(snapshot, principal, served, verb, &info)?;
    }
    Ok(())
}

/// Whether one verb is allowed on what the attributes say, all of it.
pub(super) fn judge_resource(
    snapshot: &Snapshot,
    principal: &Principal,
    served: &Discovery,
    verb: Verb,
    resource: &ResourceInfo,
) -> Result<(), String> {
    let info = RequestInfo {
        verb,
        scope: RequestScope::Resource(resource.clone()),
    };
    let mut operation = Operation::new(&info, "", PatchKind::Existing);
    // No namespace means all of them, but of a resource that is in none.
    if let Target::Resource(target) = &mut operation.target
        && resource.namespace.is_empty()
        && target.namespace == Extent::Nothing
        && scope(served, resource) != Some(Scope::Cluster)
    {
        target.namespace = Extent::Many;
    }
    judge(snapshot, principal, &operation)
}

fn about_path(snapshot: &Snapshot, principal: &Principal, asked: &Value) -> Result<(), String> {
    let text = |key: &str| asked[key].as_str().unwrap_or_default();
    for verb in verbs(text("verb"), &PATH_VERBS)? {
        judge_path(snapshot, principal, verb, text("path"))?;
    }
    Ok(())
}

pub(super) fn judge_path(
    snapshot: &Snapshot,
    principal: &Principal,
    verb: Verb,
    path: &str,
) -> Result<(), String> {
    let info = RequestInfo {
        verb,
        scope: RequestScope::NonResource(path.to_owned()),
    };
    judge(
        snapshot,
        principal,
        &Operation::new(&info, "", PatchKind::Existing),
    )
}

fn judge(snapshot: &Snapshot, principal: &Principal, operation: &Operation<'_>) -> Result<(), String> {
    match snapshot.judge(principal, operation) {
        Judgement::Allow(_) => Ok(()),
        Judgement::Refuse(ground) => Err(snapshot.refusal(principal, operation, ground).message),
    }
}

/// The verbs a question is about. Requests have no others, so nobody may do them.
fn verbs(text: &str, known: &[Verb]) -> Result<Vec<Verb>, String> {
    let verbs: Vec<Verb> = known
        .iter()
        .copied()
        .filter(|verb| text == ALL || verb.as_str() == text)
        .collect();
    if verbs.is_empty() {
        return Err(format!("no request has the verb {text:?}"));
    }
    Ok(verbs)
}

fn scope(served: &Discovery, asked: &ResourceInfo) -> Option<Scope> {
    let found = served
        .served()
        .iter()
        .find(|it| (&*it.group, &*it.resource) == (asked.group.as_str(), asked.resource.as_str()));
    found.map(|it| it.scope)
}
