//! Shows what is wrong in manifests: place, path in the file, the line itself, a caret and a hint.

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use super::output::Output;
use crate::model::{Problem, Severity};

/// How wide a shown line may be; what lies further from the caret is cut.
const WIDTH: usize = 120;

/// Renders problems in the order of their places, each followed by a blank line.
pub(super) fn render(problems: &[Problem], color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let renderer = renderer.decor_style(DecorStyle::Ascii).term_width(WIDTH);
    let mut text = String::new();
    for problem in sorted(problems) {
        text.push_str(&renderer.render(&[group(problem)]));
        text.push_str("\n\n");
    }
    text
}

/// Shows problems to the person who waits, on standard error.
pub(super) fn show(problems: &[Problem], output: &Output) {
    let text = render(problems, output.error_paint.on);
    if !text.is_empty() {
        output.note(text.trim_end_matches('\n'));
    }
}

/// Problems in the order of their places.
pub(super) fn sorted(problems: &[Problem]) -> Vec<&Problem> {
    let mut sorted: Vec<&Problem> = problems.iter().collect();
    sorted.sort_by(|a, b| {
        (&a.file, a.line, a.column, a.severity, &a.path).cmp(&(&b.file, b.line, b.column, b.severity, &b.path))
    });
    sorted
}

/// `2 errors and 1 warning`; empty when there is nothing to count.
pub(super) fn count(problems: &[Problem]) -> String {
    let of = |severity| problems.iter().filter(|problem| problem.severity == severity).count();
    let some =
        |count: usize, word: &str| (count > 0).then(|| format!("{count} {word}{}", if count == 1 { "" } else { "s" }));
    let parts: Vec<String> =
        [some(of(Severity::Error), "error"), some(of(Severity::Warning), "warning")].into_iter().flatten().collect();
    parts.join(" and ")
}

fn group(problem: &Problem) -> Group<'_> {
    let level = match problem.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group = Group::with_title(level.primary_title(problem.message.as_str()));
    let column = usize::try_from(problem.column).unwrap_or(usize::MAX);
    let line = usize::try_from(problem.line).unwrap_or(usize::MAX);
    group = match &problem.source_line {
        Some(source) if line > 0 => {
            let source = shown(problem, source);
            let span = span(&source, column, usize::try_from(problem.width).unwrap_or(1));
            let annotation = AnnotationKind::Primary.span(span);
            let annotation = if problem.path.is_empty() { annotation } else { annotation.label(problem.path.as_str()) };
            group.element(Snippet::source(source).line_start(line).path(problem.file.as_ref()).annotation(annotation))
        }
        _ => {
            let mut origin = Origin::path(problem.file.as_ref());
            if line > 0 {
                origin = origin.line(line).char_column(column);
            }
            let group = group.element(origin);
            if problem.path.is_empty() {
                group
            } else {
                group.element(Level::NOTE.message(format!("at {}", problem.path)))
            }
        }
    };
    match &problem.hint {
        Some(hint) => group.element(Level::HELP.message(hint.as_str())),
        None => group,
    }
}

/// The line as it may be shown. What stands behind `=` in an environment is hidden, since output ends up in
/// the logs of build servers; its length in characters stays, so that the caret still points right.
fn shown(problem: &Problem, source: &str) -> String {
    if !problem.path.contains("environment") {
        return source.to_owned();
    }
    match source.split_once('=') {
        Some((name, value)) => format!("{name}={}", "*".repeat(value.chars().count())),
        None => source.to_owned(),
    }
}

/// Bytes of the caret's span: `width` characters from `column` on, at least one, within the line.
fn span(source: &str, column: usize, width: usize) -> std::ops::Range<usize> {
    let at = |characters: usize| source.char_indices().nth(characters).map_or(source.len(), |(byte, _)| byte);
    let start = at(column.saturating_sub(1));
    let end = at(column.saturating_sub(1).saturating_add(width.max(1)));
    start..end.max(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem() -> Problem {
        Problem {
            severity: Severity::Error,
            line: 5,
            column: 7,
            path: "apps.press.deploy.replica".into(),
            source_line: Some("      replica: 2".into()),
            width: 7,
            ..Problem::file("desired/app_press.yml", "unknown field").hint("did you mean `replicas`?")
        }
    }

    #[test]
    fn a_problem_shows_its_place_its_path_its_line_and_a_hint() {
        assert_eq!(
            render(&[problem()], false),
            "error: unknown field\n --> desired/app_press.yml:5:7\n  |\n5 |       replica: 2\n  \
             |       ^^^^^^^ apps.press.deploy.replica\n  |\n  = help: did you mean `replicas`?\n\n"
        );
    }

    #[test]
    fn a_problem_of_a_whole_file_shows_the_file() {
        let text = render(&[Problem::file("desired/x.yml", "is not UTF-8")], false);
        assert_eq!(text, "error: is not UTF-8\n--> desired/x.yml\n\n");
    }

    #[test]
    fn a_caret_beyond_the_line_or_amid_wide_characters_does_no_harm() {
        for (source, column, width) in [("", 1, 1), ("a", 9, 9), ("äöü: ✓", 2, 99), ("x", 0, 0)] {
            let odd = Problem { source_line: Some(source.into()), column, width, ..problem() };
            assert!(render(&[odd], false).contains("x.yml") || !source.is_empty() || column == 1);
        }
    }

    #[test]
    fn an_environment_value_is_not_shown() {
        let line = "      - TOKEN=s3cret=x";
        let leaky = Problem { path: "apps.press.environment[1]".into(), source_line: Some(line.into()), ..problem() };
        let text = render(&[leaky], false);
        assert!(text.contains("- TOKEN=********") && !text.contains("s3cret"), "{text}");
    }

    #[test]
    fn problems_are_counted_in_words() {
        let warning = Problem { severity: Severity::Warning, ..problem() };
        assert_eq!(count(&[problem(), warning.clone(), problem()]), "2 errors and 1 warning");
        assert_eq!(count(&[warning]), "1 warning");
        assert_eq!(count(&[]), "");
    }
}
