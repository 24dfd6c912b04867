//! Texts for people: errors with their causes, cut to a length, fit for HTML.

use std::borrow::Cow;
use std::error::Error;

/// An error with its causes, each once: `no answer: connection refused`. Not for errors that name an address with
/// credentials.
pub fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let part = error.to_string();
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        next = error.source();
    }
    text
}

/// A text of at most `most` characters, `…` being the last of one that was longer.
pub fn cut(text: &str, most: usize) -> Cow<'_, str> {
    match text.char_indices().nth(most) {
        None => Cow::Borrowed(text),
        Some(_) => Cow::Owned(text.chars().take(most.saturating_sub(1)).chain(['…']).collect()),
    }
}

/// A text that is none but text in HTML, between tags and in quoted attributes.
pub fn html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_shows_it() {
        assert_eq!(cut("müller", 6), "müller");
        assert_eq!(cut("müller", 5), "müll…");
        assert_eq!(cut("müller", 0), "…");
        assert_eq!(cut("", 0), "");
    }

    #[test]
    fn a_cause_that_was_named_is_not_named_again() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        #[derive(Debug, thiserror::Error)]
        #[error("{said}")]
        struct Outer {
            said: &'static str,
            #[source]
            cause: std::io::Error,
        }
        let cause = refused.to_string();
        let outer = Outer { said: "no answer", cause: refused };
        assert_eq!(causes(&outer), format!("no answer: {cause}"));
        let said = "no answer: connection refused";
        assert_eq!(causes(&Outer { said, cause: std::io::Error::from(std::io::ErrorKind::ConnectionRefused) }), said);
    }
}
