//! How the story is printed: plain text, in colour on a terminal.
#![expect(clippy::print_stdout, reason = "the story is the output of the demo")]

use std::env;
use std::io::{IsTerminal, stdout};

use crate::demo::stage::Outcome;
use crate::demo::story::Step;

const BOLD: &str = "1";
const FAINT: &str = "2";
const GREEN: &str = "32";
const RED: &str = "31";
const BLUE: &str = "36";

/// Longest output of one command that is shown, in lines.
const SHOWN_LINES: usize = 14;
/// Where output of the agent's commands is wrapped.
const WRAPPED_COLUMNS: usize = 120;
/// Longest line that is shown.
const SHOWN_COLUMNS: usize = 160;

/// Prints the story.
pub(super) struct Narrator {
    colour: bool,
}

impl Narrator {
    pub(super) fn new() -> Self {
        Self {
            colour: stdout().is_terminal() && env::var_os("NO_COLOR").is_none(),
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    pub(super) fn chapter(&self, title: &str) {
        println!("\n{}", self.paint(BOLD, &format!("── {title}")));
    }

    pub(super) fn say(&self, sentence: &str) {
        println!("{sentence}");
    }

    pub(super) fn text(&self, text: &str) {
        for line in text.trim_end().lines() {
            println!("    {}", self.paint(FAINT, &cut(line)));
        }
    }

    pub(super) fn step(&self, step: &Step, outcome: &Outcome) {
        println!(
            "\n{} {}",
            self.paint(BLUE, "agent$"),
            self.paint(BOLD, &step.command)
        );
        let lines: Vec<String> = outcome.output.lines().flat_map(wrapped).collect();
        for line in lines.iter().take(SHOWN_LINES) {
            println!("    {line}");
        }
        if lines.len() > SHOWN_LINES {
            println!("    … {} more lines", lines.len() - SHOWN_LINES);
        }
        println!("  {} {}", self.mark(outcome), step.promise);
        for why in &outcome.broken {
            println!("    {}", self.paint(RED, why));
        }
    }

    pub(super) fn table(&self, outcomes: &[(Step, Outcome)]) {
        let width = outcomes
            .iter()
            .map(|(step, _)| step.promise.chars().count())
            .max()
            .unwrap_or_default();
        for (step, outcome) in outcomes {
            let happened = if outcome.kept() {
                self.paint(GREEN, "as promised")
            } else {
                self.paint(RED, &outcome.broken.join("; "))
            };
            println!("  {} {:width$}  {happened}", self.mark(outcome), step.promise);
        }
    }

    fn mark(&self, outcome: &Outcome) -> String {
        if outcome.kept() {
            self.paint(GREEN, "✓")
        } else {
            self.paint(RED, "✗")
        }
    }
}

/// A long line goes on in the next one: what a refusal advises stands at its end.
fn wrapped(line: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in line.split_inclusive(' ') {
        let last = lines.last_mut().expect("there is one from the start");
        if !last.is_empty() && last.chars().count() + word.trim_end().chars().count() > WRAPPED_COLUMNS {
            lines.push(word.to_owned());
        } else {
            last.push_str(word);
        }
    }
    lines.iter().map(|line| cut(line.trim_end())).collect()
}

fn cut(line: &str) -> String {
    if line.chars().count() <= SHOWN_COLUMNS {
        return line.to_owned();
    }
    line.chars().take(SHOWN_COLUMNS).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_wrapped_between_words_and_lose_none() {
        let line = "word ".repeat(60);
        let lines = wrapped(&line);
        assert!(lines.len() > 1 && lines.iter().all(|line| line.chars().count() <= WRAPPED_COLUMNS));
        assert_eq!(lines.join(" "), line.trim_end());
        assert_eq!(wrapped("  short"), ["  short"]);
    }
}
