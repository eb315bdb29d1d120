//! A snapshot as it comes from etcd.

use crate::credentials::Credentials;
use crate::endpoints::{Endpoint, Endpoints};
use crate::error::{Error, Failure};
use crate::explain::explain;
use crate::member::{Member, ask, connect_options};
use crate::reader::{HASH_LEN, SnapshotReader};
use crate::select::{choose, different_clusters, unfit};
use etcd_client::{SnapshotResponse, SnapshotStreaming};
use futures::future::join_all;
use std::time::Duration;
use tokio::time::timeout;

/// Longest silence of a member that sends, or is about to send, a snapshot.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// A snapshot that has begun to arrive.
#[derive(Debug)]
pub struct Snapshot {
    /// The member it comes from.
    pub endpoint: Endpoint,
    /// Exact size of the file in bytes: the database, and the SHA-256 that etcd puts after it.
    pub size: u64,
    /// Version of etcd, such as `3.6.8`.
    pub etcd_version: String,
    /// The snapshot's revision is this one or a later one; the stream itself does not say it.
    pub revision_at_least: i64,
    /// The file.
    pub reader: SnapshotReader,
}

impl Snapshot {
    /// Asks every endpoint for its status, chooses a member, and opens the stream; the next member is tried if that fails.
    ///
    /// Once this has returned the choice is final: a stream that breaks makes the reader fail.
    pub async fn open(endpoints: &Endpoints, credentials: Option<&Credentials>) -> Result<Self, Error> {
        let mut asked = Vec::new();
        for endpoint in endpoints.iter() {
            asked.push(ask(endpoint.clone(), connect_options(endpoint, credentials)?));
        }
        let mut failures = Vec::new();
        let mut members = Vec::new();
        for answer in join_all(asked).await {
            match answer {
                Ok(member) => members.push(member),
                Err((endpoint, reason)) => fail(&mut failures, &endpoint, reason),
            }
        }
        for member in in_order(members, &mut failures)? {
            let endpoint = member.endpoint.clone();
            match begin(member).await {
                Ok(snapshot) => return Ok(snapshot),
                Err(reason) => fail(&mut failures, &endpoint, reason),
            }
        }
        Err(Error::NoMember { failures })
    }
}

/// The members that may be asked, the best one first; the others join the failures.
fn in_order(members: Vec<Member>, failures: &mut Vec<Failure>) -> Result<Vec<Member>, Error> {
    let status: Vec<_> = members.iter().map(|member| member.status.clone()).collect();
    if let Some((one, other)) = different_clusters(&status) {
        let name = |index: usize| members[index].endpoint.to_string();
        return Err(Error::DifferentClusters { one: name(one), other: name(other) });
    }
    for member in &members {
        if let Some(reason) = unfit(&member.status) {
            fail(failures, &member.endpoint, reason.to_string());
        }
    }
    let mut members: Vec<_> = members.into_iter().map(Some).collect();
    Ok(choose(&status).into_iter().filter_map(|index| members[index].take()).collect())
}

fn fail(failures: &mut Vec<Failure>, endpoint: &Endpoint, reason: String) {
    tracing::warn!(%endpoint, reason, "an etcd endpoint gives no snapshot");
    failures.push(Failure { endpoint: endpoint.to_string(), reason });
}

async fn begin(member: Member) -> Result<Snapshot, String> {
    let Member { endpoint, client, status: _, version, revision } = member;
    let first = async {
        let mut stream = client.maintenance_client().snapshot().await?;
        let message = stream.message().await?;
        Ok((stream, message))
    };
    let (stream, message): (SnapshotStreaming, Option<SnapshotResponse>) =
        match timeout(IDLE_TIMEOUT, first).await {
            Ok(Ok(begun)) => begun,
            Ok(Err(error)) => return Err(explain(&endpoint, &error)),
            Err(_) => return Err(format!("no snapshot data within {} s", IDLE_TIMEOUT.as_secs())),
        };
    let message = message.ok_or("etcd sent an empty snapshot")?;
    let database = message.remaining_bytes() + message.blob().len() as u64;
    tracing::info!(%endpoint, database, etcd_version = version, revision, "snapshot begins");
    let reader = SnapshotReader::start(&endpoint, client, stream, message.blob(), database);
    Ok(Snapshot {
        endpoint,
        size: database + HASH_LEN as u64,
        etcd_version: version,
        revision_at_least: revision,
        reader,
    })
}
