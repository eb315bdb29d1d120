//! A server that ends with the test.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A child process whose output goes to a file, and that is killed when this is dropped.
///
/// Between us and the server stands a shell that waits for the end of its standard input: it kills the server also when the
/// test process dies without running any destructor, as it does for a server kept in a `static`.
#[derive(Debug)]
pub struct ServerProcess {
    shell: Child,
    /// Held open for as long as the server shall live.
    lifeline: Option<ChildStdin>,
    pid: u32,
    log: PathBuf,
}

const SUPERVISE: &str = r#"log=$1; shift
"$@" </dev/null >>"$log" 2>&1 &
echo $!
exec >/dev/null
cat >/dev/null
kill -KILL $! 2>/dev/null
wait"#;

impl ServerProcess {
    /// Starts `command` (its program, arguments and environment) with its output appended to `log`.
    #[must_use]
    pub fn start(command: &Command, log: &Path) -> Self {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(SUPERVISE).arg("sh").arg(log).arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(key, value),
                None => shell.env_remove(key),
            };
        }
        // A process group of its own: Ctrl-C must not end the shell before it has ended the server.
        std::os::unix::process::CommandExt::process_group(&mut shell, 0);
        let mut shell = shell
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let lifeline = shell.stdin.take();
        let mut first_line = String::new();
        if let Some(stdout) = shell.stdout.take() {
            BufReader::new(stdout).read_line(&mut first_line).expect("the shell prints a pid");
        }
        let pid = first_line.trim().parse().expect("the shell prints a pid");
        Self { shell, lifeline, pid, log: log.to_owned() }
    }

    /// The process id of the server itself.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Freezes the server: its connections stay open and nothing answers.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    /// Lets a frozen server go on.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    /// Kills the server without warning, and waits until it is gone.
    pub fn kill(&mut self) {
        self.lifeline = None;
        let _ = self.shell.wait();
    }

    /// Waits until `ready` says so; a server that ends before, or takes longer than 30 s, fails the test with its log.
    pub fn wait_ready(&mut self, ready: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !ready() {
            assert!(
                self.is_running() && Instant::now() < deadline,
                "the server did not become ready:\n{}",
                self.log()
            );
            sleep(Duration::from_millis(20));
        }
    }

    /// What the server has printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn is_running(&self) -> bool {
        // A process that ended and that the shell has not waited for yet is a zombie: state Z, after the name in brackets.
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)) else { return false };
        stat.rsplit(") ").next().is_some_and(|rest| !rest.starts_with('Z'))
    }

    fn signal(&self, name: &str) {
        let done = Command::new("sh").args(["-c", &format!("kill -{name} {}", self.pid)]).status();
        assert!(done.is_ok_and(|status| status.success()), "cannot send SIG{name} to {}", self.pid);
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port of the loopback interface on which nothing listens now.
///
/// It lies below the range that the kernel gives to outgoing connections, so that a server can come back on its port.
#[must_use]
pub fn free_port() -> u16 {
    use std::hash::{BuildHasher, RandomState};
    for attempt in 0..1000_u16 {
        let offset = RandomState::new().hash_one(attempt) % 14_000;
        let port = 16_000 + u16::try_from(offset).expect("less than 14000");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port on the loopback interface");
}

/// Polls `condition` until it holds; fails the test after `limit`, naming `what` was awaited.
pub fn wait_until(what: &str, limit: Duration, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + limit;
    while !condition() {
        assert!(Instant::now() < deadline, "waited {limit:?} in vain until {what}");
        sleep(Duration::from_millis(20));
    }
}
