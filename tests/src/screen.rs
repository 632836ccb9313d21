//! A terminal, as far as live lines need one.

/// What a terminal of a given width shows after some text was written to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Screen {
    rows: Vec<Vec<char>>,
    row: usize,
    column: usize,
    width: usize,
}

impl Screen {
    /// Shows `text` on an empty terminal that is `width` columns wide and as high as need be.
    pub fn showing(text: &str, width: usize) -> Self {
        let mut screen = Self {
            rows: vec![Vec::new()],
            row: 0,
            column: 0,
            width,
        };
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            match c {
                '\u{1b}' => screen.escape(&mut rest),
                '\r' => screen.column = 0,
                '\n' => screen.go_down(),
                _ => screen.put(c),
            }
        }
        screen
    }

    /// Its rows from the top, without the blanks at their ends.
    pub fn rows(&self) -> Vec<String> {
        let row = |row: &Vec<char>| row.iter().collect::<String>().trim_end().to_owned();
        self.rows.iter().map(row).collect()
    }

    /// The rows that begin with this word, their words separated by one blank.
    pub fn rows_of(&self, word: &str) -> Vec<String> {
        self.rows()
            .iter()
            .map(|row| row.split_whitespace().collect::<Vec<_>>().join(" "))
            .filter(|row| row.split(' ').next() == Some(word))
            .collect()
    }

    /// `ESC [ numbers letter`: movements and erasing; colours are not shown.
    fn escape(&mut self, rest: &mut std::str::Chars<'_>) {
        if rest.next() != Some('[') {
            return;
        }
        let mut numbers = String::new();
        let Some(letter) = rest.find(|c| {
            let ends = c.is_ascii_alphabetic();
            if !ends {
                numbers.push(*c);
            }
            ends
        }) else {
            return;
        };
        let count = numbers.parse().unwrap_or(1);
        match letter {
            'A' => self.row = self.row.saturating_sub(count),
            'B' => {
                for _ in 0..count {
                    let column = self.column;
                    self.go_down();
                    self.column = column;
                }
            }
            'K' => self.rows[self.row].clear(),
            'J' => self.rows.truncate(self.row + 1),
            'm' | 'h' | 'l' => {}
            _ => panic!("the terminal does not know ESC [ {numbers} {letter}"),
        }
    }

    /// A line feed on a terminal in its usual mode: the first column of the next row.
    fn go_down(&mut self) {
        self.row += 1;
        self.column = 0;
        if self.row == self.rows.len() {
            self.rows.push(Vec::new());
        }
    }

    fn put(&mut self, c: char) {
        // The cursor stays on the last column until there is something to write.
        if self.column == self.width {
            self.go_down();
        }
        let row = &mut self.rows[self.row];
        if row.len() <= self.column {
            row.resize(self.column + 1, ' ');
        }
        row[self.column] = c;
        self.column += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::Screen;

    #[test]
    fn lines_are_wrapped_overwritten_and_erased() {
        let screen = Screen::showing("abcdef\nx\u{1b}[31my\r\u{1b}[1A\u{1b}[2Kz\u{1b}[1B!", 4);
        assert_eq!(screen.rows(), ["abcd", "z", "x!"]);
    }
}
