//! Client URLs as an admin gives them.

use crate::Error;
use std::fmt;
use std::str::FromStr;

/// One client URL of etcd: `http://` or `https://`, a host, and perhaps a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    url: String,
    security: Security,
}

/// Whether an endpoint is reached through TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Security {
    Tls,
    Plain,
}

/// One endpoint or several, in the order in which they were given; never none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints(Vec<Endpoint>);

impl Endpoints {
    /// The endpoints, the first one first.
    pub fn iter(&self) -> impl Iterator<Item = &Endpoint> {
        self.0.iter()
    }

    /// Whether any of them is reached through TLS, so that credentials are needed.
    #[must_use]
    pub fn need_tls(&self) -> bool {
        self.0.iter().any(|endpoint| endpoint.security == Security::Tls)
    }
}

impl Endpoint {
    /// The URL, without a slash at its end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.url
    }

    pub(crate) fn security(&self) -> Security {
        self.security
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

impl FromStr for Endpoints {
    type Err = Error;

    /// Reads `https://a:2379,https://b:2379` as etcdctl does; spaces around a URL and repetitions do no harm.
    fn from_str(text: &str) -> Result<Self, Error> {
        let mut endpoints = Vec::new();
        for part in text.split(',') {
            let endpoint = part.parse()?;
            if !endpoints.contains(&endpoint) {
                endpoints.push(endpoint);
            }
        }
        Ok(Self(endpoints))
    }
}

impl FromStr for Endpoint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let url = text.trim();
        let invalid = |reason| Error::InvalidEndpoint { endpoint: url.to_owned(), reason };
        if url.is_empty() {
            return Err(invalid("it is empty"));
        }
        let (security, authority) = match url.split_once("://") {
            Some(("https", rest)) => (Security::Tls, rest),
            Some(("http", rest)) => (Security::Plain, rest),
            Some(_) => return Err(invalid("its scheme is neither https nor http")),
            None => return Err(invalid("it has no scheme")),
        };
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        check_authority(authority).map_err(invalid)?;
        let scheme = if security == Security::Tls { "https" } else { "http" };
        Ok(Self { url: format!("{scheme}://{authority}"), security })
    }
}

fn check_authority(authority: &str) -> Result<(), &'static str> {
    if authority.contains(['/', '?', '#']) {
        return Err("it has a path");
    }
    if authority.contains('@') {
        return Err("it has a user");
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or("its address lacks the closing bracket")?;
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return Err("what stands in brackets is no IPv6 address");
            }
            (address, port)
        }
        None => match authority.find(':') {
            Some(colon) => authority.split_at(colon),
            None => (authority, ""),
        },
    };
    if host.is_empty() {
        return Err("it has no host");
    }
    if !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte)) {
        return Err("its host has characters that no host name has");
    }
    match port.strip_prefix(':').map(str::parse::<u16>) {
        None if port.is_empty() => Ok(()),
        Some(Ok(1..)) => Ok(()),
        _ => Err("its port is no number from 1 to 65535"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(text: &str) -> Vec<String> {
        text.parse::<Endpoints>().unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn several_endpoints_are_read_as_etcdctl_reads_them() {
        assert_eq!(urls("https://127.0.0.1:2379"), ["https://127.0.0.1:2379"]);
        assert_eq!(
            urls("https://a:2379, http://b.c:1/,https://[::1]:2379"),
            ["https://a:2379", "http://b.c:1", "https://[::1]:2379"]
        );
        assert_eq!(urls("https://a:1,https://a:1/"), ["https://a:1"]);
        assert_eq!(urls("https://etcd.example.com"), ["https://etcd.example.com"]);
    }

    #[test]
    fn what_is_no_endpoint_is_refused_by_its_name() {
        for (text, reason) in [
            ("", "it is empty"),
            ("https://a:1,", "it is empty"),
            ("127.0.0.1:2379", "it has no scheme"),
            ("unix://etcd.sock", "its scheme is neither"),
            ("https://", "it has no host"),
            ("https://:2379", "it has no host"),
            ("https://a:2379/v3", "it has a path"),
            ("https://u:p@a:2379", "it has a user"),
            ("https://a:0", "its port"),
            ("https://a:65536", "its port"),
            ("https://a:", "its port"),
            ("https://[::1", "closing bracket"),
            ("https://[a]:1", "no IPv6"),
            ("https://[::1]x", "its port"),
            ("https://a b:1", "characters"),
        ] {
            let error = text.parse::<Endpoints>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
            assert!(error.contains("write URLs such as"), "{error}");
        }
    }
}
