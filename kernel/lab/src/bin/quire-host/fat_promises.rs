//! What `stress fat --promises` has promised, against the FAT volume that the machine left: a copy
//! of the image is mounted on the simulator, in a process of its own, and each file's beginning
//! must have the checksum that was promised.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use lab::stress::versions::PROMISED;

/// Path → how many bytes, and their checksum. The newest promise of a file counts; a last line
/// without an end was cut off with the machine.
fn read(output: &str) -> Result<BTreeMap<&str, (u64, u32)>, String> {
    let mut all = BTreeMap::new();
    let lines = output
        .split_inclusive('\n')
        .filter_map(|l| l.strip_suffix('\n'));
    for promise in lines.filter_map(|l| l.strip_prefix(PROMISED)) {
        let mut words = promise.trim_end().splitn(3, ' ');
        let parsed = || {
            let bytes = words.next()?.parse().ok()?;
            let sum = words.next()?.parse().ok()?;
            Some((words.next()?, (bytes, sum)))
        };
        let (path, promised) = { parsed }().ok_or_else(|| format!("not a promise: {promise:?}"))?;
        all.insert(path, promised);
    }
    Ok(all)
}

/// The files of which something was promised, if all of them hold it.
///
/// # Errors
/// What is wrong.
pub(crate) fn check(image: &Path, output: &str) -> Result<usize, String> {
    let promises = read(output)?;
    let copy = image.with_extension("copy");
    let text = |e| format!("{}: {e}", copy.display());
    std::fs::copy(image, &copy).map_err(text)?;
    let mut commands = String::from("mount");
    for (path, (bytes, _)) in &promises {
        // A file that is too short becomes one with zeroes at its end.
        let _ = write!(commands, "; truncate '{path}' {bytes}; cksum '{path}'");
    }
    let program = std::env::current_exe().map_err(|e| format!("this program: {e}"))?;
    let run = Command::new(program)
        .arg("--data-image")
        .arg(&copy)
        .args(["--exec", &commands])
        .output()
        .map_err(|e| format!("the simulator: {e}"))?;
    // A leftover is no harm.
    let _ = std::fs::remove_file(&copy);
    let said = String::from_utf8_lossy(&run.stdout);
    let missing: Vec<String> = promises
        .iter()
        .map(|(path, (bytes, sum))| format!("{sum} {bytes} {path}"))
        .filter(|wanted| !said.lines().any(|line| line == wanted))
        .collect();
    if run.status.success() && missing.is_empty() {
        return Ok(promises.len());
    }
    let errors = String::from_utf8_lossy(&run.stderr);
    Err(format!(
        "promised and not there: {}\nthe simulator said:\n{said}{errors}",
        missing.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn the_newest_promise_of_each_file_counts() {
        let said = "mkfs\npromised 5 17 /a b\npromised 7 18 /a b\r\npromised 0 4294967295 /c\npromised 9 1 /a";
        let all = read(said).unwrap();
        let wanted = [("/a b", (7, 18)), ("/c", (0, u32::MAX))];
        assert_eq!(all.into_iter().collect::<Vec<_>>(), wanted);
        for bad in ["promised x 1 /a\n", "promised 1\n", "promised 1 -1 /a\n"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
