//! Rules on documents: those people look for are there, their links lead somewhere, nothing names one machine.

use crate::tidy::Finding;
use crate::tidy::text::{TextFile, Workspace};

const WANTED: [&str; 9] = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "docs/life-of-a-request.md",
    "docs/threat-model.md",
];

/// Folders of the machines the project is written on; in two parts, or this file would be found.
const MACHINE: [&str; 3] = [
    concat!("/wo", "rk/shared"),
    concat!("/wo", "rk/main"),
    concat!("/wo", "rk/wt"),
];
/// A home that code has to know and documents have not.
const HOME: &str = concat!("/ro", "ot/");

pub(super) fn are_there(workspace: &Workspace) -> Vec<Finding> {
    let there = |path: &str| {
        workspace
            .files
            .iter()
            .any(|file| file.path == path && !file.text.trim().is_empty())
    };
    WANTED
        .iter()
        .filter(|path| !there(path))
        .map(|path| Finding::stop(format!("{path} is missing")))
        .collect()
}

pub(super) fn links_lead_somewhere(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in workspace.files.iter().filter(|file| file.path.ends_with(".md")) {
        let folder = workspace.root.join(&file.path);
        let folder = folder.parent().unwrap_or(&workspace.root);
        for target in links(&file.text) {
            if !folder.join(target).exists() {
                findings.push(Finding::stop(format!(
                    "{}: the link to {target} leads nowhere",
                    file.path
                )));
            }
        }
    }
    findings
}

pub(super) fn no_machine_paths(workspace: &Workspace) -> Vec<Finding> {
    let names = |file: &&TextFile| {
        let text = &file.text;
        MACHINE.iter().any(|path| text.contains(path)) || (!file.path.ends_with(".rs") && text.contains(HOME))
    };
    let found = workspace.files.iter().filter(names);
    found
        .map(|file| Finding::stop(format!("{} names a path of one machine", file.path)))
        .collect()
}

/// The document whose every promise has a test.
const PROMISES: &str = "docs/threat-model.md";
/// Words of a test's name at least; what has fewer may be an option, or a file.
const WORDS: usize = 4;

/// A promise whose test was renamed, or is gone, is none.
pub(super) fn named_tests_exist(workspace: &Workspace) -> Vec<Finding> {
    let documents = workspace.files.iter().filter(|file| file.path == PROMISES);
    let named = documents.flat_map(|document| code_spans(&document.text).filter_map(Named::read));
    named
        .filter(|named| !workspace.sources().any(|file| named.is_in(file)))
        .map(|named| {
            Finding::stop(format!(
                "{PROMISES} names a test that does not exist: {}",
                named.text()
            ))
        })
        .collect()
}

/// A test, or a module of tests, that a document names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named<'a> {
    /// `some::module::tests::does_this_and_that`.
    Function(&'a str),
    /// `some::module::tests` or `some_module::*`: the part that is a file.
    Module(&'a str),
}

impl<'a> Named<'a> {
    fn read(span: &'a str) -> Option<Self> {
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_:*".contains(c);
        if !span.chars().all(is_name) {
            return None;
        }
        let (path, last) = span.rsplit_once("::").unwrap_or(("", span));
        match last {
            "*" | "tests" => (!path.is_empty()).then_some(Self::Module(path)),
            _ if last.split('_').count() >= WORDS => Some(Self::Function(last)),
            _ => None,
        }
    }

    fn is_in(self, file: &TextFile) -> bool {
        match self {
            Self::Function(name) => file.text.contains(&format!("fn {name}(")),
            Self::Module(path) => {
                let path = path.replace("::", "/");
                file.path.ends_with(&format!("/{path}.rs"))
            }
        }
    }

    fn text(self) -> &'a str {
        match self {
            Self::Function(text) | Self::Module(text) => text,
        }
    }
}

/// What stands between backticks, on one line.
fn code_spans(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// Targets of `[text](target)` that are files.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets
        .map(|target| target.split('#').next().unwrap_or_default())
        .filter(|path| !path.is_empty() && !path.contains(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_tests_are_told_from_other_code() {
        let named = |text| Named::read(text);
        assert_eq!(
            named("a::tests::does_this_and_that"),
            Some(Named::Function("does_this_and_that"))
        );
        assert_eq!(named("request_info::tests"), Some(Named::Module("request_info")));
        assert_eq!(named("secrets::*"), Some(Named::Module("secrets")));
        for other in [
            "NET_ADMIN",
            "unprivileged_bpf_disabled",
            "~/.bashrc",
            "ip addr add",
            "eks-guard verify",
            "tests",
        ] {
            assert_eq!(named(other), None, "{other}");
        }
        let spans: Vec<&str> = code_spans("a `b` c `d`\n`e`").collect();
        assert_eq!(spans, ["b", "d", "e"]);
        let file = |path: &str, text: &str| TextFile {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        assert!(Named::Function("does_this_and_that").is_in(&file("x.rs", "fn does_this_and_that() {")));
        assert!(!Named::Function("does_this_and").is_in(&file("x.rs", "fn does_this_and_that() {")));
        assert!(Named::Module("run::user").is_in(&file("a/src/run/user.rs", "")));
        assert!(!Named::Module("run::user").is_in(&file("a/src/user.rs", "")));
    }

    #[test]
    fn reads_links_to_files() {
        let text = "[a](docs/a.md) [b](https://b.test) [c](#c) [d](d.md#part)";
        assert_eq!(links(text).collect::<Vec<_>>(), ["docs/a.md", "d.md"]);
    }
}
