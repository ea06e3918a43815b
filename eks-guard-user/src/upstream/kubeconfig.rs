//! Finds, reads and merges the operator's kubeconfig files as kubectl does, and picks the context.

use std::collections::HashSet;
use std::env::split_paths;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf, absolute};

use kube_client::config::{AuthInfo, Cluster, Kubeconfig, KubeconfigError};
use rustix::fs::OFlags;
use zeroize::Zeroizing;

use crate::upstream::{KubeconfigOptions, UpstreamError};

/// No kubeconfig, certificate or token is larger; a larger file is not what it claims to be.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// The chosen context with everything it names.
pub(super) struct Chosen {
    /// Every file that was read, absolute, in order of precedence.
    pub(super) files: Vec<PathBuf>,
    pub(super) context: String,
    pub(super) namespace: Option<String>,
    pub(super) cluster_name: String,
    pub(super) cluster: Cluster,
    pub(super) user_name: String,
    pub(super) user: AuthInfo,
    /// All entries of all files, merged.
    pub(super) merged: Kubeconfig,
}

impl Chosen {
    /// What a pod is given: a token that is renewed in its file, and the cluster's CA.
    pub(super) fn service_account(server: &str, token_file: &Path, certificate_authority: &Path) -> Self {
        let text = |path: &Path| Some(path.to_string_lossy().into_owned());
        Self {
            files: Vec::new(),
            context: "service-account".to_owned(),
            namespace: None,
            cluster_name: "service-account".to_owned(),
            cluster: Cluster {
                server: Some(server.to_owned()),
                certificate_authority: text(certificate_authority),
                ..Cluster::default()
            },
            user_name: "service-account".to_owned(),
            user: AuthInfo {
                token_file: text(token_file),
                ..AuthInfo::default()
            },
            merged: Kubeconfig::default(),
        }
    }
}

/// Reads what the options name and picks the context.
pub(super) fn choose(options: &KubeconfigOptions) -> Result<Chosen, UpstreamError> {
    let (files, merged) = read(options)?;
    let context_name = context_name(options, &files, &merged)?;
    let context = merged
        .contexts
        .iter()
        .find(|named| named.name == context_name)
        .ok_or_else(|| unknown_context(&context_name, &files, &merged))?
        .context
        .clone()
        .unwrap_or_default();
    let complaint = |detail: String| UpstreamError::Context {
        context: context_name.clone(),
        detail,
    };
    let cluster = merged
        .clusters
        .iter()
        .find(|named| named.name == context.cluster)
        .and_then(|named| named.cluster.clone())
        .ok_or_else(|| {
            complaint(format!(
                "its cluster {:?} is not in the kubeconfig: add it under `clusters`",
                context.cluster
            ))
        })?;
    let user_name = non_empty(context.user.as_deref())
        .ok_or_else(|| complaint("it names no user, so there is no credential: set its `user`".to_owned()))?
        .to_owned();
    let user = merged
        .auth_infos
        .iter()
        .find(|named| named.name == user_name)
        .and_then(|named| named.auth_info.clone())
        .ok_or_else(|| {
            complaint(format!(
                "its user {user_name:?} is not in the kubeconfig: add it under `users`"
            ))
        })?;
    Ok(Chosen {
        files,
        context: context_name,
        namespace: non_empty(context.namespace.as_deref()).map(str::to_owned),
        cluster_name: context.cluster,
        cluster,
        user_name,
        user,
        merged,
    })
}

/// The files kubectl would look at if `--kubeconfig` were not given, whether they exist or not.
pub(super) fn default_files(options: &KubeconfigOptions) -> Vec<PathBuf> {
    let listed = listed_files(options);
    if listed.is_empty() {
        vec![home_file(options)]
    } else {
        listed
    }
}

/// `~/.kube/config` of the invoking user.
pub(super) fn home_file(options: &KubeconfigOptions) -> PathBuf {
    options.home.join(".kube/config")
}

/// The files of the variable `KUBECONFIG`.
pub(super) fn listed_files(options: &KubeconfigOptions) -> Vec<PathBuf> {
    let Some(list) = &options.kubeconfig_env else {
        return Vec::new();
    };
    split_paths(list)
        .filter(|path| !path.as_os_str().is_empty())
        .collect()
}

/// One file, with the paths inside made absolute.
pub(super) fn read_one(path: &Path) -> Result<Kubeconfig, UpstreamError> {
    // Opened once here so that a folder, a pipe or a huge file is an answer and not a hang.
    drop(read_file("kubeconfig", path)?);
    let mut config = Kubeconfig::read_from(path).map_err(|error| parse_error(path, &error))?;
    // kubectl takes an empty `current-context` as absent.
    config.current_context = config.current_context.filter(|name| !name.is_empty());
    let lists = [
        (
            "clusters",
            config
                .clusters
                .iter()
                .map(|named| &named.name)
                .collect::<Vec<_>>(),
        ),
        (
            "users",
            config.auth_infos.iter().map(|named| &named.name).collect(),
        ),
        (
            "contexts",
            config.contexts.iter().map(|named| &named.name).collect(),
        ),
    ];
    for (list, names) in lists {
        let mut seen = HashSet::new();
        if let Some(twice) = names.into_iter().find(|name| !seen.insert(*name)) {
            return Err(UpstreamError::Malformed {
                path: path.to_owned(),
                place: String::new(),
                detail: format!("{twice:?} stands twice under `{list}`; remove one"),
            });
        }
    }
    Ok(config)
}

/// A regular file of bounded size, in a buffer that is wiped when dropped.
pub(super) fn read_file(what: &'static str, path: &Path) -> Result<Zeroizing<Vec<u8>>, UpstreamError> {
    let refuse = |hint: &str, source: Option<io::Error>| UpstreamError::Unreadable {
        what,
        path: path.to_owned(),
        hint: hint.to_owned(),
        source,
    };
    // Non-blocking, or opening a pipe would wait for its writer.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::options()
        .read(true)
        .custom_flags(i32::try_from(flags.bits()).unwrap_or_default())
        .open(path)
        .map_err(|error| {
            let hint = hint(&error);
            // A hint that says the cause itself needs no second one.
            let said = matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied);
            refuse(hint, (!said).then_some(error))
        })?;
    let meta = file
        .metadata()
        .map_err(|error| refuse("the system cannot say what it is", Some(error)))?;
    if !meta.is_file() {
        return Err(refuse("it is not a regular file; name one that is", None));
    }
    // One spare byte: a full buffer would be moved, and the old place would not be wiped.
    let capacity = usize::try_from(meta.len().min(MAX_FILE)).unwrap_or_default() + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| refuse("reading it failed; check the disk", Some(error)))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(refuse("it is larger than 4 MiB; name the right file", None));
    }
    Ok(bytes)
}

/// A value that is there and not empty: kubectl takes the empty string as absent.
pub(super) fn non_empty(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}

fn read(options: &KubeconfigOptions) -> Result<(Vec<PathBuf>, Kubeconfig), UpstreamError> {
    let candidates = match &options.file {
        Some(file) => vec![file.clone()],
        None => default_files(options),
    };
    let mut files: Vec<PathBuf> = Vec::new();
    let mut merged = Kubeconfig::default();
    for candidate in &candidates {
        let path = absolute(candidate).unwrap_or_else(|_| candidate.clone());
        // kubectl skips files of the list that do not exist, but not one that is named by a flag.
        if options.file.is_none() && path.try_exists().is_ok_and(|exists| !exists) || files.contains(&path) {
            continue;
        }
        let next = read_one(&path)?;
        merged = merged.merge(next).map_err(|error| parse_error(&path, &error))?;
        files.push(path);
    }
    if files.is_empty() {
        return Err(UpstreamError::NotFound {
            looked_at: join(&candidates),
        });
    }
    Ok((files, merged))
}

fn context_name(
    options: &KubeconfigOptions,
    files: &[PathBuf],
    merged: &Kubeconfig,
) -> Result<String, UpstreamError> {
    let wanted = non_empty(options.context.as_deref()).or(non_empty(merged.current_context.as_deref()));
    wanted.map(str::to_owned).ok_or_else(|| UpstreamError::Malformed {
        path: files.first().cloned().unwrap_or_default(),
        place: String::new(),
        detail: format!("no `current-context` is set; {}", known_contexts(merged)),
    })
}

fn unknown_context(name: &str, files: &[PathBuf], merged: &Kubeconfig) -> UpstreamError {
    UpstreamError::UnknownContext {
        name: name.to_owned(),
        files: join(files),
        known: known_contexts(merged),
    }
}

fn known_contexts(merged: &Kubeconfig) -> String {
    const SHOWN: usize = 20;
    if merged.contexts.is_empty() {
        return "it holds no contexts; pass another file with --kubeconfig".to_owned();
    }
    let names: Vec<_> = merged
        .contexts
        .iter()
        .take(SHOWN)
        .map(|named| format!("{:?}", named.name))
        .collect();
    let more = merged.contexts.len().saturating_sub(SHOWN);
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    format!("pass --context with one of {}{more}", names.join(", "))
}

fn parse_error(path: &Path, error: &KubeconfigError) -> UpstreamError {
    let mut place = String::new();
    // The library's texts may quote the file.
    let detail = if let KubeconfigError::Parse(yaml) = error {
        place = yaml
            .location()
            .map(|at| format!(", line {} column {}", at.line(), at.column()))
            .unwrap_or_default();
        "the YAML there is not what a kubeconfig holds; correct it, or pass another file with --kubeconfig"
    } else if let KubeconfigError::KindMismatch = error {
        "its `kind` differs from the other files'"
    } else if let KubeconfigError::ApiVersionMismatch = error {
        "its `apiVersion` differs from the other files'"
    } else {
        "it is not text in UTF-8 or UTF-16"
    };
    UpstreamError::Malformed {
        path: path.to_owned(),
        place,
        detail: detail.to_owned(),
    }
}

fn hint(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::NotFound {
        "there is no such file; check the path"
    } else if error.kind() == io::ErrorKind::PermissionDenied {
        "permission denied; make it readable or run with sudo"
    } else {
        "opening it failed; check the path"
    }
}

fn join(paths: &[PathBuf]) -> String {
    paths
        .iter()
        .map(|path| path.display().to_string())
        .collect::<Vec<_>>()
        .join(", ")
}
