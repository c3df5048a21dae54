//! `quire-host` from outside: exit statuses, messages, and the broken rules that end in a panic.

use std::process::{Command, Output};

fn quire(words: &[&str]) -> (i32, String) {
    let run = Command::new(env!("CARGO_BIN_EXE_quire-host"))
        .args(words)
        .env("RUST_BACKTRACE", "0")
        .output();
    let Output {
        status,
        stdout,
        stderr,
    } = run.expect("the program was built with this test");
    let text = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (status.code().unwrap_or(-1), text.concat())
}

#[track_caller]
fn expect(words: &[&str], status: i32, part: &str) {
    let (found, text) = quire(words);
    assert!(
        found == status && text.contains(part),
        "status {found}:\n{text}"
    );
}

#[test]
fn statuses_say_how_it_went() {
    expect(&["--exec", "meminfo"], 0, "all accounted for");
    expect(&["--help"], 0, "usage: quire-host");
    expect(&["--bogus"], 2, "unknown option '--bogus'");
    expect(&["--exec", "meminf"], 2, "did you mean meminfo?");
    expect(&["--exec", "stress swop"], 2, "swap");
    expect(&["--test", "no_such_test"], 2, "no test's name contains");
    expect(
        &["--exec", "bench first_tuch; meminfo"],
        2,
        "near: first_touch",
    );
}

#[test]
fn a_panic_that_the_explorer_provokes_is_a_verdict() {
    let run = ["--exec", "race run planted-panic"];
    expect(&run, 1, "violations=1 first=v1:planted-panic:");
    expect(&run, 1, "the word changed on the way (kernel/lab/src/race/");
}

#[test]
fn an_image_is_the_data_disk() {
    expect(&["--data-image", "/none"], 2, "data image '/none'");
    let image = std::env::temp_dir().join(format!("quire-host-{}.img", std::process::id()));
    let path = image.to_str().expect("the folder's name is text");
    std::fs::write(&image, vec![0; 2 << 20]).expect("the image can be made");
    let run = |commands: &str, status, part: &str| {
        expect(&["--data-image", path, "--exec", commands], status, part);
    };
    run("mount", 1, "no boot signature");
    run("mkfs; mount; write '/a file' kept; umount", 0, "FAT12");
    run("mount; cat '/A FILE'", 0, "kept");
    run("ls", 1, "no volume is mounted");
    run("cat", 2, "FILE is missing");
    // However the commands end, what was written stays.
    for (i, end) in ["", "; poweroff", "; exit; help", "; cat /none"]
        .iter()
        .enumerate()
    {
        let status = i32::from(i == 3);
        run(&format!("mount; write /end {i}{end}"), status, "");
        run("mount; cat /end", 0, &format!("bytes\n{i}\n"));
    }
    std::fs::remove_file(&image).expect("the image can be removed");
}

#[test]
fn memory_that_runs_out_ends_one_actor() {
    let stress = "stress swap --secs 1";
    expect(
        &["--mem", "32M", "--swap", "0", "--exec", stress],
        0,
        "ended 1 of 4 actors",
    );
    expect(
        &["--mem", "32M", "--swap", "32M", "--exec", stress],
        0,
        "stress swap: ok",
    );
}

/// What was found is said in words and numbers, not in Rust's.
#[cfg(feature = "lab")]
#[test]
fn verdicts_are_for_people() {
    let (found, text) = quire(&["--exec", "race run all --broken"]);
    assert_eq!(found, 0, "{text}");
    let debug = ["Some(", "None", "Ok(", "Err(", " { "];
    let bad = text
        .lines()
        .find(|line| debug.iter().any(|d| line.contains(d)));
    assert_eq!(bad, None);
}

/// A failure says all that replays it; what never ran has nothing to replay.
#[cfg(feature = "lab")]
#[test]
fn a_failure_names_the_machine_and_what_was_set() {
    let set = "fix late_dirty on; fix tlb_flush off; fault-inject data write 8+8 --times 2";
    let stress = "stress tlb --secs 20 --cpus 2";
    let (status, text) = quire(&["--data", "8M", "--exec", &format!("{set}; {stress}")]);
    let machine = "# machine: quire-host --cpus 4 --mem 262144K --swap 65536K --data 8192K ";
    let replay =
        "# replay: fix tlb_flush off; fix late_dirty on; fault-inject data write 8+8 --times 2; ";
    let line = format!("{replay}{stress} --seed 0x1\n");
    assert!(
        status == 1 && text.contains("# seed: 0x1\n") && text.contains(machine),
        "{text}"
    );
    assert!(text.contains(&line), "{text}");
    let (status, text) = quire(&["--data", "0", "--exec", "stress file"]);
    assert!(status == 1 && text.contains("needs a data disk"), "{text}");
    assert!(
        !text.contains("seed:") && !text.contains("replay:"),
        "{text}"
    );
    expect(&["--exec", "stress --bogus"], 2, "unknown option '--bogus'");
}

/// What a disk does not take is lost: that is said, and it is a status.
#[cfg(feature = "lab")]
#[test]
fn a_volume_that_cannot_be_unmounted_is_a_failure() {
    let run = "mkfs; mount; write /a lost; fault-inject data write";
    expect(
        &["--exec", run],
        1,
        "what was written to it since the last sync is lost",
    );
    let first = "meminf; mkfs; mount; write /a lost; fault-inject data write; exit";
    expect(&["--exec", first], 2, "the volume cannot be unmounted");
}

/// Unreadable pages: an error of their users, and a status unless it is accepted.
#[cfg(feature = "lab")]
#[test]
fn a_disk_with_read_errors_fails_the_run_that_needs_it() {
    let run =
        |options: &str| format!("fault-inject read --times 5; stress swap --secs 1 {options}");
    let machine = ["--mem", "32M", "--swap", "32M", "--exec"];
    expect(&[&machine[..], &[&run("")]].concat(), 1, "(SIGBUS)");
    expect(
        &[&machine[..], &[&run("--bus-ok")]].concat(),
        0,
        "stress swap: ok",
    );
    let none = "fault-inject data read";
    expect(&["--data", "0", "--exec", none], 2, "no such disk");
    let writes = "fault-inject write --times 40; stress swap --secs 1; swap";
    expect(
        &[&machine[..], &[writes]].concat(),
        0,
        "quire_swap_write_error",
    );
}

/// Nobody but the flusher writes in `stress writeback`. Where it cannot, the run ends all the same,
/// and says why.
#[test]
fn a_stress_ends_on_a_disk_that_takes_no_writes() {
    let machine = ["--data", "16M", "--mem", "64M", "--exec"];
    for (sectors, written) in [("0+8", "1 pages are not written"), ("", "are not written")] {
        let run = format!("fault-inject data write {sectors}; stress writeback --secs 1");
        expect(&[&machine[..], &[&run]].concat(), 1, written);
        expect(
            &[&machine[..], &[&format!("{run} --bus-ok")]].concat(),
            0,
            "stress writeback: ok",
        );
    }
}

#[test]
fn a_stress_refuses_what_it_makes_no_use_of() {
    for (run, accepted) in [
        (
            "anon --bus-ok",
            "--bus-ok goes with swap, file, msync, writeback only",
        ),
        (
            "zap-mkclean --pages 9",
            "--pages goes with anon, fork, migrate, thp, swap, file, msync, writeback, truncate, mixed only",
        ),
        ("swap --promises", "--promises goes with msync, fat only"),
    ] {
        expect(&["--exec", &format!("stress {run}")], 2, accepted);
    }
}

/// Rule 4: two tables for one PMD entry; the accounting notices the one that was lost.
#[cfg(feature = "lab")]
#[test]
fn without_the_second_look_at_the_pmd_a_table_is_lost() {
    let run = "selftest run fresh_tables --repeat 50";
    let (kept, text) = quire(&["--exec", &run.replace("50", "3")]);
    assert_eq!(kept, 0, "{text}");
    let (broken, text) = quire(&["--exec", &format!("fix pmd_recheck off; {run}")]);
    assert!(broken == 1 || broken == 3, "status {broken}:\n{text}");
}

/// Rule 6: with interrupts off, a CPU that waits for an acknowledgement could be waited for in
/// turn.
#[cfg(feature = "lab")]
#[test]
fn waiting_with_interrupts_off_is_caught() {
    let run = "fix ack_irqs_on off; selftest run unmapped_pages_are";
    expect(
        &["--exec", run],
        3,
        "waits for another CPU with interrupts off",
    );
}
