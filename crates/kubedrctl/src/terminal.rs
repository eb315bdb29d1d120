//! What is known of the terminals on both ends: how wide, and whether colours are welcome.

use console::Term;

use crate::args::colours_are_wanted;

/// Where text for people goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Screen {
    /// Its columns; none for a file or pipe, which takes lines of any length.
    pub width: Option<usize>,
    /// Whether it may be given colours.
    pub colours: Colours,
}

/// Whether text may have colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colours {
    /// It may.
    On,
    /// It may not.
    Off,
}

impl Screen {
    /// Standard output.
    pub fn stdout() -> Self {
        let term = Term::stdout();
        if !term.is_term() {
            return Self { width: None, colours: Colours::Off };
        }
        let width = term.size_checked().map(|(_, columns)| usize::from(columns)).filter(|width| *width > 0);
        Self { width, colours: if colours_are_wanted() { Colours::On } else { Colours::Off } }
    }
}

/// Text from a repository or a cluster, without what could make a terminal do anything but show it.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn what_others_wrote_commands_no_terminal() {
        assert_eq!(plain("a\x1b[2Jb\nc"), "a\u{fffd}[2Jb\u{fffd}c");
    }
}
