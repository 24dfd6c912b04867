//! Text that is safe to show in a browser, by construction.

use std::fmt::{Display, Write};

/// A page in the making. Markup is only taken from constants of the program; everything else is escaped.
#[derive(Debug, Default)]
pub(super) struct Html(String);

impl Html {
    /// Adds markup.
    pub(super) fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Adds text, fit for an element's content and for a quoted attribute.
    pub(super) fn text(&mut self, text: impl Display) -> &mut Self {
        // Writing to memory does not fail.
        let _ = write!(Escaped(&mut self.0), "{text}");
        self
    }

    /// Adds an element with a text: the tag and its closing tag are markup.
    pub(super) fn element(&mut self, open: &'static str, text: impl Display, close: &'static str) -> &mut Self {
        self.raw(open).text(text).raw(close)
    }

    /// Adds a text as one segment of a path or one value of a query, inside a quoted attribute.
    pub(super) fn segment(&mut self, text: &str) -> &mut Self {
        for byte in text.bytes() {
            if byte.is_ascii_alphanumeric() || b"-_~".contains(&byte) {
                self.0.push(char::from(byte));
            } else {
                // A lone dot would be taken for the folder itself, so that dots are encoded too.
                let _ = write!(self.0, "%{byte:02X}");
            }
        }
        self
    }

    pub(super) fn into_string(self) -> String {
        self.0
    }
}

struct Escaped<'a>(&'a mut String);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for c in text.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                c => self.0.push(c),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_become_markup() {
        let mut html = Html::default();
        html.raw("<a href=\"/r/").segment("a/b\"<ä").raw("\">").text("<b>&'\"").raw("</a>");
        assert_eq!(html.into_string(), "<a href=\"/r/a%2Fb%22%3C%C3%A4\">&lt;b&gt;&amp;&#39;&quot;</a>");
    }
}
