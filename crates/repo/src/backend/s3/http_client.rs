//! The connection to a server: TLS and whom it trusts, proxies.

use aws_smithy_http_client::{Builder as HttpBuilder, Connector, proxy::ProxyConfig, tls};
use aws_smithy_runtime_api::client::{http::SharedHttpClient, runtime_components::RuntimeComponents};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

use super::unverified;
use crate::{
    Proxy, S3Location, TlsTrust,
    backend::{StorageError, StorageErrorKind},
};

/// What errors call the authorities of [`TlsTrust::Authorities`]: by the names that an admin gives them.
const AUTHORITIES: &str = "CA certificate (`caCert` of the location, `--cacert` of the job)";

/// The client for the location's own server.
pub(super) fn for_storage(location: &S3Location) -> Result<SharedHttpClient, StorageError> {
    let options = &location.options;
    match &options.tls {
        TlsTrust::Anyone if location.endpoint.starts_with("https:") => Ok(unverified::client(options.proxy)),
        trust => Ok(checked(tls_context(trust)?, options.proxy)),
    }
}

/// The client for STS: it may be the storage's own, with the same authority.
pub(super) fn for_sts(location: &S3Location) -> Result<SharedHttpClient, StorageError> {
    Ok(checked(tls_context(&location.options.tls)?, location.options.proxy))
}

/// The client for what the machine tells those who run on it: no proxy stands in between.
pub(super) fn for_metadata() -> SharedHttpClient {
    checked(tls::TlsContext::default(), Proxy::Direct)
}

/// As the builder's `build_https`, which knows of no proxy.
fn checked(tls_context: tls::TlsContext, proxy: Proxy) -> SharedHttpClient {
    HttpBuilder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = Connector::builder()
            .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
            .tls_context(tls_context.clone());
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        if proxy == Proxy::FromEnvironment {
            connector = connector.proxy_config(ProxyConfig::from_env());
        }
        connector.build()
    })
}

fn tls_context(trust: &TlsTrust) -> Result<tls::TlsContext, StorageError> {
    let TlsTrust::Authorities(pem) = trust else { return Ok(tls::TlsContext::default()) };
    check_certificates(pem).map_err(|detail| {
        StorageError::with_detail("read", AUTHORITIES, StorageErrorKind::Unusable, detail)
    })?;
    let store = tls::TrustStore::empty().with_native_roots(true).with_pem_certificate(pem.as_slice());
    tls::TlsContext::builder()
        .with_trust_store(store)
        .build()
        .map_err(|error| StorageError::new("read", AUTHORITIES, StorageErrorKind::Unusable, &error))
}

/// Reads the certificates as the SDK will: where it finds an error, it panics.
pub fn check_certificates(pem: &[u8]) -> Result<(), String> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| format!("it is no PEM file: {error}"))?;
        store
            .add(certificate)
            .map_err(|error| format!("it holds a certificate that cannot be read: {error}"))?;
    }
    if store.is_empty() {
        return Err("it holds no PEM certificate (no line `-----BEGIN CERTIFICATE-----`)".to_owned());
    }
    Ok(())
}
