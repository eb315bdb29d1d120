//! Nobody on the machine sees a secret that came by the environment or a file.

use std::{fs, process::Stdio, time::Duration};

use kubedr_testing::{S3Server, text, wait_until};

use crate::fixture::{Ctl, PASSWORD};

#[test]
fn ps_shows_no_secret_of_the_environment_or_of_a_file() {
    let server = S3Server::start();
    let mut ctl = Ctl::in_bucket(&server);
    ctl.set("RESTIC_PASSWORD", "");
    let file = ctl.path("password");
    fs::write(&file, PASSWORD).unwrap();
    ctl.set("RESTIC_PASSWORD_FILE", file.to_str().unwrap());
    // Frozen, so that it can be looked at.
    server.pause();
    let mut child =
        ctl.command(&["list", "backups"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // What `ps` shows.
    let arguments = || text(&fs::read(format!("/proc/{}/cmdline", child.id())).unwrap()).replace('\0', " ");
    wait_until("the program runs", Duration::from_secs(10), || arguments().contains("list backups"));
    let shown = arguments();
    for secret in [PASSWORD, server.secret_key(), server.access_key()] {
        assert!(!shown.contains(secret), "{shown}");
    }
    server.resume();
    assert!(child.wait().unwrap().success());
}

#[test]
fn no_output_holds_a_secret() {
    let server = S3Server::start();
    let ctl = Ctl::in_bucket(&server);
    for args in
        [&["list", "backups"][..], &["check", "-v"], &["show", "none"], &["init", "--repopwd=another-one"]]
    {
        let output = ctl.run(&[args, &["-o", "json", "--verbose"]].concat());
        let said = text(&output.stdout) + &text(&output.stderr);
        for secret in [PASSWORD, server.secret_key(), "another-one"] {
            assert!(!said.contains(secret), "{args:?}: {said}");
        }
    }
}
