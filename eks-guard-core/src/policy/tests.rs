//! Tests of the policy room: documents, precedence, reach, protection, messages.

use std::time::SystemTime;

use crate::policy::evidence::Evidence;
use crate::policy::judge::{Ground, Judgement};
use crate::policy::operation::{Operation, PatchKind};
use crate::policy::{Decision, Facts, Snapshot, read_policies};
use crate::principal::Principal;
use crate::reason::{Reason, Refusal};
use crate::request_info::{ApiRequest, RequestInfo, RequestScope, ResourceInfo, Verb};

mod conditions;
mod contents;
mod decisions;
mod diffs;
mod documents;
mod explanations;
pub(super) mod model;
mod protections;
mod reviews;
mod rules;
mod subjects;
mod suggestions;
mod tools;

/// A policy file with one policy for agent `a`; each rule is written in flow style.
fn policy(name: &str, rules: &[&str]) -> String {
    let rules: String = rules.iter().map(|rule| format!("    - {{{rule}}}\n")).collect();
    format!(
        "apiVersion: eks-guard.dev/v1alpha1\nkind: AgentPolicy\nmetadata: {{name: {name}}}\nspec:\n  \
         subjects: {{agents: [a]}}\n  rules:\n{rules}"
    )
}

fn snapshot_of(files: &[String]) -> Snapshot {
    let policies: Vec<_> = files
        .iter()
        .flat_map(|text| read_policies("p.yaml", text).unwrap_or_else(|errors| panic!("{errors:#?}\n{text}")))
        .collect();
    Snapshot::compile(&policies, 7).unwrap()
}

fn snapshot(rules: &[&str]) -> Snapshot {
    snapshot_of(&[policy("p", rules)])
}

fn principal(agent: &str) -> Principal {
    Principal::named(agent)
}

/// `GET /api/v1/…?query`, as it would come in.
fn request(line: &str) -> ApiRequest {
    let (method, url) = line.split_once(' ').unwrap();
    let (path, query) = url
        .split_once('?')
        .map_or((url, None), |(path, query)| (path, Some(query)));
    ApiRequest::parse(method, path, query).unwrap_or_else(|refusal| panic!("{line}: {refusal}"))
}

/// `verb group/resource/subresource namespace name`, `-` for empty: for what only a body says.
fn info(text: &str) -> RequestInfo {
    let words: Vec<&str> = text
        .split_whitespace()
        .map(|word| if word == "-" { "" } else { word })
        .collect();
    let [verb, resource, namespace, name] = words[..] else {
        panic!("{text}")
    };
    let mut parts = resource
        .split('/')
        .map(|part| if part == "-" { "" } else { part });
    let verb = crate::policy::operation::RESOURCE_VERBS
        .into_iter()
        .find(|it| it.as_str() == verb)
        .unwrap();
    let scope = RequestScope::Resource(ResourceInfo {
        group: parts.next().unwrap_or_default(),
        version: "v1",
        resource: parts.next().unwrap_or_default(),
        subresource: parts.next().unwrap_or_default(),
        namespace,
        name,
    });
    RequestInfo::new(verb, scope)
}

/// The reason of a refusal, `None` when allowed; with the rule that decided.
fn judged(snapshot: &Snapshot, operation: &Operation<'_>) -> (Option<Reason>, Option<String>) {
    with_evidence(&principal("a"), |evidence| {
        match snapshot.judge(operation, evidence) {
            Judgement::Allow(rule) => (None, Some(rule.label.to_string())),
            Judgement::Refuse(ground) => {
                let refusal = snapshot.refusal(operation, evidence, ground);
                (Some(refusal.reason), refusal.rule)
            }
            Judgement::Open(rule, _) => (Some(Reason::ObjectUnknown), Some(rule.to_owned())),
        }
    })
}

/// What rules without conditions go by: the caller alone.
fn with_evidence<T>(principal: &Principal, judge: impl FnOnce(&Evidence<'_>) -> T) -> T {
    let (info, facts) = (info("get -/pods shop web-0"), Facts::at(SystemTime::UNIX_EPOCH));
    judge(&Evidence::new(principal, &info, None, &facts))
}

fn reason(snapshot: &Snapshot, line: &str) -> Option<Reason> {
    let request = request(line);
    judged(
        snapshot,
        &Operation::new(request.info(), request.object_name(), PatchKind::Existing)
            .knowing(snapshot.namespaces()),
    )
    .0
}

fn refusal(snapshot: &Snapshot, agent: &str, line: &str) -> Refusal {
    match decide(snapshot, &principal(agent), request(line)) {
        Decision::Refuse(_, refusal) => refusal,
        Decision::Permit(permit) => panic!("{line} is allowed by {}", permit.rule()),
        Decision::Look(look) => panic!("{line} depends on {}", look.rule()),
    }
}

/// Decides with no fact but a time.
fn decide(snapshot: &Snapshot, principal: &Principal, request: ApiRequest) -> Decision {
    snapshot.decide(principal, request, &Facts::at(SystemTime::UNIX_EPOCH))
}

/// What a judgement comes down to.
fn label(judgement: Judgement<'_>) -> String {
    match judgement {
        Judgement::Allow(rule) => format!("allow {}", rule.label),
        Judgement::Open(rule, _) => format!("open {rule}"),
        Judgement::Refuse(Ground::Restricted(rule)) => format!("{} {}", rule.effect, rule.label),
        Judgement::Refuse(Ground::Secret(rule)) => format!("secret {}", rule.label),
        Judgement::Refuse(Ground::Protected(protection)) => protection.label().to_owned(),
        Judgement::Refuse(Ground::Invalid(policy)) => format!("invalid {}", policy.name),
        Judgement::Refuse(Ground::Ungranted(rule)) => format!("ungranted {}", rule.label),
        Judgement::Refuse(Ground::NothingAllows(verb)) => nothing(verb),
    }
}

fn nothing(verb: Verb) -> String {
    format!("nothing allows {verb}")
}
