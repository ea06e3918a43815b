//! `eks-guard verify --run` against a real API server, in a network of the test's own: every route is closed, the report can be
//! checked, and the documents say what was found. Needs root.

#[path = "verify/displaced.rs"]
mod displaced;
#[path = "verify/layers.rs"]
mod layers;
#[path = "verify/pods.rs"]
mod pods;
#[path = "verify/watch.rs"]
mod watch;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use eks_guard_core::catalogue::report::Report;
use eks_guard_core::catalogue::{Boundary, Check, rows};
use rig::cluster::{Cluster, ClusterOptions};
use rig::command::{self, Output};
use rig::kubeconfig::Credential;
use rig::matrix::page::{self, OtherKernel};
use rig::matrix::{self, Column, RUN};
use rig::{daemon as guard, leash, netns, programs};

/// What is tried as TCP, and ends at the guard.
const REDIRECTED: [&str; 11] = [
    "N01", "N02", "N03", "N05", "N06", "N07", "N20", "N21", "N30", "L01", "L11",
];
/// What leads out without the boundary, for an ordinary user.
const OPEN_WITHOUT: [&str; 17] = [
    "N01", "N03", "N05", "N06", "N07", "N08", "N09", "N10", "N11", "N17", "N18", "N20", "N21", "N22", "N30",
    "P11", "L01",
];

/// Somebody who verifies, with a home folder of their own.
struct Operator {
    home: PathBuf,
    report: PathBuf,
}

impl Operator {
    fn new(cluster: &Cluster) -> Result<Self> {
        let home = cluster.folder().join("verify");
        fs::create_dir(&home)?;
        fs::set_permissions(&home, Permissions::from_mode(0o755))?;
        let credential = Credential::ClientCertificate(cluster.upstream_identity("verify-operator")?);
        fs::write(home.join("kubeconfig"), cluster.kubeconfig(credential).render())?;
        fs::set_permissions(home.join("kubeconfig"), Permissions::from_mode(0o600))?;
        let report = home.join("report.json");
        Ok(Self { home, report })
    }

    fn eks_guard(&self, args: &[&str]) -> Result<Output> {
        let mut command = leash::hold(&programs::eks_guard()?)?;
        command
            .arg("verify")
            .args(args)
            .current_dir(&self.home)
            .env_clear();
        command
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", &self.home)
            .env("EKS_GUARD_STATE_DIR", self.home.join("state"));
        command::run(command)
    }

    fn check(&self, more: &[&str]) -> Result<Output> {
        let report = self.report.to_string_lossy();
        self.eks_guard(&[&["--check", &report], more].concat())
    }
}

#[test]
fn every_route_is_closed_and_the_report_says_so() -> Result<()> {
    netns::enter_new_without_wire()?;
    let cluster = Cluster::start(ClusterOptions::default())?;
    let operator = Operator::new(&cluster)?;
    let run = [
        "--run",
        "--kubeconfig",
        "kubeconfig",
        "--user",
        "nobody",
        "--records",
        "records",
    ];
    let output = operator.eks_guard(&[&run[..], &["--report", "report.json", "-o", "json"]].concat())?;
    ensure!(output.code == 0, "{output:?}");
    let statement: serde_json::Value = serde_json::from_str(&output.stdout)?;
    let predicate = &statement["predicate"];
    let report: Report = serde_json::from_value(predicate["report"].clone())?;
    ensure!(report.problems().is_empty(), "{:?}", report.problems());
    for name in ["restricted", "root"] {
        let profile = report.profiles.iter().find(|profile| profile.name == name);
        let profile = profile.with_context(|| format!("profile {name}"))?;
        for id in REDIRECTED {
            let row = profile.rows.iter().find(|row| row.id == id).context(id)?;
            ensure!(row.result.word() == "REDIRECTED", "{name}: {row:?}");
        }
        for id in OPEN_WITHOUT {
            let row = profile.rows.iter().find(|row| row.id == id).context(id)?;
            let without = row.unguarded.as_ref().map(|without| without.result.word());
            ensure!(without == Some("REACHED"), "{name}: {row:?}");
        }
    }
    ensure!(report.facts.program_tags.len() == 9, "{:?}", report.facts);
    let key = predicate["publicKey"].as_str().context("a public key")?;
    the_report_can_be_checked(&operator, key)?;
    let columns = columns(&report)?;
    matrix::record("verify-run", &columns)?;
    page::is_up_to_date("run", &columns, OtherKernel::Passed)
}

fn columns(report: &Report) -> Result<Vec<Column>> {
    let mut columns = Vec::new();
    for name in ["restricted", "root"] {
        let profile = report.profiles.iter().find(|profile| profile.name == name);
        let profile = profile.with_context(|| format!("profile {name}"))?;
        columns.push(Column::tried(RUN, profile, &report.facts.kernel)?);
        columns.push(Column::without(RUN, profile));
        if name == "restricted" {
            columns.push(Column::closed_by(RUN, profile));
        }
    }
    Ok(columns)
}

/// Without root, without a network, and by nobody who changed a byte.
fn the_report_can_be_checked(operator: &Operator, key: &str) -> Result<()> {
    let output = operator.check(&["--key", key])?;
    ensure!(
        output.code == 0 && output.stdout.contains("signature valid"),
        "{output:?}"
    );
    ensure!(output.stdout.contains("\nN01   REDIRECTED"), "{output:?}");
    let other = key.replace(|c: char| c.is_ascii_lowercase(), "A");
    ensure!(operator.check(&["--key", &other])?.code == 2, "another key");
    let mut bytes = fs::read(&operator.report)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&operator.report, bytes)?;
    let output = operator.check(&[])?;
    ensure!(output.code == 2 && output.stdout.is_empty(), "{output:?}");
    Ok(())
}

#[test]
fn every_test_that_the_catalogue_names_is_there() -> Result<()> {
    let boundaries = [Boundary::Run, Boundary::Pod, Boundary::HostNetworkPod];
    for (row, boundary) in rows().flat_map(|row| boundaries.map(|boundary| (row, boundary))) {
        let Check::Elsewhere(name) = row.closing(boundary).check else {
            continue;
        };
        let (suite, test) = name.split_once(' ').context("a suite and a name")?;
        let found = match suite {
            "unit" => programs::workspace()
                .join("eks-guard-core/src")
                .join(test.replace("::", "/"))
                .with_extension("rs")
                .exists(),
            suite => defines(&programs::workspace().join("tests/tests").join(suite), test)?,
        };
        ensure!(found, "{}: there is no test {name}", row.id);
    }
    Ok(())
}

/// Whether the suite's file, or one in its folder, has this function.
fn defines(suite: &Path, test: &str) -> Result<bool> {
    let mut files = vec![suite.with_extension("rs")];
    if suite.is_dir() {
        for entry in fs::read_dir(suite)? {
            files.push(entry?.path());
        }
    }
    let signature = format!("fn {test}(");
    let mut texts = files.iter().map(fs::read_to_string);
    Ok(texts.any(|text| text.is_ok_and(|text| text.contains(&signature))))
}
