//! The targets, and the check that the seeds of the chosen one are worth something.

use std::path::Path;
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

/// What the names of seeds begin with that must be refused; all others must be taken.
const REFUSED: &str = "refused";

/// The target that `FUZZ_TARGET` names. Its seeds are read first, and each must be what its name says.
pub(crate) fn chosen() -> &'static Target {
    let name = env::var("FUZZ_TARGET").unwrap_or_default();
    let Some(target) = TARGETS.iter().find(|target| target.name == name) else {
        let names = TARGETS.map(|target| target.name).join(", ");
        give_up(&format!("FUZZ_TARGET is `{name}`; there are: {names}"))
    };
    for Target { name, .. } in &TARGETS {
        if seeds(name).is_empty() {
            give_up(&format!(
                "{name}: there must be some seeds in tests/fuzz/seeds/{name}, else nobody runs it"
            ));
        }
    }
    let mut counts = [0, 0];
    for (seed, bytes) in seeds(target.name) {
        let wanted = if seed.starts_with(REFUSED) {
            Reading::Refused
        } else {
            Reading::Taken
        };
        let reading = (target.read)(&bytes);
        if reading != wanted {
            give_up(&format!("{name}: the seed {seed} is {reading:?}"));
        }
        counts[usize::from(reading == Reading::Refused)] += 1;
    }
    let [taken, refused] = counts;
    eprintln!("{name}: {taken} seeds are taken, {refused} are refused");
    if taken == 0 || refused == 0 {
        give_up(&format!(
            "{name}: there must be some of both in tests/fuzz/seeds/{name}"
        ));
    }
    target
}

fn give_up(why: &str) -> ! {
    eprintln!("{why}");
    process::exit(2)
}

/// Name and bytes of each.
fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let seed = |entry: fs::DirEntry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        Some((name, fs::read(entry.path()).ok()?))
    };
    entries.filter_map(|entry| seed(entry.ok()?)).collect()
}
