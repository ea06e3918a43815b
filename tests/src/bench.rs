//! Benchmarks as paired ratios: everything compared runs interleaved in one session, so that a noisy machine slows
//! both sides alike. A bench prints a table, writes `target/bench/NAME.json`, and fails when a target does not hold.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

pub mod load;
pub mod process;
pub mod proxy;
pub mod rivals;

/// How a ratio (or a plain figure, where there is no reference) is judged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// Holds when the ratio is at most this.
    RatioAtMost(f64),
    /// Holds when the ratio is at least this.
    RatioAtLeast(f64),
    /// Holds when our figure is at most this, in the row's unit.
    OursAtMost(f64),
    /// Holds when our figure is at least this, in the row's unit.
    OursAtLeast(f64),
    /// For reading; always holds.
    None,
}

/// One line of a bench.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What was measured.
    pub metric: String,
    /// Unit of `ours` and `reference`.
    pub unit: String,
    /// The guard's figure: median over the repetitions.
    pub ours: f64,
    /// The other side's figure, measured beside ours.
    pub reference: Option<f64>,
    /// Who the other side is.
    pub reference_name: Option<String>,
    /// Median of the paired ratios ours / reference.
    pub ratio: Option<f64>,
    /// The promise, as text: `ratio <= 2`.
    pub target: Option<String>,
    /// Whether the promise holds; true where there is none.
    pub holds: bool,
}

impl Row {
    /// A row from paired samples: `ours[i]` and `reference[i]` were taken side by side.
    #[must_use]
    pub fn paired(metric: &str, unit: &str, ours: &[f64], reference: (&str, &[f64]), target: Target) -> Self {
        let ratios: Vec<f64> = ours.iter().zip(reference.1).map(|(a, b)| a / b).collect();
        let mut row = Self::alone(metric, unit, ours, target);
        row.reference = Some(median(reference.1));
        row.reference_name = Some(reference.0.to_owned());
        row.ratio = Some(median(&ratios));
        row.judge(target);
        row
    }

    /// A row about what comes on top of the other side's figure, which was measured as for [`Row::paired`].
    #[must_use]
    pub fn added(metric: &str, unit: &str, ours: &[f64], reference: (&str, &[f64]), target: Target) -> Self {
        let added: Vec<f64> = ours.iter().zip(reference.1).map(|(a, b)| a - b).collect();
        let mut row = Self::alone(metric, unit, &added, target);
        row.reference = Some(median(reference.1));
        row.reference_name = Some(reference.0.to_owned());
        row
    }

    /// A row without another side.
    #[must_use]
    pub fn alone(metric: &str, unit: &str, ours: &[f64], target: Target) -> Self {
        let mut row = Self {
            metric: metric.to_owned(),
            unit: unit.to_owned(),
            ours: median(ours),
            reference: None,
            reference_name: None,
            ratio: None,
            target: None,
            holds: true,
        };
        row.judge(target);
        row
    }

    fn judge(&mut self, target: Target) {
        let (text, holds) = match target {
            Target::RatioAtMost(limit) => (
                Some(format!("ratio <= {limit}")),
                self.ratio.is_some_and(|r| r <= limit),
            ),
            Target::RatioAtLeast(limit) => (
                Some(format!("ratio >= {limit}")),
                self.ratio.is_some_and(|r| r >= limit),
            ),
            Target::OursAtMost(limit) => (Some(format!("ours <= {limit} {}", self.unit)), self.ours <= limit),
            Target::OursAtLeast(limit) => {
                (Some(format!("ours >= {limit} {}", self.unit)), self.ours >= limit)
            }
            Target::None => (None, true),
        };
        self.target = text;
        self.holds = holds;
    }
}

/// What one bench found, with the machine it ran on.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Processor, cores, memory and kernel.
    pub machine: String,
    /// The rows.
    pub rows: Vec<Row>,
}

impl Report {
    /// A report of this machine.
    #[must_use]
    pub fn new(rows: Vec<Row>) -> Self {
        Self {
            machine: machine(),
            rows,
        }
    }

    /// Whether every promise holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.rows.iter().all(|row| row.holds)
    }

    /// The table for people, also valid Markdown.
    #[must_use]
    pub fn table(&self) -> String {
        let mut out = String::from(
            "| metric | ours | reference | ratio | target | holds |\n|---|---|---|---|---|---|\n",
        );
        for row in &self.rows {
            let reference = match (&row.reference, &row.reference_name) {
                (Some(value), Some(name)) => format!("{} ({name})", figure(*value)),
                _ => String::from("–"),
            };
            out += &format!(
                "| {} | {} {} | {} | {} | {} | {} |\n",
                row.metric,
                figure(row.ours),
                row.unit,
                reference,
                row.ratio.map_or_else(|| String::from("–"), |r| format!("{r:.2}")),
                row.target.as_deref().unwrap_or("–"),
                if row.holds { "yes" } else { "NO" },
            );
        }
        out
    }

    /// Writes `NAME.json` into `folder`.
    ///
    /// # Errors
    /// The folder or the file cannot be written.
    pub fn write(&self, folder: &Path, name: &str) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let path = folder.join(format!("{name}.json"));
        fs::write(&path, serde_json::to_vec_pretty(self)?)
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

/// The middle value; the mean of the two middle ones for an even count; NaN for none.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

fn figure(value: f64) -> String {
    if value.abs() >= 100.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    }
}

fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, key: &str| {
        text.lines()
            .find(|line| line.starts_with(key))
            .and_then(|line| line.split_once(':'))
            .map(|(_, value)| value.trim().to_owned())
            .unwrap_or_default()
    };
    let cpu = field(&read("/proc/cpuinfo"), "model name");
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let memory = field(&read("/proc/meminfo"), "MemTotal");
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{cpu}, {cores} cores, {memory}, Linux {}", kernel.trim())
}

#[cfg(test)]
mod tests {
    use super::{Report, Row, Target, median};

    #[test]
    fn median_of_odd_and_even() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn a_ratio_over_its_limit_fails_the_report() {
        let good = Row::paired(
            "m",
            "us",
            &[2.0, 2.0],
            ("r", &[1.0, 1.0]),
            Target::RatioAtMost(2.0),
        );
        let bad = Row::paired(
            "m",
            "us",
            &[2.1, 2.1],
            ("r", &[1.0, 1.0]),
            Target::RatioAtMost(2.0),
        );
        assert!(Report::new(vec![good.clone()]).holds());
        assert!(!Report::new(vec![good, bad]).holds());
    }

    #[test]
    fn nothing_measured_does_not_hold() {
        assert!(!Row::alone("m", "MB", &[], Target::OursAtMost(30.0)).holds);
        assert!(!Row::paired("m", "us", &[], ("r", &[]), Target::RatioAtMost(2.0)).holds);
    }
}
