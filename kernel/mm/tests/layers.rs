//! The modules of the memory manager point one way: each may name only those below it.

use std::fs;
use std::path::{Path, PathBuf};

/// Top first, as in `src/lib.rs`.
const ORDER: &[&str] = &[
    "explore",
    "init",
    "view",
    "ops",
    "reclaim",
    "fault",
    "file",
    "adopt",
    "handle",
    "exit",
    "zap",
    "rmap",
    "swap",
    "pt",
    "mm",
    "vma",
    "pagecache",
    "heap",
    "folio",
    "buddy",
    "workingset",
    "lru",
    "arena",
    "bio",
    "zero",
    "content",
    "frame",
    "stats",
    "error",
    "rounds",
    "scarce",
    "knobs",
];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("the source folder can be read") {
        let path = entry.expect("an entry of it").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

fn height(module: &str) -> Option<usize> {
    ORDER.iter().rev().position(|m| *m == module)
}

/// `line number, module` for each `crate::module` in code.
fn named(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let code = |line: &str| !line.trim_start().starts_with("//");
    text.lines()
        .enumerate()
        .filter(move |(_, line)| code(line))
        .flat_map(|(n, line)| line.split("crate::").skip(1).map(move |rest| (n + 1, rest)))
        .map(|(n, rest)| {
            let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '_');
            (n, &rest[..end.unwrap_or(rest.len())])
        })
}

fn check(text: &str, of: &str) -> Vec<(usize, String)> {
    let own = height(of).unwrap_or_else(|| panic!("{of} has no place in the order"));
    named(text)
        .filter(|(_, module)| !module.is_empty() && *module != of)
        .filter(|(_, module)| height(module).is_none_or(|h| h >= own))
        .map(|(line, module)| (line, module.to_string()))
        .collect()
}

#[test]
#[cfg_attr(miri, ignore = "reads the source folder")]
fn modules_point_downwards() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut wrong = Vec::new();
    for file in files {
        let inside = file.strip_prefix(&root).expect("below the source folder");
        let first = inside.components().next().expect("a name");
        let module = Path::new(first.as_os_str()).with_extension("");
        let module = module.to_str().expect("a name in ASCII");
        if module == "lib" {
            continue;
        }
        let text = fs::read_to_string(&file).expect("a source file can be read");
        for (line, named) in check(&text, module) {
            wrong.push(format!(
                "{}:{line}: {module} names {named}",
                inside.display()
            ));
        }
    }
    assert!(wrong.is_empty(), "upwards:\n{}", wrong.join("\n"));
}

#[test]
fn an_arrow_upwards_is_found() {
    assert_eq!(
        check("use crate::ops::args;\n", "pt"),
        [(1, "ops".to_string())]
    );
    assert!(check("use crate::frame::frame;\n// crate::ops\n", "pt").is_empty());
}
