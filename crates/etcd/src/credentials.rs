//! The three files by which etcd and its client know each other.

use crate::error::{Error, Material};
use etcd_client::{Certificate, Identity, TlsOptions};
use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where certificates and key are. Without a certificate and its key the client does not prove who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialFiles {
    /// `ca.crt`: by it the client checks the server.
    pub ca: PathBuf,
    /// `client.crt` and `client.key`: by them the server checks the client.
    pub client: Option<ClientFiles>,
}

/// The client's certificate with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFiles {
    /// `client.crt`; certificates of intermediate authorities may follow in it.
    pub cert: PathBuf,
    /// `client.key`, not encrypted.
    pub key: PathBuf,
}

/// Certificates and key that were read and found to fit together.
#[derive(Clone)]
pub struct Credentials {
    authority: Vec<u8>,
    client: Option<(Vec<u8>, Vec<u8>)>,
}

impl Credentials {
    /// Reads the files. An error names the file and what is wrong with it, so that nobody has to guess it from a failed
    /// handshake.
    pub fn read(files: &CredentialFiles) -> Result<Self, Error> {
        let CredentialFiles { ca, client } = files;
        let authority = read(Material::Authority, ca)?;
        check_authority(ca, &authority)?;
        let client = client.as_ref().map(read_client).transpose()?;
        Ok(Self { authority, client })
    }

    pub(crate) fn tls_options(&self, handshake: Duration) -> TlsOptions {
        let options =
            TlsOptions::new().ca_certificate(Certificate::from_pem(&self.authority)).timeout(handshake);
        match &self.client {
            Some((cert, key)) => options.identity(Identity::from_pem(cert, key)),
            None => options,
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

fn read(what: Material, path: &Path) -> Result<Vec<u8>, Error> {
    let content =
        std::fs::read(path).map_err(|cause| Error::UnreadableFile { what, path: path.to_owned(), cause })?;
    if content.trim_ascii().is_empty() {
        return Err(invalid(what, path, "it is empty"));
    }
    Ok(content)
}

fn read_client(files: &ClientFiles) -> Result<(Vec<u8>, Vec<u8>), Error> {
    let ClientFiles { cert, key } = files;
    let (cert_pem, key_pem) = (read(Material::Certificate, cert)?, read(Material::Key, key)?);
    let chain = certificates(Material::Certificate, cert, &cert_pem)?;
    let parsed =
        PrivateKeyDer::from_pem_slice(&key_pem).map_err(|error| invalid_key(key, &key_pem, &error))?;
    match CertifiedKey::from_der(chain, parsed, &ring::default_provider()) {
        Ok(_) => Ok((cert_pem, key_pem)),
        Err(rustls::Error::InconsistentKeys(_)) => Err(invalid(
            Material::Key,
            key,
            format!(
                "it is not the key of the certificate in `{}`; give the two files of one pair",
                cert.display()
            ),
        )),
        Err(error) => Err(invalid(Material::Key, key, error.to_string())),
    }
}

fn check_authority(path: &Path, content: &[u8]) -> Result<(), Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(Material::Authority, path, content)? {
        roots.add(certificate).map_err(|error| invalid(Material::Authority, path, error.to_string()))?;
    }
    Ok(())
}

fn certificates(what: Material, path: &Path, content: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let all = CertificateDer::pem_slice_iter(content)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| invalid(what, path, describe(&error)))?;
    if all.is_empty() {
        return Err(invalid(what, path, "it has no block `BEGIN CERTIFICATE`; give a PEM file"));
    }
    Ok(all)
}

fn invalid_key(path: &Path, content: &[u8], error: &pem::Error) -> Error {
    let encrypted = content.windows(9).any(|window| window == b"ENCRYPTED");
    let reason = match error {
        pem::Error::NoItemsFound if encrypted => {
            "the key is encrypted; decrypt it, for example by `openssl pkey`".to_owned()
        }
        pem::Error::NoItemsFound => "it has no block `BEGIN … PRIVATE KEY`; give a PEM file".to_owned(),
        other => describe(other),
    };
    invalid(Material::Key, path, reason)
}

/// The error without the content that some of its variants carry: it may be part of a key.
fn describe(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { .. } => "it ends within a PEM block; is it complete?".to_owned(),
        pem::Error::IllegalSectionStart { .. } => "a PEM block has a damaged first line".to_owned(),
        pem::Error::Base64Decode(_) => "a PEM block has characters that are not base64".to_owned(),
        _ => "it is no PEM file".to_owned(),
    }
}

fn invalid(what: Material, path: &Path, reason: impl Into<String>) -> Error {
    Error::InvalidMaterial { what, path: path.to_owned(), reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kubedr_testing::{KeyKind, Pki};
    use std::fs;
    use tempfile::TempDir;

    fn files(kind: KeyKind) -> (TempDir, CredentialFiles) {
        let dir = tempfile::tempdir().unwrap();
        let files = Pki::new(dir.path()).client("client", kind);
        let client = ClientFiles { cert: files.cert, key: files.key };
        (dir, CredentialFiles { ca: files.ca, client: Some(client) })
    }

    /// The message for credentials of which one file has another content.
    fn refusal(name: &str, content: &str) -> String {
        let (dir, files) = files(KeyKind::EcP256);
        fs::write(dir.path().join(name), content).unwrap();
        let message = Credentials::read(&files).unwrap_err().to_string();
        assert!(message.contains(&dir.path().join(name).display().to_string()), "{message}");
        message
    }

    #[test]
    fn line_ends_of_other_systems_and_surplus_ones_do_no_harm() {
        for kind in [KeyKind::EcP256, KeyKind::EcP256Sec1] {
            let (dir, files) = files(kind);
            for name in ["ca.crt", "client.crt", "client.key"] {
                let text = fs::read_to_string(dir.path().join(name)).unwrap();
                fs::write(dir.path().join(name), format!("\r\n{}\r\n\r\n\n", text.replace('\n', "\r\n")))
                    .unwrap();
            }
            Credentials::read(&files).unwrap();
        }
    }

    #[test]
    fn each_file_is_named_with_what_is_wrong_with_it() {
        assert!(refusal("ca.crt", " \n").contains("certificate authority for etcd: it is empty"));
        assert!(refusal("client.crt", "hello").contains("it has no block `BEGIN CERTIFICATE`"));
        assert!(refusal("client.key", "hello").contains("PRIVATE KEY"));
        assert!(
            refusal(
                "client.key",
                "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"
            )
            .contains("decrypt it")
        );
        assert!(refusal("client.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n").contains("is it complete?"));
        assert!(
            refusal("ca.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
                .contains("certificate")
        );
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let other = Pki::new(dir.path()).client("other", KeyKind::EcP256).key;
        let message = refusal("client.key", &fs::read_to_string(other).unwrap());
        assert!(message.contains("it is not the key of the certificate in"), "{message}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let (_dir, mut files) = files(KeyKind::EcP256);
        files.ca = "/nonexistent/ca.crt".into();
        let message = Credentials::read(&files).unwrap_err().to_string();
        assert!(
            message.starts_with(
                "cannot read the certificate authority for etcd from `/nonexistent/ca.crt`: No such"
            ),
            "{message}"
        );
    }

    #[test]
    fn debug_output_shows_no_key() {
        let (_dir, files) = files(KeyKind::EcP256);
        assert_eq!(format!("{:?}", Credentials::read(&files).unwrap()), "Credentials { .. }");
    }
}
