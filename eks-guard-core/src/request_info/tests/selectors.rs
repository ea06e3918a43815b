//! Field selectors, against what apimachinery makes of them.

use crate::request_info::selector::{SelectorError, exact_name, of_name};
use crate::request_info::tests::{assert_malformed, refused};

#[test]
fn the_exact_name_is_found_among_the_terms() {
    for (selector, name) in [
        ("", None),
        (",", None),
        ("metadata.name=a", Some("a")),
        ("metadata.name==a", Some("a")),
        ("metadata.name!=a", None),
        ("metadata.name=", Some("")),
        ("spec.nodeName=n,metadata.name=a", Some("a")),
        (",metadata.name=a,", Some("a")),
        ("metadata.name=a,metadata.name=a", Some("a")),
        ("metadata.name=a,metadata.name!=b", Some("a")),
        ("metadata.name=a\\,b\\=c\\\\d", Some("a,b=c\\d")),
        ("metadata.name=a\\\\,type=x", Some("a\\")),
        (" metadata.name=a", None),
        ("Metadata.name=a", None),
        ("metadata.names=a", None),
        ("metadata.name =a", None),
        ("!=x", None),
    ] {
        assert_eq!(exact_name(selector), Ok(name.map(str::to_owned)), "{selector}");
    }
}

#[test]
fn selectors_that_cannot_be_read_are_refused() {
    for (selector, error) in [
        ("a", SelectorError::Operator),
        ("a!b", SelectorError::Operator),
        ("x=1,a", SelectorError::Operator),
        ("a=b=c", SelectorError::Escape),
        ("metadata.name===a", SelectorError::Escape),
        ("a=\\n", SelectorError::Escape),
        ("a=b\\", SelectorError::Escape),
        ("metadata.name=a,metadata.name=b", SelectorError::TwoNames),
        ("metadata.name=b,metadata.name==a", SelectorError::TwoNames),
    ] {
        assert_eq!(exact_name(selector), Err(error), "{selector}");
        let line = format!("GET /api/v1/pods?fieldSelector={selector}");
        assert_malformed(&[&line]);
        assert!(refused(&line).message.contains("fieldSelector"), "{line}");
        assert_malformed(&[&format!("DELETE /api/v1/pods?fieldSelector={selector}")]);
    }
}

#[test]
fn a_selector_of_a_name_asks_for_that_name() {
    for name in ["a", "a.b-c", "a,b", "a=b", "a\\b", "é", "!="] {
        assert_eq!(exact_name(&of_name(name)), Ok(Some(name.to_owned())), "{name}");
    }
}
