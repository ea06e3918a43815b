//! What was signed is read again; what was changed anywhere is not.

use eks_guard_core::catalogue::Boundary;
use eks_guard_core::catalogue::probe::{Answer, Evidence, Tried, Verdict};
use eks_guard_core::catalogue::report::{Facts, ProfileReport, Report};

use crate::verify::envelope::{Digests, Statement, Subject, open, sign};
use crate::verify::key::SigningKey;

fn statement(key: &SigningKey) -> Statement {
    let answer = Answer {
        id: "N01".to_owned(),
        result: Tried::Verdict(Verdict::Redirected),
        evidence: Evidence::default(),
    };
    let report = Report {
        facts: Facts::default(),
        profiles: vec![ProfileReport::new(Boundary::Run, "restricted", &[answer], &[])],
    };
    let subject = Subject {
        name: "eks-guard.o".to_owned(),
        digest: Digests {
            sha256: "00".to_owned(),
        },
    };
    Statement::new(report, vec![subject], key)
}

fn key() -> (tempfile::TempDir, SigningKey) {
    let folder = tempfile::tempdir().unwrap();
    let key = SigningKey::open(&folder.path().join("state")).unwrap();
    (folder, key)
}

#[test]
fn a_report_is_read_as_it_was_written() {
    let (_folder, key) = key();
    let statement = statement(&key);
    let file = sign(&statement, &key).unwrap();
    assert_eq!(open(file.as_bytes(), None).unwrap(), statement);
    assert_eq!(open(file.as_bytes(), Some(&key.public())).unwrap(), statement);
}

#[test]
fn one_flipped_bit_in_any_byte_is_refused() {
    let (_folder, key) = key();
    let file = sign(&statement(&key), &key).unwrap().into_bytes();
    // Every byte of the envelope around the payload, and every 97th of the payload: base64 makes them all alike.
    let payload = file.len() - 600;
    for at in (0..file.len()).filter(|at| *at < 200 || *at > payload || at % 97 == 0) {
        for bit in [0x01, 0x20, 0x80] {
            let mut changed = file.clone();
            changed[at] ^= bit;
            assert!(open(&changed, None).is_err(), "byte {at}, bit {bit:#x}");
        }
    }
    for changed in [&file[..file.len() - 1], &[file.as_slice(), b"\n"].concat(), b""] {
        assert!(open(changed, None).is_err());
    }
}

#[test]
fn another_key_is_refused_when_one_is_expected() {
    let ((_first, key), (_second, other)) = (key(), key());
    let file = sign(&statement(&other), &other).unwrap();
    assert!(open(file.as_bytes(), None).is_ok());
    assert!(open(file.as_bytes(), Some(&key.public())).is_err());
    // Signed by one key, naming another.
    let mixed = sign(&statement(&key), &other).unwrap();
    assert!(open(mixed.as_bytes(), None).is_err());
}

#[test]
fn the_key_is_made_once_and_for_root_only() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let first = SigningKey::open(folder.path()).unwrap().public();
    assert_eq!(SigningKey::open(folder.path()).unwrap().public(), first);
    let file = folder.path().join("verify.key");
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    std::fs::write(&file, b"nonsense").unwrap();
    assert!(SigningKey::open(folder.path()).is_err());
}
