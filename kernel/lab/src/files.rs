//! The commands for a FAT volume on the data disk. Paths begin at its root.
//!
//! Each command opens what it needs and closes it again. They sleep.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec;

use fs::{File, Finding, FsError, Lost, Visited, Volume};

use crate::args::{UsageError, size};
use crate::out::{Out, shown};
use crate::shell::{Command, Ctx, Status, no_words};

/// Bytes that are read at a time.
const CHUNK: usize = 64 << 10;

/// Every command for files.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "mount",
        help: "mount the FAT file system on the data disk",
        usage: "\nFAT12, FAT16 or FAT32 with clusters of 4 KiB at least. Until umount the disk is used for nothing else.",
        run: |ctx| run(ctx, &[], |ctx, _| mount(ctx.out)),
        words: no_words,
    },
    Command {
        name: "mkfs",
        help: "make an empty FAT file system on the data disk",
        usage: "[SIZE]\nOf SIZE bytes, 1M to 2048G; without, as large as the disk. What is on the disk is lost.\n\
                Clusters have 4096 bytes, in volumes above 8G more.",
        run: format_disk,
        words: no_words,
    },
    Command {
        name: "umount",
        help: "make everything durable and give the data disk back",
        usage: "[--force]\n--force: also when the disk takes no writes; what is lost then is said.",
        run: unmount,
        words: no_words,
    },
    Command {
        name: "sync",
        help: "make everything durable on the mounted volume",
        usage: "",
        run: |ctx| run(ctx, &[], |_, _| Ok(fs::mounted()?.sync()?)),
        words: no_words,
    },
    Command {
        name: "ls",
        help: "list a directory of the mounted volume",
        usage: "[PATH]\nSize and name; directories end with a slash.",
        run: |ctx| run(ctx, &["[PATH]"], |ctx, words| list(ctx.out, path(words))),
        words: no_words,
    },
    Command {
        name: "cat",
        help: "print a file",
        usage: "FILE\nBytes that are no text are shown as dots.",
        run: |ctx| run(ctx, &["FILE"], |ctx, words| print(ctx, &words[0])),
        words: no_words,
    },
    Command {
        name: "cksum",
        help: "checksums of a file, or of all files below a directory",
        usage: "[PATH]\nChecksum, bytes and path, as cksum prints them.",
        run: |ctx| run(ctx, &["[PATH]"], |ctx, words| sums(ctx, path(words))),
        words: no_words,
    },
    Command {
        name: "write",
        help: "put a line of text into a file",
        usage: "FILE TEXT\nThe file is made, or replaced.",
        run: |ctx| {
            run(ctx, &["FILE", "TEXT"], |_, words| {
                write(&words[0], &words[1])
            })
        },
        words: no_words,
    },
    Command {
        name: "cp",
        help: "copy a file, or a directory with what is in it",
        usage: "FROM TO\nTO is what the copy is called. A file of that name is replaced.",
        run: |ctx| {
            run(ctx, &["FROM", "TO"], |ctx, words| {
                copy(ctx, &words[0], &words[1])
            })
        },
        words: no_words,
    },
    Command {
        name: "truncate",
        help: "cut a file off, or lengthen it with zeroes",
        usage: "FILE SIZE",
        run: truncate,
        words: no_words,
    },
    Command {
        name: "mkdir",
        help: "make a directory",
        usage: "PATH",
        run: |ctx| {
            run(ctx, &["PATH"], |_, words| {
                Ok(fs::mounted()?.make_directory(&words[0])?)
            })
        },
        words: no_words,
    },
    Command {
        name: "rm",
        help: "remove a file, or an empty directory",
        usage: "PATH",
        run: |ctx| {
            run(ctx, &["PATH"], |_, words| {
                Ok(fs::mounted()?.remove(&words[0])?)
            })
        },
        words: no_words,
    },
];

/// Why a command failed: a sentence for the user. Empty where the shell says it.
struct Trouble(Cow<'static, str>);

/// At Ctrl-C.
const INTERRUPTED: Trouble = Trouble(Cow::Borrowed(""));

impl From<FsError> for Trouble {
    fn from(e: FsError) -> Self {
        match e {
            FsError::Interrupted => INTERRUPTED,
            _ => Self(format!("{e}").into()),
        }
    }
}

/// Runs `f` with the command's words, of which there are as many as `names`; those in brackets may
/// be missing.
fn run(
    ctx: &mut Ctx<'_>,
    names: &[&str],
    f: impl FnOnce(&Ctx<'_>, &[String]) -> Result<(), Trouble>,
) -> Result<Status, UsageError> {
    let mut args = ctx.args();
    let words: vec::Vec<String> = names.iter().map_while(|_| args.word()).collect();
    args.done()?;
    if let Some(name) = names.get(words.len()).filter(|n| !n.starts_with('[')) {
        return Err(UsageError(format!("{name} is missing")));
    }
    let done = f(ctx, &words);
    if let Err(Trouble(e)) = &done
        && !e.is_empty()
    {
        let what = words.first().map(|w| format!("{}: ", shown(w)));
        writeln!(ctx.out, "{}{e}", what.unwrap_or_default());
    }
    Ok(Status::from_success(done.is_ok()))
}

/// The path that may have been left out.
fn path(words: &[String]) -> &str {
    words.first().map_or("", String::as_str)
}

/// A disk that was given up is started again; what was mounted on it then, is.
fn mount(out: &dyn Out) -> Result<(), Trouble> {
    let again = match crate::startup::data_disk() {
        Some(disk) => crate::startup::restart(disk).map_err(|e| Trouble(e.into()))?,
        None => false,
    };
    let volume = match fs::mounted() {
        Ok(volume) if again => volume,
        _ => fs::mount()?,
    };
    let info = volume.info()?;
    let (kind, cluster, clusters) = (info.kind, info.cluster, info.clusters);
    write!(out, "{kind}, {clusters} clusters of {cluster} bytes");
    if let Some(why) = info.read_only {
        write!(out, ", read-only: {why}");
    }
    writeln!(out);
    let found = &info.findings;
    for (path, finding) in &found.list {
        let mended = found.mended && !matches!(finding, Finding::Damage(_));
        let mended = if mended { ": mended" } else { "" };
        writeln!(out, "{}: {finding}{mended}", shown(path));
    }
    let more = found.count - found.list.len() as u64;
    if more > 0 {
        writeln!(out, "and {more} more");
    }
    Ok(())
}

fn unmount(ctx: &mut Ctx<'_>) -> Result<Status, UsageError> {
    let mut args = ctx.args();
    let force = args.flag("--force");
    args.done()?;
    let done = match fs::unmount() {
        Err(e @ (FsError::Io | FsError::NoMemory | FsError::Corrupt(_) | FsError::Full)) => {
            if force {
                fs::abandon().map(|lost| tell_lost(ctx.out, &lost, e))
            } else {
                writeln!(
                    ctx.out,
                    "{e}; 'umount --force' gives up what is not written"
                );
                return Ok(Status::Failed);
            }
        }
        other => other,
    };
    if let Err(e) = done {
        writeln!(ctx.out, "{e}");
    }
    Ok(Status::from_success(done.is_ok()))
}

fn tell_lost(out: &dyn Out, lost: &Lost, why: FsError) {
    writeln!(out, "{why}: what was not written yet is lost");
    for path in &lost.files {
        writeln!(out, "{}: as it was last synced", shown(path));
    }
    if lost.directories {
        writeln!(
            out,
            "directories: what was made or removed since the last sync may be as before"
        );
    }
}

fn format_disk(ctx: &mut Ctx<'_>) -> Result<Status, UsageError> {
    let bytes = ctx.words.first().map(|w| size(w)).transpose()?;
    let whole = || u64::from(mm::file::disk_pages()) * arch::PAGE_SIZE;
    run(ctx, &["[SIZE]"], |ctx, _| {
        let stop = || ctx.cancel.requested();
        Ok(fs::format(bytes.unwrap_or_else(whole), stop)?)
    })
}

fn list(out: &dyn Out, path: &str) -> Result<(), Trouble> {
    for entry in fs::mounted()?.list(path)? {
        let slash = if entry.is_directory { "/" } else { "" };
        writeln!(out, "{:>10} {}{slash}", entry.size, shown(&entry.name));
    }
    Ok(())
}

/// Calls `f` with each piece of the file's content; ends early at Ctrl-C.
fn each_chunk(
    ctx: &Ctx<'_>,
    file: &File,
    mut f: impl FnMut(u64, &[u8]) -> Result<(), Trouble>,
) -> Result<(), Trouble> {
    let mut buffer = vec![0; CHUNK];
    let mut at = 0;
    loop {
        if ctx.cancel.requested() {
            return Err(INTERRUPTED);
        }
        let n = file.read(at, &mut buffer)?;
        if n == 0 {
            break;
        }
        f(at, &buffer[..n])?;
        at += n as u64;
    }
    Ok(())
}

fn print(ctx: &Ctx<'_>, path: &str) -> Result<(), Trouble> {
    let file = fs::mounted()?.open(path)?;
    each_chunk(ctx, &file, |_, bytes| {
        let shown = |&b: &u8| match b {
            b'\n' | b'\t' | b' '..=b'~' => char::from(b),
            _ => '.',
        };
        ctx.out.put(&bytes.iter().map(shown).collect::<String>());
        Ok(())
    })
}

fn sums(ctx: &Ctx<'_>, path: &str) -> Result<(), Trouble> {
    let volume = fs::mounted()?;
    below(ctx, &volume, path, |visited| {
        if visited.is_directory {
            return Ok(());
        }
        let file = volume.open(&visited.path)?;
        let mut sum = Sum::new();
        each_chunk(ctx, &file, |_, bytes| {
            bytes.iter().for_each(|b| sum.add(*b));
            Ok(())
        })?;
        let (sum, size) = (sum.of(file.size()), file.size());
        writeln!(ctx.out, "{sum} {size} {}", shown(&visited.path));
        Ok(())
    })
}

/// Calls `f` with everything below `path`, directories before what is in them; for a file, with
/// that. Ends early at Ctrl-C. A damaged directory is told, and does not keep it from the others.
fn below(
    ctx: &Ctx<'_>,
    volume: &Volume,
    path: &str,
    mut f: impl FnMut(&Visited) -> Result<(), Trouble>,
) -> Result<(), Trouble> {
    let mut damaged = 0;
    for visited in volume.walk(path)? {
        if ctx.cancel.requested() {
            return Err(INTERRUPTED);
        }
        match visited {
            Ok(visited) => f(&visited)?,
            Err((path, e @ FsError::Corrupt(_))) => {
                writeln!(ctx.out, "{}: {e}", shown(&path));
                damaged += 1;
            }
            Err((path, e)) => return Err(Trouble(format!("{}: {e}", shown(&path)).into())),
        }
    }
    if damaged > 0 {
        return Err(Trouble("not all of it could be read".into()));
    }
    Ok(())
}

/// The file at `path`, empty.
fn fresh(volume: &Volume, path: &str) -> Result<File, FsError> {
    match volume.create(path) {
        Err(FsError::Exists) => {
            let file = volume.open(path)?;
            file.truncate(0)?;
            Ok(file)
        }
        other => other,
    }
}

/// Writes all of `bytes`.
fn put(file: &File, mut at: u64, mut bytes: &[u8]) -> Result<(), Trouble> {
    while !bytes.is_empty() {
        let n = file.write(at, bytes)?;
        at += n as u64;
        bytes = &bytes[n..];
    }
    Ok(())
}

fn write(path: &str, text: &str) -> Result<(), Trouble> {
    let file = fresh(&fs::mounted()?, path)?;
    put(&file, 0, format!("{text}\n").as_bytes())
}

fn copy(ctx: &Ctx<'_>, from: &str, to: &str) -> Result<(), Trouble> {
    let volume = fs::mounted()?;
    if volume.is_within(to, from)? {
        return Err(FsError::Itself.into());
    }
    if !volume.is_directory(from)? {
        return copy_file(ctx, &volume, from, to);
    }
    let from = from.trim_end_matches('/');
    volume.make_directory(to)?;
    below(ctx, &volume, from, |visited| {
        let to = format!("{to}{}", &visited.path[from.len()..]);
        if visited.is_directory {
            Ok(volume.make_directory(&to)?)
        } else {
            copy_file(ctx, &volume, &visited.path, &to)
        }
    })
}

fn copy_file(ctx: &Ctx<'_>, volume: &Volume, from: &str, to: &str) -> Result<(), Trouble> {
    let source = volume.open(from)?;
    let copy = fresh(volume, to)?;
    each_chunk(ctx, &source, |at, bytes| put(&copy, at, bytes))
}

fn truncate(ctx: &mut Ctx<'_>) -> Result<Status, UsageError> {
    let bytes = ctx.words.get(1).map(|w| size(w)).transpose()?;
    run(ctx, &["FILE", "SIZE"], |ctx, words| {
        let file = fs::mounted()?.open(&words[0])?;
        set_size(ctx, &file, bytes.unwrap_or_default())
    })
}

/// Cuts a file off, or lengthens it step by step. At Ctrl-C, and when it fails, it is as long as it
/// was.
fn set_size(ctx: &Ctx<'_>, file: &File, size: u64) -> Result<(), Trouble> {
    const STEP: u64 = 1 << 20;
    let old = file.size();
    while file.size() < size {
        let step = if ctx.cancel.requested() {
            Err(INTERRUPTED)
        } else {
            let next = file.size().saturating_add(STEP).min(size);
            file.truncate(next).map_err(Trouble::from)
        };
        if step.is_err() {
            file.truncate(old)?;
            return step;
        }
    }
    Ok(file.truncate(size)?)
}

/// The checksum of POSIX's cksum.
pub(crate) struct Sum(u32);

impl Sum {
    fn new() -> Self {
        Self(0)
    }

    fn add(&mut self, byte: u8) {
        const TABLE: [u32; 256] = table();
        self.0 = self.0 << 8 ^ TABLE[(self.0 >> 24) as usize ^ usize::from(byte)];
    }

    /// Of all these bytes.
    pub(crate) fn of_all(bytes: &[u8]) -> u32 {
        let mut sum = Self::new();
        bytes.iter().for_each(|b| sum.add(*b));
        sum.of(bytes.len() as u64)
    }

    /// Of what was added, which was `len` bytes.
    fn of(mut self, len: u64) -> u32 {
        let used = (u64::BITS - len.leading_zeros()).div_ceil(8) as usize;
        for byte in &len.to_le_bytes()[..used] {
            self.add(*byte);
        }
        !self.0
    }
}

/// What each byte in the highest place does to the remainder.
const fn table() -> [u32; 256] {
    const POLYNOMIAL: u32 = 0x04c1_1db7;
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut rest = (byte as u32) << 24;
        let mut bit = 0;
        while bit < 8 {
            let carry = if rest >> 31 == 1 { POLYNOMIAL } else { 0 };
            rest = rest << 1 ^ carry;
            bit += 1;
        }
        table[byte] = rest;
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_cksum() {
        for (text, sum) in [
            ("", 4294967295),
            ("a\n", 2418082923),
            ("123456789", 930766865),
        ] {
            let mut s = Sum::new();
            text.bytes().for_each(|b| s.add(b));
            assert_eq!(s.of(text.len() as u64), sum, "{text:?}");
        }
    }
}
