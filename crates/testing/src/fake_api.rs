//! An API server of a few lines for tests: objects by path, resource versions, conflicts, and a list of what was asked.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use http::{Method, Request, Response};
use kube::client::Body;
use serde_json::{Value, json};

use crate::question::Question;

/// State behind the fake.
#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    version: u64,
    fails: bool,
    requests: Vec<String>,
    refusals: BTreeMap<String, (u16, String)>,
    unknown: BTreeSet<String>,
}

/// The fake; clones share their state.
#[derive(Clone, Default)]
pub struct FakeApi(Arc<Mutex<State>>);

impl FakeApi {
    /// A client that talks to the fake. Its namespace is `ns`.
    #[must_use]
    pub fn client(&self) -> kube::Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move { Ok::<_, std::convert::Infallible>(api.answer(request).await) }
        });
        kube::Client::new(service, "ns")
    }

    /// Answers programs, too, until the test's process ends; the kubeconfig that leads them there.
    #[must_use]
    pub fn kubeconfig(&self) -> String {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let server = format!("http://{}", listener.local_addr().expect("a bound address"));
        let api = self.clone();
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let api = api.clone();
                thread::spawn(move || api.serve(&connection));
            }
        });
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "fake", "cluster": {"server": server}}],
            "users": [{"name": "fake", "user": {}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake", "namespace": "ns"}}],
            "current-context": "fake",
        })
        .to_string()
    }

    /// The object at this path.
    #[must_use]
    pub fn get(&self, path: &str) -> Value {
        self.state().objects.get(path).cloned().unwrap_or(Value::Null)
    }

    /// The objects of this collection.
    #[must_use]
    pub fn all(&self, collection: &str) -> Vec<Value> {
        self.state().list(collection)["items"].as_array().cloned().unwrap_or_default()
    }

    /// Puts an object at this path, with a new resource version.
    pub fn put(&self, path: &str, object: Value) {
        self.state().store(path, object);
    }

    /// Removes the object at this path.
    pub fn remove(&self, path: &str) {
        self.state().objects.remove(path);
    }

    /// From now on every request fails, or no longer does.
    pub fn fail(&self, fails: bool) {
        self.state().fails = fails;
    }

    /// From now on writes to this path are refused with this code and message.
    pub fn refuse(&self, path: &str, code: u16, message: &str) {
        self.state().refusals.insert(path.to_owned(), (code, message.to_owned()));
    }

    /// From now on writes to this path are taken again.
    pub fn accept(&self, path: &str) {
        self.state().refusals.remove(path);
    }

    /// From now on this collection is unknown, as without its CRD.
    pub fn forget_kind(&self, collection: &str) {
        self.state().unknown.insert(collection.to_owned());
    }

    /// What was asked so far, as `METHOD path`, and forgets it.
    #[must_use]
    pub fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state().requests)
    }

    /// Writes asked for so far, without reads, and forgets all.
    #[allow(clippy::must_use_candidate, reason = "often called to forget")]
    pub fn take_writes(&self) -> Vec<String> {
        self.take_requests().into_iter().filter(|request| !request.starts_with("GET ")).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics while it holds the fake's state")
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let bytes = body.collect_bytes().await.expect("the client sends its body whole");
        let query = head.uri.query().unwrap_or_default();
        let (code, answer) = self.answer_to(&head.method, head.uri.path(), query, &bytes);
        Response::builder()
            .status(code)
            .body(Body::from(answer.to_string().into_bytes()))
            .expect("a status code is all that could be wrong")
    }

    fn answer_to(&self, method: &Method, path: &str, query: &str, body: &[u8]) -> (u16, Value) {
        let body: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        let mut state = self.state();
        state.requests.push(format!("{method} {path}"));
        let (code, answer) = state.handle(method, path, body);
        (code, page(answer, query))
    }

    fn serve(&self, mut connection: &TcpStream) {
        let Ok(question) = Question::read(connection) else { return };
        let Ok(method) = question.method.parse() else { return };
        let (path, query) = question.path.split_once('?').unwrap_or((&question.path, ""));
        let (code, answer) = self.answer_to(&method, path, query, question.body.as_bytes());
        let body = answer.to_string();
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {code} _\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        );
        // Whoever asked may be gone.
        let _ = connection.write_all(answer.as_bytes());
    }
}

fn status(code: u16, message: &str) -> (u16, Value) {
    let reason = if code == 404 { "NotFound" } else { "" };
    (code, json!({"kind": "Status", "status": "Failure", "code": code, "message": message, "reason": reason}))
}

impl State {
    fn handle(&mut self, method: &Method, path: &str, body: Value) -> (u16, Value) {
        if self.fails {
            return status(500, "the fake fails");
        }
        if self.unknown.iter().any(|collection| path.starts_with(collection)) {
            return status(404, "404 page not found");
        }
        if let Some((code, message)) = self.refusals.get(path).filter(|_| method != Method::GET) {
            return status(*code, message);
        }
        let object_path = path.strip_suffix("/status").unwrap_or(path).to_owned();
        let known = self.objects.get(&object_path).cloned();
        match (method.as_str(), known) {
            ("GET", Some(object)) => (200, object),
            ("GET", None) if is_collection(path) => (200, self.list(path)),
            ("POST", _) => {
                let name = body["metadata"]["name"].as_str().unwrap_or_default();
                let path = format!("{path}/{name}");
                if self.objects.contains_key(&path) {
                    return status(409, "it exists already");
                }
                (201, self.store(&path, body))
            }
            ("PUT" | "PATCH", Some(known)) => {
                let wanted = &body["metadata"]["resourceVersion"];
                if !wanted.is_null() && *wanted != known["metadata"]["resourceVersion"] {
                    return status(409, "the object has been modified");
                }
                let mut merged = if method == Method::PUT { Value::Null } else { known };
                merge(&mut merged, body);
                if is_deleted(&merged) && !has_finalizers(&merged) {
                    self.objects.remove(&object_path);
                    return (200, merged);
                }
                (200, self.store(&object_path, merged))
            }
            ("PATCH", None) if body.get("apiVersion").is_some() && !path.ends_with("/status") => {
                (201, self.store(path, body))
            }
            ("DELETE", Some(mut object)) => {
                let meant = &body["preconditions"];
                let is_meant = |key| meant[key].is_null() || meant[key] == object["metadata"][key];
                if !is_meant("uid") || !is_meant("resourceVersion") {
                    return status(409, "the object is not the one that was meant");
                }
                if has_finalizers(&object) {
                    if !is_deleted(&object) {
                        object["metadata"]["deletionTimestamp"] = json!(jiff::Timestamp::now().to_string());
                    }
                    return (200, self.store(&object_path, object));
                }
                self.objects.remove(&object_path);
                (200, object)
            }
            _ => status(404, "not found"),
        }
    }

    fn store(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = json!(format!("uid-{}", self.version));
        }
        self.objects.insert(path.to_owned(), object.clone());
        object
    }

    fn list(&self, path: &str) -> Value {
        let prefix = format!("{path}/");
        let items: Vec<_> = self
            .objects
            .iter()
            .filter(|(key, _)| key.starts_with(&prefix))
            .map(|(_, object)| object)
            .collect();
        json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items})
    }
}

fn is_deleted(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

fn has_finalizers(object: &Value) -> bool {
    object["metadata"]["finalizers"].as_array().is_some_and(|finalizers| !finalizers.is_empty())
}

/// The part of a list that `limit` and `continue` ask for. The token is the number of items that came before.
fn page(mut list: Value, query: &str) -> Value {
    let number = |name: &str| {
        let value = |pair: &str| pair.strip_prefix(name)?.strip_prefix('=')?.parse::<usize>().ok();
        query.split('&').find_map(value)
    };
    let items = list.get_mut("items").and_then(Value::as_array_mut);
    let (Some(limit), Some(items)) = (number("limit"), items) else { return list };
    let start = number("continue").unwrap_or(0).min(items.len());
    let rest = items.split_off(start);
    let more = rest.len() > limit;
    *items = rest.into_iter().take(limit).collect();
    if more {
        list["metadata"]["continue"] = json!((start + limit).to_string());
    }
    list
}

/// Paths here are `/api…/namespaces/ns/<plural>[/<name>]`.
fn is_collection(path: &str) -> bool {
    path.split_once("/namespaces/").is_some_and(|(_, rest)| rest.split('/').count() == 2)
}

fn merge(into: &mut Value, patch: Value) {
    match patch {
        Value::Object(fields) => {
            if !into.is_object() {
                *into = json!({});
            }
            for (key, value) in fields {
                if value.is_null() {
                    if let Some(object) = into.as_object_mut() {
                        object.remove(&key);
                    }
                } else {
                    merge(&mut into[key.as_str()], value);
                }
            }
        }
        other => *into = other,
    }
}
