//! The stream of a snapshot as a file that is read.

use crate::endpoints::Endpoint;
use crate::explain::explain;
use crate::snapshot::IDLE_TIMEOUT;
use bytes::{Buf, Bytes};
use etcd_client::{Client, SnapshotStreaming};
use sha2::{Digest, Sha256};
use std::io::{self, ErrorKind};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Length of the hash that etcd puts after the database.
pub(crate) const HASH_LEN: usize = 32;

/// Messages between network and reader, of 32 KiB each: enough to keep both busy, and next to nothing in memory.
const BUFFERED_MESSAGES: usize = 16;

/// Reads the snapshot file: the database, then the SHA-256 over it, without which `etcdutl` restores nothing.
///
/// The hash is passed on only if it is the right one; a stream that ends early, goes on too long, is silent for 30 s or has
/// another hash gives an error, and never an end of file. To be read outside the asynchronous runtime's own threads.
#[derive(Debug)]
pub struct SnapshotReader {
    messages: mpsc::Receiver<io::Result<Bytes>>,
    /// What is ready to be read.
    ready: Bytes,
    /// Bytes of the database that have not arrived yet.
    left: u64,
    hash: Sha256,
    state: State,
    receiver: JoinHandle<()>,
}

#[derive(Debug)]
enum State {
    /// The database, then the hash that etcd sends, of which this has arrived.
    Receiving { sent_hash: Vec<u8> },
    /// The hash was right; what is ready is all there is.
    Verified,
    /// Every further read fails too, so that nobody takes what is there for the whole.
    Failed(ErrorKind, String),
}

impl SnapshotReader {
    pub(crate) fn start(
        endpoint: &Endpoint,
        client: Client,
        stream: SnapshotStreaming,
        first: &[u8],
        database: u64,
    ) -> Self {
        let (sender, messages) = mpsc::channel(BUFFERED_MESSAGES);
        let first = Bytes::copy_from_slice(first);
        let receiver = tokio::spawn(receive(endpoint.clone(), client, stream, first, sender));
        Self::new(messages, database, receiver)
    }

    fn new(messages: mpsc::Receiver<io::Result<Bytes>>, database: u64, receiver: JoinHandle<()>) -> Self {
        Self {
            messages,
            ready: Bytes::new(),
            left: database,
            hash: Sha256::new(),
            state: State::Receiving { sent_hash: Vec::with_capacity(HASH_LEN) },
            receiver,
        }
    }

    /// Waits for the next message, and takes it for database or hash; says so when there is no more.
    fn advance(&mut self) -> io::Result<()> {
        let State::Receiving { sent_hash } = &mut self.state else { return Ok(()) };
        let Some(mut message) = self.messages.blocking_recv().transpose()? else {
            return self.verify();
        };
        let of_database = usize::try_from(self.left).unwrap_or(usize::MAX).min(message.len());
        self.ready = message.split_to(of_database);
        self.left -= of_database as u64;
        self.hash.update(&self.ready);
        sent_hash.extend_from_slice(&message);
        if sent_hash.len() > HASH_LEN {
            return Err(invalid("etcd sent more than it announced"));
        }
        Ok(())
    }

    fn verify(&mut self) -> io::Result<()> {
        let State::Receiving { sent_hash } = &self.state else { return Ok(()) };
        if self.left > 0 {
            let message = format!("the etcd snapshot ended {} bytes early", self.left);
            return Err(io::Error::new(ErrorKind::UnexpectedEof, message));
        }
        if sent_hash.len() != HASH_LEN {
            return Err(invalid("the etcd snapshot ended without its hash"));
        }
        let computed = std::mem::take(&mut self.hash).finalize();
        if sent_hash.as_slice() != computed.as_slice() {
            let message = format!(
                "the etcd snapshot was damaged on its way: its hash is {}, etcd sent {}; try again",
                hex::encode(computed),
                hex::encode(sent_hash)
            );
            return Err(invalid(&message));
        }
        self.ready = Bytes::copy_from_slice(sent_hash);
        self.state = State::Verified;
        Ok(())
    }
}

impl io::Read for SnapshotReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.ready.is_empty() && !buffer.is_empty() {
            match &self.state {
                State::Verified => return Ok(0),
                State::Failed(kind, message) => return Err(io::Error::new(*kind, message.clone())),
                State::Receiving { .. } => {
                    if let Err(error) = self.advance() {
                        self.state = State::Failed(error.kind(), error.to_string());
                    }
                }
            }
        }
        let count = buffer.len().min(self.ready.len());
        self.ready.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

impl Drop for SnapshotReader {
    fn drop(&mut self) {
        self.receiver.abort();
    }
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, message)
}

/// Passes messages on until the stream ends, fails, or is silent for too long. A slow reader is no silence.
async fn receive(
    endpoint: Endpoint,
    // The connection lives as long as its client.
    _client: Client,
    mut stream: SnapshotStreaming,
    first: Bytes,
    sender: mpsc::Sender<io::Result<Bytes>>,
) {
    let mut next = Some(Ok(first));
    while let Some(message) = next {
        let failed = message.is_err();
        if sender.send(message).await.is_err() || failed {
            return;
        }
        next = receive_one(&endpoint, &mut stream, IDLE_TIMEOUT).await;
    }
}

async fn receive_one(
    endpoint: &Endpoint,
    stream: &mut SnapshotStreaming,
    idle: Duration,
) -> Option<io::Result<Bytes>> {
    match timeout(idle, stream.message()).await {
        Ok(Ok(None)) => None,
        Ok(Ok(Some(message))) => Some(Ok(Bytes::copy_from_slice(message.blob()))),
        Ok(Err(error)) => {
            let reason = explain(endpoint, &error);
            Some(Err(io::Error::other(format!(
                "the snapshot stream of etcd at `{endpoint}` broke: {reason}"
            ))))
        }
        Err(_) => {
            let message = format!(
                "etcd at `{endpoint}` sent nothing for {} s in the middle of a snapshot",
                idle.as_secs()
            );
            Some(Err(io::Error::new(ErrorKind::TimedOut, message)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    /// What is read of a stream of these messages that announced a database of this size.
    fn read(database: u64, messages: &[&[u8]]) -> io::Result<Vec<u8>> {
        let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
        let (sender, receiver) = mpsc::channel(64);
        for message in messages {
            sender.try_send(Ok(Bytes::copy_from_slice(message))).unwrap();
        }
        drop(sender);
        let mut reader = SnapshotReader::new(receiver, database, runtime.spawn(async {}));
        let mut file = Vec::new();
        let result = reader.read_to_end(&mut file);
        if result.is_err() {
            assert!(reader.read(&mut [0; 9]).is_err(), "a failed reader must not end later");
        }
        result.map(|_| file)
    }

    fn hash(database: &[u8]) -> Vec<u8> {
        Sha256::digest(database).to_vec()
    }

    #[test]
    fn a_complete_snapshot_is_read_with_its_hash() {
        let file = [b"abcdef".as_slice(), &hash(b"abcdef")].concat();
        assert_eq!(read(6, &[b"abc", b"def", &hash(b"abcdef")]).unwrap(), file);
        assert_eq!(read(6, &[&file]).unwrap(), file);
        assert_eq!(read(6, &[b"abcd", &file[4..10], &file[10..]]).unwrap(), file);
    }

    #[test]
    fn a_snapshot_that_ends_early_is_an_error() {
        let error = read(6, &[b"abc"]).unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string().contains("3 bytes early")),
            (ErrorKind::UnexpectedEof, true)
        );
        assert!(read(6, &[b"abcdef"]).unwrap_err().to_string().contains("without its hash"));
        assert!(read(6, &[b"abcdef", &hash(b"abcdef")[..31]]).is_err());
    }

    #[test]
    fn a_snapshot_with_another_hash_is_an_error() {
        let error = read(6, &[b"abcdef", &hash(b"abcdeX")]).unwrap_err();
        assert!(error.to_string().contains("damaged on its way"), "{error}");
    }

    #[test]
    fn a_snapshot_longer_than_announced_is_an_error() {
        assert!(read(6, &[b"abcdef", &hash(b"abcdef"), b"x"]).unwrap_err().to_string().contains("more than"));
    }
}
