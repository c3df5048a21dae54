//! The modules of the memory manager point one way: each may name only those below it.

mod source;

use std::path::{Path, PathBuf};

/// Top first, as in `src/lib.rs`.
const ORDER: &[&str] = &[
    "explore",
    "init",
    "inspect",
    "view",
    "ops",
    "reclaim",
    "fault",
    "file",
    "adopt",
    "handle",
    "exit",
    "zap",
    "migrate",
    "rmap",
    "swap",
    "pt",
    "mm",
    "thp",
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
    let mut wrong = Vec::new();
    for (inside, text) in source::all() {
        let first = inside.components().next().expect("a name");
        let module = Path::new(first.as_os_str()).with_extension("");
        let module = module.to_str().expect("a name in ASCII");
        if module == "lib" {
            continue;
        }
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

/// Files of one folder that name each other, and why.
const CIRCLES: &[(&str, &str, &str)] = &[
    // A PMD needs the tables above it to be there; of those the lowest are tables of PMDs.
    ("pt", "pmd", "upper"),
];

/// The file in its folder that a line of code names.
fn siblings<'a>(text: &str, folder: &str, names: &'a [String]) -> Vec<&'a String> {
    let mut code: String = text
        .lines()
        .take_while(|line| !line.starts_with("#[cfg(test)]"))
        .map(|line| line.split("//").next().unwrap_or(""))
        .collect::<Vec<_>>()
        .join(" ");
    code.retain(|c| c != '\n');
    let begins = [
        "super::".to_string(),
        format!("crate::{}::", folder.replace('/', "::")),
    ];
    let mut found = Vec::new();
    for begin in begins {
        for rest in code.split(begin.as_str()).skip(1) {
            let end = match rest.strip_prefix('{') {
                Some(_) => rest.find('}').unwrap_or(rest.len()),
                None => rest
                    .find(|c: char| !c.is_ascii_lowercase() && c != '_')
                    .unwrap_or(rest.len()),
            };
            let words = rest[..end].split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let words: Vec<&str> = words.collect();
            found.extend(names.iter().filter(|n| words.contains(&n.as_str())));
        }
    }
    found
}

/// Whether `from` leads to `to` by way of names.
fn leads(graph: &[(String, Vec<String>)], from: &str, to: &str, seen: &mut Vec<String>) -> bool {
    if seen.iter().any(|s| s == from) {
        return false;
    }
    seen.push(from.to_string());
    let named = graph
        .iter()
        .find(|(n, _)| n == from)
        .map(|(_, named)| named);
    named.is_some_and(|all| all.iter().any(|n| n == to || leads(graph, n, to, seen)))
}

#[test]
#[cfg_attr(miri, ignore = "reads the source folder")]
fn files_of_a_folder_point_one_way() {
    let files = source::all();
    let mut folders: Vec<PathBuf> = files
        .iter()
        .filter_map(|(f, _)| f.parent().map(Into::into))
        .collect();
    folders.sort();
    folders.dedup();
    let mut wrong = Vec::new();
    for folder in folders.iter().filter(|f| !f.as_os_str().is_empty()) {
        let name = folder.to_str().expect("ASCII");
        let here: Vec<&(PathBuf, String)> = files
            .iter()
            .filter(|(f, _)| f.parent() == Some(folder))
            .collect();
        let stem = |f: &Path| {
            f.file_stem()
                .and_then(|s| s.to_str())
                .expect("a name")
                .to_string()
        };
        let names: Vec<String> = here
            .iter()
            .map(|(f, _)| stem(f))
            .filter(|n| n != "mod")
            .collect();
        let graph: Vec<(String, Vec<String>)> = here
            .iter()
            .filter(|(f, _)| names.contains(&stem(f)))
            .map(|(f, text)| {
                let own = stem(f);
                let named = siblings(text, name, &names).into_iter().cloned();
                (own.clone(), named.filter(|n| *n != own).collect())
            })
            .collect();
        for (file, named) in &graph {
            for other in named {
                let known = CIRCLES.iter().any(|(f, a, b)| {
                    *f == name && [(a, b), (b, a)].contains(&(&file.as_str(), &other.as_str()))
                });
                if !known && leads(&graph, other, file, &mut Vec::new()) {
                    wrong.push(format!("{name}: {file} names {other}, which leads back"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "in a circle:\n{}", wrong.join("\n"));
}

#[test]
fn a_circle_of_files_is_found() {
    let names = ["a".to_string(), "b".to_string()];
    let of = |text| {
        siblings(text, "pt", &names)
            .into_iter()
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(of("use super::{b, c};\n// super::a\n"), ["b"]);
    assert_eq!(of("let x = crate::pt::a::f();"), ["a"]);
    let graph = [
        ("a".to_string(), vec!["b".to_string()]),
        ("b".to_string(), vec!["a".to_string()]),
    ];
    assert!(leads(&graph, "b", "a", &mut Vec::new()));
    assert!(!leads(&graph[..1], "b", "a", &mut Vec::new()));
}
