//! A command that cannot be started, and one that ends badly: exit codes as shells give them.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use anyhow::{Result, ensure};

use crate::attempt::Attempt;

#[test]
fn commands_that_cannot_be_started() -> Result<()> {
    let check = |line: &str, code: i32, words: &[&str]| {
        let attempt = Attempt::new()?.line(&[line]);
        attempt.write("plain.txt", "text")?;
        let script = attempt.write("script", "#!/no/such/interpreter\n")?;
        fs::set_permissions(script, Permissions::from_mode(0o755))?;
        attempt.is_refused(code, words)
    };
    check(
        "no-such-command",
        127,
        &["\"no-such-command\"", "PATH", "install it"],
    )?;
    check(
        "/no/such/command",
        127,
        &["/no/such/command", "no such file", "check the path"],
    )?;
    check("./script", 127, &["./script", "interpreter"])?;
    check("", 127, &["\"\"", "PATH"])?;
    check("..", 127, &["\"..\"", "PATH"])?;
    check(
        "./plain.txt",
        126,
        &["./plain.txt", "permission denied", "chmod +x"],
    )?;
    check("/usr", 126, &["/usr", "folder"])
}

#[test]
fn exit_codes_are_the_commands_own_and_nothing_is_left() -> Result<()> {
    for (script, code) in [
        ("exit 42", 42),
        ("kill -9 $$", 137),
        ("kill -TERM $$", 143),
        ("true", 0),
    ] {
        let attempt = Attempt::new()?.line(&["sh", "-c", script]);
        let output = attempt.run()?;
        ensure!(output.code == code, "{script}: {output:?}");
        ensure!(attempt.nothing_is_left()?.len() == 1, "one session: {script}");
    }
    Ok(())
}
