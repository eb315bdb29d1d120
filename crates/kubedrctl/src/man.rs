//! `completion` and `man`: the command line described for shells and readers.

use std::{fs, io, path::Path};

use clap_complete::Shell;
use serde_json::json;

use crate::{answer::Answer, args::command, failure::Failure};

/// A script that completes commands and flags.
pub fn completion(shell: Shell) -> Result<Answer, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "kubedrctl", &mut script);
    let script = String::from_utf8(script).map_err(|error| Failure::Unexpected(error.to_string()))?;
    let document = json!({ "shell": shell.to_string(), "script": script });
    Answer::new(script, &document)
}

/// Writes a manual page for each command.
pub fn man(dir: &Path) -> Result<Answer, Failure> {
    let failed = |path: &Path, cause: &io::Error| {
        Failure::Target(format!(
            "cannot write `{}`: {cause}{}",
            path.display(),
            kubedr_restore::advice(cause)
        ))
    };
    fs::create_dir_all(dir).map_err(|cause| failed(dir, &cause))?;
    let mut command = command().disable_help_subcommand(true);
    // Gives each command the name of its page.
    command.build();
    let mut pages = Vec::new();
    for command in with_all_below(&command) {
        let page =
            clap_mangen::Man::new(command.clone()).generate_to(dir).map_err(|cause| failed(dir, &cause))?;
        pages.push(page.display().to_string());
    }
    let text = pages.join("\n") + "\n";
    Answer::new(text, &json!({ "pages": pages }))
}

/// The command and all below it, parents before children.
fn with_all_below(command: &clap::Command) -> Vec<&clap::Command> {
    let mut all = vec![command];
    all.extend(command.get_subcommands().flat_map(with_all_below));
    all
}
