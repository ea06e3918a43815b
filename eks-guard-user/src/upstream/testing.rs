//! What the tests of this room share: certificates made on the spot, files in a folder of their own.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

use crate::upstream::{KubeconfigOptions, Upstream, UpstreamError, load};

/// A certificate with its key, self-signed: good as a CA and as a client certificate.
pub(super) struct Pair {
    pub(super) certificate: String,
    pub(super) key: String,
}

pub(super) fn pair(name: &str) -> Pair {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    Pair {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    }
}

pub(super) fn base64(text: &str) -> String {
    STANDARD.encode(text)
}

/// A home folder with whatever a test puts into it.
pub(super) struct Home {
    folder: TempDir,
    pub(super) ca: Pair,
}

impl Home {
    pub(super) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            ca: pair("ca"),
        }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join(name)
    }

    pub(super) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// A program. Another process writes it: were the file open for writing in this one, a child that another test
    /// starts at that moment would inherit it, and the kernel does not run a file that is being written.
    pub(super) fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut writer = Command::new("sh")
            .args(["-c", "cat > \"$0\" && chmod 755 \"$0\""])
            .arg(&path)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        writer
            .stdin
            .take()
            .unwrap()
            .write_all(format!("#!/bin/sh\n{text}\n").as_bytes())
            .unwrap();
        assert!(writer.wait().unwrap().success());
        path
    }

    /// Options that find `~/.kube/config` in this folder and nothing else.
    pub(super) fn options(&self) -> KubeconfigOptions {
        KubeconfigOptions {
            home: self.path(""),
            ..KubeconfigOptions::default()
        }
    }

    /// A kubeconfig with one context `dev`; cluster and user are given as the lines below their names.
    pub(super) fn kubeconfig(&self, cluster: &str, user: &str) -> String {
        kubeconfig("dev", cluster, user)
    }

    /// The lines of a cluster that is as it should be.
    pub(super) fn cluster(&self) -> String {
        format!(
            "server: https://127.0.0.1:6443\ncertificate-authority-data: {}",
            base64(&self.ca.certificate)
        )
    }

    /// Loads a kubeconfig with these lines from `~/.kube/config`.
    pub(super) fn load(&self, cluster: &str, user: &str) -> Result<Upstream, UpstreamError> {
        self.write(".kube/config", &self.kubeconfig(cluster, user));
        load(&self.options())
    }
}

pub(super) fn kubeconfig(name: &str, cluster: &str, user: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: {name}\n\
         contexts:\n- name: {name}\n  context:\n    cluster: {name}-cluster\n    user: {name}-user\n    namespace: shop\n\
         clusters:\n- name: {name}-cluster\n  cluster:\n{}\n\
         users:\n- name: {name}-user\n  user:\n{}\n",
        indent(cluster),
        indent(user)
    )
}

fn indent(lines: &str) -> String {
    lines.lines().map(|line| format!("    {line}\n")).collect()
}

/// The error's text with its cause, as the program prints it.
pub(super) fn text(outcome: Result<Upstream, UpstreamError>) -> String {
    let error = outcome.expect_err("must be refused");
    let source = std::error::Error::source(&error)
        .map(|source| format!(" ({source})"))
        .unwrap_or_default();
    format!("{error}{source}")
}

pub(super) fn display(path: &Path) -> String {
    path.display().to_string()
}
