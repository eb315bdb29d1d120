//! Finding, opening and initialising: every way a location can be wrong has a message of its own.

use std::{
    thread,
    time::{Duration, Instant},
};

use kubedr_repo::{
    Error, ErrorClass, InitOptions, InitOutcome, Location, Repository, S3Options, StorageErrorKind, TlsTrust,
};
use kubedr_testing::{S3Server, free_port};
use tempfile::TempDir;

use crate::fixture::{PASSWORD, bucket, bucket_with, database, in_bucket, request, sources};

fn init(location: &Location) -> Result<InitOutcome, Error> {
    Repository::init(location, &PASSWORD.into(), &InitOptions::default()).map(|(_, outcome)| outcome)
}

fn storage_kind(error: &Error) -> StorageErrorKind {
    match error {
        Error::Storage { cause, .. } => cause.kind,
        other => panic!("{other:?}"),
    }
}

fn assert_refused(error: &Error, kind: StorageErrorKind, words: &[&str]) {
    let text = error.to_string();
    assert_eq!(storage_kind(error), kind, "{text}");
    for word in words {
        assert!(text.contains(word), "`{word}` is missing: {text}");
    }
    assert!(!text.contains('\n'), "{text}");
}

#[test]
fn the_bucket_is_created_and_a_second_initialisation_attaches() {
    let server = S3Server::start();
    let location = bucket(&server, "new");
    let (repository, outcome) =
        Repository::init(&location, &PASSWORD.into(), &InitOptions::default()).unwrap();
    assert_eq!(outcome, InitOutcome::Created);
    assert_eq!(repository.url(), server.repository("new"));
    let (again, outcome) = Repository::init(&location, &PASSWORD.into(), &InitOptions::default()).unwrap();
    assert_eq!(outcome, InitOutcome::Attached);
    assert_eq!(again.id(), repository.id());
    let config = server.restic("new", PASSWORD).json(&["cat", "config"]);
    assert_eq!(config["id"], repository.id());
    assert_eq!(config["version"], 2);
}

#[test]
fn an_existing_bucket_with_foreign_files_and_a_prefix_are_used() {
    let server = S3Server::start();
    server.create_bucket("shared");
    std::fs::write(server.bucket_dir("shared").join("readme.txt"), "not ours").unwrap();
    std::fs::write(server.bucket_dir("shared").join("config.yaml"), "not ours either").unwrap();
    assert_eq!(init(&bucket(&server, "shared")).unwrap(), InitOutcome::Created);
    assert_eq!(init(&bucket(&server, "shared/clusters/one")).unwrap(), InitOutcome::Created);
    let _ = server.restic("shared/clusters/one", PASSWORD).ok(&["check"]);
    assert_eq!(init(&bucket(&server, "shared")).unwrap(), InitOutcome::Attached);
}

#[test]
fn a_repository_that_restic_made_is_attached_to() {
    let server = S3Server::start();
    let _ = server.restic("restics", PASSWORD).ok(&["init"]);
    assert_eq!(init(&bucket(&server, "restics")).unwrap(), InitOutcome::Attached);
}

#[test]
fn a_wrong_password_is_told_from_everything_else() {
    let server = S3Server::start();
    in_bucket(&server, "backups");
    for result in [
        Repository::open(&bucket(&server, "backups"), &"wrong".into()),
        Repository::init(&bucket(&server, "backups"), &"wrong".into(), &InitOptions::default())
            .map(|(it, _)| it),
    ] {
        let error = result.unwrap_err();
        assert!(matches!(error, Error::WrongPassword { .. }), "{error}");
        assert_eq!(error.class(), ErrorClass::Configuration);
        assert!(error.to_string().contains(&server.repository("backups")), "{error}");
    }
    let keys = std::fs::read_dir(server.bucket_dir("backups").join("keys")).unwrap().count();
    assert_eq!(keys, 1, "the failed initialisation left a key");
}

#[test]
fn wrong_keys_are_told_at_once() {
    let server = S3Server::start();
    in_bucket(&server, "backups");
    for (access, secret) in [(server.access_key(), "wrong"), ("nobody", "wrong")] {
        for name in ["backups", "absent"] {
            let begin = Instant::now();
            let location = bucket_with(&server, name, access, secret);
            let error = init(&location).unwrap_err();
            assert_refused(&error, StorageErrorKind::WrongKeys, &["access_key", "secret_key", "403"]);
            assert!(!error.is_temporary());
            let error = Repository::open(&location, &PASSWORD.into()).unwrap_err();
            assert_refused(&error, StorageErrorKind::WrongKeys, &[]);
            assert!(begin.elapsed() < Duration::from_secs(2), "it was retried");
        }
    }
}

#[test]
fn a_bucket_of_somebody_else_is_told() {
    let server = S3Server::start();
    let (owner, other) = (server.create_account(), server.create_account());
    server.create_bucket_of(&owner, "taken");
    let location = bucket_with(&server, "taken", &other.access_key, &other.secret_key);
    let error = init(&location).unwrap_err();
    assert_refused(&error, StorageErrorKind::AccessDenied, &["`taken`", "belongs to somebody else"]);
    assert!(!error.is_temporary());
    let owners = bucket_with(&server, "taken", &owner.access_key, &owner.secret_key);
    assert_eq!(init(&owners).unwrap(), InitOutcome::Created);
}

#[test]
fn opening_never_creates_anything() {
    let server = S3Server::start();
    let error = Repository::open(&bucket(&server, "absent"), &PASSWORD.into()).unwrap_err();
    assert_refused(&error, StorageErrorKind::BucketMissing, &["does not exist"]);
    assert!(!server.bucket_dir("absent").exists());
    server.create_bucket("empty");
    let error = Repository::open(&bucket(&server, "empty"), &PASSWORD.into()).unwrap_err();
    assert!(matches!(error, Error::NotARepository { .. }), "{error}");
    let nowhere = TempDir::new().unwrap().path().join("nowhere");
    let error = Repository::open(&Location::Local(nowhere.clone()), &PASSWORD.into()).unwrap_err();
    assert!(matches!(error, Error::NotARepository { .. }), "{error}");
    assert!(!nowhere.exists());
}

#[test]
fn an_endpoint_where_nobody_listens_is_temporary_and_shows_the_chain() {
    let url = format!("s3:http://127.0.0.1:{}/b", free_port());
    let location = Location::parse(&url, Some(S3Options::new("key".into(), "secret".into()))).unwrap();
    let error = init(&location).unwrap_err();
    assert_refused(&error, StorageErrorKind::Unreachable, &[&url, "onnection refused"]);
    assert!(error.is_temporary());
}

#[test]
fn a_server_with_its_own_authority_is_trusted_only_with_that_authority() {
    let server = S3Server::start_tls();
    let repository = in_bucket(&server, "backups");
    repository.backup(request(sources(&database(300, 1), b"tar"))).unwrap();
    let _ = server.restic("backups", PASSWORD).ok(&["check", "--read-data"]);

    let keys = || S3Options::new(server.access_key().into(), server.secret_key().into());
    let untrusting = Location::parse(&server.repository("backups"), Some(keys())).unwrap();
    let begin = Instant::now();
    let error = Repository::open(&untrusting, &PASSWORD.into()).unwrap_err();
    assert_refused(&error, StorageErrorKind::Untrusted, &["UnknownIssuer", "`caCert`", "`--cacert`"]);
    assert!(!error.is_temporary());
    assert!(begin.elapsed() < Duration::from_secs(2), "a refused certificate was retried");

    let plain = server.repository("backups").replace("https://", "http://");
    let error =
        Repository::open(&Location::parse(&plain, Some(keys())).unwrap(), &PASSWORD.into()).unwrap_err();
    assert!(error.to_string().contains("check URL"), "{error}");
}

#[test]
fn https_to_a_plain_server_is_told() {
    let server = S3Server::start();
    let keys = S3Options::new(server.access_key().into(), server.secret_key().into());
    let url = server.repository("b").replace("http://", "https://");
    let error = Repository::open(&Location::parse(&url, Some(keys)).unwrap(), &PASSWORD.into()).unwrap_err();
    assert_refused(&error, StorageErrorKind::NotS3, &["http or https"]);
}

#[test]
fn a_file_that_is_no_certificate_is_told() {
    for pem in ["", "rubbish", "-----BEGIN CERTIFICATE-----\nrubbish\n-----END CERTIFICATE-----\n"] {
        let mut options = S3Options::new("key".into(), "secret".into());
        options.tls = TlsTrust::Authorities(pem.as_bytes().to_vec());
        let location = Location::parse("s3:https://127.0.0.1:1/b", Some(options)).unwrap();
        let error = Repository::open(&location, &PASSWORD.into()).unwrap_err();
        assert_refused(&error, StorageErrorKind::Unusable, &["CA certificate", "`caCert`", "`--cacert`"]);
    }
}

#[test]
fn of_several_initialisations_at_once_one_creates_the_bucket_and_the_repository() {
    let server = S3Server::start();
    for round in 0..3 {
        let name = format!("race-{round}");
        let location = bucket(&server, &name);
        let attempts: Vec<_> = thread::scope(|scope| {
            let run = || Repository::init(&location, &PASSWORD.into(), &InitOptions::default()).unwrap();
            let threads: Vec<_> = (0..3).map(|_| scope.spawn(run)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let winners = attempts.iter().filter(|(_, outcome)| *outcome != InitOutcome::Attached).count();
        assert_eq!(winners, 1, "{attempts:?}");
        assert!(attempts.iter().all(|(repository, _)| repository.id() == attempts[0].0.id()), "{attempts:?}");
        let keys = std::fs::read_dir(server.bucket_dir(&name).join("keys")).unwrap().count();
        assert_eq!(keys, 1, "{attempts:?}");
    }
    let _ = server.restic("race-0", PASSWORD).ok(&["check"]);
}

#[test]
fn no_error_of_a_location_shows_its_secrets() {
    let server = S3Server::start();
    in_bucket(&server, "backups");
    let errors = [
        init(&bucket_with(&server, "backups", server.access_key(), "hunter2")).unwrap_err(),
        Repository::open(&bucket(&server, "backups"), &"hunter2".into()).unwrap_err(),
    ];
    for error in errors {
        for text in [error.to_string(), format!("{error:?}")] {
            assert!(!text.contains("hunter2"), "{text}");
            assert!(!text.contains(server.secret_key()), "{text}");
        }
    }
}
