//! One measured cell: h2load against a port, and what it says.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The shape of a load.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// HTTP/1.1, this many connections, for two seconds.
    H1 {
        /// Connections.
        connections: u32,
    },
    /// HTTP/2, connections × streams, for two seconds.
    H2 {
        /// Connections.
        connections: u32,
        /// Concurrent streams on each.
        streams: u32,
    },
    /// HTTP/1.1, one connection, this many requests, every latency kept.
    Single {
        /// Requests.
        requests: u32,
    },
    /// This many connections one after another, one request each: full handshakes.
    Handshakes {
        /// Connections.
        connections: u32,
    },
}

/// What a cell gave.
#[derive(Clone, Debug, Default)]
pub struct Load {
    /// Requests that succeeded.
    pub requests: f64,
    /// Requests per second.
    pub rate: f64,
    /// Median latency in µs (only for [`Shape::Single`]).
    pub p50: f64,
    /// 99th percentile in µs (only for [`Shape::Single`]).
    pub p99: f64,
}

/// The h2load command line of a cell; `log` takes the latencies.
#[must_use]
pub fn command(shape: Shape, url: &str, log: &Path) -> Vec<String> {
    let mut words: Vec<String> = vec![String::from("h2load")];
    let mut push = |text: &str| words.extend(text.split(' ').map(str::to_owned));
    match shape {
        Shape::H1 { connections } => push(&format!("--h1 -c {connections} -D 2 --warm-up-time=300ms")),
        Shape::H2 { connections, streams } => {
            push(&format!(
                "-c {connections} -m {streams} -D 2 --warm-up-time=300ms"
            ));
        }
        Shape::Single { requests } => push(&format!("--h1 -c 1 -n {requests} --log-file={}", log.display())),
        Shape::Handshakes { connections } => push(&format!("--h1 -c {connections} -r 150 -n {connections}")),
    }
    words.push(url.to_owned());
    words
}

/// Runs a cell directly (the guard's cells run inside its boundary instead).
///
/// # Errors
/// h2load cannot be run or did not succeed.
pub fn run(shape: Shape, url: &str, log: &Path, cpu: u32) -> Result<Load> {
    let words = command(shape, url, log);
    let output = Command::new("taskset")
        .args(["-c", &cpu.to_string()])
        .args(&words)
        .output()
        .context("cannot run h2load (setup installs it)")?;
    parse(&String::from_utf8_lossy(&output.stdout), log)
}

/// Reads h2load's report, and its latency log where there is one. Takes the log away.
///
/// # Errors
/// Requests failed, or the report is not what it should be.
pub fn parse(report: &str, log: &Path) -> Result<Load> {
    let line = |key: &str| {
        report
            .lines()
            .find(|line| line.starts_with(key))
            .unwrap_or_default()
    };
    let requests = line("requests:");
    let count = |label: &str| -> f64 {
        requests
            .split(", ")
            .find(|part| part.ends_with(label))
            .and_then(|part| {
                part.trim_start_matches("requests:")
                    .split_whitespace()
                    .next()?
                    .parse()
                    .ok()
            })
            .unwrap_or(-1.0)
    };
    let ok = line("status codes:")
        .split_whitespace()
        .nth(2)
        .and_then(|n| n.parse::<f64>().ok())
        .unwrap_or(0.0);
    if ok < 1.0 || count(" failed") != 0.0 || !line("status codes:").contains(" 0 4xx, 0 5xx") {
        bail!("the load did not succeed:\n{report}");
    }
    let rate = line("finished in")
        .split(", ")
        .nth(1)
        .and_then(|part| part.split_whitespace().next()?.parse().ok())
        .context("no rate in h2load's report")?;
    let (p50, p99) = latencies(log)?;
    Ok(Load {
        requests: ok,
        rate,
        p50,
        p99,
    })
}

fn latencies(log: &Path) -> Result<(f64, f64)> {
    let Ok(text) = fs::read_to_string(log) else {
        return Ok((f64::NAN, f64::NAN));
    };
    fs::remove_file(log).context("cannot remove the latency log")?;
    let mut all: Vec<u32> = text
        .lines()
        .filter_map(|line| line.split_whitespace().nth(2)?.parse().ok())
        .collect();
    all.sort_unstable();
    let at = |permille: usize| {
        all.get(all.len() * permille / 1000)
            .map_or(f64::NAN, |value| f64::from(*value))
    };
    Ok((at(500), at(990)))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::parse;

    const GOOD: &str = "finished in 2.00s, 31400.50 req/s, 4.05MB/s
requests: 62801 total, 62833 started, 62801 done, 62801 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 62801 2xx, 0 3xx, 0 4xx, 0 5xx
";

    #[test]
    fn reads_a_report() {
        let load = parse(GOOD, Path::new("/nonexistent")).expect("a good report");
        assert!((load.rate - 31400.5).abs() < 0.01);
        assert!((load.requests - 62801.0).abs() < 0.5);
    }

    #[test]
    fn failed_requests_are_no_measurement() {
        for (from, to) in [
            ("0 failed", "3 failed"),
            ("0 4xx", "9 4xx"),
            ("62801 2xx", "0 2xx"),
        ] {
            assert!(
                parse(&GOOD.replace(from, to), Path::new("/nonexistent")).is_err(),
                "{to}"
            );
        }
    }
}
