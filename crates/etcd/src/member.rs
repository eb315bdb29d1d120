//! One client per endpoint: etcd-client spreads requests over the endpoints of one client and does not go on to the next
//! one when a member is dead.

use crate::credentials::Credentials;
use crate::endpoints::{Endpoint, Security};
use crate::error::Error;
use crate::explain::{explain, is_hang_up};
use crate::select::{Learner, MemberStatus};
use etcd_client::{Client, ConnectOptions, StatusResponse};
use std::time::Duration;
use tokio::time::timeout;

/// TCP connection and TLS handshake, each.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The whole of asking for the status: a member that takes longer is no good source of a snapshot.
const STATUS_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two signs of life on a connection, and how long to wait for the answer.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(10));

/// Connections to a server that hangs up without a reason that can be heard.
const ATTEMPTS: u32 = 5;
/// Added to the reason of a server that hung up all the time.
const HUNG_UP: &str =
    " (the server hung up, as etcd does when it does not accept our client certificate, or gets none)";

/// A member that answered.
pub(crate) struct Member {
    pub endpoint: Endpoint,
    pub client: Client,
    pub status: MemberStatus,
    /// Version of etcd.
    pub version: String,
    /// Revision of its data when it answered.
    pub revision: i64,
}

/// The options for one endpoint. Certificates are not for `http://`, as in etcdctl.
pub(crate) fn connect_options(
    endpoint: &Endpoint,
    credentials: Option<&Credentials>,
) -> Result<ConnectOptions, Error> {
    let options = ConnectOptions::new()
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_keep_alive(KEEP_ALIVE.0, KEEP_ALIVE.1);
    match (endpoint.security(), credentials) {
        (Security::Plain, _) => Ok(options),
        (Security::Tls, Some(credentials)) => Ok(options.with_tls(credentials.tls_options(CONNECT_TIMEOUT))),
        (Security::Tls, None) => Err(Error::CredentialsMissing { endpoint: endpoint.to_string() }),
    }
}

/// Connects to one endpoint and asks for the member's status; the reason in words if there is none.
pub(crate) async fn ask(endpoint: Endpoint, options: ConnectOptions) -> Result<Member, (Endpoint, String)> {
    match timeout(STATUS_TIMEOUT, connect(&endpoint, options)).await {
        Ok(Ok((client, status))) => Ok(member(endpoint, client, &status)),
        Ok(Err(error)) => {
            let mut reason = explain(&endpoint, &error);
            if is_hang_up(&endpoint, &error) {
                reason += HUNG_UP;
            }
            Err((endpoint, reason))
        }
        Err(_) => {
            let reason = format!(
                "no answer within {} s (the server is overloaded or hangs, or something on the way drops packets)",
                STATUS_TIMEOUT.as_secs()
            );
            Err((endpoint, reason))
        }
    }
}

/// A server that hangs up is asked some more times, for the reason that was lost.
async fn connect(
    endpoint: &Endpoint,
    options: ConnectOptions,
) -> Result<(Client, StatusResponse), etcd_client::Error> {
    let mut attempt = 1;
    loop {
        match connect_once(endpoint, options.clone()).await {
            Err(error) if attempt < ATTEMPTS && is_hang_up(endpoint, &error) => attempt += 1,
            result => return result,
        }
    }
}

async fn connect_once(
    endpoint: &Endpoint,
    options: ConnectOptions,
) -> Result<(Client, StatusResponse), etcd_client::Error> {
    let mut client = Client::connect([endpoint.as_str()], Some(options)).await?;
    let status = client.status().await?;
    Ok((client, status))
}

fn member(endpoint: Endpoint, client: Client, status: &StatusResponse) -> Member {
    let header = status.header();
    Member {
        endpoint,
        client,
        status: MemberStatus {
            member_id: header.map(etcd_client::ResponseHeader::member_id).unwrap_or_default(),
            cluster_id: header.map(etcd_client::ResponseHeader::cluster_id).unwrap_or_default(),
            leader: status.leader(),
            learner: if status.is_learner() { Learner::Yes } else { Learner::No },
            applied: status.raft_applied_index(),
            errors: status.errors().to_vec(),
        },
        version: status.version().to_owned(),
        revision: header.map(etcd_client::ResponseHeader::revision).unwrap_or_default(),
    }
}
