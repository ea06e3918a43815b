//! What the person in front of the terminal sees: each step with its time, and what to do after a failure.

use std::io::{self, IsTerminal};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

static START: OnceLock<Instant> = OnceLock::new();

/// Times are counted from here.
pub(crate) fn start_clock() {
    START.get_or_init(Instant::now);
}

/// One line about a step.
pub(crate) fn step(text: &str) {
    println!("{} {text}", paint("2", &clock()));
}

/// One line that stands out.
pub(crate) fn headline(text: &str) {
    println!("{} {}", paint("2", &clock()), paint("1", text));
}

/// The end of a failed task: the chain of causes, one a line. The outermost says what to do where that is known.
pub(crate) fn failure(error: &anyhow::Error) {
    eprintln!("{} {} {error}", clock(), paint("1;31", "failed:"));
    for cause in error.chain().skip(1) {
        eprintln!("           because: {cause}");
    }
}

/// Seconds with one decimal.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f32())
}

/// Colour, on a terminal only. `code` is an SGR parameter.
pub(crate) fn paint(code: &str, text: &str) -> String {
    if io::stdout().is_terminal() {
        format!("\x1b[{code}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

fn clock() -> String {
    format!(
        "[{:>6.1}s]",
        START.get_or_init(Instant::now).elapsed().as_secs_f32()
    )
}
