//! `run-qemu.sh` names what was wrong, before it builds or installs anything, and exits 2.

use std::process::{Command, Output};

fn run(args: &[&str]) -> Output {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../run-qemu.sh");
    Command::new(script).args(args).output().unwrap()
}

/// Asserts status 2 and that the message holds every one of `words`.
#[track_caller]
fn refused(args: &[&str], words: &[&str]) {
    let output = run(args);
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {message}");
    assert!(output.stdout.is_empty(), "{args:?}");
    for word in words {
        assert!(
            message.contains(word),
            "{args:?}: {message:?} lacks {word:?}"
        );
    }
}

#[test]
fn unknown_words() {
    refused(&["--bogus"], &["unknown option --bogus", "--help"]);
    refused(&["bogus"], &["unexpected argument 'bogus'"]);
}

#[test]
fn sizes() {
    refused(&["--mem"], &["--mem needs a value"]);
    refused(&["--mem", "12"], &["bad size for --mem: '12'", "K, M or G"]);
    refused(&["--mem", "16M"], &["--mem 16M", "32M to 64G"]);
    refused(
        &["--mem", "32M", "--uefi"],
        &["too small for --uefi", "48M"],
    );
    refused(&["--mem", "65G"], &["32M to 64G"]);
    refused(&["--swap", "12Q"], &["bad size for --swap: '12Q'"]);
    refused(&["--swap", "1K"], &["1M to 64G"]);
}

#[test]
fn numbers() {
    refused(&["--cpus", "0"], &["--cpus: '0'", "from 1 to 16"]);
    refused(&["--cpus", "17"], &["from 1 to 16"]);
    refused(&["--cpus", "two"], &["'two'"]);
    refused(&["--timeout", "-1"], &["--timeout: '-1'"]);
}

#[test]
fn disks() {
    refused(
        &["--disk", "/nonexistent.img"],
        &["/nonexistent.img", "does not exist"],
    );
    refused(&["--disk", "/"], &["neither a file nor a block device"]);
    refused(
        &["--disk", "/dev/null"],
        &["neither a file nor a block device"],
    );
    refused(
        &["--swap", "0", "--disk-errors", "read@4"],
        &["needs a swap disk"],
    );
    refused(&["--disk-errors", "read"], &["'read'", "SECTOR"]);
    refused(
        &["--data-image", "/nonexistent.img"],
        &["/nonexistent.img", "does not exist"],
    );
    for option in [["--data-errors", "read@4"], ["--data-slow", "9"]] {
        let none = ["--data", "0", option[0], option[1]];
        refused(&none, &[option[0], "needs a data disk"]);
    }
    refused(&["--data", "1M", "--data-slow", "0"], &["--data-slow: '0'"]);
    refused(
        &["--data-errors", "read@1+2000"],
        &["--data-errors", "2000 sectors", "1024"],
    );
    for bad in [
        "write@1:twice",
        "write@1:once:enospc",
        "flushes@3",
        "flushes@3,write@1",
        "write@1,flushes@0",
        "write@1,flushes@100",
    ] {
        refused(
            &["--data", "1M", "--data-errors", bad],
            &["--data-errors", bad],
        );
    }
    refused(
        &["--data", "1M", "--data-errors", "write@1+2000:enospc:once"],
        &["2000 sectors"],
    );
    refused(&["--data", "1K"], &["--data 1K", "1M to 64G"]);
    let image = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    refused(
        &["--disk", image, "--data-image", image],
        &["the same image"],
    );
}

#[test]
fn commands_that_the_kernel_would_not_read_to_their_end() {
    let commands = "swap; ".repeat(11_000);
    refused(&["--exec", &commands], &["--exec has 66006 bytes", "65000"]);
}

#[test]
fn contradictions() {
    refused(&["--exec", "help", "--test"], &["exclude each other"]);
    refused(&["--host"], &["--exec, --test or --bench"]);
    refused(&["--host", "--test", "--uefi"], &["do not go with --host"]);
    refused(
        &[
            "--disk",
            concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"),
            "--swap",
            "1M",
        ],
        &["exclude"],
    );
}

#[test]
fn help_lists_every_option() {
    let output = run(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    for option in "--exec --test --bench --host --cpus --mem --swap --disk --uefi --release --no-lab --icount \
                   --gdb --display --timeout --setup --disk-errors --data --data-image --data-errors --data-slow --pid-file"
        .split_whitespace()
    {
        assert!(text.contains(&format!("  {option} ")) || text.contains(&format!(" {option}\n")), "{option}");
    }
    assert!(text.contains("Exit status"));
}
