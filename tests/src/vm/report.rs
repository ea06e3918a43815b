//! What a guest says on its second serial line: its own lines begin with `guest: `, the others are the test binary's.

const OWN: &str = "guest: ";

/// One line of a guest, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// The kernel is up and init runs.
    Up,
    /// Release of the kernel.
    Release(String),
    /// The security modules that are active, with commas between them.
    Lsm(String),
    /// What became of a test.
    Test(String, Verdict),
    /// A column of the matrix that a test has recorded.
    Column(String),
    /// The test binary has ended: its exit code, or what killed it.
    Ended(String),
    /// The guest could not do its work.
    Failed(String),
    /// Anything else.
    Other,
}

/// What became of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It failed, or did not say.
    Failed,
    /// It passed.
    Passed,
}

impl Line {
    /// Reads one line, without its end.
    #[must_use]
    pub fn read(text: &str) -> Self {
        if let Some(own) = text.strip_prefix(OWN) {
            let (word, rest) = own.split_once(' ').unwrap_or((own, ""));
            return match word {
                "up" => Self::Up,
                "release" => Self::Release(rest.to_owned()),
                "lsm" => Self::Lsm(rest.to_owned()),
                "column" => Self::Column(rest.to_owned()),
                "ended" => Self::Ended(rest.to_owned()),
                _ => Self::Failed(own.to_owned()),
            };
        }
        let outcome = text
            .strip_prefix("test ")
            .and_then(|rest| rest.split_once(" ... "));
        match outcome {
            Some((name, "ok")) => Self::Test(name.to_owned(), Verdict::Passed),
            Some((name, "FAILED")) => Self::Test(name.to_owned(), Verdict::Failed),
            Some(_) | None => Self::Other,
        }
    }

    /// The line as a guest writes it. The lines of the test binary are not the guest's to write.
    #[must_use]
    pub fn write(&self) -> Option<String> {
        match self {
            Self::Up => Some(format!("{OWN}up")),
            Self::Release(release) => Some(format!("{OWN}release {release}")),
            Self::Lsm(lsm) => Some(format!("{OWN}lsm {lsm}")),
            Self::Column(column) => Some(format!("{OWN}column {column}")),
            Self::Ended(how) => Some(format!("{OWN}ended {how}")),
            Self::Failed(why) => Some(format!("{OWN}failed {why}")),
            Self::Test(..) | Self::Other => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_guests_write() {
        for line in [
            Line::Up,
            Line::Release("6.1.0-9-cloud-amd64".to_owned()),
            Line::Lsm("capability,bpf".to_owned()),
            Line::Column("{\"cells\": []}".to_owned()),
            Line::Ended("exit status: 0".to_owned()),
        ] {
            assert_eq!(Line::read(&line.write().unwrap()), line);
        }
        assert_eq!(
            Line::read("guest: failed no cgroup2"),
            Line::Failed("failed no cgroup2".to_owned())
        );
    }

    #[test]
    fn reads_what_test_binaries_write() {
        let test = |text: &str, verdict| Line::Test(text.to_owned(), verdict);
        assert_eq!(Line::read("test a::b ... ok"), test("a::b", Verdict::Passed));
        assert_eq!(Line::read("test a::b ... FAILED"), test("a::b", Verdict::Failed));
        for other in [
            "test probe_child ... ignored, started by the other tests",
            "test result: ok. 3 passed; 0 failed",
            "running 3 tests",
            "",
        ] {
            assert_eq!(Line::read(other), Line::Other, "{other}");
        }
    }
}
