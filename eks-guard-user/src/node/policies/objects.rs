//! Policies as objects of the cluster: what the API server tells of them, and what is kept of that on disk, so that a start
//! while it is away goes on with the last ones known.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use eks_guard_core::policy::{API_VERSION, DocumentError, KIND};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::fleet::{Mistake, Mistakes, Verdict};
use crate::node::kube::{AgentPolicy, Change};
use crate::node::policies::{MAX_POLICIES, PoliciesError, PolicyTexts};
use crate::node::state::{self, StateError};

/// The file in the state folder.
const KEPT: &str = "policies.json";
/// Bytes of all policies together: what a proxy can be told in one message is four times that.
const MAX_BYTES: usize = 16 << 20;
/// The field whose entries stand on lines of their own, and what such a line begins with; no other line does.
const RULES: &str = "rules";
const RULE: &str = "    - ";

/// One object, as far as it decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PolicyObject {
    /// Its name.
    pub(crate) name: String,
    /// Never used twice.
    pub(crate) uid: String,
    /// Counts the changes of what it says.
    pub(crate) generation: u64,
    spec: Value,
}

/// What the file holds.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// Generation of the policies together.
    generation: u64,
    objects: Vec<PolicyObject>,
}

/// Every object that is known.
pub(super) struct Objects {
    file: PathBuf,
    by_name: BTreeMap<String, PolicyObject>,
    /// Whether the API server has told of them since the start.
    is_told: bool,
    is_changed: bool,
    /// Why the disk has others than are in force.
    unkept: Option<String>,
    /// What does not decide, by the name of the object.
    said: BTreeMap<String, Said>,
    /// Whether something was told since somebody last asked.
    is_news: bool,
}

/// What the API server says of an object beside what decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// Version of the object.
    pub(super) version: String,
    /// What was said to have become of it.
    pub(super) status: Value,
}

fn apart(object: AgentPolicy) -> (PolicyObject, Said) {
    let AgentPolicy {
        metadata,
        spec,
        status,
    } = object;
    let said = Said {
        version: metadata.resource_version,
        status,
    };
    let object = PolicyObject {
        name: metadata.name,
        uid: metadata.uid,
        generation: metadata.generation,
        spec,
    };
    (object, said)
}

impl PolicyObject {
    /// What its mistakes are said to be in.
    pub(crate) fn origin(&self) -> String {
        format!("agentpolicies/{}", self.name)
    }

    /// The document, each rule on a line of its own.
    fn text(&self) -> String {
        let name = Value::from(self.name.as_str());
        let mut text = format!("apiVersion: {API_VERSION}\nkind: {KIND}\nmetadata: {{\"name\": {name}}}\n");
        let Value::Object(fields) = &self.spec else {
            return text + &format!("spec: {}\n", self.spec);
        };
        text += "spec:\n";
        for (key, value) in fields {
            let rules = value.as_array().filter(|rules| key == RULES && !rules.is_empty());
            let key = Value::from(key.as_str());
            let written = match rules {
                None => writeln!(text, "  {key}: {value}"),
                Some(rules) => writeln!(text, "  {key}:")
                    .and_then(|()| rules.iter().try_for_each(|rule| writeln!(text, "{RULE}{rule}"))),
            };
            written.expect("a String takes everything");
        }
        text
    }

    /// What becomes of it with these mistakes in its document.
    pub(super) fn verdict(&self, mistakes: &[DocumentError]) -> Verdict {
        if mistakes.is_empty() {
            return Verdict::Accepted;
        }
        let text = self.text();
        let lines: Vec<&str> = text.lines().collect();
        let told = mistakes.iter().map(|mistake| Mistake {
            rule: rule_on(&lines, mistake.origin.line),
            message: mistake.message.clone(),
        });
        Verdict::Invalid(Mistakes::of(told))
    }
}

/// Name of the rule that stands on a line of a document.
fn rule_on(lines: &[&str], line: u64) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        name: String,
    }
    let before = usize::try_from(line).ok()?.checked_sub(1)?;
    let rule = lines.get(before)?.strip_prefix(RULE)?;
    let rule: Named = serde_json::from_str(rule).ok()?;
    Some(rule.name)
}

impl Objects {
    /// Those that were known last, with the generation that they had together. What was kept and cannot be read, or not be
    /// what was written, counts as nothing: then nothing is allowed until the API server has told.
    pub(super) fn recall(folder: &Path) -> (Self, PolicyTexts) {
        let file = folder.join(KEPT);
        let mut objects = Self {
            file,
            by_name: BTreeMap::new(),
            is_told: false,
            is_changed: false,
            unkept: None,
            said: BTreeMap::new(),
            is_news: false,
        };
        let kept = match state::recall::<Kept>(&objects.file) {
            Ok(kept) => kept.unwrap_or_default(),
            Err(error) => {
                objects.note(&error);
                Kept::default()
            }
        };
        objects.by_name = by_name(kept.objects);
        let texts = PolicyTexts {
            generation: kept.generation,
            texts: objects.texts(),
        };
        (objects, texts)
    }

    pub(super) fn take(&mut self, change: Change<AgentPolicy>) {
        self.is_news = true;
        match change {
            Change::Listed(all) => {
                self.said.clear();
                let all = all.into_iter().map(apart).map(|(object, said)| {
                    self.said.insert(object.name.clone(), said);
                    object
                });
                let all = by_name(all);
                self.is_changed |= !self.is_told || all != self.by_name;
                self.is_told = true;
                self.by_name = all;
            }
            Change::Set(object) => {
                let (object, said) = apart(object);
                self.said.insert(object.name.clone(), said);
                let old = self.by_name.insert(object.name.clone(), object.clone());
                self.is_changed |= old.as_ref() != Some(&object);
            }
            Change::Gone(object) => {
                self.said.remove(&object.metadata.name);
                self.is_changed |= self.by_name.remove(&object.metadata.name).is_some();
            }
        }
    }

    /// Whether the API server has told of something since this was asked last.
    pub(super) fn take_news(&mut self) -> bool {
        self.is_told && std::mem::take(&mut self.is_news)
    }

    /// What the API server says of an object beside what decides.
    pub(super) fn said(&self, name: &str) -> Said {
        self.said.get(name).cloned().unwrap_or_default()
    }

    pub(super) fn is_changed(&self) -> bool {
        self.is_changed
    }

    /// The text of each, if anything is another than it was.
    pub(super) fn read(&mut self) -> Result<Option<Vec<(String, String)>>, PoliciesError> {
        if !std::mem::take(&mut self.is_changed) {
            return Ok(None);
        }
        let texts = self.texts();
        let bytes: usize = texts.iter().map(|(name, text)| name.len() + text.len()).sum();
        if texts.len() > MAX_POLICIES || bytes > MAX_BYTES {
            return Err(PoliciesError::TooMany);
        }
        Ok(Some(texts))
    }

    /// Keeps them for the next start, under the generation that they have together.
    pub(super) fn keep(&mut self, generation: u64) {
        let objects = self.by_name.values().cloned().collect();
        match state::keep(&self.file, &Kept { generation, objects }) {
            Ok(()) => self.unkept = None,
            Err(error) => self.note(&error),
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &PolicyObject> {
        self.by_name.values()
    }

    pub(super) fn problems(&self) -> impl Iterator<Item = String> {
        let untold = (!self.is_told).then(|| match self.by_name.len() {
            0 => "the API server has not told of the policies: agents may do nothing yet".to_owned(),
            known => {
                format!("the API server has not told of the policies: the {known} known last are in force")
            }
        });
        untold.into_iter().chain(self.unkept.clone())
    }

    fn texts(&self) -> Vec<(String, String)> {
        let text = |object: &PolicyObject| (object.origin(), object.text());
        self.by_name.values().map(text).collect()
    }

    fn note(&mut self, error: &StateError) {
        let text = format!(
            "the policies are not kept for the next start: {}",
            crate::telemetry::chain(error)
        );
        tracing::error!("{text}");
        self.unkept = Some(text);
    }
}

fn by_name(objects: impl IntoIterator<Item = PolicyObject>) -> BTreeMap<String, PolicyObject> {
    let named = |object: PolicyObject| (object.name.clone(), object);
    objects.into_iter().map(named).collect()
}
