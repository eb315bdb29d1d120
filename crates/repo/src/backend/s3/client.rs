//! The SDK's client, configured for servers of any make.

use std::{error::Error, time::Duration};

use aws_sdk_s3::{
    Client,
    config::{
        BehaviorVersion, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
        retry::RetryConfig, timeout::TimeoutConfig,
    },
};
use aws_smithy_http_client::{Builder as HttpBuilder, Connector, proxy::ProxyConfig, tls};
use aws_smithy_runtime_api::client::{
    http::SharedHttpClient,
    interceptors::context::InterceptorContext,
    retries::classifiers::{ClassifyRetry, RetryAction},
    runtime_components::RuntimeComponents,
};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

use super::failure::is_certificate_refusal;
use crate::{
    Addressing, Proxy, S3Location,
    backend::{StorageError, StorageErrorKind, failure::chain},
};

/// Attempts per request, the first included.
const ATTEMPTS: u32 = 5;
const MAX_BACKOFF: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// For one attempt of a small request, up to the response's headers.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);

/// For one attempt of an upload: a pack over a slow line. One that stalls is ended earlier, by the SDK itself.
const UPLOAD_TIMEOUT: Duration = Duration::from_mins(5);

/// A client for the location. Sends nothing yet.
pub(super) fn build(location: &S3Location) -> Result<Client, StorageError> {
    let options = &location.options;
    let tls_context = match &options.ca_pem {
        Some(pem) => trusting(pem)?,
        None => tls::TlsContext::default(),
    };
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http_client(tls_context, options.proxy))
        .endpoint_url(&location.endpoint)
        .region(Region::new(options.region.clone()))
        .credentials_provider(Credentials::new(
            options.access_key.reveal(),
            options.secret_key.reveal(),
            None,
            None,
            "kubedr",
        ))
        .force_path_style(options.addressing == Addressing::Path)
        // Checksums beyond what S3 itself demands are refused by many servers; our files carry their own.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS).with_max_backoff(MAX_BACKOFF))
        .retry_classifier(CertificateIsFinal)
        .timeout_config(timeouts(ATTEMPT_TIMEOUT));
    Ok(Client::from_conf(config.build()))
}

/// As the builder's `build_https`, which knows of no proxy.
fn http_client(tls_context: tls::TlsContext, proxy: Proxy) -> SharedHttpClient {
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

/// What an upload does differently.
pub(super) fn for_upload() -> aws_sdk_s3::config::Builder {
    aws_sdk_s3::Config::builder().timeout_config(timeouts(UPLOAD_TIMEOUT))
}

fn timeouts(attempt: Duration) -> TimeoutConfig {
    TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).operation_attempt_timeout(attempt).build()
}

/// The system's authorities and those of `pem`.
fn trusting(pem: &[u8]) -> Result<tls::TlsContext, StorageError> {
    check_certificates(pem).map_err(|detail| {
        StorageError::with_detail("read", "CA certificate", StorageErrorKind::Unusable, detail)
    })?;
    let store = tls::TrustStore::empty().with_native_roots(true).with_pem_certificate(pem);
    tls::TlsContext::builder()
        .with_trust_store(store)
        .build()
        .map_err(|error| StorageError::new("read", "CA certificate", StorageErrorKind::Unusable, &error))
}

/// Reads the certificates as the SDK will: where it finds an error, it panics.
fn check_certificates(pem: &[u8]) -> Result<(), String> {
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

/// Ends the retries of a request whose server shows a certificate we do not trust: waiting does not change it.
#[derive(Debug)]
struct CertificateIsFinal;

impl ClassifyRetry for CertificateIsFinal {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let Some(Err(error)) = context.output_or_error() else { return RetryAction::NoActionIndicated };
        match error.as_connector_error().map(|cause| chain(cause as &(dyn Error + 'static))) {
            Some(text) if is_certificate_refusal(&text) => RetryAction::RetryForbidden,
            _ => RetryAction::NoActionIndicated,
        }
    }

    fn name(&self) -> &'static str {
        "certificate is final"
    }
}
