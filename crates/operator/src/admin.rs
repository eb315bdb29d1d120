//! The port for probes and Prometheus: `GET /livez`, `/readyz`, `/metrics`.
//!
//! Three fixed answers over HTTP/1.1, each connection closed after one: a web framework would be the largest part of the
//! operator.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::readiness::Readiness;

/// Longest request that is read: probes and Prometheus send a few hundred bytes.
const REQUEST_MAX: usize = 8192;
/// A client has this long to send its request and take the answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Connections at a time: the kubelet and a few scrapers; whoever comes in excess waits.
const CONNECTIONS: usize = 16;

/// What the answers are made of.
#[derive(Clone, Debug)]
pub struct Admin {
    /// For `/metrics`.
    pub metrics: Arc<Metrics>,
    /// For `/readyz`.
    pub readiness: Arc<Readiness>,
}

impl Admin {
    /// Serves until `shutdown`.
    pub async fn serve(self, listener: TcpListener, shutdown: CancellationToken) {
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            let accepted = tokio::select! {
                () = shutdown.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
                // Out of file descriptors, most likely: wait for some to be closed instead of spinning.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let admin = self.clone();
            connections.spawn(async move {
                // A client that goes away has nobody to be told.
                let _ = tokio::time::timeout(TIMEOUT, admin.answer(stream)).await;
                drop(slot);
            });
            while connections.try_join_next().is_some() {}
        }
    }

    async fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut request = Vec::new();
        let mut part = [0; 1024];
        while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.len() < REQUEST_MAX {
            match stream.read(&mut part).await? {
                0 => break,
                n => request.extend_from_slice(&part[..n]),
            }
        }
        let (status, body) = self.respond(&String::from_utf8_lossy(&request));
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body.as_bytes()).await?;
        stream.shutdown().await
    }

    fn respond(&self, request: &str) -> (&'static str, String) {
        let mut words = request.lines().next().unwrap_or_default().split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let path = target.split('?').next().unwrap_or_default();
        if method != "GET" {
            return ("405 Method Not Allowed", "expected GET\n".to_owned());
        }
        match path {
            "/livez" => ("200 OK", "ok\n".to_owned()),
            "/readyz" => match self.readiness.check() {
                Ok(()) => ("200 OK", "ok\n".to_owned()),
                Err(missing) => ("503 Service Unavailable", format!("{missing}\n")),
            },
            "/metrics" => ("200 OK", self.metrics.render()),
            _ => ("404 Not Found", "expected /livez, /readyz or /metrics\n".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn get(path: &str, readiness: Readiness) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let admin = Admin { metrics: Arc::default(), readiness: Arc::new(readiness) };
        let server = tokio::spawn(admin.serve(listener, shutdown.clone()));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        shutdown.cancel();
        server.await.unwrap();
        answer
    }

    #[tokio::test]
    async fn an_operator_that_is_not_ready_is_alive_and_says_what_is_missing() {
        assert!(get("/livez", Readiness::default()).await.starts_with("HTTP/1.1 200 OK\r\n"));
        let answer = get("/readyz", Readiness::default()).await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\r\n\r\nwho leads is not known: "));
    }

    #[tokio::test]
    async fn metrics_are_served_and_other_paths_are_not() {
        assert!(get("/metrics?x=1", Readiness::default()).await.contains("\nkubedr_operator_leader 0\n"));
        assert!(get("/secrets", Readiness::default()).await.starts_with("HTTP/1.1 404 "));
    }
}
