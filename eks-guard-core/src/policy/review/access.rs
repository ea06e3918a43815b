//! `SelfSubjectAccessReview`: one question, two authorities, and yes only if both say yes.

use serde_json::{Value, json};

use crate::discovery::Discovery;
use crate::policy::compile::Snapshot;
use crate::policy::evidence::Evidence;
use crate::policy::judge::{Ground, Judgement};
use crate::policy::operation::{Extent, Operation, PATH_VERBS, PatchKind, RESOURCE_VERBS, Target};
use crate::policy::review::{Asker, ReviewError};
use crate::request_info::{RequestInfo, RequestScope, ResourceInfo, Verb};

/// `*` in a question: all there is.
const ALL: &str = "*";

pub(super) fn status(asker: &Asker<'_>, served: &Discovery, answer: &Value) -> Result<Value, ReviewError> {
    let upstream = answer.get("status").ok_or(ReviewError("status"))?;
    let is_allowed_upstream = upstream.get("allowed").and_then(Value::as_bool) == Some(true);
    let verdict = match (
        &answer["spec"]["resourceAttributes"],
        &answer["spec"]["nonResourceAttributes"],
    ) {
        (Value::Object(_), Value::Object(_)) => return Err(ReviewError("single question")),
        (asked @ Value::Object(_), _) => about_resource(asker, served, asked),
        (_, asked @ Value::Object(_)) => about_path(asker, asked),
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

fn about_resource(asker: &Asker<'_>, served: &Discovery, asked: &Value) -> Result<(), String> {
    let text = |key: &str| asked[key].as_str().unwrap_or_default();
    let info = ResourceInfo {
        group: text("group"),
        version: "",
        namespace: text("namespace"),
        resource: text("resource"),
        subresource: text("subresource"),
        name: text("name"),
    };
    if [info.group, info.resource, info.subresource].contains(&ALL) {
        return Err("no agent may do it to everything; ask about one resource".to_owned());
    }
    for verb in verbs(text("verb"), &RESOURCE_VERBS)? {
        judge_resource(asker, served, verb, info, sentence)?;
    }
    Ok(())
}

/// Whether one verb is allowed on what the attributes say, all of it; what `refused` makes of the ground when it is not.
pub(super) fn judge_resource<T>(
    asker: &Asker<'_>,
    served: &Discovery,
    verb: Verb,
    resource: ResourceInfo<'_>,
    refused: Refused<T>,
) -> Result<(), T> {
    let info = RequestInfo::new(verb, RequestScope::Resource(resource));
    let mut operation = Operation::new(&info, "", PatchKind::Existing);
    // No namespace means all of them, but of a resource that is in none.
    if let Target::Resource(target) = &mut operation.target
        && resource.namespace.is_empty()
        && target.namespace == Extent::Nothing
        && !is_in_no_namespace(served, resource)
    {
        target.namespace = Extent::Many;
    }
    judge(asker, &info, &operation, refused)
}

fn about_path(asker: &Asker<'_>, asked: &Value) -> Result<(), String> {
    let text = |key: &str| asked[key].as_str().unwrap_or_default();
    for verb in verbs(text("verb"), &PATH_VERBS)? {
        judge_path(asker, verb, text("path"), sentence)?;
    }
    Ok(())
}

pub(super) fn judge_path<T>(asker: &Asker<'_>, verb: Verb, path: &str, refused: Refused<T>) -> Result<(), T> {
    let info = RequestInfo::new(verb, RequestScope::NonResource(path));
    let operation = Operation::new(&info, "", PatchKind::Existing);
    judge(asker, &info, &operation, refused)
}

/// What a refusal comes to. Its sentence is made by looking at every rule: only where somebody reads it.
pub(super) type Refused<T> = fn(&Snapshot, &Operation<'_>, &Evidence<'_>, Ground<'_>) -> T;

fn sentence(
    snapshot: &Snapshot,
    operation: &Operation<'_>,
    evidence: &Evidence<'_>,
    ground: Ground<'_>,
) -> String {
    snapshot.refusal(operation, evidence, ground).message
}

/// What depends on objects may be done: which of them, a request is told.
fn judge<T>(
    asker: &Asker<'_>,
    info: &RequestInfo,
    operation: &Operation<'_>,
    refused: Refused<T>,
) -> Result<(), T> {
    let evidence = Evidence::new(asker.principal, info, None, asker.facts);
    let operation = &operation.knowing(asker.snapshot.namespaces());
    match asker.snapshot.judge(operation, &evidence) {
        Judgement::Allow(_) | Judgement::Open(..) => Ok(()),
        Judgement::Refuse(ground) => Err(refused(asker.snapshot, operation, &evidence, ground)),
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

/// What is not served is taken for what it could be.
fn is_in_no_namespace(served: &Discovery, asked: ResourceInfo<'_>) -> bool {
    let found = served
        .served()
        .iter()
        .find(|it| (&*it.group, &*it.resource) == (asked.group, asked.resource));
    found.is_some_and(|it| !it.is_namespaced)
}
