//! Plain scalars, merge keys, tags and variables mean what PyYAML's safe loader makes of them, or are refused.
//! The tables were made with PyYAML 6.0.3.

#![expect(clippy::panic, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};

use ofop::desired::yaml::expand::{self, Given, Reading};
use ofop::desired::yaml::{self, Data, Node, YamlError};

fn read(text: &str) -> Result<Node, Vec<YamlError>> {
    yaml::read(text).map(Option::unwrap)
}

/// The value of `k:`.
fn value(text: &str) -> Result<Data, Vec<YamlError>> {
    match read(&format!("k: {text}\n"))?.data {
        Data::Map(mut entries) => Ok(entries.remove(0).value.data),
        other => panic!("{other:?}"),
    }
}

/// A tree as text: strings in quotes, everything else as Python's `repr` has it.
fn show(node: &Node) -> String {
    match &node.data {
        Data::Null => "None".into(),
        Data::Bool(value) => value.to_string(),
        Data::Int(number) => number.to_string(),
        Data::BigInt(_) => "big".into(),
        Data::Float(number) => format!("{number:?}"),
        Data::Text(text) => format!("{text:?}"),
        Data::Timestamp(text) => format!("time({text})"),
        Data::List(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(", ")),
        Data::Map(entries) => {
            let entries = entries.iter().map(|entry| format!("{}: {}", show(&entry.key), show(&entry.value)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
    }
}

#[test]
fn whole_numbers_are_those_of_yaml_1_1() {
    for (text, number) in [
        ("0", 0),
        ("-0", 0),
        ("+1", 1),
        ("010", 8),
        ("0_7", 7),
        ("00", 0),
        ("0x1F", 31),
        ("+0x1f", 31),
        ("0b101", 5),
        ("-0b1", -1),
        ("1_000", 1000),
        ("1__0", 10),
        ("1_", 1),
        ("1:30", 90),
        ("-1:30", -90),
        ("190:20:30", 685_230),
        ("!!int '5'", 5),
        ("!!int 0x1f", 31),
        ("!!int ' 5 '", 5),
        ("-9223372036854775808", i64::MIN),
    ] {
        assert_eq!(value(text), Ok(Data::Int(number)), "{text}");
    }
    assert_eq!(value("9223372036854775808"), Ok(Data::BigInt(9_223_372_036_854_775_808.0)));
}

#[test]
fn floats_are_those_of_yaml_1_1() {
    for (text, number) in [
        ("1.5", 1.5),
        ("1.", 1.0),
        (".5", 0.5),
        ("1.0e+3", 1000.0),
        ("1.e+5", 1e5),
        ("0.1_0", 0.1),
        ("685.230_15e+03", 685_230.15),
        ("190:20:30.15", 685_230.15),
        ("1:30.", 90.0),
        (".inf", f64::INFINITY),
        ("-.INF", f64::NEG_INFINITY),
        ("!!float 5", 5.0),
        ("!!float 1e3", 1000.0),
    ] {
        assert_eq!(value(text), Ok(Data::Float(number)), "{text}");
    }
    assert!(matches!(value(".NaN"), Ok(Data::Float(number)) if number.is_nan()));
}

#[test]
fn what_yaml_1_2_or_common_sense_would_take_for_a_number_is_a_text() {
    for text in [
        "1e3",
        "1E+5",
        "1.0e3",
        "0o17",
        "08",
        "09",
        "0b12",
        "0xZZ",
        "-.5",
        "+.5",
        "-.nan",
        "_1",
        "1,000",
        "1:60",
        "0:30",
        "01:30",
        "1.2.3",
        "12e03",
        "nan",
        "inf",
        "y",
        "N",
        "tRue",
        "2024-1-2",
        "2024-01-02 3:4:5",
        "a#b",
        "a:b",
    ] {
        assert_eq!(value(text), Ok(Data::Text(text.into())), "{text}");
    }
}

#[test]
fn booleans_nulls_and_times_are_those_of_yaml_1_1() {
    for text in ["yes", "Yes", "YES", "true", "on", "ON", "!!bool yEs"] {
        assert_eq!(value(text), Ok(Data::Bool(true)), "{text}");
    }
    for text in ["no", "No", "false", "Off"] {
        assert_eq!(value(text), Ok(Data::Bool(false)), "{text}");
    }
    for text in ["", "~", "null", "Null", "NULL", "!!null x"] {
        assert_eq!(value(text), Ok(Data::Null), "{text}");
    }
    for text in ["2024-01-02", "2024-1-2 3:04:05", "2024-01-02T03:04:05Z", "2024-01-02 03:04:05.5 +01:00"] {
        assert_eq!(value(text), Ok(Data::Timestamp(text.into())), "{text}");
    }
}

#[test]
fn quotes_and_the_tag_str_make_a_text_of_anything() {
    for (text, read) in
        [("'010'", "010"), ("\"yes\"", "yes"), ("!!str 5", "5"), ("'it''s'", "it's"), ("\"\\x41\\t\"", "A\t")]
    {
        assert_eq!(value(text), Ok(Data::Text(read.into())), "{text}");
    }
    assert_eq!(value("! 5"), Ok(Data::Int(5)));
}

#[test]
fn what_stops_pyyaml_is_refused() {
    for text in [
        "2024-13-01",
        "2024-02-30",
        "2023-02-29",
        "0000-01-01",
        "2024-01-02 25:00:00",
        "0b_",
        "0x_",
        "=",
        "<<",
        "!foo 5",
        "!!int x",
        "!!bool 5",
        "!!float abc",
        "!!timestamp x",
        "@x",
        "`x`",
        "%x",
        "a: b",
        "'x' y",
        "[x",
        "[:x]",
        "[x?y]",
    ] {
        assert!(value(text).is_err(), "{text}");
    }
    for text in [": x", "? [a]\n: b", "{a\n b: c}", "a: 1\n b: 2", "a:\t1", "a: x\ty", "? {a: b}\n: c"] {
        assert!(read(text).is_err(), "{text}");
    }
}

#[test]
fn tags_that_mean_nothing_in_a_manifest_are_refused_by_name() {
    for tag in ["!!binary", "!!set", "!!omap", "!!pairs"] {
        let errors = value(&format!("{tag} {{a: }}")).unwrap_err();
        assert!(errors[0].message.contains(tag), "{errors:?}");
    }
}

#[test]
fn merge_keys_bring_in_what_is_not_given() {
    for (text, tree) in [
        ("x: &x {b: 1, c: 3}\ny: {<<: *x, b: 2}", r#"{"x": {"b": 1, "c": 3}, "y": {"b": 2, "c": 3}}"#),
        ("{<<: [{a: 1}, {a: 2, b: 2}], c: 3}", r#"{"a": 1, "b": 2, "c": 3}"#),
        ("{c: 3, <<: {a: 1}}", r#"{"a": 1, "c": 3}"#),
        ("{\"<<\": 1, =: 2}", r#"{"<<": 1, "=": 2}"#),
    ] {
        assert_eq!(show(&read(text).unwrap()), tree, "{text}");
    }
    for text in ["{<<: 1}", "{<<: [1]}", "{<<: {a: 1}, <<: {b: 1}}"] {
        assert!(read(text).is_err(), "{text}");
    }
}

#[test]
fn what_pyyaml_takes_although_it_is_no_yaml_is_refused() {
    for text in [
        r#"k: "\ud83c\udfed""#,
        "j:\n  k: 'a\n  b'\n",
        "j:\n  k: [a,\n b]\n",
        "{k:[1]}",
        "k: [1]#\n",
        "k: 1\nj: \u{feff}x\n",
    ] {
        assert!(read(text).is_err(), "{text}");
    }
}

#[test]
fn what_is_yaml_is_read_although_pyyaml_cannot() {
    for (text, tree) in [
        ("a: &x 1\nb: &x 2\nc: *x\n", r#"{"a": 1, "b": 2, "c": 2}"#),
        ("...\nk: 1\n", r#"{"k": 1}"#),
        ("{k\n: 1}\n", r#"{"k": 1}"#),
    ] {
        assert_eq!(show(&read(text).unwrap()), tree, "{text}");
    }
}

#[test]
fn a_key_may_be_written_as_null_but_not_be_missing() {
    assert_eq!(show(&read("{null: 1, a: 2}").unwrap()), r#"{None: 1, "a": 2}"#);
    assert!(read("{null: 1, ~: 2}").is_err(), "both are the same key");
    for text in [": 1\n", "{: 1}\n", "a: 1\n? \n: 2\n"] {
        assert!(read(text).is_err(), "{text}");
    }
}

#[test]
fn numbers_that_do_not_fit_come_as_near_as_a_float_does() {
    for (text, near) in [
        ("9223372036854775808", 9_223_372_036_854_775_808.0),
        ("-99999999999999999999", -1e20),
        ("0x10000000000000000", 18_446_744_073_709_551_616.0),
        ("02000000000000000000000", 18_446_744_073_709_551_616.0),
        ("999999999999999999:0", 999_999_999_999_999_999.0 * 60.0),
    ] {
        assert_eq!(value(text), Ok(Data::BigInt(near)), "{text}");
    }
}

fn filled(text: &str, value: &str) -> Result<Reading, Vec<YamlError>> {
    let variables = BTreeMap::from([("V".to_owned(), value.to_owned())]);
    let none = BTreeSet::new();
    expand::read(text, Given { variables: &variables, withheld: &none, unlisted: &none, secret: &none })
}

#[test]
fn a_variable_is_what_its_value_is_in_that_place() {
    for (text, value, tree) in [
        ("k: ${V}", "5", r#"{"k": 5}"#),
        ("k: ${V}", "08", r#"{"k": "08"}"#),
        ("k: '${V}'", "5", r#"{"k": "5"}"#),
        ("k: ${V}", "", r#"{"k": None}"#),
        ("k: \"${V}\"", "", r#"{"k": ""}"#),
        ("k: ${W:-d}", "v", r#"{"k": "d"}"#),
        ("k: ${V:-d}", "", r#"{"k": "d"}"#),
        ("k: ${W}", "v", r#"{"k": None}"#),
        ("k: $${V}", "v", r#"{"k": "$v"}"#),
        ("k: a-${V}-b", "v", r#"{"k": "a-v-b"}"#),
        ("k: [a, A=${V}, {b: ${V}}]", "v", r#"{"k": ["a", "A=v", {"b": "v"}]}"#),
        ("${V}: x", "v", r#"{"v": "x"}"#),
        ("k: ${V}", "[a, b]", r#"{"k": ["a", "b"]}"#),
        ("k: [${V}]", "", r#"{"k": []}"#),
        ("k: [${V}]", "a, b", r#"{"k": ["a", "b"]}"#),
        ("k: [x, ${V}, {y: 1}]", "a, b", r#"{"k": ["x", "a", "b", {"y": 1}]}"#),
        ("k: [1, ${V}]", "", r#"{"k": [1]}"#),
        ("k: [${V}, -${V}]", "a, b", r#"{"k": ["a", "b", "-a", "b"]}"#),
        ("k: ${V}", "'q'", r#"{"k": "q"}"#),
        ("k: ${V}", "a #b", r#"{"k": "a"}"#),
        ("k: \"${V}\"", "a\\tb", r#"{"k": "a\tb"}"#),
        ("k: |\n  a ${V}\n", "v: w", r#"{"k": "a v: w\n"}"#),
        ("# ${V}\nk: 1", "x", r#"{"k": 1}"#),
        ("k: ${V:?x} $V ${}", "v", r#"{"k": "${V:?x} $V ${}"}"#),
    ] {
        let reading = filled(text, value).unwrap_or_else(|errors| panic!("{text}: {errors:?}"));
        assert_eq!(show(&reading.root.unwrap()), tree, "{text} with {value:?}");
    }
}

#[test]
fn a_value_that_is_not_taken_literally_is_warned_of() {
    for (text, value, warned) in [
        ("k: ${V}", "plain", false),
        ("k: ${V}", "5", false),
        ("k: \"${V}\"", "a: b #c", false),
        ("k: ${V}", "a #b", true),
        ("k: ${V}", "'q'", true),
        ("k: \"${V}\"", "a\\tb", true),
        ("k: ${V}", "[a]", true),
        ("k: [${V}]", "a, b", true),
        ("k: [a, ${V}]", "", false),
    ] {
        let reading = filled(text, value).unwrap();
        assert_eq!(!reading.warnings.is_empty(), warned, "{text} with {value:?}");
    }
}

#[test]
fn a_value_that_changes_the_file_around_it_is_refused_where_it_stands() {
    for (text, value) in [
        ("a: 1\nk: ${V}\nj: 2", "x\nz: 1"),
        ("a: 1\nk: [a, ${V}]", "b], j: [c"),
        ("a: 1\nk: [${V}, b, c]", "b, x"),
        ("a: 1\nk: [{b: ${V}}, c]", "1}, {d: 2"),
        ("a: 1\nk: {a: ${V}}", "1, b: 2"),
        ("a: 1\nk: ${V}", "b: c"),
        ("a: 1\nk: \"${V}\"", "x\" y"),
        ("a: 1\n#: ${V}", "\nz: 1"),
        ("a: 1\nk: \"${V}\"", "x\ny"),
        ("a: 1\nk: ${V}", "@x"),
    ] {
        let errors = filled(text, value).unwrap_err();
        assert_eq!((errors[0].at.line, errors[0].at.column > 1), (2, true), "{text} with {value:?}: {errors:?}");
        assert!(errors[0].message.contains("`V`"), "{errors:?}");
    }
}

#[test]
fn places_are_those_of_the_file_before_values_are_put_in() {
    let text = "a: [\"${V}\", ${V}x, here]\nb: ${V}\n";
    let Data::Map(entries) = filled(text, "a long value").unwrap().root.unwrap().data else { panic!() };
    let Data::List(items) = &entries[0].value.data else { panic!() };
    let columns: Vec<_> = items.iter().map(|item| (item.at.column, item.at.width)).collect();
    assert_eq!(columns, [(5, 6), (13, 5), (20, 4)]);
    assert_eq!((entries[1].value.at.line, entries[1].value.at.column, entries[1].value.at.width), (2, 4, 4));
    assert!(items[0].expanded && !items[2].expanded);
}
