//! Conditions by the grammar in `expressions.grammar`: an expression where one belongs, now and then one of another kind,
//! and texts that are almost what the libraries take.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use regex::Regex;

use crate::differential::random::Random;

/// How deep expressions stand inside each other at most.
const DEPTH: usize = 4;
/// Expressions of a kind that does not belong where they stand, in a hundred.
const STRANGERS: usize = 3;
/// What texts are damaged with.
const PIECES: [&str; 26] = [
    "0", "1", "9", ".", "-", "+", "/", ":", "%", "%41", "%zz", "@", "[", "]", "?", "#", "&", "=", " ", "é",
    "T", "z", "_", "Gi", "v", ";",
];

/// What one kind may be.
#[derive(Default)]
struct Kind {
    /// All of it.
    all: Vec<&'static str>,
    /// What holds no expression.
    leaves: Vec<&'static str>,
}

/// Expression `number` of the run with this seed.
#[must_use]
pub fn expression(seed: u64, number: u64) -> String {
    let mut random = Random::of(seed, number);
    let depth = 1 + random.below(DEPTH);
    // A condition is true or false; what others come out as is compared as well.
    let kind = if random.percent(70) { 'B' } else { any(&mut random) };
    of_kind(kind, depth, &mut random)
}

fn grammar() -> &'static BTreeMap<char, Kind> {
    static GRAMMAR: OnceLock<BTreeMap<char, Kind>> = OnceLock::new();
    GRAMMAR.get_or_init(|| {
        let mut kinds: BTreeMap<char, Kind> = BTreeMap::new();
        let rules = include_str!("expressions.grammar")
            .lines()
            .filter_map(|line| line.split_once(": "));
        for (name, text) in rules {
            let mut name = name.chars();
            if let (Some(name), None) = (name.next(), name.next()) {
                let kind = kinds.entry(name).or_default();
                kind.all.push(text);
                if holes(text).all(|hole| hole.is_lowercase()) {
                    kind.leaves.push(text);
                }
            }
        }
        kinds
    })
}

fn holes(text: &str) -> impl Iterator<Item = char> {
    text.split('$').skip(1).filter_map(|rest| rest.chars().next())
}

/// A kind of expressions.
fn any(random: &mut Random) -> char {
    let kinds: Vec<char> = grammar()
        .keys()
        .copied()
        .filter(char::is_ascii_uppercase)
        .collect();
    kinds[random.below(kinds.len())]
}

fn of_kind(name: char, depth: usize, random: &mut Random) -> String {
    let kind = &grammar()[&name];
    if name.is_lowercase() {
        return quoted(name, &kind.all, random);
    }
    let rule = random.pick(if depth == 0 { &kind.leaves } else { &kind.all });
    filled(rule, depth, random)
}

fn filled(rule: &str, depth: usize, random: &mut Random) -> String {
    let mut parts = rule.split('$');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut rest = part.chars();
        let wanted = rest.next().unwrap_or('B');
        let kind = match wanted {
            'A'..='Z' if random.percent(STRANGERS) => any(random),
            wanted => wanted,
        };
        let inner = of_kind(kind, depth.saturating_sub(1), random);
        let stands_tight = out.ends_with(['!', '-']) || rest.as_str().starts_with(['.', '[']);
        // Without brackets, how strongly operators bind is compared too.
        if inner.contains(' ') && !kind.is_lowercase() && (stands_tight || random.percent(60)) {
            out += &format!("({inner})");
        } else {
            out += &inner;
        }
        out += rest.as_str();
    }
    out
}

/// A text as CEL has it: one of those of its kind or of another, whole or damaged; or a pattern.
fn quoted(kind: char, texts: &[&'static str], random: &mut Random) -> String {
    let text = if kind == 'p' && random.percent(50) {
        pattern(2, random)
    } else if kind != 'p' && random.percent(30) {
        damaged(texts, random)
    } else {
        random.pick(texts).to_owned()
    };
    let written = text.chars().map(|char| match char {
        ' '..='~' if !matches!(char, '\'' | '\\') => char.to_string(),
        other => format!("\\U{:08x}", u32::from(other)),
    });
    format!("'{}'", written.collect::<String>())
}

fn damaged(texts: &[&'static str], random: &mut Random) -> String {
    let strange: Vec<&str> = grammar()
        .iter()
        .filter(|(name, _)| name.is_lowercase() && **name != 'p')
        .flat_map(|(_, kind)| kind.all.iter().copied())
        .collect();
    let mut chars: Vec<char> = random.pick(texts).chars().collect();
    loop {
        let place = random.below(chars.len() + 1);
        match random.below(4) {
            0 if place < chars.len() => {
                chars.remove(place);
            }
            1 => {
                chars.truncate(place);
                chars.extend(random.pick(&strange).chars());
            }
            _ => {
                let piece = random.pick(&PIECES).chars();
                chars.splice(place..place, piece);
            }
        }
        if random.percent(60) {
            return with_short_exponents(&chars.into_iter().collect::<String>());
        }
    }
}

/// Kubernetes comes to no end of a quantity such as `1e1234567890`.
fn with_short_exponents(text: &str) -> String {
    static LONG: OnceLock<Regex> = OnceLock::new();
    let long = LONG.get_or_init(|| Regex::new(r"([eE][+-]?\d{1,3})\d+").expect("it is a pattern"));
    long.replace_all(text, "$1").into_owned()
}

/// A regular expression.
fn pattern(depth: usize, random: &mut Random) -> String {
    let mut out = String::new();
    for _ in 0..=random.below(3) {
        out += &match random.below(if depth == 0 { 3 } else { 5 }) {
            0 => random
                .pick(&["a", "b", "web", "-", r"\.", "1", "ä", r"\t", ",", "é", "K", "/"])
                .to_owned(),
            1 => random
                .pick(&[
                    ".", r"\d", r"\w", r"\s", r"\D", r"\W", r"\S", r"\b", "^", "$", r"\pN", r"\x41",
                ])
                .to_owned(),
            2 => {
                let class = random.pick(&[
                    "a-z", "^a", r"\d.", "]", "^]", "0-9_", "-a", r"\w-", "ä-ö", "a&&b", "[a]",
                ]);
                format!("[{class}]")
            }
            3 => format!("({})", pattern(depth - 1, random)),
            _ => format!("({}|{})", pattern(depth - 1, random), pattern(depth - 1, random)),
        };
        if random.percent(35) {
            out += random.pick(&["*", "+", "?", "*?", "+?", "??", "{2}", "{1,}", "{0,2}"]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_that_is_asked_for_is_there_and_can_end() {
        for (name, kind) in grammar() {
            assert!(!kind.leaves.is_empty(), "{name} never ends");
            for hole in kind.all.iter().flat_map(|rule| holes(rule)) {
                assert!(grammar().contains_key(&hole), "{name} asks for {hole}");
            }
        }
    }

    #[test]
    fn the_same_seed_and_number_are_the_same_expression() {
        assert_eq!(expression(1, 2), expression(1, 2));
        assert_ne!(expression(1, 2), expression(2, 2));
    }
}
