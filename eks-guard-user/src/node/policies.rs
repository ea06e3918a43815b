//! The policies of a node, from a folder or from the API server: taken as a whole, and again when they have changed. What has
//! mistakes is in force too: whom it is about is refused everything.

mod folder;
mod objects;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use eks_guard_core::policy::DocumentError;
use serde::{Deserialize, Serialize};

use crate::fleet::{Knowledge, Policy, Programmed, Verdict};
use crate::node::config::PolicySource;
use crate::node::kube::{AgentPolicy, Change};
use crate::node::policies::folder::Folder;
pub(crate) use crate::node::policies::objects::PolicyObject;
use crate::node::policies::objects::{Objects, Said};
use crate::policy;

/// Most files or objects.
const MAX_POLICIES: usize = 1_000;

/// The policies in force, and where they come from.
pub struct Policies {
    source: Source,
    in_force: PolicyTexts,
    /// The objects in force, by UID.
    judged: BTreeMap<String, Judged>,
}

/// An object in force.
struct Judged {
    generation: u64,
    verdict: Verdict,
}

enum Source {
    Folder(Folder),
    Cluster(Objects),
}

/// Policies as they were read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyTexts {
    /// Counts up; 0 before the first ones: nothing is allowed but discovery.
    pub generation: u64,
    /// Name and text of each file or object.
    pub texts: Vec<(String, String)>,
}

/// Why the newest policies are not in force as they should be.
#[derive(Debug, thiserror::Error)]
pub enum PoliciesError {
    /// It cannot be read.
    #[error("cannot read the policy folder {}", path.display())]
    Read {
        /// The folder, or a file of it.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// More than are read.
    #[error("there are more than {MAX_POLICIES} policies, or they are too long together: remove some")]
    TooMany,
    /// Mistakes in the policies, which are in force all the same.
    #[error("policies have mistakes")]
    Mistakes(#[source] PolicyErrors),
}

/// Every mistake, one a line.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct PolicyErrors(Vec<DocumentError>);

impl Policies {
    /// Those of a folder are not read yet: nothing is allowed but discovery. Those of the cluster are what was known last.
    #[must_use]
    pub fn of(source: &PolicySource, state: &Path) -> Self {
        let (source, in_force) = match source {
            PolicySource::Folder(path) => (Source::Folder(Folder::of(path)), PolicyTexts::default()),
            PolicySource::Cluster => {
                let (objects, texts) = Objects::recall(state);
                (Source::Cluster(objects), texts)
            }
        };
        let mut policies = Self {
            source,
            in_force,
            judged: BTreeMap::new(),
        };
        let mistakes = policies.mistakes();
        policies.judge(&mistakes);
        policies
    }

    fn mistakes(&self) -> Vec<DocumentError> {
        let snapshot = policy::compile_texts(&self.in_force.texts, self.in_force.generation);
        snapshot.mistakes().cloned().collect()
    }

    /// What becomes of each object, now that all of them are in force.
    fn judge(&mut self, mistakes: &[DocumentError]) {
        let mut of_object: BTreeMap<&str, Vec<DocumentError>> = BTreeMap::new();
        for mistake in mistakes {
            let mistakes = of_object.entry(&mistake.origin.file).or_default();
            mistakes.push(mistake.clone());
        }
        let judge = |object: &PolicyObject| {
            let mistakes = of_object.get(object.origin().as_str());
            let judged = Judged {
                generation: object.generation,
                verdict: object.verdict(mistakes.map_or(&[], Vec::as_slice)),
            };
            (object.uid.clone(), judged)
        };
        self.judged = self.objects().map(judge).collect();
    }

    /// What decides, replaced as a whole.
    #[must_use]
    pub fn in_force(&self) -> &PolicyTexts {
        &self.in_force
    }

    /// Generation of the policies in force; 0 before the first ones.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.in_force.generation
    }

    /// The API server tells of an object.
    pub fn take(&mut self, change: Change<AgentPolicy>) {
        if let Source::Cluster(objects) = &mut self.source {
            objects.take(change);
        }
    }

    /// Whether something was told that is not in force yet.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        match &self.source {
            Source::Folder(_) => false,
            Source::Cluster(objects) => objects.is_changed(),
        }
    }

    /// Takes in what has changed. Whether anything has.
    ///
    /// # Errors
    /// It cannot be read: the policies before stay in force. Or it has mistakes: it is in force all the same.
    pub fn reload(&mut self) -> Result<bool, PoliciesError> {
        let texts = match &mut self.source {
            Source::Folder(folder) => folder.read()?,
            Source::Cluster(objects) => objects.read()?,
        };
        let Some(texts) = texts else { return Ok(false) };
        if texts != self.in_force.texts || self.in_force.generation == 0 {
            let generation = self.in_force.generation + 1;
            self.in_force = PolicyTexts { generation, texts };
        }
        if let Source::Cluster(objects) = &mut self.source {
            objects.keep(self.in_force.generation);
        }
        let mistakes = self.mistakes();
        self.judge(&mistakes);
        if mistakes.is_empty() {
            Ok(true)
        } else {
            Err(PoliciesError::Mistakes(PolicyErrors(mistakes)))
        }
    }

    /// What is known of the objects, if the API server has told of something since this was asked last. Ask when what was told
    /// is in force.
    pub(crate) fn take_news(&mut self) -> Option<Knowledge> {
        let has_news = match &mut self.source {
            Source::Cluster(objects) => objects.take_news(),
            Source::Folder(_) => false,
        };
        if !has_news {
            return None;
        }
        let programmed = |(uid, judged): (&String, &Judged)| Programmed {
            uid: uid.clone(),
            generation: judged.generation,
        };
        let policy = |object: &PolicyObject| {
            let said = self.said(&object.name);
            Policy {
                name: object.name.clone(),
                uid: object.uid.clone(),
                generation: object.generation,
                version: said.version,
                status: said.status,
                verdict: self.verdict(object),
            }
        };
        Some(Knowledge {
            policies: self.objects().map(policy).collect(),
            programmed: self.judged.iter().map(programmed).collect(),
        })
    }

    fn said(&self, name: &str) -> Said {
        match &self.source {
            Source::Folder(_) => Said::default(),
            Source::Cluster(objects) => objects.said(name),
        }
    }

    /// What became of an object.
    fn verdict(&self, object: &PolicyObject) -> Verdict {
        let judged = self.judged.get(&object.uid);
        let judged = judged.filter(|judged| judged.generation == object.generation);
        judged.map_or(Verdict::TooMany, |judged| judged.verdict.clone())
    }

    /// The objects in force; none where policies are files.
    pub(crate) fn objects(&self) -> impl Iterator<Item = &PolicyObject> {
        let objects = match &self.source {
            Source::Folder(_) => None,
            Source::Cluster(objects) => Some(objects),
        };
        objects.into_iter().flat_map(Objects::all)
    }

    /// What is wrong beside mistakes.
    pub(crate) fn problems(&self) -> impl Iterator<Item = String> {
        let objects = match &self.source {
            Source::Folder(_) => None,
            Source::Cluster(objects) => Some(objects),
        };
        objects.into_iter().flat_map(Objects::problems)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;
    use crate::node::kube::Metadata;

    const POLICY: &str = "apiVersion: eks-guard.dev/v1alpha1\nkind: AgentPolicy\nmetadata: {name: a}\nspec:\n  subjects: {agents: [shop]}\n  rules: [{name: r, effect: allow, verbs: [get], apiGroups: [''], resources: [pods], namespaces: [shop]}]\n";

    #[test]
    fn policies_are_in_force_with_their_mistakes_and_stay_while_they_cannot_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let source = |path: &Path| PolicySource::Folder(path.to_owned());
        let mut policies = Policies::of(&source(folder.path()), folder.path());
        assert_eq!(policies.generation(), 0);
        fs::write(folder.path().join("a.yaml"), POLICY).unwrap();
        fs::write(folder.path().join("notes.txt"), "no policy").unwrap();
        assert!(policies.reload().unwrap());
        assert_eq!(policies.generation(), 1);
        assert!(!policies.reload().unwrap(), "nothing has changed");
        fs::write(folder.path().join("b.yaml"), "kind: [").unwrap();
        let error = policies.reload().unwrap_err();
        let error = crate::telemetry::chain(&error);
        assert!(error.contains("b.yaml:"), "{error}");
        assert_eq!(policies.generation(), 2, "what has mistakes is in force");
        assert!(!policies.reload().unwrap(), "and is said once");
        fs::remove_file(folder.path().join("b.yaml")).unwrap();
        assert!(policies.reload().unwrap());
        assert_eq!(policies.generation(), 3);
        fs::write(folder.path().join("c.yaml"), [0xff, 0xfe]).unwrap();
        assert!(matches!(policies.reload(), Err(PoliciesError::Read { .. })));
        assert_eq!(policies.generation(), 3);
        let mut missing = Policies::of(&source(Path::new("/no/such/folder")), folder.path());
        assert!(matches!(missing.reload(), Err(PoliciesError::Read { .. })));
    }

    fn object(name: &str, generation: u64, verb: &str) -> AgentPolicy {
        AgentPolicy {
            metadata: Metadata {
                name: name.to_owned(),
                uid: format!("u-{name}"),
                generation,
                ..Metadata::default()
            },
            spec: json!({
                "subjects": {"agents": ["shop"]},
                "mode": "Enforce",
                "rules": [
                    {"name": "first", "effect": "allow", "verbs": ["get"], "nonResourceURLs": ["/metrics"]},
                    {"name": "second", "effect": "allow", "verbs": [verb], "apiGroups": [""],
                     "resources": ["pods"], "namespaces": ["shop"]},
                ],
            }),
            status: json!({"of": generation}),
        }
    }

    #[test]
    fn objects_are_in_force_as_they_are_told_and_known_to_the_next_start() {
        let state = tempfile::tempdir().unwrap();
        let start = || Policies::of(&PolicySource::Cluster, state.path());
        let problems = |policies: &Policies| policies.problems().collect::<Vec<_>>();
        let mut policies = start();
        assert_eq!((policies.generation(), policies.is_changed()), (0, false));
        assert!(problems(&policies)[0].contains("agents may do nothing yet"));
        policies.take(Change::Listed(vec![object("a", 1, "get")]));
        assert!(policies.is_changed() && policies.reload().unwrap());
        assert_eq!((policies.generation(), problems(&policies).len()), (1, 0));
        // A status is no change of what decides.
        policies.take(Change::Set(object("a", 1, "get")));
        assert!(!policies.is_changed() && !policies.reload().unwrap());
        policies.take(Change::Set(object("b", 1, "list")));
        assert!(policies.reload().unwrap());

        let mut next = start();
        assert_eq!(next.in_force(), policies.in_force());
        assert!(problems(&next)[0].contains("the 2 known last are in force"));
        // The same again is nothing new, and is known to be true now.
        next.take(Change::Listed(vec![
            object("b", 1, "list"),
            object("a", 1, "get"),
        ]));
        assert!(next.reload().unwrap());
        assert_eq!((next.generation(), problems(&next).len()), (2, 0));
        next.take(Change::Gone(object("a", 1, "get")));
        assert!(next.reload().unwrap());
        let names: Vec<&str> = next.objects().map(|object| object.name.as_str()).collect();
        assert_eq!((names, next.generation()), (vec!["b"], 3));
        next.take(Change::Listed(Vec::new()));
        assert!(next.reload().unwrap());
        assert_eq!(next.in_force().texts, []);
        assert_eq!(start().in_force(), next.in_force());
    }

    #[test]
    fn a_mistake_of_an_object_names_its_rule() {
        let state = tempfile::tempdir().unwrap();
        let mut policies = Policies::of(&PolicySource::Cluster, state.path());
        assert_eq!(policies.take_news(), None);
        policies.take(Change::Listed(vec![
            object("a", 1, "read"),
            object("b", 1, "get"),
        ]));
        let error = crate::telemetry::chain(&policies.reload().unwrap_err());
        assert!(
            error.contains("agentpolicies/a:") && error.contains("unknown verb"),
            "{error}"
        );
        assert_eq!(policies.generation(), 1, "what has mistakes is in force");
        let known = policies.take_news().unwrap();
        let [bad, good] = known.policies.as_slice() else {
            panic!("{known:?}");
        };
        assert_eq!((good.name.as_str(), &good.verdict), ("b", &Verdict::Accepted));
        let Verdict::Invalid(mistakes) = &bad.verdict else {
            panic!("{bad:?}");
        };
        assert_eq!(mistakes.told[0].rule.as_deref(), Some("second"));
        assert!(mistakes.told[0].message.contains("unknown verb"), "{mistakes:?}");
        assert_eq!(known.programmed.len(), 2);
    }

    #[test]
    fn a_status_is_news_but_nothing_that_decides() {
        let state = tempfile::tempdir().unwrap();
        let mut policies = Policies::of(&PolicySource::Cluster, state.path());
        policies.take(Change::Listed(vec![object("a", 1, "get")]));
        policies.reload().unwrap();
        assert_eq!(policies.take_news().unwrap().policies[0].status["of"], 1);
        assert_eq!(policies.take_news(), None, "it is told once");
        let mut written = object("a", 1, "get");
        written.metadata.resource_version = "8".to_owned();
        written.status = json!({"nodes": "1/1"});
        policies.take(Change::Set(written.clone()));
        assert!(!policies.is_changed());
        let known = policies.take_news().unwrap();
        assert_eq!(
            (known.policies[0].version.as_str(), &known.policies[0].status),
            ("8", &written.status)
        );
    }

    #[test]
    fn what_nodes_do_not_take_is_not_in_force_and_it_is_said() {
        let state = tempfile::tempdir().unwrap();
        let mut policies = Policies::of(&PolicySource::Cluster, state.path());
        policies.take(Change::Listed(vec![object("first", 1, "get")]));
        policies.reload().unwrap();
        let many = || {
            let more = (0..MAX_POLICIES).map(|number| object(&format!("p{number}"), 1, "get"));
            more.chain([object("first", 1, "get")]).collect()
        };
        policies.take(Change::Listed(many()));
        assert!(matches!(policies.reload(), Err(PoliciesError::TooMany)));
        let known = policies.take_news().unwrap();
        assert_eq!(known.programmed.len(), 1);
        let left = known
            .policies
            .iter()
            .filter(|policy| policy.verdict == Verdict::TooMany);
        assert_eq!(left.count(), MAX_POLICIES);
        assert_eq!(
            known.policies[0].verdict,
            Verdict::Accepted,
            "what was in force before stays"
        );
        let mut next = Policies::of(&PolicySource::Cluster, state.path());
        next.take(Change::Listed(many()));
        assert!(matches!(next.reload(), Err(PoliciesError::TooMany)));
        assert_eq!(next.take_news(), Some(known), "after a start, too");
    }

    #[test]
    fn what_was_kept_and_is_not_understood_allows_nothing() {
        let state = tempfile::tempdir().unwrap();
        let file = state.path().join("policies.json");
        for text in [
            "",
            "{",
            "{}",
            r#"{"generation": 3, "objects": [{"name": "a"}]}"#,
            "[]",
        ] {
            fs::write(&file, text).unwrap();
            let policies = Policies::of(&PolicySource::Cluster, state.path());
            assert_eq!(*policies.in_force(), PolicyTexts::default(), "{text}");
            assert!(policies.problems().count() == 2, "{text}");
        }
    }
}
