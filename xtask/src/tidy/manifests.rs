//! Rules on manifests: versions, lints and package facts stand once, in the root, and every member inherits them.

use crate::tidy::Finding;
use crate::tidy::text::{TextFile, Workspace};

const INHERITED: [&str; 5] = [
    "version.workspace = true",
    "edition.workspace = true",
    "rust-version.workspace = true",
    "license.workspace = true",
    "publish.workspace = true",
];

pub(super) fn members_inherit(workspace: &Workspace) -> Vec<Finding> {
    let member = |file: &&TextFile| file.path.ends_with("/Cargo.toml") && file.path.matches('/').count() == 1;
    workspace
        .files
        .iter()
        .filter(member)
        .flat_map(|file| judge(&file.path, &file.text))
        .collect()
}

fn judge(path: &str, text: &str) -> Vec<Finding> {
    let mut findings: Vec<Finding> = INHERITED
        .iter()
        .filter(|line| !text.lines().any(|own| own == **line))
        .map(|line| Finding::stop(format!("{path}: `{line}` is missing")))
        .collect();
    if !text.contains("[lints]\nworkspace = true") {
        findings.push(Finding::stop(format!(
            "{path}: the shared lints are not inherited"
        )));
    }
    let mut section = "";
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
        } else if section.ends_with("dependencies]")
            && line.contains('=')
            && !line.contains("workspace = true")
        {
            findings.push(Finding::stop(format!(
                "{path}: `{line}`: versions stand in the root manifest"
            )));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wants_everything_inherited() {
        let good = format!(
            "[package]\n{}\n[dependencies]\na.workspace = true\n[lints]\nworkspace = true\n",
            INHERITED.join("\n")
        );
        assert_eq!(judge("a/Cargo.toml", &good), []);
        assert_eq!(
            judge("a/Cargo.toml", &good.replace("a.workspace = true", "a = \"1\"")).len(),
            1
        );
        assert_eq!(
            judge("a/Cargo.toml", &good.replace("[lints]\nworkspace = true", "")).len(),
            1
        );
    }
}
