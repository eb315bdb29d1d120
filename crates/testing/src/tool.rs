//! Where the programs are that tests run.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// The path of a program: one that `make tools` built, or else one of the machine's `PATH`.
///
/// The directory of built programs is `KUBEDR_TOOLS`, or what `e2e/cluster/build bin-dir` prints.
#[must_use]
pub fn tool(name: &str) -> PathBuf {
    let built = built_tools().join(name);
    if built.is_file() {
        return built;
    }
    env::var_os("PATH")
        .and_then(|path| env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file()))
        .unwrap_or_else(|| {
            panic!("`{name}` is neither in `{}` nor in PATH: run make tools", built_tools().display())
        })
}

/// The path of `prometheus` or `promtool`, from Debian's package.
#[must_use]
pub fn prometheus_tool(name: &str) -> PathBuf {
    let program = ask_the_build_script("prometheus-dir").join(name);
    assert!(program.is_file(), "`{}` is missing: run make apt", program.display());
    program
}

/// A command for a program of [`tool`], with nothing on its standard input.
#[must_use]
pub fn command(name: &str) -> Command {
    let mut command = Command::new(tool(name));
    command.stdin(Stdio::null());
    command
}

/// Runs a command to its end and returns what it printed, whatever its exit code.
pub fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"))
}

fn built_tools() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| match env::var_os("KUBEDR_TOOLS") {
        Some(dir) => PathBuf::from(dir),
        None => ask_the_build_script("bin-dir"),
    })
}

fn ask_the_build_script(what: &str) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../e2e/cluster/build");
    let answer = Command::new(&script).arg(what).output();
    let answer = answer.unwrap_or_else(|error| panic!("cannot run `{}`: {error}", script.display()));
    let dir = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
    assert!(
        answer.status.success() && !dir.is_empty(),
        "`{} {what}` names no directory: run make tools",
        script.display()
    );
    PathBuf::from(dir)
}
