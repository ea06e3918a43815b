//! Label selectors, against what apimachinery makes of them.

use crate::request_info::labels::{LabelError, check};
use crate::request_info::tests::{accepted, assert_malformed, refused};

#[test]
fn selectors_that_apimachinery_takes_are_taken() {
    let longest = format!("{}/{}={}", "p".repeat(253), "n".repeat(63), "v".repeat(63));
    for selector in [
        "",
        " ",
        "a",
        "!a",
        "! a",
        "a=b",
        "a==b",
        "a!=b",
        "a = b",
        "a=",
        "a!=,b",
        "a,b=c, !d",
        "a in (b)",
        "a in (b,c)",
        "a notin (b, c)",
        "a in ()",
        "a in (,)",
        "a in (,,b)",
        "a in (b,)",
        "a in(b)",
        "in",
        "in in (in)",
        "notin=in",
        "a>5",
        "a < 007",
        "example.com/app=web",
        "a.b-c/D_e.f-g=H",
        "0=0",
        &longest,
    ] {
        assert_eq!(check(selector), Ok(()), "{selector}");
    }
}

#[test]
fn selectors_that_apimachinery_refuses_are_refused() {
    let long_name = "n".repeat(64);
    let long_prefix = format!("{}/n", "p".repeat(254));
    let long_value = format!("a={}", "v".repeat(64));
    for (selector, error) in [
        (",", LabelError::Syntax),
        ("a,", LabelError::Syntax),
        (",a", LabelError::Syntax),
        ("a,,b", LabelError::Syntax),
        ("=a", LabelError::Syntax),
        ("!", LabelError::Syntax),
        ("!!a", LabelError::Syntax),
        ("!a=b", LabelError::Syntax),
        ("a b", LabelError::Syntax),
        ("a=b=c", LabelError::Syntax),
        ("a===b", LabelError::Syntax),
        ("a=!b", LabelError::Syntax),
        ("a in b", LabelError::Syntax),
        ("a in (b", LabelError::Syntax),
        ("a in (b c)", LabelError::Syntax),
        ("a in (b))", LabelError::Syntax),
        ("a in ((b))", LabelError::Syntax),
        ("a in (=)", LabelError::Syntax),
        ("a In (b)", LabelError::Syntax),
        ("a>", LabelError::Value),
        ("a>b", LabelError::Value),
        ("a>-1", LabelError::Value),
        ("a>9223372036854775808", LabelError::Value),
        ("a=b/c", LabelError::Value),
        ("a=-b", LabelError::Value),
        ("a=b.", LabelError::Value),
        ("a in (b,c/d)", LabelError::Value),
        ("a=é", LabelError::Value),
        (&long_value, LabelError::Value),
        ("-a", LabelError::Key),
        ("a_", LabelError::Key),
        ("a/b/c", LabelError::Key),
        ("/a", LabelError::Key),
        ("a/", LabelError::Key),
        ("A/b", LabelError::Key),
        ("a..b/c", LabelError::Key),
        ("a-/c", LabelError::Key),
        ("é", LabelError::Key),
        (&long_name, LabelError::Key),
        (&long_prefix, LabelError::Key),
    ] {
        assert_eq!(check(selector), Err(error), "{selector}");
    }
}

#[test]
fn requests_with_a_selector_that_cannot_be_read_are_refused() {
    for line in [
        "GET /api/v1/pods?labelSelector=a%3Db%3Dc",
        "DELETE /api/v1/pods?labelSelector=,",
        "GET /api/v1/pods?labelSelector=a,%0Ab",
    ] {
        assert_malformed(&[line]);
        assert!(refused(line).message.contains("labelSelector"), "{line}");
    }
    accepted("GET /api/v1/pods?labelSelector=app+in+(a,b),!old");
}
