//! What an admin can say about an S3 server: whom to trust, in which region it is, keys that expire.

use std::{
    io::{Read, Write},
    net::TcpListener,
    thread,
};

use kubedr_repo::{
    Error, InitOptions, InitOutcome, Location, Repository, S3Credentials, S3Options, StorageErrorKind,
    TlsTrust,
};
use kubedr_testing::S3Server;

use crate::fixture::{PASSWORD, database, request, sources};

fn init(url: &str, options: S3Options) -> Result<(Repository, InitOutcome), Error> {
    let location = Location::parse(url, Some(options)).unwrap();
    Repository::init(&location, &PASSWORD.into(), &InitOptions::default())
}

fn keys(server: &S3Server) -> S3Options {
    S3Options::new(server.access_key().into(), server.secret_key().into())
}

/// Accepts one connection, answers with an S3 error, and returns what was asked.
fn one_answer(status: &'static str, code: &'static str) -> (String, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let asked = thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        let mut request = vec![0; 8192];
        let count = connection.read(&mut request).unwrap();
        let body = format!("<Error><Code>{code}</Code><Message>no</Message></Error>");
        write!(connection, "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
        String::from_utf8_lossy(&request[..count]).into_owned()
    });
    (endpoint, asked)
}

fn kind(error: &Error) -> StorageErrorKind {
    match error {
        Error::Storage { cause, .. } => cause.kind,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_server_of_an_unknown_authority_is_used_when_anyone_is_trusted() {
    let server = S3Server::start_tls();
    let url = server.repository("backups");
    let error = init(&url, keys(&server)).unwrap_err();
    assert_eq!(kind(&error), StorageErrorKind::Untrusted, "{error}");

    let anyone = || S3Options { tls: TlsTrust::Anyone, ..keys(&server) };
    let (repository, outcome) = init(&url, anyone()).unwrap();
    assert_eq!(outcome, InitOutcome::Created);
    repository.backup(request(sources(&database(5000, 1), b"tar"))).unwrap();
    let _ = server.restic("backups", PASSWORD).ok(&["check", "--read-data"]);

    let plain = S3Server::start();
    let https = plain.repository("b").replace("http://", "https://");
    let error = init(&https, S3Options { tls: TlsTrust::Anyone, ..keys(&plain) }).unwrap_err();
    assert_eq!(kind(&error), StorageErrorKind::NotS3, "{error}");
    init(&plain.repository("plain"), S3Options { tls: TlsTrust::Anyone, ..keys(&plain) }).unwrap();
}

#[test]
fn a_server_that_dies_is_unreachable_for_those_who_trust_anyone_too() {
    let mut server = S3Server::start_tls();
    server.kill();
    let options = S3Options { tls: TlsTrust::Anyone, ..keys(&server) };
    let error = init(&server.repository("b"), options).unwrap_err();
    assert_eq!(kind(&error), StorageErrorKind::Unreachable, "{error}");
    assert!(error.is_temporary());
}

#[test]
fn a_session_token_is_sent_and_signed_and_its_end_is_told() {
    let (endpoint, asked) = one_answer("400 Bad Request", "ExpiredToken");
    let options = S3Options::with_credentials(S3Credentials::Keys {
        access_key: "AKIA1".into(),
        secret_key: "hunter2".into(),
        session_token: Some("session-token-1".into()),
    });
    let error = init(&format!("s3:{endpoint}/b"), options).unwrap_err();
    let asked = asked.join().unwrap().to_lowercase();
    assert!(asked.contains("x-amz-security-token: session-token-1"), "{asked}");
    let signed = asked.split("signedheaders=").nth(1).unwrap().split(',').next().unwrap();
    assert!(signed.contains("x-amz-security-token"), "{asked}");
    assert_eq!(kind(&error), StorageErrorKind::Expired, "{error}");
    let text = error.to_string();
    assert!(text.contains("session_token") && !text.contains("session-token-1"), "{text}");
}

#[test]
fn the_region_signs_and_one_that_is_not_the_buckets_is_told() {
    let (endpoint, asked) = one_answer("301 Moved Permanently", "PermanentRedirect");
    let options = S3Options { region: "eu-west-1".to_owned(), ..S3Options::new("k".into(), "s".into()) };
    let error = init(&format!("s3:{endpoint}/b"), options).unwrap_err();
    assert!(asked.join().unwrap().contains("/eu-west-1/s3/aws4_request"));
    assert_eq!(kind(&error), StorageErrorKind::WrongRegion, "{error}");
    assert!(error.to_string().contains("`region`"), "{error}");
}
