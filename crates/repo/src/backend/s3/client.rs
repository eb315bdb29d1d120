//! The SDK's client, configured for servers of any make.

use std::{error::Error, time::Duration};

use aws_sdk_s3::{
    Client,
    config::{
        BehaviorVersion, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
        retry::RetryConfig, timeout::TimeoutConfig,
    },
};
use aws_smithy_http_client::{Builder as HttpBuilder, tls};
use aws_smithy_runtime_api::client::{
    interceptors::context::InterceptorContext,
    retries::classifiers::{ClassifyRetry, RetryAction},
};

use super::failure::is_certificate_refusal;
use crate::{
    Addressing, S3Location,
    backend::{StorageError, StorageErrorKind, failure::chain},
};

/// Attempts per request, the first included.
const ATTEMPTS: u32 = 5;
const MAX_BACKOFF: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// For one attempt up to the response's headers, the upload of a pack included.
const ATTEMPT_TIMEOUT: Duration = Duration::from_mins(2);

/// A client for the location. Sends nothing yet.
pub(super) fn build(location: &S3Location) -> Result<Client, StorageError> {
    let options = &location.options;
    let mut http =
        HttpBuilder::new().tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring));
    if let Some(pem) = &options.ca_pem {
        http = http.tls_context(trusting(pem)?);
    }
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http.build_https())
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
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(CONNECT_TIMEOUT)
                .operation_attempt_timeout(ATTEMPT_TIMEOUT)
                .build(),
        );
    Ok(Client::from_conf(config.build()))
}

fn trusting(pem: &[u8]) -> Result<tls::TlsContext, StorageError> {
    let unusable = |detail: String| {
        StorageError::with_detail("read", "CA certificate", StorageErrorKind::Unusable, detail)
    };
    // The SDK panics on PEM it cannot read; this looks for the one thing that must be there.
    if !String::from_utf8_lossy(pem).contains("-----BEGIN CERTIFICATE-----") {
        return Err(unusable(
            "it holds no PEM certificate (no line `-----BEGIN CERTIFICATE-----`)".to_owned(),
        ));
    }
    let store = tls::TrustStore::empty().with_native_roots(true).with_pem_certificate(pem);
    tls::TlsContext::builder().with_trust_store(store).build().map_err(|error| unusable(chain(&error)))
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
