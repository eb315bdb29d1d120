//! Flags of where the repository is, and how it is reached.

use std::path::PathBuf;

use clap::{ArgAction, Args};
use kubedr_api::task::env as name;

/// Where the repository is.
#[derive(Args, Debug)]
pub struct StorageArgs {
    /// Repository in restic's notation: `s3:http://host:port/bucket`, or a directory.
    #[arg(long, short, env = name::REPOSITORY)]
    pub repository: Option<String>,
    /// File with the repository's password. `RESTIC_PASSWORD` is the password itself.
    #[arg(long, env = "RESTIC_PASSWORD_FILE")]
    pub password_file: Option<PathBuf>,
    /// Region of the S3 service. Default: the one that the host names (`s3.eu-west-1.amazonaws.com`), else `us-east-1`.
    #[arg(long, env = name::REGION)]
    pub region: Option<String>,
    /// File with certificates (PEM) that are trusted for the S3 service beside the system's.
    #[arg(long, env = name::CA_CERT)]
    pub cacert: Option<PathBuf>,
    /// Write nothing to the repository, not even a lock.
    #[arg(long, env = name::READ_ONLY, value_name = "BOOL", default_value_t, action = ArgAction::Set,
        num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub read_only: bool,
    /// Object and key behind that file, for messages.
    #[arg(long, env = name::CA_CERT_SOURCE, hide = true)]
    pub cacert_source: Option<String>,
    /// Do not check the certificate of the S3 service: whoever sits on the way can read and change the requests. `--cacert` is
    /// then not looked at.
    #[arg(long, env = name::INSECURE_TLS, value_name = "BOOL", default_value_t, action = ArgAction::Set,
        num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub insecure_tls: bool,
    /// `true`: the bucket stands in the path, `https://host/bucket`, which every S3 service understands; `false`: in the
    /// name of the host, `https://bucket.host`.
    #[arg(long, env = name::FORCE_PATH_STYLE, value_name = "BOOL", default_value = "true", action = ArgAction::Set)]
    pub force_path_style: bool,
    /// Secret behind keys and password, for messages.
    #[arg(long, env = name::CREDENTIALS, hide = true)]
    pub credentials: Option<String>,
}
