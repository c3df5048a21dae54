//! What `race` understands, and what it prints without a machine.

use super::*;
use crate::cancel::Cancel;
use crate::out::Buffer;
use algo::explore::{ObjectId, PointKind, Verdict};

fn words(line: &str) -> Args {
    let words: Vec<String> = line.split_whitespace().map(String::from).collect();
    Args::new(&words)
}

fn ordered(line: &str) -> Order {
    match order(words(line), Fixes::ALL) {
        Ok(order) => order,
        Err(e) => panic!("{line}: {}", e.0),
    }
}

#[test]
fn a_run_is_bounded_by_two_preemptions_and_its_budget() {
    let o = ordered("planted-deadlock");
    assert!(!o.broken && o.fixes == Fixes::ALL && o.seed == 1);
    assert_eq!(o.scenarios[0].name(), "planted-deadlock");
    assert_eq!(
        o.plan,
        Plan {
            method: Method::Bound(Some(2)),
            runs: 200_000,
            secs: None
        }
    );
    let o = ordered("planted-deadlock --bound none --max 7 --secs 3 --seed 9");
    assert_eq!((o.plan.method, o.seed), (Method::Bound(None), 9));
    assert_eq!((o.plan.runs, o.plan.secs), (7, Some(3)));
    assert_eq!(ordered("planted-deadlock --full").plan.runs, u64::MAX);
}

#[test]
fn all_is_more_in_full() {
    let names = |line| ordered(line).scenarios.len();
    assert_eq!(names("all --full"), names("all") + scenarios::WIDE.len());
}

#[test]
fn searches_without_an_end_get_one() {
    assert_eq!(ordered("planted-deadlock --pct 3").plan.runs, 10_000);
    assert_eq!(ordered("planted-deadlock --random").plan.runs, 10_000);
    let o = ordered("planted-deadlock --pct 3 --secs 5");
    assert_eq!((o.plan.method, o.plan.runs), (Method::Pct(3), u64::MAX));
    let o = ordered("planted-deadlock --pct 3 --max 1000000");
    assert_eq!(o.plan.runs, 1_000_000);
}

#[test]
fn fixes_are_changed_from_what_they_are() {
    let now = Fixes::ALL.with(Knob::WpFlush, false);
    let line = "--fix wp_flush=on tlb_flush=off planted-deadlock --fix pmd_recheck=off";
    let o = order(words(line), now).expect(line);
    assert_eq!(o.fixes.to_string(), "tlb_flush=off,pmd_recheck=off");
    let o = order(words("planted-deadlock"), now).expect("a name");
    assert_eq!(o.fixes, now);
}

#[test]
fn complaints_say_what_is_accepted() {
    for (line, part) in [
        ("", "want a name, or all"),
        ("nothing", "accepted: "),
        ("planted-deadlock more", "unexpected word 'more'"),
        (
            "planted-deadlock tlb_flush=off",
            "unexpected word 'tlb_flush=off'",
        ),
        ("planted-deadlock --fix tlb_flush", "want K=on or K=off"),
        ("planted-deadlock --bound x", "want 0 to 100, or none"),
        ("planted-deadlock --bound 101", "want 0 to 100, or none"),
        ("planted-deadlock --pct 0", "want 1 to 100"),
        ("planted-deadlock --max 0", "--max: 0 is out of range"),
        ("planted-deadlock --pct 2 --random", "exclude each other"),
        ("planted-deadlock --full --max 2", "exclude each other"),
        ("planted-deadlock --full --pct 2", "want --secs"),
        ("planted-deadlock --full --random", "want --secs"),
        ("planted-deadlock --bound 2 --pct 2", "exclude each other"),
        ("planted-deadlock --plain --dpor", "exclude each other"),
        ("planted-deadlock --bogus", "--seed"),
        ("planted-deadlock --broken", "has no fix to switch off"),
    ] {
        let e = order(words(line), Fixes::ALL).err().expect(line);
        assert!(e.0.contains(part), "{line}: {}", e.0);
    }
}

#[test]
fn an_absent_fix_is_looked_for_bound_by_bound() {
    let parse = |line: &str| {
        let line = format!("zap-vs-mkclean --broken {line}");
        order(words(&line), Fixes::ALL)
            .expect("a good line")
            .plan
            .method
    };
    assert_eq!(parse(""), Method::UpTo(Some(3)));
    assert_eq!(parse("--bound 1"), Method::UpTo(Some(1)));
    assert_eq!(parse("--bound none"), Method::UpTo(None));
    assert_eq!(parse("--pct 2"), Method::Pct(2));
    assert_eq!(parse("--dpor"), Method::Dpor);
    assert_eq!(parse("--plain --bound 1"), Method::Plain(Some(1)));
}

#[test]
fn a_small_scenario_is_searched_as_a_whole_if_nothing_else_is_asked_for() {
    let free = |line| order(words(line), Fixes::ALL).expect(line).free;
    assert!(free("zap-vs-mkclean") && free("all --secs 3"));
    assert!(!free("zap-vs-mkclean --bound 2") && !free("zap-vs-mkclean --broken"));
}

/// The command as the console runs it, as far as it goes without a machine.
#[test]
fn verbs() {
    let shell = crate::shell();
    for (line, status, part) in [
        ("race", Status::Usage, "list, run, replay or fuzz"),
        (
            "race walk",
            Status::Usage,
            "accepted: list, run, replay, fuzz",
        ),
        ("race list more", Status::Usage, "unexpected word"),
        ("race list", Status::Ok, "planted-livelock"),
        ("race replay", Status::Usage, "want a schedule"),
        ("race replay v0:x", Status::Usage, "no known version"),
        ("race replay v1:x:-:0:-", Status::Usage, "accepted: "),
        ("race run x", Status::Usage, "planted-deadlock"),
        ("race --help", Status::Ok, "replay SCHEDULE [--times N]"),
    ] {
        let out = Buffer::new();
        let outcome = shell.run(line, &out, &Cancel::new());
        let text = out.take();
        assert_eq!(outcome.status, status, "{line}: {text}");
        assert!(text.contains(part), "{line}: {text}");
    }
}

#[test]
fn a_replay_prints_steps_and_counts() {
    let out = Buffer::new();
    let step = |letter, kind| {
        let object = ObjectId(0x1f);
        let actor = ActorId::from_letter(letter).expect("a letter");
        (actor, Point { kind, object })
    };
    let steps = [step('A', PointKind::Start), step('I', PointKind::IpiServe)];
    print_steps(&out, steps.into_iter());
    let subject = Subject {
        scenario: scenarios::PLANTED[0].0,
        fixes: Fixes::ALL,
        seed: 1,
    };
    let done = |diverged| Repeats {
        times: 3,
        failed: 2,
        diverged,
        verdict: Verdict::Passed,
    };
    assert_eq!(conclude(&out, &subject, &done(0)), Status::Ok);
    assert_eq!(
        out.take(),
        "    0 A start      0x0000001f\n    1 I ipi-serve  0x0000001f\n# planted-lost-update: passed\n\
         race replay: planted-lost-update times=3 failed=2 diverged=0\n"
    );
    assert_eq!(conclude(&out, &subject, &done(1)), Status::Failed);
}
