//! On a terminal: ^C once, ^Z and fg, a shell inside a shell.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rig::{leash, programs};

use crate::support::Operator;

const PATIENCE: Duration = Duration::from_secs(30);

/// An interactive shell on a pseudo-terminal, and what has been typed and shown.
struct Terminal {
    shell: Child,
    keys: ChildStdin,
    shown: Receiver<String>,
    unread: String,
    guarded: String,
}

impl Terminal {
    fn open(operator: &Operator) -> Result<Terminal> {
        let guarded = operator.command(&["-q"], &[])?;
        // Without the leash, which wants this process as its parent: the shell's terminal ends with the test.
        let program = programs::eks_guard()?;
        let words = guarded
            .get_args()
            .skip_while(|word| *word != program.as_os_str())
            .map(|word| word.to_string_lossy().into_owned());
        let guarded = words.collect::<Vec<_>>().join(" ");
        let mut script = leash::hold("/usr/bin/script".as_ref())?;
        script.args(["-qfec", "bash --norc --noprofile -i", "/dev/null"]);
        script
            .current_dir(&operator.home)
            .env_clear()
            .env("HOME", &operator.home);
        script.envs([
            ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
            ("TERM", "dumb"),
            ("PS1", "SHELL> "),
        ]);
        let mut shell = leash::spawn(piped(script))?;
        let keys = shell.stdin.take().context("stdin")?;
        let mut screen = shell.stdout.take().context("stdout")?;
        let (shown_tx, shown) = channel();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                let text = String::from_utf8_lossy(bytes.get(..count).unwrap_or_default()).into_owned();
                if shown_tx.send(text).is_err() {
                    return;
                }
            }
        });
        let mut terminal = Terminal {
            shell,
            keys,
            shown,
            unread: String::new(),
            guarded,
        };
        terminal.expect("SHELL> ")?;
        Ok(terminal)
    }

    fn press(&mut self, keys: &str) -> Result<()> {
        self.keys.write_all(keys.as_bytes())?;
        Ok(self.keys.flush()?)
    }

    /// Starts a command under the guard.
    fn guard(&mut self, line: &str) -> Result<()> {
        let guarded = self.guarded.clone();
        self.press(&format!("{guarded} {line}\n"))
    }

    /// Reads until `text` is shown, and returns what stood before it.
    fn expect(&mut self, text: &str) -> Result<String> {
        loop {
            if let Some(place) = self.unread.find(text) {
                let rest = self.unread.split_off(place + text.len());
                return Ok(std::mem::replace(&mut self.unread, rest));
            }
            match self.shown.recv_timeout(PATIENCE) {
                Ok(more) => self.unread.push_str(&more),
                Err(_) => bail!("{text:?} was not shown: {:?}", self.unread),
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.shell.kill().ok();
        self.shell.wait().ok();
    }
}

fn piped(mut command: Command) -> Command {
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

#[test]
fn interrupt_reaches_the_command_once() -> Result<()> {
    let mut terminal = Terminal::open(&Operator::new()?)?;
    terminal.guard("sh -c 'n=0; trap \"n=\\$((n+1)); echo int=\\$n.\" INT; echo rea\"\"dy; read a; read b; echo total=$n.$n'")?;
    terminal.expect("ready")?;
    terminal.press("\x03")?;
    terminal.expect("int=1.")?;
    terminal.press("a\nb\nc\n")?;
    let between = terminal.expect("SHELL> ")?;
    if between.contains("int=2") {
        bail!("the command was interrupted twice: {between:?}");
    }
    Ok(())
}

#[test]
fn interrupt_ends_a_command_with_130() -> Result<()> {
    let mut terminal = Terminal::open(&Operator::new()?)?;
    terminal.guard("sh -c 'echo rea\"\"dy; exec sleep 60'")?;
    terminal.expect("ready")?;
    terminal.press("\x03")?;
    terminal.expect("SHELL> ")?;
    terminal.press("echo code=$?.\n")?;
    terminal.expect("code=130.")?;
    Ok(())
}

#[test]
fn a_job_stops_and_goes_on() -> Result<()> {
    let mut terminal = Terminal::open(&Operator::new()?)?;
    terminal.guard("sh -c 'echo rea\"\"dy; exec cat'")?;
    terminal.expect("ready")?;
    for word in ["one", "two"] {
        terminal.press(&format!("{word}\n"))?;
        terminal.expect(&format!("{word}\r\n{word}\r\n"))?;
        terminal.press("\x1a")?;
        terminal.expect("Stopped")?;
        terminal.expect("SHELL> ")?;
        terminal.press("fg\n")?;
        terminal.expect("exec cat'")?;
    }
    terminal.press("three\n")?;
    terminal.expect("three\r\nthree\r\n")?;
    terminal.press("\x04")?;
    terminal.expect("SHELL> ")?;
    Ok(())
}

#[test]
fn a_shell_inside_has_job_control_of_its_own() -> Result<()> {
    let mut terminal = Terminal::open(&Operator::new()?)?;
    terminal.guard("bash --norc --noprofile -i")?;
    terminal.press("PS1='IN''NER> '\n")?;
    terminal.expect("INNER> ")?;
    terminal.press("sh -c 'echo rea\"\"dy; exec cat'\n")?;
    terminal.expect("ready")?;
    terminal.press("\x1a")?;
    terminal.expect("Stopped")?;
    terminal.expect("INNER> ")?;
    terminal.press("fg\n")?;
    terminal.expect("exec cat'")?;
    terminal.press("\x04")?;
    terminal.expect("INNER> ")?;
    terminal.press("suspend\n")?;
    terminal.expect("SHELL> ")?;
    terminal.press("fg\n")?;
    terminal.press("exit 5\n")?;
    terminal.expect("SHELL> ")?;
    terminal.press("echo code=$?.\n")?;
    terminal.expect("code=5.")?;
    Ok(())
}
