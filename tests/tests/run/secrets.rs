//! Where the upstream credential could show: environments, argument lists, memory, files. Every file of the operator
//! belongs to the command's own user here, so that nothing but the boundary stands between them.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail, ensure};
use rig::cluster::{Cluster, shared};
use rig::kubeconfig::{Credential, Kubeconfig};
use rig::leash;

use crate::support::Operator;

/// `nobody`, whom the commands of this suite run as.
const NOBODY: u32 = 65534;
/// Stands where the search must find it, so that a search that finds nothing is known to have searched. Put together
/// when needed: the sources and this program may lie in a folder that is searched.
fn canary_text() -> String {
    ["canary", "in", "a", "coal", "mine"].join("-")
}
/// File name of this program where the command's user can read it.
const PROBE: &str = "memory-probe";
/// Most of one mapping that is searched: the heap and stack of small programs are smaller.
const MAX_MAPPING: u64 = 64 << 20;

#[test]
fn a_client_key_shows_nowhere() -> Result<()> {
    let identity = shared()?.upstream_identity("secret-certificate")?;
    let needles = key_needles(&identity.key)?;
    search("certificate", Credential::ClientCertificate(identity), needles)
}

#[test]
fn a_client_key_in_a_file_shows_nowhere() -> Result<()> {
    let cluster = shared()?;
    let identity = cluster.upstream_identity("secret-key-file")?;
    let needles = key_needles(&identity.key)?;
    let credential = Credential::ClientCertificateFiles {
        certificate: place(cluster, "secret.crt", &identity.certificate)?,
        key: place(cluster, "secret.key", &identity.key)?,
    };
    search("key-file", credential, needles)
}

#[test]
fn a_token_shows_nowhere() -> Result<()> {
    let token = token("secret-token")?;
    search(
        "token",
        Credential::Token(token.clone()),
        vec![signature(&token)?],
    )
}

#[test]
fn a_token_in_a_file_shows_nowhere() -> Result<()> {
    let token = token("secret-token-file")?;
    let file = place(shared()?, "secret.token", &token)?;
    search(
        "token-file",
        Credential::TokenFile(file),
        vec![signature(&token)?],
    )
}

#[test]
fn a_token_of_a_plugin_shows_nowhere() -> Result<()> {
    let token = token("secret-plugin")?;
    let text = format!(
        r#"{{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{{"token":"{token}"}}}}"#
    );
    let file = place(shared()?, "secret.json", &text)?;
    let credential = Credential::Exec {
        command: "/bin/cat".into(),
        args: vec![file.to_string_lossy().into_owned()],
    };
    search("plugin", credential, vec![signature(&token)?])
}

/// Searches files with grep, and memory with the probe. Both are told what to look for over standard input only.
fn search(name: &str, credential: Credential, needles: Vec<String>) -> Result<()> {
    let cluster = shared()?;
    let config = cluster.kubeconfig(credential);
    let operator = Operator::with(&config.render())?;
    give(&operator.home.join(".kube"))?;
    give(&operator.kubeconfig)?;
    let canary = place(cluster, &format!("canary-{name}"), &canary_text())?;

    let places = ["/home", "/tmp", "/run", "/etc", "/var"].map(OsString::from);
    // Build output is large and nobody's credential; the rest of a checkout is searched.
    let mut grep: Vec<OsString> = ["grep", "-rslaF", "-D", "skip", "--exclude-dir=target", "-f", "-"]
        .map(OsString::from)
        .into();
    grep.extend(places);
    grep.extend([operator.home.clone().into(), cluster.folder().into()]);
    let found = feed(&operator, &grep, &with_canary(&needles, str::to_owned))?;
    let mut files: Vec<&Path> = found.lines().map(Path::new).collect();
    files.retain(|file| !is_canary(file));
    ensure!(files.is_empty(), "{name}: the credential is in {files:?}");
    ensure!(
        found.lines().any(|line| Path::new(line) == canary),
        "the search does not search: {found}"
    );

    // The probe's own memory must not hold what it looks for.
    let backwards = with_canary(&needles, |needle| needle.chars().rev().collect());
    let probe = [probe_program(cluster)?.into_os_string()];
    let flags = ["--exact", "secrets::memory_probe", "--ignored", "--nocapture"].map(OsString::from);
    let found = feed(&operator, &[&probe[..], &flags[..]].concat(), &backwards)?;
    let hits: Vec<&str> = found
        .lines()
        .filter_map(|line| line.strip_prefix("found "))
        .collect();
    for place in ["environ", "mem"] {
        ensure!(
            hits.contains(&format!("{} in {place}", canary_text()).as_str()),
            "the probe does not see {place}: {found}"
        );
    }
    let hits: Vec<&&str> = hits
        .iter()
        .filter(|hit| !hit.starts_with(&canary_text()))
        .collect();
    ensure!(hits.is_empty(), "{name}: {hits:?}");
    Ok(())
}

/// Tests run side by side, each with a canary; the probe knows it too.
fn is_canary(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with("canary-") || name == PROBE
}

fn with_canary(needles: &[String], write: impl Fn(&str) -> String) -> String {
    let canary = canary_text();
    let all = needles.iter().chain([&canary]);
    all.map(|needle| write(needle) + "\n").collect()
}

/// Runs a line under the guard with this standard input; its standard output.
fn feed(operator: &Operator, line: &[OsString], input: &str) -> Result<String> {
    let mut command: Command = operator.command(&["-q"], &[])?;
    command.args(line).env("BIRD", canary_text());
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    let mut child = leash::spawn(command)?;
    child.stdin.take().context("stdin")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Not a test of its own: searches what it can see of every process for the needles on standard input, which are
/// written backwards.
#[test]
#[ignore = "started by the other tests"]
fn memory_probe() -> Result<()> {
    let mut text = String::new();
    io::stdin().read_to_string(&mut text)?;
    let needles: Vec<&[u8]> = text.lines().map(str::as_bytes).collect();
    let report = |bytes: &[u8], place: &str| {
        for needle in needles.iter().filter(|needle| holds(bytes, needle)) {
            let needle: String = needle.iter().rev().map(|byte| char::from(*byte)).collect();
            // Only the canary is named: what is printed stays in memory.
            let is_canary = needle == canary_text();
            let name = if is_canary {
                needle.as_str()
            } else {
                "the credential"
            };
            println!("\nfound {name} in {place}");
        }
    };
    for entry in fs::read_dir("/proc")? {
        let folder = entry?.path();
        if !folder.join("cmdline").exists() {
            continue;
        }
        for place in ["environ", "cmdline"] {
            report(&fs::read(folder.join(place)).unwrap_or_default(), place);
        }
        each_mapping(&folder, |bytes| report(bytes, "mem"));
    }
    Ok(())
}

/// A process that cannot be read, or ends meanwhile, has no mappings.
fn each_mapping(process: &Path, mut visit: impl FnMut(&[u8])) {
    let maps = fs::read_to_string(process.join("maps")).unwrap_or_default();
    let Ok(mut memory) = File::open(process.join("mem")) else {
        return;
    };
    for line in maps.lines() {
        let range = line.split([' ', '-']).take(2);
        let range: Vec<u64> = range
            .filter_map(|number| u64::from_str_radix(number, 16).ok())
            .collect();
        let [begin, end] = range[..] else { continue };
        if memory.seek(SeekFrom::Start(begin)).is_err() {
            continue;
        }
        let mut bytes = Vec::new();
        // The part that is not backed by anything ends the reading.
        (&mut memory)
            .take((end - begin).min(MAX_MAPPING))
            .read_to_end(&mut bytes)
            .ok();
        visit(&bytes);
    }
}

/// Whether the bytes hold the needle, which is written backwards and is never turned round in one piece.
fn holds(bytes: &[u8], backwards: &[u8]) -> bool {
    let Some((first, rest)) = backwards.split_last() else {
        return false;
    };
    let mut from = 0;
    while let Some(at) = bytes
        .get(from..)
        .and_then(|left| left.iter().position(|byte| byte == first))
    {
        from += at + 1;
        let follows = bytes.get(from..from + rest.len());
        if follows.is_some_and(|follows| follows.iter().eq(rest.iter().rev())) {
            return true;
        }
    }
    false
}

/// Two forms of a key: as text of its file, and as the kubeconfig carries that text.
fn key_needles(pem: &str) -> Result<Vec<String>> {
    let body = pem.lines().nth(1).context("a key has a body")?;
    let config = Kubeconfig {
        server: String::new(),
        ca: String::new(),
        context: String::new(),
        namespace: None,
        credential: Credential::ClientCertificate(rig::pki::Identity {
            certificate: String::new(),
            key: pem.to_owned(),
        }),
    };
    let text = config.render();
    let data = text
        .split_once("client-key-data: ")
        .context("a kubeconfig carries the key")?
        .1;
    Ok(vec![needle(body)?, needle(data)?])
}

/// A part that tells it from every other, without the line's ends.
fn needle(text: &str) -> Result<String> {
    let middle = text.trim().len() / 2;
    match text.get(middle - 20..middle + 20) {
        Some(part) => Ok(part.to_owned()),
        None => bail!("{} bytes are no credential", text.len()),
    }
}

/// The part of a token that tells it from others of the same issuer.
fn signature(token: &str) -> Result<String> {
    needle(token.rsplit('.').next().unwrap_or_default())
}

fn token(namespace: &str) -> Result<String> {
    let cluster = shared()?;
    cluster.create_namespace(namespace)?;
    cluster.service_account_token(namespace, "operator", "view")
}

/// A file that the command's user owns.
fn place(cluster: &Cluster, name: &str, text: &str) -> Result<PathBuf> {
    let path = cluster.folder().join(name);
    fs::write(&path, text)?;
    give(&path)?;
    Ok(path)
}

fn give(path: &Path) -> Result<()> {
    chown(path, Some(NOBODY), Some(NOBODY)).with_context(|| format!("giving {} away", path.display()))
}

/// This program, where the command's user can read it.
fn probe_program(cluster: &Cluster) -> Result<PathBuf> {
    static PLACED: OnceLock<Result<(), String>> = OnceLock::new();
    let to = cluster.folder().join(PROBE);
    let placed = PLACED.get_or_init(|| {
        let from = std::env::current_exe().map_err(|error| error.to_string())?;
        let linked = fs::hard_link(&from, &to).or_else(|_| fs::copy(&from, &to).map(drop));
        linked.map_err(|error| error.to_string())
    });
    match placed {
        Ok(()) => Ok(to),
        Err(error) => bail!("placing the probe: {error}"),
    }
}
