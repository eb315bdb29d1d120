//! The SDK's client, configured for servers of any make.

use std::{error::Error, time::Duration};

use aws_sdk_s3::{
    Client,
    config::{
        BehaviorVersion, IdentityCache, Region, RequestChecksumCalculation, ResponseChecksumValidation,
        retry::RetryConfig, timeout::TimeoutConfig,
    },
};
use aws_smithy_runtime_api::client::{
    interceptors::context::InterceptorContext,
    retries::classifiers::{ClassifyRetry, RetryAction},
};

use super::{credentials, failure::is_certificate_refusal, http_client};
use crate::{
    Addressing, S3Location,
    backend::{StorageError, failure::chain},
};

/// Attempts per request, the first included.
const ATTEMPTS: u32 = 5;
const MAX_BACKOFF: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// For one attempt of a small request, up to the response's headers.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);

/// For one attempt of an upload: a pack over a slow line. One that stalls is ended earlier, by the SDK itself.
const UPLOAD_TIMEOUT: Duration = Duration::from_mins(5);

/// For asking all places that may know credentials, retries included.
const CREDENTIALS_TIMEOUT: Duration = Duration::from_secs(30);

/// A client for the location. Sends nothing yet.
pub(super) fn build(location: &S3Location) -> Result<Client, StorageError> {
    let options = &location.options;
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http_client::for_storage(location)?)
        .endpoint_url(&location.endpoint)
        .region(Region::new(options.region.clone()))
        .credentials_provider(credentials::provider(location)?)
        .identity_cache(IdentityCache::lazy().load_timeout(CREDENTIALS_TIMEOUT).build())
        .force_path_style(options.addressing == Addressing::Path)
        // Checksums beyond what S3 itself demands are refused by many servers; our files carry their own.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS).with_max_backoff(MAX_BACKOFF))
        .retry_classifier(CertificateIsFinal)
        .timeout_config(timeouts(ATTEMPT_TIMEOUT));
    Ok(Client::from_conf(config.build()))
}

/// What an upload does differently.
pub(super) fn for_upload() -> aws_sdk_s3::config::Builder {
    aws_sdk_s3::Config::builder().timeout_config(timeouts(UPLOAD_TIMEOUT))
}

fn timeouts(attempt: Duration) -> TimeoutConfig {
    TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).operation_attempt_timeout(attempt).build()
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
