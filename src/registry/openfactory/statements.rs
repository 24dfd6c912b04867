//! Every statement that can be sent to ksqlDB, each with the evidence that the real server accepts it.

use super::ksqldb::describe_statement;
use super::sources::NEEDED;
use super::tables::{self, COUNTS};
use super::wire;
use crate::model::Source;

/// What shows that the server accepts a statement.
enum Evidence {
    /// This very statement was sent to ksqlDB 7.7.0 and carried out.
    Sent(&'static str),
    /// One of the same form was, and the part that differs is in the published grammar (`SqlBase.g4`).
    Grammar(&'static str, &'static str),
}

use Evidence::{Grammar, Sent};

/// All of them: the seven queries of a reading, those for the ages of rows, `DESCRIBE`, and what `registry init` makes.
fn all() -> Vec<(String, Evidence)> {
    let readings = [
        Sent("query-v1-types.txt"),
        Sent("query-v1-star.txt"),
        Sent("query-json-accept.txt"),
        Sent("query-v1-uns.txt"),
        Sent("query-v1-connector.txt"),
        Sent("query-v1-empty.txt"),
        Grammar(
            "query-v1-where-scan.txt",
            "booleanExpression: left=booleanExpression operator=OR right=booleanExpression",
        ),
    ];
    let mut all: Vec<(String, Evidence)> = COUNTS.iter().map(|query| query.sql.to_owned()).zip(readings).collect();
    for source in Source::ALL {
        let Some((table, key)) = tables::aging(source) else { continue };
        let evidence = match source {
            Source::DeviceConnectorSource => Sent("ages-connector-named.txt"),
            Source::MetricsTargetsSource => Sent("ages-targets-named.txt"),
            Source::AssetsStream
            | Source::AssetsType
            | Source::AssetsAvail
            | Source::DockerServices
            | Source::AssetToUnsMapRaw => {
                Grammar("ages-connector-named.txt", "the same columns of another table: sourceName: identifier")
            }
        };
        all.push((tables::ages_statement(table, key), evidence));
    }
    let names = NEEDED.iter().map(|needed| needed.name).chain(Source::ALL.into_iter().map(Source::as_str));
    for name in names {
        let rule = "DESCRIBE sourceName EXTENDED with identifier: BACKQUOTED_IDENTIFIER";
        all.push((describe_statement(name), Grammar("describe-assets_type.txt", rule)));
    }
    for needed in &NEEDED {
        all.push((needed.statement(1), Sent("init-create-statements.txt")));
    }
    all
}

#[test]
fn every_statement_is_one_that_the_real_server_accepts() {
    let all = all();
    assert_eq!(all.len(), COUNTS.len() + 5 + NEEDED.len() + Source::ALL.len() + NEEDED.len());
    for (statement, evidence) in all {
        match evidence {
            Sent("init-create-statements.txt") => {
                let text = wire::text("init-create-statements.txt");
                let sent = format!(">>> {statement}\n<<< HTTP/1.1 200 OK\n");
                assert!(text.contains(&sent), "never accepted: {statement}");
            }
            Sent(file) => {
                assert_eq!(wire::statement(file), statement, "{file}");
                assert_eq!(wire::capture(file).status, 200, "{file}");
            }
            Grammar(file, rule) => {
                assert_eq!(wire::capture(file).status, 200, "{file}");
                assert!(!rule.is_empty(), "{statement}");
            }
        }
    }
}

#[test]
fn no_statement_has_the_form_that_the_server_refuses() {
    let refused = wire::statement("ages-star-rowtime-refused.txt");
    assert_eq!(wire::capture("ages-star-rowtime-refused.txt").status, 400);
    for (statement, _) in all() {
        assert_ne!(statement, refused);
        // `*` is accepted where it stands alone, and nowhere else.
        assert!(!statement.contains("*,") && !statement.contains(", *"), "{statement}");
        assert_eq!(statement.matches(';').count(), 1, "{statement}");
    }
}

#[test]
fn a_key_of_another_name_is_quoted_where_it_must_be() {
    assert_eq!(tables::ages_statement("T", "ASST_UUID"), "SELECT ASST_UUID, ROWTIME FROM T;");
    assert_eq!(tables::ages_statement("T", "asset`; DROP"), "SELECT `asset``; DROP`, ROWTIME FROM T;");
}
