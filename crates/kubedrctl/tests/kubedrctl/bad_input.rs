//! What goes wrong at three in the morning: each has its message and its exit code.

use std::fmt::Write;

use kubedr_testing::S3Server;

use crate::fixture::Ctl;

#[test]
fn each_mistake_has_its_message_and_exit_code() {
    let server = S3Server::start();
    let (mut ctl, target) = (Ctl::in_bucket(&server), "--targetdir=/proc/kubedr/restored");
    server.create_bucket("empty");
    let repo = |bucket: &str| format!("--repo={}", server.repository(bucket));
    let mut said = String::new();
    let mut note = |what: &str, exit_code: i32, message: String| {
        let _ = writeln!(said, "# {what}: exit code {exit_code}\n{message}");
    };
    for (what, exit_code, args) in [
        ("a bucket that does not exist", 4, vec!["list", "backups", &repo("nosuch")]),
        ("a bucket that is no repository", 4, vec!["list", "backups", &repo("empty")]),
        ("a wrong password", 4, vec!["list", "backups", "--repopwd=wrong"]),
        ("a wrong secret key", 4, vec!["list", "backups", "--secretkey=wrong"]),
        ("no such snapshot", 4, vec!["show", "0000000000000000"]),
        ("a snapshot that is no backup", 4, vec!["show", ctl.ids[2].short()]),
        (
            "no snapshot with the tag",
            2,
            vec!["restore", "--targetdir=/tmp/none", "--tag=policy=none", "latest"],
        ),
        ("a target that cannot be written", 7, vec!["restore", target, ctl.ids[0].short()]),
        ("a location that is none", 2, vec!["list", "backups", "--repo=sftp:host:/path"]),
        ("a bucket without an endpoint", 2, vec!["list", "backups", "--bucket=b"]),
        ("a password file that is not there", 2, vec!["list", "backups", "--password-file=/none"]),
    ] {
        note(what, exit_code, ctl.fails(exit_code, &args));
    }
    ctl.set("RESTIC_PASSWORD", "");
    note("no password", 2, ctl.fails(2, &["list", "backups"]));
    insta::assert_snapshot!("bad-input", said.replace(&server.endpoint(), "ENDPOINT"));
}

#[test]
fn a_prefix_that_fits_two_is_refused_with_both() {
    let mut ctl = Ctl::local();
    // Of 17 ids at least two begin with the same digit.
    ctl.add(14);
    let twice = ctl.ids.iter().map(|id| &id.as_str()[..1]);
    let digit = twice.clone().find(|digit| twice.clone().filter(|other| other == digit).count() > 1).unwrap();
    let both: Vec<_> = ctl.ids.iter().filter(|id| id.as_str().starts_with(digit)).collect();
    let output = ctl.run(&["show", digit]);
    assert_eq!(output.status.code(), Some(4));
    let said = kubedr_testing::text(&output.stderr);
    assert!(said.contains(&format!("`{digit}` is the beginning of {} snapshots", both.len())), "{said}");
    assert!(said.contains("give more digits"), "{said}");
    let named = both.iter().filter(|id| said.contains(id.short())).count();
    assert_eq!(named, both.len().min(4), "{said}");
}

#[test]
fn a_failure_is_a_document_too() {
    let ctl = Ctl::empty(tempfile::tempdir().unwrap(), "/none");
    let output = ctl.run(&["list", "backups", "--output=json"]);
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let (said, error) = (kubedr_testing::text(&output.stderr), document["error"].as_str().unwrap());
    assert_eq!(said, format!("kubedrctl: {error}\n"));
    assert_eq!((document["exitCode"].as_i64(), output.status.code()), (Some(4), Some(4)));
}

#[test]
fn an_unknown_flag_is_refused_by_name() {
    let output =
        Ctl::empty(tempfile::tempdir().unwrap(), "/none").run(&["list", "backups", "--no-such-flag"]);
    assert_eq!(output.status.code(), Some(2));
    insta::assert_snapshot!("unknown-flag", kubedr_testing::text(&output.stderr));
}

#[test]
fn a_server_that_does_not_answer_is_named() {
    let mut server = S3Server::start();
    let ctl = Ctl::in_bucket(&server);
    server.kill();
    let said = ctl.fails(4, &["list", "backups"]);
    assert!(said.contains("ENDPOINT") && said.contains("nothing answers"), "{said}");
}
