//! A signed report: a DSSE envelope around an in-toto statement (Statement v1). Whatever is not byte for byte what signing
//! wrote is refused, so that no byte of the file is outside the signature's reach.

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use eks_guard_core::catalogue::report::Report;
use serde::{Deserialize, Serialize};

use crate::verify::error::VerifyError;
use crate::verify::facts::hex;
use crate::verify::key::SigningKey;

#[cfg(test)]
mod tests;

const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
const PREDICATE_TYPE: &str = "https://eks-guard.dev/verify/v1";

/// What is signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    predicate_type: String,
    pub(crate) predicate: Predicate,
}

/// A file that the report is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Subject {
    pub(crate) name: String,
    pub(crate) digest: Digests,
}

/// Its digest, hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Digests {
    pub(crate) sha256: String,
}

/// The report, and who signs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Predicate {
    /// Ed25519 public key, base64.
    pub(crate) public_key: String,
    pub(crate) report: Report,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Envelope {
    payload_type: String,
    payload: String,
    signatures: [Signature; 1],
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signature {
    /// SHA-256 of the public key, hexadecimal.
    keyid: String,
    sig: String,
}

impl Statement {
    /// A statement that this key will sign.
    pub(crate) fn new(report: Report, subject: Vec<Subject>, key: &SigningKey) -> Statement {
        Statement {
            kind: STATEMENT_TYPE.to_owned(),
            subject,
            predicate_type: PREDICATE_TYPE.to_owned(),
            predicate: Predicate {
                public_key: key.public(),
                report,
            },
        }
    }
}

/// The file: one line.
pub(crate) fn sign(statement: &Statement, key: &SigningKey) -> Result<String, VerifyError> {
    let payload =
        serde_json::to_vec(statement).map_err(|_| VerifyError::Report("it cannot be written as JSON"))?;
    let envelope = Envelope {
        payload_type: PAYLOAD_TYPE.to_owned(),
        payload: STANDARD.encode(&payload),
        signatures: [Signature {
            keyid: keyid(&key.public()),
            sig: STANDARD.encode(key.sign(&to_be_signed(&payload))),
        }],
    };
    line(&envelope)
}

/// The statement of a file that was signed with the key it names, which must be `expected` when that is given.
pub(crate) fn open(file: &[u8], expected: Option<&str>) -> Result<Statement, VerifyError> {
    let wrong = VerifyError::Report;
    let envelope: Envelope =
        serde_json::from_slice(file).map_err(|_| wrong("it is no envelope of one signature"))?;
    let decode = |text: &str| STANDARD.decode(text).map_err(|_| wrong("its base64 is broken"));
    let (payload, [signature]) = (decode(&envelope.payload)?, &envelope.signatures);
    let statement: Statement =
        serde_json::from_slice(&payload).map_err(|_| wrong("it holds no statement"))?;
    let types = (statement.kind.as_str(), statement.predicate_type.as_str());
    if envelope.payload_type != PAYLOAD_TYPE || types != (STATEMENT_TYPE, PREDICATE_TYPE) {
        return Err(wrong("it is a statement of another kind"));
    }
    let named = &statement.predicate.public_key;
    if expected.is_some_and(|expected| expected.trim() != named) {
        return Err(wrong("another key has signed it"));
    }
    let key = UnparsedPublicKey::new(&ED25519, decode(named)?);
    key.verify(&to_be_signed(&payload), &decode(&signature.sig)?)
        .map_err(|_| wrong("the signature does not go with it"))?;
    if signature.keyid != keyid(named) || line(&envelope)?.as_bytes() != file {
        return Err(wrong("it was changed around the signature"));
    }
    Ok(statement)
}

fn line(envelope: &Envelope) -> Result<String, VerifyError> {
    let text =
        serde_json::to_string(envelope).map_err(|_| VerifyError::Report("it cannot be written as JSON"))?;
    Ok(text + "\n")
}

fn keyid(public: &str) -> String {
    hex(public.as_bytes())
}

/// DSSE's pre-authentication encoding: lengths in front of type and payload.
fn to_be_signed(payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}
