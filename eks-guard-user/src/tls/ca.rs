//! The certificate authority of one run or node. A run's key exists in its process's memory only and dies with it.

use std::fmt;
use std::net::IpAddr;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, date_time_ymd,
};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::tls::TlsError;

/// Common name of every run's authority.
pub(crate) const COMMON_NAME: &str = "eks-guard run CA";

/// Signs the certificates that agents of this run see.
pub struct RunCa {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl RunCa {
    /// Makes a new authority with a new ECDSA P-256 key.
    ///
    /// # Errors
    /// The crypto provider cannot make a key.
    pub fn generate() -> Result<Self, TlsError> {
        Self::of(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(TlsError::Certificate)?)
    }

    /// The authority of a key that was kept, as [`RunCa::key_pem`] gave it. What trusts one of its certificates trusts all.
    ///
    /// # Errors
    /// It is no key that the provider takes.
    pub fn from_key_pem(pem: &str) -> Result<Self, TlsError> {
        Self::of(KeyPair::from_pem(pem).map_err(TlsError::Certificate)?)
    }

    fn of(key: KeyPair) -> Result<Self, TlsError> {
        let mut params = params(COMMON_NAME);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let issuer = CertifiedIssuer::self_signed(params, key).map_err(TlsError::Certificate)?;
        Ok(Self { issuer })
    }

    /// The authority's certificate, PEM: what the agent's kubeconfig trusts.
    #[must_use]
    pub fn ca_pem(&self) -> String {
        self.issuer.pem()
    }

    /// The authority's key, PEM: whoever has it can be the API server to every agent that trusts this authority.
    #[must_use]
    pub fn key_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.issuer.key().serialize_pem())
    }

    /// A server certificate with its own key for these DNS names and addresses.
    ///
    /// # Errors
    /// A name is not a DNS name, or signing fails.
    pub fn leaf(&self, names: &[String], addresses: &[IpAddr]) -> Result<Leaf, TlsError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(TlsError::Certificate)?;
        let mut params = params("eks-guard");
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        for name in names {
            let name = name.as_str().try_into().map_err(TlsError::Certificate)?;
            params.subject_alt_names.push(SanType::DnsName(name));
        }
        params
            .subject_alt_names
            .extend(addresses.iter().copied().map(SanType::IpAddress));
        let certificate = params
            .signed_by(&key, &self.issuer)
            .map_err(TlsError::Certificate)?;
        Ok(Leaf {
            certificate: certificate.der().to_vec(),
            key: key.serialize_der(),
        })
    }
}

/// A server certificate with its key, in a form that can be handed to another process. DER and PKCS#8.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaf {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Leaf {
    /// Ready to serve.
    ///
    /// # Errors
    /// The provider does not take the key.
    pub fn certified(&self) -> Result<CertifiedKey, TlsError> {
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.as_slice()));
        let signer = any_supported_type(&private).map_err(TlsError::Setup)?;
        let certificate = CertificateDer::from(self.certificate.clone());
        Ok(CertifiedKey::new(vec![certificate], signer))
    }
}

impl fmt::Debug for Leaf {
    /// Never the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaf").finish_non_exhaustive()
    }
}

/// Dates prove nothing about an authority whose key lives as long as its process, so they are wide and fixed.
fn params(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2099, 1, 1);
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}
