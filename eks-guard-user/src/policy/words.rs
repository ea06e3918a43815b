//! A request in kubectl's words: verb, resource, name and namespace; or a method and a path.

use std::path::PathBuf;

use clap::Args;
use eks_guard_core::body::Body;
use eks_guard_core::policy::{
    Explanation, Facts, KnownResource, PATH_VERBS, RESOURCE_VERBS, Scope, Snapshot,
};
use eks_guard_core::principal::Principal;
use eks_guard_core::reason::Refusal;
use eks_guard_core::request_info::{ApiRequest, RequestInfo, RequestScope, ResourceInfo, Verb};

/// Methods of whole requests.
const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

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

/// A request as a person describes it.
#[derive(Debug, Clone, Default, Args)]
pub struct Words {
    /// Namespace of the object [default: `default`, for resources in namespaces]
    #[arg(short, long, value_name = "NAMESPACE", conflicts_with = "all_namespaces")]
    pub namespace: Option<String>,
    /// All namespaces (list, watch, deletecollection)
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Kubernetes verb (get, list, watch, create, update, patch, delete, deletecollection), or connect; or an HTTP method
    #[arg(value_name = "VERB")]
    pub verb: String,
    /// Resource as kubectl takes it, or a path: pods, deploy, deployments.apps/scale, /metrics; after a method a path and query
    #[arg(value_name = "RESOURCE[.GROUP][/SUBRESOURCE]")]
    pub resource: String,
    /// Name of the object; left out: any
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// File with the body, after an HTTP method; `-` is standard input
    #[arg(long, value_name = "FILE")]
    pub body: Option<PathBuf>,
    /// Content type of the body [default: application/json, for FILE.yaml application/yaml]
    #[arg(long, value_name = "TYPE")]
    pub content_type: Option<String>,
}

impl Words {
    fn content_type(&self) -> &str {
        let is_yaml = |path: &PathBuf| path.extension().is_some_and(|it| it == "yaml" || it == "yml");
        match &self.content_type {
            Some(content_type) => content_type,
            None if self.body.as_ref().is_some_and(is_yaml) => "application/yaml",
            None => "application/json",
        }
    }
}

/// What was asked about.
pub(super) enum Asked {
    /// A request known by its verb and its object.
    Info(RequestInfo),
    /// A whole request, as the guard reads it.
    Whole(Box<ApiRequest>),
}

impl Asked {
    /// What the words say; `body` is empty where there is none.
    ///
    /// # Errors
    /// What is missing or does not go together, and whatever the guard would refuse before any policy.
    pub(super) fn read(words: &Words, body: &[u8]) -> Result<Self, RequestError> {
        let Some(method) = METHODS.into_iter().find(|method| *method == words.verb) else {
            if body.is_empty() {
                return request_info(words).map(Self::Info);
            }
            return Err(RequestError::BodyWithoutMethod);
        };
        if words.name.is_some() || words.namespace.is_some() || words.all_namespaces {
            return Err(RequestError::PathWithObject);
        }
        let (path, query) = match words.resource.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (words.resource.as_str(), None),
        };
        let mut request = ApiRequest::parse(method, path, query)?;
        if !body.is_empty() {
            let body = Body::read(&request, Some(words.content_type()), body)?;
            request = request.with_body(body)?;
        }
        Ok(Self::Whole(Box::new(request)))
    }

    /// Asks the code that decides.
    pub(super) fn explain(
        &self,
        snapshot: &Snapshot,
        principal: &Principal,
        facts: &Facts<'_>,
    ) -> Explanation {
        match self {
            Self::Info(info) => snapshot.explain(principal, info, facts),
            Self::Whole(request) => snapshot.explain_request(principal, request, facts),
        }
    }

    /// What was taken literally, although the person may have meant something else.
    pub(super) fn notes(&self, words: &Words) -> Vec<String> {
        match self {
            Self::Info(info) => notes(words, info),
            Self::Whole(_) => Vec::new(),
        }
    }
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
    /// The guard refuses it before any policy is asked.
    #[error("no policy is asked about this request, the guard refuses it before ({}): {}", .0.reason.as_str(), .0.message)]
    Outside(#[from] Refusal),
    /// A body needs to know where it goes.
    #[error("a body belongs to a method and a path, as in POST /api/v1/namespaces/shop/pods")]
    BodyWithoutMethod,
    /// `-n` or a name with a path.
    #[error("a path has no namespace and no name; leave them out")]
    PathWithObject,
}

/// The request that the arguments describe.
///
/// # Errors
/// What is missing or does not go together.
pub fn request_info(args: &Words) -> Result<RequestInfo, RequestError> {
    if args.resource.starts_with('/') {
        if args.name.is_some() || args.namespace.is_some() || args.all_namespaces {
            return Err(RequestError::PathWithObject);
        }
        let verb = verb(&args.verb, &PATH_VERBS)?;
        return Ok(RequestInfo::new(verb, RequestScope::NonResource(&args.resource)));
    }
    let verb = verb(&args.verb, &RESOURCE_VERBS)?;
    let (resource, subresource) = args.resource.split_once('/').unwrap_or((&args.resource, ""));
    let subresource_missing = args.resource.ends_with('/') || subresource.contains('/');
    let Some((group, resource)) = resource_of(resource).filter(|_| !subresource_missing) else {
        return Err(RequestError::Resource(args.resource.clone()));
    };
    let namespace = namespace(args, verb, &group, &resource)?;
    let scope = RequestScope::Resource(ResourceInfo {
        group: &group,
        version: "",
        namespace: &namespace,
        resource: &resource,
        subresource,
        name: args.name.as_deref().unwrap_or_default(),
    });
    Ok(RequestInfo::new(verb, scope))
}

/// What was taken literally, although the person may have meant something else.
fn notes(args: &Words, info: &RequestInfo) -> Vec<String> {
    let RequestScope::Resource(asked) = info.scope() else {
        return Vec::new();
    };
    let (resource, sub) = (asked.resource, asked.subresource);
    match KnownResource::find(asked.group, resource) {
        None if asked.group.is_empty() => vec![format!(
            "{resource:?} is not known in the core group; write the group of other resources: {resource}.example.com"
        )],
        Some(_) if !sub.is_empty() && args.name.is_none() && !SUBRESOURCES.contains(&sub) => {
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

fn namespace(args: &Words, verb: Verb, group: &str, resource: &str) -> Result<String, RequestError> {
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
