//! Stock restic, the independent reader of our repositories.

use crate::tool;
use std::path::Path;
use std::process::{Command, Output};

/// How stock restic reaches one repository.
#[derive(Clone, Debug)]
pub struct Restic {
    repository: String,
    environment: Vec<(String, String)>,
    options: Vec<String>,
}

impl Restic {
    /// restic on a repository in its own notation (`s3:http://…/bucket` or a directory) with its password.
    #[must_use]
    pub fn new(repository: &str, password: &str) -> Self {
        Self {
            repository: repository.to_owned(),
            environment: vec![("RESTIC_PASSWORD".into(), password.into())],
            options: vec!["--no-cache".into()],
        }
    }

    /// With the keys of an S3 account.
    #[must_use]
    pub fn with_keys(mut self, access_key: &str, secret_key: &str) -> Self {
        self.environment.push(("AWS_ACCESS_KEY_ID".into(), access_key.into()));
        self.environment.push(("AWS_SECRET_ACCESS_KEY".into(), secret_key.into()));
        self
    }

    /// With the certificate authority of an S3 server with TLS.
    #[must_use]
    pub fn with_ca(mut self, file: &Path) -> Self {
        self.options.push("--cacert".into());
        self.options.push(file.display().to_string());
        self
    }

    /// The repository in restic's notation.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The repository's password.
    pub(crate) fn password(&self) -> &str {
        let password = self.environment.iter().find(|(name, _)| name == "RESTIC_PASSWORD");
        &password.expect("it was made with a password").1
    }

    /// The environment that restic gets, for a program that reads the same variables.
    #[must_use]
    pub fn environment(&self) -> &[(String, String)] {
        &self.environment
    }

    /// Runs `restic ARGS` to its end.
    #[must_use]
    pub fn run(&self, args: &[&str]) -> Output {
        crate::run(self.command().args(args))
    }

    /// Runs `restic ARGS`, fails the test when restic fails, and returns its standard output.
    #[must_use]
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_success(&output);
        text(&output.stdout)
    }

    /// Runs `restic ARGS --json` successfully and parses what it printed.
    #[must_use]
    pub fn json(&self, args: &[&str]) -> serde_json::Value {
        let out = self.ok(&[args, &["--json"]].concat());
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("restic printed no JSON: {error}: {out}"))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(tool("restic"));
        command.stdin(std::process::Stdio::null());
        command.args(["--repo", &self.repository]).args(&self.options);
        // restic's own default collects garbage five times as often as Go's, and takes a third more processor time.
        command.env("GOGC", "100");
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        command
    }
}

/// Fails the test, with all that was printed, unless the program succeeded.
pub fn assert_success(output: &Output) {
    assert!(
        output.status.success(),
        "the program failed, {}:\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
}

/// Output of a program as text.
#[must_use]
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
