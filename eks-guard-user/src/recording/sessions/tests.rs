//! What people and programs see of the records.

use std::fs;

use clap::Parser;
use eks_guard_core::principal::PodIdentity;
use eks_guard_core::record::{Caller, DecidedOn, Event, Outcome, SessionState, Stage};
use jiff::Timestamp;
use serde_json::Value;
use tempfile::TempDir;

use crate::recording::sessions::{SessionsArgs, run};
use crate::recording::writer::{DiskRecorder, SessionFacts};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    sessions: SessionsArgs,
}

/// Runs `eks-guard sessions …` and gives its output and its remarks.
fn sessions(folder: &TempDir, args: &[&str]) -> Result<(String, String), String> {
    let records = folder.path().to_str().unwrap();
    let words = ["sessions"]
        .into_iter()
        .chain(args.iter().copied())
        .chain(["--records", records]);
    let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
    let (mut out, mut remarks) = (Vec::new(), Vec::new());
    let now: Timestamp = "2026-11-25T20:00:00Z".parse().unwrap();
    run(&cli.sessions, &mut out, &mut remarks, now).map_err(|error| error.to_string())?;
    Ok((
        String::from_utf8(out).unwrap(),
        String::from_utf8(remarks).unwrap(),
    ))
}

fn ok(folder: &TempDir, args: &[&str]) -> String {
    let (out, remarks) = sessions(folder, args).unwrap();
    assert_eq!(remarks, "");
    out
}

fn event(stage: Stage, second: &str, change: impl FnOnce(&mut Event)) -> Event {
    let mut event = Event::new(stage, "s-1", "shop");
    event.time = format!("2026-11-25T18:00:{second}Z");
    event.id = format!("id-{second}");
    event.decision = Outcome::Allow;
    change(&mut event);
    event
}

fn kubectl(pid: u32) -> Option<Caller> {
    Some(Caller {
        pid,
        executable: "/usr/bin/kubectl".to_owned(),
        command_line: "kubectl get pods".to_owned(),
    })
}

fn started() -> Event {
    event(Stage::Session, "00.000000", |event| {
        event.session_state = Some(SessionState::Started);
        event.model_claimed = Some("opus".to_owned());
        event.caller = kubectl(1);
    })
}

fn request(second: &str, verb: &str, resource: &str, status: u16) -> Event {
    event(Stage::Outcome, second, |event| {
        event.verb = verb.to_owned();
        event.resource = resource.to_owned();
        event.namespace = "shop".to_owned();
        event.status = Some(status);
        event.caller = kubectl(4242);
    })
}

fn story() -> Vec<Event> {
    let mut apply = request("02.250000", "patch", "deployments", 200);
    apply.group = "apps".to_owned();
    apply.name = "web".to_owned();
    let intent = Event {
        stage: Stage::Intent,
        status: None,
        ..apply.clone()
    };
    let mut delete = request("03.000000", "delete", "pods", 403);
    delete.name = "web-0".to_owned();
    delete.decision = Outcome::Refuse;
    delete.reason = Some("NoRuleAllows".to_owned());
    let mut exec = request("03.500000", "create", "pods", 403);
    exec.subresource = "exec".to_owned();
    exec.name = "web-0".to_owned();
    exec.decision = Outcome::Refuse;
    exec.reason = Some("ConnectRefused".to_owned());
    let discovery = event(Stage::Outcome, "04.000000", |event| {
        event.verb = "get".to_owned();
        event.path = "/openapi/v3".to_owned();
        event.status = Some(200);
    });
    let connection = event(Stage::Connection, "05.000000", |event| {
        event.decision = Outcome::Refuse;
        event.reason = Some("RequestTimeout".to_owned());
        event.caller = Some(Caller {
            pid: 7,
            ..Caller::default()
        });
    });
    let gap = event(Stage::Gap, "06.000000", |event| event.lost = Some(3));
    let mut open = request("07.000000", "create", "configmaps", 0);
    open.stage = Stage::Intent;
    open.status = None;
    let ended = event(Stage::Session, "10.000000", |event| {
        event.session_state = Some(SessionState::Ended);
        event.exit_code = Some(1);
    });
    vec![
        started(),
        request("01.000000", "get", "pods", 200),
        intent,
        apply,
        delete,
        exec,
        discovery,
        connection,
        gap,
        open,
        ended,
    ]
}

fn write(folder: &TempDir, session: &str, events: &[Event]) {
    let lines: String = events
        .iter()
        .map(|event| serde_json::to_string(event).unwrap() + "\n")
        .collect();
    fs::write(folder.path().join(format!("{session}.jsonl")), lines).unwrap();
}

fn with_story() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(&folder, "s-1", &story());
    folder
}

#[test]
fn lists_sessions_oldest_first() {
    let folder = with_story();
    let mut later = started();
    later.time = "2026-11-25T19:00:00.000000Z".to_owned();
    later.agent = "billing".to_owned();
    later.model_claimed = None;
    write(&folder, "a-later-one", &[later]);
    fs::write(folder.path().join("notes.txt"), "not a record").unwrap();
    fs::write(folder.path().join(".hidden.jsonl"), "{}").unwrap();
    let expected = "\
SESSION      AGENT    MODEL  STARTED               DURATION  REQUESTS  REFUSED  STATE
s-1          shop     opus   2026-11-25T18:00:00Z  10s       6         3        ended (1)
a-later-one  billing  -      2026-11-25T19:00:00Z  0ms       0         0        broken off
";
    assert_eq!(ok(&folder, &["list"]), expected);
    assert_eq!(ok(&folder, &["list", "--limit", "1"]).lines().count(), 2);
    assert!(ok(&folder, &["list", "--limit", "1"]).contains("a-later-one"));
    assert!(!ok(&folder, &["list", "--agent", "shop"]).contains("billing"));

    let json: Value = serde_json::from_str(&ok(&folder, &["list", "-o", "json"])).unwrap();
    assert_eq!(json[0]["session"], "s-1");
    assert_eq!(json[0]["durationSeconds"], 10.0);
    assert_eq!(json[0]["exitCode"], 1);
    assert_eq!(json[0]["lost"], 3);
    let yaml: Vec<Value> = serde_saphyr::from_str(&ok(&folder, &["list", "-o", "yaml"])).unwrap();
    assert_eq!(Value::Array(yaml), json);
}

#[test]
fn shows_what_happened() {
    let folder = with_story();
    let expected = "\
TIME          VERB       RESOURCE                      NAMESPACE/NAME                    DECISION  REASON              STATUS   CALLER
18:00:00.000  --- session of shop started on 2026-11-25 (UTC): kubectl get pods
18:00:01.000  get        pods                          shop/                             allow     -                   200      kubectl[4242]
18:00:02.250  patch      deployments.apps              shop/web                          allow     -                   200      kubectl[4242]
18:00:03.000  delete     pods                          shop/web-0                        refuse    NoRuleAllows        403      kubectl[4242]
18:00:03.500  create     pods/exec                     shop/web-0                        refuse    ConnectRefused      403      kubectl[4242]
18:00:04.000  get        /openapi/v3                   -                                 allow     -                   200      -
18:00:05.000  (connect)  -                             -                                 refuse    RequestTimeout      -        pid 7
18:00:06.000  *** 3 events are missing here
18:00:07.000  create     configmaps                    shop/                             allow     -                   unknown  kubectl[4242]
18:00:10.000  --- session ended, exit code 1
";
    assert_eq!(ok(&folder, &["show", "s-1"]), expected);
    assert_eq!(ok(&folder, &["show", "latest"]), expected);
    assert_eq!(ok(&folder, &["show"]), expected);
    assert_eq!(ok(&folder, &["show", "s"]), expected);

    let refused = ok(&folder, &["show", "--refused"]);
    assert_eq!(refused.lines().count(), 4, "{refused}");
    let mutating = ok(&folder, &["show", "--mutating"]);
    assert_eq!(mutating.lines().count(), 5, "{mutating}");
    let both = ok(&folder, &["show", "--mutating", "--refused", "-o", "jsonl"]);
    let ids: Vec<Value> = both
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].clone())
        .collect();
    assert_eq!(ids, ["id-03.000000", "id-03.500000"]);
}

#[test]
fn gives_programs_every_field_as_it_was_recorded() {
    let folder = with_story();
    let recorded = serde_json::to_value(story()).unwrap();
    let lines = ok(&folder, &["show", "-o", "jsonl"]);
    assert_eq!(
        lines,
        fs::read_to_string(folder.path().join("s-1.jsonl")).unwrap()
    );
    let json: Value = serde_json::from_str(&ok(&folder, &["show", "-o", "json"])).unwrap();
    assert_eq!(json, recorded);
    let yaml: Vec<Value> = serde_saphyr::from_str(&ok(&folder, &["show", "-o", "yaml"])).unwrap();
    assert_eq!(Value::Array(yaml), recorded);

    write(&folder, "s-2", &[]);
    assert_eq!(ok(&folder, &["show", "s-2", "-o", "json"]), "[]\n");
    assert_eq!(ok(&folder, &["show", "s-2", "-o", "yaml"]), "[]\n");
    assert_eq!(ok(&folder, &["show", "s-2", "-o", "jsonl"]), "");
    assert!(ok(&folder, &["show", "s-2"]).ends_with("nothing of the kind in s-2\n"));
}

#[test]
fn what_an_agent_chose_cannot_act_on_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let hostile =
        "\u{1b}[2J\u{1b}]0;owned\u{7}\r\n18:00:00 forged\u{9b}31m\u{202e}gpj\u{200b}\u{e0041}\u{7f}\u{2028}x";
    let mut first = started();
    first.model_claimed = Some(hostile.to_owned());
    first.agent = hostile.to_owned();
    first.caller = Some(Caller {
        pid: 1,
        executable: hostile.to_owned(),
        command_line: hostile.to_owned(),
    });
    let mut second = request(hostile, hostile, hostile, 403);
    for field in [
        &mut second.namespace,
        &mut second.name,
        &mut second.group,
        &mut second.subresource,
        &mut second.id,
    ] {
        *field = hostile.to_owned();
    }
    second.reason = Some(hostile.to_owned());
    second.caller = first.caller.clone();
    let path = event(Stage::Outcome, "03.000000", |event| {
        event.path = hostile.to_owned()
    });
    let end = event(Stage::Session, "04.000000", |event| {
        event.session_state = Some(SessionState::Ended);
        event.message = Some(hostile.to_owned());
    });
    write(&folder, "s-1", &[first.clone(), second, path, end]);

    for args in [
        ["list", "-o", "table"],
        ["list", "-o", "json"],
        ["list", "-o", "yaml"],
        ["show", "-o", "table"],
        ["show", "-o", "json"],
        ["show", "-o", "yaml"],
        ["show", "-o", "jsonl"],
    ] {
        let out = ok(&folder, &args);
        let bad = |c: char| {
            c != '\n' && (c.is_control() || ('\u{200b}'..='\u{202e}').contains(&c) || c > '\u{e0000}')
        };
        assert!(!out.chars().any(bad), "{args:?}: {out:?}");
        assert!(
            out.contains("owned"),
            "{args:?}: the text itself must stay readable"
        );
    }
    assert_eq!(ok(&folder, &["list"]).lines().count(), 2, "no line can be forged");
    assert_eq!(ok(&folder, &["show"]).lines().count(), 5);
    // Programs read exactly what was recorded.
    let json: Value = serde_json::from_str(&ok(&folder, &["show", "-o", "json"])).unwrap();
    assert_eq!(json[0], serde_json::to_value(&first).unwrap());
    let line = ok(&folder, &["show", "-o", "jsonl"]);
    let line: Value = serde_json::from_str(line.lines().next().unwrap()).unwrap();
    assert_eq!(line, serde_json::to_value(&first).unwrap());
}

#[test]
fn damaged_lines_are_passed_over_and_mentioned() {
    let folder = tempfile::tempdir().unwrap();
    let good = serde_json::to_string(&request("01.000000", "get", "pods", 200)).unwrap();
    let newer = "{\"schema\":\"eks-guard.dev/record/v9\",\"stage\":\"dream\",\"color\":{\"a\":1},\"decision\":\"maybe\"}";
    let long = format!("{{\"name\":\"{}\"}}", "x".repeat(400_000));
    let text = format!("{good}\n\n{newer}\nnot json\n{long}\n[]\n{good}\n{{\"schema\":\"eks-gua");
    fs::write(folder.path().join("s-1.jsonl"), text).unwrap();
    let (out, remarks) = sessions(&folder, &["show", "-o", "jsonl"]).unwrap();
    assert_eq!(out, format!("{good}\n{newer}\n{good}\n"));
    assert_eq!(
        remarks,
        "note: 4 lines of s-1 could not be read (cut off or damaged)\n"
    );
    let (out, remarks) = sessions(&folder, &["list"]).unwrap();
    assert!(
        out.contains(" 2 ") && remarks.contains("4 lines of s-1"),
        "{out}{remarks}"
    );
}

#[test]
fn a_running_session_is_told_from_one_that_broke_off() {
    let folder = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .tempdir()
        .unwrap();
    let facts = SessionFacts {
        session: "live".to_owned(),
        agent: "shop".to_owned(),
        model_claimed: None,
        pod: None,
        labels: None,
        command: None,
    };
    let recorder = DiskRecorder::open(folder.path(), facts).unwrap();
    assert!(ok(&folder, &["list"]).trim_end().ends_with("running"));
    drop(recorder);
    assert!(ok(&folder, &["list"]).trim_end().ends_with("broken off"));
}

#[test]
fn what_is_not_there_is_said() {
    let folder = with_story();
    write(&folder, "s-2", &[started()]);
    let error = |args: &[&str]| sessions(&folder, args).unwrap_err();
    assert!(error(&["show", "nope"]).contains("no session \"nope\""));
    assert!(error(&["show", "s-"]).contains("2 sessions start with \"s-\""));
    assert!(error(&["show", "../etc/passwd"]).contains("no session"));
    let empty = tempfile::tempdir().unwrap();
    assert!(
        sessions(&empty, &["show"])
            .unwrap_err()
            .contains("no session is recorded")
    );
    assert_eq!(ok(&empty, &["list"]).lines().count(), 1);
    fs::remove_dir(empty.path()).unwrap();
    assert!(
        sessions(&empty, &["list"])
            .unwrap_err()
            .contains("there is no such folder")
    );
}

#[test]
fn every_field_is_documented() {
    let page = include_str!("../../../../docs/record.md");
    let mut full = request("01.000000", "create", "pods", 201);
    for text in [
        &mut full.group,
        &mut full.version,
        &mut full.subresource,
        &mut full.name,
        &mut full.path,
    ] {
        *text = "x".to_owned();
    }
    for text in [
        &mut full.model_claimed,
        &mut full.rule,
        &mut full.reason,
        &mut full.message,
    ] {
        *text = Some("x".to_owned());
    }
    full.user_agent_claimed = Some("x".to_owned());
    full.original_destination = Some("x".to_owned());
    full.session_state = Some(SessionState::Ended);
    (full.bytes, full.duration_us, full.policy_generation, full.lost) = (Some(1), Some(1), Some(1), Some(1));
    full.exit_code = Some(1);
    full.decided_on = Some(DecidedOn::default());
    full.pod = Some(PodIdentity {
        namespace: "x".to_owned(),
        name: "x".to_owned(),
        uid: "x".to_owned(),
        service_account: "x".to_owned(),
        node: "x".to_owned(),
    });
    let Value::Object(fields) = serde_json::to_value(full).unwrap() else {
        panic!()
    };
    assert_eq!(fields.len(), 31, "set every field above, and document it");
    for name in fields["pod"].as_object().unwrap().keys() {
        assert!(
            page.contains(&format!("`pod.{name}`")),
            "pod.{name} is not in docs/record.md"
        );
    }
    let nested = ["caller", "pod"];
    for name in fields.keys().filter(|name| !nested.contains(&name.as_str())) {
        assert!(
            page.contains(&format!("`{name}`")),
            "{name} is not in docs/record.md"
        );
    }
}
