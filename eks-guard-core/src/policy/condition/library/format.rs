//! Named formats: what a text has to look like to be a name, a label value, a date and so on. Whether it does is
//! all that is told: what `validate` gives for one that does not has no messages inside.

use std::sync::LazyLock;

use cel::common::functions::Function;
use cel::common::types::{CelOptional, STRING_TYPE, Type};
use cel::common::value::CowVal;
use cel::{DeclarationError, Env};
use regex::Regex;

use crate::policy::condition::library::opaque::{Named, Opaque};
use crate::policy::condition::library::url;
use crate::policy::condition::library::{Answer, argument, rejected, text};

static FORMAT: Type = Type::new_unspecified_type("kubernetes.NamedFormat");
static MISTAKES: Type = Type::new_unspecified_type("eks_guard.Mistakes");

/// A format; none when it does not know what Kubernetes says of a text.
#[derive(Clone, Copy, Debug)]
struct Format {
    name: &'static str,
    accepts: fn(&str) -> Option<bool>,
}

impl Named for Format {
    const TYPE: &'static Type = &FORMAT;
}

impl PartialEq for Format {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// What is wrong with a text.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Mistakes;

impl Named for Mistakes {
    const TYPE: &'static Type = &MISTAKES;
}

/// Name, what has it, and the function that gives it.
type Row = (&'static str, fn(&str) -> Option<bool>, Function);

const FORMATS: [Row; 13] = [
    ("dns1123Label", |it| Some(is_label(it)), |_| named("dns1123Label")),
    (
        "dns1123Subdomain",
        |it| Some(is_subdomain(it)),
        |_| named("dns1123Subdomain"),
    ),
    (
        "dns1035Label",
        |it| Some(is_dns1035_label(it)),
        |_| named("dns1035Label"),
    ),
    (
        "qualifiedName",
        |it| Some(is_qualified_name(it)),
        |_| named("qualifiedName"),
    ),
    (
        "dns1123LabelPrefix",
        |it| Some(is_label(&continued(it)?)),
        |_| named("dns1123LabelPrefix"),
    ),
    (
        "dns1123SubdomainPrefix",
        |it| Some(is_subdomain(&continued(it)?)),
        |_| named("dns1123SubdomainPrefix"),
    ),
    (
        "dns1035LabelPrefix",
        |it| Some(is_dns1035_label(&continued(it)?)),
        |_| named("dns1035LabelPrefix"),
    ),
    (
        "labelValue",
        |it| Some(is_label_value(it)),
        |_| named("labelValue"),
    ),
    ("uri", url::is_url, |_| named("uri")),
    ("uuid", |it| Some(UUID.is_match(it)), |_| named("uuid")),
    ("byte", |it| Some(BASE64.is_match(it)), |_| named("byte")),
    ("date", |it| Some(is_date(it)), |_| named("date")),
    ("datetime", |it| Some(is_date_time(it)), |_| named("datetime")),
];

static LABEL: LazyLock<Regex> = LazyLock::new(|| pattern("^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"));
static SUBDOMAIN: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"));
static DNS1035_LABEL: LazyLock<Regex> = LazyLock::new(|| pattern("^[a-z]([-a-z0-9]*[a-z0-9])?$"));
static NAME: LazyLock<Regex> = LazyLock::new(|| pattern("^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$"));
static UUID: LazyLock<Regex> =
    LazyLock::new(|| pattern("^(?i:[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12})$"));
static BASE64: LazyLock<Regex> = LazyLock::new(|| {
    pattern("^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})$")
});
static TIME: LazyLock<Regex> =
    LazyLock::new(|| pattern("^([0-9]{2}):([0-9]{2}):([0-9]{2})(.[0-9]+)?(z|([+-][0-9]{2}:[0-9]{2}))$"));

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the pattern is one")
}

pub(super) fn declare(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_type(FORMAT.to_owned())?;
    env.add_overload(
        "format.named",
        "format.named",
        vec![STRING_TYPE.to_owned()],
        |arguments| {
            let format = find(text(&arguments, 0)?).map(Opaque);
            Ok(CowVal::owned(format.map_or_else(CelOptional::none, |it| {
                CelOptional::of(Box::new(it))
            })))
        },
    )?;
    for (name, _, run) in FORMATS {
        let name = format!("format.{name}");
        env.add_overload(&name, &name, Vec::new(), run)?;
    }
    env.add_member_overload(
        "validate",
        "validate",
        FORMAT.to_owned(),
        vec![STRING_TYPE.to_owned()],
        |arguments| {
            let accepts = argument::<Format>(&arguments, 0)?.accepts;
            let accepted = accepts(text(&arguments, 1)?).ok_or_else(|| rejected("validate"))?;
            Ok(CowVal::owned(if accepted {
                CelOptional::none()
            } else {
                CelOptional::of(Box::new(Opaque(Mistakes)))
            }))
        },
    )
}

fn find(name: &str) -> Option<Format> {
    let row = FORMATS.iter().find(|row| row.0 == name);
    row.map(|(name, accepts, _)| Format {
        name,
        accepts: *accepts,
    })
}

fn named<'b, 'v>(name: &str) -> Answer<'b, 'v> {
    let format = find(name).ok_or_else(|| rejected("format"))?;
    Ok(CowVal::owned(Opaque(format)))
}

fn is_label(text: &str) -> bool {
    text.len() <= 63 && LABEL.is_match(text)
}

fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && SUBDOMAIN.is_match(text)
}

fn is_dns1035_label(text: &str) -> bool {
    text.len() <= 63 && DNS1035_LABEL.is_match(text)
}

fn is_qualified_name(text: &str) -> bool {
    let (domain, name) = match text.split_once('/') {
        Some((domain, name)) => (Some(domain), name),
        None => (None, text),
    };
    domain.is_none_or(is_subdomain) && name.len() <= 63 && NAME.is_match(name)
}

fn is_label_value(text: &str) -> bool {
    text.is_empty() || (text.len() <= 63 && NAME.is_match(text))
}

/// A beginning of a name that ends in a dash, as Kubernetes continues it before it looks: two characters give way to
/// one letter. None when that would cut a character in two.
fn continued(text: &str) -> Option<String> {
    if text.len() > 1 && text.ends_with('-') {
        text.get(..text.len() - 2).map(|start| format!("{start}a"))
    } else {
        Some(text.to_owned())
    }
}

fn is_date(text: &str) -> bool {
    let plain = text
        .bytes()
        .enumerate()
        .all(|(at, byte)| byte.is_ascii_digit() != matches!(at, 4 | 7));
    plain && text.len() == 10 && text.parse::<chrono::NaiveDate>().is_ok()
}

/// What follows a second `t` does not matter to Kubernetes either.
fn is_date_time(text: &str) -> bool {
    let text = text.to_lowercase();
    let mut parts = text.split('t');
    let (Some(date), Some(time)) = (parts.next(), parts.next()) else {
        return false;
    };
    let Some(found) = TIME.captures(time) else {
        return false;
    };
    let within = |group, most: &str| found.get(group).is_some_and(|it| it.as_str() <= most);
    is_date(date) && within(1, "23") && within(2, "59") && within(3, "59")
}
