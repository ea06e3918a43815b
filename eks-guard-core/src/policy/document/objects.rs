//! Which kinds the objects of a rule may have, as far as the tables of Kubernetes' own kinds say it.

use crate::body::protobuf::Shape;
use crate::policy::condition::Schema;
use crate::policy::document::{Effect, Names, Part, ResourceScope, RuleScope};
use crate::policy::known::KnownResource;

/// Parts of objects that are objects of a kind of their own.
const PARTS: [(&str, &str, &str); 4] = [
    ("binding", "", "binding"),
    ("eviction", "policy", "eviction"),
    ("scale", "autoscaling", "scale"),
    ("token", "authentication.k8s.io", "tokenrequest"),
];

/// What the conditions of a rule can read of objects.
pub(super) fn schema(effect: Effect, scope: &RuleScope) -> Schema {
    let RuleScope::Resources(scope) = scope else {
        return Schema::default();
    };
    Schema {
        object: object(effect, scope),
        old_object: together(
            scope
                .resources
                .iter()
                .map(|pattern| whole(&scope.groups, pattern.resource.as_deref())),
        ),
    }
}

/// `object` may be a part: the one that the rule names, and any of them in a rule that restricts.
fn object(effect: Effect, scope: &ResourceScope) -> Option<Vec<Shape>> {
    let parts = PARTS
        .iter()
        .flat_map(|(_, group, kind)| Shape::of_kind(group, kind));
    let parts: Vec<Shape> = parts.collect();
    together(scope.resources.iter().map(|pattern| {
        let whole = whole(&scope.groups, pattern.resource.as_deref())?;
        match (&pattern.part, effect) {
            (Part::Object, Effect::Allow) => Some(whole),
            (Part::Object | Part::Every, _) => Some([whole, parts.clone()].concat()),
            (Part::Named(part), _) => match PARTS.iter().find(|row| *row.0 == **part) {
                Some((_, group, kind)) => Some(Shape::of_kind(group, kind)),
                None => Some(whole),
            },
        }
    }))
}

/// The kinds of whole objects, in each version; none when one of them is not known.
fn whole(groups: &Names, resource: Option<&str>) -> Option<Vec<Shape>> {
    let Names::Only(groups) = groups else { return None };
    let resource = resource?;
    together(
        groups
            .iter()
            .map(|group| match KnownResource::find(group, resource) {
                Some(known) => {
                    let shapes = Shape::of_kind(group, known.aliases().next()?);
                    (!shapes.is_empty()).then_some(shapes)
                }
                // A group of Kubernetes' own has no other resources, any other group has kinds that are not known.
                None => KnownResource::owns_group(group).then(Vec::new),
            }),
    )
}

fn together(kinds: impl Iterator<Item = Option<Vec<Shape>>>) -> Option<Vec<Shape>> {
    let all: Option<Vec<Vec<Shape>>> = kinds.collect();
    all.map(|all| all.concat())
}
