//! What an attempt comes to, and what several forms of it come to together.

use std::io;

use eks_guard_core::catalogue::probe::{Evidence, Tried, Verdict};
use nix::errno::Errno;

/// What was found.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) result: Tried,
    pub(crate) evidence: Evidence,
}

/// One form of an attempt. An error is the kernel's refusal of the route itself.
pub(crate) type Attempt = io::Result<Found>;

impl Found {
    pub(crate) fn reached(note: impl Into<String>) -> Found {
        Found::verdict(Verdict::Reached, note)
    }

    pub(crate) fn redirected(note: impl Into<String>) -> Found {
        Found::verdict(Verdict::Redirected, note)
    }

    pub(crate) fn blocked(note: impl Into<String>) -> Found {
        Found::verdict(Verdict::Blocked, note)
    }

    pub(crate) fn not_applicable(reason: impl Into<String>) -> Found {
        Found {
            result: Tried::Verdict(Verdict::NotApplicable(reason.into())),
            evidence: Evidence::default(),
        }
    }

    pub(crate) fn not_run(reason: impl Into<String>) -> Found {
        Found {
            result: Tried::NotRun(reason.into()),
            evidence: Evidence::default(),
        }
    }

    /// Something left the process, and nobody refused it.
    pub(crate) fn sent() -> Found {
        let mut found = Found::reached("the kernel took it");
        found.evidence.packets = Some(1);
        found
    }

    fn verdict(verdict: Verdict, note: impl Into<String>) -> Found {
        Found {
            result: Tried::Verdict(verdict),
            evidence: Evidence {
                note: Some(note.into()),
                ..Evidence::default()
            },
        }
    }

    /// What counts in a row of several forms: the worst.
    fn rank(&self) -> u8 {
        match &self.result {
            Tried::Verdict(Verdict::NotApplicable(_)) => 0,
            Tried::Verdict(Verdict::Blocked) => 1,
            Tried::Verdict(Verdict::Redirected) => 2,
            Tried::NotRun(_) => 3,
            Tried::Verdict(Verdict::Reached) => 4,
        }
    }
}

/// What a refusal looks like. Any other error says that the attempt was wrong, and nothing about the boundary.
const REFUSALS: [Errno; 26] = [
    Errno::EPERM,
    Errno::EACCES,
    Errno::ENOENT,
    Errno::ESRCH,
    Errno::EROFS,
    Errno::ENODEV,
    Errno::ENXIO,
    Errno::ENOSYS,
    Errno::EPIPE,
    Errno::EADDRINUSE,
    Errno::EADDRNOTAVAIL,
    Errno::EAFNOSUPPORT,
    Errno::EPROTONOSUPPORT,
    Errno::ESOCKTNOSUPPORT,
    Errno::EOPNOTSUPP,
    Errno::ECONNREFUSED,
    Errno::ECONNRESET,
    Errno::ECONNABORTED,
    Errno::ENETUNREACH,
    Errno::ENETDOWN,
    Errno::EHOSTUNREACH,
    Errno::EHOSTDOWN,
    Errno::ETIMEDOUT,
    Errno::EINPROGRESS,
    Errno::EAGAIN,
    Errno::ENOTCONN,
];

/// The attempt with its refusal read.
pub(crate) fn conclude(attempt: Attempt) -> Found {
    attempt.unwrap_or_else(|error| {
        let Some(errno) = error.raw_os_error().map(Errno::from_raw) else {
            return Found::not_run(error.to_string());
        };
        let mut found = if REFUSALS.contains(&errno) {
            Found::blocked(error.to_string())
        } else {
            Found::not_run(format!("an unexpected error: {error}"))
        };
        found.evidence.errno = Some(format!("{errno:?}"));
        found
    })
}

/// Several forms: the worst counts, and all are named.
pub(crate) fn forms(attempts: impl IntoIterator<Item = (String, Attempt)>) -> Found {
    let all: Vec<(String, Found)> = attempts
        .into_iter()
        .map(|(form, attempt)| (form, conclude(attempt)))
        .collect();
    let said: Vec<String> = all
        .iter()
        .map(|(form, found)| {
            let detail = found.evidence.errno.as_deref().or(found.evidence.note.as_deref());
            let detail = detail.or(found.result.reason()).unwrap_or_default();
            format!("{form}: {} ({detail})", found.result.word())
        })
        .collect();
    let worst = all.into_iter().map(|(_, found)| found).max_by_key(Found::rank);
    let mut worst = worst.unwrap_or_else(|| Found::not_applicable("there is no such address"));
    if !said.is_empty() {
        worst.evidence.note = Some(said.join("; "));
    }
    worst
}

#[cfg(test)]
mod tests {
    use std::io;

    use crate::found::{Found, conclude, forms};

    #[test]
    fn a_refusal_is_blocked_and_a_mistake_is_not_run() {
        let of = |errno: i32| conclude(Err(io::Error::from_raw_os_error(errno)));
        let refused = of(111);
        assert_eq!(
            (refused.result.word(), refused.evidence.errno.as_deref()),
            ("BLOCKED", Some("ECONNREFUSED"))
        );
        for mistake in [9, 14, 22, 24] {
            assert_eq!(of(mistake).result.word(), "NOT-RUN", "{mistake}");
        }
        assert_eq!(conclude(Err(io::Error::other("x"))).result.word(), "NOT-RUN");
    }

    #[test]
    fn the_worst_form_counts() {
        let word = |list: Vec<Found>| {
            let list = list.into_iter().map(|found| ("form".to_owned(), Ok(found)));
            forms(list).result.word()
        };
        let (reached, blocked) = (Found::sent(), Found::blocked("x"));
        let (redirected, not_run) = (Found::redirected("x"), Found::not_run("x"));
        assert_eq!(word(vec![blocked.clone(), reached, not_run.clone()]), "REACHED");
        assert_eq!(word(vec![not_run, redirected.clone()]), "NOT-RUN");
        assert_eq!(word(vec![blocked.clone(), redirected]), "REDIRECTED");
        assert_eq!(word(vec![Found::not_applicable("x"), blocked]), "BLOCKED");
        assert_eq!(word(Vec::new()), "N/A");
    }
}
