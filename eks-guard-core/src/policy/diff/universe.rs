//! The requests that two sets of policies can tell apart: one of every class. A class is named by what rules name, or by `*`
//! for everything that no rule names.

use std::collections::BTreeSet;

use crate::policy::document::{
    AgentPolicy, Names, NamespaceScope, Part, PathPattern, ResourceScope, RuleScope,
};
use crate::policy::known::{KnownResource, Scope};
use crate::policy::operation::{PATH_VERBS, RESOURCE_VERBS, STREAMS};
use crate::policy::protection::allowed_to_everyone;
use crate::request_info::{RequestInfo, RequestScope, ResourceInfo, Verb};

/// What stands for everything that no rule names. A name that no rule names is as good as any other.
const OTHER: &str = "*";
const OTHER_NAME: &str = "eks-guard-any-other";
const OTHER_GROUP: &str = "any-other.example";
/// What stands as the group of paths; no group is called so.
pub(super) const PATHS: &str = "(paths)";

/// A value that rules can tell apart from others: how it is written, and what is asked about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Atom {
    pub(super) label: String,
    value: String,
}

impl Atom {
    fn named(name: &str) -> Self {
        Self {
            label: name.to_owned(),
            value: name.to_owned(),
        }
    }

    fn other(value: &str) -> Self {
        Self {
            label: OTHER.to_owned(),
            value: value.to_owned(),
        }
    }
}

/// One resource or subresource, or one path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// As reports write it; empty for paths.
    pub(super) group: String,
    /// `pods/log`, or a path; a path that ends in `*` is what begins so, apart from what is named.
    pub(super) resource: String,
    group_value: String,
    resource_value: String,
    subresource: String,
    path: Option<String>,
}

/// Everything that rules name.
pub(super) struct Universe {
    places: BTreeSet<Place>,
    namespaces: Vec<Atom>,
    names: Vec<Atom>,
}

impl Universe {
    pub(super) fn of(policies: &[&AgentPolicy]) -> Self {
        let scopes: Vec<&RuleScope> = policies
            .iter()
            .flat_map(|policy| policy.rules.iter().map(|rule| &rule.scope))
            .collect();
        let resources: Vec<&ResourceScope> = scopes
            .iter()
            .filter_map(|scope| match scope {
                RuleScope::Resources(scope) => Some(scope),
                RuleScope::Paths(_) => None,
            })
            .collect();
        let named = |names: &Names| -> Vec<String> {
            match names {
                Names::Any => Vec::new(),
                Names::Only(names) => names.iter().map(|name| name.to_string()).collect(),
            }
        };
        let namespaces: BTreeSet<String> = resources
            .iter()
            .flat_map(|scope| match &scope.namespaces {
                NamespaceScope::Named(names) => named(names),
                NamespaceScope::Selected(_) => Vec::new(),
            })
            .collect();
        let names: BTreeSet<String> = resources
            .iter()
            .flat_map(|scope| named(&scope.resource_names))
            .collect();
        let atoms = |names: BTreeSet<String>| {
            let mut atoms: Vec<Atom> = names.iter().map(|name| Atom::named(name)).collect();
            atoms.push(Atom::other(OTHER_NAME));
            atoms
        };
        let mut places = objects(&resources);
        places.extend(paths(&scopes));
        Self {
            places,
            namespaces: atoms(namespaces),
            names: atoms(names),
        }
    }

    pub(super) fn places(&self) -> impl Iterator<Item = Place> {
        self.places.iter().cloned()
    }

    /// Every namespace that is asked about.
    pub(super) fn namespaces(&self) -> Vec<String> {
        self.namespaces
            .iter()
            .chain(&self.names)
            .map(|atom| atom.value.clone())
            .collect()
    }

    pub(super) fn groups(&self) -> impl Iterator<Item = String> {
        let groups: BTreeSet<&str> = self.places.iter().map(|place| place.group.as_str()).collect();
        groups
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
            .into_iter()
    }

    pub(super) fn verbs(&self, place: &Place) -> &'static [Verb] {
        if place.path.is_some() {
            &PATH_VERBS
        } else {
            &RESOURCE_VERBS
        }
    }

    /// The namespaces that a request with this verb can be for; empty text for none, or for all of them at once.
    pub(super) fn namespaces_of(&self, place: &Place, verb: Verb) -> Vec<Atom> {
        let nowhere = Atom::named("");
        if place.path.is_some() || place.is_namespace() {
            return vec![nowhere];
        }
        match KnownResource::find(&place.group_value, &place.resource_value).map(|known| known.scope) {
            Some(Scope::Cluster) => vec![nowhere],
            Some(Scope::Namespaced) if !is_collection(verb) => self.namespaces.clone(),
            Some(Scope::Namespaced) | None => self.namespaces.iter().cloned().chain([nowhere]).collect(),
        }
    }

    /// The names that a request with this verb can have; empty text for none.
    pub(super) fn names_of(&self, place: &Place, verb: Verb) -> Vec<Atom> {
        let none = Atom::named("");
        if place.path.is_some() {
            return vec![none];
        }
        let names = if place.is_namespace() {
            let names: BTreeSet<Atom> = self.names.iter().chain(&self.namespaces).cloned().collect();
            names.into_iter().collect()
        } else {
            self.names.clone()
        };
        match verb {
            Verb::List | Verb::Watch => names.into_iter().chain([none]).collect(),
            Verb::Create if place.subresource.is_empty() => names.into_iter().chain([none]).collect(),
            Verb::DeleteCollection => vec![none],
            Verb::Get
            | Verb::Create
            | Verb::Update
            | Verb::Patch
            | Verb::Delete
            | Verb::Post
            | Verb::Put
            | Verb::Connect => names,
        }
    }

    /// The request; none where there is no such request.
    pub(super) fn request(
        &self,
        place: &Place,
        verb: Verb,
        namespace: &Atom,
        name: &Atom,
    ) -> Option<RequestInfo> {
        if let Some(path) = &place.path {
            return Some(RequestInfo::new(verb, RequestScope::NonResource(path)));
        }
        let is_stream = STREAMS.contains(&place.subresource.as_str());
        let collection_of_parts = is_collection(verb) && !place.subresource.is_empty();
        if is_stream != (verb == Verb::Connect) || collection_of_parts {
            return None;
        }
        let scope = RequestScope::Resource(ResourceInfo {
            group: &place.group_value,
            version: "v1",
            namespace: &namespace.value,
            resource: &place.resource_value,
            subresource: &place.subresource,
            name: &name.value,
        });
        Some(RequestInfo::new(verb, scope))
    }

    /// `*` for every object of the group, `*/*` for every subresource.
    pub(super) fn condense_resources(&self, group: &str, set: &BTreeSet<String>) -> BTreeSet<String> {
        let of_group = self.places.iter().filter(|place| place.group == group);
        let (objects, parts): (BTreeSet<&Place>, BTreeSet<&Place>) =
            of_group.partition(|place| place.subresource.is_empty());
        let mut condensed = BTreeSet::new();
        for (places, star) in [(objects, "*"), (parts, "*/*")] {
            let (inside, outside): (Vec<&Place>, Vec<&Place>) = places
                .into_iter()
                .partition(|place| set.contains(&place.resource));
            if outside.is_empty() && !inside.is_empty() && inside.iter().all(|place| place.path.is_none()) {
                condensed.insert(star.to_owned());
            } else {
                // A `*` among them is what no rule names, so what is named and does not belong to it is said to be left out.
                let has_star = inside
                    .iter()
                    .any(|place| place.resource.contains('*') && place.path.is_none());
                condensed.extend(inside.into_iter().map(|place| place.resource.clone()));
                if has_star {
                    condensed.extend(outside.into_iter().map(|place| format!("!{}", place.resource)));
                }
            }
        }
        condensed
    }
}

impl Place {
    fn is_namespace(&self) -> bool {
        self.group_value.is_empty() && self.resource_value == "namespaces"
    }

    fn object(group: &Atom, resource: &Atom, part: &Atom) -> Self {
        let slash = if part.label.is_empty() { "" } else { "/" };
        Self {
            group: group.label.clone(),
            resource: format!("{}{slash}{}", resource.label, part.label),
            group_value: group.value.clone(),
            resource_value: resource.value.clone(),
            subresource: part.value.clone(),
            path: None,
        }
    }

    /// A request for it, for asking which rules are about it at all.
    pub(super) fn any_request(&self) -> RequestInfo {
        let scope = match &self.path {
            Some(path) => RequestScope::NonResource(path),
            None => RequestScope::Resource(ResourceInfo {
                group: &self.group_value,
                version: "v1",
                resource: &self.resource_value,
                subresource: &self.subresource,
                ..ResourceInfo::default()
            }),
        };
        RequestInfo::new(Verb::Get, scope)
    }
}

fn is_collection(verb: Verb) -> bool {
    matches!(verb, Verb::List | Verb::Watch | Verb::DeleteCollection)
}

/// Every resource that kube-apiserver serves, every one that rules name, and one that they do not, in each group.
fn objects(scopes: &[&ResourceScope]) -> BTreeSet<Place> {
    let mut groups: BTreeSet<Atom> = KnownResource::all()
        .map(|known| Atom::named(known.group))
        .collect();
    for scope in scopes {
        if let Names::Only(names) = &scope.groups {
            groups.extend(names.iter().map(|name| Atom::named(name)));
        }
    }
    groups.insert(Atom::other(OTHER_GROUP));
    let mut places = BTreeSet::new();
    for group in &groups {
        let about: Vec<&&ResourceScope> = scopes
            .iter()
            .filter(|scope| scope.groups.contains(&group.value))
            .collect();
        let patterns = || about.iter().flat_map(|scope| scope.resources.iter());
        let named = patterns().filter_map(|pattern| pattern.resource.as_deref());
        let resources: BTreeSet<Atom> = if KnownResource::owns_group(&group.value) {
            KnownResource::all()
                .filter(|known| known.group == group.value)
                .map(|known| Atom::named(known.resource))
                .collect()
        } else {
            named.map(Atom::named).chain([Atom::other(OTHER_NAME)]).collect()
        };
        for resource in &resources {
            let of_it = patterns().filter(|pattern| {
                pattern
                    .resource
                    .as_deref()
                    .is_none_or(|named| named == resource.value)
            });
            let mut parts: BTreeSet<Atom> = of_it
                .filter_map(|pattern| match &pattern.part {
                    Part::Named(part) => Some(Atom::named(part)),
                    Part::Object | Part::Every => None,
                })
                .collect();
            parts.extend(special_parts(&group.value, &resource.value).map(Atom::named));
            parts.extend([Atom::named(""), Atom::other(OTHER_NAME)]);
            places.extend(parts.iter().map(|part| Place::object(group, resource, part)));
        }
    }
    places
}

/// Subresources that are decided on in a way of their own.
fn special_parts(group: &str, resource: &str) -> impl Iterator<Item = &'static str> {
    let parts: &[&str] = match (group, resource) {
        ("", "pods") => &["attach", "binding", "eviction", "exec", "portforward", "proxy"],
        ("", "services" | "nodes") => &["proxy"],
        ("", "serviceaccounts") => &["token"],
        ("certificates.k8s.io", _) => &["approval", "status"],
        (_, _) => &[],
    };
    parts.iter().copied()
}

/// Every path that rules name, and of every beginning one that no rule names.
fn paths(scopes: &[&RuleScope]) -> BTreeSet<Place> {
    let builtin: Vec<RuleScope> = allowed_to_everyone()
        .into_iter()
        .map(|(_, clause)| clause.scope)
        .collect();
    let patterns = scopes
        .iter()
        .copied()
        .chain(&builtin)
        .filter_map(|scope| match scope {
            RuleScope::Paths(patterns) => Some(patterns),
            RuleScope::Resources(_) => None,
        });
    let place = |label: String, path: String| Place {
        group: PATHS.to_owned(),
        resource: label,
        group_value: String::new(),
        resource_value: String::new(),
        subresource: String::new(),
        path: Some(path),
    };
    let mut places = BTreeSet::from([place("/*".to_owned(), format!("/{OTHER_NAME}"))]);
    for pattern in patterns.flatten() {
        match pattern {
            PathPattern::Exact(path) => {
                places.insert(place(path.to_string(), path.to_string()));
            }
            PathPattern::Prefix(path) if path.starts_with('/') => {
                places.insert(place(path.to_string(), path.to_string()));
                places.insert(place(format!("{path}*"), format!("{path}{OTHER_NAME}")));
            }
            PathPattern::Prefix(_) => {}
        }
    }
    places
}
