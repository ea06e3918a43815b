//! Counts what `cargo test` says while it says it.

use std::fmt;
use std::io::{self, BufRead, BufReader, IsTerminal};
use std::ops::AddAssign;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

/// How many tests passed, and the names of those that failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) passed: u32,
    pub(crate) failed: Vec<String>,
}

impl Count {
    /// Adds one test.
    pub(crate) fn add(&mut self, name: &str, passed: bool) {
        if passed {
            self.passed += 1;
        } else {
            self.failed.push(name.to_owned());
        }
    }

    /// A suite in which nothing ran has not passed.
    pub(crate) fn or_failed_when_empty(mut self, suite: &str, filtered: bool) -> Self {
        if self == Self::default() && !filtered {
            self.add(&format!("suite {suite} ran no test"), false);
        }
        self
    }

    /// Reads lines of libtest, coloured or not: `test some::name ... FAILED` and
    /// `test result: ok. 3 passed; 0 failed; …`.
    fn read(&mut self, line: &str) {
        let Some((_, rest)) = line.split_once("test ") else {
            return;
        };
        if let Some(rest) = rest.strip_prefix("result:") {
            let passed = rest
                .split(" passed;")
                .next()
                .and_then(|text| text.rsplit([' ', '.']).next());
            self.passed += passed.and_then(|number| number.parse::<u32>().ok()).unwrap_or(0);
        } else if let Some((name, word)) = rest.split_once(" ... ")
            && word.contains("FAILED")
        {
            self.add(name, false);
        }
    }
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed.extend(other.failed);
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed.len())
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
        count.read(&line);
    }
    let status = child.wait().context("waiting for cargo test")?;
    if !status.success() && count.failed.is_empty() {
        count.add(&format!("cargo test ({status}), without a failed test"), false);
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(passed: u32, failed: &[&str]) -> Count {
        let failed = failed.iter().map(|name| (*name).to_owned()).collect();
        Count { passed, failed }
    }

    #[test]
    fn reads_results_plain_and_coloured() {
        for (output, expected) in [
            (
                "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
                count(3, &[]),
            ),
            (
                "test result: \x1b[31mFAILED\x1b[m. 12 passed; 4 failed; 0 ignored; 0 measured",
                count(12, &[]),
            ),
            ("test foo ... ok", Count::default()),
            ("test a::foo ... FAILED", count(0, &["a::foo"])),
            ("test a::foo ... \x1b[31mFAILED\x1b[m", count(0, &["a::foo"])),
            (
                "test a/b.rs - foo (line 3) ... FAILED",
                count(0, &["a/b.rs - foo (line 3)"]),
            ),
        ] {
            let mut read = Count::default();
            read.read(output);
            assert_eq!(read, expected, "{output}");
        }
    }

    #[test]
    fn a_suite_without_tests_fails_unless_it_was_filtered() {
        assert_eq!(Count::default().or_failed_when_empty("x", false).failed.len(), 1);
        assert_eq!(Count::default().or_failed_when_empty("x", true).failed.len(), 0);
    }

    #[test]
    fn the_last_line_has_its_exact_form() {
        assert_eq!(count(7, &[]).to_string(), "7 passed, 0 failed");
    }
}
