//! What it does in a repository.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use kubedr_repo::{Location, LockHolder, LockMode, LockOptions, Repository};
use kubedr_testing::{S3Server, assert_success, command as tool, text, wait_until};
use serde_json::{Value, json};

use crate::fixture::{CLUSTER, Ctl, PASSWORD};

#[test]
fn backups_are_listed_shown_and_brought_back() {
    let ctl = Ctl::local();
    insta::assert_snapshot!("list", ctl.ok(&["list", "backups"]));
    insta::assert_snapshot!("show", ctl.ok(&["show", ctl.ids[1].as_str()]));
}

#[test]
fn json_is_one_document_with_all_of_it() {
    let ctl = Ctl::local();
    let listing = ctl.json(&["list", "backups"]);
    assert_eq!(listing["backups"].as_array().unwrap().len(), 2);
    assert_eq!(listing["backups"][1]["id"], ctl.ids[1].as_str());
    assert_eq!(listing["backups"][1]["certificates"], true);
    assert_eq!(listing["otherSnapshots"], 1);
    let tagged = ctl.json(&["list", "backups", "--tag=policy=none"]);
    assert_eq!((&tagged["backups"], &tagged["otherSnapshots"]), (&json!([]), &json!(0)));
    assert_eq!(tagged["withoutTags"], 3);
    let shown = ctl.json(&["show", ctl.ids[0].short()]);
    assert_eq!((&shown["policy"], &shown["certificates"]), (&json!("nightly"), &json!(false)));
    assert_eq!(ctl.json(&["check"])["ok"], true);
    assert_eq!(ctl.json(&["init"])["outcome"], "attached");
    let target = ctl.path("json");
    let restored = ctl.json(&["restore", "--targetdir", target.to_str().unwrap(), ctl.ids[1].short()]);
    assert_eq!(restored["certificates"], json!(target.join("data/certificates")));
}

#[test]
fn a_list_without_backups_says_whether_the_tags_fit_none_or_none_can_be_read() {
    let ctl = Ctl::local();
    let others = |lack: &str| {
        format!("snapshots that lack {lack}: 3; leave out `--tag` to see the backups among them\n")
    };
    assert_eq!(
        ctl.ok(&["list", "backups", "--tag=policy=nigthly"]),
        format!("no backups with `policy=nigthly` in `DIR/repository`; {}", others("that tag"))
    );
    assert_eq!(
        ctl.ok(&["list", "backups", "--tag=policy=nigthly", "--tag=location=s3"]),
        format!(
            "no backups with `policy=nigthly` and `location=s3` in `DIR/repository`; {}",
            others("one of these tags")
        )
    );
    for snapshot in fs::read_dir(ctl.path("repository/snapshots")).unwrap() {
        let file = snapshot.unwrap().path();
        fs::remove_file(&file).unwrap();
        fs::write(file, "damaged").unwrap();
    }
    let output = ctl.run(&["list", "backups"]);
    assert_eq!(output.status.code(), Some(4));
    assert_eq!(ctl.stable(&text(&output.stdout)), "no readable backups in `DIR/repository`\n");
    let said = text(&output.stderr);
    assert!(said.contains("3 of the snapshots cannot be read"), "{said}");
}

#[test]
fn a_restore_leaves_the_files_and_says_where_they_are() {
    let ctl = Ctl::local();
    let target = ctl.path("restored");
    let to = ["restore", "--targetdir", target.to_str().unwrap()];
    let record = format!("mbr-{}", ctl.ids[1].short());
    insta::assert_snapshot!("restore", ctl.ok(&[&to[..], &[&record]].concat()));
    let data = target.join("data");
    assert_eq!(fs::metadata(data.join("etcd-snapshot.db")).unwrap().len(), 1_000_032);
    assert_eq!(fs::read_to_string(data.join("certificates/ca.crt")).unwrap(), "certificate");
    assert_eq!(fs::read_dir(&target).unwrap().count(), 1, "nothing else is left");

    let said = ctl.fails(2, &[&to[..], &[&record]].concat());
    insta::assert_snapshot!("target-in-use", said);
    let first = ctl.ids[0].as_str();
    ctl.ok(&[&to[..], &["--overwrite", first]].concat());
    assert!(!data.join("certificates").exists(), "the first backup has none");
    let said = ctl.ok(&[&to[..], &["--overwrite", "--tag=policy=nightly", "latest"]].concat());
    assert!(said.starts_with("restored ID-00002 "), "{said}");
}

#[test]
fn a_restore_that_is_ended_by_a_signal_leaves_nothing_and_what_a_killed_one_left_the_next_removes() {
    let ctl = Ctl::local();
    // Whoever reads the largest pack waits for somebody to write into it: the restore does not come to its end.
    let packs = fs::read_dir(ctl.path("repository/data")).unwrap();
    let packs =
        packs.flat_map(|dir| fs::read_dir(dir.unwrap().path()).unwrap()).map(|pack| pack.unwrap().path());
    let largest = packs.max_by_key(|pack| pack.metadata().unwrap().len()).unwrap();
    fs::rename(&largest, ctl.path("pack")).unwrap();
    assert_success(&tool("mkfifo").arg(&largest).output().unwrap());
    let (target, id) = (ctl.path("restored"), ctl.ids[1].short());
    let args = ["restore", "--targetdir", target.to_str().unwrap(), id];
    let staging = target.join(".kubedr-restore");
    let ended_by = |signal: &str| {
        let child = ctl.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        wait_until("it writes", Duration::from_secs(30), || {
            fs::read_dir(staging.join("data")).is_ok_and(|mut files| files.next().is_some())
        });
        assert_success(&tool("kill").args([signal, &child.id().to_string()]).output().unwrap());
        child.wait_with_output().unwrap()
    };
    for (signal, exit_code) in [("-INT", 130), ("-TERM", 143)] {
        let output = ended_by(signal);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(exit_code), "{said}");
        assert!(said.contains("before it had finished"), "{said}");
        assert_eq!(fs::read_dir(&target).unwrap().count(), 0, "{said}");
    }
    ended_by("-KILL");
    assert!(staging.exists(), "it could not clear that away");
    fs::rename(ctl.path("pack"), &largest).unwrap();
    let output = ctl.run(&args);
    assert_success(&output);
    let said = text(&output.stderr);
    assert!(said.contains("what it left is removed") && said.contains(".kubedr-restore"), "{said}");
    assert_eq!(fs::read_dir(&target).unwrap().count(), 1, "only `data`");
}

#[test]
fn of_two_clusters_the_latest_backup_is_taken_only_if_it_is_said_whose() {
    let mut ctl = Ctl::local();
    ctl.add_tagged(1, &["cluster=another-cluster", "policy=nightly"]);
    let target = ctl.path("restored");
    let to = ["restore", "--targetdir", target.to_str().unwrap()];
    for args in [&["show"][..], &to[..], &[&to[..], &["--tag=policy=nightly"]].concat()] {
        let said = ctl.fails(2, &[args, &["latest"]].concat());
        assert!(
            said.contains(CLUSTER)
                && said.contains("`another-cluster`")
                && said.contains("--tag cluster=UID"),
            "{said}"
        );
        assert!(!target.exists(), "nothing was written");
    }
    let ours = format!("--tag=cluster={CLUSTER}");
    let said = ctl.ok(&[&to[..], &[&ours, "latest"]].concat());
    assert!(said.starts_with("restored ID-00002 "), "{said}");
}

#[test]
fn the_flags_of_kubedr_0_x_lead_to_a_bucket() {
    let server = S3Server::start();
    let ctl = Ctl::in_bucket(&server);
    let (endpoint, access, secret) = (server.endpoint(), server.access_key(), server.secret_key());
    let flags = [
        "--accesskey",
        access,
        "--secretkey",
        secret,
        "--repopwd",
        PASSWORD,
        "--endpoint",
        &endpoint,
        "--bucket",
        "backups",
    ];
    let run = |args: &[&str]| {
        let output = crate::fixture::command().args(args).args(flags).output().unwrap();
        assert_success(&output);
        ctl.stable(&text(&output.stdout))
    };
    assert!(run(&["list", "backups"]).contains("ID-00002"));
    let target = ctl.path("restored");
    let said = run(&["restore", "--targetdir", target.to_str().unwrap(), ctl.ids[1].short()]);
    assert!(
        said.starts_with("restored ID-00002 ") && target.join("data/certificates/ca.crt").exists(),
        "{said}"
    );
    assert_eq!(
        run(&["check", "--read-data"]),
        "no damage found in `s3:ENDPOINT/backups` (every byte was read)\n"
    );
    assert_eq!(
        server.restic("backups", PASSWORD).ok(&["list", "locks"]).trim(),
        "",
        "the lock is given back"
    );

    let init = |prefix: &str| run(&["init", "--prefix", prefix]);
    assert_eq!(init("clusters/berlin"), "made a repository at `s3:ENDPOINT/backups/clusters/berlin`\n");
    assert!(init("clusters/berlin").starts_with("there is a repository already"));
    assert_eq!(
        run(&["list", "backups", "--prefix=clusters/berlin"]),
        "no backups in `s3:ENDPOINT/backups/clusters/berlin`\n"
    );
}

#[test]
fn the_environment_of_restic_and_aws_leads_there_too() {
    let server = S3Server::start();
    let mut ctl = Ctl::in_bucket(&server);
    assert!(ctl.ok(&["list", "backups"]).contains("ID-00002"));
    // A flag wins over its variable.
    let elsewhere = ctl.path("nowhere").display().to_string();
    ctl.fails(4, &["list", "backups", "--repo", &elsewhere]);
    let file = ctl.path("password");
    fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    ctl.set("RESTIC_PASSWORD", "wrong");
    ctl.fails(4, &["list", "backups"]);
    ctl.set("RESTIC_PASSWORD_FILE", file.to_str().unwrap());
    assert!(ctl.ok(&["list", "backups"]).contains("ID-00002"));
    ctl.set("RESTIC_REPOSITORY", "");
    ctl.set("AWS_ENDPOINT_URL_S3", &server.endpoint());
    assert!(ctl.ok(&["list", "backups", "--bucket=backups"]).contains("ID-00002"));
}

#[test]
fn a_server_with_a_private_authority_is_trusted_by_its_file() {
    let server = S3Server::start_tls();
    server.create_bucket("backups");
    let mut ctl = Ctl::empty(tempfile::tempdir().unwrap(), &server.repository("backups"));
    ctl.set("AWS_ACCESS_KEY_ID", server.access_key());
    ctl.set("AWS_SECRET_ACCESS_KEY", server.secret_key());
    let said = ctl.fails(4, &["init"]);
    assert!(said.contains("`--cacert FILE`"), "{said}");
    let ca = server.ca_file().unwrap();
    ctl.ok(&["init", "--cacert", ca.to_str().unwrap()]);
    ctl.ok(&["list", "backups", "--insecure-skip-tls-verify"]);
}

#[test]
fn damage_is_told_and_is_a_failure() {
    let ctl = Ctl::local();
    let repository = Repository::open(&Location::Local(ctl.path("repository")), &PASSWORD.into()).unwrap();
    assert_eq!(repository.snapshots().unwrap().len(), 3);
    let packs = fs::read_dir(ctl.path("repository/data")).unwrap();
    for pack in packs.flat_map(|dir| fs::read_dir(dir.unwrap().path()).unwrap()) {
        fs::remove_file(pack.unwrap().path()).unwrap();
    }
    let said = ctl.fails(4, &["check"]);
    assert!(said.contains("`DIR/repository` is damaged"), "{said}");
    let output = ctl.run(&["check"]);
    assert!(text(&output.stdout).contains("DAMAGED in"), "{}", text(&output.stdout));
    let said = ctl.fails(4, &["restore", "--targetdir", ctl.path("t").to_str().unwrap(), ctl.ids[0].short()]);
    assert!(said.contains("damaged"), "{said}");
}

#[test]
fn a_damaged_snapshot_is_named_and_the_others_are_listed_and_restored() {
    let ctl = Ctl::local();
    let file = ctl.path("repository/snapshots").join(ctl.ids[0].as_str());
    fs::remove_file(&file).unwrap();
    fs::write(file, "damaged").unwrap();
    let said = ctl.fails(4, &["list", "backups"]);
    assert!(said.contains("1 of the snapshots cannot be read, the first of them `FULL-ID-1`"), "{said}");
    let listing: Value = serde_json::from_slice(&ctl.run(&["list", "backups", "-o", "json"]).stdout).unwrap();
    assert_eq!(
        (&listing["backups"][0]["id"], &listing["otherSnapshots"]),
        (&json!(ctl.ids[1].as_str()), &json!(1))
    );
    ctl.ok(&["restore", "--targetdir", ctl.path("t").to_str().unwrap(), ctl.ids[1].short()]);
}

#[test]
fn a_check_waits_for_the_lock_of_others_and_ctrl_c_ends_that() {
    let ctl = Ctl::local();
    let repository = Repository::open(&Location::Local(ctl.path("repository")), &PASSWORD.into()).unwrap();
    let guard = repository
        .lock(&LockOptions {
            holder: LockHolder { hostname: "elsewhere".into(), username: "somebody".into() },
            mode: LockMode::Exclusive,
            wait: Duration::ZERO,
            is_gone: &|_| false,
            waiting: &|_| {},
        })
        .unwrap();
    let said = ctl.fails(4, &["check", "--lock-wait=1s"]);
    assert!(said.contains("is locked") && said.contains("somebody"), "{said}");
    let mut child = ctl.command(&["check"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    stderr.read_line(&mut said).unwrap();
    assert!(said.contains("waiting for a lock") && said.contains("somebody"), "{said}");
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    drop(guard);
    assert_eq!(repository.locks().unwrap().len(), 0);
    ctl.ok(&["check", "--no-lock"]);
}
