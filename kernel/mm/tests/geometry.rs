//! How many entries a table has is said in `arch::addr` alone: no source of the memory manager has
//! the number, or the shift that goes with it, as a literal.

mod source;

/// Numbers that are none of the geometry: file, and what its line says.
const OTHERS: &[(&str, &str)] = &[
    ("frame/flags.rs", "WRITEBACK: u32 = 1 << 9"),
    // A batch.
    ("pt/gather.rs", "BATCH: usize = 512"),
    // A gibibyte.
    ("reclaim/scan_count.rs", "(30 - arch::PAGE_SHIFT)"),
];

/// What looks like entries of a table (512, 511) or like a shift by a level (9, 21, 30, 39).
fn has_literal(line: &str) -> bool {
    let words: Vec<&str> = line
        .split(|c: char| !c.is_ascii_alphanumeric() && !"_<>*".contains(c))
        .filter(|w| !w.is_empty())
        .collect();
    let is_one_of = |word: Option<&&str>, of: &[&str]| word.is_some_and(|w| of.contains(w));
    (0..words.len()).any(|i| {
        is_one_of(words.get(i), &["512", "511", "0x1ff"])
            || is_one_of(words.get(i), &["<<", ">>"])
                && is_one_of(words.get(i + 1), &["9", "21", "30", "39"])
            || is_one_of(words.get(i), &["*"])
                && (is_one_of(words.get(i + 1), &["9"])
                    || i > 0 && is_one_of(words.get(i - 1), &["9"]))
    })
}

#[test]
#[cfg_attr(miri, ignore = "reads the source folder")]
fn no_literal_of_the_geometry() {
    let mut found = Vec::new();
    for (file, text) in source::all() {
        let name = file.to_str().expect("a name in ASCII");
        for (n, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or("");
            let is_other = OTHERS.iter().any(|(f, l)| *f == name && line.contains(l));
            if has_literal(code) && !is_other {
                found.push(format!("{name}:{}: {}", n + 1, line.trim()));
            }
        }
    }
    assert!(
        found.is_empty(),
        "`arch::addr` has names for these:\n{}",
        found.join("\n")
    );
}

#[test]
fn literals_are_found() {
    for line in [
        "let size = PAGE_SIZE << (9 * level);",
        "va & !(size * 512 - 1)",
        "PMD << 9",
        "level * 9",
        "index & 511",
        "va >> 21",
    ] {
        assert!(has_literal(line), "{line}");
    }
    assert!(!has_literal(
        "let x = pages << PAGE_SHIFT; let n = 19 * 5120;"
    ));
}
