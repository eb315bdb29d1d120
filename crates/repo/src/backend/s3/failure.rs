//! What an SDK error means.

use std::{error::Error, fmt::Debug};

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};

use super::credentials::{is_absence, reason};
use crate::{
    backend::{StorageError, StorageErrorKind, failure::chain},
    error::find,
};

/// The error of a request as one of ours.
pub(super) fn classify<E>(
    action: &'static str,
    object: &str,
    error: &SdkError<E, HttpResponse>,
) -> StorageError
where
    E: ProvideErrorMetadata + Error + Debug + 'static,
{
    if let Some(refusal) = find::<CredentialsError>(error) {
        let kind =
            if is_absence(refusal) { StorageErrorKind::NoCredentials } else { StorageErrorKind::RoleRefused };
        return StorageError::with_detail(action, object, kind, reason(refusal));
    }
    let (kind, detail) = match error {
        SdkError::ServiceError(service) => {
            let status = service.raw().status().as_u16();
            let answer = service.err();
            (of_answer(answer.code(), status), describe(answer.code(), answer.message(), status))
        }
        SdkError::DispatchFailure(failure) => {
            let text = failure.as_connector_error().map_or_else(|| chain(error), |cause| chain(cause));
            (of_connection(&text), text)
        }
        SdkError::TimeoutError(_) => (StorageErrorKind::Busy, chain(error)),
        SdkError::ResponseError(_) => (StorageErrorKind::NotS3, chain(error)),
        SdkError::ConstructionFailure(_) => (StorageErrorKind::Unusable, chain(error)),
        _ => (StorageErrorKind::Other, chain(error)),
    };
    StorageError::with_detail(action, object, kind, detail)
}

/// The error of a body that broke off.
pub(super) fn classify_body(
    action: &'static str,
    object: &str,
    error: &(dyn Error + 'static),
) -> StorageError {
    StorageError::new(action, object, StorageErrorKind::Busy, error)
}

/// Whether a conditional put failed because the object exists.
pub(super) fn says_exists(error: &StorageError) -> bool {
    error.action == "put"
        && (error.detail.contains("PreconditionFailed") || error.detail.contains("HTTP 412"))
}

/// Whether a conditional put failed because another one was under way.
pub(super) fn says_conflict(error: &StorageError) -> bool {
    error.action == "put" && error.detail.contains("ConditionalRequestConflict")
}

/// Whether a conditional put failed because the server does not know conditions.
pub(super) fn says_unconditional(error: &StorageError) -> bool {
    error.action == "put" && (error.detail.contains("NotImplemented") || error.detail.contains("HTTP 501"))
}

/// Whether the text of a connection error says that the certificate was refused.
pub(super) fn is_certificate_refusal(text: &str) -> bool {
    text.contains("invalid peer certificate") || text.contains("UnknownIssuer")
}

fn describe(code: Option<&str>, message: Option<&str>, status: u16) -> String {
    match (code, message) {
        (Some(code), Some(message)) => format!("{code}: {message} (HTTP {status})"),
        (Some(text), None) | (None, Some(text)) => format!("{text} (HTTP {status})"),
        (None, None) => format!("HTTP {status}"),
    }
}

fn of_connection(text: &str) -> StorageErrorKind {
    if is_certificate_refusal(text) {
        StorageErrorKind::Untrusted
    } else if text.contains("InvalidContentType") || text.contains("corrupt message") {
        // A TLS handshake answered in plain HTTP.
        StorageErrorKind::NotS3
    } else {
        StorageErrorKind::Unreachable
    }
}

/// The codes are those of AWS, MinIO, Ceph and versitygw; the status decides where there is none.
fn of_answer(code: Option<&str>, status: u16) -> StorageErrorKind {
    use StorageErrorKind as Kind;
    match code.unwrap_or_default() {
        "NoSuchBucket" => Kind::BucketMissing,
        "NoSuchKey" | "NotFound" => Kind::Missing,
        "BucketAlreadyExists" | "BucketAlreadyOwnedByYou" | "OperationAborted" => Kind::BucketTaken,
        "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "InvalidToken"
        | "InvalidTokenId"
        | "InvalidClientTokenId" => Kind::WrongKeys,
        "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" => Kind::Expired,
        "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException" => {
            Kind::WrongRegion
        }
        "RequestTimeTooSkewed" => Kind::ClockSkew,
        "InvalidBucketName" => Kind::Unusable,
        "QuotaExceeded" | "NoSpaceLeftOnDevice" | "XMinioStorageFull" | "InsufficientStorage" => Kind::Full,
        _ => match status {
            301 | 307 => Kind::WrongRegion,
            401 | 403 => Kind::AccessDenied,
            404 => Kind::Missing,
            408 | 429 | 500 | 502..=504 => Kind::Busy,
            507 => Kind::Full,
            _ => Kind::Other,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answers_of_servers_are_told_apart() {
        for (code, status, expected) in [
            (Some("NoSuchBucket"), 404, StorageErrorKind::BucketMissing),
            (Some("NoSuchKey"), 404, StorageErrorKind::Missing),
            (Some("InvalidAccessKeyId"), 403, StorageErrorKind::WrongKeys),
            (Some("InvalidTokenId"), 403, StorageErrorKind::WrongKeys),
            (Some("SignatureDoesNotMatch"), 403, StorageErrorKind::WrongKeys),
            (Some("ExpiredToken"), 400, StorageErrorKind::Expired),
            (Some("AccessDenied"), 403, StorageErrorKind::AccessDenied),
            (Some("BucketAlreadyExists"), 409, StorageErrorKind::BucketTaken),
            (Some("SlowDown"), 503, StorageErrorKind::Busy),
            (None, 403, StorageErrorKind::AccessDenied),
            (None, 502, StorageErrorKind::Busy),
            (None, 418, StorageErrorKind::Other),
        ] {
            assert_eq!(of_answer(code, status), expected, "{code:?} {status}");
        }
    }
}
