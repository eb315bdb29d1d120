//! A picture of what a command shows on a terminal, with its colours.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anstyle_svg::{Term, WIN10_CONSOLE};
use anyhow::{Context, ensure};

/// Columns of the terminal: as many as a page shows without shrinking the letters.
const COLUMNS: usize = 100;

/// Runs the command on a terminal and draws what it shows into the file.
pub fn draw(file: &Path, command: &[String]) -> anyhow::Result<()> {
    let picture = Term::new().palette(WIN10_CONSOLE).render_svg(&screen(command)?);
    let dir = file.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(dir).with_context(|| format!("cannot create `{}`", dir.display()))?;
    fs::write(file, picture).with_context(|| format!("cannot write `{}`", file.display()))
}

/// The prompt with the command, and what came to the screen: the answer, and what was said about it. Only the answer's end of the
/// command is a terminal: the progress on the other one would leave the traces of what it cleared.
fn screen(command: &[String]) -> anyhow::Result<String> {
    let errors = tempfile::NamedTempFile::new().context("cannot make a temporary file")?;
    let line: Vec<_> = command.iter().map(|word| quoted(word)).collect();
    let line = format!(
        "stty rows 24 cols {COLUMNS}; {} 2> {}",
        line.join(" "),
        quoted(&errors.path().to_string_lossy())
    );
    let output = Command::new("script")
        .args(["--quiet", "--command", &line, "/dev/null"])
        .env("SHELL", "/bin/sh")
        .env("TERM", "xterm")
        .env_remove("NO_COLOR")
        .stdin(Stdio::null())
        .output()
        .context("cannot run `script`, which makes the terminal: it is in Debian's package bsdutils")?;
    let answer = String::from_utf8_lossy(&output.stdout);
    let errors = fs::read_to_string(errors.path()).context("cannot read what the command said")?;
    // The exit code says nothing: that of `kubedrctl status` tells how the backups stand.
    ensure!(!answer.trim().is_empty(), "`{}` shows nothing: {errors}", command.join(" "));
    let (program, arguments) = command.split_first().context("no command")?;
    let program = Path::new(program).file_name().unwrap_or_default().to_string_lossy();
    let prompt = [&[program.into_owned()], arguments].concat().join(" ");
    Ok(format!("$ {prompt}\n{answer}{errors}").trim_end().to_owned())
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Vec<String> {
        ["/bin/sh", "-c", script].map(str::to_owned).to_vec()
    }

    #[test]
    fn a_picture_has_the_prompt_the_colours_and_the_words_of_a_command_that_found_something_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("images/status.svg");
        let script = r#"test -t 1 && printf '\033[1m\033[31mFAILED\033[0m <%s>\n' "$(stty size)"; echo "it's wrong" >&2; exit 8"#;
        draw(&file, &shell(script)).unwrap();
        let picture = fs::read_to_string(file).unwrap();
        assert!(picture.starts_with("<svg ") && picture.contains("$ sh -c test -t 1"), "{picture}");
        assert!(picture.contains(r#"<tspan class="fg-red bold">FAILED</tspan>"#), "{picture}");
        assert!(picture.contains("&lt;24 100&gt;") && picture.contains("it's wrong"), "{picture}");
    }

    #[test]
    fn a_command_that_shows_nothing_gives_no_picture_but_what_it_said() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("status.svg");
        let error = draw(&file, &shell("echo 'no way to a cluster' >&2; exit 9")).unwrap_err();
        assert!(error.to_string().contains("no way to a cluster"), "{error}");
        assert!(!file.exists());
    }
}
