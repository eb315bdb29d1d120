//! What callers can be told.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why there is no snapshot.
///
/// Every text is one line and complete: what failed, the whole chain of causes, and what to do. None has a `source` below it,
/// so that nothing is printed twice.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An endpoint is no client URL of etcd.
    #[error(
        "invalid etcd endpoint `{endpoint}`: {reason}; write URLs such as `https://10.0.0.1:2379`, separated by commas"
    )]
    InvalidEndpoint {
        /// The endpoint as it was given.
        endpoint: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A certificate or key cannot be read from its file.
    #[error("cannot read the {what} for etcd from `{}`: {cause}", path.display())]
    UnreadableFile {
        /// Which of the three it is.
        what: Material,
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        cause: io::Error,
    },
    /// A file does not hold what it should.
    #[error("`{}` holds no usable {what} for etcd: {reason}", path.display())]
    InvalidMaterial {
        /// Which of the three it is.
        what: Material,
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// An endpoint is `https://`, and there is nothing to check the server with.
    #[error(
        "etcd endpoint `{endpoint}` uses TLS: give the file of its certificate authority, and etcd's client certificate and key"
    )]
    CredentialsMissing {
        /// The endpoint.
        endpoint: String,
    },
    /// The endpoints belong to more than one cluster, and which of them to back up is anybody's guess.
    #[error(
        "the etcd endpoints belong to different clusters: `{one}` and `{other}`; give those of one cluster"
    )]
    DifferentClusters {
        /// An endpoint.
        one: String,
        /// An endpoint of another cluster.
        other: String,
    },
    /// No endpoint gave a snapshot.
    #[error("{}", no_member(failures))]
    NoMember {
        /// Each endpoint with the reason, in the order in which they were tried.
        failures: Vec<Failure>,
    },
}

/// Why one endpoint gave no snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The endpoint.
    pub endpoint: String,
    /// The chain of causes, and what to do.
    pub reason: String,
}

/// A file that TLS needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Material {
    /// `ca.crt`.
    Authority,
    /// `client.crt`.
    Certificate,
    /// `client.key`.
    Key,
}

impl Error {
    /// Whether somebody has to change the configuration before a further try makes sense.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::InvalidEndpoint { .. }
            | Self::UnreadableFile { .. }
            | Self::InvalidMaterial { .. }
            | Self::CredentialsMissing { .. }
            | Self::DifferentClusters { .. } => true,
            Self::NoMember { .. } => false,
        }
    }
}

impl fmt::Display for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Authority => "certificate authority",
            Self::Certificate => "client certificate",
            Self::Key => "client key",
        })
    }
}

fn no_member(failures: &[Failure]) -> String {
    if let [Failure { endpoint, reason }] = failures {
        return format!("etcd at `{endpoint}` gives no snapshot: {reason}");
    }
    let each = failures.iter().map(|Failure { endpoint, reason }| format!("`{endpoint}`: {reason}"));
    let each = each.collect::<Vec<_>>().join("; ");
    format!("none of the {} etcd endpoints gives a snapshot: {each}", failures.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(endpoint: &str) -> Failure {
        Failure { endpoint: endpoint.into(), reason: "connection refused".into() }
    }

    #[test]
    fn every_endpoint_is_named_with_its_own_reason() {
        let one = Error::NoMember { failures: vec![failure("https://a:1")] };
        assert_eq!(one.to_string(), "etcd at `https://a:1` gives no snapshot: connection refused");
        let two = Error::NoMember { failures: vec![failure("https://a:1"), failure("https://b:1")] };
        assert_eq!(
            two.to_string(),
            "none of the 2 etcd endpoints gives a snapshot: `https://a:1`: connection refused; `https://b:1`: connection refused"
        );
    }
}
