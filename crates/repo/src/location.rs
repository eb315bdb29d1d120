//! Where a repository lives, in restic's own notation.

use std::path::PathBuf;

use crate::{
    Error, Secret,
    backend::{MemoryStore, check_certificates},
};

/// A place that holds, or will hold, one repository.
#[derive(Debug, Clone)]
pub enum Location {
    /// A bucket, or a prefix in one, of an S3 server.
    S3(S3Location),
    /// A directory of this machine.
    Local(PathBuf),
    /// Nothing but memory: for tests.
    Memory(MemoryStore),
}

/// Everything that is needed to talk to one bucket.
#[derive(Debug, Clone)]
pub struct S3Location {
    /// Scheme, host and port: `https://s3.eu-west-1.amazonaws.com`.
    pub endpoint: String,
    /// The bucket; [`crate::Repository::init`] creates it if it does not exist.
    pub bucket: String,
    /// Path inside the bucket, without slashes at its ends; empty for the bucket's root.
    pub prefix: String,
    /// What the location's text does not say: region, credentials, certificate authority.
    pub options: S3Options,
}

/// How to reach an S3 server and who we are there.
#[derive(Debug, Clone)]
pub struct S3Options {
    /// Region used in signatures, and the one a new bucket is created in.
    pub region: String,
    /// Who we are.
    pub credentials: S3Credentials,
    /// Whose certificates are accepted.
    pub tls: TlsTrust,
    /// Where the bucket's name stands in a request.
    pub addressing: Addressing,
    /// Whether requests take a detour.
    pub proxy: Proxy,
}

/// Who we are for the S3 server.
#[derive(Debug, Clone)]
pub enum S3Credentials {
    /// Whoever these keys belong to.
    Keys {
        /// Access key ID.
        access_key: Secret,
        /// Secret access key.
        secret_key: Secret,
        /// Given out together with keys that expire.
        session_token: Option<Secret>,
    },
    /// The role that AWS, or what stands in for it, gives to whoever runs here. In this order: web identity (`AWS_ROLE_ARN`
    /// and `AWS_WEB_IDENTITY_TOKEN_FILE`, exchanged at STS), container credentials
    /// (`AWS_CONTAINER_CREDENTIALS_FULL_URI` or `…_RELATIVE_URI`), the instance profile (`IMDSv2`). They are renewed before
    /// they expire.
    ///
    /// Only here this crate reads the environment, with the names that all AWS clients know, `AWS_ENDPOINT_URL_STS` and
    /// `AWS_EC2_METADATA_SERVICE_ENDPOINT` among them; keys and profile files of the environment are left alone.
    Ambient,
}

/// Whose certificates are accepted.
#[derive(Debug, Clone, Default)]
pub enum TlsTrust {
    /// Those that the system's authorities have signed.
    #[default]
    System,
    /// Those too that these authorities have signed (PEM).
    Authorities(Vec<u8>),
    /// Everybody's, for whatever name and date: whoever sits on the way can read and change the requests. Of STS, where
    /// ambient credentials come from, the system's rules are asked all the same.
    Anyone,
}

impl TlsTrust {
    /// These authorities, or what is wrong with them.
    pub fn authorities(pem: Vec<u8>) -> Result<Self, String> {
        check_certificates(&pem)?;
        Ok(Self::Authorities(pem))
    }
}

/// Whether requests go to the server itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Proxy {
    /// They do.
    #[default]
    Direct,
    /// They go to the proxy that `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` of this process name, if any.
    FromEnvironment,
}

/// Where the bucket's name stands in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Addressing {
    /// `https://host/bucket/key`: what every server understands, also one addressed by IP.
    #[default]
    Path,
    /// `https://bucket.host/key`.
    VirtualHost,
}

impl S3Options {
    /// Options for these keys: region `us-east-1`, the system's certificate authorities, path-style addressing, no proxy.
    #[must_use]
    pub fn new(access_key: Secret, secret_key: Secret) -> Self {
        Self::with_credentials(S3Credentials::Keys { access_key, secret_key, session_token: None })
    }

    /// As [`S3Options::new`], for any credentials.
    #[must_use]
    pub fn with_credentials(credentials: S3Credentials) -> Self {
        Self {
            region: "us-east-1".to_owned(),
            credentials,
            tls: TlsTrust::System,
            addressing: Addressing::Path,
            proxy: Proxy::Direct,
        }
    }
}

impl Location {
    /// Reads `s3:http://host:port/bucket[/prefix]` or a local path, as restic's `--repo` takes them.
    ///
    /// `options` is required for an S3 location and ignored for a path. User and password in the URL are refused: the
    /// URL is printed in status and logs.
    pub fn parse(text: &str, options: Option<S3Options>) -> Result<Self, Error> {
        let refuse = |reason: &str| Error::InvalidLocation {
            location: without_userinfo(text),
            reason: reason.to_owned(),
        };
        if text.is_empty() {
            return Err(refuse("it is empty; expected `s3:http://host:port/bucket` or a directory"));
        }
        if let Some(rest) = text.strip_prefix("s3:") {
            let (endpoint, bucket, prefix) = split_s3(rest).map_err(refuse)?;
            let options = options
                .ok_or_else(|| refuse("an S3 location needs credentials: an access key and a secret key"))?;
            return Ok(Self::S3(S3Location { endpoint, bucket, prefix, options }));
        }
        if let Some(path) = text.strip_prefix("local:") {
            return Ok(Self::Local(PathBuf::from(path)));
        }
        if let Some((scheme, _)) = text.split_once(':')
            && !scheme.contains('/')
        {
            let reason = format!(
                "`{scheme}:` is not supported; use `s3:http://host:port/bucket` or a directory such as `/srv/backup`"
            );
            return Err(refuse(&reason));
        }
        Ok(Self::Local(PathBuf::from(text)))
    }

    /// The location in restic's notation. Holds no secret.
    #[must_use]
    pub fn url(&self) -> String {
        match self {
            Self::S3(s3) if s3.prefix.is_empty() => format!("s3:{}/{}", s3.endpoint, s3.bucket),
            Self::S3(s3) => format!("s3:{}/{}/{}", s3.endpoint, s3.bucket, s3.prefix),
            Self::Local(path) => path.display().to_string(),
            Self::Memory(_) => "memory:".to_owned(),
        }
    }
}

/// The region that the host of an S3 location names, as `s3.eu-west-1.amazonaws.com` does.
#[must_use]
pub fn region_of_host(url: &str) -> Option<&str> {
    let url = url.strip_prefix("s3:").unwrap_or(url);
    let host =
        url.split_once("://").map_or(url, |(_, rest)| rest).split(['/', ':']).next().unwrap_or_default();
    let (region, _) = host.strip_prefix("s3.")?.split_once(".amazonaws.com")?;
    Some(region.strip_prefix("dualstack.").unwrap_or(region))
}

/// Endpoint, bucket and prefix of what follows `s3:`.
fn split_s3(rest: &str) -> Result<(String, String, String), &'static str> {
    let (scheme, host_and_path) = match rest.split_once("://") {
        Some((scheme @ ("http" | "https"), tail)) => (scheme, tail),
        Some(_) => return Err("the endpoint must begin with `http://` or `https://`"),
        // As restic does: an endpoint without scheme is https.
        None => ("https", rest.trim_start_matches('/')),
    };
    let (host, path) = host_and_path.split_once('/').unwrap_or((host_and_path, ""));
    if host.is_empty() {
        return Err("the endpoint has no host; expected `s3:http://host:port/bucket`");
    }
    if host.contains('@') {
        return Err("the endpoint must not carry a user or password");
    }
    if path.contains(['?', '#']) || host.contains(['?', '#', ' ']) {
        return Err("the endpoint must be plain: scheme, host, port, bucket");
    }
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    let Some(bucket) = parts.next() else {
        return Err("it names no bucket; expected `s3:http://host:port/bucket`");
    };
    let prefix: Vec<&str> = parts.collect();
    if prefix.iter().any(|part| matches!(*part, "." | "..")) {
        return Err("the path in the bucket must not contain `.` or `..`");
    }
    Ok((format!("{scheme}://{host}"), bucket.to_owned(), prefix.join("/")))
}

/// `text` with what stands before an `@` of its host replaced, so that an error can quote it.
fn without_userinfo(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((before, host)) => {
            let scheme = before.find("://").map_or("", |at| &before[..at + 3]);
            format!("{scheme}…@{host}")
        }
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> S3Options {
        S3Options::new("key".into(), "secret".into())
    }

    #[test]
    fn the_region_is_found_in_each_form_of_the_host_that_aws_has() {
        let of = |host: &str| region_of_host(&format!("{host}/bucket")).map(str::to_owned);
        for host in [
            "https://s3.eu-west-1.amazonaws.com",
            "s3:s3.eu-west-1.amazonaws.com",
            "s3.dualstack.eu-west-1.amazonaws.com:443",
        ] {
            assert_eq!(of(host).as_deref(), Some("eu-west-1"), "{host}");
        }
        assert_eq!(of("s3:https://minio.example.com:9000"), None);
    }

    fn s3(text: &str) -> S3Location {
        match Location::parse(text, Some(options())).unwrap() {
            Location::S3(location) => location,
            other => unreachable!("{other:?}"),
        }
    }

    #[test]
    fn an_s3_location_is_split_into_endpoint_bucket_and_prefix() {
        let location = s3("s3:http://10.96.57.3:9000/bucket/a/b/");
        assert_eq!(location.endpoint, "http://10.96.57.3:9000");
        assert_eq!(location.bucket, "bucket");
        assert_eq!(location.prefix, "a/b");
    }

    #[test]
    fn a_url_with_a_trailing_slash_joined_to_a_bucket_is_understood() {
        assert_eq!(s3("s3:http://h:1//bucket").bucket, "bucket");
    }

    #[test]
    fn an_endpoint_without_scheme_is_https_as_for_restic() {
        assert_eq!(s3("s3:s3.amazonaws.com/bucket").endpoint, "https://s3.amazonaws.com");
    }

    #[test]
    fn url_gives_the_notation_back() {
        for text in ["s3:http://h:9000/b", "s3:https://h/b/p/q", "/srv/backup"] {
            assert_eq!(Location::parse(text, Some(options())).unwrap().url(), text);
        }
    }

    #[test]
    fn what_cannot_work_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "empty"),
            ("s3:http://host", "names no bucket"),
            ("s3:http:///bucket", "no host"),
            ("s3:ftp://host/bucket", "http://"),
            ("sftp:host:/path", "not supported"),
            ("rest:http://host/", "not supported"),
            ("s3:http://user:hunter2@host/bucket", "user or password"),
            ("s3:http://host/bucket/a/../b", "`..`"),
        ] {
            let message = Location::parse(text, Some(options())).unwrap_err().to_string();
            assert!(message.contains(reason), "{text}: {message}");
            assert!(!message.contains("hunter2"), "{message}");
        }
    }

    #[test]
    fn an_s3_location_without_keys_is_refused() {
        let message = Location::parse("s3:http://h/b", None).unwrap_err().to_string();
        assert!(message.contains("access key"), "{message}");
    }

    #[test]
    fn debug_output_holds_no_key() {
        let credentials = S3Credentials::Keys {
            access_key: "AKIA1".into(),
            secret_key: "hunter2".into(),
            session_token: Some("IQoJ".into()),
        };
        let location = Location::parse("s3:http://h/b", Some(S3Options::with_credentials(credentials)));
        let text = format!("{location:?}");
        assert!(!["AKIA1", "hunter2", "IQoJ"].iter().any(|secret| text.contains(secret)), "{text}");
    }
}
