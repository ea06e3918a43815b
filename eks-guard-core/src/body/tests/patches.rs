//! Patches: whole operations, known directives, and the object that a patch belongs to.

use super::{APPLY, MERGE, check, read};
use crate::reason::Reason;
use crate::request_info::Method;

/// The refusal of a patch of a pod; none when it is taken.
fn patch(content_type: &str, body: &str) -> Option<String> {
    let read = read(Method::Patch, "v1 d pods p", Some(content_type), body);
    let refusal = read.err()?;
    assert_eq!(refusal.reason, Reason::BodyMalformed, "{body}");
    Some(refusal.message)
}

#[test]
fn a_json_patch_is_a_list_of_whole_known_operations() {
    let refused = |body: &str| patch("application/json-patch+json", body);
    for body in [
        r#"[{"op":"add","path":"/metadata/labels/a~1b","value":null},{"op":"test","path":"","value":{}}]"#,
        r#"[{"op":"remove","path":"/spec/a~0b/0"},{"op":"replace","path":"/spec/b/-","value":[1]}]"#,
        r#"[{"op":"move","from":"/a","path":"/b"},{"op":"copy","from":"/metadata/name","path":"/metadata/labels/n"}]"#,
        r#"[{"op":"test","path":"/metadata/name","value":"p"},{"value":"{\"op\":1}","path":"/x","op":"add"}]"#,
    ] {
        assert_eq!(refused(body), None, "{body}");
    }
    for (operation, what) in [
        (r#"1"#, "is not an object"),
        (r#"{"path":"/a","value":1}"#, "has no `op`"),
        (r#"{"op":"Add","path":"/a","value":1}"#, "is `Add`, which is none"),
        (r#"{"op":"add","path":"/a"}"#, "(add) has no `value`"),
        (r#"{"op":"add","value":1}"#, "has no `path`"),
        (r#"{"op":"add","path":1,"value":1}"#, "is not text"),
        (
            r#"{"op":"add","path":"a/b","value":1}"#,
            "does not begin with `/`",
        ),
        (
            r#"{"op":"add","path":"/a~2","value":1}"#,
            "not followed by 0 or 1",
        ),
        (r#"{"op":"add","path":"/a~","value":1}"#, "not followed by 0 or 1"),
        (r#"{"op":"move","path":"/a"}"#, "(move) has no `from`"),
        (
            r#"{"op":"copy","from":"b","path":"/a"}"#,
            "does not begin with `/`",
        ),
        (
            r#"{"op":"add","path":"/a","value":1,"Path":"/b"}"#,
            "unknown field `Path`",
        ),
        (
            r#"{"op":"replace","path":"/kind","value":"Secret"}"#,
            "changes `/kind`",
        ),
        (
            r#"{"op":"remove","path":"/metadata/namespace"}"#,
            "changes `/metadata/namespace`",
        ),
        (
            r#"{"op":"move","from":"/metadata/name","path":"/a"}"#,
            "changes `/metadata/name`",
        ),
        (
            r#"{"op":"copy","from":"/a","path":"/apiVersion"}"#,
            "changes `/apiVersion`",
        ),
    ] {
        let message = refused(&format!(r#"[{{"op":"remove","path":"/z"}},{operation}]"#)).unwrap();
        let start = "operation 1 of the JSON patch ";
        assert!(
            message.starts_with(start) && message.contains(what),
            "{operation}: {message}"
        );
    }
    let many = |count: usize| format!("[{}]", vec![r#"{"op":"remove","path":"/a"}"#; count].join(","));
    assert_eq!(refused(&many(10_000)), None);
    assert!(refused(&many(10_001)).unwrap().contains("more than 10000"));
}

#[test]
fn a_json_patch_does_not_change_what_the_object_is_as_a_whole() {
    for (operation, what) in [
        (
            r#"{"op":"replace","path":"","value":{"kind":"Pod"}}"#,
            "/apiVersion",
        ),
        (
            r#"{"op":"add","path":"/metadata","value":{"name":"q"}}"#,
            "/metadata/name",
        ),
        (
            r#"{"op":"move","from":"/metadata","path":"/a"}"#,
            "/metadata/name",
        ),
    ] {
        let refused = patch("application/json-patch+json", &format!("[{operation}]"));
        assert!(
            refused.unwrap().contains(&format!("changes `{what}`")),
            "{operation}"
        );
    }
    let near = r#"[{"op":"add","path":"/metadata/namespaces","value":1},{"op":"remove","path":"/meta"},{"op":"test","path":"","value":{}}]"#;
    assert_eq!(patch("application/json-patch+json", near), None);
}

#[test]
fn directives_of_a_strategic_merge_patch_are_known_ones() {
    let refused = |body: &str| patch("application/strategic-merge-patch+json", body);
    for body in [
        r#"{"spec":{"containers":[{"name":"a","$patch":"delete"}],"$setElementOrder/containers":[{"name":"b"}]}}"#,
        r#"{"$patch":"replace","metadata":{"$patch":"merge","$deleteFromPrimitiveList/finalizers":["a"]}}"#,
        r#"{"spec":{"strategy":{"$retainKeys":["type"]}},"data":{"$schema":"x","a":"$patch"}}"#,
        r#"{"data":{"a":"\"$patch\":1","b\"$patch":"\\"},"list":["$patch",{"$retainKeys":[{"$retainKeys":[]}]}]}"#,
    ] {
        assert_eq!(refused(body), None, "{body}");
    }
    for directive in [
        r#""$patch":"Replace""#,
        r#""$patch":true"#,
        r#""\u0024patch":"remove""#,
        r#""$retainKeys":"type""#,
        r#""$setElementOrder/":[]"#,
        r#""$setElementOrder/a":{}"#,
        r#""$deleteFromPrimitiveList/a":null"#,
        r#""$other":1"#,
    ] {
        for body in [
            format!(r#"{{"spec":{{"list":[1,{{"a":[],{directive}}}]}}}}"#),
            format!(r#"{{{directive},"b":1}}"#),
            format!(r#"{{"$retainKeys":[{{"\"":"\\",{directive}}}]}}"#),
        ] {
            assert!(refused(&body).unwrap().contains("directive `$"), "{body}");
        }
    }
    assert_eq!(
        patch("application/merge-patch+json", r#"{"data":{"$other":1}}"#),
        None
    );
}

#[test]
fn a_patch_stays_with_its_object() {
    let agreeing = [
        r#"{"metadata":{"labels":{"a":null}}}"#,
        r#"{"apiVersion":"apps/v1","metadata":{"name":"x","namespace":"d"}}"#,
    ];
    let refused = [
        r#"{"metadata":{"name":"y"}}"#,
        r#"{"metadata":{"namespace":"e"}}"#,
        r#"{"metadata":{"name":null}}"#,
        r#"{"metadata":{"namespace":null}}"#,
        r#"{"metadata":null}"#,
        r#"{"kind":null}"#,
        r#"{"apiVersion":null}"#,
        r#"{"apiVersion":"apps/v2"}"#,
    ];
    for content_type in [MERGE, APPLY, Some("application/strategic-merge-patch+json")] {
        check(
            Method::Patch,
            "apps/v1 d deployments x",
            content_type,
            &agreeing,
            &refused,
        );
    }
}
