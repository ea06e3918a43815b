//! Takes commands out of Markdown: every line of a block that is marked `console`.

use rig::documents::blocks;

/// A command as a document shows it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Command {
    /// The line, without `sudo` and comment.
    pub(crate) line: String,
    /// What it ends with.
    pub(crate) code: i32,
}

/// The commands of a document, in its order.
pub(crate) fn commands(document: &str) -> Vec<Command> {
    let lines = blocks(document, "console");
    lines
        .iter()
        .flat_map(|block| block.lines())
        .filter_map(command)
        .collect()
}

fn command(line: &str) -> Option<Command> {
    let (line, comment) = line.split_once(" #").unwrap_or((line, ""));
    let line = line.trim();
    let line = line.strip_prefix("sudo ").unwrap_or(line);
    let code = comment.split_once("exit code ").map(|(_, rest)| rest);
    let code = code.and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok());
    (!line.is_empty() && !line.starts_with('#')).then(|| Command {
        line: line.to_owned(),
        code: code.unwrap_or(0),
    })
}

#[test]
fn takes_commands_with_their_exit_codes() {
    let text = "a\n```console\nsudo ls -l   # exit code 1: refused\n\n# only a remark\ncat\n```\n```text\nnot me\n```\n";
    let expected = |line: &str, code| Command {
        line: line.to_owned(),
        code,
    };
    assert_eq!(commands(text), [expected("ls -l", 1), expected("cat", 0)]);
    assert_eq!(blocks(text, "text"), ["not me\n"]);
}
