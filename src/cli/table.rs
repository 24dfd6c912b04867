//! Plain tables: one row a line, columns two blanks apart, so that `grep` and `awk` work on them.

use super::output::Paint;

/// One cell: a text, and how it looks on a terminal.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    text: String,
    painted: Option<String>,
}

impl Cell {
    /// A text. It stays on its line: of several lines the first one counts, as for `kubectl`, and other control
    /// characters are written out.
    pub(super) fn plain(text: impl Into<String>) -> Self {
        let mut text: String = text.into();
        if let Some(end) = text.find(['\n', '\r', '\u{b}', '\u{c}', '\u{85}', '\u{2028}', '\u{2029}']) {
            text.truncate(end);
            text.push('…');
        }
        if text.contains(char::is_control) {
            let escaped = |c: char| if c.is_control() { c.escape_default().collect() } else { String::from(c) };
            text = text.chars().map(escaped).collect();
        }
        Cell { text, painted: None }
    }

    /// A short text that is never cut, with its colours.
    pub(super) fn painted(text: impl Into<String>, painted: String) -> Self {
        Cell { text: text.into(), painted: Some(painted) }
    }
}

/// A table under construction.
#[derive(Debug)]
pub(super) struct Table {
    header: Vec<String>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table with these column names.
    pub(super) fn new(header: &[&'static str]) -> Self {
        Table::named(header.iter().map(ToString::to_string).collect())
    }

    /// The same with names that somebody chose.
    pub(super) fn named(header: Vec<String>) -> Self {
        Table { header, rows: Vec::new() }
    }

    /// Adds a row, one cell a column.
    pub(super) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// Whether there is no row.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows alone, as wide as in the whole table of which they are a part.
    pub(super) fn without_header(&self, paint: Paint, width: Option<usize>) -> String {
        let text = self.render(paint, width);
        text.split_once('\n').map(|(_, rows)| rows.to_owned()).unwrap_or_default()
    }

    /// The text. Cells of the last column, then of the widest ones but the first, are cut to keep within `width`; without one
    /// nothing is.
    pub(super) fn render(&self, paint: Paint, width: Option<usize>) -> String {
        let mut widths: Vec<usize> = self.header.iter().map(|name| name.chars().count()).collect();
        for row in &self.rows {
            for (widest, cell) in widths.iter_mut().zip(row) {
                *widest = (*widest).max(cell.text.chars().count());
            }
        }
        if let Some(width) = width {
            self.fit(&mut widths, width);
        }
        let header: Vec<Cell> = self.header.iter().map(|name| Cell::painted(name, paint.bold(name))).collect();
        let mut out = String::new();
        for row in std::iter::once(&header).chain(&self.rows) {
            line(&mut out, row, &widths);
        }
        out
    }

    /// Takes width from the last column down to 12, then from whichever column is widest: the first, which names things,
    /// only when nothing else is left.
    fn fit(&self, widths: &mut [usize], width: usize) {
        const LEAST_LAST: usize = 12;
        const LEAST: usize = 8;
        let total = |widths: &[usize]| widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1);
        if let Some(last) = widths.len().checked_sub(1) {
            let over = total(widths).saturating_sub(width);
            widths[last] -= over.min(widths[last].saturating_sub(LEAST_LAST));
        }
        // What is painted is never cut.
        let painted = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.filter(|cell| cell.painted.is_some()).map(|cell| cell.text.chars().count()).max().unwrap_or_default()
        };
        let least: Vec<usize> = (0..widths.len()).map(|column| painted(column).max(LEAST)).collect();
        while total(widths) > width {
            let widest = |columns: std::ops::Range<usize>, widths: &[usize]| {
                columns.filter(|column| widths[*column] > least[*column]).max_by_key(|column| widths[*column])
            };
            let Some(column) = widest(1..widths.len(), widths).or_else(|| widest(0..1, widths)) else { return };
            widths[column] -= 1;
        }
    }
}

fn line(out: &mut String, row: &[Cell], widths: &[usize]) {
    let mut text = String::new();
    for (index, (cell, width)) in row.iter().zip(widths).enumerate() {
        if index > 0 {
            text.push_str("  ");
        }
        let length = cell.text.chars().count();
        match &cell.painted {
            Some(painted) => text.push_str(painted),
            None if length > *width => {
                text.extend(cell.text.chars().take(width.saturating_sub(1)));
                text.push('…');
            }
            None => text.push_str(&cell.text),
        }
        text.extend(std::iter::repeat_n(' ', width.saturating_sub(length)));
    }
    out.push_str(text.trim_end());
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Paint = Paint { on: false };

    fn table() -> Table {
        let mut table = Table::new(&["NAME", "SYNC", "NOTE"]);
        table.row(vec![
            Cell::plain("app/A"),
            Cell::painted("Synced", Paint { on: true }.green("Synced")),
            Cell::plain(""),
        ]);
        table.row(vec![Cell::plain("device/LONG-NAME"), Cell::plain("OutOfSync"), Cell::plain("n".repeat(90))]);
        table
    }

    #[test]
    fn columns_line_up_and_colours_do_not_count() {
        let text = table().render(PLAIN, None);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "NAME              SYNC       NOTE");
        assert_eq!(lines[1], "app/A             \u{1b}[32mSynced\u{1b}[0m");
        assert!(lines[2].starts_with("device/LONG-NAME  OutOfSync  nnn"));
    }

    #[test]
    fn a_wide_table_cuts_nothing_and_breaks_no_line() {
        let mut table = Table::new(&["NAME", "NOTE", "FILE"]);
        let note = "n".repeat(200);
        table.row(vec![Cell::plain("app/A"), Cell::plain(&note), Cell::plain("a.yml:2")]);
        table.row(vec![Cell::plain("app/B"), Cell::plain("first\nsecond"), Cell::plain("b\u{1b}[2J\t.yml")]);
        let text = table.render(PLAIN, None);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert_eq!(lines[1], format!("app/A  {note}  a.yml:2"));
        assert_eq!(lines[2], format!("app/B  {:200}  b\\u{{1b}}[2J\\t.yml", "first…"));
    }

    #[test]
    fn names_are_cut_last() {
        let mut table = Table::new(&["NAME", "IMAGE", "NOTE"]);
        table.row(vec![Cell::plain("n".repeat(40)), Cell::plain("i".repeat(40)), Cell::plain("o".repeat(40))]);
        let text = table.render(PLAIN, Some(80));
        assert!(text.contains(&"n".repeat(40)) && text.contains("i…") && text.contains("o…"), "{text}");
        let text = table.render(PLAIN, Some(40));
        assert!(text.contains("n…"), "{text}");
        let mut table = Table::new(&["NAME", "HEALTH", "NOTE"]);
        let painted = Cell::painted("Progressing", "Progressing".into());
        table.row(vec![Cell::plain("n".repeat(80)), painted, Cell::plain("o".repeat(40))]);
        let text = table.render(PLAIN, Some(80));
        assert!(text.lines().all(|line| line.chars().count() <= 80) && text.contains("Progressing  o"), "{text}");
    }

    #[test]
    fn a_table_fits_the_width_and_shows_what_is_cut() {
        let text = table().render(PLAIN, Some(80));
        for line in text.lines().filter(|line| !line.contains('\u{1b}')) {
            assert!(line.chars().count() <= 80, "{line}");
        }
        assert!(text.contains("n…"));
    }
}
