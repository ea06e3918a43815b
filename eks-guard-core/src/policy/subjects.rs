//! Whom a policy is about: proven facts of a principal, all kinds together.

use crate::policy::document::Names;
use crate::policy::selector::{Known, LabelSelector};
use crate::principal::{PodIdentity, Principal};

/// The subjects of a policy. Kinds that are `None` select everybody; the others must all agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subjects {
    pub(crate) agents: Names,
    pub(crate) pod_selector: Option<LabelSelector>,
    pub(crate) namespaces: Option<Names>,
    /// Each `namespace/name`.
    pub(crate) service_accounts: Option<Names>,
    pub(crate) containers: Option<Names>,
    pub(crate) groups: Option<Names>,
    pub(crate) claims: Box<[Claim]>,
}

/// Values of which a claim must have one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) name: Box<str>,
    pub(crate) values: Names,
}

impl Subjects {
    /// Everybody.
    pub(crate) fn everyone() -> Self {
        Self {
            agents: Names::Any,
            pod_selector: None,
            namespaces: None,
            service_accounts: None,
            containers: None,
            groups: None,
            claims: Box::default(),
        }
    }

    /// Whether the principal is one of them. Allocates nothing.
    pub(crate) fn select(&self, principal: &Principal) -> Known {
        if !self.agents.contains(&principal.agent) {
            return Known::No;
        }
        let pod = principal.pod.as_ref();
        let labels = |selector: &LabelSelector| {
            in_pod(pod, |_| match &principal.labels {
                Some(labels) => Known::of(selector.selects(labels)),
                None => Known::Unknown,
            })
        };
        let container = |names: &Names| {
            in_pod(pod, |_| match &principal.container {
                Some(container) => Known::of(names.contains(container)),
                None => Known::Unknown,
            })
        };
        let namespace = |names: &Names| in_pod(pod, |pod| Known::of(names.contains(&pod.namespace)));
        let account = |names: &Names| in_pod(pod, |pod| Known::of(has_account(names, pod)));
        let groups = |names: &Names| any_value(names, principal.groups.as_deref());
        let claims = self.claims.iter().map(|claim| claim.has(principal));
        let kinds = [
            self.pod_selector.as_ref().map(labels),
            self.namespaces.as_ref().map(namespace),
            self.service_accounts.as_ref().map(account),
            self.containers.as_ref().map(container),
            self.groups.as_ref().map(groups),
        ];
        kinds
            .into_iter()
            .flatten()
            .chain(claims)
            .fold(Known::Yes, Known::and)
    }

    /// Whether something is asked that no part of this program proves yet.
    pub(crate) fn need_identity(&self) -> bool {
        self.groups.is_some() || !self.claims.is_empty() || self.containers.is_some()
    }
}

impl Claim {
    fn has(&self, principal: &Principal) -> Known {
        match &principal.claims {
            None => Known::Unknown,
            Some(claims) => any_value(
                &self.values,
                Some(claims.get(&*self.name).map_or(&[], Vec::as_slice)),
            ),
        }
    }
}

/// A fact of a pod: a principal outside Kubernetes is known to have none.
fn in_pod(pod: Option<&PodIdentity>, fact: impl FnOnce(&PodIdentity) -> Known) -> Known {
    pod.map_or(Known::No, fact)
}

fn any_value(names: &Names, values: Option<&[String]>) -> Known {
    match values {
        None => Known::Unknown,
        Some(values) => Known::of(values.iter().any(|value| names.contains(value))),
    }
}

fn has_account(names: &Names, pod: &PodIdentity) -> bool {
    match names {
        Names::Any => true,
        Names::Only(names) => names.iter().any(|name| {
            name.split_once('/').is_some_and(|(namespace, account)| {
                namespace == pod.namespace && account == pod.service_account
            })
        }),
    }
}
