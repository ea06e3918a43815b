//! `eks-guard sessions list`: one row per session.

use std::collections::HashSet;
use std::io::Write;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::recording::sessions::args::{ListArgs, ListOutput};
use crate::recording::sessions::error::SessionsError;
use crate::recording::sessions::line::Line;
use crate::recording::sessions::reader::{Folder, Lines};
use crate::recording::sessions::text::{Table, remark_damage, visible_json, visible_value};

/// The most intents without an outcome that are told apart from each other.
const MAX_OPEN: usize = 100_000;

/// One session in short.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    session: String,
    agent: String,
    model_claimed: Option<String>,
    started: String,
    duration_seconds: Option<f64>,
    /// Requests that got an answer, and mutating ones of which only the intent is known.
    requests: u64,
    refused: u64,
    /// Events that could not be recorded.
    lost: u64,
    /// `running`, `ended` or `broken off`.
    state: &'static str,
    exit_code: Option<i32>,
    #[serde(skip)]
    lasted: Option<SignedDuration>,
}

pub(super) fn run(
    folder: &Folder,
    args: &ListArgs,
    out: &mut dyn Write,
    remarks: &mut dyn Write,
    now: Timestamp,
) -> Result<(), SessionsError> {
    let mut summaries = Vec::new();
    for session in folder.sessions()? {
        let mut lines = folder.open(&session)?;
        let summary = summarise(&session, &mut lines, now)?;
        if args.agent.as_ref().is_none_or(|agent| *agent == summary.agent) {
            remark_damage(remarks, &session, lines.damaged())?;
            summaries.push(summary);
        }
    }
    summaries.sort_by(|a, b| (&a.started, &a.session).cmp(&(&b.started, &b.session)));
    if let Some(limit) = args.limit {
        summaries.drain(..summaries.len().saturating_sub(limit));
    }
    let text = match args.output {
        ListOutput::Table => table(&summaries),
        ListOutput::Json => {
            let json = serde_json::to_string_pretty(&summaries).expect("a summary has a form in JSON");
            format!("{}\n", visible_json(&json))
        }
        ListOutput::Yaml => {
            let value = serde_json::to_value(&summaries).expect("a summary has a form in JSON");
            serde_saphyr::to_string(&visible_value(value)).expect("JSON has a form in YAML")
        }
    };
    out.write_all(text.as_bytes()).map_err(SessionsError::Output)
}

fn summarise(session: &str, lines: &mut Lines, now: Timestamp) -> Result<Summary, SessionsError> {
    let mut summary = Summary {
        session: session.to_owned(),
        ..Summary::default()
    };
    let mut open = HashSet::new();
    let (mut first, mut last, mut ended) = (None, None, false);
    while let Some((line, _)) = lines.next()? {
        if summary.started.is_empty() {
            summary.started.clone_from(&line.time);
            first = line.at();
        }
        last = line.at().or(last);
        if summary.agent.is_empty() {
            summary.agent.clone_from(&line.agent);
            summary.model_claimed.clone_from(&line.model_claimed);
        }
        summary.requests += u64::from(line.is_request());
        summary.refused += u64::from(line.is_refused());
        summary.lost += line.lost.unwrap_or(0);
        track(&mut open, &line);
        if line.session_state.as_deref() == Some("ended") {
            ended = true;
            summary.exit_code = line.exit_code;
        }
    }
    summary.requests += open.len() as u64;
    summary.state = match (ended, lines.running()) {
        (true, _) => "ended",
        (false, true) => "running",
        (false, false) => "broken off",
    };
    let until = if summary.state == "running" {
        Some(now)
    } else {
        last
    };
    summary.lasted = first
        .zip(until)
        .map(|(first, until)| until.duration_since(first).max(SignedDuration::ZERO));
    summary.duration_seconds = summary.lasted.map(seconds);
    Ok(summary)
}

/// With microseconds, as recorded, and no digits beyond.
#[expect(
    clippy::cast_precision_loss,
    reason = "microseconds of 285 years have an exact form"
)]
fn seconds(lasted: SignedDuration) -> f64 {
    lasted.as_micros() as f64 / 1e6
}

/// Keeps the ids of intents whose outcome was not seen yet.
fn track(open: &mut HashSet<String>, line: &Line) {
    match line.stage.as_str() {
        "intent" if open.len() < MAX_OPEN => {
            open.insert(line.id.clone());
        }
        "outcome" => {
            open.remove(&line.id);
        }
        _ => {}
    }
}

fn table(summaries: &[Summary]) -> String {
    let mut table = Table::new([
        "SESSION", "AGENT", "MODEL", "STARTED", "DURATION", "REQUESTS", "REFUSED", "STATE",
    ]);
    for summary in summaries {
        let state = match (summary.state, summary.exit_code) {
            ("ended", Some(code)) => format!("ended ({code})"),
            (state, _) => state.to_owned(),
        };
        table.row([
            summary.session.as_str().into(),
            summary.agent.as_str().into(),
            summary.model_claimed.as_deref().unwrap_or_default().into(),
            // To the second: `2026-11-25T18:00:00Z`.
            summary
                .started
                .split('.')
                .next()
                .map(|at| format!("{}Z", at.trim_end_matches('Z')))
                .unwrap_or_default()
                .into(),
            summary.lasted.map(short).unwrap_or_default().into(),
            summary.requests.to_string().into(),
            summary.refused.to_string().into(),
            state.into(),
        ]);
    }
    table.render()
}

/// Two units at most: `850ms`, `12s`, `3m 20s`, `5h 1m`, `2d 3h`.
fn short(lasted: SignedDuration) -> String {
    let seconds = lasted.as_secs();
    match seconds {
        0 => format!("{}ms", lasted.as_millis()),
        1..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}
