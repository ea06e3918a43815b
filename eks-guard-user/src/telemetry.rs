//! What the guard says: log lines through `tracing`, and plain lines to the person at the terminal.

use std::io::{self, IsTerminal, Write};

use tracing_subscriber::EnvFilter;

/// Level when `EKS_GUARD_LOG` is not set: the command owns the terminal, so only what needs attention.
const DEFAULT_FILTER: &str = "warn";

/// Whether standard error may carry colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// Escape sequences are shown as colour.
    On,
    /// Plain text.
    Off,
}

impl Colour {
    /// Colour on a terminal, unless `NO_COLOR` says otherwise.
    #[must_use]
    pub fn for_stderr(no_color: bool) -> Colour {
        if no_color || !io::stderr().is_terminal() {
            Colour::Off
        } else {
            Colour::On
        }
    }
}

/// Sends log lines to standard error. `filter` is the text of `EKS_GUARD_LOG`.
///
/// # Errors
/// The filter cannot be read; the text says where.
pub fn init(filter: Option<&str>, colour: Colour) -> Result<(), String> {
    let text = filter.unwrap_or(DEFAULT_FILTER);
    let filter = EnvFilter::try_new(text).map_err(|error| format!("EKS_GUARD_LOG={text:?}: {error}"))?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_target(false);
    lines
        .with_ansi(colour == Colour::On)
        .try_init()
        .map_err(|error| error.to_string())
}

/// One line to the person at the terminal.
pub fn say(line: &str) {
    // Standard error may be closed; then nobody wants to know.
    writeln!(io::stderr(), "eks-guard: {line}").ok();
}

/// The error and its causes in one line: `cannot load: no such file`.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let said = next.to_string();
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = next.source();
    }
    text
}
