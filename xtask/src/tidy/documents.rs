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
    fn reads_links_to_files() {
        let text = "[a](docs/a.md) [b](https://b.test) [c](#c) [d](d.md#part)";
        assert_eq!(links(text).collect::<Vec<_>>(), ["docs/a.md", "d.md"]);
    }
}
