//! The record of a frame is looked up once: no function asks twice for that of the same number.

mod source;

/// The argument of a call that begins right after its opening parenthesis.
fn argument(rest: &str) -> &str {
    let mut depth = 1;
    let end = rest.find(|c| {
        depth += match c {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        depth == 0
    });
    &rest[..end.unwrap_or(rest.len())]
}

/// What `frame(…)` or `Folio::of(…)` is called for twice in a function of `text`, with the
/// function's name.
fn asked_twice(text: &str) -> Vec<(String, String)> {
    let code: String = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or(""))
        .collect::<Vec<_>>()
        .join("\n");
    let mut found = Vec::new();
    for function in code.split("fn ").skip(1) {
        let name = function.split(['(', '<']).next().unwrap_or("");
        let mut asked: Vec<&str> = Vec::new();
        for call in ["frame(", "Folio::of("] {
            for (at, _) in function.match_indices(call) {
                let before = function[..at].chars().next_back();
                let argument = argument(&function[at + call.len()..]);
                // A method, or another function whose name ends like that.
                if before.is_some_and(|c| c.is_alphanumeric() || "_.".contains(c))
                    || argument.is_empty()
                {
                    continue;
                }
                if asked.contains(&argument) {
                    found.push((name.to_string(), argument.to_string()));
                }
                asked.push(argument);
            }
        }
    }
    found
}

#[test]
#[cfg_attr(miri, ignore = "reads the source folder")]
fn no_function_looks_a_record_up_twice() {
    let mut found = Vec::new();
    for (file, text) in source::all() {
        for (function, of) in asked_twice(&text) {
            found.push(format!(
                "{}: {function} asks twice for {of}",
                file.display()
            ));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn two_looks_are_found() {
    let twice = "fn f(pfn: Pfn) { frame(pfn).get(); g(frame(pfn)); }";
    assert_eq!(asked_twice(twice), [("f".to_string(), "pfn".to_string())]);
    let mixed = "fn f(e: Entry) { frame(e.pfn()); Folio::of(e.pfn()); }";
    assert_eq!(asked_twice(mixed).len(), 1);
    assert!(asked_twice("fn f() { frame(a); frame(b); } fn g() { frame(a); }").is_empty());
}
