//! Counts what `cargo test` says while it says it.

use std::fmt;
use std::io::{self, BufRead, BufReader, IsTerminal};
use std::ops::AddAssign;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

/// Tests that passed and tests that failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) passed: u32,
    pub(crate) failed: u32,
}

impl Count {
    /// A suite in which nothing ran has not passed.
    pub(crate) fn or_failed_when_empty(self, suite: &str, filtered: bool) -> Self {
        if self != Self::default() || filtered {
            return self;
        }
        println!("suite {suite} ran no test: counted as failed");
        Self { passed: 0, failed: 1 }
    }

    /// Reads `test result: ok. 3 passed; 0 failed; …`, coloured or not.
    fn from_summary(line: &str) -> Option<Self> {
        let rest = line.split_once("test result:")?.1;
        let number =
            |word: &str| -> Option<u32> { rest.split(word).next()?.rsplit([' ', '.']).next()?.parse().ok() };
        Some(Self {
            passed: number(" passed;")?,
            failed: number(" failed;")?,
        })
    }
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// Runs `cargo test`, lets its output through, and adds up its summaries. A cargo that fails without a failed test
/// (it did not compile, it crashed) counts as one failure.
pub(crate) fn run(mut cargo: Command, filter: Option<&str>) -> Result<Count> {
    cargo.arg("--").args(filter);
    if io::stdout().is_terminal() {
        cargo.args(["--color", "always"]);
    }
    let mut child = cargo
        .stdout(Stdio::piped())
        .spawn()
        .context("starting cargo test")?;
    let mut count = Count::default();
    let output = child.stdout.take().context("the output of cargo test is piped")?;
    for line in BufReader::new(output).split(b'\n') {
        let line = String::from_utf8_lossy(&line.context("reading the output of cargo test")?).into_owned();
        println!("{line}");
        if let Some(more) = Count::from_summary(&line) {
            count += more;
        }
    }
    let status = child.wait().context("waiting for cargo test")?;
    if !status.success() && count.failed == 0 {
        println!("cargo test failed ({status}) without a failed test: counted as one");
        count.failed = 1;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_summaries_plain_and_coloured() {
        let plain =
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s";
        assert_eq!(Count::from_summary(plain), Some(Count { passed: 3, failed: 0 }));
        let coloured = "test result: \x1b[31mFAILED\x1b[m. 12 passed; 4 failed; 0 ignored; 0 measured";
        assert_eq!(
            Count::from_summary(coloured),
            Some(Count {
                passed: 12,
                failed: 4
            })
        );
        assert_eq!(Count::from_summary("test foo ... ok"), None);
    }

    #[test]
    fn a_suite_without_tests_fails_unless_it_was_filtered() {
        assert_eq!(Count::default().or_failed_when_empty("x", false).failed, 1);
        assert_eq!(Count::default().or_failed_when_empty("x", true).failed, 0);
    }

    #[test]
    fn the_last_line_has_its_exact_form() {
        assert_eq!(Count { passed: 7, failed: 0 }.to_string(), "7 passed, 0 failed");
    }
}
