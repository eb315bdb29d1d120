//! The API server, as JSON.
//!
//! Polling with a kubectl for each question would take more processor time than what is tested. So one `kubectl proxy` listens
//! on a socket that only root can open, and requests go to it in plain HTTP/1.0: an answer ends with its connection.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use serde_json::Value;

use crate::{seconds, until};

/// Who the API server believes to be applying objects.
const FIELD_MANAGER: &str = "e2e";

/// The API server's answer was an error.
#[derive(Debug)]
pub struct Refused {
    /// HTTP status.
    pub code: u16,
    /// What the API server says.
    pub message: String,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.code, self.message)
    }
}

impl std::error::Error for Refused {}

/// Path of a resource of a namespace, such as `pods` or `backuplocations`; an object's is this, `/` and its name.
#[must_use]
pub fn resource(namespace: &str, plural: &str) -> String {
    let api = match plural {
        "backuplocations" | "metadatabackuppolicies" | "metadatabackuprecords" | "metadatarestores" => {
            "apis/kubedr.catalogicsoftware.com/v1alpha1"
        }
        "cronjobs" | "jobs" => "apis/batch/v1",
        "deployments" => "apis/apps/v1",
        "leases" => "apis/coordination.k8s.io/v1",
        _ => "api/v1",
    };
    format!("/{api}/namespaces/{namespace}/{plural}")
}

/// A client of the API server.
#[derive(Debug)]
pub struct ApiServer {
    socket: PathBuf,
}

impl ApiServer {
    /// A client of the `kubectl proxy` that listens on this socket.
    #[must_use]
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// An object or a list.
    pub fn get(&self, path: &str) -> Result<Value> {
        parse(&self.request("GET", path, None)?)
    }

    /// An object, if there is one.
    pub fn find(&self, path: &str) -> Result<Option<Value>> {
        match self.get(path) {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.downcast_ref::<Refused>().is_some_and(|r| r.code == 404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The items of a list; `query` is a query string such as `labelSelector=a%3Db`, or empty.
    pub fn list(&self, path: &str, query: &str) -> Result<Vec<Value>> {
        match self.get(&format!("{path}?{query}"))?["items"].take() {
            Value::Array(items) => Ok(items),
            other => Err(anyhow!("{path} is no list: {other}")),
        }
    }

    /// Text, such as a log.
    pub fn text(&self, path: &str) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.request("GET", path, None)?).into_owned())
    }

    /// Applies an object (server-side), taking every field over.
    pub fn apply(&self, path: &str, object: &Value) -> Result<Value> {
        let path = format!("{path}?fieldManager={FIELD_MANAGER}&force=true");
        parse(&self.request("PATCH", &path, Some(("application/apply-patch+yaml", object)))?)
    }

    /// Creates an object in a list; `query` is as in [`ApiServer::list`].
    pub fn create(&self, path: &str, query: &str, object: &Value) -> Result<Value> {
        parse(&self.request("POST", &format!("{path}?{query}"), Some(("application/json", object)))?)
    }

    /// Merges a patch into an object: null removes a field.
    pub fn merge(&self, path: &str, change: &Value) -> Result<Value> {
        parse(&self.request("PATCH", path, Some(("application/merge-patch+json", change)))?)
    }

    /// Deletes an object with its dependants; one that is not there counts as deleted.
    pub fn delete(&self, path: &str) -> Result<()> {
        match self.request("DELETE", &format!("{path}?propagationPolicy=Background"), None) {
            Err(error) if error.downcast_ref::<Refused>().is_none_or(|r| r.code != 404) => Err(error),
            _ => Ok(()),
        }
    }

    /// An answer; one that says "too many requests", as for a kind whose CRD is new, is asked for again.
    fn request(&self, method: &str, path: &str, body: Option<(&str, &Value)>) -> Result<Vec<u8>> {
        until("the API server is ready for it", seconds(15), || match self.answer(method, path, body) {
            Err(error) if error.downcast_ref::<Refused>().is_some_and(|r| r.code == 429) => Err(error),
            answered => Ok(answered),
        })?
    }

    fn answer(&self, method: &str, path: &str, body: Option<(&str, &Value)>) -> Result<Vec<u8>> {
        let what = || format!("{method} {path}");
        let (content_type, body) = match body {
            Some((content_type, value)) => (content_type, serde_json::to_vec(value)?),
            None => ("application/json", Vec::new()),
        };
        let mut stream = UnixStream::connect(&self.socket).with_context(what)?;
        stream.set_read_timeout(Some(seconds(30)))?;
        stream.set_write_timeout(Some(seconds(30)))?;
        let head = format!(
            "{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body)).with_context(what)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).with_context(what)?;
        take_body(&answer).with_context(what)
    }
}

fn parse(body: &[u8]) -> Result<Value> {
    serde_json::from_slice(body).with_context(|| format!("no JSON: {}", String::from_utf8_lossy(body)))
}

/// The body of an HTTP answer, or its error.
fn take_body(answer: &[u8]) -> Result<Vec<u8>> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").context("an answer without a head")?;
    let (head, body) = (String::from_utf8_lossy(&answer[..end]), &answer[end + 4..]);
    let code = head.split(' ').nth(1).and_then(|code| code.parse::<u16>().ok()).context("no status")?;
    if (200..300).contains(&code) {
        return Ok(body.to_vec());
    }
    let message = serde_json::from_slice::<Value>(body)
        .ok()
        .and_then(|status| status["message"].as_str().map(str::to_owned))
        .unwrap_or_else(|| String::from_utf8_lossy(body).into_owned());
    Err(Refused { code, message }.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_api_server_keeps_its_code_and_message() {
        let error =
            take_body(b"HTTP/1.0 404 Not Found\r\nA: b\r\n\r\n{\"message\":\"no such pod\"}").unwrap_err();
        let refused = error.downcast_ref::<Refused>().unwrap();
        assert_eq!((refused.code, refused.message.as_str()), (404, "no such pod"));
    }

    #[test]
    fn the_body_begins_after_the_head() {
        assert_eq!(take_body(b"HTTP/1.0 200 OK\r\n\r\n{}").unwrap(), b"{}");
    }
}
