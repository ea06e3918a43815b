//! Compiled-in rules that stand before every policy: the guard's own objects, ways to obtain a credential,
//! and streams through the API server. Beside them, the two things every agent may do.

use crate::policy::document::{
    Effect, Names, NamespaceScope, Part, PathPattern, ResourcePattern, ResourceScope, RuleScope,
};
use crate::policy::matching::Clause;
use crate::policy::operation::{Extent, Operation, ResourceTarget, STREAMS, Target, VerbSet};
use crate::reason::Reason;
use crate::request_info::Verb;

mod content;

pub(crate) use content::{Content, of as of_content};

/// The API group of the guard's own documents.
const GUARD_GROUP: &str = "eks-guard.dev";
/// The namespaces the guard runs in.
const GUARD_NAMESPACES: [&str; 2] = ["eks-guard", "eks-guard-system"];

/// A compiled-in refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protection {
    /// The guard's API group, or the definition of it.
    Group,
    /// A namespace of the guard, alone or among others.
    Namespace,
    /// A token of a service account.
    Token,
    /// A decision on, or the issuing of, a certificate.
    Certificate,
    /// Who the API server takes somebody for.
    Authentication,
    /// What sees or answers requests in the API server's place.
    Interception,
    /// Labels that say which pods are agents.
    Label,
    /// A pod that gets a part of its node.
    Escape,
    /// Rights that make more rights.
    Grant,
    /// exec, attach, port-forward, proxy.
    Connect,
}

impl Protection {
    pub(crate) const ALL: [Self; 10] = [
        Self::Group,
        Self::Namespace,
        Self::Token,
        Self::Certificate,
        Self::Authentication,
        Self::Interception,
        Self::Label,
        Self::Escape,
        Self::Grant,
        Self::Connect,
    ];

    /// The first protection that refuses the request line; what a body adds, [`of_content`] finds.
    pub(crate) fn of(operation: &Operation<'_>) -> Option<Self> {
        let Target::Resource(target) = &operation.target else {
            return None;
        };
        Self::ALL
            .into_iter()
            .find(|protection| protection.refuses(operation.verb, target))
    }

    fn refuses(self, verb: Verb, target: &ResourceTarget<'_>) -> bool {
        match self {
            Self::Group => {
                is_guard_group(target.group) || (verb.is_mutating() && defines_guard_group(target))
            }
            Self::Namespace => match target.namespace {
                Extent::Nothing => false,
                Extent::One(namespace) => GUARD_NAMESPACES.contains(&namespace),
                Extent::Many => verb.is_mutating(),
            },
            Self::Token => {
                (target.group, target.resource, target.subresource) == ("", "serviceaccounts", "token")
            }
            Self::Certificate => {
                verb.is_mutating()
                    && target.group == "certificates.k8s.io"
                    && matches!(
                        (target.resource, target.subresource),
                        ("certificatesigningrequests", "approval" | "status")
                            | ("podcertificaterequests", "status")
                    )
            }
            Self::Authentication => verb.is_mutating() && is_authentication(verb, target),
            Self::Interception => {
                verb.is_mutating()
                    && (target.group == "admissionregistration.k8s.io"
                        || (target.group, target.resource) == ("apiregistration.k8s.io", "apiservices"))
            }
            // What a request writes stands in its body.
            Self::Label | Self::Escape | Self::Grant => false,
            Self::Connect => STREAMS.contains(&target.subresource),
        }
    }

    pub(crate) const fn reason(self) -> Reason {
        match self {
            Self::Group
            | Self::Namespace
            | Self::Token
            | Self::Certificate
            | Self::Authentication
            | Self::Interception
            | Self::Label
            | Self::Escape
            | Self::Grant => Reason::SelfProtection,
            Self::Connect => Reason::ConnectRefused,
        }
    }

    /// The rule's name in refusals and records.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Group => "builtin:guard-group",
            Self::Namespace => "builtin:guard-namespace",
            Self::Token => "builtin:no-token-minting",
            Self::Certificate => "builtin:no-certificate-signing",
            Self::Authentication => "builtin:no-identity-mapping",
            Self::Interception => "builtin:no-interception",
            Self::Label => "builtin:agent-labels",
            Self::Escape => "builtin:no-node-access",
            Self::Grant => "builtin:no-escalation",
            Self::Connect => "builtin:no-connect",
        }
    }

    /// Why, and what can be done instead.
    pub(crate) const fn remedy(self) -> &'static str {
        match self {
            Self::Group => {
                "it belongs to the guard itself and no policy can allow it; an operator can do it outside the guard"
            }
            Self::Namespace => {
                "it reaches a namespace of the guard itself (eks-guard, eks-guard-system) and no policy can allow it; \
                 name one other namespace"
            }
            Self::Token => {
                "a token would be a credential that the guard does not control, and no policy can allow it; \
                 requests through the guard need no token"
            }
            Self::Certificate => {
                "a signed certificate would be a credential that the guard does not control, and no policy can \
                 allow it; an operator can do it outside the guard"
            }
            Self::Authentication => {
                "it says whom the API server takes for whom, and no policy can allow it; an operator can do it outside the guard"
            }
            Self::Interception => {
                "admission and aggregation see, change or answer requests in the API server's place, and no policy can allow \
                 it; an operator can do it outside the guard"
            }
            Self::Label => {
                "labels and annotations of eks-guard.dev say which pods are guarded: they cannot be set, changed or removed \
                 by an agent, and no policy can allow it; leave them as they are"
            }
            Self::Escape => {
                "a pod with host namespaces, hostPath, privileges or capabilities beyond the baseline reaches its node, and \
                 no policy can allow it; leave these fields out, and the spec of pods that have them as it is"
            }
            Self::Grant => {
                "escalate, bind, impersonate, every verb on everything and cluster-admin make more rights than the guard \
                 decides on, and no policy can allow it; name the verbs and resources, or another role"
            }
            Self::Connect => {
                "exec, attach, port-forward and proxy open a stream the guard cannot decide on yet, and no policy \
                 can allow it; read pods/log or change the object instead"
            }
        }
    }
}

/// The ConfigMaps of `kube-system` that map identities: those of nodes and roles on EKS, and those of front proxies.
fn is_authentication(verb: Verb, target: &ResourceTarget<'_>) -> bool {
    let is_kind = (target.group, target.resource) == ("", "configmaps");
    is_kind
        && target.namespace == Extent::One("kube-system")
        && match target.name {
            Extent::Nothing => false,
            Extent::One(name) => matches!(name, "aws-auth" | "extension-apiserver-authentication"),
            Extent::Many => verb == Verb::DeleteCollection,
        }
}

fn is_guard_group(group: &str) -> bool {
    group
        .strip_suffix(GUARD_GROUP)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// The CustomResourceDefinition or APIService that makes the guard's API group what it is.
fn defines_guard_group(target: &ResourceTarget<'_>) -> bool {
    let defines = matches!(
        (target.group, target.resource),
        ("apiextensions.k8s.io", "customresourcedefinitions") | ("apiregistration.k8s.io", "apiservices")
    );
    defines
        && match target.name {
            Extent::Nothing => false,
            Extent::One(name) => is_guard_group(name),
            Extent::Many => true,
        }
}

/// Whether replies and bodies carry values of Secrets.
pub(crate) fn is_secret(operation: &Operation<'_>) -> bool {
    match &operation.target {
        Target::Resource(target) => target.group.is_empty() && target.resource == "secrets",
        Target::Path(_) => false,
    }
}

/// What stands as the rule when a Secret is refused that a rule would allow.
pub(crate) const SECRETS_LABEL: &str = "builtin:mask-secrets";

/// What every agent may do unless a rule restricts it: find out what the API server serves, and ask about itself.
pub(crate) fn allowed_to_everyone() -> [(&'static str, Clause); 2] {
    let exact = [
        "/api",
        "/apis",
        "/version",
        "/openapi/v2",
        "/openapi/v3",
        "/healthz",
        "/livez",
        "/readyz",
    ];
    let below = [
        "/api/",
        "/apis/",
        "/openapi/v3/",
        "/healthz/",
        "/livez/",
        "/readyz/",
    ];
    let paths = exact.into_iter().map(|path| PathPattern::Exact(path.into()));
    let paths = paths.chain(below.into_iter().map(|prefix| PathPattern::Prefix(prefix.into())));
    let discovery = RuleScope::Paths(paths.collect());

    let reviews = [
        "selfsubjectaccessreviews",
        "selfsubjectrulesreviews",
        "selfsubjectreviews",
    ];
    let reviews = RuleScope::Resources(ResourceScope {
        groups: Names::only(["authentication.k8s.io", "authorization.k8s.io"]),
        resources: reviews
            .into_iter()
            .map(|resource| ResourcePattern {
                resource: Some(resource.into()),
                part: Part::Object,
            })
            .collect(),
        namespaces: NamespaceScope::Named(Names::Any),
        resource_names: Names::Any,
    });
    [
        (
            "builtin:discovery",
            Clause::new(VerbSet::of([Verb::Get]), discovery, Effect::Allow),
        ),
        (
            "builtin:self-review",
            Clause::new(VerbSet::of([Verb::Create]), reviews, Effect::Allow),
        ),
    ]
}
