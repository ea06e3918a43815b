//! URLs as Go's `net/url` reads them, which is what Kubernetes has: what other parsers mend or refuse is not mended or
//! refused here. Of a few that need a close look (escapes in hosts and users, zones) nothing is said at all.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv6Addr;

use cel::common::functions::Function;
use cel::common::types::{CelList, CelMap, CelMapKey, CelString, STRING_TYPE, Type};
use cel::common::value::{CowVal, Val};
use cel::{DeclarationError, Env};
use percent_encoding::percent_decode_str;

use crate::policy::condition::library::opaque::Named;
use crate::policy::condition::library::{Answer, Arguments, argument, rejected, string, text, truth, value};

static URL: Type = Type::new_unspecified_type("kubernetes.URL");

/// More pairs than Go reads.
const MAX_PAIRS: usize = 10_000;

/// The parts, as they are written; equal when all of them are.
#[derive(Clone, Debug, Default, PartialEq)]
struct Url {
    scheme: String,
    /// What follows the scheme of one that has neither host nor path.
    opaque: String,
    /// Whether there is an authority, and the user in it.
    user: Option<Option<String>>,
    host: String,
    path: String,
    query: Option<String>,
    fragment: String,
}

impl Named for Url {
    const TYPE: &'static Type = &URL;
}

/// Why a text is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unread {
    /// It is no URL.
    Invalid,
    /// It may be one.
    Unknown,
}

/// How Go is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// What stands in a request: absolute, or a path from the root; `#` is a character like others.
    Request,
    /// What may be relative to another one.
    Reference,
}

impl Url {
    /// As `url()` reads it: it has to be fit for a request, and is then read as a reference.
    fn parse(text: &str) -> Result<Self, Unread> {
        Self::read(text, Form::Request)?;
        let (text, fragment) = text.split_once('#').unwrap_or((text, ""));
        let mut url = Self::read(text, Form::Reference)?;
        url.fragment = escaped(fragment, "!()*?")?;
        Ok(url)
    }

    fn read(text: &str, form: Form) -> Result<Self, Unread> {
        let mut url = Self::default();
        if text.bytes().any(|byte| byte.is_ascii_control()) || (text.is_empty() && form == Form::Request) {
            return Err(Unread::Invalid);
        }
        if text == "*" {
            text.clone_into(&mut url.path);
            return Ok(url);
        }
        let (scheme, rest) = split_scheme(text)?;
        url.scheme = scheme.to_ascii_lowercase();
        let (rest, query) = match rest.split_once('?') {
            Some((rest, query)) => (rest, Some(query.to_owned())),
            None => (rest, None),
        };
        url.query = query;
        if !rest.starts_with('/') {
            if !url.scheme.is_empty() {
                rest.clone_into(&mut url.opaque);
                return Ok(url);
            }
            let first = rest.split('/').next().unwrap_or_default();
            if form == Form::Request || first.contains(':') {
                return Err(Unread::Invalid);
            }
        }
        let may_have_host = !url.scheme.is_empty() || (form == Form::Reference && !rest.starts_with("///"));
        let path = match rest.strip_prefix("//").filter(|_| may_have_host) {
            None => rest,
            Some(rest) => {
                let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                url.read_authority(authority)?;
                path
            }
        };
        url.path = escaped(path, "")?;
        Ok(url)
    }

    fn read_authority(&mut self, authority: &str) -> Result<(), Unread> {
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        check_host(&self.scheme, host)?;
        if let Some(user) = user {
            let taken = |char: char| char.is_ascii_alphanumeric() || "-._:~!$&'()*+,;=%@".contains(char);
            if !user.chars().all(taken) {
                return Err(Unread::Invalid);
            }
            if user.contains('%') {
                return Err(Unread::Unknown);
            }
        }
        self.user = Some(user.map(str::to_owned));
        host.clone_into(&mut self.host);
        Ok(())
    }

    /// Host and port; without a valid port, everything is host.
    fn host_and_port(&self) -> (&str, &str) {
        let (host, port) = match self.host.rsplit_once(':') {
            Some((host, port)) if is_port(port) => (host, port),
            Some(_) | None => (self.host.as_str(), ""),
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        (bare.unwrap_or(host), port)
    }

    /// The values of each key of the query; pairs that cannot be read are left out.
    fn pairs(&self) -> Result<BTreeMap<String, Vec<String>>, Unread> {
        let mut pairs: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let query = self.query.as_deref().unwrap_or_default();
        if query.matches('&').count() >= MAX_PAIRS {
            return Err(Unread::Unknown);
        }
        let readable = |it: &&str| !it.is_empty() && !it.contains(';') && has_whole_escapes(it);
        for pair in query.split('&').filter(readable) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let [key, value] = [key, value].map(|part| {
                let part = part.replace('+', " ");
                let decoded = percent_decode_str(&part).decode_utf8();
                decoded.map(String::from).map_err(|_| Unread::Unknown)
            });
            pairs.entry(key?).or_default().push(value?);
        }
        Ok(pairs)
    }
}

/// The scheme, empty when there is none, and what follows it.
fn split_scheme(text: &str) -> Result<(&str, &str), Unread> {
    let end = text.find(|char: char| !char.is_ascii_alphanumeric() && !"+-.".contains(char));
    let starts_with_letter = text.starts_with(|char: char| char.is_ascii_alphabetic());
    match end {
        Some(0) if text.starts_with(':') => Err(Unread::Invalid),
        Some(end) if starts_with_letter && text[end..].starts_with(':') => {
            Ok((&text[..end], &text[end + 1..]))
        }
        Some(_) | None => Ok(("", text)),
    }
}

fn check_host(scheme: &str, host: &str) -> Result<(), Unread> {
    let port = match host.rfind('[') {
        Some(0) => {
            let end = host.rfind(']').ok_or(Unread::Invalid)?;
            let (address, port) = (&host[1..end], &host[end + 1..]);
            if address.contains('%') {
                return Err(Unread::Unknown);
            }
            address.parse::<Ipv6Addr>().map_err(|_| Unread::Invalid)?;
            port
        }
        Some(_) => return Err(Unread::Invalid),
        None => {
            let (first, last) = (host.find(':'), host.rfind(':'));
            if first != last && matches!(scheme, "http" | "https") {
                return Err(Unread::Unknown);
            }
            last.map_or("", |last| &host[last..])
        }
    };
    if !port.is_empty() && !port.strip_prefix(':').is_some_and(is_port) {
        return Err(Unread::Invalid);
    }
    if host.contains('%') {
        return Err(Unread::Unknown);
    }
    let taken = |char: char| {
        !char.is_ascii() || char.is_ascii_alphanumeric() || "-_.~!$&'()*+,;=:[]<>\"".contains(char)
    };
    if host.chars().all(taken) {
        Ok(())
    } else {
        Err(Unread::Invalid)
    }
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

fn has_whole_escapes(text: &str) -> bool {
    let mut escapes = text.split('%');
    let _before_the_first = escapes.next();
    escapes.all(|it| it.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2)
}

/// A path or a fragment, as it is where it could be written so, else decoded and escaped anew. `also` is what a
/// fragment may hold and a path may not.
fn escaped(text: &str, also: &str) -> Result<String, Unread> {
    if !has_whole_escapes(text) {
        return Err(Unread::Invalid);
    }
    let kept = |byte: u8| {
        byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&byte) || also.as_bytes().contains(&byte)
    };
    let is_valid = |byte: u8| kept(byte) || b"!'()*[]%".contains(&byte);
    if text.bytes().all(is_valid) {
        return Ok(text.to_owned());
    }
    let mut out = String::with_capacity(text.len());
    for byte in percent_decode_str(text) {
        if kept(byte) {
            out.push(char::from(byte));
        } else {
            out += percent_encoding::percent_encode_byte(byte);
        }
    }
    Ok(out)
}

/// Whether a text is a URL as a request has it; none when that is not known.
pub(super) fn is_url(text: &str) -> Option<bool> {
    match Url::read(text, Form::Request) {
        Ok(_) => Some(true),
        Err(Unread::Invalid) => Some(false),
        Err(Unread::Unknown) => None,
    }
}

pub(super) fn declare(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_type(URL.to_owned())?;
    let from_text: [(&str, Function); 2] = [
        ("url", |it| {
            let url = Url::parse(text(&it, 0)?).map_err(|_| rejected("url"))?;
            Ok(value(url))
        }),
        ("isURL", |it| {
            truth(is_url(text(&it, 0)?).ok_or_else(|| rejected("isURL"))?)
        }),
    ];
    for (name, run) in from_text {
        env.add_overload(name, name, vec![STRING_TYPE.to_owned()], run)?;
    }
    let parts: [(&str, Function); 6] = [
        ("getScheme", |it| string(argument::<Url>(&it, 0)?.scheme.clone())),
        ("getHost", |it| string(argument::<Url>(&it, 0)?.host.clone())),
        ("getHostname", |it| {
            string(argument::<Url>(&it, 0)?.host_and_port().0.to_owned())
        }),
        ("getPort", |it| {
            string(argument::<Url>(&it, 0)?.host_and_port().1.to_owned())
        }),
        ("getEscapedPath", |it| {
            string(argument::<Url>(&it, 0)?.path.clone())
        }),
        ("getQuery", query),
    ];
    for (name, run) in parts {
        env.add_member_overload(name, name, URL.to_owned(), Vec::new(), run)?;
    }
    Ok(())
}

fn query<'b, 'v>(arguments: Arguments<'b, 'v>) -> Answer<'b, 'v> {
    let pairs = argument::<Url>(&arguments, 0)?.pairs();
    let pairs = pairs.map_err(|_| rejected("getQuery"))?.into_iter();
    let entries = pairs.map(|(key, values)| {
        let values = values.into_iter();
        let values: Vec<Box<dyn Val + 'v>> = values
            .map(|it| Box::new(CelString::from(it)) as Box<dyn Val + 'v>)
            .collect();
        let values: Box<dyn Val + 'v> = Box::new(CelList::from(values));
        (CelMapKey::String(CelString::from(key)), values)
    });
    Ok(CowVal::owned(CelMap::from(entries.collect::<HashMap<_, _>>())))
}
