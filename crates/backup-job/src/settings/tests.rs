//! What flags and environment come to.

use clap::Parser;
use kubedr_repo::{Addressing, Location, S3Credentials, S3Options, TlsTrust};

use super::*;
use crate::{
    BackupSettings, Locking,
    args::{Cli, Command, Secrets},
};

fn secrets() -> Secrets {
    Secrets {
        access_key: Some("key".into()),
        secret_key: Some("hunter2".into()),
        session_token: None,
        password: Some("correct-horse".into()),
    }
}

fn backup(flags: &[&str], secrets: Secrets) -> Result<BackupSettings, Failure> {
    let line = ["kubedr-backup-job", "backup"].iter().chain(flags);
    let Command::Backup(args) = Cli::try_parse_from(line).unwrap().command else { panic!() };
    BackupSettings::new(&args, secrets, Locking::Off)
}

fn refusal(flags: &[&str], secrets: Secrets) -> String {
    let failure = backup(flags, secrets).unwrap_err();
    assert_eq!(failure.exit_code(), 2);
    failure.to_string()
}

const PLAIN: [&str; 3] = ["--repository=s3:http://h/b", "--etcd-endpoints=http://127.0.0.1:1", "--host=n1"];

#[test]
fn what_is_missing_is_named_as_the_caller_knows_it() {
    let message = refusal(&PLAIN, Secrets { secret_key: None, ..secrets() });
    assert_eq!(message, "`AWS_SECRET_ACCESS_KEY` is not set");
    let mut flags = PLAIN.to_vec();
    flags.extend(["--policy=daily", "--namespace=ns", "--credentials=s3-creds"]);
    let message = refusal(&flags, Secrets { password: None, ..secrets() });
    let expected =
        "Secret `s3-creds` in namespace `ns` does not exist or lacks the key `restic_repo_password`";
    assert!(message.starts_with(expected), "{message}");
    let nothing = || Secrets { access_key: None, secret_key: None, session_token: None, password: None };
    assert!(refusal(&flags, nothing()).contains("lacks the key `access_key`"));
    let token_alone =
        Secrets { session_token: Some("token".into()), password: secrets().password, ..nothing() };
    assert!(refusal(&flags, token_alone).contains("lacks the key `access_key`"));
    let message = refusal(&["--etcd-endpoints=http://h:1"], secrets());
    assert!(message.contains("`RESTIC_REPOSITORY`"), "{message}");
}

fn s3(flags: &[&str], secrets: Secrets) -> S3Options {
    let flags = [&PLAIN, flags].concat();
    let Location::S3(location) = backup(&flags, secrets).unwrap().storage.location else { panic!() };
    location.options
}

#[test]
fn without_keys_the_place_is_asked_for_credentials() {
    let none = Secrets { access_key: None, secret_key: None, ..secrets() };
    assert!(matches!(s3(&[], none).credentials, S3Credentials::Ambient));
    let with_token = Secrets { session_token: Some("token".into()), ..secrets() };
    let S3Credentials::Keys { session_token, .. } = s3(&[], with_token).credentials else { panic!() };
    assert_eq!(session_token, Some("token".into()));
}

#[test]
fn certificates_that_cannot_be_trusted_are_told_by_the_object_they_come_from() {
    let flags = |cacert: &'static str, source: &'static str| {
        [
            "--credentials=s3-creds",
            "--policy=daily",
            "--namespace=ns",
            "--repository=s3:https://h/b",
            cacert,
            source,
        ]
    };
    let missing =
        refusal(&flags("--cacert=/none/ca.crt", "--cacert-source=Secret/s3-ca/root.pem"), secrets());
    let expected = "`caCert` of the location: Secret `s3-ca` in namespace `ns` does not exist or lacks the key `root.pem`";
    assert!(missing.starts_with(expected), "{missing}");
    let no_pem = refusal(&flags("--cacert=/etc/hostname", "--cacert-source=ConfigMap/m/ca.crt"), secrets());
    assert!(no_pem.contains("key `ca.crt` of ConfigMap `m`") && no_pem.contains("PEM"), "{no_pem}");
    let by_hand = refusal(&["--repository=s3:https://h/b", "--cacert=/etc/hostname"], secrets());
    assert!(by_hand.contains("`--cacert /etc/hostname`") && by_hand.contains("PEM"), "{by_hand}");
}

#[test]
fn where_nothing_may_be_written_nothing_is_made() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("r");
    let repository = format!("--repository={}", place.display());
    let storage = || backup(&[&repository, "--etcd-endpoints=http://h:1"], secrets()).unwrap().storage;
    let message = storage().attach().unwrap_err().to_string();
    assert!(message.contains("accessMode: ReadOnly") && message.contains("no repository at"), "{message}");
    assert!(!place.exists(), "it made something");
    storage().init().unwrap();
    storage().attach().unwrap();
}

#[test]
fn flags_say_how_the_server_is_reached() {
    assert!(matches!(s3(&[], secrets()).tls, TlsTrust::System));
    assert!(matches!(s3(&["--insecure-tls"], secrets()).tls, TlsTrust::Anyone));
    assert!(matches!(s3(&["--insecure-tls=false"], secrets()).tls, TlsTrust::System));
    assert_eq!(s3(&[], secrets()).addressing, Addressing::Path);
    assert_eq!(s3(&["--force-path-style=false"], secrets()).addressing, Addressing::VirtualHost);
    let message = refusal(&[&PLAIN[..], &["--cacert=/none/ca.crt"]].concat(), secrets());
    assert!(message.contains("`--cacert /none/ca.crt`"), "{message}");
}

#[test]
fn a_missing_etcd_secret_is_told_by_its_name_and_key() {
    let mut flags = vec!["--repository=s3:http://h/b", "--policy=daily", "--namespace=ns"];
    flags.extend([
        "--etcd-credentials=etcd-creds",
        "--etcd-cacert=/none/ca.crt",
        "--etcd-cert=/none/client.crt",
    ]);
    let message = refusal(&flags, secrets());
    let expected = "Secret `etcd-creds` in namespace `ns` does not exist or lacks the key `ca.crt`";
    assert!(message.starts_with(expected), "{message}");
}

#[test]
fn a_certificate_needs_its_key() {
    let flags = ["--repository=/r", "--etcd-cacert=/none/ca.crt", "--etcd-cert=/none/client.crt"];
    assert!(refusal(&flags, secrets()).contains("without `--etcd-key`"));
}

#[test]
fn tags_say_whose_backup_it_is_and_leave_out_what_is_not_known() {
    let mut flags = PLAIN.to_vec();
    flags.extend(["--policy=daily", "--namespace=ns", "--location=l", "--cluster=uid"]);
    let settings = backup(&flags, secrets()).unwrap();
    assert_eq!(settings.tags, ["cluster=uid", "namespace=ns", "policy=daily", "location=l"]);
    assert_eq!(backup(&PLAIN, secrets()).unwrap().tags, Vec::<String>::new());
}

#[test]
fn a_lock_is_in_the_name_of_the_pod_or_of_the_machine() {
    let holder = |flags: &[&str]| {
        let line = ["kubedr-backup-job", "backup"].iter().chain(flags);
        let Command::Backup(args) = Cli::try_parse_from(line).unwrap().command else { panic!() };
        lock_holder(&args.run)
    };
    let pod = ["--cluster=c1", "--namespace=ns", "--pod-uid=p1", "--pod-name=daily-1-x"];
    let expected = LockHolder { hostname: "daily-1-x".into(), username: "kubedr/c1/ns/p1".into() };
    assert_eq!(holder(&pod), expected);
    assert_eq!(
        holder(&pod[..2]),
        LockHolder { hostname: machine_name(), username: "kubedr-backup-job".into() }
    );
}

#[test]
fn debug_output_holds_no_secret() {
    let text = format!("{:?}", backup(&PLAIN, secrets()).unwrap());
    assert!(!text.contains("hunter2") && !text.contains("correct-horse"), "{text}");
}
