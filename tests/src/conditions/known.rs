//! Where the two may differ, each by name: why the guard alone has no answer, as docs/policy.md has it too, and where the
//! guard alone has one.

/// Why the guard has no answer to what Kubernetes has one for.
#[derive(Clone, Copy, Debug)]
pub struct Reason {
    /// In the guard's words.
    pub says: &'static str,
    /// In the expression, one of these; none: whatever the expression is.
    pub about: &'static [&'static str],
    /// What docs/policy.md says of it.
    pub documented: &'static str,
}

/// All of them. The first that fits is the reason.
pub const REASONS: &[Reason] = &[
    reason(
        "it makes values of any length",
        &[],
        "they make values of any length",
    ),
    reason(
        "a comprehension has one variable here",
        &[],
        "comprehensions over two variables",
    ),
    reason(
        "it depends on how the quantity is written",
        &[],
        "they depend on how a quantity is written",
    ),
    reason("there is no function `bytes` with", &[], "`bytes`"),
    // The specification asks about names that nobody knows.
    reason(
        "there is no function",
        &["a.", "f_unknown"],
        "Any other function is an error",
    ),
    reason(
        "there is no variable",
        &["x ||"],
        "Any other function is an error",
    ),
    reason(
        "there is no variable",
        &["google.", "optional_type"],
        "names of types beyond",
    ),
    reason("messages cannot be made here", &[], "messages"),
    reason(
        "the pattern is not taken",
        &[],
        "patterns that do not stand in the expression as text",
    ),
    reason(
        "it compares values that are never equal",
        &[],
        "comparing what a library made",
    ),
    reason(
        "more than 2 of all, exists, map and filter",
        &[],
        "two of `all`, `exists`",
    ),
    reason("it has too many operators, or brackets", &[], "40 levels"),
    reason("the object is too large for it", &[], "20,000 elements visited"),
    reason(
        REJECTED,
        &["quantity(", "isQuantity("],
        "quantities over 2^63 - 1",
    ),
    reason(
        REJECTED,
        &["url(", "isURL("],
        "URLs with an escape in host or user",
    ),
    reason("has no answer", &[" in []"], "`in` an empty list"),
    reason(
        "has no answer",
        &[".or(", ".orValue("],
        "what `or` and `orValue` are given",
    ),
    reason(
        "that it asks for is not there",
        &[".?", "[?"],
        "is written `.?` at every member",
    ),
    reason(ANOTHER_TYPE, &["{"], "maps with several keys that are equal"),
    reason(ANOTHER_TYPE, &[" in "], "`in` a map, of what can be no key"),
    reason(
        ANOTHER_TYPE,
        &[".min()", ".max()"],
        "`min` and `max` of values of several types",
    ),
];

const REJECTED: &str = "a function that it calls does not take the value";
const ANOTHER_TYPE: &str = "a value is of another type than it takes";

const fn reason(says: &'static str, about: &'static [&'static str], documented: &'static str) -> Reason {
    Reason {
        says,
        about,
        documented,
    }
}

impl Reason {
    /// The reason for what the guard says of an expression.
    #[must_use]
    pub fn of(words: &str, expression: &str) -> Option<&'static Self> {
        REASONS.iter().find(|reason| {
            let mut parts = reason.about.iter();
            words.contains(reason.says)
                && (reason.about.is_empty() || parts.any(|part| expression.contains(part)))
        })
    }
}

/// Where Kubernetes fails and the guard has a value.
#[derive(Clone, Copy, Debug)]
pub struct Exception {
    /// What Kubernetes says; with a space at the end, how that begins.
    pub error: &'static str,
    /// In the expression, one of these.
    pub about: &'static [&'static str],
    /// Why Kubernetes fails, although the guard's value is what the specification wants.
    pub because: &'static str,
}

/// All of them.
pub const EXCEPTIONS: &[Exception] = &[
    Exception {
        error: "invalid qualifier type: ",
        about: &["["],
        because: "an index that no map can have fails in Kubernetes before anything is evaluated, so that not even `|| true` \
                  makes up for it; the specification's own tests say that it does",
    },
    Exception {
        error: "no such overload",
        about: &[".add(", ".sub("],
        because: "Kubernetes keeps what `add` and `sub` make in another form, and then does not compare it on the right of `==`",
    },
    Exception {
        error: "no such overload",
        about: &["quantity(", "ip(", "cidr(", "url(", "semver(", "format."],
        because: "what a library made has no answer there whether it equals anything else; here it does not equal it, and where \
                  the expression shows that, it is a mistake",
    },
    Exception {
        error: "no such overload: min(list)",
        about: OF_LISTS,
        because: UNTYPED,
    },
    Exception {
        error: "no such overload: max(list)",
        about: OF_LISTS,
        because: UNTYPED,
    },
    Exception {
        error: "no such overload: sum(list)",
        about: OF_LISTS,
        because: UNTYPED,
    },
    Exception {
        error: "no such overload: isSorted(list)",
        about: OF_LISTS,
        because: UNTYPED,
    },
    Exception {
        error: "no such overload: uint(int)",
        about: &[".value()"],
        because: UNTYPED,
    },
];

const OF_LISTS: &[&str] = &[".distinct()", ".reverse()", ".slice("];
const UNTYPED: &str = "of values whose types it does not know, Kubernetes chooses the function before it has the value, \
                       and another than the value needs";

impl Exception {
    /// The exception that an error of Kubernetes falls under.
    #[must_use]
    pub fn of(error: &str, expression: &str) -> Option<&'static Self> {
        EXCEPTIONS
            .iter()
            .find(|it| is_error(it.error, error) && it.about.iter().any(|part| expression.contains(part)))
    }
}

fn is_error(known: &str, error: &str) -> bool {
    known == error || (known.ends_with(' ') && error.starts_with(known))
}
