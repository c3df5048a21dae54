//! Paths: names separated by `/`, from the root. Names compare as FAT compares them, so a file's one name is how its
//! directory spells it.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use hadris_fat::FatVolume;
use hadris_fat::sync::{FatDir, FileEntry};

use crate::FsError;
use crate::disk::Disk;

/// The names of a path.
fn names(path: &str) -> impl Iterator<Item = &str> {
    path.split('/')
        .filter(|name| !name.is_empty() && *name != ".")
}

/// What a path leads to.
pub(crate) enum Found<'a> {
    Directory(FatDir<'a, Disk>),
    File(Box<FileEntry>),
}

/// What is at `path`, and that path as the directories spell it.
///
/// # Errors
/// NotFound, NotDirectory, BadName, Corrupt, Io, NoMemory.
pub(crate) fn find<'a>(
    fat: &'a FatVolume<Disk>,
    path: &str,
) -> Result<(Found<'a>, String), FsError> {
    walk(fat, names(path))
}

fn walk<'a, 'n>(
    fat: &'a FatVolume<Disk>,
    names: impl Iterator<Item = &'n str>,
) -> Result<(Found<'a>, String), FsError> {
    let mut found = Found::Directory(fat.root_dir());
    let mut spelled = String::new();
    for name in names {
        let Found::Directory(dir) = found else {
            return Err(FsError::NotDirectory);
        };
        let entry = entry(&dir, name)?;
        spelled.push('/');
        spelled.push_str(&entry.name());
        found = if entry.is_directory() {
            Found::Directory(dir.open_entry(&entry)?)
        } else {
            Found::File(Box::new(entry))
        };
    }
    Ok((found, spelled))
}

fn entry(dir: &FatDir<'_, Disk>, name: &str) -> Result<FileEntry, FsError> {
    if name == ".." {
        return Err(FsError::BadName);
    }
    dir.find(name)?.ok_or(FsError::NotFound)
}

/// The directory that `path`'s last name is or would be in, and that name.
///
/// # Errors
/// As [`find`]; BadName also for the root itself.
pub(crate) fn parent<'a, 'p>(
    fat: &'a FatVolume<Disk>,
    path: &'p str,
) -> Result<(FatDir<'a, Disk>, &'p str), FsError> {
    let mut names: Vec<&str> = names(path).collect();
    let name = names.pop().filter(|name| *name != "..");
    let name = name.ok_or(FsError::BadName)?;
    match walk(fat, names.into_iter())?.0 {
        Found::Directory(dir) => Ok((dir, name)),
        Found::File(_) => Err(FsError::NotDirectory),
    }
}

/// The entry of the file at `path`, and that path as the directories spell it.
///
/// # Errors
/// As [`find`], and IsDirectory.
pub(crate) fn file(fat: &FatVolume<Disk>, path: &str) -> Result<(FileEntry, String), FsError> {
    match find(fat, path)? {
        (Found::File(entry), spelled) => Ok((*entry, spelled)),
        (Found::Directory(_), _) => Err(FsError::IsDirectory),
    }
}
