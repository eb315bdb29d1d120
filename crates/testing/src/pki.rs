//! Certificate authorities and certificates, made for one test and thrown away with it.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Kinds and encodings of private keys that admins have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// ECDSA over P-256 in PKCS#8, the default of most tools.
    EcP256,
    /// ECDSA over P-256 in SEC1 (`BEGIN EC PRIVATE KEY`), what older OpenSSL commands write.
    EcP256Sec1,
    /// ECDSA over P-384 in PKCS#8.
    EcP384,
    /// Ed25519 in PKCS#8.
    Ed25519,
    /// RSA with 2048 bits in PKCS#8.
    Rsa,
    /// RSA with 2048 bits in PKCS#1 (`BEGIN RSA PRIVATE KEY`), what kubeadm writes.
    RsaPkcs1,
}

/// The three files by which a client proves itself and knows the server, named as in the Secret `etcd-creds`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFiles {
    /// `ca.crt`, by which the client checks the server.
    pub ca: PathBuf,
    /// `client.crt`.
    pub cert: PathBuf,
    /// `client.key`.
    pub key: PathBuf,
}

/// A certificate authority with its files in one directory.
#[derive(Debug)]
pub struct Pki {
    dir: PathBuf,
    ca: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    /// Makes a new authority and writes its `ca.crt` into `dir`, which is created.
    ///
    /// All have the same name, as those of kubeadm have.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self::named(dir, "etcd-ca")
    }

    /// As [`Pki::new`], under another name.
    #[must_use]
    pub fn named(dir: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new([]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let ca = CertifiedIssuer::self_signed(params, key).expect("a self-signed certificate");
        write(&dir.join("ca.crt"), &ca.pem());
        Self { dir: dir.to_owned(), ca }
    }

    /// The authority's certificate as PEM.
    #[must_use]
    pub fn ca_pem(&self) -> String {
        self.ca.pem()
    }

    /// The file of the authority's certificate.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.dir.join("ca.crt")
    }

    /// A certificate for a server on the loopback interface that is its peers' client too: the files of it and of its key.
    #[must_use]
    pub fn server(&self, name: &str) -> (PathBuf, PathBuf) {
        let mut params = CertificateParams::new(["127.0.0.1".to_owned(), "localhost".to_owned()])
            .expect("an address and a name");
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(name, params, KeyKind::EcP256)
    }

    /// Files of a client whose certificate this authority signed.
    #[must_use]
    pub fn client(&self, name: &str, kind: KeyKind) -> ClientFiles {
        let mut params = CertificateParams::new([]).expect("no names");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let (cert, key) = self.issue(name, params, kind);
        ClientFiles { ca: self.ca_file(), cert, key }
    }

    fn issue(&self, name: &str, mut params: CertificateParams, kind: KeyKind) -> (PathBuf, PathBuf) {
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let pem = new_key(kind);
        let key = KeyPair::from_pem(&pem).expect("a key that rcgen reads");
        let cert = params.signed_by(&key, &self.ca).expect("a signed certificate");
        let (cert_file, key_file) =
            (self.dir.join(format!("{name}.crt")), self.dir.join(format!("{name}.key")));
        write(&cert_file, &cert.pem());
        write(&key_file, &as_written(kind, &pem));
        (cert_file, key_file)
    }
}

/// A new key in PKCS#8.
fn new_key(kind: KeyKind) -> String {
    let algorithm = match kind {
        KeyKind::EcP256 | KeyKind::EcP256Sec1 => &rcgen::PKCS_ECDSA_P256_SHA256,
        KeyKind::EcP384 => &rcgen::PKCS_ECDSA_P384_SHA384,
        KeyKind::Ed25519 => &rcgen::PKCS_ED25519,
        // ring signs with RSA keys but makes none.
        KeyKind::Rsa | KeyKind::RsaPkcs1 => {
            return openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"], "");
        }
    };
    KeyPair::generate_for(algorithm).expect("a key").serialize_pem()
}

/// The key in the encoding that `kind` asks for.
fn as_written(kind: KeyKind, pkcs8: &str) -> String {
    match kind {
        KeyKind::EcP256Sec1 | KeyKind::RsaPkcs1 => openssl(&["pkey", "-traditional"], pkcs8),
        KeyKind::EcP256 | KeyKind::EcP384 | KeyKind::Ed25519 | KeyKind::Rsa => pkcs8.to_owned(),
    }
}

fn openssl(args: &[&str], stdin: &str) -> String {
    use std::io::Write;
    let mut command = Command::new(crate::tool("openssl"));
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("openssl starts");
    child.stdin.take().expect("piped").write_all(stdin.as_bytes()).expect("openssl reads");
    let output = child.wait_with_output().expect("openssl ends");
    crate::assert_success(&output);
    String::from_utf8(output.stdout).expect("PEM is text")
}

fn write(file: &Path, content: &str) {
    if let Some(dir) = file.parent() {
        fs::create_dir_all(dir).expect("a directory for certificates");
    }
    fs::write(file, content).unwrap_or_else(|error| panic!("cannot write `{}`: {error}", file.display()));
}
