//! ARCHITECTURE.md shows the lock table of the code: the same ranks in the same order.

use std::fs;
use std::path::Path;

use sync::Rank;

/// The first column of the table under "The lock table".
fn documented(text: &str) -> Vec<&str> {
    let section = text
        .split("\n## ")
        .find(|s| s.starts_with("The lock table"));
    section
        .expect("the section is there")
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|row| row.split('`').next())
        .collect()
}

#[test]
#[cfg_attr(miri, ignore = "reads a file")]
fn the_document_shows_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ARCHITECTURE.md");
    let text = fs::read_to_string(path).expect("ARCHITECTURE.md can be read");
    let code: Vec<&str> = Rank::ALL.iter().map(|r| r.name()).collect();
    assert_eq!(documented(&text), code);
}
