//! The command's environment: what the guard was started with, less what carries a credential.
//!
//! Kept on purpose: the key of the agent's own model (`*_API_KEY`), the AWS region, and the loader's variables
//! (`LD_PRELOAD`, …): they act on the user's own programs only, the guard's inner processes start without them.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::run::user::Account;

/// Prefixes of variables that carry credentials, or lead to somebody who has them.
const PREFIXES: [&str; 7] = [
    "AWS_",
    "AZURE_",
    "ARM_",
    "CLOUDSDK_",
    "GOOGLE_",
    "SUDO_",
    "EKS_GUARD_",
];
/// Whole names of the same kind.
const NAMES: [&str; 12] = [
    "SSH_AUTH_SOCK",
    "SSH_AGENT_PID",
    "GPG_AGENT_INFO",
    "DBUS_SESSION_BUS_ADDRESS",
    "DBUS_SYSTEM_BUS_ADDRESS",
    "XDG_RUNTIME_DIR",
    "DOCKER_HOST",
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "XAUTHORITY",
    "TMUX",
    "STY",
];
/// Words that make a name suspicious wherever they stand in it.
const WORDS: [&str; 9] = [
    "TOKEN",
    "SECRET",
    "PASSWORD",
    "PASSWD",
    "CREDENTIAL",
    "PRIVATE_KEY",
    "ACCESS_KEY",
    "KUBECONFIG",
    "KUBE_CONFIG",
];
/// Names that match a rule above and carry nothing secret.
const HARMLESS: [&str; 4] = [
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_CA_BUNDLE",
    "GOOGLE_CLOUD_PROJECT",
];
/// Set for the command's user, whoever started the guard.
const IDENTITY: [&str; 6] = ["HOME", "USER", "LOGNAME", "SHELL", "MAIL", "KUBECONFIG"];

/// An environment and what was taken out of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Names and values for the command.
    pub variables: Vec<(OsString, OsString)>,
    /// Names that were removed, sorted.
    pub removed: Vec<String>,
}

/// What decides about a variable besides its name.
#[derive(Debug, Default)]
pub struct Rules<'a> {
    /// Names that stay, from `--keep-env`.
    pub keep: &'a [String],
    /// Texts that no value may contain: the guard's own credential.
    pub secrets: &'a [String],
}

/// Takes out what carries a credential and sets what belongs to the user.
#[must_use]
pub fn clean(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    rules: &Rules<'_>,
    account: &Account,
    kubeconfig: &Path,
) -> Cleaned {
    let mut cleaned = Cleaned::default();
    for (name, value) in variables {
        if IDENTITY.iter().any(|set| name == *set) {
            continue;
        }
        let text = name.to_string_lossy();
        let kept = rules.keep.iter().any(|kept| *kept == text) || !is_credential(&text);
        if kept && !holds_secret(&value, rules.secrets) {
            cleaned.variables.push((name, value));
        } else {
            cleaned.removed.push(text.into_owned());
        }
    }
    cleaned.removed.sort();
    let own: [(&str, &OsStr); 5] = [
        ("HOME", account.home.as_os_str()),
        ("USER", account.name.as_ref()),
        ("LOGNAME", account.name.as_ref()),
        ("SHELL", account.shell.as_os_str()),
        ("KUBECONFIG", kubeconfig.as_os_str()),
    ];
    cleaned
        .variables
        .extend(own.map(|(name, value)| (OsString::from(name), value.to_owned())));
    cleaned
}

/// Files that hold credentials, as variables of such a name tell.
#[must_use]
pub fn credential_files(variables: &[(OsString, OsString)]) -> Vec<PathBuf> {
    let told = variables.iter().filter(|(name, _)| {
        let name = name.to_string_lossy();
        // What sudo tells is about the caller's programs.
        is_credential(&name) && !name.starts_with("SUDO_") && name != "EKS_GUARD_STATE_DIR"
    });
    let paths = told.map(|(_, value)| PathBuf::from(value));
    paths.filter(|path| path.is_absolute() && is_data(path)).collect()
}

/// Whether it is a file that is read and not run. A folder may be anything, the home folder included.
fn is_data(path: &Path) -> bool {
    let found = std::fs::metadata(path);
    found.is_ok_and(|found| !found.is_dir() && found.permissions().mode() & 0o111 == 0)
}

fn is_credential(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    if HARMLESS.contains(&name.as_str()) {
        return false;
    }
    if NAMES.contains(&name.as_str()) || PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
        return true;
    }
    !name.ends_with("_API_KEY") && WORDS.iter().any(|word| name.contains(word))
}

/// Short secrets would match by accident, and are none.
fn holds_secret(value: &OsStr, secrets: &[String]) -> bool {
    let long = secrets.iter().filter(|secret| secret.len() >= 8);
    long.map(|secret| secret.as_bytes())
        .any(|secret| value.as_bytes().windows(secret.len()).any(|at| at == secret))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::path::Path;

    use crate::run::environment::{Cleaned, Rules, clean, credential_files, is_credential};
    use crate::run::user::Account;

    fn account() -> Account {
        Account {
            name: "ada".into(),
            uid: 1000,
            gid: 1000,
            groups: vec![1000],
            home: "/homes/ada".into(),
            shell: "/bin/zsh".into(),
        }
    }

    fn cleaned(variables: &[(&str, &str)], keep: &[&str], secrets: &[&str]) -> Cleaned {
        let owned = variables
            .iter()
            .map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let (keep, secrets): (Vec<_>, Vec<_>) = (
            keep.iter().map(|s| (*s).to_owned()).collect(),
            secrets.iter().map(|s| (*s).to_owned()).collect(),
        );
        clean(
            owned,
            &Rules {
                keep: &keep,
                secrets: &secrets,
            },
            &account(),
            Path::new("/homes/ada/.kube/config"),
        )
    }

    #[test]
    fn names_that_carry_credentials_go() {
        for name in [
            "AWS_SECRET_ACCESS_KEY",
            "AWS_PROFILE",
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
            "GOOGLE_APPLICATION_CREDENTIALS",
            "CLOUDSDK_AUTH_ACCESS_TOKEN",
            "ARM_CLIENT_SECRET",
            "AZURE_CLIENT_ID",
            "VAULT_TOKEN",
            "KUBE_TOKEN",
            "GITHUB_TOKEN",
            "github_token",
            "DB_PASSWORD",
            "TLS_PRIVATE_KEY",
            "SSH_AUTH_SOCK",
            "XDG_RUNTIME_DIR",
            "SUDO_COMMAND",
            "EKS_GUARD_LOG",
            "KUBE_CONFIG_DATA",
            "DISPLAY",
        ] {
            assert!(is_credential(name), "{name}");
        }
    }

    #[test]
    fn files_that_variables_name_are_told_and_programs_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key.json");
        std::fs::write(&key, "key").unwrap();
        let variables: Vec<(OsString, OsString)> = [
            ("GOOGLE_APPLICATION_CREDENTIALS", key.as_os_str()),
            ("PAGER", key.as_os_str()),
            ("AWS_CLI", "/bin/sh".as_ref()),
            ("AWS_HOME", folder.path().as_os_str()),
            ("VAULT_TOKEN", "s.123".as_ref()),
        ]
        .map(|(name, value)| (name.into(), value.into()))
        .into();
        assert_eq!(credential_files(&variables), [key]);
    }

    #[test]
    fn names_an_agent_needs_stay() {
        for name in [
            "ANTHROPIC_API_KEY",
            "OPENAI_API_KEY",
            "AWS_REGION",
            "PATH",
            "TERM",
            "LANG",
            "LD_LIBRARY_PATH",
        ] {
            assert!(!is_credential(name), "{name}");
        }
    }

    #[test]
    fn the_guards_own_credential_goes_under_any_name_even_a_kept_one() {
        let result = cleaned(
            &[("NOTE", "Bearer eyJhbGciOi.x"), ("A", "b")],
            &["NOTE"],
            &["eyJhbGciOi.x"],
        );
        assert_eq!(result.removed, ["NOTE"]);
        let result = cleaned(&[("A", "b")], &[], &["b"]);
        assert!(result.removed.is_empty());
    }

    #[test]
    fn keep_env_keeps_and_identity_is_the_users() {
        let given = [
            ("GITHUB_TOKEN", "x"),
            ("NPM_TOKEN", "y"),
            ("HOME", "/root"),
            ("KUBECONFIG", "/operator/k"),
        ];
        let result = cleaned(&given, &["GITHUB_TOKEN"], &[]);
        assert_eq!(result.removed, ["NPM_TOKEN"]);
        let value = |name: &str| {
            let mut found = result
                .variables
                .iter()
                .filter(|(key, _)| key == name)
                .map(|(_, value)| value.clone());
            let only = found.next();
            assert_eq!(found.next(), None, "{name} stands twice");
            only
        };
        assert_eq!(value("GITHUB_TOKEN"), Some("x".into()));
        assert_eq!(value("HOME"), Some("/homes/ada".into()));
        assert_eq!(value("USER"), Some("ada".into()));
        assert_eq!(value("KUBECONFIG"), Some("/homes/ada/.kube/config".into()));
    }
}
