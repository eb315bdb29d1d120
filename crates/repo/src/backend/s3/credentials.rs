//! Who we are: keys that were given, or the role that the place gives to those who run in it.

use aws_config::{
    ecs::EcsCredentialsProvider, imds::credentials::ImdsCredentialsProvider, provider_config::ProviderConfig,
    web_identity_token::WebIdentityTokenCredentialsProvider,
};
use aws_credential_types::{
    Credentials,
    provider::{
        self, ProvideCredentials, SharedCredentialsProvider, error::CredentialsError,
        future::ProvideCredentials as ProvidedLater,
    },
};
use aws_sdk_s3::config::Region;
use aws_smithy_async::rt::sleep::TokioSleep;

use super::http_client;
use crate::{
    S3Credentials, S3Location, Secret,
    backend::{StorageError, failure::chain},
};

const INSTANCE_PROFILE: &str = "instance profile";

/// What signs the requests to the location. Asks nobody yet.
pub(super) fn provider(location: &S3Location) -> Result<SharedCredentialsProvider, StorageError> {
    Ok(match &location.options.credentials {
        S3Credentials::Keys { access_key, secret_key, session_token } => {
            let token = session_token.as_ref().map(|token| Secret::reveal(token).to_owned());
            let keys = Credentials::new(access_key.reveal(), secret_key.reveal(), token, None, "kubedr");
            SharedCredentialsProvider::new(keys)
        }
        S3Credentials::Ambient => SharedCredentialsProvider::new(Ambient::new(location)?),
    })
}

/// The places that may know of a role for us, asked one after the other.
///
/// The SDK's own chain would do the same and not say, at its end, whom it asked.
#[derive(Debug)]
struct Ambient(Vec<(&'static str, SharedCredentialsProvider)>);

impl Ambient {
    fn new(location: &S3Location) -> Result<Self, StorageError> {
        let config = ProviderConfig::empty()
            .with_sleep_impl(TokioSleep::new())
            .with_region(Some(Region::new(location.options.region.clone())));
        let sts = config.clone().with_http_client(http_client::for_sts(location)?);
        let metadata = config.with_http_client(http_client::for_metadata());
        Ok(Self(vec![
            (
                "web identity",
                SharedCredentialsProvider::new(
                    WebIdentityTokenCredentialsProvider::builder().configure(&sts).build(),
                ),
            ),
            (
                "container credentials",
                SharedCredentialsProvider::new(
                    EcsCredentialsProvider::builder().configure(&metadata).build(),
                ),
            ),
            (
                INSTANCE_PROFILE,
                SharedCredentialsProvider::new(
                    ImdsCredentialsProvider::builder().configure(&metadata).build(),
                ),
            ),
        ]))
    }

    /// A role that was meant for us and is refused ends the search: another one would be a surprise. Nobody means the
    /// instance's profile in particular, so what goes wrong there is one more place that gave nothing.
    async fn ask_all(&self) -> provider::Result {
        let mut tried = Vec::new();
        for (name, place) in &self.0 {
            match place.provide_credentials().await {
                Ok(credentials) => return Ok(credentials),
                Err(error) if is_absence(&error) || *name == INSTANCE_PROFILE => {
                    tried.push(format!("{name} ({})", reason(&error)));
                }
                Err(error) => {
                    return Err(CredentialsError::provider_error(format!("{name}: {}", reason(&error))));
                }
            }
        }
        Err(CredentialsError::not_loaded(format!("no keys were given; tried {}", tried.join(", "))))
    }
}

impl ProvideCredentials for Ambient {
    fn provide_credentials<'a>(&'a self) -> ProvidedLater<'a>
    where
        Self: 'a,
    {
        ProvidedLater::new(self.ask_all())
    }
}

/// Whether the place has no role for us, or, of [`provider`] as a whole, none of the places has one.
pub(super) fn is_absence(error: &CredentialsError) -> bool {
    matches!(error, CredentialsError::CredentialsNotLoaded(_))
}

/// What stands below the general words of the error itself.
pub(super) fn reason(error: &CredentialsError) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), chain)
}
