//! What only the environment says.

use std::env;

use kubedr_api::task::env as name;

/// What only the environment says.
pub struct Secrets {
    /// Access key of the S3 service.
    pub access_key: Option<String>,
    /// Secret key of the S3 service.
    pub secret_key: Option<String>,
    /// What belongs to keys that expire.
    pub session_token: Option<String>,
    /// Password of the repository.
    pub password: Option<String>,
}

impl Secrets {
    /// Whether nothing at all is there: the Secret does not exist, or the environment was forgotten.
    pub(crate) fn is_empty(&self) -> bool {
        let Self { access_key, secret_key, session_token, password } = self;
        [access_key, secret_key, session_token, password].iter().all(|secret| secret.is_none())
    }

    /// Reads them. An empty variable counts as absent; line ends that a file left behind are cut off.
    pub fn from_environment() -> Self {
        Self {
            access_key: secret(name::ACCESS_KEY),
            secret_key: secret(name::SECRET_KEY),
            session_token: secret(name::SESSION_TOKEN),
            password: secret(name::PASSWORD),
        }
    }
}

fn secret(variable: &str) -> Option<String> {
    let value = env::var(variable).ok()?;
    let value = value.trim_end_matches(['\r', '\n']);
    (!value.is_empty()).then(|| value.to_owned())
}
