//! The sources of the memory manager, for the tests that read them.

use std::fs;
use std::path::{Path, PathBuf};

/// Each source file, as a path below `src/` and its text.
pub(crate) fn all() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    below(&root, &mut found);
    found
        .into_iter()
        .map(|file| {
            let text = fs::read_to_string(&file).expect("a source file can be read");
            let inside = file.strip_prefix(&root).expect("below the source folder");
            (inside.to_path_buf(), text)
        })
        .collect()
}

fn below(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("the source folder can be read") {
        let path = entry.expect("an entry of it").path();
        if path.is_dir() {
            below(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}
