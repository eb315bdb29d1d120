//! Under a real pseudo-terminal, which `script` of util-linux makes.

use std::process::Command;

use kubedr_testing::{assert_success, command as tool, run, text};

use crate::fixture::Ctl;

/// Runs a line of shell with `kubedrctl` in it on a terminal of so many columns, and gives back what came to the screen.
fn on_a_terminal(ctl: &Ctl, columns: usize, more: &[(&str, &str)], line: &str) -> String {
    let program = env!("CARGO_BIN_EXE_kubedrctl");
    let line = format!("stty cols {columns}; kubedrctl() {{ {program} \"$@\"; }}; {line}");
    let mut script: Command = tool("script");
    script.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    script.env_clear().env("PATH", "/usr/bin:/bin").env("SHELL", "/bin/bash").env("TERM", "xterm");
    script.envs(ctl.variables.iter().cloned()).envs(more.iter().copied());
    let output = run(&mut script);
    assert_success(&output);
    ctl.stable(&text(&output.stdout))
}

#[test]
fn progress_is_shown_on_a_terminal_and_gone_when_the_answer_comes() {
    let ctl = Ctl::local();
    let target = ctl.path("restored").display().to_string();
    let screen =
        on_a_terminal(&ctl, 80, &[], &format!("kubedrctl restore --targetdir {target} {}", ctl.ids[1]));
    assert!(screen.contains("opening the repository") && screen.contains("restoring"), "{screen:?}");
    let answer = screen.find("restored ID-00002").unwrap();
    assert!(!screen[answer..].contains("restoring"), "{screen:?}");
    // The line was cleared before the answer.
    assert!(screen[..answer].ends_with("\r\x1b[2K") || screen[..answer].ends_with("\x1b[0J"), "{screen:?}");
}

#[test]
fn the_answer_goes_into_a_pipe_or_file_and_the_progress_stays_on_the_terminal() {
    let ctl = Ctl::local();
    let file = ctl.path("answer");
    let screen = on_a_terminal(&ctl, 80, &[], &format!("kubedrctl list backups > {}", file.display()));
    assert!(screen.contains("reading the repository") && !screen.contains("ID-00001"), "{screen:?}");
    let answer = std::fs::read_to_string(&file).unwrap();
    assert_eq!(ctl.stable(&answer), ctl.ok(&["list", "backups"]), "the same as without a terminal");
    let screen = on_a_terminal(&ctl, 80, &[], "kubedrctl list backups 2> /dev/null");
    assert!(!screen.contains("reading the repository") && screen.contains("ID-00001"), "{screen:?}");
    // A reader that has seen enough is no failure.
    on_a_terminal(&ctl, 80, &[], "set -o pipefail; kubedrctl list backups | head -n 1");
}

#[test]
fn a_narrow_terminal_gets_fewer_columns() {
    let ctl = Ctl::local();
    let screen = |columns| {
        on_a_terminal(&ctl, columns, &[], "kubedrctl list backups 2> /dev/null").replace("\r\n", "\n")
    };
    insta::assert_snapshot!("terminal-80", screen(80));
    insta::assert_snapshot!("terminal-40", screen(40));
}

#[test]
fn a_terminal_that_takes_no_colours_gets_none() {
    let ctl = Ctl::local();
    let help = |more: &[(&str, &str)]| on_a_terminal(&ctl, 80, more, "kubedrctl --help");
    assert!(help(&[]).contains("\x1b["), "help is emphasised");
    for more in [&[("NO_COLOR", "1")][..], &[("TERM", "dumb")]] {
        assert!(!help(more).contains('\x1b'), "{more:?}");
    }
    let quiet = on_a_terminal(&ctl, 80, &[("TERM", "dumb")], "kubedrctl list backups");
    assert!(!quiet.contains('\x1b') && !quiet.contains("reading"), "{quiet:?}");
}
