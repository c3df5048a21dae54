//! Names for kernel addresses, from the ELF's debug information.

use std::cell::OnceCell;

use addr2line::Loader;

/// The kernel's symbols; the ELF is read when the first address is asked for.
pub(crate) struct Symbols {
    elf: String,
    loader: OnceCell<Option<Loader>>,
}

impl Symbols {
    pub(crate) fn new(elf: &str) -> Self {
        let elf = elf.to_owned();
        let loader = OnceCell::new();
        Self { elf, loader }
    }

    /// `function (file:line)` for the call before the return address `address`, inlined callers
    /// after ` < `; empty when nothing is known.
    pub(crate) fn describe(&self, address: u64) -> String {
        let open = || Loader::new(&self.elf).ok();
        let Some(loader) = self.loader.get_or_init(open) else {
            return String::new();
        };
        // A return address may already belong to the next line, or function.
        let Ok(mut frames) = loader.find_frames(address.wrapping_sub(1)) else {
            return String::new();
        };
        // Of a chain that the standard library inlined into ours, its entry is enough.
        let mut names = Vec::new();
        let mut in_library = false;
        while let Ok(Some(frame)) = frames.next() {
            let Some(function) = frame.function.as_ref() else {
                continue;
            };
            let name = function.demangle().unwrap_or_default().into_owned();
            let place = frame.location.as_ref();
            let file = short(place.and_then(|l| l.file).unwrap_or("?"));
            let line = place.and_then(|l| l.line).unwrap_or(0);
            let library = file.starts_with("library/");
            if library && in_library {
                names.pop();
            }
            in_library = library;
            names.push(format!("{} ({file}:{line})", without_hash(&name)));
        }
        names.join(" < ")
    }
}

/// The path below the workspace or below the crate store's folder.
fn short(path: &str) -> &str {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../");
    let root = std::path::Path::new(root).canonicalize();
    let in_workspace = root.ok().and_then(|root| {
        path.strip_prefix(root.to_str()?)
            .map(|rest| rest.trim_start_matches('/'))
    });
    let in_store = || {
        let at = path
            .find("/registry/src/")
            .map(|i| i + "/registry/src/".len());
        at.and_then(|at| path[at..].split_once('/'))
            .map(|(_, rest)| rest)
    };
    let in_library = || path.find("/library/").map(|i| &path[i + 1..]);
    in_workspace
        .or_else(in_store)
        .or_else(in_library)
        .unwrap_or(path)
}

/// Legacy mangling ends in `::h` and 16 hexadecimal digits.
fn without_hash(name: &str) -> &str {
    match name.rsplit_once("::h") {
        Some((stem, hash)) if hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => {
            stem
        }
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_paths_are_shortened() {
        assert_eq!(without_hash("a::b::h0123456789abcdef"), "a::b");
        assert_eq!(without_hash("a::b::hello"), "a::b::hello");
        assert_eq!(
            short("/x/registry/src/index-1/spin-0.12.3/src/once.rs"),
            "spin-0.12.3/src/once.rs"
        );
        assert_eq!(
            short("/rustc/1/library/core/src/fmt.rs"),
            "library/core/src/fmt.rs"
        );
    }

    #[test]
    fn an_unreadable_elf_gives_no_name() {
        assert_eq!(Symbols::new("/nonexistent").describe(0x1000), "");
    }
}
