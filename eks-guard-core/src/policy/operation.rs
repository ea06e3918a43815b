//! What one request would do, in the terms rules are matched on: verbs, actions, and the objects within its reach.

use crate::policy::known::{KnownResource, Scope, is_created_by_put};
use crate::policy::selector::Namespaces;
use crate::principal::Labels;
use crate::request_info::{RequestInfo, RequestScope, ResourceInfo, Verb};

/// A set of Kubernetes verbs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct VerbSet(u16);

/// What requests do to objects; a request may do several of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ActionSet(u16);

/// Whether a patch is a server-side apply, which creates the object when there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PatchKind {
    /// The object must exist.
    Existing,
    /// Server-side apply.
    Apply,
}

/// How many namespaces or names a request reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent<'a> {
    /// None: the object is in no namespace.
    Nothing,
    /// Exactly this one.
    One(&'a str),
    /// Any number, or one that is not known yet.
    Many,
}

/// What a request is about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target<'a> {
    /// Objects of the API.
    Resource(ResourceTarget<'a>),
    /// A plain path.
    Path(&'a str),
}

/// The objects a request is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResourceTarget<'a> {
    pub(crate) group: &'a str,
    pub(crate) resource: &'a str,
    pub(crate) subresource: &'a str,
    pub(crate) namespace: Extent<'a>,
    /// Labels of the one namespace, when they are known.
    pub(crate) namespace_labels: Option<&'a Labels>,
    pub(crate) name: Extent<'a>,
}

/// One request, ready to be matched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operation<'a> {
    /// The verb of the request.
    pub(crate) verb: Verb,
    /// A verb that has to be allowed too, because the API server may do that instead.
    pub(crate) implied: Option<Verb>,
    /// Everything it does to the objects.
    pub(crate) actions: ActionSet,
    /// What it is about.
    pub(crate) target: Target<'a>,
}

impl VerbSet {
    /// Every verb there is.
    pub(crate) const ALL: Self = Self(u16::MAX);
    /// What `*` means in a rule that allows: a stream has to be named.
    pub(crate) const ALL_BUT_CONNECT: Self = Self::ALL.without(Verb::Connect);

    pub(crate) fn of(verbs: impl IntoIterator<Item = Verb>) -> Self {
        Self(verbs.into_iter().fold(0, |bits, verb| bits | Self::bit(verb)))
    }

    pub(crate) const fn contains(self, verb: Verb) -> bool {
        self.0 & Self::bit(verb) != 0
    }

    /// The same without this verb.
    pub(crate) const fn without(self, verb: Verb) -> Self {
        Self(self.0 & !Self::bit(verb))
    }

    pub(crate) fn bits(self) -> u64 {
        self.0.into()
    }

    const fn bit(verb: Verb) -> u16 {
        1 << match verb {
            Verb::Get => 0,
            Verb::List => 1,
            Verb::Watch => 2,
            Verb::Create => 3,
            Verb::Update => 4,
            Verb::Patch => 5,
            Verb::Delete => 6,
            Verb::DeleteCollection => 7,
            Verb::Post => 8,
            Verb::Put => 9,
            Verb::Connect => 10,
        }
    }
}

/// The verbs that resource rules may name.
pub const RESOURCE_VERBS: [Verb; 9] = [
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

/// Subresources that open a stream through the API server into a pod, service or node.
pub(crate) const STREAMS: [&str; 4] = ["exec", "attach", "portforward", "proxy"];

/// The verbs that rules on plain paths may name.
pub const PATH_VERBS: [Verb; 5] = [Verb::Get, Verb::Post, Verb::Put, Verb::Patch, Verb::Delete];

impl ActionSet {
    const READ: Self = Self(1);
    const ENUMERATE: Self = Self(1 << 1);
    const FOLLOW: Self = Self(1 << 2);
    const CREATE: Self = Self(1 << 3);
    const CHANGE: Self = Self(1 << 4);
    const REMOVE: Self = Self(1 << 5);
    const REMOVE_MANY: Self = Self(1 << 6);
    const CONNECT: Self = Self(1 << 7);

    const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(crate) fn bits(self) -> u64 {
        self.0.into()
    }

    /// The one action a verb stands for in a rule that restricts.
    const fn named_by(verb: Verb) -> Self {
        match verb {
            Verb::Get => Self::READ,
            Verb::List => Self::ENUMERATE,
            Verb::Watch => Self::FOLLOW,
            Verb::Create => Self::CREATE,
            Verb::Update | Verb::Patch => Self::CHANGE,
            Verb::Delete => Self::REMOVE,
            Verb::DeleteCollection => Self::REMOVE_MANY,
            Verb::Connect => Self::CONNECT,
            Verb::Post | Verb::Put => Self(0),
        }
    }

    /// What a rule with these verbs restricts.
    pub(crate) fn restricted_by(verbs: VerbSet) -> Self {
        RESOURCE_VERBS
            .into_iter()
            .filter(|verb| verbs.contains(*verb))
            .fold(Self::default(), |actions, verb| actions.and(Self::named_by(verb)))
    }

    /// What a request with this verb does: replies to writes carry the object, collections are objects one by one.
    const fn done_by(verb: Verb) -> Self {
        match verb {
            Verb::Get => Self::READ,
            Verb::List => Self::READ.and(Self::ENUMERATE),
            Verb::Watch => Self::READ.and(Self::ENUMERATE).and(Self::FOLLOW),
            Verb::Create => Self::CREATE,
            Verb::Update | Verb::Patch => Self::CHANGE.and(Self::READ),
            Verb::Delete => Self::REMOVE.and(Self::READ),
            Verb::DeleteCollection => Self::REMOVE
                .and(Self::REMOVE_MANY)
                .and(Self::READ)
                .and(Self::ENUMERATE),
            // Who is inside reads and changes whatever is there.
            Verb::Connect => Self::CONNECT.and(Self::READ).and(Self::CREATE).and(Self::CHANGE),
            Verb::Post | Verb::Put => Self(0),
        }
    }
}

impl<'a> Operation<'a> {
    /// `object_name` is the name in the URL, else the one in the body of a create, else empty.
    pub(crate) fn new(info: &'a RequestInfo, object_name: &'a str, patch: PatchKind) -> Self {
        match info.scope() {
            RequestScope::NonResource(path) => Self {
                verb: info.verb,
                implied: None,
                actions: ActionSet::default(),
                target: Target::Path(path),
            },
            RequestScope::Resource(resource) => Self::on_resource(info.verb, resource, object_name, patch),
        }
    }

    fn on_resource(verb: Verb, info: ResourceInfo<'a>, object_name: &'a str, patch: PatchKind) -> Self {
        let verb = if STREAMS.contains(&info.subresource) {
            Verb::Connect
        } else {
            verb
        };
        let implied = implied_verb(verb, info, patch);
        let mut actions = ActionSet::done_by(verb);
        if let Some(implied) = implied {
            actions = actions.and(ActionSet::done_by(implied));
        }
        // A POST to a subresource acts on an object that exists: an eviction removes it, a binding changes it.
        if verb == Verb::Create && !info.subresource.is_empty() {
            actions = actions.and(match info.subresource {
                "eviction" => ActionSet::REMOVE,
                _ => ActionSet::CHANGE.and(ActionSet::READ),
            });
        }
        let name = [object_name, info.name].into_iter().find(|name| !name.is_empty());
        let name = name.map_or(Extent::Many, Extent::One);
        let target = Target::Resource(ResourceTarget {
            group: info.group,
            resource: info.resource,
            subresource: info.subresource,
            namespace: namespace_extent(verb, info, name),
            namespace_labels: None,
            name,
        });
        Self {
            verb,
            implied,
            actions,
            target,
        }
    }

    /// The same, with what is known of the labels of its namespace.
    pub(crate) fn knowing(mut self, namespaces: &'a Namespaces) -> Self {
        if let Target::Resource(target) = &mut self.target
            && let Extent::One(namespace) = target.namespace
        {
            target.namespace_labels = namespaces.labels(namespace);
        }
        self
    }

    /// The operation once for each verb that has to be allowed.
    pub(crate) fn each_verb(self) -> impl Iterator<Item = Operation<'a>> {
        [Some(self.verb), self.implied]
            .into_iter()
            .flatten()
            .map(move |verb| Operation { verb, ..self })
    }
}

/// The second verb that kube-apiserver itself would authorize when the object is not there.
fn implied_verb(verb: Verb, info: ResourceInfo<'_>, patch: PatchKind) -> Option<Verb> {
    let creates = match verb {
        Verb::Patch => patch == PatchKind::Apply,
        Verb::Update => is_created_by_put(info.group, info.resource),
        Verb::Get
        | Verb::List
        | Verb::Watch
        | Verb::Create
        | Verb::Delete
        | Verb::DeleteCollection
        | Verb::Post
        | Verb::Put
        | Verb::Connect => false,
    };
    (creates && info.subresource.is_empty()).then_some(Verb::Create)
}

/// Which namespaces a request reaches. A Namespace object belongs to the namespace it names.
fn namespace_extent<'a>(verb: Verb, info: ResourceInfo<'a>, name: Extent<'a>) -> Extent<'a> {
    if !info.namespace.is_empty() {
        return Extent::One(info.namespace);
    }
    if info.group.is_empty() && info.resource == "namespaces" {
        return name;
    }
    match verb {
        Verb::List | Verb::Watch | Verb::DeleteCollection => {
            match KnownResource::find(info.group, info.resource) {
                Some(KnownResource {
                    scope: Scope::Cluster,
                    ..
                }) => Extent::Nothing,
                Some(KnownResource {
                    scope: Scope::Namespaced,
                    ..
                })
                | None => Extent::Many,
            }
        }
        Verb::Get
        | Verb::Create
        | Verb::Update
        | Verb::Patch
        | Verb::Delete
        | Verb::Post
        | Verb::Put
        | Verb::Connect => Extent::Nothing,
    }
}
