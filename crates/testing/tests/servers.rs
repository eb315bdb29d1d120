//! The servers themselves: what other crates' tests take for granted.

use kubedr_testing::{EtcdCluster, KeyKind, ManyBackups, Restic, S3Server, wait_until};
use std::net::TcpStream;
use std::time::Duration;

#[test]
fn restic_reads_its_repository_again_after_the_server_was_killed_and_restarted() {
    let mut server = S3Server::start();
    let _ = server.restic("first", "password").ok(&["init"]);
    server.kill();
    let address = server.endpoint().replace("http://", "");
    assert!(TcpStream::connect(&address).is_err(), "a killed server still accepts connections");
    server.restart();
    let _ = server.restic("first", "password").ok(&["snapshots"]);
    assert!(server.bucket_dir("first").join("config").is_file());
}

#[test]
fn backups_that_are_written_file_by_file_are_right_to_restic_and_each_of_its_requests_is_counted() {
    let server = S3Server::start();
    let restic = server.restic("many", "password");
    let _ = restic.ok(&["init"]);
    let many = ManyBackups { count: 3, blobs: 20, new_blobs: 5, blob_size: 1000 };
    let written = many.write(&restic, &server.bucket_dir("many"));
    let listed = restic.json(&["snapshots"]);
    let listed: Vec<_> = listed.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!(listed, written);
    let _ = restic.ok(&["check", "--read-data"]);
    let before = server.requests("many");
    let _ = restic.ok(&["forget", &written[0]]);
    let asked = |operation: &str| server.requests("many")[operation] - before[operation];
    assert_eq!(asked("DeleteObject"), 2, "the snapshot and the lock");
    assert_eq!(server.requests("other").len(), 0);
}

#[test]
fn an_s3_server_with_tls_is_known_by_its_authority() {
    let server = S3Server::start_tls();
    assert!(server.endpoint().starts_with("https://") && server.ca_pem().is_some());
    let _ = server.restic("secure", "password").ok(&["init"]);
}

#[test]
fn an_account_does_not_see_somebody_elses_bucket() {
    let server = S3Server::start();
    let (mine, theirs) = (server.create_account(), server.create_account());
    server.create_bucket_of(&theirs, "theirs");
    let as_account = |account: &kubedr_testing::Account| {
        Restic::new(&server.repository("theirs"), "password")
            .with_keys(&account.access_key, &account.secret_key)
            .run(&["init"])
    };
    assert!(!as_account(&mine).status.success());
    kubedr_testing::assert_success(&as_account(&theirs));
}

#[test]
fn etcd_serves_its_clients_and_a_snapshot_of_it_starts_a_new_member() {
    let etcd = EtcdCluster::start();
    etcd.fill("/many/", 5000, 100);
    etcd.put("/one", "marker value");
    assert_eq!(etcd.count("/many/"), 5000);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("snapshot.db");
    kubedr_testing::assert_success(&etcd.etcdctl(&["snapshot", "save", file.to_str().unwrap()]));
    let restored = EtcdCluster::start_from_snapshot(&file);
    assert_eq!(restored.get("/one").as_deref(), Some("marker value"));
    assert_eq!(restored.get("/none"), None);
    assert_eq!(restored.count("/many/"), 5000);
}

#[test]
fn a_cluster_goes_on_without_one_of_its_members() {
    let mut etcd = EtcdCluster::start_cluster(3);
    let leader = etcd.leader();
    etcd.put("/a", "1");
    etcd.member_mut(leader).kill();
    wait_until("another member leads", Duration::from_secs(20), || {
        etcd.etcdctl(&["put", "/b", "2"]).status.success()
    });
    assert_eq!(etcd.get("/a").as_deref(), Some("1"));
}

#[test]
fn keys_come_in_the_encodings_that_admins_have() {
    let dir = tempfile::tempdir().unwrap();
    let pki = kubedr_testing::Pki::new(dir.path());
    let first_line = |kind| {
        let key = std::fs::read_to_string(pki.client("client", kind).key).unwrap();
        key.lines().next().unwrap().to_owned()
    };
    assert_eq!(first_line(KeyKind::EcP256Sec1), "-----BEGIN EC PRIVATE KEY-----");
    assert_eq!(first_line(KeyKind::RsaPkcs1), "-----BEGIN RSA PRIVATE KEY-----");
    assert_eq!(first_line(KeyKind::Ed25519), "-----BEGIN PRIVATE KEY-----");
}
