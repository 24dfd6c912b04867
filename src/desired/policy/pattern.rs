//! Patterns in a policy: `*` stands for any characters but `/`, `**` for any characters.

/// A pattern, compared as a whole: `ghcr.io/plant/*` fits `ghcr.io/plant/press`, and neither `ghcr.io/plant/a/b` nor
/// `evil.example/ghcr.io/plant/press`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    tokens: Vec<Token>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Character(char),
    /// Any characters but `/`.
    Star,
    /// Any characters.
    Stars,
}

impl Pattern {
    /// Reads a pattern; none for an empty one, and for one with white space or control characters.
    pub fn parse(text: &str) -> Option<Pattern> {
        Pattern::words(text).filter(|_| !text.chars().any(char::is_whitespace))
    }

    /// The same for a text that may hold blanks.
    pub fn words(text: &str) -> Option<Pattern> {
        if text.is_empty() || text.chars().any(char::is_control) {
            return None;
        }
        let mut tokens: Vec<Token> = Vec::new();
        for c in text.chars() {
            match (c, tokens.last()) {
                ('*', Some(Token::Star | Token::Stars)) => {
                    tokens.pop();
                    tokens.push(Token::Stars);
                }
                ('*', _) => tokens.push(Token::Star),
                (c, _) => tokens.push(Token::Character(c)),
            }
        }
        Some(Pattern { text: text.to_owned(), tokens })
    }

    /// The pattern of a path, without the slashes at its end; `/` is the one that every path lies below.
    pub fn path(text: &str) -> Option<Pattern> {
        let mut pattern = Pattern::parse(text)?;
        while pattern.tokens.last() == Some(&Token::Character('/')) {
            pattern.tokens.pop();
        }
        Some(pattern)
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the whole text fits.
    pub fn fits(&self, text: &str) -> bool {
        // Which tokens may come next: as many steps as characters times tokens, whatever the pattern.
        let mut next = vec![false; self.tokens.len() + 1];
        next[0] = true;
        self.skip_stars(&mut next);
        for c in text.chars() {
            let mut then = vec![false; next.len()];
            for (index, token) in self.tokens.iter().enumerate().filter(|(index, _)| next[*index]) {
                match token {
                    Token::Character(wanted) => then[index + 1] |= *wanted == c,
                    Token::Star => then[index] |= c != '/',
                    Token::Stars => then[index] = true,
                }
            }
            self.skip_stars(&mut then);
            next = then;
        }
        next[self.tokens.len()]
    }

    /// Whether a path, or a folder that it lies in, fits.
    pub fn holds(&self, path: &str) -> bool {
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        ends.map(|end| &path[..end]).any(|above| self.fits(above))
    }

    /// A star may stand for nothing.
    fn skip_stars(&self, next: &mut [bool]) {
        for (index, token) in self.tokens.iter().enumerate() {
            if next[index] && matches!(token, Token::Star | Token::Stars) {
                next[index + 1] = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_star_stays_between_slashes_and_two_cross_them() {
        for (pattern, text, fits) in [
            ("press", "press", true),
            ("press", "Press", false),
            ("press-*", "press-", true),
            ("press-*", "press-7", true),
            ("press-*", "xpress-7", false),
            ("ghcr.io/plant/*", "ghcr.io/plant/press", true),
            ("ghcr.io/plant/*", "ghcr.io/plant/", true),
            ("ghcr.io/plant/*", "ghcr.io/plant/a/b", false),
            ("ghcr.io/plant/*", "evil.example/ghcr.io/plant/press", false),
            ("*.plant.example/*", "evil.example/x.plant.example/press", false),
            ("ghcr.io/plant/**", "ghcr.io/plant/a/b", true),
            ("ghcr.io/plant/**", "ghcr.io/plants/a", false),
            ("**", "", true),
            ("**", "a/b", true),
            ("*", "a/b", false),
            ("*/*", "a/b", true),
            ("a**b", "a/x/b", true),
            ("a***b", "a/x/b", true),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "acb", false),
        ] {
            assert_eq!(Pattern::parse(pattern).unwrap().fits(text), fits, "{pattern} {text}");
        }
        assert_eq!(["", "a b", "a\n", "\u{a0}"].map(Pattern::parse), [None, None, None, None]);
    }

    #[test]
    fn a_path_holds_itself_and_what_lies_below() {
        for (pattern, path, holds) in [
            ("/srv/press", "/srv/press", true),
            ("/srv/press/", "/srv/press", true),
            ("/srv/press", "/srv/press/data/x", true),
            ("/srv/press", "/srv/press2", false),
            ("/srv/press", "/srv", false),
            ("/srv/*", "/srv/press/data", true),
            ("/srv/*/data", "/srv/press/data/x", true),
            ("/srv/*/data", "/srv/press", false),
            ("/", "/", true),
            ("/", "/etc", true),
        ] {
            assert_eq!(Pattern::path(pattern).unwrap().holds(path), holds, "{pattern} {path}");
        }
    }

    /// The same by the definition, slowly.
    fn slow(tokens: &[Token], text: &[char]) -> bool {
        match (tokens.split_first(), text.split_first()) {
            (None, first) => first.is_none(),
            (Some((Token::Character(wanted), rest)), Some((c, text))) => wanted == c && slow(rest, text),
            (Some((Token::Character(_), _)), None) => false,
            (Some((Token::Star, rest)), first) => {
                slow(rest, text) || first.is_some_and(|(c, text)| *c != '/' && slow(tokens, text))
            }
            (Some((Token::Stars, rest)), first) => {
                slow(rest, text) || first.is_some_and(|(_, text)| slow(tokens, text))
            }
        }
    }

    proptest! {
        #[test]
        fn fits_is_what_the_definition_says(pattern in "[ab/*]{1,8}", text in "[ab/]{0,8}") {
            let pattern = Pattern::parse(&pattern).unwrap();
            let characters: Vec<char> = text.chars().collect();
            prop_assert_eq!(pattern.fits(&text), slow(&pattern.tokens, &characters));
        }
    }
}
