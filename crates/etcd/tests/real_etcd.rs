//! Snapshots of real etcd members, judged by stock etcdutl.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "the functions that tests share are tests, too")]

use etcd_client::{AlarmAction, AlarmType};
use kubedr_etcd::{ClientFiles, CredentialFiles, Credentials, Endpoints, Error, Snapshot};
use kubedr_testing::{EtcdCluster, KeyKind, Pki, S3Server, assert_success, command, run, text};
use std::fs;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

fn credentials(files: &kubedr_testing::ClientFiles) -> Credentials {
    let kubedr_testing::ClientFiles { ca, cert, key } = files.clone();
    Credentials::read(&CredentialFiles { ca, client: Some(ClientFiles { cert, key }) }).unwrap()
}

/// Opens a snapshot, and gives it to `read` outside the runtime's threads.
fn with_snapshot<T: Send + 'static>(
    endpoints: &str,
    credentials: Option<&Credentials>,
    read: impl FnOnce(Snapshot) -> T + Send + 'static,
) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let endpoints: Endpoints = endpoints.parse()?;
    runtime.block_on(async {
        let snapshot = Box::pin(Snapshot::open(&endpoints, credentials)).await?;
        Ok(tokio::task::spawn_blocking(|| read(snapshot)).await.unwrap())
    })
}

fn save(endpoints: &str, credentials: Option<&Credentials>, file: &Path) -> Result<String, Error> {
    let file = file.to_owned();
    with_snapshot(endpoints, credentials, move |mut snapshot| {
        let copied = std::io::copy(&mut snapshot.reader, &mut fs::File::create(&file).unwrap()).unwrap();
        assert_eq!(copied, snapshot.size);
        assert!(snapshot.etcd_version.starts_with("3.") && snapshot.revision_at_least > 0);
        snapshot.endpoint.to_string()
    })
}

fn refusal(endpoints: &str, credentials: Option<&Credentials>) -> String {
    let error = with_snapshot(endpoints, credentials, drop).unwrap_err().to_string();
    assert!(!error.contains('\n'), "more than one line: {error}");
    println!("{error}");
    error
}

#[test]
fn a_snapshot_is_what_etcdutl_and_a_new_member_accept() {
    let etcd = EtcdCluster::start();
    etcd.fill("/registry/many/", 3000, 200);
    etcd.put("/marker", "value");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("snapshot.db");
    save(&etcd.endpoints(), Some(&credentials(etcd.client())), &file).unwrap();

    let status = run(command("etcdutl").args(["snapshot", "status", "--write-out=json"]).arg(&file));
    assert_success(&status);
    assert!(text(&status.stdout).contains("\"totalKey\":3001"), "{}", text(&status.stdout));
    let restored = EtcdCluster::start_from_snapshot(&file);
    assert_eq!(restored.get("/marker").as_deref(), Some("value"));
    assert_eq!(restored.count("/registry/many/"), 3000);
}

#[test]
fn every_kind_of_client_key_is_accepted() {
    let etcd = EtcdCluster::start();
    for kind in [
        KeyKind::EcP256,
        KeyKind::EcP256Sec1,
        KeyKind::EcP384,
        KeyKind::Ed25519,
        KeyKind::Rsa,
        KeyKind::RsaPkcs1,
    ] {
        let files = etcd.pki().client(&format!("{kind:?}"), kind);
        for file in [&files.cert, &files.key] {
            fs::write(file, fs::read_to_string(file).unwrap().replace('\n', "\r\n") + "\r\n").unwrap();
        }
        with_snapshot(&etcd.endpoints(), Some(&credentials(&files)), drop)
            .unwrap_or_else(|error| panic!("{kind:?}: {error}"));
    }
}

#[test]
fn a_server_of_an_unknown_authority_is_refused_in_words() {
    let etcd = EtcdCluster::start();
    let dir = tempfile::tempdir().unwrap();
    for other in [etcd.other_pki(), Pki::named(dir.path(), "another-ca")] {
        let mut files = etcd.client().clone();
        files.ca = other.ca_file();
        let message = refusal(&etcd.endpoints(), Some(&credentials(&files)));
        assert!(message.contains("unknown certificate authority"), "{message}");
        assert!(message.contains(&etcd.endpoints()), "{message}");
    }
}

#[test]
fn a_client_without_or_with_a_foreign_certificate_learns_what_is_missing() {
    let etcd = EtcdCluster::start();
    let without = CredentialFiles { ca: etcd.client().ca.clone(), client: None };
    let message = refusal(&etcd.endpoints(), Some(&Credentials::read(&without).unwrap()));
    assert!(message.contains("client certificate"), "{message}");

    let mut foreign = etcd.other_pki().client("foreign", KeyKind::EcP256);
    foreign.ca = etcd.client().ca.clone();
    let message = refusal(&etcd.endpoints(), Some(&credentials(&foreign)));
    assert!(message.contains("client certificate"), "{message}");
}

#[test]
fn tls_without_credentials_is_refused_before_anything_is_sent() {
    let message = refusal("https://127.0.0.1:1", None);
    assert!(message.contains("uses TLS: give the file of its certificate authority"), "{message}");
}

#[test]
fn a_dead_endpoint_among_two_is_passed_over() {
    let etcd = EtcdCluster::start();
    let dir = tempfile::tempdir().unwrap();
    let dead = format!("https://127.0.0.1:{}", kubedr_testing::free_port());
    let endpoints = format!("{dead}, {}", etcd.endpoints());
    let used = save(&endpoints, Some(&credentials(etcd.client())), &dir.path().join("db")).unwrap();
    assert_eq!(used, etcd.endpoints());
}

#[test]
fn when_all_endpoints_are_dead_each_is_named_with_its_reason() {
    let etcd = EtcdCluster::start();
    let dead = format!("https://127.0.0.1:{}", kubedr_testing::free_port());
    let other = "https://nonexistent.invalid:2379";
    let message = refusal(&format!("{dead},{other}"), Some(&credentials(etcd.client())));
    assert!(message.contains("none of the 2 etcd endpoints"), "{message}");
    assert!(message.contains(&dead) && message.contains("nothing listens there"), "{message}");
    assert!(message.contains(other), "{message}");
}

#[test]
fn a_frozen_server_is_given_up_and_the_next_one_tried() {
    let etcd = EtcdCluster::start();
    etcd.member(0).pause();
    let since = Instant::now();
    let message = refusal(&etcd.endpoints(), Some(&credentials(etcd.client())));
    assert!(since.elapsed() < Duration::from_secs(15), "{:?}", since.elapsed());
    assert!(message.contains("hangs"), "{message}");
    etcd.member(0).resume();
}

#[test]
fn a_server_killed_in_the_middle_of_a_snapshot_makes_the_reader_fail() {
    let mut etcd = EtcdCluster::start();
    etcd.fill("/many/", 30_000, 2000);
    let (begun, wait_begun) = std::sync::mpsc::channel();
    let (killed, wait_killed) = std::sync::mpsc::channel();
    let endpoints = etcd.endpoints();
    let credentials = credentials(etcd.client());
    let reading = std::thread::spawn(move || {
        with_snapshot(&endpoints, Some(&credentials), move |mut snapshot| {
            let mut some = vec![0; 100_000];
            snapshot.reader.read_exact(&mut some).unwrap();
            begun.send(()).unwrap();
            wait_killed.recv().unwrap();
            let mut rest = Vec::new();
            let error = snapshot.reader.read_to_end(&mut rest).unwrap_err();
            assert!((rest.len() as u64) < snapshot.size);
            assert!(snapshot.reader.read(&mut some).is_err());
            error.to_string()
        })
    });
    wait_begun.recv().unwrap();
    etcd.member_mut(0).kill();
    killed.send(()).unwrap();
    let message = reading.join().unwrap().unwrap();
    println!("{message}");
    assert!(message.contains("the snapshot stream of etcd at") && message.contains("broke"), "{message}");
}

#[test]
fn a_server_frozen_in_the_middle_of_a_snapshot_makes_the_reader_fail() {
    let etcd = EtcdCluster::start();
    etcd.fill("/many/", 30_000, 2000);
    let (begun, wait_begun) = std::sync::mpsc::channel();
    let (frozen, wait_frozen) = std::sync::mpsc::channel();
    let endpoints = etcd.endpoints();
    let credentials = credentials(etcd.client());
    let reading = std::thread::spawn(move || {
        with_snapshot(&endpoints, Some(&credentials), move |mut snapshot| {
            begun.send(()).unwrap();
            wait_frozen.recv().unwrap();
            std::io::copy(&mut snapshot.reader, &mut std::io::sink()).unwrap_err().to_string()
        })
    });
    wait_begun.recv().unwrap();
    etcd.member(0).pause();
    let since = Instant::now();
    frozen.send(()).unwrap();
    let message = reading.join().unwrap().unwrap();
    println!("{message}");
    assert!(since.elapsed() < Duration::from_secs(40), "{:?}", since.elapsed());
    etcd.member(0).resume();
}

#[test]
fn a_follower_is_asked_and_a_learner_never() {
    let mut etcd = EtcdCluster::start_cluster(3);
    etcd.add_learner();
    let dir = tempfile::tempdir().unwrap();
    let credentials = credentials(etcd.client());
    let used = save(&etcd.endpoints(), Some(&credentials), &dir.path().join("db")).unwrap();
    let leader = etcd.leader();
    let follower = (0..3).find(|number| *number != leader).unwrap();
    assert_eq!(used, etcd.member(follower).endpoint());

    let message = refusal(&etcd.member(3).endpoint(), Some(&credentials));
    assert!(message.contains("it is a learner"), "{message}");

    for number in (0..3).filter(|number| *number != follower) {
        etcd.member_mut(number).kill();
    }
    kubedr_testing::wait_until("the last voter knows no leader", Duration::from_secs(20), || {
        with_snapshot(&etcd.endpoints(), Some(&credentials), drop).is_err()
    });
    let message = refusal(&etcd.endpoints(), Some(&credentials));
    assert!(message.contains("it knows no leader"), "{message}");
}

#[test]
fn a_member_under_the_alarm_corrupt_is_never_asked() {
    let etcd = EtcdCluster::start();
    raise_corrupt_alarm(&etcd);
    let message = refusal(&etcd.endpoints(), Some(&credentials(etcd.client())));
    assert!(message.contains("alarm CORRUPT"), "{message}");
}

fn raise_corrupt_alarm(etcd: &EtcdCluster) {
    let files = etcd.client();
    let tls = etcd_client::TlsOptions::new()
        .ca_certificate(etcd_client::Certificate::from_pem(fs::read(&files.ca).unwrap()))
        .identity(etcd_client::Identity::from_pem(
            fs::read(&files.cert).unwrap(),
            fs::read(&files.key).unwrap(),
        ));
    let options = etcd_client::ConnectOptions::new().with_tls(tls);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut client = etcd_client::Client::connect([etcd.endpoints()], Some(options)).await.unwrap();
        let member = client.status().await.unwrap().header().unwrap().member_id();
        let mut alarm = etcd_client::AlarmOptions::new();
        alarm.with_member(member);
        client.alarm(AlarmAction::Activate, AlarmType::Corrupt, Some(alarm)).await.unwrap();
    });
}

#[test]
fn the_wrong_scheme_is_recognised() {
    let etcd = EtcdCluster::start();
    let credentials = credentials(etcd.client());
    let plain = etcd.endpoints().replace("https://", "http://");
    let message = refusal(&plain, Some(&credentials));
    assert!(message.contains("https://"), "{message}");

    let server = S3Server::start();
    let tls = server.endpoint().replace("http://", "https://");
    let message = refusal(&tls, Some(&credentials));
    assert!(message.contains("does not speak TLS"), "{message}");
}
