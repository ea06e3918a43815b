//! Whose command it is: `--user`, or whoever called sudo. Never root unless asked for by name.

use std::ffi::{CString, OsString};
use std::path::PathBuf;

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};

/// Groups whose members are root by another name, or read every file of the machine: engines that start containers as
/// root, raw disks and memory. The command is not a member.
const POWERFUL_GROUPS: [&str; 11] = [
    "root",
    "docker",
    "podman",
    "lxd",
    "incus",
    "incus-admin",
    "libvirt",
    "microk8s",
    "disk",
    "kmem",
    "shadow",
];

/// To the kernel this number says "leave the id as it is", which is root's.
const UNCHANGED: u32 = u32::MAX;

/// The account a command runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Login name; the number when there is none.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups, less those that are root by another name.
    pub groups: Vec<u32>,
    /// Home folder.
    pub home: PathBuf,
    /// Login shell.
    pub shell: PathBuf,
}

impl Account {
    /// Whether this is root, who can undo a boundary.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.uid == 0
    }
}

/// What sudo leaves in the environment.
#[derive(Clone, Debug, Default)]
pub struct Sudo {
    /// `SUDO_UID`.
    pub uid: Option<OsString>,
    /// `SUDO_GID`.
    pub gid: Option<OsString>,
}

/// Why no account was found.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// Started by root itself.
    #[error(
        "cannot tell which user the command should run as: started by root, not through sudo. Name one with --user NAME"
    )]
    NoUser,
    /// No such account.
    #[error("cannot run as user {0:?}: no such user. Use a name of this machine, or UID:GID")]
    Unknown(String),
    /// Root by number.
    #[error("cannot run as user id 0: root can undo the boundary. If that is what you want, say --user root")]
    RootByNumber,
    /// The account database cannot be read.
    #[error("cannot look up user {0:?} in the account database: {1}")]
    LookUp(String, nix::errno::Errno),
}

/// The account of `--user`, else of the person who called sudo.
///
/// # Errors
/// There is none, or it is root without having been named.
pub fn resolve(flag: Option<&str>, sudo: &Sudo) -> Result<Account, UserError> {
    match flag {
        Some("root") => by_uid(0, None),
        Some(text) => asked(text),
        None => invoking(sudo)?.ok_or(UserError::NoUser),
    }
}

/// The person who called sudo; `None` when nobody did, or root.
///
/// # Errors
/// The account database cannot be read.
pub fn invoking(sudo: &Sudo) -> Result<Option<Account>, UserError> {
    let number = |text: &Option<OsString>| text.as_ref()?.to_str()?.parse::<u32>().ok();
    match number(&sudo.uid) {
        None | Some(0) => Ok(None),
        Some(uid) => by_uid(uid, number(&sudo.gid)).map(Some),
    }
}

fn asked(text: &str) -> Result<Account, UserError> {
    let (user, group) = text
        .split_once(':')
        .map_or((text, None), |(user, group)| (user, Some(group)));
    let group = match group.map(str::parse) {
        None => None,
        Some(Ok(gid)) if gid != UNCHANGED => Some(gid),
        Some(_) => return Err(UserError::Unknown(text.to_owned())),
    };
    if let Ok(uid) = user.parse() {
        return if uid == 0 {
            Err(UserError::RootByNumber)
        } else {
            by_uid(uid, group)
        };
    }
    let found = User::from_name(user).map_err(|error| UserError::LookUp(user.to_owned(), error))?;
    match found {
        None => Err(UserError::Unknown(text.to_owned())),
        Some(user) if user.uid.is_root() && user.name != "root" => Err(UserError::RootByNumber),
        Some(user) => Ok(account(user, group)),
    }
}

fn by_uid(uid: u32, gid: Option<u32>) -> Result<Account, UserError> {
    if uid == UNCHANGED || gid == Some(UNCHANGED) {
        return Err(UserError::Unknown(uid.to_string()));
    }
    let found =
        User::from_uid(Uid::from_raw(uid)).map_err(|error| UserError::LookUp(uid.to_string(), error))?;
    Ok(found.map_or_else(|| nameless(uid, gid), |user| account(user, gid)))
}

fn account(user: User, gid: Option<u32>) -> Account {
    let gid = gid.unwrap_or_else(|| user.gid.as_raw());
    // Without a group database the account simply has its primary group.
    let groups = CString::new(user.name.as_str())
        .ok()
        .and_then(|name| getgrouplist(&name, Gid::from_raw(gid)).ok());
    let mut groups: Vec<u32> = groups.map_or_else(
        || vec![gid],
        |groups| groups.into_iter().map(Gid::as_raw).collect(),
    );
    if !user.uid.is_root() {
        let powerful = powerful_groups();
        groups.retain(|group| *group == gid || !powerful.contains(group));
    }
    Account {
        name: user.name,
        uid: user.uid.as_raw(),
        gid,
        groups,
        home: user.dir,
        shell: user.shell,
    }
}

fn powerful_groups() -> Vec<u32> {
    // A group that cannot be looked up is not known to be there.
    let found = POWERFUL_GROUPS
        .iter()
        .filter_map(|name| Group::from_name(name).ok()?);
    found.map(|group| group.gid.as_raw()).collect()
}

/// A number without an account, as in a container.
fn nameless(uid: u32, gid: Option<u32>) -> Account {
    let gid = gid.unwrap_or(uid);
    let (home, shell) = (PathBuf::from("/"), PathBuf::from("/bin/sh"));
    Account {
        name: uid.to_string(),
        uid,
        gid,
        groups: vec![gid],
        home,
        shell,
    }
}

#[cfg(test)]
mod tests {
    use crate::run::user::{Sudo, UserError, resolve};

    fn sudo(uid: &str, gid: &str) -> Sudo {
        Sudo {
            uid: Some(uid.into()),
            gid: Some(gid.into()),
        }
    }

    #[test]
    fn plain_root_must_name_somebody() {
        assert_eq!(resolve(None, &Sudo::default()), Err(UserError::NoUser));
        assert_eq!(resolve(None, &sudo("0", "0")), Err(UserError::NoUser));
        assert_eq!(resolve(None, &sudo("nonsense", "0")), Err(UserError::NoUser));
    }

    #[test]
    fn root_is_taken_by_name_only() {
        assert_eq!(resolve(Some("0"), &Sudo::default()), Err(UserError::RootByNumber));
        assert_eq!(
            resolve(Some("0:0"), &Sudo::default()),
            Err(UserError::RootByNumber)
        );
        assert!(resolve(Some("root"), &Sudo::default()).unwrap().is_root());
    }

    #[test]
    fn the_number_that_changes_nothing_is_nobody() {
        for text in ["4294967295", "54321:4294967295", "nobody:4294967295"] {
            let unknown = resolve(Some(text), &Sudo::default());
            assert!(matches!(unknown, Err(UserError::Unknown(_))), "{text}");
        }
        assert!(resolve(None, &sudo("4294967295", "1")).is_err());
    }

    #[test]
    fn numbers_need_no_account() {
        let account = resolve(Some("54321:54322"), &sudo("7", "7")).unwrap();
        assert_eq!(
            (account.uid, account.gid, account.groups),
            (54321, 54322, vec![54322])
        );
        let account = resolve(None, &sudo("54321", "54323")).unwrap();
        assert_eq!((account.uid, account.gid), (54321, 54323));
    }

    #[test]
    fn an_unknown_name_is_said() {
        let error = resolve(Some("no-such-user-here"), &Sudo::default()).unwrap_err();
        assert!(error.to_string().contains("no-such-user-here"));
        assert!(matches!(
            resolve(Some("nobody:staff!"), &Sudo::default()),
            Err(UserError::Unknown(_))
        ));
    }
}
