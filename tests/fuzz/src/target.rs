//! The targets, and the check that the seeds of the chosen one are worth something.

use std::path::{Path, PathBuf};
use std::{env, fs, process};

use crate::{body, headers, policy, request_line};

/// What became of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// It was understood, and every promise about it held.
    Taken,
    /// It was refused.
    Refused,
}

/// A reader, and what it promises.
pub(crate) struct Target {
    name: &'static str,
    /// Reads an input; panics when a promise does not hold.
    pub(crate) read: fn(&[u8]) -> Reading,
}

const TARGETS: [Target; 8] = [
    Target {
        name: "path",
        read: request_line::path,
    },
    Target {
        name: "query",
        read: request_line::query,
    },
    Target {
        name: "head",
        read: headers::head,
    },
    Target {
        name: "accept",
        read: headers::accept,
    },
    Target {
        name: "json",
        read: body::json,
    },
    Target {
        name: "yaml",
        read: body::yaml,
    },
    Target {
        name: "protobuf",
        read: body::protobuf,
    },
    Target {
        name: "policy",
        read: policy::documents,
    },
];

/// The target that `FUZZ_TARGET` names. Its seeds are read first: seeds of which all are taken, or all refused, lead nowhere.
pub(crate) fn chosen() -> &'static Target {
    let name = env::var("FUZZ_TARGET").unwrap_or_default();
    let Some(target) = TARGETS.iter().find(|target| target.name == name) else {
        let names = TARGETS.map(|target| target.name).join(", ");
        eprintln!("FUZZ_TARGET is `{name}`; there are: {names}");
        process::exit(2)
    };
    let readings: Vec<Reading> = seeds(name.as_ref())
        .iter()
        .filter_map(|seed| fs::read(seed).ok())
        .map(|bytes| (target.read)(&bytes))
        .collect();
    let taken = readings
        .iter()
        .filter(|&&reading| reading == Reading::Taken)
        .count();
    let refused = readings.len() - taken;
    eprintln!("{name}: {taken} seeds are taken, {refused} are refused");
    if taken == 0 || refused == 0 {
        eprintln!("{name}: there must be some of both in tests/fuzz/seeds/{name}");
        process::exit(2)
    }
    target
}

fn seeds(target: &Path) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    entries.filter_map(Result::ok).map(|entry| entry.path()).collect()
}
