//! The JSON reader against tables, and against `serde_json` on generated and on damaged texts.

use serde_json::Value;

use super::{JsonError, MAX_DEPTH, Member, Shape, View, canonical, write_str};
use crate::body::testing::Random;

fn text(input: &str) -> Result<String, JsonError> {
    canonical(input.as_bytes()).map(|canonical| String::from_utf8(canonical.text).unwrap())
}

/// A string in canonical form.
fn quoted(text: &str) -> String {
    let mut out = Vec::new();
    write_str(text, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn writes_the_shortest_form_of_the_same_value() {
    for (input, expected) in [
        (
            " { \"b\" : [ 1 , 2 ] ,\r\n\t\"a\" : null } ",
            r#"{"b":[1,2],"a":null}"#,
        ),
        ("{}", "{}"),
        ("[ ]", "[]"),
        ("true", "true"),
        (
            r#""\u0061\/\u00e9\ud83d\ude00\u0000\n\"\\""#,
            r#""a/é😀\u0000\n\"\\""#,
        ),
        (
            "\"\u{7f}\u{85}\u{2028}\u{feff}\"",
            r#""\u007f\u0085\u2028\ufeff""#,
        ),
        (
            "[-0, 0.10, 1E+2, 12345678901234567890123, 1e400]",
            "[-0,0.10,1E+2,12345678901234567890123,1e400]",
        ),
        (r#"{"":{"":{}}}"#, r#"{"":{"":{}}}"#),
    ] {
        assert_eq!(text(input).as_deref(), Ok(expected));
    }
}

#[test]
fn a_special_character_is_found_wherever_it_stands() {
    let beyond = ['\u{80}', 'é', '\u{2028}', '\u{feff}', '😀'];
    for special in (0_u8..0x80).map(char::from).chain(beyond) {
        let alone = quoted(&special.to_string());
        for (before, after) in (0..18).map(|at| ("x".repeat(at), "x".repeat(17 - at))) {
            let expected = format!("\"{before}{}{after}\"", &alone[1..alone.len() - 1]);
            assert_eq!(quoted(&format!("{before}{special}{after}")), expected);
            assert_eq!(text(&expected).as_deref(), Ok(expected.as_str()));
            let raw = text(&format!("\"{before}{special}{after}\""));
            match special {
                '"' | '\\' | ..'\u{20}' => assert!(raw.is_err(), "{special:?} after {before}"),
                _ => assert_eq!(raw.as_deref(), Ok(expected.as_str())),
            }
        }
    }
}

#[test]
fn refuses_what_is_not_json() {
    for input in [
        "",
        " ",
        "{",
        "[",
        "\"",
        "\"\\",
        "\"\\u12",
        "{\"a\"",
        "{\"a\":",
        "{\"a\":1",
        "{\"a\":1,",
        "{\"a\":1,}",
        "[1,]",
        "[,1]",
        "{a:1}",
        "{'a':1}",
        "[1 2]",
        "{\"a\" 1}",
        "[1}",
        "{\"a\":1]",
        "tru",
        "nul",
        "NaN",
        "Infinity",
        "-",
        "01",
        "-01",
        "1.",
        ".5",
        "1e",
        "1e+",
        "+1",
        "0x10",
        "1_000",
        "\"\t\"",
        "\"\n\"",
        "\"\0\"",
        "\"\\x41\"",
        "\"\\u00g0\"",
        "\"\\u+123\"",
        "// c\n1",
        "[1]/**/",
        "\u{feff}{}",
        "{\"a\":1}{}",
        "1 1",
        "{} x",
        "a: 1",
    ] {
        let error = text(input).unwrap_err();
        assert!(error.is_syntax(), "{input:?}: {error}");
    }
    for (bytes, at) in [
        (&b"\"\xff\""[..], 1),
        (b"\"\xc0\xaf\"", 1),
        (b"\"ab\xed\xa0\x80\"", 3),
        (b"{}\x80", 2),
    ] {
        assert_eq!(canonical(bytes), Err(JsonError::NotUtf8 { at }));
    }
}

#[test]
fn refuses_half_a_surrogate_pair() {
    for input in [
        r#""\ud800""#,
        r#""\udc00""#,
        r#""\ud800x""#,
        r#""\ud800\n""#,
        r#""\ud800\ud800""#,
        r#""\ude00\ud83d""#,
    ] {
        assert_eq!(text(input), Err(JsonError::LoneSurrogate { at: 1 }), "{input}");
    }
}

#[test]
fn refuses_a_key_that_stands_twice_at_any_depth() {
    let many: String = (0..500).map(|index| format!("\"k{index}\":0,")).collect();
    let deep = format!("{}{}", "[".repeat(100), r#"{"x":0,"x":0}"#);
    for (input, expected) in [
        (r#"{"a":1,"a":1}"#.to_owned(), "a".to_owned()),
        (r#"{"a":1,"\u0061":2}"#.to_owned(), "a".to_owned()),
        (r#"{"a/b":1,"a\/b":2}"#.to_owned(), "a/b".to_owned()),
        ("{\"\u{2028}\":1,\"\\u2028\":2}".to_owned(), "\u{2028}".to_owned()),
        (
            r#"{"spec":{"containers":[{"image":"a"},{"name":"x","image":"b","image":"c"}]}}"#.to_owned(),
            "spec.containers[1].image".to_owned(),
        ),
        (
            r#"{"z":0,"a":[[{"b":{"c":0,"c":{}}}]]}"#.to_owned(),
            "a[0][0].b.c".to_owned(),
        ),
        (format!("{{{many}\"k7\":1}}"), "k7".to_owned()),
        (deep, format!("{}…", &"[0]".repeat(67)[..200])),
    ] {
        assert_eq!(
            text(&input),
            Err(JsonError::DuplicateKey { path: expected }),
            "{input}"
        );
    }
    let apart = r#"[{"a":{"a":1}},{"a":2},{"A":1,"a":2,"a ":3}]"#;
    assert_eq!(
        text(apart).as_deref(),
        Ok(r#"[{"a":{"a":1}},{"a":2},{"A":1,"a":2,"a ":3}]"#)
    );
}

#[test]
fn a_large_object_is_checked_in_less_than_quadratic_time() {
    let keys: String = (0..60_000).map(|index| format!("\"{index:06}\":0,")).collect();
    assert!(text(&format!("{{{keys}\"x\":0}}")).is_ok());
    assert!(matches!(
        text(&format!("{{{keys}\"030000\":0}}")),
        Err(JsonError::DuplicateKey { .. })
    ));
}

#[test]
fn nests_up_to_the_limit_and_no_deeper() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let nested = |depth: usize| format!("{}1{}", open.repeat(depth), close.repeat(depth));
        assert!(text(&nested(MAX_DEPTH)).is_ok());
        assert_eq!(
            text(&nested(MAX_DEPTH + 1)),
            Err(JsonError::TooDeep {
                at: MAX_DEPTH * open.len()
            })
        );
        assert!(matches!(
            text(&open.repeat(1_000_000)),
            Err(JsonError::TooDeep { .. })
        ));
    }
    let wide = format!("[{}[]]", "[],".repeat(10_000));
    assert_eq!(text(&wide), Ok(wide));
}

#[test]
fn notes_the_members_that_say_which_object_it_is() {
    let input = r#"{"spec":{"kind":"x","metadata":{"name":"x"}},"kind":"Pod","apiVersion":"v1","metadata":
        {"labels":{"name":"x"},"generateName":null,"namespace":"n\u0073","name":"p"}}"#;
    let outline = canonical(input.as_bytes()).unwrap().outline;
    assert_eq!(outline.shape, Shape::Object);
    assert_eq!(
        (outline.api_version.as_str(), outline.kind.as_str()),
        ("v1", "Pod")
    );
    assert_eq!((outline.name.as_str(), outline.namespace.as_str()), ("p", "ns"));
    assert_eq!(outline.generate_name, Member::Null);

    let array = canonical(br#"[{"kind":"Pod","metadata":{"name":5}}]"#)
        .unwrap()
        .outline;
    assert_eq!((array.shape, array.kind), (Shape::Array, Member::Absent));
    assert_eq!(canonical(b"7").unwrap().outline.shape, Shape::Scalar);
}

#[test]
fn refuses_well_known_members_of_another_type_or_letter_case() {
    for (input, path) in [
        (r#"{"apiVersion":1}"#, "apiVersion"),
        (r#"{"kind":["Pod"]}"#, "kind"),
        (r#"{"metadata":[]}"#, "metadata"),
        (r#"{"metadata":"x"}"#, "metadata"),
        (r#"{"metadata":{"name":true}}"#, "metadata.name"),
        (r#"{"metadata":{"namespace":{}}}"#, "metadata.namespace"),
        (r#"{"metadata":{"generateName":1}}"#, "metadata.generateName"),
    ] {
        assert!(
            matches!(text(input), Err(JsonError::WrongType { path: found, .. }) if found == path),
            "{input}"
        );
    }
    for (input, expected) in [
        (r#"{"Kind":"Secret"}"#, "kind"),
        ("{\"\u{212a}ind\":\"Secret\"}", "kind"),
        (r#"{"apiver\u017fion":"v1"}"#, "apiVersion"),
        (r#"{"METADATA":{}}"#, "metadata"),
        (r#"{"metadata":{"Name":"x"}}"#, "metadata.name"),
        (r#"{"metadata":{"nameSpace":"x"}}"#, "metadata.namespace"),
    ] {
        assert_eq!(text(input), Err(JsonError::LookAlike { expected }), "{input}");
    }
    assert!(text(r#"{"metadata":null,"kind":null,"spec":{"Kind":1,"Name":2},"data":{"Name":"x"}}"#).is_ok());
}

#[test]
fn generated_values_keep_their_meaning() {
    let mut random = Random::new(0x5eed);
    for _ in 0..800 {
        let mut input = String::new();
        generate(&mut random, 4, &mut input);
        let once = text(&input).unwrap_or_else(|error| panic!("{error}: {input}"));
        let expected: Value = serde_json::from_str(&input).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&once).unwrap(), expected, "{input}");
        assert_eq!(
            text(&once),
            Ok(once.clone()),
            "canonical text is its own canonical form"
        );
    }
}

#[test]
fn damaged_texts_are_refused_or_mean_what_serde_json_reads() {
    let mut random = Random::new(0xda3a6e);
    for _ in 0..4_000 {
        let mut input = String::new();
        generate(&mut random, 3, &mut input);
        let mut bytes = input.into_bytes();
        for _ in 0..=random.below(3) {
            damage(&mut random, &mut bytes);
        }
        let Ok(ours) = canonical(&bytes) else { continue };
        match serde_json::from_slice::<Value>(&bytes) {
            Ok(theirs) => assert_eq!(serde_json::from_slice::<Value>(&ours.text).unwrap(), theirs),
            Err(error) => assert!(error.to_string().contains("out of range"), "{error}: {bytes:?}"),
        }
    }
}

#[test]
fn random_bytes_never_panic() {
    let mut random = Random::new(0xb17e5);
    for _ in 0..4_000 {
        let bytes: Vec<u8> = (0..random.below(60)).map(|_| random.byte()).collect();
        assert!(canonical(&bytes).is_err() || serde_json::from_slice::<Value>(&bytes).is_ok());
    }
}

/// Replaces, removes or adds one byte; mostly bytes that mean something to JSON.
fn damage(random: &mut Random, bytes: &mut Vec<u8>) {
    const TELLING: &[u8] = b"{}[]\",:\\u0189dDcC.eE+-tfn \n\x00\x1f\x7f\xc2\x85\xe2\xff";
    let byte = if random.below(4) == 0 {
        random.byte()
    } else {
        TELLING[random.below(TELLING.len())]
    };
    let at = random.below(bytes.len());
    match random.below(3) {
        0 => bytes[at] = byte,
        1 => bytes.insert(at, byte),
        _ => drop(bytes.remove(at)),
    }
    if bytes.is_empty() {
        bytes.push(byte);
    }
}

/// One value with keys that stand once, in a random spelling.
fn generate(random: &mut Random, depth: usize, out: &mut String) {
    space(random, out);
    match random.below(if depth == 0 { 5 } else { 8 }) {
        0 => out.push_str(["null", "true", "false"][random.below(3)]),
        1 | 2 => number(random, out),
        3 | 4 => string(random, "", out),
        5 => {
            out.push('[');
            for index in 0..random.below(5) {
                out.push_str(if index > 0 { "," } else { "" });
                generate(random, depth - 1, out);
            }
            out.push(']');
        }
        _ => {
            out.push('{');
            for index in 0..random.below(14) {
                out.push_str(if index > 0 { "," } else { "" });
                space(random, out);
                string(random, &index.to_string(), out);
                space(random, out);
                out.push(':');
                generate(random, depth - 1, out);
            }
            out.push('}');
        }
    }
    space(random, out);
}

fn space(random: &mut Random, out: &mut String) {
    for _ in 0..random.below(6).saturating_sub(3) {
        out.push([' ', '\t', '\n', '\r'][random.below(4)]);
    }
}

fn number(random: &mut Random, out: &mut String) {
    let digits = random.below(1_000_000);
    match random.below(4) {
        0 => out.push_str(&format!("-{digits}")),
        1 => out.push_str(&format!("{digits}.{}", random.below(1_000))),
        2 => out.push_str(&format!("{digits}E-{:02}", random.below(30))),
        _ => out.push_str(&format!("{digits}{digits}{digits}")),
    }
}

fn string(random: &mut Random, prefix: &str, out: &mut String) {
    const LETTERS: &[char] = &[
        'a', 'Z', '"', '\\', '/', '\n', '\u{0}', '\u{1f}', '\u{7f}', '\u{85}', 'é', '\u{2028}', '\u{feff}',
        '€', '😀',
    ];
    out.push('"');
    out.push_str(prefix);
    out.push('.');
    for _ in 0..random.below(12) {
        let letter = LETTERS[random.below(LETTERS.len())];
        let mut units = [0; 2];
        if random.below(3) == 0 {
            for unit in letter.encode_utf16(&mut units) {
                out.push_str(&format!("\\u{unit:04X}"));
            }
        } else {
            let quoted = quoted(&letter.to_string());
            out.push_str(&quoted[1..quoted.len() - 1]);
        }
    }
    out.push('"');
}

/// The value as `serde_json` has it, put together from looks.
fn seen(view: View<'_>) -> Value {
    if view.is_object() {
        let member = |(key, value): (View<'_>, View<'_>)| (key.text().unwrap().into_owned(), seen(value));
        return Value::Object(view.members().map(member).collect());
    }
    if view.raw().starts_with(b"[") {
        return view.items().map(seen).collect();
    }
    match view.text() {
        Some(text) => Value::String(text.into_owned()),
        None => serde_json::from_slice(view.raw()).unwrap(),
    }
}

#[test]
fn a_look_finds_what_the_text_holds() {
    for text in [
        r#"{"a":[1,{"b":"c]}\"","d":{}},[],"e,f:g"],"":null,"\u0000\\":{"x":[[-1.5]]},"t":true}"#,
        r#"[{},[[]],"",0]"#,
        "\"a\"",
        "12",
        "{}",
    ] {
        let view = View::of(text.as_bytes());
        assert_eq!(seen(view), serde_json::from_str::<Value>(text).unwrap(), "{text}");
    }
    let view = View::of(br#"{"a":{"b":"c"},"d":true,"n":null}"#);
    assert!(
        view.get("a")
            .and_then(|a| a.get("b"))
            .is_some_and(|b| b.is_text("c"))
    );
    assert_eq!(
        (view.get("b"), view.items().count(), view.text()),
        (None, 0, None)
    );
}

#[test]
fn a_look_into_damaged_text_ends() {
    let whole = r#"{"a":[1,{"b":"c]}\"","d":{}},[],"e,f:g"],"\u0000\\":{"x":[[-1.5]]}}"#;
    for end in 0..whole.len() {
        for damaged in [whole[..end].to_owned(), whole[end..].to_owned()] {
            let view = View::of(damaged.as_bytes());
            assert!(view.members().count() + view.items().count() <= damaged.len());
        }
    }
}
