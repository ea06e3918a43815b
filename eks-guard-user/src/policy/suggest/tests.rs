//! Records as the guard writes them, down to the policy that is printed.

use std::fs;

use eks_guard_core::record::{Event, Stage};

use crate::policy::suggest::{SuggestArgs, SuggestOutput, suggest};
use crate::policy::{ALLOWED, INVALID, load};

fn event(agent: &str, fields: &[(&str, &str)]) -> String {
    let event = Event::new(Stage::Outcome, "s", agent);
    let mut json = serde_json::to_value(event).unwrap();
    for (field, value) in fields {
        json[*field] = (*value).into();
    }
    format!("{json}\n")
}

fn get_pod(agent: &str, name: &str) -> String {
    event(
        agent,
        &[
            ("verb", "get"),
            ("version", "v1"),
            ("resource", "pods"),
            ("namespace", "shop"),
            ("name", name),
        ],
    )
}

fn run(record: &str, change: impl FnOnce(&mut SuggestArgs)) -> (u8, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("record.jsonl");
    fs::write(&file, record).unwrap();
    let mut args = SuggestArgs {
        records: vec![file],
        agent: None,
        name: "suggested".into(),
        any_name: false,
        output: SuggestOutput::Yaml,
    };
    change(&mut args);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = suggest(&args, &mut out, &mut err).unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (code, text(out), text(err))
}

#[test]
fn a_record_becomes_a_policy_that_can_be_loaded() {
    let intent = get_pod("a", "never").replace("outcome", "intent");
    let secret = event(
        "a",
        &[
            ("verb", "list"),
            ("version", "v1"),
            ("resource", "secrets"),
            ("namespace", "shop"),
        ],
    );
    let version = event("a", &[("verb", "get"), ("path", "/version")]);
    let cut = "{\"schema\":\"eks-gu";
    let record = [
        get_pod("a", "x"),
        get_pod("a", "x"),
        get_pod("a", "y"),
        intent,
        secret,
        version,
        cut.into(),
    ]
    .concat();
    let (code, out, err) = run(&record, |_| {});
    assert_eq!(code, ALLOWED, "{err}");
    assert!(err.contains("1 line of the records could not be read"), "{err}");
    for line in [
        "    # 3 calls\n",
        "      resourceNames: [x, \"y\"]\n",
        "# Not allowed by it: \"list secrets shop\" (1), NoRuleAllows",
        "need no rule: 1.",
    ] {
        assert!(out.contains(line), "{line}: {out}");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p.yaml");
    fs::write(&file, &out).unwrap();
    load(&[file]).unwrap();
    let (_, out, _) = run(&record, |args| args.any_name = true);
    assert!(!out.contains("resourceNames"), "{out}");
    let (_, json, _) = run(&record, |args| args.output = SuggestOutput::Json);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&json["agent"], &json["notAllowed"][0]["calls"]),
        (&"a".into(), &1.into())
    );
    assert!(json["policy"].as_str().unwrap().contains("kind: AgentPolicy"));
}

#[test]
fn a_policy_is_for_one_agent() {
    let record = [get_pod("a", "x"), get_pod("b", "y")].concat();
    let (code, _, err) = run(&record, |_| {});
    assert!(code == INVALID && err.contains("several agents (a, b)"), "{err}");
    let (code, out, _) = run(&record, |args| args.agent = Some("b".into()));
    assert!(
        code == ALLOWED && out.contains("agents: [b]") && out.contains("resourceNames: [\"y\"]"),
        "{out}"
    );
    let (code, _, err) = run(&record, |args| args.agent = Some("c".into()));
    assert!(code == INVALID && err.contains("no call of c"), "{err}");
    let (code, _, err) = run(&record, |args| args.records = vec!["/nonexistent/r.jsonl".into()]);
    assert!(code == INVALID && err.contains("cannot read the record"), "{err}");
}
