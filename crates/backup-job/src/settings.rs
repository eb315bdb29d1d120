//! What flags and environment mean, or what is wrong with them.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use kubedr_api::{
    names::{etcd_secret, location_secret},
    task::env,
};
use kubedr_etcd::{ClientFiles, CredentialFiles, Credentials, Endpoints};
use kubedr_repo::{
    Addressing, Error, InitOptions, InitOutcome, Location, LockHolder, Proxy, Repository, S3Credentials,
    S3Options, Secret, StorageErrorKind, TlsTrust, region_of_host,
};

use crate::{
    BackupSettings, CertificatesDir, EtcdSettings, Failure, Locking,
    args::{BackupArgs, RunArgs, Secrets, StorageArgs},
    lock::user_name,
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

/// Where the secrets come from, so that messages can say where to put what is missing.
#[derive(Clone, Copy, Debug)]
pub enum SecretSource<'a> {
    /// The environment of whoever runs the job.
    Environment,
    /// A Secret of the cluster.
    Secret {
        /// Its name.
        name: &'a str,
        /// Its namespace.
        namespace: &'a str,
    },
}

impl<'a> SecretSource<'a> {
    /// The Secret of this name, or the environment if there is none.
    pub(crate) fn new(name: Option<&'a str>, namespace: Option<&'a str>) -> Self {
        match (non_empty(name), namespace) {
            (Some(name), Some(namespace)) => Self::Secret { name, namespace },
            _ => Self::Environment,
        }
    }

    fn missing(self, variable: &str, key: &str) -> Failure {
        Failure::Configuration(match self {
            Self::Environment => format!("`{variable}` is not set"),
            Self::Secret { name, namespace } => missing_key(name, namespace, key),
        })
    }
}

fn missing_key(name: &str, namespace: &str, key: &str) -> String {
    let location = [location_secret::ACCESS_KEY, location_secret::SECRET_KEY, location_secret::REPO_PASSWORD];
    let etcd = [etcd_secret::CA, etcd_secret::CERT, etcd_secret::KEY];
    let all = if etcd.contains(&key) { etcd } else { location };
    format!(
        "Secret `{name}` in namespace `{namespace}` does not exist or lacks the key `{key}`: it needs `{}`; \
         `kubectl -n {namespace} describe secret {name}` shows what it has",
        all.join("`, `")
    )
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

/// An empty variable counts as absent.
fn non_empty(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}

fn file(path: Option<&PathBuf>) -> Option<PathBuf> {
    path.filter(|path| !path.as_os_str().is_empty()).cloned()
}

impl BackupSettings {
    pub(crate) fn new(args: &BackupArgs, secrets: Secrets, locking: Locking) -> Result<Self, Failure> {
        let in_cluster = non_empty(args.policy.as_deref()).is_some();
        let namespace = non_empty(args.run.namespace.as_deref()).filter(|_| in_cluster);
        let source = SecretSource::new(args.storage.credentials.as_deref(), namespace);
        let storage = Storage::new(&args.storage, secrets, source)?;
        let etcd = EtcdSettings::new(args, SecretSource::new(args.etcd_credentials.as_deref(), namespace))?;
        let certificates = file(args.certs_dir.as_ref());
        Ok(Self {
            storage,
            etcd,
            certificates: certificates.map(|dir| CertificatesDir { dir, root: args.host_root.clone() }),
            host: non_empty(args.host.as_deref()).map_or_else(machine_name, str::to_owned),
            tags: tags(args),
            locking,
        })
    }
}

fn tags(args: &BackupArgs) -> Vec<String> {
    use kubedr_api::names::snapshot::{TAG_CLUSTER, TAG_LOCATION, TAG_NAMESPACE, TAG_POLICY};
    let known = [
        (TAG_CLUSTER, &args.run.cluster),
        (TAG_NAMESPACE, &args.run.namespace),
        (TAG_POLICY, &args.policy),
        (TAG_LOCATION, &args.run.location),
    ];
    let tag =
        |(name, value): (&str, &Option<String>)| non_empty(value.as_deref()).map(|v| format!("{name}={v}"));
    known.into_iter().filter_map(tag).collect()
}

/// Whose lock it is: this pod's, or this machine's.
pub(crate) fn lock_holder(run: &RunArgs) -> LockHolder {
    let [cluster, namespace, pod] =
        [&run.cluster, &run.namespace, &run.pod_uid].map(|text| non_empty(text.as_deref()));
    let username = match (cluster, namespace, pod) {
        (Some(cluster), Some(namespace), Some(pod)) => user_name(cluster, namespace, pod),
        _ => "kubedr-backup-job".to_owned(),
    };
    let hostname = non_empty(run.pod_name.as_deref()).map_or_else(machine_name, str::to_owned);
    LockHolder { hostname, username }
}

fn machine_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    non_empty(Some(name.trim())).unwrap_or("localhost").to_owned()
}

impl EtcdSettings {
    fn new(args: &BackupArgs, source: SecretSource<'_>) -> Result<Self, Failure> {
        let endpoints: Endpoints = args.etcd_endpoints.parse()?;
        if !endpoints.need_tls() {
            return Ok(Self { endpoints, credentials: None });
        }
        let [ca, cert, key] =
            [&args.etcd_cacert, &args.etcd_cert, &args.etcd_key].map(|path| file(path.as_ref()));
        if let SecretSource::Secret { name, namespace } = source {
            // A Secret that is mounted as optional and is not there leaves an empty directory.
            let mounted = [(&ca, etcd_secret::CA), (&cert, etcd_secret::CERT), (&key, etcd_secret::KEY)];
            let absent = |path: &Option<PathBuf>| path.as_ref().is_some_and(|path| !path.exists());
            if let Some((_, key)) = mounted.into_iter().find(|(path, _)| absent(path)) {
                return Err(Failure::Configuration(missing_key(name, namespace, key)));
            }
        }
        let Some(ca) = ca else { return Ok(Self { endpoints, credentials: None }) };
        let client = match (cert, key) {
            (Some(cert), Some(key)) => Some(ClientFiles { cert, key }),
            (None, None) => None,
            (Some(_), None) => return Err(half("--etcd-cert", "--etcd-key")),
            (None, Some(_)) => return Err(half("--etcd-key", "--etcd-cert")),
        };
        let credentials = Credentials::read(&CredentialFiles { ca, client })?;
        Ok(Self { endpoints, credentials: Some(credentials) })
    }
}

fn half(given: &str, lacking: &str) -> Failure {
    Failure::Configuration(format!(
        "`{given}` is given without `{lacking}`: a certificate and its key go together"
    ))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn secrets() -> Secrets {
        Secrets {
            access_key: Some("key".into()),
            secret_key: Some("hunter2".into()),
            session_token: None,
            password: Some("correct-horse".into()),
        }
    }

    fn backup(flags: &[&str], secrets: Secrets) -> Result<BackupSettings, Failure> {
        let line = ["kubedr-backup-job", "backup"].iter().chain(flags);
        let Command::Backup(args) = Cli::try_parse_from(line).unwrap().command else { panic!() };
        BackupSettings::new(&args, secrets, Locking::Off)
    }

    fn refusal(flags: &[&str], secrets: Secrets) -> String {
        let failure = backup(flags, secrets).unwrap_err();
        assert_eq!(failure.exit_code(), 2);
        failure.to_string()
    }

    const PLAIN: [&str; 3] =
        ["--repository=s3:http://h/b", "--etcd-endpoints=http://127.0.0.1:1", "--host=n1"];

    #[test]
    fn what_is_missing_is_named_as_the_caller_knows_it() {
        let message = refusal(&PLAIN, Secrets { secret_key: None, ..secrets() });
        assert_eq!(message, "`AWS_SECRET_ACCESS_KEY` is not set");
        let mut flags = PLAIN.to_vec();
        flags.extend(["--policy=daily", "--namespace=ns", "--credentials=s3-creds"]);
        let message = refusal(&flags, Secrets { password: None, ..secrets() });
        let expected =
            "Secret `s3-creds` in namespace `ns` does not exist or lacks the key `restic_repo_password`";
        assert!(message.starts_with(expected), "{message}");
        let nothing = || Secrets { access_key: None, secret_key: None, session_token: None, password: None };
        assert!(refusal(&flags, nothing()).contains("lacks the key `access_key`"));
        let token_alone =
            Secrets { session_token: Some("token".into()), password: secrets().password, ..nothing() };
        assert!(refusal(&flags, token_alone).contains("lacks the key `access_key`"));
        let message = refusal(&["--etcd-endpoints=http://h:1"], secrets());
        assert!(message.contains("`RESTIC_REPOSITORY`"), "{message}");
    }

    fn s3(flags: &[&str], secrets: Secrets) -> S3Options {
        let flags = [&PLAIN, flags].concat();
        let Location::S3(location) = backup(&flags, secrets).unwrap().storage.location else { panic!() };
        location.options
    }

    #[test]
    fn without_keys_the_place_is_asked_for_credentials() {
        let none = Secrets { access_key: None, secret_key: None, ..secrets() };
        assert!(matches!(s3(&[], none).credentials, S3Credentials::Ambient));
        let with_token = Secrets { session_token: Some("token".into()), ..secrets() };
        let S3Credentials::Keys { session_token, .. } = s3(&[], with_token).credentials else { panic!() };
        assert_eq!(session_token, Some("token".into()));
    }

    #[test]
    fn certificates_that_cannot_be_trusted_are_told_by_the_object_they_come_from() {
        let flags = |cacert: &'static str, source: &'static str| {
            [
                "--credentials=s3-creds",
                "--policy=daily",
                "--namespace=ns",
                "--repository=s3:https://h/b",
                cacert,
                source,
            ]
        };
        let missing =
            refusal(&flags("--cacert=/none/ca.crt", "--cacert-source=Secret/s3-ca/root.pem"), secrets());
        let expected = "`caCert` of the location: Secret `s3-ca` in namespace `ns` does not exist or lacks the key `root.pem`";
        assert!(missing.starts_with(expected), "{missing}");
        let no_pem =
            refusal(&flags("--cacert=/etc/hostname", "--cacert-source=ConfigMap/m/ca.crt"), secrets());
        assert!(no_pem.contains("key `ca.crt` of ConfigMap `m`") && no_pem.contains("PEM"), "{no_pem}");
        let by_hand = refusal(&["--repository=s3:https://h/b", "--cacert=/etc/hostname"], secrets());
        assert!(by_hand.contains("`--cacert /etc/hostname`") && by_hand.contains("PEM"), "{by_hand}");
    }

    #[test]
    fn where_nothing_may_be_written_nothing_is_made() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("r");
        let repository = format!("--repository={}", place.display());
        let storage = || backup(&[&repository, "--etcd-endpoints=http://h:1"], secrets()).unwrap().storage;
        let message = storage().attach().unwrap_err().to_string();
        assert!(
            message.contains("accessMode: ReadOnly") && message.contains("no repository at"),
            "{message}"
        );
        assert!(!place.exists(), "it made something");
        storage().init().unwrap();
        storage().attach().unwrap();
    }

    #[test]
    fn flags_say_how_the_server_is_reached() {
        assert!(matches!(s3(&[], secrets()).tls, TlsTrust::System));
        assert!(matches!(s3(&["--insecure-tls"], secrets()).tls, TlsTrust::Anyone));
        assert!(matches!(s3(&["--insecure-tls=false"], secrets()).tls, TlsTrust::System));
        assert_eq!(s3(&[], secrets()).addressing, Addressing::Path);
        assert_eq!(s3(&["--force-path-style=false"], secrets()).addressing, Addressing::VirtualHost);
        let message = refusal(&[&PLAIN[..], &["--cacert=/none/ca.crt"]].concat(), secrets());
        assert!(message.contains("`--cacert /none/ca.crt`"), "{message}");
    }

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

    #[test]
    fn a_missing_etcd_secret_is_told_by_its_name_and_key() {
        let mut flags = vec!["--repository=s3:http://h/b", "--policy=daily", "--namespace=ns"];
        flags.extend([
            "--etcd-credentials=etcd-creds",
            "--etcd-cacert=/none/ca.crt",
            "--etcd-cert=/none/client.crt",
        ]);
        let message = refusal(&flags, secrets());
        let expected = "Secret `etcd-creds` in namespace `ns` does not exist or lacks the key `ca.crt`";
        assert!(message.starts_with(expected), "{message}");
    }

    #[test]
    fn a_certificate_needs_its_key() {
        let flags = ["--repository=/r", "--etcd-cacert=/none/ca.crt", "--etcd-cert=/none/client.crt"];
        assert!(refusal(&flags, secrets()).contains("without `--etcd-key`"));
    }

    #[test]
    fn tags_say_whose_backup_it_is_and_leave_out_what_is_not_known() {
        let mut flags = PLAIN.to_vec();
        flags.extend(["--policy=daily", "--namespace=ns", "--location=l", "--cluster=uid"]);
        let settings = backup(&flags, secrets()).unwrap();
        assert_eq!(settings.tags, ["cluster=uid", "namespace=ns", "policy=daily", "location=l"]);
        assert_eq!(backup(&PLAIN, secrets()).unwrap().tags, Vec::<String>::new());
    }

    #[test]
    fn a_lock_is_in_the_name_of_the_pod_or_of_the_machine() {
        let holder = |flags: &[&str]| {
            let line = ["kubedr-backup-job", "backup"].iter().chain(flags);
            let Command::Backup(args) = Cli::try_parse_from(line).unwrap().command else { panic!() };
            lock_holder(&args.run)
        };
        let pod = ["--cluster=c1", "--namespace=ns", "--pod-uid=p1", "--pod-name=daily-1-x"];
        let expected = LockHolder { hostname: "daily-1-x".into(), username: "kubedr/c1/ns/p1".into() };
        assert_eq!(holder(&pod), expected);
        assert_eq!(
            holder(&pod[..2]),
            LockHolder { hostname: machine_name(), username: "kubedr-backup-job".into() }
        );
    }

    #[test]
    fn debug_output_holds_no_secret() {
        let text = format!("{:?}", backup(&PLAIN, secrets()).unwrap());
        assert!(!text.contains("hunter2") && !text.contains("correct-horse"), "{text}");
    }
}
