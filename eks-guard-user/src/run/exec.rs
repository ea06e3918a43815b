//! The last process before the command: becomes the user, gives every capability up, and executes.
//! It starts with an empty environment and learns everything over its standard input, which it then replaces.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use nix::unistd::{AccessFlags, access};

use crate::run::channel::{Channel, Spec};
use crate::run::hide::FALLBACK_KUBECONFIG;
use crate::run::{privilege, seccomp, signals};

/// The boundary could not be finished.
const BOUNDARY: u8 = 3;
/// As shells say it: found, but cannot be executed.
const NOT_EXECUTABLE: u8 = 126;
/// As shells say it.
const NOT_FOUND: u8 = 127;
/// Where commands are looked for when the environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Never returns when all goes well: the process has become the command.
pub(crate) fn main() -> ExitCode {
    let stopped = match prepare() {
        Ok(spec) => execute(spec),
        Err(error) => Stopped {
            code: BOUNDARY,
            message: format!("cannot finish the boundary: {error}"),
        },
    };
    // Nobody is left to tell when standard error is closed.
    writeln!(io::stderr(), "eks-guard: {}", stopped.message).ok();
    ExitCode::from(stopped.code)
}

/// Why there is no command.
struct Stopped {
    code: u8,
    message: String,
}

fn prepare() -> io::Result<Spec> {
    let channel = Channel::from_stdin()?;
    let mut fds = channel.receive_fds()?;
    let spec: Spec = channel.receive()?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let stdin = fds.pop().ok_or(io::ErrorKind::UnexpectedEof)?;
    rustix::stdio::dup2_stdin(&stdin)?;
    drop((stdin, channel));
    privilege::close_inherited(&[])?;
    privilege::become_user(spec.uid, spec.gid, &spec.groups)?;
    signals::restore(&spec.blocked_signals)?;
    spec.scopes.enter()?;
    seccomp::enter()?;
    Ok(spec)
}

/// As the user, in the user's folder: a path the user cannot reach is the user's error, not root's success.
fn execute(spec: Spec) -> Stopped {
    let mut command = spec.command.into_iter();
    let Some(name) = command.next() else {
        return Stopped {
            code: NOT_FOUND,
            message: "cannot start the command: it is empty".to_owned(),
        };
    };
    if let Err(error) = std::env::set_current_dir(&spec.directory) {
        let message = format!(
            "cannot enter the working folder {}: {error}",
            spec.directory.display()
        );
        return Stopped {
            code: NOT_EXECUTABLE,
            message,
        };
    }
    let environment: Vec<_> = spec.environment.into_iter().map(reachable_kubeconfig).collect();
    let program = match find(&name, &environment) {
        Ok(program) => program,
        Err(stopped) => return stopped,
    };
    let error = Command::new(&program)
        .arg0(&name)
        .args(command)
        .env_clear()
        .envs(environment)
        .exec();
    not_executed(&program, &error)
}

/// Why the kernel did not execute it, and what helps. The user's view counts: root sees more.
fn not_executed(program: &Path, error: &io::Error) -> Stopped {
    let missing = error.kind() == io::ErrorKind::NotFound;
    let refused = error.kind() == io::ErrorKind::PermissionDenied;
    let why = if missing && program.exists() {
        "its interpreter (the first line, or the loader) is not there".to_owned()
    } else if missing {
        "there is no such file; check the path".to_owned()
    } else if refused && program.is_dir() {
        "it is a folder; name a program".to_owned()
    } else if refused {
        "permission denied to the user of the command; make it executable (chmod +x), and its folders open to them"
            .to_owned()
    } else {
        error.to_string()
    };
    let code = if missing { NOT_FOUND } else { NOT_EXECUTABLE };
    Stopped {
        code,
        message: format!("cannot execute {}: {why}", program.display()),
    }
}

/// The operator's kubeconfig path may lie in a folder this user cannot enter; the same file stands elsewhere too.
fn reachable_kubeconfig((name, value): (OsString, OsString)) -> (OsString, OsString) {
    if name == "KUBECONFIG" && fs::File::open(&value).is_err() {
        return (name, FALLBACK_KUBECONFIG.into());
    }
    (name, value)
}

fn find(name: &OsStr, environment: &[(OsString, OsString)]) -> Result<PathBuf, Stopped> {
    if name.as_bytes().contains(&b'/') {
        return Ok(PathBuf::from(name));
    }
    let path = environment
        .iter()
        .find(|(key, _)| key == "PATH")
        .map(|(_, value)| value.clone());
    let path = path.unwrap_or_else(|| DEFAULT_PATH.into());
    let mut refused = None;
    for folder in std::env::split_paths(&path) {
        let candidate = folder.join(name);
        if !candidate.is_file() {
            continue;
        }
        if access(&candidate, AccessFlags::X_OK).is_ok() {
            return Ok(absolute(candidate));
        }
        refused = Some(candidate);
    }
    let shown = name.to_string_lossy();
    Err(match refused {
        Some(found) => Stopped {
            code: NOT_EXECUTABLE,
            message: format!(
                "cannot execute {}: it is not executable by the user of the command; make it so (chmod +x)",
                found.display()
            ),
        },
        None => {
            let path = path.to_string_lossy();
            Stopped {
                code: NOT_FOUND,
                message: format!(
                    "cannot find the command {shown:?}: install it, or write its path; PATH is {path}"
                ),
            }
        }
    })
}

/// An empty element of `PATH` is the working folder; the result must hold a slash not to be looked up again.
fn absolute(path: PathBuf) -> PathBuf {
    if path.as_os_str().as_bytes().contains(&b'/') {
        path
    } else {
        Path::new(".").join(path)
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::{OsStr, OsString};
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use crate::run::exec::find;

    #[test]
    fn the_path_is_searched_as_a_shell_does() {
        let folder = tempfile::tempdir().unwrap();
        for (place, mode) in [("a", 0o644), ("b", 0o755)] {
            fs::create_dir(folder.path().join(place)).unwrap();
            let file = folder.path().join(place).join("tool");
            fs::write(&file, "").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        }
        let path = |places: &[&str]| -> Vec<(OsString, OsString)> {
            let joined = std::env::join_paths(places.iter().map(|place| folder.path().join(place))).unwrap();
            vec![("PATH".into(), joined)]
        };
        let found = find(OsStr::new("tool"), &path(&["a", "b"])).map_err(|stopped| stopped.code);
        assert_eq!(found, Ok(folder.path().join("b/tool")));
        assert_eq!(
            find(OsStr::new("tool"), &path(&["a"])).map_err(|stopped| stopped.code),
            Err(126)
        );
        assert_eq!(
            find(OsStr::new("none"), &path(&["a", "b"])).map_err(|stopped| stopped.code),
            Err(127)
        );
        assert_eq!(
            find(OsStr::new("./none"), &[]).map_err(|stopped| stopped.code),
            Ok("./none".into())
        );
    }
}
