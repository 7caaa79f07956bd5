//! A config file, and the plan that is compiled from it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plgw::config::parse;
use plgw::plan::{Generation, compile};

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match parse(text, "f.toml") {
        Ok(config) => {
            if let Err(errors) = compile(&config.desired, &Default::default(), Generation(1)) {
                assert_eq!(
                    errors.to_string().lines().count(),
                    errors.as_slice().len() + 1,
                    "one line a mistake: {errors}"
                );
            }
        }
        Err(errors) => {
            assert_eq!(errors.to_string().lines().count(), errors.problems.len() + 1, "one line a mistake: {errors}");
            for problem in &errors.problems {
                assert!(problem.place.is_some(), "a mistake in a text has a place: {problem}");
                assert!(problem.path.len() <= 1000 && problem.message.len() <= 1000, "it is bounded: {problem}");
            }
        }
    }
});
