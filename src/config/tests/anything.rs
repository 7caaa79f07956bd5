//! For any file, the result is a config or a list of mistakes.

use proptest::prelude::*;

use crate::config::{QUICKSTART, parse};

#[test]
fn nesting_without_end_is_an_error_like_any_other() {
    for text in ["a.".repeat(100_000) + "x = 1", "x = ".to_owned() + &"[".repeat(100_000)] {
        let errors = parse(&text, "f.toml").expect_err("too deep");
        assert_eq!(errors.problems.len(), 1, "{errors}");
    }
}

proptest! {
    #[test]
    fn any_text_is_answered_without_a_panic(text in "\\PC{0,80}(\n\\PC{0,80}){0,4}") {
        let _ = parse(&text, "f.toml").map_err(|errors| errors.to_string());
    }

    #[test]
    fn any_change_of_a_good_file_is_answered_without_a_panic(
        start in 0..QUICKSTART.len(),
        length in 0..60_usize,
        insert in "[\\PC\n]{0,20}",
    ) {
        let end = (start + length).min(QUICKSTART.len());
        if QUICKSTART.is_char_boundary(start) && QUICKSTART.is_char_boundary(end) {
            let text = format!("{}{insert}{}", &QUICKSTART[..start], &QUICKSTART[end..]);
            if let Err(errors) = parse(&text, "f.toml") {
                prop_assert!(!errors.problems.is_empty());
                prop_assert_eq!(errors.to_string().lines().count(), errors.problems.len() + 1);
            }
        }
    }

    #[test]
    fn any_value_of_any_key_is_answered_without_a_panic(
        row in 0..1000_usize,
        value in prop_oneof![
            any::<i64>().prop_map(|n| n.to_string()),
            any::<f64>().prop_filter("TOML spells these otherwise", |n| n.is_finite()).prop_map(|n| format!("{n:?}")),
            "\"[0-9a-z:./-]{0,20}\"",
            Just("[]".to_owned()),
            Just("{}".to_owned()),
            Just("[[]]".to_owned()),
            Just("[{}]".to_owned()),
        ],
    ) {
        let keys: Vec<(usize, &str)> =
            QUICKSTART.lines().enumerate().filter(|(_, line)| line.contains(" = ") && !line.starts_with([' ', '#'])).collect();
        let (number, line) = keys[row % keys.len()];
        let key = line.split(" = ").next().expect("a key");
        let lines: Vec<String> = QUICKSTART
            .lines()
            .enumerate()
            .map(|(i, line)| if i == number { format!("{key} = {value}") } else { line.to_owned() })
            .collect();
        let _ = parse(&lines.join("\n"), "f.toml").map_err(|errors| errors.to_string());
    }
}
