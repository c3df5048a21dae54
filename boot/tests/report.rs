//! The program that puts a phase's output into the report, with output that is no text.

use std::io::Write;
use std::process::{Command, Stdio};

#[test]
fn what_is_no_text_is_counted_as_well() {
    let totals = std::env::temp_dir().join(format!("quire-report-{}", std::process::id()));
    let mut report = Command::new(env!("CARGO_BIN_EXE_report"))
        .args([totals.as_os_str(), "phase".as_ref()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program was built with this test");
    let text = b"KTAP version 1\n1..2\r\n# \xff\nok 1 \x80a\nnot ok 2 b";
    let mut input = report.stdin.take().expect("it has one");
    input.write_all(text).expect("it reads");
    drop(input);
    let output = report.wait_with_output().expect("it ends");
    let counted = std::fs::read_to_string(&totals).unwrap_or_default();
    let _ = std::fs::remove_file(&totals);
    assert_eq!(
        (output.status.code(), counted.as_str()),
        (Some(0), "1 1 0\n")
    );
    let shown = String::from_utf8_lossy(&output.stdout);
    assert_eq!(
        shown,
        "    KTAP version 1\n    # Subtest: phase\n    1..2\n    # \u{fffd}\n    ok 1 \u{fffd}a\n    not ok 2 b\n"
    );
}
