//! Where flags and environment lead, or what is wrong with them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use kubedr_repo::{
    Addressing, InitOptions, InitOutcome, Location, Proxy, Repository, S3Credentials, S3Options, Secret,
    TlsTrust,
};

use crate::{
    args::{Environment, StorageArgs},
    failure::{Failure, unreadable},
};

/// A repository and what opens it.
#[derive(Debug)]
pub struct Storage {
    location: Location,
    password: Secret,
}

impl Storage {
    /// What flags and environment say; a flag wins.
    pub fn new(args: &StorageArgs, environment: &Environment) -> Result<Self, Failure> {
        let url = url(args, environment)?;
        let options = if url.starts_with("s3:") { Some(s3_options(args, environment, &url)?) } else { None };
        let location = Location::parse(&url, options)?;
        Ok(Self { location, password: Secret::new(password(args, environment)?) })
    }

    /// The repository, which must be there.
    pub fn open(&self) -> Result<Repository, Failure> {
        Ok(Repository::open(&self.location, &self.password)?)
    }

    /// The repository, made if need be.
    pub fn init(&self) -> Result<(Repository, InitOutcome), Failure> {
        Ok(Repository::init(&self.location, &self.password, &InitOptions::default())?)
    }
}

fn configuration(text: impl Into<String>) -> Failure {
    Failure::Configuration(text.into())
}

/// The repository in restic's notation.
fn url(args: &StorageArgs, environment: &Environment) -> Result<String, Failure> {
    let StorageArgs { endpoint, bucket, prefix, repo, .. } = args;
    if let Some(repo) = repo {
        return Ok(repo.clone());
    }
    if let Some(bucket) = bucket {
        let endpoint = endpoint.as_ref().or(environment.endpoint.as_ref()).ok_or_else(|| {
            configuration("`--bucket` is given without `--endpoint`: give the URL of the S3 service, such as https://s3.example.com")
        })?;
        let endpoint = endpoint.strip_prefix("s3:").unwrap_or(endpoint).trim_end_matches('/');
        let prefix = prefix.as_deref().unwrap_or_default().trim_matches('/');
        let slash = if prefix.is_empty() { "" } else { "/" };
        return Ok(format!("s3:{endpoint}/{bucket}{slash}{prefix}"));
    }
    if endpoint.is_some() || prefix.is_some() {
        let given = if endpoint.is_some() { "--endpoint" } else { "--prefix" };
        return Err(configuration(format!("`{given}` is given without `--bucket`: give the bucket's name")));
    }
    if let Some(repository) = &environment.repository {
        return Ok(repository.clone());
    }
    if let Some(file) = &environment.repository_file {
        return line_of(file, "RESTIC_REPOSITORY_FILE");
    }
    Err(configuration(
        "no repository: give `--endpoint` and `--bucket`, or `--repo`, or set `RESTIC_REPOSITORY`",
    ))
}

fn s3_options(args: &StorageArgs, environment: &Environment, url: &str) -> Result<S3Options, Failure> {
    let mut options = S3Options::with_credentials(credentials(args, environment)?);
    let asked = args.region.as_deref().or(environment.region.as_deref());
    asked.or(kubedr_repo::region_of_host(url)).unwrap_or("us-east-1").clone_into(&mut options.region);
    options.proxy = Proxy::FromEnvironment;
    options.addressing = if args.force_path_style { Addressing::Path } else { Addressing::VirtualHost };
    let (cacert, flag) = match &args.cacert {
        Some(file) => (Some(file), "--cacert"),
        None => (environment.cacert.as_ref(), "RESTIC_CACERT"),
    };
    options.tls = match cacert {
        _ if args.insecure_skip_tls_verify => TlsTrust::Anyone,
        Some(file) => authorities(file, flag)?,
        None => TlsTrust::System,
    };
    Ok(options)
}

fn authorities(file: &Path, flag: &str) -> Result<TlsTrust, Failure> {
    let named = format!("{flag} {}", file.display());
    let pem = fs::read(file).map_err(|cause| unreadable(&named, &cause))?;
    TlsTrust::authorities(pem).map_err(|reason| configuration(format!("`{named}`: {reason}")))
}

/// The keys; without any, whatever the place we run in gives.
fn credentials(args: &StorageArgs, environment: &Environment) -> Result<S3Credentials, Failure> {
    let access_key = args.accesskey.as_ref().or(environment.access_key.as_ref());
    let secret_key = args.secretkey.as_ref().or(environment.secret_key.as_ref());
    // It belongs to the key of the environment, and makes any other one invalid.
    let session_token = environment.session_token.as_ref().filter(|_| args.accesskey.is_none());
    match (access_key, secret_key) {
        (Some(access_key), Some(secret_key)) => Ok(S3Credentials::Keys {
            access_key: Secret::new(access_key),
            secret_key: Secret::new(secret_key),
            session_token: session_token.map(Secret::new),
        }),
        (None, None) => Ok(S3Credentials::Ambient),
        (None, Some(_)) => Err(configuration(
            "there is a secret key without an access key: give `--accesskey` or set `AWS_ACCESS_KEY_ID`",
        )),
        (Some(_), None) => Err(configuration(
            "there is an access key without a secret key: set `AWS_SECRET_ACCESS_KEY` or give `--secretkey`",
        )),
    }
}

fn password(args: &StorageArgs, environment: &Environment) -> Result<String, Failure> {
    let from = |file: &PathBuf, named| line_of(file, named);
    match (&args.repopwd, &args.password_file, &environment.password_file, &environment.password) {
        (Some(password), ..) if !password.is_empty() => Ok(password.clone()),
        (_, Some(file), ..) => from(file, "--password-file"),
        (_, _, Some(file), _) => from(file, "RESTIC_PASSWORD_FILE"),
        (_, _, _, Some(password)) => Ok(password.clone()),
        _ => Err(configuration(
            "no password of the repository: set `RESTIC_PASSWORD`, or give a file with `--password-file`",
        )),
    }
}

/// The text in a file, which must not be empty; line ends are cut off.
fn line_of(file: &Path, named: &str) -> Result<String, Failure> {
    let named = format!("{named} {}", file.display());
    let text = fs::read_to_string(file).map_err(|cause| unreadable(&named, &cause))?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(configuration(format!("`{named}` is empty"))),
        line => Ok(line.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(change: impl FnOnce(&mut StorageArgs, &mut Environment)) -> (StorageArgs, Environment) {
        let mut args = StorageArgs { force_path_style: true, ..StorageArgs::default() };
        let mut environment = Environment {
            access_key: Some("env-access".into()),
            secret_key: Some("env-secret".into()),
            session_token: Some("env-token".into()),
            repository: Some("s3:http://env:1/bucket".into()),
            password: Some("env-password".into()),
            ..Environment::default()
        };
        change(&mut args, &mut environment);
        (args, environment)
    }

    fn storage(change: impl FnOnce(&mut StorageArgs, &mut Environment)) -> Result<Storage, Failure> {
        let (args, environment) = given(change);
        Storage::new(&args, &environment)
    }

    fn refusal(change: impl FnOnce(&mut StorageArgs, &mut Environment)) -> String {
        let failure = storage(change).unwrap_err();
        assert_eq!(failure.exit_code(), 2);
        failure.to_string()
    }

    fn keys(change: impl FnOnce(&mut StorageArgs, &mut Environment)) -> (String, String, Option<String>) {
        let Location::S3(s3) = storage(change).unwrap().location else { panic!() };
        let S3Credentials::Keys { access_key, secret_key, session_token } = s3.options.credentials else {
            panic!()
        };
        let text = |secret: &Secret| secret.reveal().to_owned();
        (text(&access_key), text(&secret_key), session_token.as_ref().map(text))
    }

    #[test]
    fn a_flag_wins_over_the_environment() {
        assert_eq!(keys(|_, _| {}), ("env-access".into(), "env-secret".into(), Some("env-token".into())));
        let both = |args: &mut StorageArgs, _: &mut Environment| {
            args.accesskey = Some("access".into());
            args.secretkey = Some("secret".into());
        };
        // A token of the environment does not belong to a key of a flag.
        assert_eq!(keys(both), ("access".into(), "secret".into(), None));
        let flags = storage(|args, _| {
            args.endpoint = Some("http://flag:2/".into());
            args.bucket = Some("b".into());
            args.prefix = Some("/a/b/".into());
            args.repopwd = Some("flag-password".into());
        })
        .unwrap();
        assert_eq!(
            (flags.location.url().as_str(), flags.password.reveal()),
            ("s3:http://flag:2/b/a/b", "flag-password")
        );
        let repo = storage(|args, _| args.repo = Some("/srv/r".into())).unwrap();
        assert_eq!(repo.location.url(), "/srv/r");
    }

    #[test]
    fn a_password_file_wins_over_a_password_as_it_does_for_restic() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "from-file\r\n").unwrap();
        let path = file.path().to_owned();
        let storage = |in_environment: bool| {
            let path = path.clone();
            storage(move |args, environment| {
                let place =
                    if in_environment { &mut environment.password_file } else { &mut args.password_file };
                *place = Some(path);
            })
        };
        for in_environment in [true, false] {
            assert_eq!(storage(in_environment).unwrap().password.reveal(), "from-file");
        }
        fs::write(file.path(), "\n").unwrap();
        let message = storage(false).unwrap_err().to_string();
        assert_eq!(message, format!("`--password-file {}` is empty", path.display()));
    }

    #[test]
    fn what_is_missing_is_named_with_what_to_do() {
        let message = refusal(|_, environment| environment.repository = None);
        assert!(
            message.contains("`--endpoint` and `--bucket`") && message.contains("`RESTIC_REPOSITORY`"),
            "{message}"
        );
        let message = refusal(|args, _| args.endpoint = Some("http://h".into()));
        assert!(message.contains("without `--bucket`"), "{message}");
        let message = refusal(|args, _| args.prefix = Some("x".into()));
        assert!(message.contains("`--prefix` is given without `--bucket`"), "{message}");
        let message = refusal(|args, _| args.bucket = Some("b".into()));
        assert!(message.contains("without `--endpoint`"), "{message}");
        let message = refusal(|_, environment| environment.secret_key = None);
        assert!(message.contains("`AWS_SECRET_ACCESS_KEY`"), "{message}");
        let message = refusal(|_, environment| environment.access_key = None);
        assert!(message.contains("`AWS_ACCESS_KEY_ID`"), "{message}");
        let message = refusal(|_, environment| environment.password = None);
        assert!(message.contains("`RESTIC_PASSWORD`"), "{message}");
        let message = refusal(|args, _| args.cacert = Some("/none/ca.crt".into()));
        assert!(message.contains("`--cacert /none/ca.crt`"), "{message}");
    }

    #[test]
    fn the_bucket_may_be_a_flag_where_the_environment_names_the_endpoint() {
        let storage = storage(|args, environment| {
            args.bucket = Some("b".into());
            environment.endpoint = Some("https://s3.eu-west-1.amazonaws.com".into());
        });
        let Location::S3(s3) = storage.unwrap().location else { panic!() };
        assert_eq!(
            (s3.endpoint.as_str(), s3.options.region.as_str()),
            ("https://s3.eu-west-1.amazonaws.com", "eu-west-1")
        );
    }

    #[test]
    fn without_keys_the_place_is_asked_for_a_role() {
        let storage =
            storage(|_, environment| (environment.access_key, environment.secret_key) = (None, None));
        let Location::S3(s3) = storage.unwrap().location else { panic!() };
        assert!(matches!(s3.options.credentials, S3Credentials::Ambient));
    }

    #[test]
    fn debug_output_holds_no_secret() {
        let text = format!("{:?}", storage(|_, _| {}).unwrap());
        assert!(
            !["env-access", "env-secret", "env-token", "env-password"].iter().any(|s| text.contains(s)),
            "{text}"
        );
    }
}
