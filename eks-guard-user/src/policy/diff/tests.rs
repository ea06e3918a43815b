//! The command as people type it: exit codes and output.

use std::fs;
use std::path::{Path, PathBuf};

use crate::policy::diff::{DiffArgs, DiffOutput, diff};
use crate::policy::{ALLOWED, INVALID, REFUSED};

fn policy(rule: &str) -> String {
    format!(
        "apiVersion: eks-guard.dev/v1alpha1\nkind: AgentPolicy\nmetadata: {{name: p}}\nspec:\n  subjects: {{agents: [a]}}\n  \
         rules: [{{name: r, effect: allow, {rule}}}]\n"
    )
}

const ONE: &str = "verbs: [get], apiGroups: [''], resources: [pods], namespaces: [shop]";
const TWO: &str = "verbs: [get, list], apiGroups: [''], resources: [pods], namespaces: [shop, prod]";

fn run(old: &Path, new: &Path, output: DiffOutput) -> (u8, String, String) {
    let args = DiffArgs {
        old: old.to_owned(),
        new: new.to_owned(),
        output,
    };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = diff(&args, &mut out, &mut err).unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (code, text(out), text(err))
}

fn files(folder: &Path) -> [PathBuf; 2] {
    let [old, new] = [("old", ONE), ("new", TWO)].map(|(name, rule)| {
        let of_it = folder.join(name);
        fs::create_dir(&of_it).unwrap();
        let file = of_it.join("p.yaml");
        fs::write(&file, policy(rule)).unwrap();
        file
    });
    [old, new]
}

#[test]
fn what_is_newly_reached_is_an_exit_code_and_a_table() {
    let folder = tempfile::tempdir().unwrap();
    let [old, new] = files(folder.path());
    let (code, out, err) = run(&old, &new, DiffOutput::Table);
    assert!(code == REFUSED && err.is_empty(), "{out}{err}");
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], "newly reached:", "{out}");
    assert!(lines[1].starts_with("CHANGE"), "{out}");
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("refused → allowed  a ") && line.contains("prod")),
        "{out}"
    );
    assert_eq!(lines.last(), Some(&"no longer reached: nothing"), "{out}");
    let (code, out, _) = run(&new, &old, DiffOutput::Table);
    assert_eq!(code, ALLOWED, "{out}");
    assert!(
        out.starts_with("newly reached: nothing\nno longer reached:\n"),
        "{out}"
    );
    let (code, out, _) = run(&old, &old, DiffOutput::Table);
    assert_eq!(
        (code, out.as_str()),
        (ALLOWED, "newly reached: nothing\nno longer reached: nothing\n")
    );
}

#[test]
fn folders_and_programs() {
    let folder = tempfile::tempdir().unwrap();
    let [old, new] = files(folder.path()).map(|file| file.parent().unwrap().to_owned());
    let (code, json, err) = run(&old, &new, DiffOutput::Json);
    assert_eq!(code, REFUSED, "{err}");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let reached = json["newlyReached"].as_array().unwrap();
    assert!(
        !reached.is_empty()
            && reached
                .iter()
                .all(|it| it["agents"][0] == "a" && it["resources"][0] == "pods")
    );
    let (_, yaml, _) = run(&old, &new, DiffOutput::Yaml);
    assert_eq!(serde_saphyr::from_str::<serde_json::Value>(&yaml).unwrap(), json);
}

#[test]
fn what_cannot_be_compared_is_invalid() {
    let folder = tempfile::tempdir().unwrap();
    let [old, new] = files(folder.path());
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    for (path, message) in [
        (empty.as_path(), "has no file *.yaml"),
        (Path::new("/nonexistent/p.yaml"), "cannot read the policy file"),
    ] {
        let (code, out, err) = run(&old, path, DiffOutput::Table);
        assert!(
            code == INVALID && out.is_empty() && err.contains(message),
            "{out}{err}"
        );
    }
    fs::write(
        &new,
        policy("verbs: [gett], apiGroups: [''], resources: [pods], namespaces: [shop]"),
    )
    .unwrap();
    let (code, _, err) = run(&old, &new, DiffOutput::Table);
    assert!(code == INVALID && err.contains("unknown verb"), "{err}");
}
