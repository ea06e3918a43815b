//! `eks-guard policy explain`: a request in kubectl's words, asked of the code that decides.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum};
use eks_guard_core::policy::{Answer, Facts, KnownResource, Scope};
use eks_guard_core::principal::Principal;
use eks_guard_core::request_info::{RequestInfo, RequestScope, ResourceInfo, Verb};

use crate::policy::{ALLOWED, INVALID, REFUSED, load, render};

/// Verbs of requests for objects.
const RESOURCE_VERBS: [Verb; 9] = [
    Verb::Get,
    Verb::List,
    Verb::Watch,
    Verb::Create,
    Verb::Update,
    Verb::Patch,
    Verb::Delete,
    Verb::DeleteCollection,
    Verb::Connect,
];
/// Verbs of requests for plain paths.
const PATH_VERBS: [Verb; 5] = [Verb::Get, Verb::Post, Verb::Put, Verb::Patch, Verb::Delete];

/// Subresources that kube-apiserver itself serves.
const SUBRESOURCES: [&str; 14] = [
    "approval",
    "attach",
    "binding",
    "ephemeralcontainers",
    "eviction",
    "exec",
    "finalize",
    "log",
    "portforward",
    "proxy",
    "resize",
    "scale",
    "status",
    "token",
];

const EXAMPLES: &str = "\
Examples:
  eks-guard policy explain --policy policy.yaml --as my-agent delete pods web-0 -n shop
  eks-guard policy explain --policy policy.yaml --as my-agent list deployments.apps -A
  eks-guard policy explain --policy policy.yaml --as my-agent get pods/log web-0 -n shop -o json
  eks-guard policy explain --policy policy.yaml --as my-agent get /metrics

Exit codes: 0 allowed, 1 refused, 2 the policy or the command line is wrong.";

/// `eks-guard policy explain --policy FILE --as AGENT VERB RESOURCE [NAME]`
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub struct ExplainArgs {
    /// Policy file; may be given several times; `-` is standard input
    #[arg(long = "policy", value_name = "FILE", required = true)]
    pub policies: Vec<PathBuf>,
    /// Agent that asks
    #[arg(long = "as", value_name = "AGENT", value_parser = NonEmptyStringValueParser::new())]
    pub agent: String,
    /// Namespace of the object [default: `default`, for resources in namespaces]
    #[arg(short, long, value_name = "NAMESPACE", conflicts_with = "all_namespaces")]
    pub namespace: Option<String>,
    /// All namespaces (list, watch, deletecollection)
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// How to print the answer
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// Kubernetes verb (get, list, watch, create, update, patch, delete, deletecollection), or connect
    #[arg(value_name = "VERB")]
    pub verb: String,
    /// Resource as kubectl takes it, or a path: pods, deploy, deployments.apps/scale, /metrics
    #[arg(value_name = "RESOURCE[.GROUP][/SUBRESOURCE]")]
    pub resource: String,
    /// Name of the object; left out: any
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
}

/// How an explanation is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
    /// For programs and people.
    Yaml,
}

/// A command line that does not say which request is meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Not a verb of this kind of request.
    #[error("unknown verb {verb:?}; write one of {known}")]
    Verb {
        /// What was given.
        verb: String,
        /// What would do.
        known: String,
    },
    /// Not a resource.
    #[error("{0:?} is not a resource; write its plural name, as in pods or deployments.apps/scale")]
    Resource(String),
    /// `-A` with a verb for one object.
    #[error("{0} is about one object; leave out -A and name a namespace with -n")]
    NotACollection(Verb),
    /// `-n` or a name with a path.
    #[error("a path has no namespace and no name; leave them out")]
    PathWithObject,
}

/// `eks-guard policy explain`: prints the decision with its reasons.
///
/// # Errors
/// Only when `out` or `err` cannot be written.
pub fn explain(args: &ExplainArgs, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    let snapshot = match load(&args.policies) {
        Ok(snapshot) => snapshot,
        Err(error) => {
            writeln!(err, "{error}")?;
            return Ok(INVALID);
        }
    };
    let info = match request_info(args) {
        Ok(info) => info,
        Err(error) => {
            writeln!(err, "{error}")?;
            return Ok(INVALID);
        }
    };
    for note in notes(args, &info) {
        writeln!(err, "note: {note}")?;
    }
    let principal = Principal::named(args.agent.as_str());
    let explanation = snapshot.explain(&principal, &info, &Facts::at(jiff::Timestamp::now().into()));
    render::write(&explanation, args.output, out)?;
    Ok(match explanation.answer {
        Answer::Allowed { .. } => ALLOWED,
        Answer::Refused(_) => REFUSED,
    })
}

/// The request that the arguments describe.
///
/// # Errors
/// What is missing or does not go together.
pub fn request_info(args: &ExplainArgs) -> Result<RequestInfo, RequestError> {
    if args.resource.starts_with('/') {
        if args.name.is_some() || args.namespace.is_some() || args.all_namespaces {
            return Err(RequestError::PathWithObject);
        }
        let scope = RequestScope::NonResource(args.resource.clone());
        return Ok(RequestInfo {
            verb: verb(&args.verb, &PATH_VERBS)?,
            scope,
        });
    }
    let verb = verb(&args.verb, &RESOURCE_VERBS)?;
    let (resource, subresource) = args.resource.split_once('/').unwrap_or((&args.resource, ""));
    let subresource_missing = args.resource.ends_with('/') || subresource.contains('/');
    let Some((group, resource)) = resource_of(resource).filter(|_| !subresource_missing) else {
        return Err(RequestError::Resource(args.resource.clone()));
    };
    let namespace = namespace(args, verb, &group, &resource)?;
    Ok(RequestInfo {
        verb,
        scope: RequestScope::Resource(ResourceInfo {
            group,
            version: String::new(),
            namespace,
            resource,
            subresource: subresource.to_owned(),
            name: args.name.clone().unwrap_or_default(),
        }),
    })
}

/// What was taken literally, although the person may have meant something else.
fn notes(args: &ExplainArgs, info: &RequestInfo) -> Vec<String> {
    let RequestScope::Resource(asked) = &info.scope else {
        return Vec::new();
    };
    let (resource, sub) = (&asked.resource, &asked.subresource);
    match KnownResource::find(&asked.group, resource) {
        None if asked.group.is_empty() => vec![format!(
            "{resource:?} is not known in the core group; write the group of other resources: {resource}.example.com"
        )],
        Some(_) if !sub.is_empty() && args.name.is_none() && !SUBRESOURCES.contains(&sub.as_str()) => {
            vec![format!(
                "{sub:?} is taken as a subresource of {resource}; write a name apart: {resource} {sub}"
            )]
        }
        Some(_) | None => Vec::new(),
    }
}

fn verb(text: &str, known: &[Verb]) -> Result<Verb, RequestError> {
    known
        .iter()
        .copied()
        .find(|verb| verb.as_str() == text)
        .ok_or_else(|| RequestError::Verb {
            verb: text.to_owned(),
            known: known
                .iter()
                .map(|verb| verb.as_str())
                .collect::<Vec<_>>()
                .join(", "),
        })
}

/// Group and plural name of `pods`, `po`, `deployments.apps`, `deployments.v1.apps`, `widgets.example.com`.
fn resource_of(text: &str) -> Option<(String, String)> {
    let segment = |text: &str| {
        !text.is_empty()
            && text
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c))
    };
    let lower = text.to_ascii_lowercase();
    let Some((resource, group)) = lower.split_once('.') else {
        let known =
            KnownResource::named(&lower).map(|known| (known.group.to_owned(), known.resource.to_owned()));
        return known.or_else(|| segment(&lower).then(|| (String::new(), lower.clone())));
    };
    let group = match group.split_once('.') {
        Some((version, rest)) if is_version(version) => rest,
        Some(_) | None => group,
    };
    let known = KnownResource::named(resource).map(|known| known.resource);
    let resource = known
        .filter(|plural| KnownResource::find(group, plural).is_some())
        .unwrap_or(resource);
    (segment(resource) && segment(group)).then(|| (group.to_owned(), resource.to_owned()))
}

fn is_version(text: &str) -> bool {
    text.strip_prefix('v')
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

fn namespace(args: &ExplainArgs, verb: Verb, group: &str, resource: &str) -> Result<String, RequestError> {
    let scope = KnownResource::find(group, resource).map(|known| known.scope);
    if args.all_namespaces && !matches!(verb, Verb::List | Verb::Watch | Verb::DeleteCollection) {
        return Err(RequestError::NotACollection(verb));
    }
    if args.all_namespaces || scope == Some(Scope::Cluster) {
        return Ok(String::new());
    }
    Ok(match (&args.namespace, scope) {
        (Some(namespace), _) => namespace.clone(),
        (None, Some(Scope::Namespaced)) => "default".to_owned(),
        (None, Some(Scope::Cluster) | None) => String::new(),
    })
}
