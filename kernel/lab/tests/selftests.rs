//! The self-tests and short stress runs on the simulator, under `cargo test`.
//!
//! There is one simulated machine per process, so there is one test here; its parts say what they
//! are.

use lab::cancel::Cancel;
use lab::host::{self, Machine};
use lab::out::{Buffer, Out};
use lab::shell::Status;

/// Runs console commands; panics with what they printed unless they end with `expected`.
fn commands(line: &str, expected: Status) -> String {
    let out = Buffer::new();
    let outcome = lab::shell().run(line, &out, &Cancel::new());
    let text = out.take();
    assert_eq!(outcome.status, expected, "'{line}' printed:\n{text}");
    text
}

fn every_self_test() {
    let text = commands("selftest run", Status::Ok);
    assert!(text.ends_with(" passed, 0 failed\n"), "{text}");
    let cases = text.lines().filter(|l| l.starts_with("  ok ")).count();
    let listed = commands("selftest list", Status::Ok).lines().count();
    assert_eq!(cases, listed, "{text}");
}

/// The same seed gives the same result, also a second time on a used machine.
fn model_walks_repeat() {
    commands("selftest run model --repeat 5 --seed 100", Status::Ok);
}

#[cfg(feature = "lab")]
fn a_broken_rule_fails_and_names_its_seed() {
    let text = commands(
        "fix tlb_flush off; stress tlb --secs 20 --cpus 2 --seed 9",
        Status::Failed,
    );
    commands("fix tlb_flush on", Status::Ok);
    assert!(text.contains("stale translation"), "{text}");
    assert!(
        text.contains("# replay: fix tlb_flush off; stress tlb --secs 20 --cpus 2 --seed 9"),
        "{text}"
    );
    lab::oracle::take();
    commands("stress tlb --broken --secs 20 --cpus 2", Status::Ok);
}

#[cfg(not(feature = "lab"))]
fn a_broken_rule_fails_and_names_its_seed() {
    commands("fix tlb_flush off", Status::Usage);
}

fn every_page_is_accounted_for() {
    let text = commands("meminfo", Status::Ok);
    assert!(text.contains("all accounted for"), "{text}");
}

fn inspection_prints_something() {
    for line in [
        "buddyinfo",
        "vmstat",
        "maps",
        "smaps",
        "pagemap",
        "tlb",
        "swap",
        "locks",
        "fix",
        "folio 1",
        "rmap 1",
    ] {
        assert!(!commands(line, Status::Ok).is_empty(), "{line}");
    }
    commands("folio 0xffffff", Status::Usage);
    commands("maps 7", Status::Usage);
}

fn benches_print_their_lines() {
    let text = commands("bench first_touch; bench fork_page", Status::Ok);
    assert_eq!(
        text.lines().filter(|l| l.starts_with("bench: ")).count(),
        2,
        "{text}"
    );
    assert!(
        text.contains("bench: first_touch ops=4096 insns_per_op="),
        "{text}"
    );
}

struct Silent;
impl Out for Silent {
    fn put(&self, _: &str) {}
}

/// Ctrl-C ends what would run for long.
fn a_cancelled_stress_ends() {
    let cancel = Cancel::new();
    cancel.request();
    let out = Buffer::new();
    let outcome = lab::shell().run("stress anon --secs 100000 --cpus 2", &out, &cancel);
    assert_eq!(outcome.status, Status::Failed);
    // What keeps it from ending at once is said.
    let text = out.take();
    assert_eq!(
        text.matches("interrupted; every actor finishes").count(),
        1,
        "{text}"
    );
}

#[test]
fn the_laboratory_on_the_simulator() {
    let machine = Machine {
        cpus: 4,
        ram: 96 << 20,
        swap: 64 << 20,
        data: 16 << 20,
        seed: 1,
        evict: 0,
    };
    #[cfg(feature = "lab")]
    lab::race::hide_verdicts();
    host::run(&machine, &Silent, || {
        every_self_test();
        model_walks_repeat();
        a_broken_rule_fails_and_names_its_seed();
        every_page_is_accounted_for();
        inspection_prints_something();
        benches_print_their_lines();
        a_cancelled_stress_ends();
    });
}
