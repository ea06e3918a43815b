//! The table of functions. What is not in it is an error when the policy is read, so a function that this version lacks
//! never means anything else.

/// What a call returns, as far as it matters when a policy is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::policy::condition) enum Returns {
    Bool,
    Text,
    Number,
    /// Something else than these, for sure.
    Other,
    /// That depends.
    Any,
}

/// One function: its name, whether it is called on a value, how many arguments it takes, what it returns.
struct Signature(&'static str, Call, &'static [usize], Returns);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::policy::condition) enum Call {
    /// `f(x)`
    Plain,
    /// `x.f()`
    On,
}

use Call::{On, Plain};
use Returns::{Any, Bool, Number, Other, Text};

/// What the macro `sortBy` comes to.
pub(in crate::policy::condition) const SORT_BY: &str = "@sortByAssociatedKeys";
/// What `matches` with a compiled pattern is called.
pub(in crate::policy::condition) const MATCHES: &str = "@matches";
/// The names of functions that stand here in the place of the CEL crate's.
pub(in crate::policy::condition) const DURATION: &str = "@duration";
pub(in crate::policy::condition) const INDEX_FROM: &str = "@indexOf";
pub(in crate::policy::condition) const LAST_INDEX_FROM: &str = "@lastIndexOf";
pub(in crate::policy::condition) const REVERSE: &str = "@reverse";
pub(in crate::policy::condition) const STRING: &str = "@string";

/// Functions of CEL and of the libraries, without operators.
const SIGNATURES: &[Signature] = &[
    Signature(DURATION, Plain, &[1], Other),
    Signature(INDEX_FROM, On, &[2], Number),
    Signature(LAST_INDEX_FROM, On, &[2], Number),
    Signature(MATCHES, On, &[1], Bool),
    Signature(REVERSE, On, &[0], Other),
    Signature(STRING, Plain, &[1], Text),
    Signature("size", Plain, &[1], Number),
    Signature("size", On, &[0], Number),
    Signature("type", Plain, &[1], Other),
    Signature("dyn", Plain, &[1], Any),
    Signature("int", Plain, &[1], Number),
    Signature("uint", Plain, &[1], Number),
    Signature("double", Plain, &[1], Number),
    Signature("string", Plain, &[1], Text),
    Signature("bool", Plain, &[1], Bool),
    Signature("timestamp", Plain, &[1], Other),
    Signature("duration", Plain, &[1], Other),
    Signature("contains", On, &[1], Bool),
    Signature("startsWith", On, &[1], Bool),
    Signature("endsWith", On, &[1], Bool),
    Signature("matches", On, &[1], Bool),
    Signature("find", On, &[1], Text),
    Signature("findAll", On, &[1, 2], Other),
    Signature("getFullYear", On, &[0, 1], Number),
    Signature("getMonth", On, &[0, 1], Number),
    Signature("getDate", On, &[0, 1], Number),
    Signature("getDayOfMonth", On, &[0, 1], Number),
    Signature("getDayOfWeek", On, &[0, 1], Number),
    Signature("getDayOfYear", On, &[0, 1], Number),
    Signature("getHours", On, &[0, 1], Number),
    Signature("getMinutes", On, &[0, 1], Number),
    Signature("getSeconds", On, &[0, 1], Number),
    Signature("getMilliseconds", On, &[0, 1], Number),
    Signature("optional.of", Plain, &[1], Other),
    Signature("optional.none", Plain, &[0], Other),
    Signature("optional.ofNonZeroValue", Plain, &[1], Other),
    Signature("optional.unwrap", Plain, &[1], Other),
    Signature("unwrapOpt", On, &[0], Other),
    Signature("hasValue", On, &[0], Bool),
    Signature("or", On, &[1], Other),
    Signature("value", On, &[0], Any),
    Signature("orValue", On, &[1], Any),
    Signature("charAt", On, &[1], Text),
    Signature("indexOf", On, &[1, 2], Number),
    Signature("lastIndexOf", On, &[1, 2], Number),
    Signature("lowerAscii", On, &[0], Text),
    Signature("upperAscii", On, &[0], Text),
    Signature("substring", On, &[1, 2], Text),
    Signature("split", On, &[1, 2], Other),
    Signature("trim", On, &[0], Text),
    Signature("isSorted", On, &[0], Bool),
    Signature("sum", On, &[0], Other),
    Signature("min", On, &[0], Any),
    Signature("max", On, &[0], Any),
    Signature("first", On, &[0], Other),
    Signature("last", On, &[0], Other),
    Signature("slice", On, &[2], Other),
    Signature("flatten", On, &[0, 1], Other),
    Signature("distinct", On, &[0], Other),
    Signature("reverse", On, &[0], Other),
    Signature("sort", On, &[0], Other),
    Signature(SORT_BY, On, &[1], Other),
    Signature("sets.contains", Plain, &[2], Bool),
    Signature("sets.equivalent", Plain, &[2], Bool),
    Signature("sets.intersects", Plain, &[2], Bool),
    Signature("quantity", Plain, &[1], Other),
    Signature("isQuantity", Plain, &[1], Bool),
    Signature("sign", On, &[0], Number),
    Signature("add", On, &[1], Other),
    Signature("sub", On, &[1], Other),
    Signature("isLessThan", On, &[1], Bool),
    Signature("isGreaterThan", On, &[1], Bool),
    Signature("compareTo", On, &[1], Number),
    Signature("ip", Plain, &[1], Other),
    Signature("ip", On, &[0], Other),
    Signature("isIP", Plain, &[1], Bool),
    Signature("ip.isCanonical", Plain, &[1], Bool),
    Signature("family", On, &[0], Number),
    Signature("isUnspecified", On, &[0], Bool),
    Signature("isLoopback", On, &[0], Bool),
    Signature("isLinkLocalMulticast", On, &[0], Bool),
    Signature("isLinkLocalUnicast", On, &[0], Bool),
    Signature("isGlobalUnicast", On, &[0], Bool),
    Signature("cidr", Plain, &[1], Other),
    Signature("isCIDR", Plain, &[1], Bool),
    Signature("containsIP", On, &[1], Bool),
    Signature("containsCIDR", On, &[1], Bool),
    Signature("masked", On, &[0], Other),
    Signature("prefixLength", On, &[0], Number),
    Signature("semver", Plain, &[1, 2], Other),
    Signature("isSemver", Plain, &[1, 2], Bool),
    Signature("major", On, &[0], Number),
    Signature("minor", On, &[0], Number),
    Signature("patch", On, &[0], Number),
    Signature("url", Plain, &[1], Other),
    Signature("isURL", Plain, &[1], Bool),
    Signature("getScheme", On, &[0], Text),
    Signature("getHost", On, &[0], Text),
    Signature("getHostname", On, &[0], Text),
    Signature("getPort", On, &[0], Text),
    Signature("getEscapedPath", On, &[0], Text),
    Signature("getQuery", On, &[0], Other),
    Signature("validate", On, &[1], Other),
    Signature("format.named", Plain, &[1], Other),
    Signature("format.dns1123Label", Plain, &[0], Other),
    Signature("format.dns1123Subdomain", Plain, &[0], Other),
    Signature("format.dns1035Label", Plain, &[0], Other),
    Signature("format.qualifiedName", Plain, &[0], Other),
    Signature("format.dns1123LabelPrefix", Plain, &[0], Other),
    Signature("format.dns1123SubdomainPrefix", Plain, &[0], Other),
    Signature("format.dns1035LabelPrefix", Plain, &[0], Other),
    Signature("format.labelValue", Plain, &[0], Other),
    Signature("format.uri", Plain, &[0], Other),
    Signature("format.uuid", Plain, &[0], Other),
    Signature("format.byte", Plain, &[0], Other),
    Signature("format.date", Plain, &[0], Other),
    Signature("format.datetime", Plain, &[0], Other),
];

const ANY_LENGTH: &str = "it makes values of any length";
const AS_WRITTEN: &str = "in Kubernetes it depends on how the quantity is written";
const TWO_VARIABLES: &str = "a comprehension has one variable here";
const AUTHORIZER: &str = "the API server's authorizer is not asked here";

/// Functions that Kubernetes has and this version has not, with the reason.
const LEFT_OUT: [(&str, &str); 20] = [
    ("all", TWO_VARIABLES),
    ("allowed", AUTHORIZER),
    ("asApproximateFloat", AS_WRITTEN),
    ("asInteger", AS_WRITTEN),
    ("check", AUTHORIZER),
    ("exists", TWO_VARIABLES),
    ("existsOne", TWO_VARIABLES),
    ("format", ANY_LENGTH),
    ("group", AUTHORIZER),
    ("isInteger", AS_WRITTEN),
    ("join", ANY_LENGTH),
    ("jsonpatch.escapeKey", "conditions patch nothing"),
    ("lists.range", ANY_LENGTH),
    ("path", AUTHORIZER),
    ("replace", ANY_LENGTH),
    ("serviceAccount", AUTHORIZER),
    ("strings.quote", ANY_LENGTH),
    ("transformList", TWO_VARIABLES),
    ("transformMap", TWO_VARIABLES),
    ("transformMapEntry", TWO_VARIABLES),
];

/// Functions that make a list of a text, or compare another one at each place of it.
pub(in crate::policy::condition) const PIECES: [&str; 5] =
    ["findAll", "getQuery", "indexOf", "lastIndexOf", "split"];

/// Functions that compare the elements of lists with each other.
pub(in crate::policy::condition) const PAIRS: [&str; 4] =
    ["distinct", "sets.contains", "sets.equivalent", "sets.intersects"];

/// Functions that sort.
pub(in crate::policy::condition) const SORTING: [&str; 2] = [SORT_BY, "sort"];

/// The name that a function is called by when it is evaluated.
pub(in crate::policy::condition) fn evaluated(name: &str, arguments: usize) -> Option<&'static str> {
    match (name, arguments) {
        ("duration", 1) => Some(DURATION),
        ("indexOf", 2) => Some(INDEX_FROM),
        ("lastIndexOf", 2) => Some(LAST_INDEX_FROM),
        ("matches", 1) => Some(MATCHES),
        ("reverse", 0) => Some(REVERSE),
        ("string", 1) => Some(STRING),
        _ => None,
    }
}

/// What a call returns; none when there is no such function.
pub(in crate::policy::condition) fn find(name: &str, call: Call, arguments: usize) -> Option<Returns> {
    let found = SIGNATURES
        .iter()
        .find(|it| it.0 == name && it.1 == call && it.2.contains(&arguments));
    found.map(|it| it.3)
}

/// Whether some function has this name.
pub(in crate::policy::condition) fn is_name(name: &str) -> bool {
    SIGNATURES.iter().any(|it| it.0 == name) || left_out(name).is_some()
}

/// Every name that can be written, for the nearest one to what was.
pub(in crate::policy::condition) fn names() -> Vec<&'static str> {
    let names = SIGNATURES.iter().map(|it| it.0);
    names.filter(|name| !name.starts_with('@')).collect()
}

/// Why Kubernetes has a function that is not here.
pub(in crate::policy::condition) fn left_out(name: &str) -> Option<&'static str> {
    LEFT_OUT.iter().find(|row| row.0 == name).map(|row| row.1)
}
