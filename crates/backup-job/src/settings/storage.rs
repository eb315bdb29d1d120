//! The repository, and what opens it.

use std::{fs, io::ErrorKind, path::Path};

use kubedr_api::{names::location_secret, task::env};
use kubedr_repo::{
    Addressing, Error, InitOptions, InitOutcome, Location, Proxy, Repository, S3Credentials, S3Options,
    Secret, StorageErrorKind, TlsTrust, region_of_host,
};

use super::{SecretSource, file, non_empty};
use crate::{
    Failure,
    args::{Secrets, StorageArgs},
};

/// A repository and how to open it.
#[derive(Debug)]
pub struct Storage {
    /// Where it is.
    pub location: Location,
    /// What opens it.
    pub password: Secret,
    /// Where keys are missed if there are none and the place we run in gives none either.
    pub no_keys: Option<String>,
}

impl Storage {
    pub(crate) fn new(
        args: &StorageArgs,
        secrets: Secrets,
        source: SecretSource<'_>,
    ) -> Result<Self, Failure> {
        let Some(url) = non_empty(args.repository.as_deref()) else {
            let message = "no repository: give `--repository` or `RESTIC_REPOSITORY`";
            return Err(Failure::Configuration(message.to_owned()));
        };
        let is_s3 = url.starts_with("s3:");
        let password_file = file(args.password_file.as_ref());
        if is_s3 && secrets.is_empty() && password_file.is_none() {
            return Err(source.missing(env::ACCESS_KEY, location_secret::ACCESS_KEY));
        }
        let options = if is_s3 { Some(s3_options(args, url, &secrets, source)?) } else { None };
        let no_keys = secrets
            .access_key
            .is_none()
            .then(|| source.missing(env::ACCESS_KEY, location_secret::ACCESS_KEY).to_string());
        let password = match (password_file, secrets.password) {
            (Some(file), _) => password_from(&file)?,
            (None, Some(password)) => password,
            (None, None) => return Err(source.missing(env::PASSWORD, location_secret::REPO_PASSWORD)),
        };
        Ok(Self { location: Location::parse(url, options)?, password: Secret::new(password), no_keys })
    }

    /// The repository that must be there; see [`Repository::open`].
    pub fn open(&self) -> Result<Repository, Failure> {
        Repository::open(&self.location, &self.password).map_err(|error| self.explain(error))
    }

    /// The repository that must be there, since it may not be made.
    pub fn attach(&self) -> Result<Repository, Failure> {
        Repository::open(&self.location, &self.password).map_err(|error| match error {
            Error::NotARepository { .. } | Error::Unfinished { .. } => Failure::Repository(format!(
                "{error}; that is not done here, for the location has `accessMode: ReadOnly`: the cluster that writes to it does \
                 it, or what leads to it is wrong (`url`, `bucketName`, `prefix`, `volume`)"
            )),
            error => self.explain(error),
        })
    }

    /// The repository, made if need be; see [`Repository::init`].
    pub fn init(&self) -> Result<(Repository, InitOutcome), Failure> {
        Repository::init(&self.location, &self.password, &InitOptions::default())
            .map_err(|error| self.explain(error))
    }

    /// Forgotten keys are far more common than a role that is missing, so they are named first.
    fn explain(&self, error: Error) -> Failure {
        match (&error, &self.no_keys) {
            (Error::Storage { cause, .. }, Some(no_keys))
                if cause.kind == StorageErrorKind::NoCredentials =>
            {
                Failure::Configuration(format!("{no_keys}; {error}"))
            }
            _ => error.into(),
        }
    }

    /// A repository that a test has made.
    #[cfg(test)]
    pub(crate) fn of(location: Location, password: Secret) -> Self {
        Self { location, password, no_keys: None }
    }
}

fn s3_options(
    args: &StorageArgs,
    url: &str,
    secrets: &Secrets,
    source: SecretSource<'_>,
) -> Result<S3Options, Failure> {
    let mut options = S3Options::with_credentials(credentials(secrets, source)?);
    region(args.region.as_deref(), url).clone_into(&mut options.region);
    options.proxy = Proxy::FromEnvironment;
    options.addressing = if args.force_path_style { Addressing::Path } else { Addressing::VirtualHost };
    options.tls = match file(args.cacert.as_ref()) {
        _ if args.insecure_tls => TlsTrust::Anyone,
        Some(file) => authorities(&file, non_empty(args.cacert_source.as_deref()), source)?,
        None => TlsTrust::System,
    };
    Ok(options)
}

/// The authorities in the file, which in a pod comes from a key of a Secret or `ConfigMap`: `Secret/<name>/<key>`.
fn authorities(file: &Path, origin: Option<&str>, secrets: SecretSource<'_>) -> Result<TlsTrust, Failure> {
    let parts: Vec<_> = origin.unwrap_or_default().splitn(3, '/').collect();
    let (SecretSource::Secret { namespace, .. }, [kind, name, key]) = (secrets, parts.as_slice()) else {
        let pem = fs::read(file).map_err(|cause| unreadable("--cacert", file, &cause))?;
        return TlsTrust::authorities(pem)
            .map_err(|reason| Failure::Configuration(format!("`--cacert {}`: {reason}", file.display())));
    };
    let pem = match fs::read(file) {
        Ok(pem) => pem,
        Err(cause) if cause.kind() == ErrorKind::NotFound => {
            return Err(Failure::Configuration(format!(
                "`caCert` of the location: {kind} `{name}` in namespace `{namespace}` does not exist or lacks the key `{key}`; \
                 `kubectl -n {namespace} describe {} {name}` shows what it has",
                kind.to_lowercase()
            )));
        }
        Err(cause) => return Err(unreadable("--cacert", file, &cause)),
    };
    TlsTrust::authorities(pem).map_err(|reason| {
        Failure::Configuration(format!(
            "`caCert` of the location: key `{key}` of {kind} `{name}` in namespace `{namespace}`: {reason}"
        ))
    })
}

/// The keys; without any, whatever the place we run in gives.
fn credentials(secrets: &Secrets, source: SecretSource<'_>) -> Result<S3Credentials, Failure> {
    let secret = |text: &String| Secret::new(text);
    match (&secrets.access_key, &secrets.secret_key) {
        (Some(access_key), Some(secret_key)) => Ok(S3Credentials::Keys {
            access_key: secret(access_key),
            secret_key: secret(secret_key),
            session_token: secrets.session_token.as_ref().map(secret),
        }),
        (None, None) if secrets.session_token.is_none() => Ok(S3Credentials::Ambient),
        (None, _) => Err(source.missing(env::ACCESS_KEY, location_secret::ACCESS_KEY)),
        (Some(_), None) => Err(source.missing(env::SECRET_KEY, location_secret::SECRET_KEY)),
    }
}

/// The region that is asked for, else the one that a host such as `s3.eu-west-1.amazonaws.com` names. Servers other than AWS take
/// any region.
fn region<'a>(asked: Option<&'a str>, url: &'a str) -> &'a str {
    non_empty(asked).or(region_of_host(url)).unwrap_or("us-east-1")
}

fn password_from(file: &Path) -> Result<String, Failure> {
    let text = fs::read_to_string(file).map_err(|cause| unreadable("--password-file", file, &cause))?;
    let password = text.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(Failure::Configuration(format!("`--password-file {}` is empty", file.display())));
    }
    Ok(password.to_owned())
}

fn unreadable(flag: &str, file: &Path, cause: &std::io::Error) -> Failure {
    Failure::Configuration(format!("cannot read `{flag} {}`: {cause}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_is_the_one_asked_for_or_the_one_of_the_host() {
        let aws = "s3:https://s3.eu-west-1.amazonaws.com/bucket";
        assert_eq!(region(None, aws), "eu-west-1");
        assert_eq!(region(Some("us-west-2"), aws), "us-west-2");
        assert_eq!(region(None, "s3:https://s3.cn-north-1.amazonaws.com.cn/b"), "cn-north-1");
        for other in
            ["s3:https://s3.amazonaws.com/b", "s3:http://10.0.0.1:9000/b", "s3:https://s3.example.com/b"]
        {
            assert_eq!(region(Some(""), other), "us-east-1", "{other}");
        }
    }
}
