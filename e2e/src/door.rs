//! A door before the cluster's S3 server, which lets requests of a test's choice wait: so a job can be met in the very middle of
//! what it does.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::{Cluster, until};

/// How often a request that waits looks whether it may go on.
const PAUSE: Duration = Duration::from_millis(20);

/// A second address of the cluster's S3 server. What goes through it is unchanged, signatures and all; stock restic, which takes the
/// first address, is not held up.
#[derive(Debug)]
pub struct Door {
    address: String,
    watch: Arc<Mutex<Watch>>,
}

/// What the door does.
#[derive(Debug, Default)]
struct Watch {
    /// Method and part of the path of the requests that wait.
    held: Option<(String, String)>,
    /// The requests that have waited since, or still do.
    caught: Vec<String>,
}

impl Door {
    /// A door that is open.
    pub fn open() -> Result<Self> {
        let cluster = Cluster::get();
        let server = cluster.var("S3_ENDPOINT").trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind((cluster.s3_address()?, 0))?;
        let door = Self { address: listener.local_addr()?.to_string(), watch: Arc::default() };
        let watch = Arc::clone(&door.watch);
        // The thread lasts as long as the process; a door is one of few.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (server, watch) = (server.clone(), Arc::clone(&watch));
                thread::spawn(move || {
                    // A connection that breaks is a matter of the two that it connects.
                    let _ = pass(&client, &server, &watch);
                    let _ = client.shutdown(Shutdown::Both);
                });
            }
        });
        Ok(door)
    }

    /// Changes to a location so that its jobs go through here.
    #[must_use]
    pub fn location(&self) -> Value {
        json!({ "spec": { "url": format!("http://{}", self.address) } })
    }

    /// From now on requests with this method and this part of a path wait, and those that wait for another reason go on.
    pub fn hold(&self, method: &str, part: &str) {
        *lock(&self.watch) = Watch { held: Some((method.to_owned(), part.to_owned())), caught: Vec::new() };
    }

    /// Waits until a request is held; gives back its method and path.
    pub fn await_caught(&self, limit: Duration) -> Result<String> {
        until("a request waits at the door", limit, || {
            lock(&self.watch).caught.first().cloned().context("none")
        })
    }

    /// Lets all go on; what their senders have given up is dropped.
    pub fn release(&self) {
        *lock(&self.watch) = Watch::default();
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.release();
    }
}

fn lock(watch: &Mutex<Watch>) -> MutexGuard<'_, Watch> {
    watch.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Passes the requests of one connection on, and what the server answers back.
fn pass(client: &TcpStream, server: &str, watch: &Mutex<Watch>) -> std::io::Result<()> {
    let mut server = TcpStream::connect(server)?;
    let (mut answers, mut back) = (server.try_clone()?, client.try_clone()?);
    thread::spawn(move || {
        let _ = std::io::copy(&mut answers, &mut back);
        let _ = back.shutdown(Shutdown::Both);
    });
    let mut requests = BufReader::new(client);
    while let Some(head) = Head::read(&mut requests)? {
        if !admitted(&head, client, watch)? {
            return server.shutdown(Shutdown::Both);
        }
        server.write_all(&head.bytes)?;
        std::io::copy(&mut (&mut requests).take(head.body), &mut server)?;
    }
    server.shutdown(Shutdown::Write)
}

/// Waits as long as this request is held; false if its sender is gone by then.
fn admitted(head: &Head, client: &TcpStream, watch: &Mutex<Watch>) -> std::io::Result<bool> {
    let mut waited = false;
    loop {
        let mut watch = lock(watch);
        let is_held = watch.held.as_ref().is_some_and(|(method, part)| head.is(method, part));
        if !is_held {
            break;
        }
        if !waited {
            watch.caught.push(head.line.clone());
            waited = true;
        }
        drop(watch);
        thread::sleep(PAUSE);
    }
    Ok(!waited || !is_gone(client)?)
}

/// Whether the other end has closed the connection.
fn is_gone(client: &TcpStream) -> std::io::Result<bool> {
    client.set_read_timeout(Some(Duration::from_millis(1)))?;
    let peeked = client.peek(&mut [0]);
    client.set_read_timeout(None)?;
    Ok(match peeked {
        Ok(bytes) => bytes == 0,
        Err(error) => !matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut),
    })
}

/// The head of a request.
#[derive(Debug, PartialEq)]
struct Head {
    /// Method and path.
    line: String,
    /// All of it, as it came.
    bytes: Vec<u8>,
    /// Length of the body that follows.
    body: u64,
}

impl Head {
    /// The next one, if there is another.
    fn read(from: &mut impl BufRead) -> std::io::Result<Option<Self>> {
        let mut head = Self { line: String::new(), bytes: Vec::new(), body: 0 };
        loop {
            let mut line = Vec::new();
            if from.read_until(b'\n', &mut line)? == 0 {
                return Ok(None);
            }
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            if head.bytes.is_empty() {
                head.line = text.rsplit_once(' ').map_or_else(|| text.clone(), |(line, _)| line.to_owned());
            } else if let Some((name, value)) = text.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                head.body = value.trim().parse().map_err(|_| std::io::ErrorKind::InvalidData)?;
            }
            head.bytes.extend(line);
            if text.is_empty() {
                return Ok(Some(head));
            }
        }
    }

    fn is(&self, method: &str, part: &str) -> bool {
        self.line.split_once(' ').is_some_and(|(of, path)| of == method && path.contains(part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_of_a_connection_is_told_from_its_body() {
        let sent = b"PUT /b/index/0a?x-id=PutObject HTTP/1.1\r\nHost: h\r\ncontent-length: 3\r\n\r\nabcGET /b HTTP/1.1\r\n\r\n";
        let mut sent = &sent[..];
        let put = Head::read(&mut sent).unwrap().unwrap();
        assert_eq!((put.line.as_str(), put.body), ("PUT /b/index/0a?x-id=PutObject", 3));
        assert!(put.is("PUT", "/index/") && !put.is("DELETE", "/index/") && !put.is("PUT", "/locks/"));
        sent = &sent[3..];
        let get = Head::read(&mut sent).unwrap().unwrap();
        assert_eq!((get.line.as_str(), get.body), ("GET /b", 0));
        assert_eq!(Head::read(&mut sent).unwrap(), None);
    }
}
