//! Rules on single source files. The reasons are in CONTRIBUTING.md.

use crate::protobuf::MARKER;
use crate::tidy::Finding;
use crate::tidy::text::{TextFile, Workspace};

const FILE_WARN: usize = 400;
const FILE_STOP: usize = 600;
const DOC_LINES: usize = 6;

pub(super) fn files_are_short(workspace: &Workspace) -> Vec<Finding> {
    let judge = |file: &TextFile| match file.prod_lines() {
        lines if lines > FILE_STOP => Some(Finding::stop(format!(
            "{}: {lines} lines, stop {FILE_STOP}",
            file.path
        ))),
        lines if lines > FILE_WARN => Some(Finding::warn(format!(
            "{}: {lines} lines, warn {FILE_WARN}",
            file.path
        ))),
        _ => None,
    };
    let written = workspace.sources().filter(|file| !file.text.starts_with(MARKER));
    written.filter_map(judge).collect()
}

pub(super) fn files_open_with_their_purpose(workspace: &Workspace) -> Vec<Finding> {
    let judge = |file: &TextFile| {
        let lines = file
            .text
            .lines()
            .take_while(|line| line.starts_with("//!"))
            .count();
        let wrong = !(1..=DOC_LINES).contains(&lines);
        wrong.then(|| {
            Finding::stop(format!(
                "{}: opens with {lines} lines of `//!`, wanted 1 to {DOC_LINES}",
                file.path
            ))
        })
    };
    workspace.sources().filter_map(judge).collect()
}

pub(super) fn no_mod_rs(workspace: &Workspace) -> Vec<Finding> {
    let judge = |file: &TextFile| {
        file.path
            .ends_with("/mod.rs")
            .then(|| Finding::stop(format!("{}: name it after its folder", file.path)))
    };
    workspace.sources().filter_map(judge).collect()
}

pub(super) fn unsafe_in_named_places(workspace: &Workspace) -> Vec<Finding> {
    let allowed = |path: &str| {
        path.starts_with("eks-guard-ebpf/")
            || path.starts_with("eks-guard-user/src/ebpf/")
            || path == "eks-guard-user/src/ebpf.rs"
            || path == "eks-guard-probe/src/sys.rs"
            || path.starts_with("eks-guard-probe/src/sys/")
    };
    let outside = workspace.sources().filter(|file| !allowed(&file.path));
    // Test code is no place for it either, so the whole file counts, strings and comments excepted.
    let say = |file: &TextFile, line| {
        Finding::stop(format!(
            "{}:{line}: unsafe belongs in eks-guard-user/src/ebpf, or in the probe's sys",
            file.path
        ))
    };
    outside
        .flat_map(|file| {
            lines_with(&super::text::blank(&file.text), "unsafe")
                .into_iter()
                .map(|line| say(file, line))
        })
        .collect()
}

pub(super) fn no_glob_imports(workspace: &Workspace) -> Vec<Finding> {
    let globs = |line: &str| is_import(line) && line.contains("::*");
    in_code(workspace, globs, "a glob hides where names come from")
}

pub(super) fn no_imports_from_super(workspace: &Workspace) -> Vec<Finding> {
    let upward = |line: &str| is_import(line) && line.contains("super::");
    in_code(
        workspace,
        upward,
        "write `crate::…`: a reader sees the whole path",
    )
}

pub(super) fn macros_in_tests_only(workspace: &Workspace) -> Vec<Finding> {
    let macros = |line: &str| line.contains("macro_rules!");
    in_code(workspace, macros, "a macro breaks search; write a function")
}

fn in_code(workspace: &Workspace, wrong: impl Fn(&str) -> bool, reason: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in workspace.sources() {
        for line in file.code().lines().filter(|line| wrong(line)) {
            findings.push(Finding::stop(format!(
                "{}: `{}`: {reason}",
                file.path,
                line.trim()
            )));
        }
    }
    findings
}

fn is_import(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("use ") || (line.starts_with("pub") && line.contains(" use "))
}

/// Numbers of the lines that hold `word` as a whole word.
fn lines_with(code: &str, word: &str) -> Vec<usize> {
    let holds = |line: &str| {
        line.split(|c: char| !c.is_alphanumeric() && c != '_')
            .any(|token| token == word)
    };
    code.lines()
        .enumerate()
        .filter(|(_, line)| holds(line))
        .map(|(index, _)| index + 1)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn workspace(path: &str, text: &str) -> Workspace {
        let file = TextFile {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        Workspace {
            root: PathBuf::new(),
            files: vec![file],
        }
    }

    #[test]
    fn finds_what_is_not_allowed_and_nothing_else() {
        let check = |rule: fn(&Workspace) -> Vec<Finding>, path: &str, text: &str, found: usize| {
            assert_eq!(rule(&workspace(path, text)).len(), found, "{path}: {text}");
        };
        check(
            unsafe_in_named_places,
            "eks-guard-core/src/a.rs",
            "unsafe { x }",
            1,
        );
        check(
            unsafe_in_named_places,
            "eks-guard-core/src/a.rs",
            "// unsafe\nlet unsafe_code = \"unsafe\";",
            0,
        );
        check(
            unsafe_in_named_places,
            "eks-guard-user/src/ebpf/loader.rs",
            "unsafe { x }",
            0,
        );
        check(
            no_glob_imports,
            "a/src/a.rs",
            "use a::*;\npub(crate) use b::*;\nlet c = d::*e;",
            2,
        );
        check(
            no_glob_imports,
            "a/src/a.rs",
            "#[cfg(test)]\nmod tests {\n    use super::*;\n}\n",
            0,
        );
        check(
            no_imports_from_super,
            "a/src/a.rs",
            "use super::b;\npub(super) fn c() {}",
            1,
        );
        check(no_mod_rs, "a/src/b/mod.rs", "", 1);
        check(files_open_with_their_purpose, "a/src/a.rs", "use b;", 1);
        check(files_open_with_their_purpose, "a/src/a.rs", "//! A.\n", 0);
        check(files_are_short, "a/src/a.rs", &"x\n".repeat(601), 1);
        check(files_are_short, "a/src/a/tests.rs", &"x\n".repeat(601), 0);
        check(
            files_are_short,
            "a/src/a.rs",
            &format!("{MARKER}\n{}", "x\n".repeat(601)),
            0,
        );
    }
}
