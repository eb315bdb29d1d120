//! What it says about itself.

use std::{fs, os::unix::fs::symlink};

use kubedr_testing::{assert_success, command as tool, run, text};

use crate::fixture::command;

fn help(args: &[&str]) -> String {
    let output = command().args(args).output().unwrap();
    assert_success(&output);
    text(&output.stdout)
}

#[test]
fn help_has_sections_examples_variables_and_exit_codes() {
    insta::assert_snapshot!("help", help(&["--help"]));
    insta::assert_snapshot!("help-restore", help(&["restore", "--help"]));
    insta::assert_snapshot!("help-status", help(&["status", "-h"]));
}

#[test]
fn as_a_plugin_of_kubectl_it_calls_itself_so() {
    let dir = tempfile::tempdir().unwrap();
    let plugin = dir.path().join("kubectl-kubedr");
    symlink(env!("CARGO_BIN_EXE_kubedrctl"), &plugin).unwrap();
    let mut kubectl = tool("kubectl");
    let path = format!("{}:/usr/bin:/bin", dir.path().display());
    kubectl.env_clear().env("PATH", path).env("HOME", dir.path());
    let output = run(kubectl.args(["kubedr", "restore", "--help"]));
    assert_success(&output);
    let said = text(&output.stdout);
    assert!(said.contains("Usage: kubectl kubedr restore [OPTIONS] --targetdir <DIR> <ID>"), "{said}");
    let mut plugin = std::process::Command::new(&plugin);
    let said = text(&plugin.env_clear().arg("--help").output().unwrap().stdout);
    assert!(
        said.contains("  kubectl kubedr list backups --endpoint") && !said.contains("  kubedrctl "),
        "{said}"
    );
}

#[test]
fn shells_complete_what_there_is() {
    for (shell, mark) in
        [("bash", "complete -F"), ("zsh", "#compdef kubedrctl"), ("fish", "complete -c kubedrctl")]
    {
        let script = help(&["completion", shell]);
        assert!(script.contains(mark) && script.contains("targetdir"), "{shell}: {script}");
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("completion");
    fs::write(&file, help(&["completion", "bash"])).unwrap();
    let line = format!(
        "source {}; COMP_WORDS=(kubedrctl re); COMP_CWORD=1; _kubedrctl kubedrctl re kubedrctl; echo \"${{COMPREPLY[*]}}\"",
        file.display()
    );
    let output = run(tool("bash").args(["-c", &line]));
    assert_success(&output);
    assert_eq!(text(&output.stdout).trim(), "restore");
}

#[test]
fn there_is_a_manual_page_for_each_command() {
    let dir = tempfile::tempdir().unwrap();
    let man = dir.path().join("man1");
    let pages = help(&["man", man.to_str().unwrap()]);
    for name in ["kubedrctl", "kubedrctl-list-backups", "kubedrctl-restore", "kubedrctl-backup-now"] {
        let page = man.join(format!("{name}.1"));
        assert!(pages.contains(page.to_str().unwrap()), "{pages}");
        let said = fs::read_to_string(page).unwrap();
        assert!(said.contains(".SH SYNOPSIS") && said.contains(".TH"), "{said}");
    }
    let restore = fs::read_to_string(man.join("kubedrctl-restore.1")).unwrap();
    assert!(restore.contains("targetdir"), "{restore}");
}
