//! What gives roles to those who run somewhere: STS, the metadata of an instance, the credentials endpoint of a container.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

use crate::Account;
use crate::question::Question;

/// What a web identity's token file must hold to be believed.
pub const WEB_IDENTITY_TOKEN: &str = "header.claims.signature";
/// The role that a web identity may take.
pub const ROLE_ARN: &str = "arn:aws:iam::123456789012:role/backup";
/// The token that a container must show.
pub const CONTAINER_TOKEN: &str = "container-token";

const METADATA_TOKEN: &str = "metadata-token";
const ROLES: &str = "/latest/meta-data/iam/security-credentials/";

/// An HTTP server on a free loopback port that hands out the keys of an account to those who ask as AWS prescribes it, in
/// each of the three ways, and refuses all others.
#[derive(Debug)]
pub struct RoleServer {
    endpoint: String,
    asked: Arc<Mutex<Vec<String>>>,
}

/// What is handed out.
#[derive(Clone, Debug)]
struct Grant {
    account: Account,
    session_token: String,
    expiration: String,
    believes: Believes,
}

/// Which web identities are believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Believes {
    /// [`WEB_IDENTITY_TOKEN`].
    OneToken,
    /// Whatever has the form of a service account's token.
    EveryJwt,
}

impl RoleServer {
    /// Starts a server that gives these keys, with `session_token`, until `expiration` (RFC 3339).
    #[must_use]
    pub fn start(account: &Account, session_token: &str, expiration: &str) -> Self {
        let grant = Grant {
            account: account.clone(),
            session_token: session_token.to_owned(),
            expiration: expiration.to_owned(),
            believes: Believes::OneToken,
        };
        Self::start_at("127.0.0.1", grant)
    }

    /// Starts a server for the pods of a cluster, at an address that they reach. It gives these keys without a session token and for
    /// a long time, and believes every service account's token.
    #[must_use]
    pub fn start_for_pods(host: &str, account: &Account) -> Self {
        let grant = Grant {
            account: account.clone(),
            session_token: String::new(),
            expiration: "2100-01-01T00:00:00Z".to_owned(),
            believes: Believes::EveryJwt,
        };
        Self::start_at(host, grant)
    }

    fn start_at(host: &str, grant: Grant) -> Self {
        let listener = TcpListener::bind((host, 0)).expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("a bound address"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        // Ends with the test's process; it holds nothing that outlives that.
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let (grant, log) = (grant.clone(), log.clone());
                thread::spawn(move || serve(&connection, &grant, &log));
            }
        });
        Self { endpoint, asked }
    }

    /// The server's URL: endpoint of STS and of the metadata service. The container's credentials are at `/container`.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// What was asked so far, as `METHOD path`.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no thread of the server panics").clone()
    }
}

fn serve(mut connection: &TcpStream, grant: &Grant, log: &Mutex<Vec<String>>) {
    let Ok(question) = Question::read(connection) else { return };
    log.lock()
        .expect("no thread of the server panics")
        .push(format!("{} {}", question.method, question.path));
    let (status, body) = grant.answer(&question);
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nx-aws-ec2-metadata-token-ttl-seconds: 21600\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    // Whoever asked may be gone.
    let _ = connection.write_all(answer.as_bytes());
}

impl Grant {
    fn answer(&self, question: &Question) -> (&'static str, String) {
        let refused = ("401 Unauthorized", String::new());
        let has_metadata_token = question.header("x-aws-ec2-metadata-token") == METADATA_TOKEN;
        match (question.method.as_str(), question.path.as_str()) {
            ("PUT", "/latest/api/token") => ("200 OK", METADATA_TOKEN.to_owned()),
            ("GET", ROLES) if has_metadata_token => ("200 OK", "node-role".to_owned()),
            ("GET", path) if has_metadata_token && path.strip_prefix(ROLES) == Some("node-role") => {
                ("200 OK", self.json().to_string())
            }
            ("GET", "/container") if question.header("authorization") == CONTAINER_TOKEN => {
                ("200 OK", self.json().to_string())
            }
            ("POST", "/") => self.sts(&question.body),
            _ => refused,
        }
    }

    fn json(&self) -> Value {
        json!({
            "Code": "Success",
            "Type": "AWS-HMAC",
            "LastUpdated": "2020-01-01T00:00:00Z",
            "AccessKeyId": self.account.access_key,
            "SecretAccessKey": self.account.secret_key,
            "Token": self.session_token,
            "Expiration": self.expiration,
        })
    }

    fn believes(&self, form: &str) -> bool {
        let token =
            form.split('&').find_map(|pair| pair.strip_prefix("WebIdentityToken=")).unwrap_or_default();
        match self.believes {
            Believes::OneToken => token == WEB_IDENTITY_TOKEN,
            Believes::EveryJwt => token.starts_with("ey") && token.split('.').count() == 3,
        }
    }

    fn sts(&self, form: &str) -> (&'static str, String) {
        let field = |name: &str, value: &str| form.split('&').any(|pair| pair == format!("{name}={value}"));
        let role = ROLE_ARN.replace(':', "%3A").replace('/', "%2F");
        if !field("Action", "AssumeRoleWithWebIdentity") || !field("RoleArn", &role) || !self.believes(form) {
            return (
                "400 Bad Request",
                sts_answer(
                    "ErrorResponse",
                    "<Error><Type>Sender</Type><Code>InvalidIdentityToken</Code><Message>the token is not known here</Message></Error>",
                ),
            );
        }
        let Self { account, session_token, expiration, believes: _ } = self;
        let credentials = format!(
            "<AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>{}</AccessKeyId><SecretAccessKey>{}</SecretAccessKey>\
             <SessionToken>{session_token}</SessionToken><Expiration>{expiration}</Expiration></Credentials>\
             </AssumeRoleWithWebIdentityResult>",
            account.access_key, account.secret_key
        );
        ("200 OK", sts_answer("AssumeRoleWithWebIdentityResponse", &credentials))
    }
}

fn sts_answer(root: &str, content: &str) -> String {
    format!("<{root} xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">{content}</{root}>")
}
