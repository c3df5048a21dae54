//! The commands for a FAT volume on the data disk. Paths begin at its root.
//!
//! Each command opens what it needs and closes it again. They sleep.

use alloc::format;
use alloc::string::String;
use alloc::vec;

use fs::{File, FsError, Volume};

use crate::args::{UsageError, size};
use crate::out::Out;
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
        usage: "[SIZE]\nOf SIZE bytes; without, as large as the disk. What is on the disk is lost.",
        run: format_disk,
        words: no_words,
    },
    Command {
        name: "umount",
        help: "make everything durable and give the data disk back",
        usage: "",
        run: |ctx| run(ctx, &[], |_, _| Ok(fs::unmount()?)),
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

/// Why a command failed: a sentence for the user.
struct Trouble(String);

impl From<FsError> for Trouble {
    fn from(e: FsError) -> Self {
        Self(format!("{e}"))
    }
}

/// Runs `f` with the command's words, of which there are as many as `names`; those in brackets may be missing.
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
    if let Err(Trouble(e)) = &done {
        let what = words.first().map(|w| format!("{w}: ")).unwrap_or_default();
        writeln!(ctx.out, "{what}{e}");
    }
    Ok(Status::from_success(done.is_ok()))
}

/// The path that may have been left out.
fn path(words: &[String]) -> &str {
    words.first().map_or("", String::as_str)
}

fn mount(out: &dyn Out) -> Result<(), Trouble> {
    let info = fs::mount()?.info()?;
    let (kind, cluster, clusters) = (info.kind, info.cluster, info.clusters);
    writeln!(out, "{kind}, {clusters} clusters of {cluster} bytes");
    Ok(())
}

fn format_disk(ctx: &mut Ctx<'_>) -> Result<Status, UsageError> {
    let bytes = ctx.words.first().map(|w| size(w)).transpose()?;
    let whole = || u64::from(mm::file::disk_pages()) * arch::PAGE_SIZE;
    run(ctx, &["[SIZE]"], |_, _| {
        Ok(fs::format(bytes.unwrap_or_else(whole))?)
    })
}

fn list(out: &dyn Out, path: &str) -> Result<(), Trouble> {
    for entry in fs::mounted()?.list(path)? {
        let slash = if entry.is_directory { "/" } else { "" };
        writeln!(out, "{:>10} {}{slash}", entry.size, entry.name);
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
    while !ctx.cancel.requested() {
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
    below(ctx, &volume, path, &mut |path, is_directory| {
        if is_directory {
            return Ok(());
        }
        let file = volume.open(path)?;
        let mut sum = Sum::new();
        each_chunk(ctx, &file, |_, bytes| {
            bytes.iter().for_each(|b| sum.add(*b));
            Ok(())
        })?;
        writeln!(ctx.out, "{} {} {path}", sum.of(file.size()), file.size());
        Ok(())
    })
}

/// Calls `f` with the path of everything below `path`, directories before what is in them; for a file, with that. Ends
/// early at Ctrl-C.
fn below(
    ctx: &Ctx<'_>,
    volume: &Volume,
    path: &str,
    f: &mut dyn FnMut(&str, bool) -> Result<(), Trouble>,
) -> Result<(), Trouble> {
    if !volume.is_directory(path)? {
        return f(path, false);
    }
    for entry in volume.list(path)? {
        if ctx.cancel.requested() {
            break;
        }
        let path = format!("{}/{}", path.trim_end_matches('/'), entry.name);
        f(&path, entry.is_directory)?;
        if entry.is_directory {
            below(ctx, volume, &path, f)?;
        }
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
    if !volume.is_directory(from)? {
        return copy_file(ctx, &volume, from, to);
    }
    let from = from.trim_end_matches('/');
    if to.starts_with(&format!("{from}/")) {
        return Err(Trouble("a directory cannot be copied into itself".into()));
    }
    volume.make_directory(to)?;
    below(ctx, &volume, from, &mut |path, is_directory| {
        let to = format!("{to}{}", &path[from.len()..]);
        if is_directory {
            Ok(volume.make_directory(&to)?)
        } else {
            copy_file(ctx, &volume, path, &to)
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
    run(ctx, &["FILE", "SIZE"], |_, words| {
        let file = fs::mounted()?.open(&words[0])?;
        Ok(file.truncate(bytes.unwrap_or_default())?)
    })
}

/// The checksum of POSIX's cksum.
struct Sum(u32);

impl Sum {
    fn new() -> Self {
        Self(0)
    }

    fn add(&mut self, byte: u8) {
        const TABLE: [u32; 256] = table();
        self.0 = self.0 << 8 ^ TABLE[(self.0 >> 24) as usize ^ usize::from(byte)];
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
