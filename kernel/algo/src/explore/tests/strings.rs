//! Schedules survive being written and read; what is no schedule is refused with its reason.

use crate::explore::{ActorId, Choices, Schedule};
use crate::testing::config;
use proptest::prelude::*;
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

fn choices() -> impl Strategy<Value = Choices> {
    prop::collection::vec((0..16usize, 1..2000u32), 0..20).prop_map(|v| {
        v.into_iter()
            .filter_map(|(a, n)| Some((ActorId::new(a)?, n)))
            .collect()
    })
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn what_is_printed_parses_to_the_same(
        scenario in "[a-z][a-z0-9-]{0,12}",
        knobs in prop::collection::vec(("[a-z][a-z_]{0,8}", any::<bool>()), 0..4),
        seed in any::<u64>(),
        choices in choices(),
        fingerprint in any::<Option<u32>>(),
    ) {
        let knobs: Vec<(&str, bool)> = knobs.iter().map(|(n, on)| (n.as_str(), *on)).collect();
        let mut s = Schedule::new(&scenario, &knobs, seed).expect("names are fine");
        s.choices = choices;
        s.fingerprint = fingerprint;
        let text = s.to_string();
        prop_assert!(!text.contains(char::is_whitespace));
        prop_assert_eq!(text.parse::<Schedule>(), Ok(s));
    }

    #[test]
    fn any_text_is_read_or_refused(text in "v1:[a-z:A-P0-9.=,_-]{0,40}") {
        if let Ok(s) = text.parse::<Schedule>() {
            prop_assert_eq!(s.to_string().parse::<Schedule>(), Ok(s));
        }
    }
}

#[test]
fn the_format_stays() {
    let text = "v1:gather-order:tlb_flush=off,wp_flush=on:42:A5.B2.I1.A1:0badcafe";
    let s: Schedule = text.parse().expect("a schedule");
    assert_eq!(s.scenario(), "gather-order");
    assert!(s.knobs().eq([("tlb_flush", false), ("wp_flush", true)]));
    assert_eq!((s.seed, s.fingerprint), (42, Some(0x0bad_cafe)));
    assert_eq!((s.choices.steps(), s.choices.switches()), (9, 3));
    assert_eq!(s.to_string(), text);
    let other = s.with_choices("a1.a2.B1".parse().expect("choices"));
    assert_eq!(
        other.to_string(),
        "v1:gather-order:tlb_flush=off,wp_flush=on:42:A3.B1"
    );
    let empty = Schedule::new("cow-vs-cow", &[], 0).expect("a name");
    assert_eq!(empty.to_string(), "v1:cow-vs-cow:-:0:-");
    assert_eq!("v1:cow-vs-cow:-:0:-".parse(), Ok(empty));
}

fn refusal(text: &str) -> String {
    text.parse::<Schedule>().expect_err(text).to_string()
}

#[test]
fn errors_name_what_is_wrong() {
    for (text, says) in [
        ("", "'' is no known version"),
        ("v2:x:-:0:A1", "'v2' is no known version"),
        ("gather-order", "'gather-order' is no known version"),
        ("v1:x:-:0", "4 fields, expected 5 or 6"),
        ("v1:x:-:0:A1:00000000:1", "7 fields, expected 5 or 6"),
        ("v1::-:0:A1", "'' is no name"),
        ("v1:a b:-:0:A1", "'a b' is no name"),
        ("v1:x:k:0:A1", "knob 'k': expected NAME=on or NAME=off"),
        ("v1:x:k=yes:0:A1", "knob 'k=yes'"),
        ("v1:x:=on:0:A1", "'' is no name"),
        ("v1:x::0:A1", "knob ''"),
        ("v1:x:-::A1", "seed ''"),
        ("v1:x:-:+1:A1", "seed '+1': expected a decimal number"),
        (
            "v1:x:-:18446744073709551616:A1",
            "seed '18446744073709551616'",
        ),
        ("v1:x:-:0:", "'' in the choices"),
        ("v1:x:-:0:A0", "'A0' in the choices"),
        ("v1:x:-:0:A", "'A' in the choices"),
        (
            "v1:x:-:0:Q1",
            "'Q1' in the choices: expected a letter A to P",
        ),
        ("v1:x:-:0:A1..B1", "'' in the choices"),
        ("v1:x:-:0:A+1", "'A+1' in the choices"),
        ("v1:x:-:0:A4294967296", "'A4294967296' in the choices"),
        ("v1:x:-:0:é1", "'é1' in the choices"),
        ("v1:x:-:0:A1:123", "fingerprint '123': expected eight"),
        ("v1:x:-:0:A1:0000+001", "fingerprint '0000+001'"),
    ] {
        let error = refusal(text);
        assert!(error.contains(says), "{text}: {error}");
        assert!(error.starts_with("schedule: "), "{error}");
    }
    assert!(Schedule::new("a:b", &[], 0).is_err());
    assert!(Schedule::new("a", &[("k=", true)], 0).is_err());
    assert_eq!(format!("{}", Choices::new()), "-");
}
