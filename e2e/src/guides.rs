//! The blocks of code in the documentation, which a test runs.

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// Commands for a shell.
    Shell,
    /// Objects for `kubectl apply`.
    Yaml,
}

/// A block of code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// What it holds.
    pub language: Language,
    /// Line of the page on which it begins.
    pub line: usize,
    /// Its text.
    pub text: String,
}

/// The blocks of a page that are fenced as `sh` or `yaml`, in order; others, such as `text`, are not for running.
#[must_use]
pub fn blocks(page: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<(Option<Block>, usize)> = None;
    for (number, line) in page.lines().enumerate() {
        let indent = line.len() - line.trim_start().len();
        match (&mut open, line.trim_start().strip_prefix("```")) {
            (None, Some(language)) => {
                let language = match language.trim() {
                    "sh" => Some(Language::Shell),
                    "yaml" => Some(Language::Yaml),
                    _ => None,
                };
                let block =
                    language.map(|language| Block { language, line: number + 2, text: String::new() });
                open = Some((block, indent));
            }
            (Some((block, _)), Some(_)) => {
                found.extend(block.take());
                open = None;
            }
            (Some((Some(block), indent)), None) => {
                block.text += line.get(*indent..).unwrap_or_default();
                block.text.push('\n');
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shell_and_yaml_are_found_and_text_is_not() {
        let page = "a\n```sh\nls\n```\n```text\nno\n```\n- b\n  ```yaml\n  a:\n    b\n  ```\n";
        let found = blocks(page);
        let texts: Vec<_> = found.iter().map(|b| (b.language, b.line, b.text.as_str())).collect();
        assert_eq!(texts, [(Language::Shell, 3, "ls\n"), (Language::Yaml, 10, "a:\n  b\n")]);
    }
}
