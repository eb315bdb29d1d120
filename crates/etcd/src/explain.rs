//! A client error with its whole chain of causes and what to do about it, in one line.

use etcd_client::Error as ClientError;
use std::error::Error as StdError;
use std::fmt::Write;

/// Texts of transports that say nothing, because the cause below them does.
const EMPTY_WORDS: [&str; 4] =
    ["transport error", "error trying to connect", "client error (Connect)", "tcp connect error"];

/// What a text anywhere in the chain means to an admin. The first one that occurs counts.
const MEANINGS: [(&str, &str); 15] = [
    (
        "UnknownIssuer",
        "unknown certificate authority: the one given did not sign the server's certificate; give the one that did, on kubeadm clusters `/etc/kubernetes/pki/etcd/ca.crt`",
    ),
    (
        "NotValidForName",
        "the server's certificate does not name this host; use an address that it names, or add this one to it",
    ),
    (
        "certificate expired",
        "the server's certificate has expired, or this machine's clock is wrong; renew the certificate",
    ),
    (
        "certificate not valid yet",
        "the server's certificate is not valid yet, or this machine's clock is wrong",
    ),
    ("CertificateRequired", "etcd wants a client certificate; give the files of one with its key"),
    (
        "UnknownCA",
        "etcd does not know the authority of our client certificate; give one that was signed by etcd's `--trusted-ca-file`",
    ),
    (
        "BadCertificate",
        "etcd refuses our client certificate; give one that was signed by etcd's `--trusted-ca-file`, is valid now, and may be used for client authentication",
    ),
    ("CertificateExpired", "etcd says that our client certificate has expired; renew it"),
    ("InvalidContentType", "the server does not speak TLS; does the endpoint have to begin with `http://`?"),
    ("H2NotNegotiated", "the server does not speak HTTP/2; is it etcd's client port?"),
    ("Connection refused", "nothing listens there; check the address and that etcd runs"),
    ("No route to host", "check the address, and firewalls on the way"),
    ("failed to lookup address", "the host name is unknown here; check it"),
    (
        "permission denied",
        "the user of the client certificate lacks the role `root`, which snapshots need when etcd's authentication is on",
    ),
    (
        "FRAME_SIZE_ERROR",
        "the server does not speak plain HTTP/2; does the endpoint have to begin with `https://`?",
    ),
];

/// The chain of causes and what to do.
pub(crate) fn explain(error: &ClientError) -> String {
    with_meaning(&chain(error))
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

fn with_meaning(chain: &str) -> String {
    let mut text = chain.to_owned();
    if let Some((_, meaning)) = MEANINGS.iter().find(|(mark, _)| chain.contains(mark)) {
        let _ = write!(text, " ({meaning})");
    }
    text
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
        let text = with_meaning("invalid peer certificate: UnknownIssuer");
        assert!(text.starts_with("invalid peer certificate: UnknownIssuer (unknown certificate authority: "));
        assert_eq!(with_meaning("something new"), "something new");
    }
}
