//! A client error with its whole chain of causes and what to do about it, in one line.

use crate::endpoints::{Endpoint, Security};
use etcd_client::Error as ClientError;
use std::error::Error as StdError;

/// Texts of transports that say nothing, because the cause below them does.
const EMPTY_WORDS: [&str; 4] =
    ["transport error", "error trying to connect", "client error (Connect)", "tcp connect error"];

/// The wrong `ca.crt` shows in two ways: as an issuer of another name, or as one of the same name with another key, since
/// kubeadm names the authority of every cluster alike.
const UNKNOWN_AUTHORITY: &str = "unknown certificate authority: the one given did not sign the server's certificate; give the one that did, on kubeadm clusters `/etc/kubernetes/pki/etcd/ca.crt`";

const FOREIGN_CLIENT: &str = "etcd does not accept our client certificate; give one that is signed by etcd's `--trusted-ca-file`, is valid now, and may be used for client authentication";

/// Ways to hear that the other side has closed the connection. What it said last, such as why it refuses our certificate,
/// may be lost with it.
const HANG_UPS: [&str; 5] =
    ["operation was canceled", "connection closed", "broken pipe", "connection reset", "close_notify"];

/// What a text anywhere in the chain means to an admin. The first one that occurs counts.
const MEANINGS: [(&str, &str); 16] = [
    ("UnknownIssuer", UNKNOWN_AUTHORITY),
    ("BadSignature", UNKNOWN_AUTHORITY),
    (
        "not valid for name",
        "the server's certificate does not name this host; use an address that it names, or add this one to it",
    ),
    (
        "certificate expired",
        "the server's certificate has expired, or this machine's clock is wrong; renew the certificate",
    ),
    ("certificate not valid yet", "the clocks of the server and of this machine differ; set them right"),
    ("CertificateRequired", "etcd wants a client certificate; give the files of one with its key"),
    ("UnknownCA", FOREIGN_CLIENT),
    ("BadCertificate", FOREIGN_CLIENT),
    ("CertificateExpired", "etcd says that our client certificate has expired; renew it"),
    ("InvalidContentType", "the server does not speak TLS; does the endpoint have to begin with `http://`?"),
    ("H2NotNegotiated", "the server does not speak HTTP/2; is it etcd's client port?"),
    ("TLS handshake timeout", "the server hangs or is overloaded"),
    ("Connection refused", "nothing listens there; check the address and that etcd runs"),
    ("No route to host", "check the address, and firewalls on the way"),
    ("failed to lookup address", "the host name is unknown here; check it"),
    (
        "permission denied",
        "the user of the client certificate lacks the role `root`, which snapshots need when etcd's authentication is on",
    ),
];

/// The chain of causes and what to do.
pub(crate) fn explain(endpoint: &Endpoint, error: &ClientError) -> String {
    with_meaning(endpoint.security(), &chain(error))
}

/// Whether the server hung up without a reason that could be heard; asking again often brings it to light.
pub(crate) fn is_hang_up(endpoint: &Endpoint, error: &ClientError) -> bool {
    let chain = chain(error);
    endpoint.security() == Security::Tls
        && meaning(&chain).is_none()
        && HANG_UPS.iter().any(|mark| chain.contains(mark))
}

fn meaning(chain: &str) -> Option<&'static str> {
    MEANINGS.iter().find(|(mark, _)| chain.contains(mark)).map(|(_, meaning)| *meaning)
}

fn chain(error: &ClientError) -> String {
    match error {
        // The client's own texts are debug output of the whole status; this takes it apart.
        ClientError::GRpcStatus(status) => {
            join(std::iter::once(status.message().to_owned()).chain(causes(status.source())))
        }
        ClientError::TransportError(error) => {
            join(std::iter::once(error.to_string()).chain(causes(error.source())))
        }
        other => join(std::iter::once(other.to_string())),
    }
}

fn causes(first: Option<&(dyn StdError + 'static)>) -> Vec<String> {
    let mut all = Vec::new();
    let mut next = first;
    while let Some(error) = next {
        all.push(error.to_string());
        next = error.source();
    }
    all
}

/// The parts, each one that adds something to the others, on one line.
fn join(parts: impl Iterator<Item = String>) -> String {
    let mut all: Vec<String> = Vec::new();
    for part in parts {
        let part = part.split_whitespace().collect::<Vec<_>>().join(" ");
        if part.is_empty()
            || EMPTY_WORDS.contains(&part.as_str())
            || all.iter().any(|old| old.contains(&part))
        {
            continue;
        }
        all.retain(|old| !part.contains(old.as_str()));
        all.push(part);
    }
    if all.is_empty() { "the connection failed without a reason".to_owned() } else { all.join(": ") }
}

fn with_meaning(security: Security, chain: &str) -> String {
    let chain = chain.trim_end_matches('.');
    match (meaning(chain), security) {
        (Some(meaning), _) => format!("{chain} ({meaning})"),
        // A server with TLS hangs up on whoever does not speak it.
        (None, Security::Plain) => format!("{chain} (does the endpoint have to begin with `https://`?)"),
        (None, Security::Tls) => chain.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_that_repeat_each_other_are_said_once() {
        let parts = ["transport error", "a: b", "b", "", "c\n  d"].map(str::to_owned);
        assert_eq!(join(parts.into_iter()), "a: b: c d");
    }

    #[test]
    fn a_known_cause_comes_with_what_to_do() {
        let text = with_meaning(Security::Tls, "invalid peer certificate: UnknownIssuer.");
        assert!(text.starts_with("invalid peer certificate: UnknownIssuer (unknown certificate authority: "));
        assert_eq!(with_meaning(Security::Tls, "something new"), "something new");
        assert!(with_meaning(Security::Plain, "broken pipe").contains("`https://`"));
    }

    #[test]
    fn the_marks_are_in_what_rustls_says() {
        use rustls::pki_types::{ServerName, UnixTime};
        use rustls::{AlertDescription, CertificateError};
        let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1));
        let certificate = |error| rustls::Error::InvalidCertificate(error);
        let name = ServerName::try_from("etcd").unwrap();
        let said = [
            certificate(CertificateError::UnknownIssuer),
            certificate(CertificateError::BadSignature),
            certificate(CertificateError::NotValidForNameContext { expected: name, presented: Vec::new() }),
            certificate(CertificateError::ExpiredContext { time, not_after: time }),
            certificate(CertificateError::NotValidYetContext { time, not_before: time }),
            rustls::Error::AlertReceived(AlertDescription::CertificateRequired),
            rustls::Error::AlertReceived(AlertDescription::UnknownCA),
            rustls::Error::AlertReceived(AlertDescription::BadCertificate),
            rustls::Error::AlertReceived(AlertDescription::CertificateExpired),
        ];
        for error in said.map(|error| error.to_string()) {
            assert!(with_meaning(Security::Tls, &error).len() > error.len(), "{error}");
        }
    }
}
