//! `eks-guard sessions show`: one row per request, connection and gap of a session.

use std::collections::BTreeMap;
use std::io::Write;

use serde_json::Value;

use crate::output::visible;
use crate::recording::sessions::args::{ShowArgs, ShowOutput};
use crate::recording::sessions::error::SessionsError;
use crate::recording::sessions::line::{CallerLine, Line};
use crate::recording::sessions::reader::{Folder, Lines};
use crate::recording::sessions::text::{remark_damage, visible_json, visible_value};

/// Intents are kept until their outcome is seen; beyond this many the earliest are shown at once.
const MAX_OPEN: usize = 10_000;

pub(super) fn run(
    folder: &Folder,
    args: &ShowArgs,
    out: &mut dyn Write,
    remarks: &mut dyn Write,
) -> Result<(), SessionsError> {
    let session = folder.find(&args.session)?;
    let mut lines = folder.open(&session)?;
    match args.output {
        ShowOutput::Table => table(&mut lines, args, out, &session)?,
        ShowOutput::Json => array(&mut lines, args, out)?,
        ShowOutput::Yaml => yaml(&mut lines, args, out)?,
        ShowOutput::Jsonl => {
            while let Some(line) = next(&mut lines, args)? {
                put(out, &format!("{}\n", visible_json(&line.1)))?;
            }
        }
    }
    remark_damage(remarks, &session, lines.damaged())
}

/// The next event that the filters let through, with its text.
fn next(lines: &mut Lines, args: &ShowArgs) -> Result<Option<(Line, String)>, SessionsError> {
    while let Some((line, text)) = lines.next()? {
        let wanted = (!args.refused || line.is_refused()) && (!args.mutating || line.is_mutating());
        if wanted {
            return Ok(Some((line, text.to_owned())));
        }
    }
    Ok(None)
}

fn array(lines: &mut Lines, args: &ShowArgs, out: &mut dyn Write) -> Result<(), SessionsError> {
    let mut before = "[\n  ";
    while let Some((_, text)) = next(lines, args)? {
        put(out, &format!("{before}{}", visible_json(&text)))?;
        before = ",\n  ";
    }
    put(out, if before == "[\n  " { "[]\n" } else { "\n]\n" })
}

fn yaml(lines: &mut Lines, args: &ShowArgs, out: &mut dyn Write) -> Result<(), SessionsError> {
    let mut empty = true;
    while let Some((_, text)) = next(lines, args)? {
        empty = false;
        let value: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        // A list of one, so that the whole output is one list and no more than one event is held.
        let item = serde_saphyr::to_string(&[visible_value(value)]).expect("JSON has a form in YAML");
        put(out, &item)?;
    }
    if empty { put(out, "[]\n") } else { Ok(()) }
}

fn table(
    lines: &mut Lines,
    args: &ShowArgs,
    out: &mut dyn Write,
    session: &str,
) -> Result<(), SessionsError> {
    put(
        out,
        &row(&[
            "TIME",
            "VERB",
            "RESOURCE",
            "NAMESPACE/NAME",
            "DECISION",
            "REASON",
            "STATUS",
            "CALLER",
        ]),
    )?;
    // Intents whose outcome is still to come. Ids sort by time: the order in which they were asked for.
    let mut open: BTreeMap<String, Line> = BTreeMap::new();
    let mut shown = 0_u64;
    while let Some((line, _)) = next(lines, args)? {
        shown += 1;
        match line.stage.as_str() {
            "intent" => {
                open.insert(line.id.clone(), line);
                if open.len() > MAX_OPEN
                    && let Some((_, earliest)) = open.pop_first()
                {
                    put(out, &event_row(&earliest))?;
                }
                continue;
            }
            "session" => put_all(out, &mut open)?,
            _ => drop(open.remove(&line.id)),
        }
        put(out, &event_row(&line))?;
    }
    put_all(out, &mut open)?;
    if shown == 0 {
        put(out, &format!("nothing of the kind in {}\n", visible(session)))?;
    }
    Ok(())
}

fn put_all(out: &mut dyn Write, open: &mut BTreeMap<String, Line>) -> Result<(), SessionsError> {
    std::mem::take(open)
        .values()
        .try_for_each(|line| put(out, &event_row(line)))
}

fn event_row(line: &Line) -> String {
    let time = line
        .time
        .split_once('T')
        .map_or(line.time.as_str(), |(_, time)| time);
    // Milliseconds are enough for a person.
    let time = time.get(..12).unwrap_or(time).trim_end_matches('Z');
    match line.stage.as_str() {
        "session" | "gap" => return format!("{}  {}\n", visible(time), visible(&remark(line))),
        _ => {}
    }
    let resource = match (
        line.resource.as_str(),
        line.group.as_str(),
        line.subresource.as_str(),
    ) {
        ("", _, _) => line.path.clone(),
        (resource, group, sub) => {
            let group = if group.is_empty() {
                String::new()
            } else {
                format!(".{group}")
            };
            let sub = if sub.is_empty() {
                String::new()
            } else {
                format!("/{sub}")
            };
            format!("{resource}{group}{sub}")
        }
    };
    let object = match (line.namespace.as_str(), line.name.as_str()) {
        ("", name) => name.to_owned(),
        (namespace, name) => format!("{namespace}/{name}"),
    };
    let verb = match line.stage.as_str() {
        "connection" => "(connect)",
        "kernel" => "(kernel)",
        _ => &line.verb,
    };
    let status = match (line.stage.as_str(), line.status) {
        ("intent", _) => "unknown".to_owned(),
        (_, Some(status)) => status.to_string(),
        (_, None) => String::new(),
    };
    let caller = line.caller.as_ref().map(caller).unwrap_or_default();
    let reason = line.reason.as_deref().unwrap_or_default();
    row(&[
        time,
        verb,
        &resource,
        &object,
        &line.decision,
        reason,
        &status,
        &caller,
    ])
}

fn remark(line: &Line) -> String {
    let message = line
        .message
        .as_deref()
        .map(|message| format!(": {message}"))
        .unwrap_or_default();
    if line.stage == "gap" {
        return match line.lost {
            Some(lost) => format!("*** {lost} events are missing here{message}"),
            None => format!("*** events may be missing here{message}"),
        };
    }
    match (line.session_state.as_deref(), line.exit_code) {
        (Some("started"), _) => {
            let command = line.caller.as_ref().map(|caller| {
                if caller.command_line.is_empty() {
                    caller.executable.as_str()
                } else {
                    caller.command_line.as_str()
                }
            });
            let day = line.time.split('T').next().unwrap_or_default();
            format!(
                "--- session of {} started on {day} (UTC): {}",
                line.agent,
                command.unwrap_or_default()
            )
        }
        (Some("ended"), Some(code)) => format!("--- session ended, exit code {code}{message}"),
        (Some("ended"), None) => format!("--- session ended{message}"),
        (other, _) => format!("--- session {}{message}", other.unwrap_or("event")),
    }
}

/// Name and process id of the caller; its whole command line is in the other forms of output.
fn caller(caller: &CallerLine) -> String {
    let name = caller.executable.rsplit('/').next().unwrap_or_default();
    if name.is_empty() {
        format!("pid {}", caller.pid)
    } else {
        format!("{name}[{}]", caller.pid)
    }
}

/// Fixed columns, because a session is shown while it is read; a longer cell pushes the rest to the right.
fn row(cells: &[&str; 8]) -> String {
    const WIDTHS: [usize; 8] = [12, 9, 28, 32, 8, 18, 7, 0];
    let mut line = String::new();
    for (cell, width) in cells.iter().zip(WIDTHS) {
        let cell = if cell.is_empty() {
            "-".into()
        } else {
            visible(cell)
        };
        line.push_str(&format!("{cell:width$}  "));
    }
    format!("{}\n", line.trim_end())
}

fn put(out: &mut dyn Write, text: &str) -> Result<(), SessionsError> {
    out.write_all(text.as_bytes()).map_err(SessionsError::Output)
}
