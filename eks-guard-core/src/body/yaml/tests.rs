//! What YAML means here, and what of it is refused.

use super::plain::Plain;
use super::{YamlError, to_json};

fn json(text: &str) -> String {
    let json = to_json(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"));
    String::from_utf8(json).unwrap()
}

#[test]
fn a_manifest_as_people_write_it() {
    let text = "\
# a comment
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  labels: {app: web, 'version': \"1.10\"}
  creationTimestamp: null
spec:
  replicas: 3
  ratio: -0.50
  paused: false
  empty:
  template:
    spec:
      containers:
      - name: web
        image: registry.example.com:5000/web:1.2.3
        args: [-c, --flag=1, 100m, 10.0.0.1, 10.0.0.0/8, 1Gi, 80%]
        script: |
          yes
          012
        folded: >-
          one
          two
";
    assert_eq!(
        json(text),
        concat!(
            r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","labels":{"app":"web","version":"1.10"},"#,
            r#""creationTimestamp":null},"spec":{"replicas":3,"ratio":-0.50,"paused":false,"empty":null,"template":{"spec":"#,
            r#"{"containers":[{"name":"web","image":"registry.example.com:5000/web:1.2.3","args":["-c","--flag=1","100m","#,
            r#""10.0.0.1","10.0.0.0/8","1Gi","80%"],"script":"yes\n012\n","folded":"one two"}]}}}}"#
        )
    );
    assert_eq!(
        json("{a: [1, {b: c}], d: {}, e: []}"),
        r#"{"a":[1,{"b":"c"}],"d":{},"e":[]}"#
    );
    assert_eq!(json("a: 'it''s'\nb: \"\\u0041\\n\""), r#"{"a":"it's","b":"A\n"}"#);
    assert_eq!(json("- a\n- - b\n  - ~\n..."), r#"["a",["b",null]]"#);
}

#[test]
fn what_readers_disagree_about_is_refused() {
    for text in [
        "yes",
        "No",
        "ON",
        "off",
        "y",
        "N",
        "True",
        "FALSE",
        "Null",
        "NULL",
        "012",
        "0o17",
        "0x1F",
        "0b11",
        "1_000",
        "+1",
        ".5",
        "1.",
        "1e3",
        "1E+3",
        "1.5e3",
        "190:20:30",
        "8080:80",
        ".inf",
        "-.Inf",
        ".NaN",
        "2026-01-31",
        "2026-01-31T10:00:00Z",
        "<<",
        "=",
        "00",
        "-01",
        "1-2",
    ] {
        assert_eq!(Plain::of(text), Plain::Ambiguous, "{text}");
        let error = to_json(format!("a: {text}\n").as_bytes()).unwrap_err();
        assert!(
            matches!(error, YamlError::Ambiguous { line: 1, .. }),
            "{text}: {error}"
        );
        assert_eq!(json(&format!("a: '{text}'")), format!(r#"{{"a":"{text}"}}"#));
    }
    for key in ["1", "true", "null", "~", "yes", "<<", "1.5"] {
        let error = to_json(format!("{key}: a\n").as_bytes()).unwrap_err();
        assert!(matches!(error, YamlError::Key { line: 1, .. }), "{key}: {error}");
    }
    for text in [
        "v1", "a-b", "-x", "1d", "1.2.3", "e", "-", "10.0.0.1", "12ab", "nope",
    ] {
        assert_eq!(Plain::of(text), Plain::Text, "{text}");
    }
}

#[test]
fn what_one_reader_follows_and_another_does_not_is_refused() {
    for (text, what) in [
        ("a: &x 1\nb: *x", "anchors"),
        ("a: [&x {}]", "anchors"),
        ("a: !!str 1", "tags"),
        ("a: !mine {}", "tags"),
        ("%YAML 1.1\n---\na: b", "directives"),
        ("a: b\n---\nc: d", "second document"),
        ("---\na: b\n---\n", "second document"),
        ("? [a]\n: b", "as a key"),
        ("? {a: b}\n: c", "as a key"),
    ] {
        let error = to_json(text.as_bytes()).unwrap_err();
        assert!(error.to_string().contains(what), "{text}: {error}");
    }
    for text in [
        "a: *x",
        "a: [",
        "a: 'b",
        "a: b: c",
        "{a: b",
        "a: \"\\q\"",
        "- a\nb: c",
    ] {
        assert!(
            matches!(to_json(text.as_bytes()), Err(YamlError::Syntax { .. })),
            "{text}"
        );
    }
    for text in ["", "\n", "# only a comment\n"] {
        assert_eq!(to_json(text.as_bytes()), Err(YamlError::Empty), "{text:?}");
    }
    assert_eq!(to_json(b"a: \xff"), Err(YamlError::NotUtf8 { at: 3 }));
}

#[test]
fn depth_is_bounded() {
    let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    assert!(to_json(nested(128).as_bytes()).is_ok());
    assert_eq!(
        to_json(nested(129).as_bytes()),
        Err(YamlError::TooDeep { line: 1 })
    );
    let items = "- ".repeat(50_000) + "a";
    assert!(to_json(items.as_bytes()).is_err());
}

#[test]
fn a_document_has_a_bounded_number_of_parts() {
    let list = |items: usize| format!("a: [{}]", vec!["b"; items].join(","));
    assert!(to_json(list(99_000).as_bytes()).is_ok());
    for text in [
        list(100_001),
        "a: b\n".to_owned() + &"# c\n".repeat(100_001),
        (0..50_001).map(|number| format!("a{number}: b\n")).collect(),
    ] {
        assert_eq!(
            to_json(text.as_bytes()),
            Err(YamlError::TooMany),
            "{}",
            &text[..20]
        );
    }
}
