//! Tables for terminals of any width.

use anstyle::Style;
use console::measure_text_width;

use crate::terminal::{Colours, Screen, plain};

/// Blanks between two columns.
const GAP: usize = 2;

/// A column.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    title: &'static str,
    /// Where there is no room the columns with the highest rank go first; those with 0 stay.
    rank: u8,
    side: Side,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

/// A column of words. Where there is no room the columns with the highest rank go first; those with 0 stay.
pub const fn words(title: &'static str, rank: u8) -> Column {
    Column { title, rank, side: Side::Left }
}

/// A column of numbers.
pub const fn numbers(title: &'static str, rank: u8) -> Column {
    Column { title, rank, side: Side::Right }
}

/// A cell.
#[derive(Debug, Clone)]
pub struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// A cell in this style.
    pub fn styled(text: &str, style: Style) -> Self {
        Self { text: plain(text), style }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::styled(text.as_ref(), Style::new())
    }
}

/// A table; each row has a cell for each column.
#[derive(Debug)]
pub struct Table<const N: usize> {
    columns: [Column; N],
    rows: Vec<[Cell; N]>,
}

impl<const N: usize> Table<N> {
    /// A table without rows.
    pub const fn new(columns: [Column; N]) -> Self {
        Self { columns, rows: Vec::new() }
    }

    /// Adds a row.
    pub fn push(&mut self, row: [Cell; N]) {
        self.rows.push(row);
    }

    /// The table as lines, with as many columns as the screen has room for.
    pub fn render(&self, screen: Screen) -> String {
        let lines = self.lines(screen);
        lines.into_iter().map(|line| line + "\n").collect()
    }

    /// The title and the rows, one line each.
    pub fn lines(&self, screen: Screen) -> Vec<String> {
        let widths: Vec<usize> = (0..N).map(|at| self.width(at)).collect();
        let shown = self.shown(&widths, screen.width);
        let title = self.columns.map(|column| Cell::from(column.title));
        let rows = std::iter::once(&title).chain(&self.rows);
        rows.map(|row| self.line(row, &shown, &widths, screen.colours)).collect()
    }

    fn width(&self, at: usize) -> usize {
        let cells = self.rows.iter().map(|row| measure_text_width(&row[at].text));
        cells.chain([measure_text_width(self.columns[at].title)]).max().unwrap_or_default()
    }

    /// The columns for which there is room.
    fn shown(&self, widths: &[usize], room: Option<usize>) -> Vec<usize> {
        let mut shown: Vec<usize> = (0..N).collect();
        let Some(room) = room else { return shown };
        let total = |shown: &[usize]| {
            shown.iter().map(|at| widths[*at]).sum::<usize>() + GAP * shown.len().saturating_sub(1)
        };
        while total(&shown) > room {
            let last = shown.iter().enumerate().max_by_key(|(_, at)| self.columns[**at].rank);
            match last {
                Some((place, at)) if self.columns[*at].rank > 0 => drop(shown.remove(place)),
                _ => break,
            }
        }
        shown
    }

    fn line(&self, row: &[Cell; N], shown: &[usize], widths: &[usize], colours: Colours) -> String {
        let mut line = String::new();
        for (place, at) in shown.iter().enumerate() {
            let Cell { text, style } = &row[*at];
            let blanks = " ".repeat(widths[*at].saturating_sub(measure_text_width(text)));
            let text = match colours {
                Colours::On => format!("{style}{text}{style:#}"),
                Colours::Off => text.clone(),
            };
            if place > 0 {
                line.push_str(&" ".repeat(GAP));
            }
            line.push_str(&match self.columns[*at].side {
                Side::Left => text + &blanks,
                Side::Right => blanks + &text,
            });
        }
        line.trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use anstyle::AnsiColor;

    use super::*;

    fn screen(width: Option<usize>, colours: Colours) -> Screen {
        Screen { width, colours }
    }

    fn table() -> Table<3> {
        let mut table = Table::new([words("NAME", 0), words("HOST", 2), numbers("SIZE", 1)]);
        let good = Style::new().fg_color(Some(AnsiColor::Green.into()));
        table.push([Cell::styled("a", good), "master-1".into(), "1 MiB".into()]);
        table.push(["long-name".into(), "m".into(), "10 MiB".into()]);
        table
    }

    #[test]
    fn words_stand_left_and_numbers_right() {
        assert_eq!(
            table().render(screen(None, Colours::Off)),
            "NAME       HOST        SIZE\na          master-1   1 MiB\nlong-name  m         10 MiB\n"
        );
    }

    #[test]
    fn where_there_is_no_room_the_least_important_columns_go() {
        let first = |width| table().lines(screen(Some(width), Colours::Off)).remove(0);
        assert_eq!(first(27), "NAME       HOST        SIZE");
        assert_eq!(first(26), "NAME         SIZE");
        assert_eq!(first(16), "NAME");
        assert_eq!(first(3), "NAME", "the last column stays");
    }

    #[test]
    fn colours_change_no_width() {
        let line = table().lines(screen(None, Colours::On)).remove(1);
        assert!(line.contains("\x1b[32ma\x1b[0m"), "{line:?}");
        assert_eq!(measure_text_width(&line), "a          master-1   1 MiB".len());
    }
}
